"""Spans by where an address is: a million addresses in a tenth of what a bisection takes.

A kernel and its modules lie within 4 GiB, so an address is a page of 64 KiB and an offset of 16
bits. A table says for every 16 bytes of a page that something begins in which span holds
their first one, and for every other page which span holds all of it. From there it is a step or
two to the right span.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from .spans import NOBODY, Index, Spans

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

REACH: Final = 1 << 32
"""Bytes from the first span's start to the last one's that are not too many."""
_PAGE: Final = 16
_STEP: Final = 4
_PAGES: Final = 1 << 16
_ROW: Final = 1 << (_PAGE - _STEP)
"""How many places of a page the table has."""


class Buckets:
    """``values`` (int64), one a span of ``spans``, by the addresses in it.

    Raises:
        ValueError: the spans reach over :data:`REACH` or more, or somebody answers for all that
            lies before or behind them.
    """

    def __init__(self, spans: Spans, values: Index) -> None:
        start = spans.start[1:]
        if not len(start) or int(start[-1]) - int(start[0]) >= REACH - 1:
            raise ValueError("the spans reach too far")
        if spans.number[0] != NOBODY or spans.number[-1] != NOBODY:
            raise ValueError("somebody answers for everything else")
        self._base = start[0]
        self._values = values
        self._starts = (start - self._base).astype(np.uint32)
        pages = np.arange(_PAGES, dtype=np.uint32) << np.uint32(_PAGE)
        full = np.unique(self._starts >> np.uint32(_PAGE))
        places = np.arange(_ROW, dtype=np.uint32) << np.uint32(_STEP)
        rows = (pages[full][:, None] + places[None, :]).ravel()
        whole, begin = (np.searchsorted(self._starts, at, "right") for at in (pages, rows))
        self._table = np.concatenate([whole, begin]).astype(np.int32)
        self._row = np.arange(_PAGES, dtype=np.int32)
        self._row[full] = _PAGES + np.arange(len(full), dtype=np.int32) * _ROW
        self._mask = np.zeros(_PAGES, np.uint16)
        self._mask[full] = 0xFFFF
        self._next = np.append(self._starts, np.uint32(REACH - 1))

    def find(self, address: U64) -> Index:
        """The value of the span that holds each of ``address``, in its order."""
        # What lies before the first span wraps around, and is as unknown as what is behind.
        near = np.minimum(address - self._base, np.uint64(REACH - 2)).astype(np.uint32)
        page = near >> np.uint32(_PAGE)
        place = (near.astype(np.uint16) & self._mask[page]) >> np.uint16(_STEP)
        span = self._table[self._row[page] + place]
        late = np.flatnonzero(self._next[span] <= near)
        while len(late):
            span[late] += 1
            late = late[self._next[span[late]] <= near[late]]
        found: Index = self._values[span]
        return found
