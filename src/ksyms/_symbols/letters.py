"""``.ksyms.letters``: each symbol's letter, told by runs of symbols that have the same."""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import lt

from .. import _note
from .._errors import ImageError
from .._typing import Literal


class Letters:
    """The letters of ``count`` symbols, with the bit of an exact size, by number.

    The runs are searched as they lie in ``data``, until so many were asked for that a byte a
    symbol is made of them.

    Args:
        data: the section, of the image's ``byteorder``.
        wrong: makes the error for what it says.

    Raises:
        ImageError: the runs are not of so many symbols.
    """

    def __init__(
        self,
        data: memoryview,
        byteorder: Literal["little", "big"],
        count: int,
        wrong: Callable[[str], ImageError],
    ) -> None:
        even = len(data) % _note.LETTERS_RUN == 0
        words = _words(data if even else data[:0], byteorder)
        self._begins, self._letters = words[::2], words[1::2]
        self._left = len(self._begins)
        self._all = b""
        whole = self._left > 1 and self._begins[0] == 0 and self._begins[-1] == count
        ordered = all(map(lt, self._begins, self._begins[1:]))
        if not whole or not ordered or max(self._letters) > 0xFF:
            raise wrong(f"{_note.LETTERS} is not of {count} symbols")

    def of(self, number: int) -> int:
        """The letter of a symbol."""
        if self._all:
            return self._all[number]
        self._left -= 1
        if self._left < 0:
            runs = zip(self._begins, self._begins[1:], self._letters)
            self._all = b"".join(
                bytes((letter,)) * (end - begin) for begin, end, letter in runs
            )
            return self._all[number]
        return self._letters[bisect_right(self._begins, number) - 1]


def _words(data: memoryview, byteorder: Literal["little", "big"]) -> Sequence[int]:
    if byteorder == sys.byteorder:
        return data.cast("I")
    return struct.unpack(f"{'<' if byteorder == 'little' else '>'}{len(data) // 4}I", data)
