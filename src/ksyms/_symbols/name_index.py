"""An index of all names by their hashes, made in the time of a few scans of the strings.

Hashes can collide: the caller must compare the names of the symbols that are found.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from . import name_hashes

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]

_BLOCK: Final = 1 << 14
"""The number of names that are hashed at once: their hashes stay in a processor's cache."""


class NameHashes(NamedTuple):
    """The hashes of all names, each with the number of its symbol.

    ``keys`` (uint64, ascending) has a key for each symbol: the hash of its name, in which the
    symbol's number replaces the lowest ``bits`` bits::

        bit 63           shift                bits              0
            |      n       |   rest of hash    | symbol number  |

    ``begins`` says where to search: the keys whose bits from ``shift`` up are ``n`` are
    ``keys[begins[n]:begins[n + 1]]``.
    """

    keys: memoryview
    bits: int
    begins: memoryview
    shift: int

    def find(self, name: bytes) -> list[int]:
        """Return the numbers of all symbols that may be called ``name``, ascending."""
        keys, bits, begins, shift = self
        wanted = name_hashes.hash_of(name) >> bits << bits
        first = wanted >> shift
        at = bisect_left(keys, wanted, begins[first], begins[first + 1])
        found = []
        while at < len(keys) and (number := keys[at] - wanted) >> bits == 0:
            found.append(number)
            at += 1
        return found


def index_names(strings: memoryview, starts: npt.NDArray[np.uint32]) -> NameHashes:
    """Return the index of the symbols whose names start at ``starts``, offsets in ``strings``.

    A start outside of the strings, and a name without an end, get an arbitrary hash.
    """
    before = name_hashes.SIZE
    text = np.frombuffer(bytes(before) + strings, np.uint8)
    tails = name_hashes.tails_of(text)
    bits = len(starts).bit_length()
    keys = np.empty(len(starts), np.uint64)
    ends = _Ends(text)
    for first in range(0, len(starts), _BLOCK):
        block = slice(first, first + _BLOCK)
        start = np.minimum(starts[block].astype(np.int64), len(strings))
        end = ends.find(start + before) - before
        hashes = name_hashes.hashes_of(tails[end], end - start)
        hashes >>= np.uint64(bits)
        hashes <<= np.uint64(bits)
        keys[block] = hashes | np.arange(first, first + len(start), dtype=np.uint64)

    keys.sort()
    shift = 64 - bits  # so that each n has about one key
    counts = np.bincount((keys >> np.uint64(shift)).astype(np.int64), minlength=1 << bits)
    begins = np.zeros((1 << bits) + 1, np.int32)
    np.cumsum(counts, out=begins[1:])
    return NameHashes(keys.data, bits, begins.data, shift)


class _Ends:
    """A search for the ends of strings in ``text``, by a bitmap of its bytes.

    The bitmap has one bit for each byte, which is set for a NUL.
    """

    def __init__(self, text: U8) -> None:
        self._text = text
        bits = np.append(~np.packbits(text, bitorder="little"), np.full(8, 0xFF, np.uint8))
        self._words = np.ndarray(len(bits) - 7, "<u8", bits, 0, (1,))

    def find(self, start: Index, tries: int = 8) -> Index:
        """Return the offset of the first NUL at or after each of ``start``.

        If there is none, it is the length of the text. For example, at the start of ``vfs`` and
        a NUL the bitmap is ``...1000`` in binary. Bit 3 is the lowest that is set, so the end
        is ``start + 3``.

        ``tries`` is the number of further words that are searched for the end of a long string.
        """
        # A word starts at a whole byte of the bitmap, up to 7 bits before the bit of ``start``.
        # So it has at least 57 bits from ``start`` on.
        word = self._words[start >> 3] >> (start & 7).astype(np.uint64)
        word &= -word  # the lowest bit that is set, a power of two
        # Convert that power of two to a double. Its upper 12 bits are its exponent plus 1023,
        # and the exponent is the number of that bit.
        end: Index = start + (word.astype(np.float64).view(np.int64) >> 52) - 1023
        far = np.flatnonzero(word == 0)
        if len(far) and tries:
            end[far] = self.find(start[far] + 56, tries - 1)
        elif len(far):
            end[far] = self._nuls[np.searchsorted(self._nuls, start[far])]
        return end

    @cached_property
    def _nuls(self) -> Index:
        """The offsets of all NULs, for strings that are longer than many words."""
        return np.append(np.flatnonzero(self._text == 0), len(self._text))
