"""What /proc tells of the process that makes a call."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from .._device import Process
from .._errors import KsymsError, ServeError, lacks_room
from .protocol import Request

_TGID: Final = re.compile(rb"^Tgid:\s*(\d+)", re.M)
_IDS: Final = {
    name: re.compile(rb"^%s:(?:\s+\d+){3}\s+(\d+)" % name.encode(), re.M)
    for name in ("Uid", "Gid")
}
_FLAGS: Final = 6
_NO_PROGRAM: Final = 0x10 | 0x200000
"""PF_IO_WORKER and PF_KTHREAD (include/linux/sched.h)."""
_START: Final = 19
"""Where ``starttime`` is among the fields of /proc/PID/stat after the name (proc(5): 22)."""


def status_of(task: int) -> bytes:
    """What /proc says of the thread ``task``; nothing where it has gone."""
    return _read(f"/proc/{task}/status")


def process_of(task: int, status: bytes) -> Process | None:
    """The process of the thread ``task`` that ``status`` is of; None where it has gone.

    None too for a kernel's thread, and for a worker of io_uring's: it opens with rights
    that are not the ones that /proc shows of it (io_uring/io-wq.c, override_creds).
    """
    match = _TGID.search(status)
    if match is None:
        return None
    pid = int(match[1])
    fields = _stat(pid)
    own = fields if task == pid else _stat(task)
    if len(fields) <= _START or len(own) <= _START or int(own[_FLAGS]) & _NO_PROGRAM:
        return None
    return Process(pid, int(fields[_START]))


def _stat(task: int) -> list[bytes]:
    # The name, in brackets, can have brackets and blanks in it.
    return _read(f"/proc/{task}/stat").rpartition(b")")[2].split()


def acts_as(status: bytes, uid: int, gid: int) -> bool:
    """Whether ``uid`` and ``gid`` are those that the thread of ``status`` opens files with."""
    found = [_IDS[name].search(status) for name in ("Uid", "Gid")]
    return [int(match[1]) for match in found if match] == [uid, gid]


class Gate:
    """Who may open.

    Args:
        may_see: whether the thread with this id, and this /proc/PID/status, may see what
            snapshots hold.
        event: told in words whom an open is refused.
    """

    def __init__(
        self, may_see: Callable[[int, bytes], bool], event: Callable[[str], None]
    ) -> None:
        self.may_see = may_see
        self._event = event

    def admit(self, request: Request, closing: bool) -> Process:
        """The process that a request is of.

        Raises:
            OSError: EACCES, if it may not see; ENXIO, if the server is ``closing``; EMFILE
                and the like, if that cannot be told for want of room.
        """
        # 0 is a process of a pid namespace that we do not see into.
        status = status_of(request.pid) if request.pid else b""
        process = process_of(request.pid, status)
        if (
            process is None
            or not acts_as(status, request.uid, request.gid)
            or not self.may_see(request.pid, status)
        ):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if closing:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return process

    @contextmanager
    def told(self, name: str, request: Request) -> Iterator[None]:
        """Tell of an open of ``name`` that is refused; not of one that is sent back."""
        try:
            yield
        except (KsymsError, OSError) as error:
            if error.errno != errno.ESTALE:
                why = os.strerror(error.errno or 0)
                self._event(f"{name} refused to process {request.pid}: {why}")
            raise


class Memory(NamedTuple):
    """The memory of the process with thread ``task``, and which file's mapping counts.

    A file is told by its device (``major:minor`` in hexadecimal, as maps prints it) and its
    inode: its path can be any, and "(deleted)". All ``size`` bytes of it must be mapped.
    """

    task: int
    device: bytes
    inode: int
    size: int

    def mapped_at(self) -> int | None:
        """Where it has the file mapped from its first byte; None where it has not."""
        for line in _read(f"/proc/{self.task}/maps").splitlines():
            place, _, offset, device, inode = line.split(None, 5)[:5]
            if inode != b"%d" % self.inode or device != self.device or int(offset, 16):
                continue
            start, end = (int(word, 16) for word in place.split(b"-"))
            if end - start >= self.size:
                return start
        return None

    def string_at(self, address: int, longest: int) -> bytes | None:
        """The string at ``address``, without its NUL; None where that cannot be read.

        It waits as long as the caller itself would: for ever, where a page never comes.
        """
        found = b""
        while len(found) < longest:
            # Up to the end of a page: the next one may not be there.
            at = address + len(found)
            part = _copied(self.task, at, min(longest - len(found), -at % 4096 or 4096))
            text, end, _ = part.partition(b"\0")
            found += text
            if end or not part:
                return found if end else None
        return found


class _Part(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _copied(task: int, address: int, length: int) -> bytes:
    """``length`` bytes of the memory of thread ``task``; none where they cannot be read.

    By process_vm_readv(): a read of /proc/PID/mem that waits for a page of a dead file
    system cannot be killed (seen on 6.18, in filemap_fault), and the process would not end.
    """
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(length)
    ours = _Part(ctypes.addressof(buffer), length)
    theirs = _Part(address, length)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    got = libc.process_vm_readv(task, ctypes.byref(ours), one, ctypes.byref(theirs), one, none)
    return buffer.raw[: max(got, 0)]


def check_namespace() -> None:
    """Whether /proc tells of the processes that the kernel will name.

    Raises:
        ServeError: it is another pid namespace's: its numbers are other processes.
    """
    try:
        own = os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        own = False
    if not own:
        raise ServeError(
            "/proc is of another pid namespace than this process, so that nobody who opens "
            "could be told from others.",
            "Mount a /proc of its own first (unshare --mount-proc), or serve outside.",
            errno=errno.EPERM,
        )


def _read(path: str) -> bytes:
    """What is there; nothing where that cannot be seen.

    Raises:
        OSError: it is not the other process's doing: no room for another open file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if lacks_room(error):
            raise
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # it went meanwhile
        return b""
    finally:
        os.close(fd)
