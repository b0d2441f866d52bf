"""Messages on refused opens, at most one a second: any user can cause thousands of refusals."""

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
    """The reports of refused opens: the first at once, then once a second their number.

    Any thread may add a refusal.

    Args:
        event: called with each message.
    """

    def __init__(self, event: Callable[[str], None]) -> None:
        self._event = event
        self._lock = threading.Lock()
        self._due = 0.0
        """Time from which a refusal is reported at once; infinite while a thread reports."""
        self._counts: Counter[tuple[str, int]] = Counter()
        self._last = 0

    def add(self, name: str, task: int, number: int) -> None:
        """Count that the thread ``task`` was refused an open of ``name`` with an errno."""
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
        except (ServeError, MemoryError):  # the next refusal after the pause reports them
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
        """Return the message on the refusals since the last call, and reset the counts."""
        counts, self._counts = self._counts, Counter()
        if counts.total() == 1:
            [(name, number)] = counts
            return f"{name} refused to process {self._last}: {os.strerror(number)}"
        each = (f"{name} {n} times ({os.strerror(e)})" for (name, e), n in counts.items())
        return f"refused: {', '.join(each)}, the last to process {self._last}"
