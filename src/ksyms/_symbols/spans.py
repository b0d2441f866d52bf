"""The address space as spans that do not overlap, each with the one symbol that answers.

What :meth:`SymbolTable.lookup` finds for one address by looking at the symbols around it is
worked out here for all of them at once, so that a million addresses are one search each.
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
"""The symbol of a span that none answers for: ELF's symbol 0."""
_LAST: Final = (1 << 64) - 1


class Rows(NamedTuple):
    """Those symbols of a table that answer for addresses, one item of each array a symbol.

    ``number`` (int64) is the place in ``.symtab``; ``value`` and ``size`` (uint64) are bytes.
    ``order`` is the smaller, the earlier one is printed of those at one address: ``st_name`` in
    a snapshot. ``layer`` is for sections that lie at one place: the smallest answers.
    """

    number: Index
    value: U64
    size: U64
    order: U32 | Index
    layer: Index | None = None


class Spans(NamedTuple):
    """Where each span begins (uint64, ascending, from 0), and who answers in it.

    ``number`` (int64) is the symbol's place in ``.symtab``, or :data:`NOBODY`.
    """

    start: U64
    number: Index

    def places(self, addresses: U64) -> Index:
        """The place of the span that holds each of ``addresses``, in their order."""
        return np.searchsorted(self.start, addresses, "right") - 1

    def one(self, address: int) -> int:
        """The place of the span that holds ``address``; the last of :attr:`owners` if none."""
        if not 0 <= address <= _LAST:
            return len(self.start)
        return bisect_right(self.start.data, address) - 1

    @property
    def owners(self) -> Index:
        """:attr:`number`, and behind it :data:`NOBODY`."""
        return np.append(self.number, NOBODY)


def spans(rows: Rows) -> Spans:
    """The spans of ``rows``: of the symbols that an address lies in, the nearest answers.

    The nearest begins last; of those that begin together, the smallest ``order`` is printed.
    One without a size answers for its own address.
    """
    layer = np.zeros(len(rows.value), np.int64) if rows.layer is None else rows.layer
    order = np.lexsort((rows.order, layer, rows.value))
    number, value = rows.number[order], rows.value[order]
    size = np.maximum(rows.size[order], 1)
    last = value + np.minimum(size - 1, np.uint64(_LAST) - value)
    if not len(value):
        return Spans(np.zeros(1, np.uint64), np.zeros(1, np.int64))
    reach = np.maximum.accumulate(last)
    fresh = np.ones(len(value), np.bool_)  # begins where all before have ended
    fresh[1:] = value[1:] > reach[:-1]
    firsts = np.flatnonzero(fresh)
    counts = np.diff(np.append(firsts, len(value)))
    # Symbols that share one place and one size: the first of them answers for all of it.
    plain = np.maximum.reduceat(value, firsts) == value[firsts]
    plain &= np.minimum.reduceat(last, firsts) == reach[firsts + counts - 1]
    parts = [_gapped(value[firsts[plain]], last[firsts[plain]], number[firsts[plain]])]
    for first, count in zip(firsts[~plain].tolist(), counts[~plain].tolist()):
        several = slice(first, first + count)
        parts.append(
            _nested(value[several], last[several], number[several], layer[order[several]])
        )
    return _joined(parts)


_Part = tuple[U64, Index]


def _gapped(value: U64, last: U64, number: Index) -> _Part:
    """Spans that stand apart, and after each the one of nobody."""
    ends = last < np.uint64(_LAST)
    starts = np.concatenate([value, last[ends] + np.uint64(1)])
    return starts, np.concatenate([number, np.full(int(ends.sum()), NOBODY)])


def _nested(value: U64, last: U64, number: Index, layer: Index) -> _Part:
    """The spans of symbols that lie in each other, by value and what is printed first."""
    rows = list(zip(value.tolist(), last.tolist(), number.tolist(), layer.tolist()))
    found = list(_swept(rows))
    return (
        np.array([start for start, _ in found], np.uint64),
        np.array([who for _, who in found], np.int64),
    )


def _swept(rows: list[tuple[int, int, int, int]]) -> Iterator[tuple[int, int]]:
    edges = sorted({row[0] for row in rows} | {row[1] + 1 for row in rows})
    open_: list[tuple[int, int, int]] = []  # by what answers: (layer, -start, place in rows)
    at = 0
    for edge in edges:
        while at < len(rows) and rows[at][0] == edge:
            heapq.heappush(open_, (rows[at][3], -edge, at))
            at += 1
        while open_ and rows[open_[0][2]][1] < edge:
            heapq.heappop(open_)
        if edge <= _LAST:
            yield edge, rows[open_[0][2]][2] if open_ else NOBODY


def _joined(parts: Iterable[_Part]) -> Spans:
    starts, numbers = zip(*parts)
    start, number = np.concatenate(starts), np.concatenate(numbers)
    # Where one ends and the next begins at the same address, the one that begins counts.
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
