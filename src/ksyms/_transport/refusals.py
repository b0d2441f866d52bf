"""Words for whom an open is refused: for anybody can ask thousands of times a second."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from .._errors import ServeError
from .._threads import begin

_PAUSE: Final = 1.0  # seconds between two lines


class Refusals:
    """Says who was refused: the first at once, of those that follow once a second how many.

    Any thread may add one.

    Args:
        event: told in words.
    """

    def __init__(self, event: Callable[[str], None]) -> None:
        self._event = event
        self._lock = threading.Lock()
        self._due = 0.0
        """When the next may be said at once; never, while a thread says what follows."""
        self._counts: Counter[tuple[str, int]] = Counter()
        self._last = 0

    def add(self, name: str, task: int, number: int) -> None:
        """The thread ``task`` was refused an open of ``name``, with this errno."""
        with self._lock:
            self._counts[name, number] += 1
            self._last = task
            if time.monotonic() < self._due:
                return
            self._due = math.inf
            words = self._taken()
        self._event(words)
        try:
            begin(self._follow)
        except (ServeError, MemoryError):  # what follows is said with who is refused then
            self._due = time.monotonic() + _PAUSE

    def _follow(self) -> None:
        """Say how many came in each second, until one has none."""
        try:
            while True:
                time.sleep(_PAUSE)
                with self._lock:
                    if not self._counts:
                        self._due = 0
                        return
                    words = self._taken()
                self._event(words)
        except MemoryError:
            self._due = 0

    def _taken(self) -> str:
        """In words, who was refused since this was asked last: one, or how many."""
        counts, self._counts = self._counts, Counter()
        if counts.total() == 1:
            [(name, number)] = counts
            return f"{name} refused to process {self._last}: {os.strerror(number)}"
        each = (f"{name} {n} times ({os.strerror(e)})" for (name, e), n in counts.items())
        return f"refused: {', '.join(each)}, the last to process {self._last}"
