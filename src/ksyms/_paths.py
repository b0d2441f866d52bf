"""Paths that no other user can redirect: they are opened one name at a time.

Each call with a path resolves it anew, so a user who may write to a directory on the way can
replace things in between; an open descriptor stays on what it was opened on. The owner decides:
root and the caller are trusted, other users are not.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ._typing import Final

LINKS: Final = 40
"""Largest number of links on the way (include/linux/namei.h, MAXSYMLINKS)."""
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Steps:
    """The names of a path from first to last; a link's target takes the place of the link.

    For example, where ``b`` links to ``../c``::

        Steps("a/b/d")      a, b, d
        after a, b          d
        follow("../c")      .., c, d
    """

    def __init__(self, path: str) -> None:
        self._left = _names(path)
        self._links = 0

    def __bool__(self) -> bool:
        return bool(self._left)

    def pop(self) -> str:
        """Remove the first name that is left, and return it."""
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

    A slash at the end of the path requires a directory, and is a "." behind its last name.
    """
    names = [name for name in reversed(path.split("/")) if name]
    return [".", *names] if path.endswith("/") else names


class UntrustedError(ValueError):
    """Another user can redirect the path; the message names the part of it and the user."""

    errno = errno.EPERM


def trusts(status: os.stat_result) -> bool:
    """Return True if root or the caller owns the file of this ``status``."""
    return status.st_uid in (0, os.geteuid())


def judge(name: str, status: os.stat_result) -> None:
    """Require that no other user can change the file or directory ``name``, or its contents.

    In a sticky directory every user can create names, but only their owners can change them.

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
        alone: every directory on the way, from ``/`` on, must pass :func:`judge`, so that no
            other user can redirect the path later either.
        make: the mode with which missing directories are made; None makes none.

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
    """Require that no other user can change the regular file ``path``, or replace it.

    Raises:
        OSError: there is none.
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
    """Open the directory ``name`` in ``at``; if it is a link, return its target instead.

    Returns:
        A descriptor and None, or -1 and the target.
    """
    try:
        # Only with O_DIRECTORY an automount is mounted (fs/namei.c, follow_automount).
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
            # The text of a procfs link is for people; only the kernel can follow it.
            return os.open(name, _DIRECTORY, dir_fd=at), None
        return -1, os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _foreign_link(path: str, status: os.stat_result) -> UntrustedError:
    return UntrustedError(f"{path} is another user's link (uid {status.st_uid})")


def _procfs() -> int | None:
    try:
        return os.lstat("/proc/self").st_dev
    except FileNotFoundError:
        return None
