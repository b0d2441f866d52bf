"""Mounting and unmounting a FUSE directory: mount(2) as root, fusermount3 otherwise."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import re
import socket
import subprocess
from typing import Final, NamedTuple

from .._errors import ServeError, reason

KIND: Final = "fuse.ksyms"
"""The file system's type, as /proc/mounts shows it."""
FORCE: Final = 1 | 2
"""MNT_FORCE, which ends the connection (fs/fuse/inode.c, fuse_umount_begin); MNT_DETACH."""

_FLAGS: Final = 2 | 4 | 8  # MS_NOSUID, MS_NODEV, MS_NOEXEC


class Mount(NamedTuple):
    """A FUSE connection and where it is mounted; ``device`` as maps prints it."""

    fd: int
    directory: str
    device: bytes
    by_helper: bool


def check() -> None:
    """Whether anything can be mounted at all.

    Raises:
        ServeError: there is no /dev/fuse.
    """
    if not os.path.exists("/dev/fuse"):
        raise _no_fuse(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def mount(directory: str, allow_other: bool) -> Mount:
    """Mount at ``directory``, an absolute path with no symlink in it.

    From here on nothing in this process may touch the directory before it is served.

    Raises:
        ServeError: there is no /dev/fuse, or mounting is refused.
    """
    by_helper = os.geteuid() != 0
    fd = _by_helper(directory, allow_other) if by_helper else _by_root(directory, allow_other)
    device = mounted(directory)
    assert device is not None
    return Mount(fd, directory, device[1], by_helper)


def unmount(directory: str, by_helper: bool, flags: int = 0) -> None:
    """Unmount ``directory``.

    Raises:
        OSError: EBUSY where something in it is in use.
    """
    if by_helper:
        lazy = ["-z"] if flags else []
        run = subprocess.run(
            [_helper(), "-u", *lazy, "--", directory],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if run.returncode:
            busy = "busy" in run.stderr.lower()
            raise OSError(errno.EBUSY if busy else errno.EIO, run.stderr.strip())
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mounted(directory: str) -> tuple[str, bytes] | None:
    """Type and device of what is mounted at ``directory``, without touching it."""
    found = None
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            before, _, after = line.partition(b" - ")
            fields = before.split()
            place = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), fields[4])
            if place == os.fsencode(directory):
                major, _, minor = fields[2].partition(b":")
                device = b"%02x:%02x" % (int(major), int(minor))
                found = after.split()[0].decode(), device
    return found


def _by_root(directory: str, allow_other: bool) -> int:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_fuse(error) from None
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions"
    if allow_other:
        options += ",allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (b"ksyms", os.fsencode(directory), KIND.encode(), _FLAGS, options.encode())
    if libc.mount(*arguments):
        number = ctypes.get_errno()
        os.close(fd)
        raise ServeError(
            f"{directory} cannot be mounted: {os.strerror(number)}.",
            "Name an empty directory, as root of the machine and not of a container.",
            errno=number,
        )
    return fd


def _by_helper(directory: str, allow_other: bool) -> int:
    """fusermount3 mounts, and sends the descriptor over a socket (fusermount.c, send_fd)."""
    ours, theirs = socket.socketpair()
    options = "default_permissions,nosuid,nodev,noexec,fsname=ksyms,subtype=ksyms"
    if allow_other:
        options += ",allow_other"
    with ours, theirs:
        run = subprocess.run(
            [_helper(), "-o", options, "--", directory],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            errors="replace",
        )
        theirs.close()
        numbers = array.array("i")
        space = socket.CMSG_SPACE(numbers.itemsize)
        _, messages, _, _ = ours.recvmsg(1, space)
    if run.returncode or not messages:
        why = run.stderr.strip().splitlines()[-1:] or ["fusermount3 failed"]
        raise ServeError(
            f"{directory} cannot be mounted: {why[0].rstrip('.')}.",
            "Name an empty directory of your own, or run this as root.",
        )
    numbers.frombytes(messages[0][2][: numbers.itemsize])
    os.set_inheritable(numbers[0], False)
    return numbers[0]


def _helper() -> str:
    from shutil import which

    found = which("fusermount3") or which("fusermount")
    if found is None:
        raise ServeError(
            "Only root can mount without fusermount3, and it is not installed.",
            "Install fuse3, or run this as root.",
        )
    return found


def _no_fuse(error: OSError) -> ServeError:
    return ServeError(
        f"/dev/fuse cannot be opened: {reason(error)}.",
        "Load the fuse module (modprobe fuse) or give the container /dev/fuse; or take a "
        "file with ksyms snapshot, which needs none.",
        errno=error.errno,
    )
