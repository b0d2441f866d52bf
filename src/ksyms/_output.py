"""Files that are written as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ._errors import OutputError, os_error, reason
from ._paths import UntrustedError, descend, trusts
from ._typing import Final

_KEEP_NOTHING: Final = tuple(os.makedev(1, minor) for minor in (3, 5, 7))
"""/dev/null, zero and full. They keep no data, so any owner is accepted, as in a container."""


def write_whole(path: str, data: memoryview) -> int | None:
    """Write ``data`` to ``path``, which never names a half-written file.

    Only the owner can read a new file, since kernel addresses are secrets. It replaces any file
    or link of that name. A device or a pipe that root or the caller owns is written to
    directly, and so is an open descriptor (``/dev/stdout``, ``/dev/fd/N``).

    Returns:
        The number of the descriptor, if ``path`` names one; else None.

    Raises:
        OutputError: the path cannot be written to, or its file system is full, or another user
            could redirect the data; no new file is left there.
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
    """Write as :func:`write_whole` does.

    Raises:
        OSError: the path cannot be written to.
        ValueError: another user could redirect the data, or there is a NUL in the path.
    """
    parent, name = os.path.split(path)
    named = name not in ("", ".", "..")
    directory = descend(parent if named else path)
    try:
        if not named:
            raise os_error(errno.EISDIR)
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
    """Return the number of the descriptor that ``link`` in ``directory`` stands for.

    That is a link in /proc/self/fd, or one in /dev to such a link: ``/dev/stdout`` links to
    ``/proc/self/fd/1``. None for any other link.
    """
    if _is(directory, "/dev"):
        target = os.readlink(link, dir_fd=directory)
        link = target.removeprefix("/proc/self/fd/")
        return int(link) if link != target and link.isdecimal() else None
    return int(link) if _is(directory, "/proc/self/fd") else None


def _is(directory: int, path: str) -> bool:
    """Return True if ``directory`` is open on the directory ``path``."""
    try:
        return os.path.samestat(os.fstat(directory), os.stat(path))
    except FileNotFoundError:
        return False


def _put(fd: int, data: memoryview) -> None:
    # A buffered file writes all of it; one write() may write only a part.
    with open(fd, "wb", closefd=False) as file:
        file.write(data)


def _put_into(directory: int, name: str, data: memoryview) -> None:
    """Write into a device or a pipe, if root or the caller owns it."""
    # Open it by O_PATH for the checks: any other open can have an effect on a device, or wait
    # for a pipe's reader.
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(found)
        if stat.S_ISDIR(status.st_mode):
            raise os_error(errno.EISDIR)
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
    """Write a new regular file ``name``, which replaces any file or link of that name.

    The new file has no name until it is whole, so that SIGKILL leaves no part of it. If the
    name is taken, the file has a scratch name between two system calls. If the file system
    cannot make files without a name, it has the scratch name from the start. Unless the process
    is ended by SIGKILL, the scratch name is removed.
    """
    scratch = f".ksyms.{os.urandom(8).hex()}"  # as by tempfile, whose import takes as long
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
    """Create a file without a name, or else one called ``scratch``.

    Returns:
        Its descriptor, and True if it has no name.
    """
    writing = os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(".", writing | os.O_TMPFILE, 0o600, dir_fd=directory)
    except OSError:
        # The file system may have no O_TMPFILE. For any other reason the next open fails too.
        pass
    else:
        if os.path.exists(f"/proc/self/fd/{fd}"):  # _link() needs it
            return fd, True
        os.close(fd)
    return os.open(scratch, writing | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory), False


def _link(fd: int, directory: int, name: str) -> None:
    """Give the open file ``fd`` a name."""
    # With dst_dir_fd this is linkat(2), which follows the link in /proc to the open file.
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
