"""Files that are whole, or not there at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ._errors import OutputError, reason
from ._paths import UntrustedError, descend, trusts
from ._typing import Final

_KEEP_NOTHING: Final = tuple(os.makedev(1, minor) for minor in (3, 5, 7))
"""/dev/null, zero and full: in a container another's, and yet nobody's."""


def write_whole(path: str, data: memoryview) -> int | None:
    """Write ``data`` to ``path``; a half-written file never has that name.

    A new file can be read by its owner only: kernel addresses are secrets. It takes the
    place of whatever file or link has the name. A device or a pipe of root's or the caller's
    is written to as it is, and so is a descriptor (``/dev/stdout``, ``/dev/fd/N``), which is
    what this gives then.

    Raises:
        OutputError: the place cannot be written to, or is full, or another user could lead
            the data elsewhere; nothing is left there.
    """
    try:
        return _write(path, data)
    except UntrustedError as error:
        raise OutputError(
            f"{path!r} cannot be written: {error}.",
            "Name a file that no other user leads elsewhere, or lead stdout there (-o -).",
            errno=error.errno,
        ) from None
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path!r} cannot be written: {reason(error)}.",
            "Name a file in a directory that exists, may be written to and has room "
            f"for {len(data)} bytes.",
            errno=getattr(error, "errno", errno.EINVAL),
        ) from None


def _write(path: str, data: memoryview) -> int | None:
    """Write a file of this name, or into the descriptor, device or pipe that has it."""
    parent, name = os.path.split(path)
    named = name not in ("", ".", "..")
    directory = descend(parent if named else path)
    try:
        if not named:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        try:
            mode = os.lstat(name, dir_fd=directory).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        if stat.S_ISLNK(mode):
            fd = _descriptor(directory, name)
            if fd is not None:
                _put(fd, data)
                return fd
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            _replace(directory, name, data)
        else:
            _put_into(directory, name, data)
    finally:
        os.close(directory)
    return None


def _descriptor(directory: int, link: str) -> int | None:
    """The descriptor that a link of /proc/self/fd is, or one of /dev that leads there."""
    if _is(directory, "/dev"):
        target = os.readlink(link, dir_fd=directory)
        link = target.removeprefix("/proc/self/fd/")
        return int(link) if link != target and link.isdecimal() else None
    return int(link) if _is(directory, "/proc/self/fd") else None


def _is(directory: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(directory), os.stat(path))
    except FileNotFoundError:
        return False


def _put(fd: int, data: memoryview) -> None:
    # Buffered, for write() may take a part.
    with open(fd, "wb", closefd=False) as file:
        file.write(data)


def _put_into(directory: int, name: str, data: memoryview) -> None:
    """Write into a device or a pipe, if it is one of root's or the caller's."""
    # O_PATH: it is looked at before anything is done to it, or waits for a pipe's reader.
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(found)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            raise UntrustedError("it became another file while it was looked at")
        if not trusts(status) and status.st_rdev not in _KEEP_NOTHING:
            raise UntrustedError(f"it is another user's (uid {status.st_uid})")
        fd = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            _put(fd, data)
        finally:
            os.close(fd)
    finally:
        os.close(found)


def _replace(directory: int, name: str, data: memoryview) -> None:
    """Make the regular file ``name``, in the place of the file or link that has the name.

    It has no name until it is whole, so that SIGKILL leaves nothing of it. Where the name is
    taken it has another for the time between two system calls, and all the time where the
    file system makes no file without a name; every end but by SIGKILL removes that.
    """
    scratch = f".ksyms.{os.urandom(8).hex()}"  # as tempfile does, whose import lasts as long
    try:
        fd, unnamed = _begun(directory, scratch)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
            if unnamed:
                try:
                    _link(fd, directory, name)
                    return
                except FileExistsError:
                    _link(fd, directory, scratch)
        os.rename(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch, dir_fd=directory)
        raise


def _begun(directory: int, scratch: str) -> tuple[int, bool]:
    """A new file, and whether it has no name; else its name is ``scratch``."""
    writing = os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(".", writing | os.O_TMPFILE, 0o600, dir_fd=directory)
    except OSError:
        # The file system has none; or another reason, which the next call gives too.
        pass
    else:
        if os.path.exists(f"/proc/self/fd/{fd}"):  # by which it gets its name
            return fd, True
        os.close(fd)
    return os.open(scratch, writing | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory), False


def _link(fd: int, directory: int, name: str) -> None:
    # Of an open file; dst_dir_fd makes it linkat(2), which alone follows /proc's link.
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
