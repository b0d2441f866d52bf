"""A text of any length in blocks, each cut where no address and no name is."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from .forms import LONGEST

Block = tuple[bytes, bool]
"""A part of a text, and whether it may have addresses."""
BLOCK: Final = 1 << 18
"""Bytes that are worked on together; with more, what is kept of them leaves the caches."""
_ENDS: Final = (b" ", b",", b"\t", b"\0")
"""What a line of more than a block can be cut behind."""
_WORD: Final = re.compile(rb"\w*")


def seekable(fd: int) -> bool:
    """Whether ``fd`` is a file that can be read twice; those of /proc and /sys have no size."""
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def blocks(pieces: Iterable[bytes], pattern: re.Pattern[bytes]) -> Iterator[Block]:
    """The bytes of ``pieces`` to their end, as a :class:`Cutter` cuts them."""
    cutter = Cutter(pattern)
    for piece in pieces:
        yield from cutter.feed(piece)
    yield from cutter.end()


class Cutter:
    """Makes blocks of what comes in any parts.

    A block ends with a line, or in a line of more than :data:`BLOCK` bytes before an address
    or a word. A block that has no addresses is of one long word.

    Args:
        pattern: what :func:`~.forms.addresses` gives.
    """

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._inside = False
        self.begun = b""
        """The line that has begun, where its end has not come."""

    def feed(self, piece: bytes) -> list[Block]:
        """The blocks that end in ``piece``, or that ended before it."""
        found: list[Block] = []
        data = self.begun + piece
        if self._inside:
            word = _WORD.match(data)
            assert word is not None
            found.append((data[: word.end()], False))
            data = data[word.end() :]
            self._inside = not data
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= BLOCK:
            end = _cut(data, self._pattern)
            self._inside = not end
            end = end or len(data)
        if self._inside or end:
            found.append((data[:end], not self._inside))
        self.begun = data[end:]
        return found

    def end(self) -> list[Block]:
        """What is left once no more comes: a line without an end, if there is one."""
        left, self.begun = self.begun, b""
        return [(left, True)] if left else []


def _cut(line: bytes, pattern: re.Pattern[bytes]) -> int:
    """Where a part of a long line can end: behind a word, before an address; 0 for nowhere."""
    late = pattern.search(line, len(line) - LONGEST)
    before = late.start() if late else len(line)
    return max(line.rfind(end, 0, before) for end in _ENDS) + 1
