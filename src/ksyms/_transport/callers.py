"""What /proc tells of the process that makes a call."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from .._device import Process
from .._errors import KsymsError, ServeError, lacks_room, reason
from .._standing import StandingFile
from .protocol import Request
from .refusals import Refusals

_TGID: Final = re.compile(rb"\nTgid:\t(\d+)")
_UID, _GID = (re.compile(rb"\n%s:(?:\t\d+){3}\t(\d+)" % name) for name in (b"Uid", b"Gid"))
_FLAGS: Final = 6
_NO_PROGRAM: Final = 0x10 | 0x200000
"""PF_IO_WORKER and PF_KTHREAD (include/linux/sched.h)."""
_START: Final = 19
"""Where ``starttime`` is among the fields of /proc/PID/stat after the name (proc(5): 22)."""
_KEPT: Final = 32
"""How many threads' files are kept open."""


class Caller(NamedTuple):
    """Who makes a call: its process, and the text of /proc/PID/status of its thread.

    ``process`` is None where the thread has gone. None too for a kernel's thread, and for a
    worker of io_uring's: it opens with rights that are not the ones that /proc shows of it
    (io_uring/io-wq.c, override_creds).
    """

    process: Process | None
    status: bytes

    def acts_as(self, uid: int, gid: int) -> bool:
        """Whether these are the ids that the thread opens files with."""
        found = [pattern.search(self.status) for pattern in (_UID, _GID)]
        return [int(match[1]) for match in found if match] == [uid, gid]


class Callers:
    """Who calls; a file of each of the threads that called last is kept open.

    A kept file is of that thread alone, and says so once it has gone (fs/proc/base.c,
    proc_single_show: ESRCH): its number can be another's then. A thread's process stays the
    same. What it may do does not, and is read each time. Any thread may ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[StandingFile, Process]] = {}

    def caller(self, task: int) -> Caller:
        """Who the thread ``task`` is.

        Raises:
            OSError: it is not the other process's doing: no room for another open file.
        """
        with self._lock:
            if task in self._kept:
                file, process = self._kept[task] = self._kept.pop(task)  # the last now
                if status := _text(file):
                    return Caller(process, status)
                self._drop(task)
            try:
                return self._new(task)
            except OSError:  # what is kept has the room
                for kept in list(self._kept):
                    self._drop(kept)
                return self._new(task)

    def _new(self, task: int) -> Caller:
        file = StandingFile(f"/proc/{task}/status")
        try:
            status = _text(file)
            process = _process_of(task, status)
        except OSError:
            file.close()
            raise
        if process is None:
            file.close()
            return Caller(None, status)
        if len(self._kept) == _KEPT:
            self._drop(next(iter(self._kept)))
        self._kept[task] = file, process
        return Caller(process, status)

    def _drop(self, task: int) -> None:
        file, _ = self._kept.pop(task)
        file.close()


def _process_of(task: int, status: bytes) -> Process | None:
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
        self._may_see = may_see
        self._refusals = Refusals(event)
        self._callers = Callers()

    def seeing(self, task: int) -> Process | None:
        """The process of the thread ``task`` if it may see what snapshots hold.

        Raises:
            OSError: there is no room to ask.
        """
        caller = self._callers.caller(task)
        return caller.process if self._may_see(task, caller.status) else None

    def admit(self, request: Request, closing: bool) -> Process:
        """The process that a request is of.

        Raises:
            OSError: EACCES, if it may not see; ENXIO, if the server is ``closing``; EMFILE
                and the like, if that cannot be told for want of room.
        """
        # 0 is a process of a pid namespace that we do not see into.
        caller = self._callers.caller(request.pid) if request.pid else Caller(None, b"")
        if (
            caller.process is None
            or not caller.acts_as(request.uid, request.gid)
            or not self._may_see(request.pid, caller.status)
        ):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if closing:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return caller.process

    @contextmanager
    def told(self, name: str, request: Request) -> Iterator[None]:
        """Tell of an open of ``name`` that is refused; not of one that is sent back."""
        try:
            yield
        except (KsymsError, OSError) as error:
            if error.errno != errno.ESTALE:
                self._refusals.add(name, request.pid, error.errno or errno.EIO)
            raise
        except MemoryError:
            self._refusals.add(name, request.pid, errno.ENOMEM)
            raise


def check_namespace() -> None:
    """Whether /proc tells of the processes that the kernel will name.

    Raises:
        ServeError: there is none, or another pid namespace's: its numbers are other processes.
    """
    try:
        own = os.readlink("/proc/self") == str(os.getpid())
    except OSError as error:
        raise ServeError(
            f"/proc cannot be read: {reason(error)}, so that nobody who opens could be told "
            "from others.",
            "Mount it first: mount -t proc proc /proc.",
            errno=error.errno,
        ) from None
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
    file = StandingFile(path)
    try:
        return _text(file)
    finally:
        file.close()


def _text(file: StandingFile) -> bytes:
    """As :func:`_read`, of a file that is kept open."""
    try:
        return file.text()
    except OSError as error:
        if lacks_room(error):
            raise
        return b""
