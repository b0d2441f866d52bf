"""SIGINT and SIGTERM as something to wait for: what was begun is put out, and then it ends."""

from __future__ import annotations

import os
import signal
from types import FrameType

from .._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class Stop:
    """While it is entered, the first signal makes ``fd`` readable; the next is as before.

    A signal that is ignored, as a shell's background jobs ignore SIGINT, stays so.
    """

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, Any] = {}
        self.fd = -1

    def __enter__(self) -> Self:
        self.fd, self._signalled = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM):
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Let signals be as before; of one that came, end with its status."""
        self._restore()
        os.close(self.fd)
        os.close(self._signalled)
        if self._number:
            raise SystemExit(128 + self._number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number
        self._restore()
        os.write(self._signalled, b"\0")

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
