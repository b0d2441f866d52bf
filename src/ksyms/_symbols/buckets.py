"""Spans by where an address is: a million addresses in a tenth of what a bisection takes.

A kernel and its modules lie within 4 GiB, so an address is a page of 64 KiB and an offset of 16
bits. A table says for every 16 bytes of a page that something begins in which span holds
their first one, and for every other page which span holds all of it. From there it is a step or
two to the right span.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .spans import NOBODY, U64, Index, Spans

REACH: Final = 1 << 32
"""Bytes from the first span's start to the last one's that are not too many."""
_PAGE: Final = 16
_STEP: Final = 4
_PAGES: Final = 1 << 16
_MOST: Final = 1 << 11
_SPANS: Final = 1 << 7
"""Pages that the table has rows of at most, 16 KiB each: so many, or one for so many spans.

A kernel and its modules have one for 300.
"""
_ROW: Final = 1 << (_PAGE - _STEP)
"""How many steps a page has: a row of the table has a span for each."""
_BLOCK: Final = 1 << 15
"""Addresses looked for at once: few enough to stay in a cache."""


class Buckets:
    """The places in ``spans`` by the addresses that they hold.

    Raises:
        ValueError: the spans reach over :data:`REACH` or more, or begin in too many
            pages, or somebody answers for all that lies before or behind them.
    """

    def __init__(self, spans: Spans) -> None:
        start = spans.start[1:]
        if not len(start) or int(start[-1]) - int(start[0]) >= REACH - 1:
            raise ValueError("the spans reach too far")
        if spans.number[0] != NOBODY or spans.number[-1] != NOBODY:
            raise ValueError("somebody answers for everything else")
        self._base = start[0]
        starts = (start - self._base).astype(np.uint32)
        pages = np.arange(_PAGES, dtype=np.uint32) << np.uint32(_PAGE)
        full = np.unique(starts >> np.uint32(_PAGE))
        if len(full) > max(_MOST, len(starts) // _SPANS):
            raise ValueError("the spans begin in too many pages")
        steps = np.arange(_ROW, dtype=np.uint32) << np.uint32(_STEP)
        rows = (pages[full][:, None] + steps[None, :]).ravel()
        whole, begin = (np.searchsorted(starts, at, "right") for at in (pages, rows))
        self._table = np.concatenate([whole, begin]).astype(np.int32)
        self._row = np.arange(_PAGES)
        self._row[full] = _PAGES + np.arange(len(full)) * _ROW
        self._mask = np.zeros(_PAGES, np.int64)
        self._mask[full] = _ROW - 1
        self._next = np.append(starts, np.uint32(REACH - 1))
        # Python reads single numbers from a memoryview in a third of what an array takes.
        arrays = (self._row, self._mask, self._table, self._next)
        self._views = tuple(array.data for array in arrays)
        self._first = int(start[0])
        self._end = self._first + REACH - 1

    def places(self, addresses: U64) -> Index:
        """The place of the span that holds each of ``addresses``, in their order."""
        flat = addresses.ravel()
        found = np.empty(len(flat), np.int64)
        for first in range(0, len(flat), _BLOCK):
            block = slice(first, first + _BLOCK)
            found[block] = self._places(flat[block])
        return found.reshape(addresses.shape)

    def _places(self, addresses: U64) -> Index:
        # What lies before the first span wraps around to behind the last one's start, however
        # near that is to the end of all addresses: it is in the last span, which is nobody's.
        near = np.minimum(addresses - self._base, np.uint64(REACH - 2)).astype(np.int64)
        page = near >> _PAGE
        step = (near >> _STEP) & self._mask.take(page)
        span: Index = self._table.take(self._row.take(page) + step)
        late = np.flatnonzero(self._next.take(span) <= near)
        while len(late):
            span[late] += 1
            late = late[self._next[span[late]] <= near[late]]
        return span

    def one(self, address: int) -> int:
        """The place of the span that holds ``address``."""
        # Compared before it is subtracted from: numpy's own integers would overflow.
        if not self._first <= address < self._end:
            return 0
        near = address - self._first
        row, mask, table, following = self._views
        page = near >> _PAGE
        span: int = table[row[page] + (near >> _STEP & mask[page])]
        while following[span] <= near:
            span += 1
        return span
