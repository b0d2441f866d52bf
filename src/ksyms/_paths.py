"""Paths that no other user can redirect: they are opened one name at a time.

Each system call with a path resolves it anew. So a user who can write to a directory on the way
can replace names there between two calls. An open descriptor stays on its file. Root and the
caller are trusted; a file or a link of any other owner is not.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ._typing import Final

LINKS: Final = 40
"""Limit on the links on the way (include/linux/namei.h, MAXSYMLINKS)."""
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Steps:
    """The names of a path that are left, from first to last, while the path is followed.

    The target of a link takes the place of the link. For example, if ``b`` links to ``../c``::

        Steps("a/b/d")      a, b, d
        pop(), pop()        d
        follow("../c")      .., c, d
    """

    def __init__(self, path: str) -> None:
        self._left = _names(path)
        self._links = 0

    def __bool__(self) -> bool:
        return bool(self._left)

    def pop(self) -> str:
        """Return the first name that is left, and remove it."""
        return self._left.pop()

    def follow(self, target: str) -> None:
        """Put the names of a link's target before those that are left.

        Raises:
            OSError: ELOOP, after more than :data:`LINKS` links.
        """
        self._links += 1
        if self._links > LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._left += _names(target)


def _names(path: str) -> list[str]:
    """Return the names in ``path``, the last one first.

    A slash at the end of the path requires a directory, so it stands for a "." after the last
    name.
    """
    names = [name for name in reversed(path.split("/")) if name]
    return [".", *names] if path.endswith("/") else names


class UntrustedError(ValueError):
    """Another user can redirect a path; the message has the part of the path and the user."""

    errno = errno.EPERM


def trusts(status: os.stat_result) -> bool:
    """Return True if root or the caller owns the file of this ``status``."""
    return status.st_uid in (0, os.geteuid())


def judge(name: str, status: os.stat_result) -> None:
    """Check that no other user can change the file or directory ``name``, or its contents.

    A sticky directory is accepted: every user can create names in it, but only their owners can
    change them.

    Raises:
        UntrustedError: another user can.
    """
    if not trusts(status):
        raise UntrustedError(f"{name} is another user's (uid {status.st_uid})")
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        raise UntrustedError(f"{name} can be written to by others (chmod go-w)")


def descend(path: str, *, alone: bool = False, make: int | None = None) -> int:
    """Open a directory, following no link of another user; return a descriptor (O_PATH).

    Args:
        path: the directory; "" is the current one.
        alone: True to require that every directory on the way, from ``/`` on, passes
            :func:`judge`, so that no other user can redirect the path later either.
        make: the mode with which missing directories are made; None to make none.

    Raises:
        OSError: there is no such directory.
        UntrustedError: another user can redirect the path.
    """
    at = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    steps = Steps(path)
    try:
        if alone:
            judge(place(at), os.fstat(at))
        while steps:
            name = steps.pop()
            if name == ".":
                continue
            below, target = _open_step(at, name, make)
            if target is not None:
                steps.follow(target)
                if not target.startswith("/"):
                    continue
                below = os.open("/", _DIRECTORY)
            os.close(at)
            at = below
            if alone:
                judge(place(at), os.fstat(at))
    except BaseException:
        os.close(at)
        raise
    return at


def judge_file(path: str) -> None:
    """Check that no other user can change the regular file ``path``, or replace it.

    Raises:
        OSError: there is no such file.
        UntrustedError: another user can; or it is no regular file, or the path is relative.
    """
    if not path.startswith("/"):
        raise UntrustedError(f"{path} depends on the current directory")
    for _ in range(LINKS):
        parent, name = os.path.split(path)
        directory = descend(parent, alone=True)
        try:
            status = os.lstat(name, dir_fd=directory)
            if stat.S_ISLNK(status.st_mode):
                if not trusts(status):
                    raise _foreign_link(path, status)
                path = os.path.join(parent, os.readlink(name, dir_fd=directory))
                continue
        finally:
            os.close(directory)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedError(f"{path} is no regular file")
        judge(path, status)
        return
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def place(fd: int) -> str:
    """Return the path of the file that ``fd`` is open on, as the kernel names it now."""
    return os.readlink(f"/proc/self/fd/{fd}")


def _open_step(at: int, name: str, make: int | None) -> tuple[int, str | None]:
    """Open the directory ``name`` in ``at``; if ``name`` is a link, read its target instead.

    Returns:
        A descriptor and None, or -1 and the target of the link.
    """
    try:
        # O_DIRECTORY is needed: without it an automount is not mounted (fs/namei.c,
        # follow_automount).
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at), None
    except FileNotFoundError:
        if make is None:
            raise
        with suppress(FileExistsError):  # another process made it first
            os.mkdir(name, make, dir_fd=at)
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at), None
    except NotADirectoryError:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not trusts(status):
            raise _foreign_link(os.path.join(place(at), name), status)
        if status.st_dev == _procfs():
            # The target that readlink() gives for a link of procfs can be no path. Let the
            # kernel follow the link.
            return os.open(name, _DIRECTORY, dir_fd=at), None
        return -1, os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _foreign_link(path: str, status: os.stat_result) -> UntrustedError:
    return UntrustedError(f"{path} is another user's link (uid {status.st_uid})")


def _procfs() -> int | None:
    """Return the device number of the procfs at /proc, None if there is none."""
    try:
        return os.lstat("/proc/self").st_dev
    except FileNotFoundError:
        return None
