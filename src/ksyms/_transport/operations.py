"""The loop that serves requests, and what its handlers share.

Requests are read and most are answered by one thread: RELEASE is told of after close() has
returned, and with several readers a close followed by an open gave a spurious EBUSY (2 to 60
in 5,000). What may take long is answered by others, so that it holds up nobody's reads.
"""

from __future__ import annotations

import errno
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from .._errors import KsymsError
from . import protocol
from .protocol import Buffer, Channel, Request

_WORKERS: Final = 4


class Answer(NamedTuple):
    """What is sent; what is done after it, or instead where nobody waits for it any more."""

    parts: tuple[Buffer, ...] = ()
    undo: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


class WaitError(Exception):
    """The answer takes long: it has to be found by another thread, with ``wait``."""


Handler = Callable[[Request, bool], Answer]
Told = Callable[[Request, int, float], None]


class Operations(ABC):
    """A file system or a device: a handler an opcode; all others are ENOSYS.

    A handler takes the request and whether it may wait, and raises an OSError or a
    KsymsError with the errno to answer.
    """

    @abstractmethod
    def handlers(self) -> dict[int, Handler]:
        """The handlers, by opcode."""


def serve(channel: Channel, operations: Operations, told: Told | None = None) -> None:
    """Serve until the connection ends; ``told`` of each request, its errno and seconds."""
    handlers = operations.handlers()
    with ThreadPoolExecutor(_WORKERS, "ksyms") as pool:
        while (request := channel.receive()) is not None:
            if request.opcode == protocol.INTERRUPT:
                continue
            handler = handlers.get(request.opcode)
            if handler is None:
                _finish(channel, request, errno.ENOSYS, time.monotonic(), told)
                continue
            try:
                _answer(channel, request, handler, False, told)
            except WaitError:
                try:
                    pool.submit(_answer, channel, request, handler, True, told)
                except RuntimeError:  # no more threads can be started
                    _finish(channel, request, errno.EAGAIN, time.monotonic(), told)


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
