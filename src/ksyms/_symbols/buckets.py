"""A table of spans by parts of the address: it takes a tenth of the time of a bisection.

A kernel and its modules lie within 4 GiB, so an address, counted from the first span's start,
has 32 bits: a page of 64 KiB, a step of 16 bytes in it, and a byte of the step::

    bit  31            16 15           4 3     0
         |     page      |    step      | byte |

For a page in which spans start, the table has a row: for each step, the span that holds the
step's first byte. For any other page it has the one span that holds all of the page. The span
of an address is the one in the table, or one of the few that start within the same step.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .spans import NOBODY, U64, Index, Spans

REACH: Final = 1 << 32
"""Limit of the distance from the first span's start to the last one's, in bytes."""
_PAGE: Final = 16
_STEP: Final = 4
_PAGES: Final = 1 << 16
_MOST: Final = 1 << 11
_SPANS: Final = 1 << 7
"""Limit of the table's rows, of 16 KiB each: :data:`_MOST`, or one for this many spans.

A kernel and its modules need one for 300.
"""
_ROW: Final = 1 << (_PAGE - _STEP)
"""Steps of a page: a row of the table has a span for each."""
_BLOCK: Final = 1 << 15
"""Addresses that are looked up at once: few enough to stay in a cache."""


class Buckets:
    """The indices of ``spans`` by the addresses that they hold.

    Raises:
        ValueError: the spans reach over :data:`REACH` or more, or start in too many pages, or
            the first or the last of them has a symbol.
    """

    def __init__(self, spans: Spans) -> None:
        start = spans.start[1:]
        if not len(start) or int(start[-1]) - int(start[0]) >= REACH - 1:
            raise ValueError("the spans reach too far")
        if spans.number[0] != NOBODY or spans.number[-1] != NOBODY:
            raise ValueError("the first or the last span has a symbol")
        self._base = start[0]
        starts = (start - self._base).astype(np.uint32)
        pages = np.arange(_PAGES, dtype=np.uint32) << np.uint32(_PAGE)
        full = np.unique(starts >> np.uint32(_PAGE))
        if len(full) > max(_MOST, len(starts) // _SPANS):
            raise ValueError("the spans begin in too many pages")

        steps = np.arange(_ROW, dtype=np.uint32) << np.uint32(_STEP)
        rows = (pages[full][:, None] + steps[None, :]).ravel()
        whole = np.searchsorted(starts, pages, "right")
        # How many spans start at a row's step or before it, by a count of those at each step.
        later = np.searchsorted(rows, starts)
        begin = np.cumsum(np.bincount(later, minlength=len(rows))[: len(rows)])
        self._table = np.concatenate([whole, begin]).astype(np.int32)
        self._row = np.arange(_PAGES)
        self._row[full] = _PAGES + np.arange(len(full)) * _ROW
        self._mask = np.zeros(_PAGES, np.int64)
        self._mask[full] = _ROW - 1
        self._next = np.append(starts, np.uint32(REACH - 1))
        # Python reads a number from a memoryview in a third of the time that an array takes.
        arrays = (self._row, self._mask, self._table, self._next)
        self._views = tuple(array.data for array in arrays)
        self._first = int(start[0])
        self._end = self._first + REACH - 1

    def find(self, addresses: U64) -> Index:
        """Return the index of the span that holds each of ``addresses``, in their shape."""
        flat = addresses.ravel()
        found = np.empty(len(flat), np.int64)
        for first in range(0, len(flat), _BLOCK):
            block = slice(first, first + _BLOCK)
            found[block] = self._find_block(flat[block])
        return found.reshape(addresses.shape)

    def _find_block(self, addresses: U64) -> Index:
        """Return :meth:`find` of few addresses, in one dimension."""
        # An address before the first span wraps around to one after the last span's start,
        # even if that is close to 2^64. So it is in the last span, which has no symbol.
        near = np.minimum(addresses - self._base, np.uint64(REACH - 2)).astype(np.int64)
        page = near >> _PAGE
        step = (near >> _STEP) & self._mask.take(page)
        span: Index = self._table.take(self._row.take(page) + step)
        late = np.flatnonzero(self._next.take(span) <= near)
        while len(late):
            span[late] += 1
            late = late[self._next[span[late]] <= near[late]]
        return span

    def find_one(self, address: int) -> int:
        """Return the index of the span that holds ``address``."""
        # Compare first, then subtract: numpy's own integers would overflow.
        if not self._first <= address < self._end:
            return 0
        near = address - self._first
        row, mask, table, following = self._views
        page = near >> _PAGE
        span: int = table[row[page] + (near >> _STEP & mask[page])]
        while following[span] <= near:
            span += 1
        return span
