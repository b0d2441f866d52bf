"""The letter of each symbol, from the runs of symbols with one letter in ``.ksyms.letters``."""

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
    """The letters of ``count`` symbols by number, each with a bit that marks an exact size.

    The runs are searched as they are in ``data``. After as many lookups as there are runs, they
    are expanded to one byte for each symbol. For example, the letters t, t, T, T, d of symbols
    1 to 5 are stored as five runs::

        first      0    1    3    5    6     symbol 0 has no letter
        letter     0    t    T    d    0     the last run only has ``count``, 6

    Args:
        data: the bytes of the section.
        byteorder: the image's byte order.
        count: the number of symbols, with symbol 0.
        wrong: returns the error for a defect that is described in words.

    Raises:
        ImageError: the runs are not of ``count`` symbols.
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
        self._left = len(self._begins)  # lookups until the runs are expanded
        self._all = b""

        whole = self._left > 1 and self._begins[0] == 0 and self._begins[-1] == count
        ordered = all(map(lt, self._begins, self._begins[1:]))
        if not whole or not ordered or max(self._letters) > 0xFF:
            raise wrong(f"{_note.LETTERS} is not of {count} symbols")

    def of(self, number: int) -> int:
        """Return the letter of a symbol, with the bit :data:`_note.EXACT`; 0 for no letter."""
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
    """Return the 32-bit words in ``data``; a view if they have this machine's byte order."""
    if byteorder == sys.byteorder:
        return data.cast("I")
    return struct.unpack(f"{'<' if byteorder == 'little' else '>'}{len(data) // 4}I", data)
