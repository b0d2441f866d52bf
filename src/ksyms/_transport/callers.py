"""The processes that open served files, as /proc describes them."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from .._device import Process
from .._errors import KsymsError, ServeError, lacks_room, os_error, reason
from .._proc_file import ProcFile
from .protocol import Request
from .refusals import Refusals

_TGID: Final = re.compile(rb"\nTgid:\t(\d+)")
# The lines have the real, effective, saved and file system id. The last one is searched for:
# the kernel opens files with it.
_UID, _GID = (re.compile(rb"\n%s:(?:\t\d+){3}\t(\d+)" % name) for name in (b"Uid", b"Gid"))
_FLAGS: Final = 6
"""Index of ``flags`` in the fields of /proc/PID/stat after the name (proc(5): field 9)."""
_NOT_A_PROGRAM: Final = 0x10 | 0x200000
"""Flags of threads that are no program's: PF_IO_WORKER, PF_KTHREAD (include/linux/sched.h)."""
_START_TIME: Final = 19
"""Index of ``starttime`` in the fields of /proc/PID/stat after the name (proc(5): field 22)."""
_KEPT: Final = 32
"""Largest number of threads whose /proc/PID/status is kept open."""


class Caller(NamedTuple):
    """A thread that calls: its process, and the text of its /proc/PID/status.

    ``process`` is None if the thread has exited. It is None too for two kinds of thread that
    are not a program's: kernel threads, and io_uring workers. Workers open files with other
    credentials than /proc shows for them (io_uring/io-wq.c, override_creds).
    """

    process: Process | None
    status: bytes

    def acts_as(self, uid: int, gid: int) -> bool:
        """Return True if the thread's fsuid and fsgid, by which it opens files, are these."""
        found = [pattern.search(self.status) for pattern in (_UID, _GID)]
        return [int(match[1]) for match in found if match] == [uid, gid]


class Callers:
    """A cache of callers: /proc/PID/status stays open for the threads that called last.

    An open status file stays with its thread: once the thread has exited, reads fail with
    ESRCH (fs/proc/base.c, proc_single_show), even if a new thread has the same id. So the
    process of a thread is read only once. Its credentials can change, and are read at each
    call. The methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[ProcFile, Process]] = {}
        """The open status files and the processes, by thread id; the oldest first."""

    def caller(self, task: int) -> Caller:
        """Return the caller whose thread has the id ``task``.

        Raises:
            OSError: there is no room for another open file (see ``lacks_room``).
        """
        with self._lock:
            if task in self._kept:
                # Move the entry to the end: when the cache is full, the first one is dropped.
                file, process = self._kept[task] = self._kept.pop(task)
                if status := _text(file):
                    return Caller(process, status)
                self._drop(task)
            try:
                return self._new(task)
            except OSError:  # too many files are open: close all of the cache's, and try again
                for kept in list(self._kept):
                    self._drop(kept)
                return self._new(task)

    def _new(self, task: int) -> Caller:
        """Return the caller, read anew; keep its status file open if it is a program's."""
        file = ProcFile(f"/proc/{task}/status")
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
    """Return the process of the thread ``task``, by its /proc/PID/status and stat.

    Return None if the thread has exited, or is not a program's.
    """
    match = _TGID.search(status)
    if match is None:
        return None

    pid = int(match[1])
    fields = _stat(pid)
    own = fields if task == pid else _stat(task)
    if (
        len(fields) <= _START_TIME
        or len(own) <= _START_TIME
        or int(own[_FLAGS]) & _NOT_A_PROGRAM
    ):
        return None
    return Process(pid, int(fields[_START_TIME]))


def _stat(task: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the name; an empty list if it is unreadable."""
    # The name is in parentheses, and can itself contain parentheses and blanks.
    return _read(f"/proc/{task}/stat").rpartition(b")")[2].split()


class Gate:
    """The check whether a caller may open a served file.

    Args:
        may_see: called with a thread's id and the text of its /proc/PID/status; returns True
            if the thread may see the contents of snapshots.
        event: called with one sentence about opens that were refused.
    """

    def __init__(
        self, may_see: Callable[[int, bytes], bool], event: Callable[[str], None]
    ) -> None:
        self._may_see = may_see
        self._refusals = Refusals(event)
        self._callers = Callers()

    def process_that_may_see(self, task: int) -> Process | None:
        """Return the process of the thread ``task`` if it may see snapshots; else None.

        Raises:
            OSError: there is no room for another open file.
        """
        caller = self._callers.caller(task)
        return caller.process if self._may_see(task, caller.status) else None

    def authorize(self, request: Request, closing: bool) -> Process:
        """Return the process that sent an OPEN, if it may open the file.

        Raises:
            OSError: EACCES, if it may not see snapshots; ENXIO, if the server is
                ``closing``; EMFILE and the like, if there is no room for another open file,
                which the check needs.
        """
        # The pid is 0 if the caller is in a pid namespace that this process cannot see.
        caller = self._callers.caller(request.pid) if request.pid else Caller(None, b"")
        if (
            caller.process is None
            or not caller.acts_as(request.uid, request.gid)
            or not self._may_see(request.pid, caller.status)
        ):
            raise os_error(errno.EACCES)
        if closing:
            raise os_error(errno.ENXIO)
        return caller.process

    @contextmanager
    def reporting_refusals(self, name: str, request: Request) -> Iterator[None]:
        """Report an exception in this context: it refuses an open of ``name``.

        ESTALE is not reported, because the kernel then starts the open again.
        """
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
    """Check that /proc shows this process's own pid namespace.

    FUSE names a caller by its id in that namespace. In another namespace the same number
    belongs to another process.

    Raises:
        ServeError: /proc cannot be read, or shows another pid namespace.
    """
    try:
        own = os.readlink("/proc/self") == str(os.getpid())
    except OSError as error:
        raise ServeError(
            f"/proc cannot be read: {reason(error)}, so the processes that open cannot be "
            "identified.",
            "Mount it first: mount -t proc proc /proc.",
            errno=error.errno,
        ) from None
    if not own:
        raise ServeError(
            "/proc is of another pid namespace than this process, so the processes that open "
            "cannot be identified.",
            "Mount a /proc of its own first (unshare --mount-proc), or serve outside.",
            errno=errno.EPERM,
        )


def _read(path: str) -> bytes:
    """Return the text of the file ``path``; b"" if it cannot be read.

    Raises:
        OSError: there is no room for another open file.
    """
    file = ProcFile(path)
    try:
        return _text(file)
    finally:
        file.close()


def _text(file: ProcFile) -> bytes:
    """Return a file's text; b"" if it cannot be read: its thread may have exited.

    Raises:
        OSError: there is no room for another open file.
    """
    try:
        return file.text()
    except OSError as error:
        if lacks_room(error):
            raise
        return b""
