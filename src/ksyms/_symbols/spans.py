"""The address space as spans that do not overlap, each with the symbol it resolves to.

:meth:`SymbolTable.lookup` finds the symbol of one address by examining the symbols around it.
This module works out the symbols of all addresses at once. After that, each of a million
addresses takes one search. For example, the symbols ``a`` (0x10 to 0x40) and ``b`` (0x20 to
0x30) give::

    start     0x0    0x10    0x20    0x30    0x40
    symbol    none   a       b       a       none
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]

NOBODY: Final = 0
"""The number that stands for no symbol: ELF's symbol 0."""
_LAST: Final = (1 << 64) - 1


class SymbolSpans(NamedTuple):
    """The symbols of a table that name addresses, as columns with one item for each symbol.

    ``number`` (int64) is the index in ``.symtab``; ``value`` (uint64) is the address and
    ``size`` (uint64) is in bytes. Of several symbols at one address, the one with the smallest
    ``order`` is printed; in a snapshot ``order`` is ``st_name``. ``layer`` is for an object
    file, whose sections share addresses: an address resolves to a symbol of the lowest layer
    that has one there. It is None for all other files.
    """

    number: Index
    value: U64
    size: U64
    order: U32 | Index
    layer: Index | None = None


class Spans(NamedTuple):
    """The start of each span (uint64, ascending, from 0), and the symbol it resolves to.

    ``number`` (int64) is the symbol's index in ``.symtab``, or :data:`NOBODY`.
    """

    start: U64
    number: Index

    def find(self, addresses: U64) -> Index:
        """Return the index of the span that holds each address, in the addresses' shape."""
        return np.searchsorted(self.start, addresses, "right") - 1

    def find_one(self, address: int) -> int:
        """Return the index of the span that holds ``address``.

        For an integer that is not an address, return the last index of :attr:`owners`, where
        no symbol is.
        """
        if not 0 <= address <= _LAST:
            return len(self.start)
        return bisect_right(self.start.data, address) - 1

    @property
    def owners(self) -> Index:
        """:attr:`number`, followed by one :data:`NOBODY`."""
        return np.append(self.number, NOBODY)


def make_spans(rows: SymbolSpans) -> Spans:
    """Return the spans of ``rows``: an address resolves to the nearest symbol that it lies in.

    The nearest symbol is the one with the highest start; if several share that start, it is
    the one with the smallest ``order``. A symbol without a size has its own address only.
    """
    # Sort the symbols by value, then by precedence, and find the last address of each.
    layer = np.zeros(len(rows.value), np.int64) if rows.layer is None else rows.layer
    order = np.lexsort((rows.order, layer, rows.value))
    number, value = rows.number[order], rows.value[order]
    size = np.maximum(rows.size[order], 1)
    last = value + np.minimum(size - 1, np.uint64(_LAST) - value)
    if not len(value):
        return Spans(np.zeros(1, np.uint64), np.zeros(1, np.int64))

    # Divide the symbols into groups that do not overlap. ``reach`` is the highest address that
    # a symbol and all before it contain; ``fresh`` is True where a symbol starts above that of
    # the symbols before it.
    reach = np.maximum.accumulate(last)
    fresh = np.ones(len(value), np.bool_)
    fresh[1:] = value[1:] > reach[:-1]
    firsts = np.flatnonzero(fresh)
    counts = np.diff(np.append(firsts, len(value)))

    # If all symbols of a group have one start and one end, the first of them is the symbol of
    # all addresses.
    simple = np.maximum.reduceat(value, firsts) == value[firsts]
    simple &= np.minimum.reduceat(last, firsts) == reach[firsts + counts - 1]
    alone = firsts[simple]
    parts = [_spans_of_disjoint(value[alone], last[alone], number[alone])]

    # In all other groups, find the symbol between any two starts and ends.
    layer = layer[order]
    for first, count in zip(firsts[~simple].tolist(), counts[~simple].tolist()):
        group = slice(first, first + count)
        columns = value[group], last[group], number[group], layer[group]
        parts.append(_spans_of_overlapping(*columns))
    return _merge(parts)


_Part = tuple[U64, Index]
"""The starts of some spans, and the numbers of their symbols."""


def _spans_of_disjoint(value: U64, last: U64, number: Index) -> _Part:
    """Return the spans of symbols that do not overlap, each followed by a gap."""
    ends = last < np.uint64(_LAST)
    starts = np.concatenate([value, last[ends] + np.uint64(1)])
    return starts, np.concatenate([number, np.full(int(ends.sum()), NOBODY)])


def _spans_of_overlapping(value: U64, last: U64, number: Index, layer: Index) -> _Part:
    """Return the spans of symbols that overlap, sorted by value, then by precedence."""
    rows = list(zip(value.tolist(), last.tolist(), number.tolist(), layer.tolist()))
    found = list(_sweep(rows))
    return (
        np.array([start for start, _ in found], np.uint64),
        np.array([number for _, number in found], np.int64),
    )


def _sweep(rows: list[tuple[int, int, int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the start of each span and the number of its symbol, in order of address.

    Each row is a symbol's first address, its last, its number, and its layer; the rows are
    sorted by address, then by precedence. For the symbols 1 (0x10 to 0x3f) and 2 (0x20 to 0x2f)
    the result is::

        (0x10, 1)  (0x20, 2)  (0x30, 1)  (0x40, NOBODY)
    """
    edges = sorted({row[0] for row in rows} | {row[1] + 1 for row in rows})
    # The symbols that have started and may not have ended, as a heap of (layer, -start, index
    # in rows): its first item is the symbol that an address resolves to.
    open_: list[tuple[int, int, int]] = []
    at = 0
    for edge in edges:
        while at < len(rows) and rows[at][0] == edge:
            heapq.heappush(open_, (rows[at][3], -edge, at))
            at += 1
        while open_ and rows[open_[0][2]][1] < edge:
            heapq.heappop(open_)
        if edge <= _LAST:
            yield edge, rows[open_[0][2]][2] if open_ else NOBODY


def _merge(parts: Iterable[_Part]) -> Spans:
    """Return the spans of all ``parts``, sorted by address; the first starts at 0."""
    starts, numbers = zip(*parts)
    start, number = np.concatenate(starts), np.concatenate(numbers)

    # Where one symbol ends and another starts, two spans have one start: keep the one that has
    # a symbol.
    order = np.lexsort((number != NOBODY, start))
    start, number = start[order], number[order]
    kept = np.ones(len(start), np.bool_)
    kept[:-1] = start[1:] != start[:-1]
    start, number = start[kept], number[kept]

    if not start[0]:
        return Spans(start, number)
    return Spans(
        np.concatenate([np.zeros(1, np.uint64), start]),
        np.concatenate([np.zeros(1, np.int64), number]),
    )
