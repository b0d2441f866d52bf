"""Cut a text of any length into blocks, but never within an address or a name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from .forms import LONGEST

Block = tuple[bytes, bool]
"""A part of a text, and True if it can have addresses."""
BLOCK: Final = 1 << 18
"""Bytes that are decoded together; the data of larger blocks would not fit CPU caches."""
_ENDS: Final = (b" ", b",", b"\t", b"\0")
"""The characters after which a line that is longer than a block can be cut."""
_WORD: Final = re.compile(rb"\w*")


def seekable(fd: int) -> bool:
    """Return True if ``fd`` is a regular file that can be read twice.

    Files of /proc and /sys cannot; their size is 0.
    """
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def blocks(pieces: Iterable[bytes], pattern: re.Pattern[bytes]) -> Iterator[Block]:
    """Yield the bytes of ``pieces`` in the blocks of a :class:`Cutter`."""
    cutter = Cutter(pattern)
    for piece in pieces:
        yield from cutter.feed(piece)
    yield from cutter.end()


class Cutter:
    """A cutter of a text, which arrives in pieces of any size, into blocks.

    A block ends with the end of a line. A line of more than :data:`BLOCK` bytes is cut after a
    blank or the like (``_ENDS``), before any address near its end. A word of more than that
    becomes blocks of its own, which are marked as without addresses.

    Args:
        pattern: the pattern of addresses from :func:`~.forms.addresses`.
    """

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self._inside = False
        self.begun = b""
        """The incomplete line at the end of the text so far."""

    def feed(self, piece: bytes) -> list[Block]:
        """Return the blocks that are complete with ``piece``."""
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
        """Return the last block at the end of the text: a line without a line feed, if any."""
        left, self.begun = self.begun, b""
        return [(left, True)] if left else []


def _cut(line: bytes, pattern: re.Pattern[bytes]) -> int:
    """Return the offset at which to cut a long line; 0 if there is no such offset.

    It is after the last of ``_ENDS``. If an address begins near the line's end, it is before
    that address: the rest of its annotation may not have arrived yet.
    """
    late = pattern.search(line, len(line) - LONGEST)
    before = late.start() if late else len(line)
    return max(line.rfind(end, 0, before) for end in _ENDS) + 1
