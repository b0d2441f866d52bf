"""The labels of addresses as bytes, in one buffer with the block that they are compared with.

A label has three parts, each of which is stored once and not joined to the others::

    name          hex        tail
    "vfs_open"    "+0x2e"    "/0xf0 [xfs]"

Names are read where they are in the string table. All parts are in the same buffer as the
block, so numpy can compare a part with the text, or copy it, by two offsets and a length::

    string table | tails | zeros | block | zeros | offsets, one a row | zeros
    0                            _text_at        _hex_at
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .. import _byte_gather as byte_gather
from .._symbols.spans import NOBODY
from . import forms

if TYPE_CHECKING:
    from .._arrays import U8, Index, Mask
    from .._symbols.spans import U64
    from .names import SymbolNames

_PAD: Final = 2 * byte_gather.WINDOW
"""Number of zeros after the block, and after the other parts of the buffer."""
_TAILS: Final = 1 << 20
"""Bytes for the tails: sizes and modules. A kernel has some thousand different ones."""
_ROW: Final = 24
"""Bytes for an offset: ``+0x`` and up to 16 digits."""
_SHORTEST: Final = 8
"""Least number of bytes that a text has for each address."""
_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_IS_NAME: Final = np.zeros(256, np.bool_)
"""True for the characters of names."""
_IS_NAME[[byte for byte in range(256) if forms.IS_NAME.fullmatch(b"_%c" % byte)]] = True
_BEGINS_NAME: Final = np.zeros(256, np.bool_)
"""True for the characters that names begin with."""
_BEGINS_NAME[[byte for byte in range(256) if forms.IS_NAME.fullmatch(b"%c" % byte)]] = True
_IS_NUMBER: Final = re.compile(rb"[0-9a-fA-F]+")
_STRANGE: Final = 0
"""The number of a tail with which no frame is usual."""
_NO_SECTION: Final = 0xFF00
"""The first ``st_shndx`` that is not the number of a section (SHN_LORESERVE)."""


class Labels(NamedTuple):
    """Labels in columns: the offsets of their parts in the buffer, and the lengths in bytes."""

    name: Index
    name_length: Index
    hex: Index
    hex_length: Index
    tail: Index
    tail_length: Index

    def of(self, rows: Index) -> Labels:
        """Return the labels with these indices."""
        return Labels(*(column[rows] for column in self))


class Words:
    """The buffer with the labels of symbols and one block of a text."""

    def __init__(self, names: SymbolNames) -> None:
        self._names, self._table = names, names.table
        strings = np.frombuffer(self._table.strings, np.uint8)
        self._text_at = len(strings) + _TAILS + _PAD
        self._hex_at = self._text_at
        self._buffer = np.zeros(self._text_at, np.uint8)
        self._buffer[: len(strings)] = strings
        self._windows = byte_gather.windows_of(self._buffer)
        self._ends = np.flatnonzero(~_IS_NAME[strings])
        """The offsets of bytes that are in no name, such as the zero at the end of each."""
        self._tails: dict[tuple[int, str | None], int] = {}
        """The numbers of the tails by size and module; offsets and lengths follow."""
        self._places, self._lengths = [len(strings)], [0]

        self._rows = self._table.rows
        self._values = self._rows["st_value"].astype(np.uint64)
        count = len(self._rows)
        self.usual: Mask = np.zeros(count, np.bool_)
        """For each symbol's number True if its frames can be usual: its name is simple."""
        self.kernel: Mask = np.zeros(count, np.bool_)
        """For each symbol's number True if it is the kernel's own and not a module's."""
        self._starts, self._name_lengths = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._tail_of = np.zeros(count, np.int64)
        self._filled = np.zeros(count, np.bool_)
        self._filled[NOBODY] = True

    def take_in(self, text: bytes) -> U8:
        """Put a block into the buffer; return its bytes there, with the zeros after them."""
        size = len(text)
        self._hex_at = self._text_at + size + _PAD
        most = self._hex_at + _ROW * (size // _SHORTEST) + _PAD
        if most > len(self._buffer):
            grown = np.zeros(most, np.uint8)
            grown[: self._text_at] = self._buffer[: self._text_at]
            self._buffer, self._windows = grown, byte_gather.windows_of(grown)
        data = self._buffer[self._text_at : self._hex_at]
        data[:size] = np.frombuffer(text, np.uint8)
        data[size:] = 0
        return data

    def locate(self, addresses: U64) -> tuple[Index, U64]:
        """Return the symbol's number, and the offset in it in bytes, for each file address."""
        numbers = self._table.numbers(addresses)
        fresh = np.sort(numbers[~self._filled[numbers]])
        if len(fresh):
            self._fill(fresh[np.diff(fresh, prepend=-1) != 0])
        return numbers, addresses - self._values[numbers]

    def labels(self, numbers: Index, offsets: U64) -> Labels:
        """Return the labels of symbols with offsets; they replace those of the last call."""
        row = self._hex_at + _ROW * np.arange(len(offsets))
        length = self._write(offsets)
        tail = self._tail_of[numbers]
        places, lengths = np.array(self._places), np.array(self._lengths)
        name, name_length = self._starts[numbers], self._name_lengths[numbers]
        return Labels(name, name_length, row, length, places[tail], lengths[tail])

    def _write(self, offsets: U64) -> Index:
        """Write each offset as ``+0x2e`` into a row of the buffer; return the lengths."""
        rows = self._buffer[self._hex_at :][: _ROW * len(offsets)].reshape(-1, _ROW)
        rows[:, 0], rows[:, 1], rows[:, 2] = b"+0x"
        values = offsets.astype(np.int64)
        digits = np.ones(len(values), np.int64)
        most = len(f"{values.max(initial=0):x}")
        for number in range(1, most):
            digits += values >> 4 * number > 0
        for number in range(most):
            shift = np.maximum(digits - 1 - number, 0) << 2
            rows[:, 3 + number] = _DIGITS[values >> shift & 15]
        return digits + 3

    def equal(self, places: Index, words: Index, length: Index) -> Mask:
        """Return a mask: True if the block has the same bytes at a place as a part of a label.

        ``places`` are offsets in the block, ``words`` in the buffer; ``length`` is in bytes.
        """
        return byte_gather.equal_strings(self._windows, places + self._text_at, words, length)

    def inserted(self, text: bytes, places: Index, cut: Index, labels: Labels) -> bytes:
        """Return the block with a blank and a label inserted at each of ``places``.

        ``cut`` are the numbers of bytes that each replaces. The result is joined from rows of
        four strings: a piece of the text, a blank with a name, an offset, and a tail.
        """
        begins = np.append(0, places + cut)
        ends = np.append(places, len(text))
        starts = np.zeros((len(begins), 4), np.int64)
        length = np.zeros((len(begins), 4), np.int64)
        starts[:, 0], length[:, 0] = begins + self._text_at, ends - begins
        # Each name is copied with the byte before it, which is then overwritten by a blank.
        starts[:-1, 1], length[:-1, 1] = labels.name - 1, labels.name_length + 1
        starts[:-1, 2], length[:-1, 2] = labels.hex, labels.hex_length
        starts[:-1, 3], length[:-1, 3] = labels.tail, labels.tail_length
        out = byte_gather.joined(self._windows, starts.ravel(), length.ravel())
        out[np.cumsum(length.sum(axis=1))[:-1] - length[:-1, 1:].sum(axis=1)] = ord(" ")
        return out.tobytes()

    def _fill(self, numbers: Index) -> None:
        """Find the names and tails of symbols; ``numbers`` has each symbol once."""
        self._filled[numbers] = True
        rows = self._rows[numbers]
        starts, places, sizes = (
            rows[field].astype(np.int64) for field in ("st_name", "st_shndx", "st_size")
        )
        ends = self._ends.take(np.searchsorted(self._ends, starts), mode="clip")
        length = ends - starts
        self._starts[numbers], self._name_lengths[numbers] = starts, length
        self.usual[numbers] = self._is_name(starts, length)
        if self._table.shortens_names:
            self._shorten(numbers)

        # In a snapshot symbols of one size and section have the same tail, so it is made once
        # for all of them. Any other symbol gets a negative number, and so a tail of its own.
        like = sizes * (_NO_SECTION << 1) + places
        alike = (sizes > 0) & (places > 0) & (places < _NO_SECTION) & bool(self._table.facts)
        like[~alike] = -1 - np.flatnonzero(~alike)
        _, first, which = np.unique(like, return_index=True, return_inverse=True)
        self._set_tails(numbers, numbers[first], which.ravel())

    def _is_name(self, starts: Index, length: Index) -> Mask:
        """Return a mask: True for strings that the table of forms reads as names.

        It reads eight or sixteen hexadecimal digits as an address.
        """
        good = (length > 0) & (length <= forms.LONGEST_NAME)
        good &= (self._buffer[starts + length] == 0) & _BEGINS_NAME[self._buffer[starts]]
        for row in np.flatnonzero((length == 8) | (length == 16)).tolist():
            name = self._buffer[starts[row] :][: length[row]].tobytes()
            good[row] &= not _IS_NUMBER.fullmatch(name)
        return good

    def _shorten(self, numbers: Index) -> None:
        """Shorten names to what the kernel prints, if that is their beginning.

        With any other printed name the frames of a symbol are not usual.
        """
        names, _, _ = self._table.briefly(numbers)
        for number, name in zip(numbers.tolist(), names):
            printed = self._table.printed_name(name)
            self._name_lengths[number] = len(printed)
            self.usual[number] &= name.startswith(printed)

    def _set_tails(self, numbers: Index, some: Index, which: Index) -> None:
        """Set the tails of symbols: symbol ``numbers[i]`` has that of ``some[which[i]]``."""
        _, sizes, modules = self._table.briefly(some)
        tails = np.array([self._tail(*each) for each in zip(sizes, modules)])[which]
        self._tail_of[numbers] = tails
        self.usual[numbers] &= tails != _STRANGE
        self.kernel[numbers] = np.array([module is None for module in modules])[which]

    def _tail(self, size: int, module: str | None) -> int:
        """Return the number of a tail; :data:`_STRANGE` if no frame with it can be usual.

        That is if a module's name is not a plain word, or there is no room for more tails.
        """
        number = self._tails.get((size, module))
        if number is None:
            tail = self._names.tail(size, module)
            begin = self._places[-1] + self._lengths[-1]
            number = _STRANGE
            if forms.IS_TAIL.fullmatch(tail) and begin + len(tail) <= self._text_at - _PAD:
                number = len(self._places)
                self._places.append(begin)
                self._lengths.append(len(tail))
                self._buffer[begin : begin + len(tail)] = np.frombuffer(tail, np.uint8)
            self._tails[size, module] = number
        return number
