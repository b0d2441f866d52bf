"""A line on stderr that shows the progress of work that takes more than a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from .._typing import Final

PATIENCE: Final = 1.0
"""Seconds before the line is shown."""
_PAUSE: Final = 0.1
"""Seconds between two changes of the line, which a network may have to carry."""


class Progress:
    """A counter of bytes, which is shown if stderr is a terminal, after :data:`PATIENCE`.

    The line is ``title: 12.3 MB``. Each change is written over it, and the end erases it.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._done = 0
        self._next = time.monotonic() + PATIENCE
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._write("\r\x1b[K")  # EL (ECMA-48, 8.3.41): erase to the end of the line

    def advance(self, length: int) -> None:
        """Add ``length`` bytes, and update the line if it is time."""
        self._done += length
        now = time.monotonic()
        if now >= self._next and sys.stderr.isatty():
            self._next = now + _PAUSE
            self._shown = True
            self._write(f"\r{self._title}: {self._done / 1e6:.1f} MB")

    def _write(self, text: str) -> None:
        try:  # noqa: SIM105 # as in render.complain
            print(text, end="", file=sys.stderr, flush=True)
        except OSError:
            pass
