"""The loop that serves requests, and the base class of its handlers.

One thread reads all requests and answers most of them. It must be one thread: the kernel sends
RELEASE after close() has returned. With several threads, an open() right after a close() could
overtake the RELEASE, and got EBUSY without reason (2 to 60 times in 5,000).

A request that may take long is answered by another thread, so that it does not delay reads.
Such requests wait in lanes. Each lane has a thread, which answers its requests in order:

    snapshots      one lane for all: LOOKUP (FUSE) and OPEN (CUSE) that take a snapshot
    user, 0 to 3   four lanes for each user (:func:`.memory.lane`): ioctl requests that read
                   the caller's memory, of which a page may come late
"""

from __future__ import annotations

import _thread
import errno
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from .._errors import KsymsError, os_error
from .._threads import begin
from . import protocol
from .memory import PATIENCE
from .protocol import Buffer, Channel, Request

_RETRY: Final = 0.1
"""Seconds after which an answer is sent again that could not be sent for lack of memory."""
_LANES: Final = 32
"""Largest number of lanes besides that of snapshots. A lane has a thread while it has work."""


class Answer(NamedTuple):
    """The body of a reply, in parts.

    ``after`` is called once the reply was sent, ``undo`` if it could not be sent: the kernel
    takes no reply to a request that was interrupted meanwhile.
    """

    parts: tuple[Buffer, ...] = ()
    undo: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


class WaitError(Exception):
    """The signal of a handler that its answer takes long.

    Another thread has to call the handler again, with ``wait`` True.

    ``lane`` is the lane in which the request waits; None is that of snapshots.
    """

    def __init__(self, lane: Hashable = None) -> None:
        super().__init__()
        self.lane = lane


Handler = Callable[[Request, bool], Answer]
"""The handler of an opcode: called with the request and ``wait``; see :class:`Operations`."""
CallLog = Callable[[Request, int, float], None]
"""A function that logs an answered request: its errno (0 for success), and its seconds."""


class Operations(ABC):
    """The operations of a file system or device: a handler for each opcode.

    An opcode without a handler is answered with ENOSYS. A handler gets the request and
    ``wait``. If ``wait`` is True, the handler may take long; if it is False, it must raise
    WaitError instead. To answer with an errno, it raises an OSError or a KsymsError that has
    it.
    """

    closing: bool = False
    """True once the server is about to end: opens are then refused."""

    @abstractmethod
    def handlers(self) -> dict[int, Handler]:
        """Return the handlers, by opcode."""


def serve(channel: Channel, operations: Operations, log_call: CallLog | None = None) -> None:
    """Serve requests until the connection ends.

    ``log_call`` is called after each request with the request, its errno (0 for success) and
    the seconds that it took.
    """
    handlers = operations.handlers()
    lanes = _Lanes()
    while (request := channel.receive()) is not None:
        if request.opcode == protocol.INTERRUPT:
            continue

        handler = handlers.get(request.opcode)
        if handler is None:
            _answer_errno(channel, request, errno.ENOSYS, time.monotonic(), log_call)
            continue

        try:
            _answer(channel, request, handler, False, log_call)
        except WaitError as error:
            again = errno.EAGAIN, time.monotonic(), log_call
            late = partial(_answer_errno, channel, request, *again)
            try:
                work = partial(_answer, channel, request, handler, True, log_call)
                lanes.submit(error.lane, _Work(work, late, time.monotonic() + PATIENCE))
            except (KsymsError, OSError, MemoryError):  # no thread or lane is available
                late()
    lanes.finish()


class _Work(NamedTuple):
    """A request that waits in a lane.

    ``do`` answers it. If the time ``due`` (of time.monotonic()) has passed before its turn
    comes, ``late`` answers it instead, with EAGAIN.
    """

    do: Callable[[], None]
    late: Callable[[], None]
    due: float


class _Lanes:
    """The lanes: in each one thread does the work in order.

    Only one thread submits work. The threads do not delay the process's exit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: dict[Hashable, deque[_Work]] = {}
        """The work of each lane that has a thread."""
        self._snapshots = _thread.allocate_lock()
        """A lock that is held while the lane of snapshots has a thread."""

    def submit(self, lane: Hashable, work: _Work) -> None:
        """Add ``work`` to ``lane``; in the lane of snapshots (None) it is never late.

        Raises:
            OSError: there are too many lanes.
            ServeError: a thread cannot be started.
        """
        with self._lock:
            if lane in self._work:
                self._work[lane].append(work)
                return
            if lane is not None and len(self._work.keys() - {None}) >= _LANES:
                raise os_error(errno.EAGAIN)
            self._work[lane] = deque([work])
        try:
            ended = begin(self._run, lane)
        except BaseException:  # only this thread submits, so the lane has no other work
            with self._lock:
                del self._work[lane]
            raise
        if lane is None:
            self._snapshots = ended

    def finish(self) -> None:
        """Wait until the lane of snapshots is empty. Do not wait for the other lanes."""
        self._snapshots.acquire()

    def _run(self, lane: Hashable) -> None:
        """Do a lane's work in order, and end the lane when it has none."""
        while True:
            with self._lock:
                if not self._work[lane]:
                    del self._work[lane]
                    return
                work = self._work[lane].popleft()
            try:
                in_time = lane is None or time.monotonic() < work.due
                (work.do if in_time else work.late)()
            except Exception:  # go on with the next request
                _report_exception()


def _answer(
    channel: Channel, request: Request, handler: Handler, wait: bool, log_call: CallLog | None
) -> None:
    """Call the handler and send its answer, or the errno of its exception.

    Raises:
        WaitError: the answer takes long, and ``wait`` is False; nothing was sent.
    """
    started = time.monotonic()
    try:
        answer = handler(request, wait)
        _reply(channel, request, answer)
    except (KsymsError, OSError) as error:
        _answer_errno(channel, request, error.errno or errno.EIO, started, log_call)
    except WaitError:
        raise
    except struct.error:  # the body is shorter than the opcode's structure
        _answer_errno(channel, request, errno.EINVAL, started, log_call)
    except MemoryError:
        _answer_errno(channel, request, errno.ENOMEM, started, log_call)
    except Exception:
        # A defect of this program. This caller still gets an answer, and so do the others.
        _answer_errno(channel, request, errno.EIO, started, log_call)
        _report_exception()
    else:
        _log(log_call, request, 0, started)


def _reply(channel: Channel, request: Request, answer: Answer) -> None:
    """Send an answer; then call its ``after``, or its ``undo`` if it could not be sent."""
    if request.opcode in protocol.NO_REPLY:
        return
    try:
        then = answer.after if channel.reply(request, *answer.parts) else answer.undo
    except MemoryError:
        if answer.undo is not None:
            answer.undo()
        raise
    if then is not None:
        then()


def _answer_errno(
    channel: Channel, request: Request, number: int, started: float, log_call: CallLog | None
) -> None:
    """Answer with an errno; if there is no memory for the answer, wait and try again.

    It must not give up: a process that waits for an answer cannot even be killed
    (fs/fuse/dev.c, request_wait_answer). If the request was answered before, the kernel
    ignores this answer.
    """
    while request.opcode not in protocol.NO_REPLY:
        try:
            channel.fail(request, number)
            break
        except MemoryError:
            time.sleep(_RETRY)
    _log(log_call, request, number, started)


def _log(log_call: CallLog | None, request: Request, number: int, started: float) -> None:
    """Call ``log_call``, if there is one, for a request that was answered."""
    if log_call is not None:
        with suppress(MemoryError):
            log_call(request, number, time.monotonic() - started)


def _report_exception() -> None:
    """Report the current exception with threading.excepthook, if there is memory for it."""
    with suppress(MemoryError):
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), None)))
