"""Messages about refused opens, at most one a second: any user can cause thousands of them."""

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
    """The reports of refused opens: the first at once, then once a second how many there were.

    For example, of 300 refusals within 0.1 seconds and one a minute later::

        ksyms refused to process 812: Permission denied                               at once
        refused: ksyms 299 times (Permission denied), the last to process 812    after 1 s
        ksyms refused to process 977: Permission denied                               at once

    Any thread may add a refusal.

    Args:
        event: called with each message.
    """

    def __init__(self, event: Callable[[str], None]) -> None:
        self._event = event
        self._lock = threading.Lock()
        self._due = 0.0
        """Time (monotonic) from which a refusal is reported at once.

        It is infinite while a thread reports refusals.
        """
        self._counts: Counter[tuple[str, int]] = Counter()
        """The number of refused opens since the last message, by name and errno."""
        self._last = 0
        """The id of the thread that was refused last."""

    def add(self, name: str, task: int, number: int) -> None:
        """Count a refused open of ``name`` by the thread ``task``; ``number`` is its errno."""
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
        except (ServeError, MemoryError):  # no thread: the next refusal reports the rest
            self._due = time.monotonic() + _PAUSE

    def _follow(self) -> None:
        """Report the refusals of each second, until a second has none."""
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
        """Return the message about the refusals since the last call, and reset the counts."""
        counts, self._counts = self._counts, Counter()
        if counts.total() == 1:
            [(name, number)] = counts
            return f"{name} refused to process {self._last}: {os.strerror(number)}"
        each = (f"{name} {n} times ({os.strerror(e)})" for (name, e), n in counts.items())
        return f"refused: {', '.join(each)}, the last to process {self._last}"
