"""A table that finds the span of an address, in a tenth of the time of a bisection.

A kernel and its modules lie within 4 GiB. So an address, counted from the start of the first
span, has 32 bits: those of a page of 64 KiB, of a step of 16 bytes in the page, and of a byte
in the step::

    bit  31            16 15           4 3     0
         |     page      |    step      | byte |

If spans start in a page, the table has a row for the page: for each step, the span that holds
the first byte of the step. For any other page it has the one span that holds the whole page.
An address lies in the span that the table has, or in one of the few that start later in the
same step.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .spans import NOBODY, U64, Index, Spans

REACH: Final = 1 << 32
"""Limit of the distance from the first span's start to the last one's, in bytes."""
_PAGE: Final = 16  # the lowest bit of the page
_STEP: Final = 4  # the lowest bit of the step
_PAGES: Final = 1 << 16
_MOST: Final = 1 << 11
_SPANS: Final = 1 << 7
"""Limit on the table's rows: :data:`_MOST`, or one row for this many spans if that is more.

A row has 16 KiB. A kernel and its modules need one row for 300 spans.
"""
_ROW: Final = 1 << (_PAGE - _STEP)
"""The number of steps in a page: a row of the table has a span for each."""
_BLOCK: Final = 1 << 15
"""The number of addresses that are looked up at once: they stay in a processor's cache."""


class Buckets:
    """The table for ``spans``.

    Raises:
        ValueError: the starts of the spans are :data:`REACH` or more apart, or in too many
            pages, or the first or the last span has a symbol.
    """

    def __init__(self, spans: Spans) -> None:
        start = spans.start[1:]
        if not len(start) or int(start[-1]) - int(start[0]) >= REACH - 1:
            raise ValueError("the spans reach too far")
        if spans.number[0] != NOBODY or spans.number[-1] != NOBODY:
            raise ValueError("the first or the last span has a symbol")

        # Find the pages in which spans start.
        self._base = start[0]
        starts = (start - self._base).astype(np.uint32)
        pages = np.arange(_PAGES, dtype=np.uint32) << np.uint32(_PAGE)
        full = np.unique(starts >> np.uint32(_PAGE))
        if len(full) > max(_MOST, len(starts) // _SPANS):
            raise ValueError("the spans begin in too many pages")

        # Make the table: first a span for each page, then the rows. The span that holds a byte
        # is the number of spans that start at it or before it: for the steps of the rows this
        # adds up the spans that start after one step and up to the next.
        steps = np.arange(_ROW, dtype=np.uint32) << np.uint32(_STEP)
        rows = (pages[full][:, None] + steps[None, :]).ravel()
        whole = np.searchsorted(starts, pages, "right")
        later = np.searchsorted(rows, starts)
        begin = np.cumsum(np.bincount(later, minlength=len(rows))[: len(rows)])
        self._table = np.concatenate([whole, begin]).astype(np.int32)

        # Where each page's part of the table starts, and the bits of the step that count there:
        # none if it is one span for the whole page.
        self._row = np.arange(_PAGES)
        self._row[full] = _PAGES + np.arange(len(full)) * _ROW
        self._mask = np.zeros(_PAGES, np.int64)
        self._mask[full] = _ROW - 1
        self._next = np.append(starts, np.uint32(REACH - 1))  # where the next span starts

        # Python reads a number from a memoryview in a third of the time that an array takes.
        arrays = (self._row, self._mask, self._table, self._next)
        self._views = tuple(array.data for array in arrays)
        self._first = int(start[0])
        self._end = self._first + REACH - 1

    def find(self, addresses: U64) -> Index:
        """Return the index of the span that holds each address, in the addresses' shape."""
        flat = addresses.ravel()
        found = np.empty(len(flat), np.int64)
        for first in range(0, len(flat), _BLOCK):
            block = slice(first, first + _BLOCK)
            found[block] = self._find_block(flat[block])
        return found.reshape(addresses.shape)

    def _find_block(self, addresses: U64) -> Index:
        """Return :meth:`find` of at most :data:`_BLOCK` addresses, in one dimension."""
        # The difference of an address before the first span wraps around, and so lies after
        # the start of the last span, even if that is close to 2^64. The last span has no
        # symbol.
        near = np.minimum(addresses - self._base, np.uint64(REACH - 2)).astype(np.int64)
        page = near >> _PAGE
        step = (near >> _STEP) & self._mask.take(page)
        span: Index = self._table.take(self._row.take(page) + step)

        # Go on from span to span within the step, for the addresses that lie in a later one.
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
