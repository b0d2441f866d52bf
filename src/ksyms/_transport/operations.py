"""The loop that serves requests, and what its handlers share.

Requests are read and most are answered by one thread: RELEASE is told of after close() has
returned, and with several readers a close followed by an open gave a spurious EBUSY (2 to 60
in 5,000). What may take long is answered by others, so that it holds up nobody's reads: each in
its lane, one after the other. Snapshots have a lane. What needs the caller's memory has some a
user (:func:`.memory.lane`): a page of that may come late, and holds up no other user's calls.
"""

from __future__ import annotations

import _thread
import errno
import os
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

from .._errors import KsymsError
from .._threads import begin
from . import protocol
from .memory import PATIENCE
from .protocol import Buffer, Channel, Request

_AGAIN: Final = 0.1  # seconds until an answer is tried again that there was no memory for
_LANES: Final = 32
"""Lanes at most, each a thread while it has work; the lane of snapshots is always there."""


class Answer(NamedTuple):
    """What is sent; what is done after it, or instead where nobody waits for it any more."""

    parts: tuple[Buffer, ...] = ()
    undo: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


class WaitError(Exception):
    """The answer takes long: it has to be found by another thread, with ``wait``.

    ``lane`` is what it is done in, after what came before it; None is that of snapshots.
    """

    def __init__(self, lane: Hashable = None) -> None:
        super().__init__()
        self.lane = lane


Handler = Callable[[Request, bool], Answer]
Told = Callable[[Request, int, float], None]


class Operations(ABC):
    """A file system or a device: a handler an opcode; all others are ENOSYS.

    A handler takes the request and whether it may wait, and raises an OSError or a
    KsymsError with the errno to answer.
    """

    closing: bool = False
    """Whether no more opens are answered, since the server is about to end."""

    @abstractmethod
    def handlers(self) -> dict[int, Handler]:
        """The handlers, by opcode."""


def serve(channel: Channel, operations: Operations, told: Told | None = None) -> None:
    """Serve until the connection ends; ``told`` of each request, its errno and seconds."""
    handlers = operations.handlers()
    lanes = _Lanes()
    while (request := channel.receive()) is not None:
        if request.opcode == protocol.INTERRUPT:
            continue
        handler = handlers.get(request.opcode)
        if handler is None:
            _finish(channel, request, errno.ENOSYS, time.monotonic(), told)
            continue
        try:
            _answer(channel, request, handler, False, told)
        except WaitError as error:
            again = errno.EAGAIN, time.monotonic(), told
            late = partial(_finish, channel, request, *again)
            try:
                work = partial(_answer, channel, request, handler, True, told)
                lanes.submit(error.lane, _Work(work, late, time.monotonic() + PATIENCE))
            except (KsymsError, OSError, MemoryError):  # no more threads can be begun
                late()
    lanes.finish()


class _Work(NamedTuple):
    """What is to be done, and what instead if that has not begun at the time ``due``."""

    do: Callable[[], None]
    late: Callable[[], None]
    due: float


class _Lanes:
    """Work that is done by others: in each lane one after the other; used by one thread.

    What one of them waits for does not hold up the process's end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: dict[Hashable, deque[_Work]] = {}
        self._snapshots = _thread.allocate_lock()

    def submit(self, lane: Hashable, work: _Work) -> None:
        """Have ``work`` done in ``lane``; in that of snapshots it is never late.

        Raises:
            OSError: there are too many lanes.
            ServeError: there is no thread to be had.
        """
        with self._lock:
            if lane in self._work:
                self._work[lane].append(work)
                return
            if lane is not None and len(self._work.keys() - {None}) >= _LANES:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._work[lane] = deque([work])
        try:
            ended = begin(self._run, lane)
        except BaseException:  # nobody else submits: it is the only work of the lane
            with self._lock:
                del self._work[lane]
            raise
        if lane is None:
            self._snapshots = ended

    def finish(self) -> None:
        """Wait for the snapshots that are being taken; for callers' memory nobody waits."""
        self._snapshots.acquire()

    def _run(self, lane: Hashable) -> None:
        while True:
            with self._lock:
                if not self._work[lane]:
                    del self._work[lane]
                    return
                work = self._work[lane].popleft()
            try:
                in_time = lane is None or time.monotonic() < work.due
                (work.do if in_time else work.late)()
            except Exception:  # the lane stays open to others
                _complain()


def _answer(
    channel: Channel, request: Request, handler: Handler, wait: bool, told: Told | None
) -> None:
    begun = time.monotonic()
    try:
        answer = handler(request, wait)
        _reply(channel, request, answer)
    except (KsymsError, OSError) as error:
        _finish(channel, request, error.errno or errno.EIO, begun, told)
    except WaitError:
        raise
    except struct.error:  # the body is shorter than that of its opcode
        _finish(channel, request, errno.EINVAL, begun, told)
    except MemoryError:
        _finish(channel, request, errno.ENOMEM, begun, told)
    except Exception:
        # A mistake of ours: neither the caller nor all the others must hang for it.
        _finish(channel, request, errno.EIO, begun, told)
        _complain()
    else:
        _tell(told, request, 0, begun)


def _reply(channel: Channel, request: Request, answer: Answer) -> None:
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


def _finish(
    channel: Channel, request: Request, number: int, begun: float, told: Told | None
) -> None:
    """Answer with an errno, until that is done.

    Who has no answer cannot even be killed (fs/fuse/dev.c, request_wait_answer). Of a request
    that was answered the kernel takes no other answer.
    """
    while request.opcode not in protocol.NO_REPLY:
        try:
            channel.fail(request, number)
            break
        except MemoryError:
            time.sleep(_AGAIN)
    _tell(told, request, number, begun)


def _tell(told: Told | None, request: Request, number: int, begun: float) -> None:
    if told is not None:
        with suppress(MemoryError):
            told(request, number, time.monotonic() - begun)


def _complain() -> None:
    """Have what nobody foresaw said as that of any thread is, if there is the memory to."""
    with suppress(MemoryError):
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), None)))
