"""Words for whom an open is refused: for anybody can ask thousands of times a second."""

from __future__ import annotations

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
        self._pausing = False
        self._counts: Counter[tuple[str, int]] = Counter()
        self._last = 0

    def add(self, name: str, task: int, number: int) -> None:
        """The thread ``task`` was refused an open of ``name``, with this errno."""
        with self._lock:
            if self._pausing:
                self._counts[name, number] += 1
                self._last = task
                return
            self._pausing = True
        self._event(_words({(name, number): 1}, task))
        try:
            begin(self._follow)
        except (ServeError, MemoryError):  # then each is said
            self._pausing = False

    def _follow(self) -> None:
        """Say how many came in each second, until one has none."""
        try:
            while True:
                time.sleep(_PAUSE)
                with self._lock:
                    counts, self._counts = self._counts, Counter()
                    if not counts:
                        self._pausing = False
                        return
                    task = self._last
                self._event(_words(counts, task))
        except MemoryError:
            self._pausing = False


def _words(counts: dict[tuple[str, int], int], task: int) -> str:
    """In words, whom: one, or how many and the last of them."""
    if sum(counts.values()) == 1:
        [(name, number)] = counts
        return f"{name} refused to process {task}: {os.strerror(number)}"
    each = (f"{name} {n} times ({os.strerror(number)})" for (name, number), n in counts.items())
    return f"refused: {', '.join(each)}, the last to process {task}"
