"""SIGINT and SIGTERM: as a descriptor to poll, or as the death of the process."""

from __future__ import annotations

import os
import signal
from types import FrameType

from .._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TypeVar

    T = TypeVar("T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def killable(call: Callable[[], T]) -> T:
    """Return ``call()``; meanwhile SIGINT or SIGTERM kills the process at once.

    A process that waits for a stopped FUSE server is woken by a fatal signal only, not by one
    that has a handler (fs/fuse/dev.c, request_wait_answer). Ignored signals stay ignored.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        return call()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop:
    """A context in which the first SIGINT or SIGTERM makes the descriptor ``fd`` readable.

    So a command can finish its output. A second signal ends the process as usual. Ignored
    signals stay ignored, as SIGINT is in a shell's background jobs.
    """

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, Any] = {}
        self.fd = -1

    def __enter__(self) -> Self:
        self.fd, self._signalled = os.pipe()
        for number in _SIGNALS:
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers of the signals; if one came, exit with its status."""
        self._restore()
        os.close(self.fd)
        os.close(self._signalled)
        if self._number:
            raise SystemExit(128 + self._number)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._number = number
        self._restore()
        os.write(self._signalled, b"\0")

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
