"""Read a text from a file, a pipe or a terminal, in the parts in which it arrives."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Iterator

from .encoded import Encoded
from .stream import BLOCK


class Incoming:
    """The text that arrives from ``fd``, unpacked and in UTF-8.

    Args:
        fd: the descriptor to read.
        stop: a descriptor that becomes readable when the reader shall no longer wait; input
            that has arrived by then is still read.
    """

    def __init__(self, fd: int, stop: int | None = None) -> None:
        self._fd, self._stop = fd, stop
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)
        if stop is not None:
            self._ready.register(stop, select.POLLIN)
        self._text = Encoded()
        self._coming: Iterator[bytes] = iter(())
        self._last = self._over = False
        self.failure: OSError | ValueError | None = None
        """The error that ended the text early, or None."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the text to its end."""
        while data := self.read():
            yield data

    def read(self, until: float | None = None) -> bytes | None:
        """Return the next part of the text: b"" at the end, None if none arrived in time.

        Args:
            until: the time.monotonic() at which to stop waiting; None waits without limit.
        """
        try:
            while not self._over:
                data = next(self._coming, None)
                if data:
                    return data
                if data is None and not self._over:
                    if not self._waits(until):
                        return None
                    self._coming = self._come()
        except (OSError, ValueError) as error:
            self._over, self.failure = True, error
        return b""

    def _waits(self, until: float | None) -> bool:
        """Wait for input until ``until``; return False if neither it nor ``stop`` came."""
        if self._last:
            self._over = True
            return True
        left = None
        if until is not None:
            left = math.ceil(max(until - time.monotonic(), 0) * 1000)
        ready = [fd for fd, _ in self._ready.poll(left)]
        self._last = self._stop in ready
        self._over = self._last and self._fd not in ready
        return bool(ready)

    def _come(self) -> Iterator[bytes]:
        """Read once and yield the text of that; at the end of input, the rest of the text."""
        if self._over:
            return
        if data := os.read(self._fd, BLOCK):
            yield from self._text.feed(data)
            return
        yield from self._text.end()
        self._over = True
