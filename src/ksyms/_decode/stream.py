"""A text of any length in blocks, each cut where no address and no name is."""

from __future__ import annotations

import os
import re
import select
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from .forms import LONGEST

BLOCK: Final = 1 << 18
"""Bytes that are worked on together; with more, what is kept of them leaves the caches."""
AHEAD: Final = 1 << 22
"""Bytes of a pipe that are looked at first: what tells the boot can come at an oops's end."""
_QUIET: Final = 1.0
"""Seconds after which what came through a pipe is taken for all there is for now.

Long for whoever watches a log, short for a program that is slow: what it writes later may
tell which boot all of it is of.
"""
_ENDS: Final = (b" ", b",", b"\t", b"\0")
"""What a line of more than a block can be cut behind."""
_WORD: Final = re.compile(rb"\w*")


def seekable(fd: int) -> bool:
    """Whether ``fd`` is a file that can be read twice."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def beginning(fd: int) -> bytes:
    """The first :data:`AHEAD` bytes of a pipe, or what came until it was quiet for a moment.

    Raises:
        OSError: it cannot be read.
    """
    parts = [os.read(fd, AHEAD)]
    left = AHEAD - len(parts[0])
    while parts[-1] and left > 0 and select.select([fd], [], [], _QUIET)[0]:
        parts.append(os.read(fd, left))
        left -= len(parts[-1])
    return b"".join(parts)


def pieces(fd: int, begun: bytes = b"") -> Iterator[bytes]:
    """The bytes of ``fd`` to its end, as they come; ``begun`` was read of it already.

    Raises:
        OSError: it cannot be read.
    """
    yield from cut(begun)
    while data := os.read(fd, BLOCK):
        yield data


def cut(data: bytes) -> Iterator[bytes]:
    """``data`` in parts of :data:`BLOCK` bytes."""
    return (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))


def blocks(pieces: Iterable[bytes], pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The bytes of ``pieces`` to their end; with each block whether it may have addresses.

    A block ends with a line, or in a line of more than :data:`BLOCK` bytes before an address
    or a word. A block that has none is of one long word.

    Args:
        pieces: the text, in whatever parts it comes.
        pattern: what :func:`~.forms.addresses` gives.
    """
    carry, inside = b"", False
    for piece in pieces:
        data = carry + piece
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


def _cut(line: bytes, pattern: re.Pattern[bytes]) -> int:
    """Where a part of a long line can end: behind a word, before an address; 0 for nowhere."""
    late = pattern.search(line, len(line) - LONGEST)
    before = late.start() if late else len(line)
    return max(line.rfind(end, 0, before) for end in _ENDS) + 1
