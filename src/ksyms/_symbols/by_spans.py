"""Lookup of many addresses at once, in the spans of all symbols (spans.py)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from .addressable import addressable_symbols
from .buckets import Buckets
from .by_address import AddressSearch
from .spans import Spans, make_spans
from .symbol_file import SymbolFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sectioned import SectionedSymbols

_MANY: Final = 1 << 16
"""Make buckets once this many addresses were looked up: that takes as long as the lookups."""


class SpanSearch:
    """A search of addresses in the spans of the symbols of ``file``.

    Args:
        file: the symbols' file.
        sectioned: its symbols by section; None for a snapshot, and for an image in the driver's
            layout.
        by_address: its symbols by address.
    """

    def __init__(
        self, file: SymbolFile, sectioned: SectionedSymbols | None, by_address: AddressSearch
    ) -> None:
        self._file = file
        self._sectioned = sectioned
        self._by_address = by_address
        self._looked_up = 0

    @cached_property
    def spans(self) -> Spans:
        """The spans: the number of the symbol of each address."""
        return make_spans(addressable_symbols(self._file, self._sectioned))

    @cached_property
    def buckets(self) -> Buckets | None:
        """The buckets of the spans; None if the symbols are too far apart for them."""
        try:
            return Buckets(self.spans)
        except ValueError:
            return None

    @property
    def find_span(self) -> Callable[[int], int]:
        """The function that returns the index of the span that holds one address."""
        return (self.buckets or self.spans).find_one

    def find(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the number of the symbol that each address lies in, 0 if there is none."""
        return self.spans.number.take(self._find_spans(addresses))

    def find_positions(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return for each address the index of its symbol among all symbols by address.

        For an address in no symbol it is the number of all symbols, one past the last index.
        """
        return self._positions.take(self._find_spans(addresses))

    @cached_property
    def _positions(self) -> npt.NDArray[np.int64]:
        """The index of each span's symbol among all symbols by address."""
        numbers = np.fromiter(self._by_address.order, np.int64)
        positions = np.full(len(numbers) + 1, len(numbers), np.int64)
        positions[numbers] = np.arange(len(numbers))
        return positions[self.spans.number]

    def _find_spans(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the index of the span that holds each address.

        Buckets are used once :data:`_MANY` addresses were looked up.
        """
        self._looked_up += addresses.size
        buckets = self.buckets if self._looked_up >= _MANY else None
        return (buckets or self.spans).find(addresses)
