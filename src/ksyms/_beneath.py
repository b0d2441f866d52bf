"""Files below a directory whose contents another user made; no link leads out of it.

Paths are resolved as if the directory were ``/`` (chroot(2)): an absolute link starts there,
and ``..`` ends there. openat2(2) does so since Linux 5.6. If the kernel lacks it, or a filter
of system calls refuses it, the names of a path are opened one by one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from functools import cache

from ._paths import Steps
from ._typing import Final

_OPENAT2: Final = 437  # on every machine but alpha, which has no system call 437
_RESOLVE_NO_MAGICLINKS: Final = 0x02  # include/uapi/linux/openat2.h
_RESOLVE_IN_ROOT: Final = 0x10
_RACES: Final = 16  # tries after EAGAIN: a rename while .. was resolved
_KINDS: Final = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
)


def open_regular(root: str, path: str) -> int:
    """Open the regular file ``path`` below the directory ``root`` for reading.

    Raises:
        OSError: there is no such file, or it cannot be opened; ELOOP for links without an end.
        ValueError: it is not a regular file, or there is a NUL in its name.
    """
    # Check the type before it is opened: to open a FIFO can wait for ever, and to open a device
    # can have effects.
    top = _open_top(root)
    try:
        fd = _open(top, path, os.O_PATH)
        try:
            refuse_irregular(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        fd = _open(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(top)
    try:
        refuse_irregular(os.fstat(fd).st_mode)  # another file can have the name by now
    except ValueError:
        os.close(fd)
        raise
    return fd


def names_in(root: str, path: str) -> list[str]:
    """Return the names in the directory ``path`` below ``root``.

    Raises:
        OSError: the directory cannot be read.
        ValueError: there is a NUL in its name.
    """
    top = _open_top(root)
    try:
        fd = _open(top, path, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(top)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def refuse_irregular(mode: int) -> None:
    """Check that a file is a regular one, by its ``st_mode``.

    Raises:
        ValueError: it is not; the message names its type.
    """
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "a device")
        raise ValueError(f"it is {kind}, and not a regular file")


def _open_top(root: str) -> int:
    return os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _open(top: int, path: str, flags: int) -> int:
    """Open ``path`` below the directory that ``top`` is open on; return a descriptor."""
    if "\0" in path:
        raise ValueError("embedded null byte")  # the message of os.open()
    if _has_openat2():
        return _openat2(top, path, flags)
    return walk(top, path, flags)


class _How(ctypes.Structure):
    """The struct open_how (include/uapi/linux/openat2.h)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


@cache
def _has_openat2() -> bool:
    """Return True if the kernel has openat2(2) and no filter refuses it (seccomp, EPERM)."""
    if os.uname().machine == "alpha":
        return False
    try:
        os.close(_openat2(_AT_FDCWD, ".", os.O_PATH))
    except OSError:
        return False
    return True


_AT_FDCWD: Final = -100  # include/uapi/linux/fcntl.h


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(top: int, path: str, flags: int) -> int:
    how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    libc = _libc()
    name = ctypes.c_char_p(os.fsencode(path))
    for _ in range(_RACES):
        size = ctypes.c_size_t(ctypes.sizeof(how))
        fd: int = libc.syscall(_OPENAT2, ctypes.c_int(top), name, ctypes.byref(how), size)
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def walk(top: int, path: str, flags: int) -> int:
    """Open ``path`` below the directory that ``top`` is open on, name by name.

    Returns:
        A descriptor.

    Raises:
        OSError: it cannot be opened.
    """
    steps = Steps(path)
    places = [os.dup(top)]  # the directories from ``top`` to the current one, for ..
    try:
        while steps:
            step = steps.pop()
            if step == ".":
                continue
            if step == "..":
                if len(places) > 1:
                    os.close(places.pop())
                continue
            fd = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=places[-1])
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                places.append(fd)
                continue
            try:
                if stat.S_ISLNK(mode):
                    target = os.readlink("", dir_fd=fd)
                    steps.follow(target)
                    while target.startswith("/") and len(places) > 1:  # back to ``top``
                        os.close(places.pop())
                    continue
            finally:
                os.close(fd)
            if steps:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            flags |= os.O_NOFOLLOW | os.O_CLOEXEC  # a link can have the name by now
            return os.open(step, flags, dir_fd=places[-1])
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=places[-1])
    finally:
        for fd in places:
            os.close(fd)
