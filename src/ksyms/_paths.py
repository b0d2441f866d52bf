"""Paths that nobody else leads elsewhere: walked one name at a time, by descriptor.

A path is looked up anew at each call that is given it, and whoever may write to a directory
on the way can put another thing there in between; a descriptor stays what it was. What counts
is who owns it: root and the caller are trusted, and no other user is.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ._typing import Final

LINKS: Final = 40
"""How many links may be on the way (include/linux/namei.h, MAXSYMLINKS)."""
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class UntrustedError(ValueError):
    """Another user can lead the path elsewhere; says which part of it, and whose it is."""

    errno = errno.EPERM


def trusts(status: os.stat_result) -> bool:
    """Whether what has this status is root's, or the caller's own."""
    return status.st_uid in (0, os.geteuid())


def judge(name: str, status: os.stat_result) -> None:
    """Hold that nobody else can change the file or directory ``name``, or what is in it.

    In a sticky directory anybody makes names, and only their owners change them.

    Raises:
        UntrustedError: somebody else can.
    """
    if not trusts(status):
        raise UntrustedError(f"{name} is another user's (uid {status.st_uid})")
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        raise UntrustedError(f"{name} can be written to by others (chmod go-w)")


def descend(path: str, *, alone: bool = False, make: int | None = None) -> int:
    """A descriptor (O_PATH) of the directory ``path``; no link of another user is followed.

    Args:
        path: the directory; "" is the current one.
        alone: every directory on the way is to pass :func:`judge`, from ``/`` on, so that
            nobody else can change where the path leads, later either.
        make: the mode of directories to make where there are none.

    Raises:
        OSError: there is no such directory.
        UntrustedError: another user has a hand in where the path leads.
    """
    at = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    names = path.split("/")[::-1]
    links = 0
    try:
        if alone:
            judge(place(at), os.fstat(at))
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            below, target = _step(at, name, make)
            if target is not None:
                links += 1
                if links > LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                names += target.split("/")[::-1]
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
    """Hold that nobody else can change the regular file ``path``, or put another there.

    Raises:
        OSError: there is none.
        UntrustedError: somebody else can; or it is no regular file, or the path is relative.
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
                    raise _another_link(path, status)
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
    """Where the file is that ``fd`` is open on, as the kernel names it now."""
    return os.readlink(f"/proc/self/fd/{fd}")


def _step(at: int, name: str, make: int | None) -> tuple[int, str | None]:
    """The directory ``name`` in ``at``; or where the link of that name leads."""
    try:
        # O_DIRECTORY, for only with it an automount is mounted (fs/namei.c, follow_automount).
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at), None
    except FileNotFoundError:
        if make is None:
            raise
        with suppress(FileExistsError):  # another process of ours was first
            os.mkdir(name, make, dir_fd=at)
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at), None
    except NotADirectoryError:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not trusts(status):
            raise _another_link(os.path.join(place(at), name), status)
        if status.st_dev == _proc():
            # What a link of procfs says is for people; only the kernel knows where it leads.
            return os.open(name, _DIRECTORY, dir_fd=at), None
        return -1, os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _another_link(path: str, status: os.stat_result) -> UntrustedError:
    return UntrustedError(f"{path} is another user's link (uid {status.st_uid})")


def _proc() -> int | None:
    try:
        return os.lstat("/proc/self").st_dev
    except FileNotFoundError:
        return None
