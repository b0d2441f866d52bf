"""The loop that serves requests, and what its handlers share.

Requests are read and most are answered by one thread: RELEASE is told of after close() has
returned, and with several readers a close followed by an open gave a spurious EBUSY (2 to 60
in 5,000). What may take long is answered by others, so that it holds up nobody's reads: each in
its lane, one after the other. Snapshots have a lane, and so has each open whose caller's memory
is read: a page of that may never come, and holds up nobody else's calls.
"""

from __future__ import annotations

import errno
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from .._errors import KsymsError
from . import protocol
from .protocol import Buffer, Channel, Request

_LANES: Final = 256
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
            try:
                lanes.submit(
                    error.lane, partial(_answer, channel, request, handler, True, told)
                )
            except RuntimeError:  # no more threads can be started
                _finish(channel, request, errno.EAGAIN, time.monotonic(), told)
    lanes.finish()


class _Lanes:
    """Work that is done by others: in each lane one after the other; used by one thread.

    The threads are daemons: what one of them waits for must not hold up the process's end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: dict[Hashable, deque[Callable[[], None]]] = {}
        self._snapshots = threading.Thread()

    def submit(self, lane: Hashable, work: Callable[[], None]) -> None:
        """Have ``work`` done in ``lane``.

        Raises:
            RuntimeError: there are too many lanes, or no thread can be started.
        """
        with self._lock:
            if lane in self._work:
                self._work[lane].append(work)
                return
            if lane is not None and len(self._work.keys() - {None}) >= _LANES:
                raise RuntimeError
            self._work[lane] = deque([work])
        thread = threading.Thread(target=self._run, args=(lane,), daemon=True)
        if lane is None:
            self._snapshots = thread
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._work[lane]
            raise

    def finish(self) -> None:
        """Wait for the snapshots that are being taken; for callers' memory nobody waits."""
        with suppress(RuntimeError):  # none was ever asked for
            self._snapshots.join()

    def _run(self, lane: Hashable) -> None:
        while True:
            with self._lock:
                if not self._work[lane]:
                    del self._work[lane]
                    return
                work = self._work[lane].popleft()
            try:
                work()
            except Exception:  # the lane stays open to others
                traceback.print_exc()


def _answer(
    channel: Channel, request: Request, handler: Handler, wait: bool, told: Told | None
) -> None:
    begun = time.monotonic()
    try:
        answer = handler(request, wait)
    except (KsymsError, OSError) as error:
        _finish(channel, request, error.errno or errno.EIO, begun, told)
        return
    except WaitError:
        raise
    except MemoryError:
        _finish(channel, request, errno.ENOMEM, begun, told)
        return
    except Exception:
        # A mistake of ours: neither the caller nor all the others must hang for it.
        _finish(channel, request, errno.EIO, begun, told)
        traceback.print_exc()
        return
    if request.opcode not in protocol.NO_REPLY:
        then = answer.after if channel.reply(request, *answer.parts) else answer.undo
        if then is not None:
            then()
    if told is not None:
        told(request, 0, time.monotonic() - begun)


def _finish(
    channel: Channel, request: Request, number: int, begun: float, told: Told | None
) -> None:
    if request.opcode not in protocol.NO_REPLY:
        channel.fail(request, number)
    if told is not None:
        told(request, number, time.monotonic() - begun)
