"""Mount and unmount a FUSE directory: with mount(2) as root, with fusermount3 otherwise."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import re
import socket
import subprocess
from contextlib import suppress
from typing import Final, NamedTuple

from .._errors import ServeError, os_error, reason
from .._paths import UntrustedError, descend, place
from .._proc_file import ProcFile

KIND: Final = "fuse.ksyms"
"""The file system's type, as /proc/mounts shows it."""
FORCE: Final = 1 | 2
"""Flags of a forced unmount: MNT_FORCE ends the connection (fs/fuse/inode.c,
fuse_umount_begin), and MNT_DETACH unmounts a directory that is in use.
"""

_FLAGS: Final = 2 | 4 | 8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_NOFOLLOW: Final = 8  # UMOUNT_NOFOLLOW


_MOUNTS: Final = ProcFile("/proc/self/mountinfo")
"""The list of all mounts.

It is read for the first time before anything is mounted, and then stays open. So an unmount
works even if no new file can be opened.
"""


class Mounted(NamedTuple):
    """A mount: a line of /proc/self/mountinfo (proc(5)).

    ``number`` is the mount's id, and ``above`` the id of its parent, the mount that it is
    mounted on. ``kind`` is the file system's type. ``device`` is ``major:minor`` in
    hexadecimal, as /proc/PID/maps prints it.
    """

    number: bytes
    above: bytes
    directory: str
    kind: str
    device: bytes


class Mount(NamedTuple):
    """A FUSE connection and its mount.

    ``fd`` is the descriptor of the connection. ``at`` is an O_PATH descriptor of the directory
    that the mount covers; it stays valid if the directory is renamed. ``by_helper`` is True if
    fusermount3 mounted it.
    """

    fd: int
    at: int
    mounted: Mounted
    by_helper: bool


def check_fuse() -> None:
    """Check that the kernel offers FUSE.

    Raises:
        ServeError: /dev/fuse does not exist.
    """
    if not os.path.exists("/dev/fuse"):
        raise _no_fuse_error(os_error(errno.ENOENT))


def mount(at: int, allow_other: bool) -> Mount:
    """Mount on the directory of the descriptor ``at``, on which nothing may be mounted yet.

    After this call nothing in this process may access the directory until it is served: the
    access would wait for this process itself. During the call signals must not raise
    exceptions. After any error nothing is left mounted.

    Raises:
        ServeError: /dev/fuse does not exist, or the mount is refused.
    """
    by_helper = os.geteuid() != 0
    directory = place(at)

    try:
        fd = (_by_helper if by_helper else _by_root)(at, directory, allow_other)
    except OSError as error:
        raise _mount_error(directory, reason(error), error.errno) from None
    try:
        found = find_mount(directory)
        if found is None or found.kind != KIND or place(at) != directory:
            raise _mount_error(directory, "it was moved meanwhile", errno.ENOENT)
    except BaseException:
        _undo_mount(at, by_helper)
        os.close(fd)
        raise
    return Mount(fd, at, found, by_helper)


def unmount(at: int, name: str, by_helper: bool, flags: int = 0) -> None:
    """Unmount what is mounted on the directory of the descriptor ``at``, or on ``name`` in it.

    Raises:
        OSError: EBUSY if a file in it is in use.
    """
    if by_helper:
        lazy = ["-z"] if flags else []
        run = subprocess.run(
            [_find_fusermount(), "-u", *lazy, "--", os.path.join(place(at), name).rstrip("/")],
            stderr=subprocess.PIPE,
            close_fds=False,  # True would take more descriptors than the two of this pipe
            text=True,
            errors="replace",
        )
        if run.returncode:
            busy = "busy" in run.stderr.lower()
            raise OSError(errno.EBUSY if busy else errno.EIO, run.stderr.strip())
        return

    # ``at`` is the directory that the mount covers. From it the kernel goes on to the mount
    # (LOOKUP_MOUNTPOINT; fs/namei.c, handle_lookup_down), even if the directory was renamed.
    way = f"/proc/self/fd/{at}/{name}" if name else f"/proc/self/fd/{at}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(way), flags | (_NOFOLLOW if name else 0)):
        number = ctypes.get_errno()
        raise os_error(number)


def try_unmount(mount: Mount, flags: int) -> bool:
    """Unmount ``mount`` and no other mount; return True if it is gone."""
    own = mount.mounted
    try:
        mounts = _read_mounts()
        found = [m for m in mounts if (m.number, m.device) == (own.number, own.device)]
        if not found:
            return True  # it was unmounted already, at least in this mount namespace
        if (own.number, found[0].directory) in [(m.above, m.directory) for m in mounts]:
            return False  # another mount lies on top of it
        unmount(mount.at, "", mount.by_helper, flags)
    except OSError:
        return False
    return True


def find_mount(directory: str) -> Mounted | None:
    """Return the topmost mount at ``directory``, without accessing it; None if there is none.

    Raises:
        OSError: /proc/self/mountinfo cannot be read.
    """
    return next((m for m in reversed(_read_mounts()) if m.directory == directory), None)


def _read_mounts() -> list[Mounted]:
    """Return all mounts of this mount namespace, in the order of /proc/self/mountinfo."""
    found = []
    # Not splitlines(): a directory's name can contain the other line ends, such as \r.
    for line in _MOUNTS.text().split(b"\n")[:-1]:
        before, _, after = line.partition(b" - ")
        number, above, device, _, where = before.split(b" ")[:5]
        where = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), where)
        major, _, minor = device.partition(b":")
        shown = b"%02x:%02x" % (int(major), int(minor))
        kind = os.fsdecode(after.split(b" ")[0])
        found.append(Mounted(number, above, os.fsdecode(where), kind, shown))
    return found


def _undo_mount(at: int, by_helper: bool) -> None:
    """Undo a mount that failed half-way, as far as that is possible."""
    with suppress(OSError, ServeError):
        unmount(at, "", by_helper, FORCE)


def _by_root(at: int, directory: str, allow_other: bool) -> int:
    """Open /dev/fuse and mount with mount(2); return the connection's descriptor."""
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_fuse_error(error) from None

    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions"
    if allow_other:
        options += ",allow_other"

    libc = ctypes.CDLL(None, use_errno=True)
    where = f"/proc/self/fd/{at}".encode()
    if libc.mount(b"ksyms", where, KIND.encode(), _FLAGS, options.encode()):
        number = ctypes.get_errno()
        os.close(fd)
        raise ServeError(
            f"{directory} cannot be mounted: {os.strerror(number)}.",
            "Name an empty directory, as root of the machine and not of a container.",
            errno=number,
        )
    return fd


def _by_helper(at: int, directory: str, allow_other: bool) -> int:
    """Mount with fusermount3; return the connection's descriptor.

    fusermount3 sends the descriptor over a socket (fusermount.c, send_fd). It takes a path, so
    the path is refused if another user could put another directory there.
    """
    try:
        os.close(descend(directory, alone=True))
    except UntrustedError as error:
        raise _mount_error(directory, str(error), error.errno) from None

    ours, theirs = socket.socketpair()
    options = "default_permissions,nosuid,nodev,noexec,fsname=ksyms,subtype=ksyms"
    if allow_other:
        options += ",allow_other"

    with ours, theirs:
        run = subprocess.run(
            [_find_fusermount(), "-o", options, "--", directory],
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
        if run.returncode <= 0:  # it may have mounted, although the descriptor did not arrive
            _undo_mount(at, True)
        why = run.stderr.strip().splitlines()[-1:] or ["fusermount3 failed"]
        raise _mount_error(directory, why[0].rstrip("."))

    numbers.frombytes(messages[0][2][: numbers.itemsize])
    os.set_inheritable(numbers[0], False)
    return numbers[0]


def _find_fusermount() -> str:
    """Return the path of fusermount3, or else of fusermount.

    Raises:
        ServeError: neither is installed.
    """
    from shutil import which

    found = which("fusermount3") or which("fusermount")
    if found is None:
        raise ServeError(
            "Only root can mount without fusermount3, and it is not installed.",
            "Install fuse3, or run this as root.",
        )
    return found


def _mount_error(directory: str, why: str, number: int | None = None) -> ServeError:
    return ServeError(
        f"{directory} cannot be mounted: {why}.",
        "Name an empty directory of your own, or run this as root.",
        errno=number,
    )


def _no_fuse_error(error: OSError) -> ServeError:
    return ServeError(
        f"/dev/fuse cannot be opened: {reason(error)}.",
        "Load the fuse module (modprobe fuse) or give the container /dev/fuse; or take a "
        "file with ksyms snapshot, which needs none.",
        errno=error.errno,
    )
