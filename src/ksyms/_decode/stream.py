"""A text of any length in blocks, each cut where no address and no name is."""

from __future__ import annotations

import os
import re
import select
import stat
from collections.abc import Iterator
from typing import Final

from .forms import LONGEST

BLOCK: Final = 1 << 22
"""Bytes that are looked at together: what one block tells counts for all of it."""
_QUIET: Final = 1.0
"""Seconds after which what came through a pipe is taken for all there is for now.

Long for whoever watches a log, short for a program that is slow: what it writes later may
tell which boot all of it is of.
"""
_ENDS: Final = (b" ", b",", b"\t", b"\0")
"""What a line of more than a block can be cut behind."""
_WORD: Final = re.compile(rb"\w*")


def blocks(fd: int, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The bytes of ``fd`` to its end; with each block whether it may have addresses.

    A block ends with a line, or in a line of more than :data:`BLOCK` bytes before an address
    or a word. A block that has none is of one long word.

    Args:
        fd: a descriptor, a pipe or a terminal too, that is read from where it is.
        pattern: what :func:`~.forms.addresses` gives.

    Raises:
        OSError: it cannot be read.
    """
    waits = not seekable(fd)
    carry, inside = b"", False
    while data := _gathered(fd, waits):
        data = carry + data
        if inside:
            word = _WORD.match(data)
            assert word is not None
            yield data[: word.end()], False
            data = data[word.end() :]
            inside = not data
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= BLOCK:
            end = _cut(data, pattern)
            inside = not end
            end = end or len(data)
        if inside or end:
            yield data[:end], not inside
        carry = data[end:]
    if carry:
        yield carry, True


def seekable(fd: int) -> bool:
    """Whether ``fd`` is a file that can be read twice."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _cut(line: bytes, pattern: re.Pattern[bytes]) -> int:
    """Where a part of a long line can end: behind a word, before an address; 0 for nowhere."""
    late = pattern.search(line, len(line) - LONGEST)
    before = late.start() if late else len(line)
    return max(line.rfind(end, 0, before) for end in _ENDS) + 1


def _gathered(fd: int, waits: bool) -> bytes:
    """As much as is there, a block at most; of a pipe until it is quiet for a moment."""
    if not waits:
        return os.read(fd, BLOCK)
    parts = [os.read(fd, BLOCK)]
    left = BLOCK - len(parts[0])
    while parts[-1] and left > 0 and select.select([fd], [], [], _QUIET)[0]:
        parts.append(os.read(fd, left))
        left -= len(parts[-1])
    return b"".join(parts)
