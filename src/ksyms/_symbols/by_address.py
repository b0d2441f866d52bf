"""Lookup of single addresses by bisection, without numpy and without an index.

A snapshot has its symbols in two runs, each sorted by address: the local symbols, then all
others. The symbols of any other file are sorted once, when the first address is looked up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from .._typing import TYPE_CHECKING, Final
from .addressable import can_name_address
from .symbol_file import SymbolFile

if TYPE_CHECKING:
    from .sectioned import SectionedSymbols

LAST: Final = (1 << 64) - 1
"""The highest address of 64 bits."""
_NESTED: Final = 64
"""Limit on the symbols that a search passes on its way down to one that encloses them."""


class AddressSearch:
    """A search among the symbols of ``file`` by address.

    ``sectioned`` has the symbols by section. It is None if the file is a snapshot or an image
    in the driver's layout.
    """

    def __init__(self, file: SymbolFile, sectioned: SectionedSymbols | None) -> None:
        self._file = file
        self._values = file.values
        self._sectioned = sectioned
        first_global = file.symtab.sh_info
        self._halves = (range(1, first_global), range(first_global, file.count))

    @cached_property
    def order(self) -> Sequence[int]:
        """The numbers of all symbols, sorted by address."""
        return sorted(range(1, len(self._values)), key=self._values.__getitem__)

    def ordered(self, numbers: Iterable[int]) -> list[int]:
        """Return ``numbers`` sorted by the address of the symbol, then by the number."""
        return sorted(sorted(numbers), key=self._values.__getitem__)

    def find(self, address: int) -> int:
        """Return the number of the symbol that ``address`` lies in, or 0 if there is none.

        If several symbols start at one address, the first of them in kallsyms is returned.
        """
        if address > LAST:
            return 0
        if self._sectioned is not None:
            return self._sectioned.find(address)

        best: tuple[int, int, int] | None = None
        for run in self._runs():
            for number in self._nearest(run, address):
                sym = self._file.row(number)
                # The highest start is the nearest. Of one start, the symbol that comes first
                # in kallsyms has the smallest st_name.
                key = (-sym.st_value, sym.st_name, number)
                if best is None or key < best:
                    best = key
        return best[2] if best is not None else 0

    def numbers_at(self, address: int) -> list[int]:
        """Return the numbers of the symbols that start at ``address``, in kallsyms' order.

        Symbols that can name no address are left out.
        """
        if self._sectioned is not None:
            return self._sectioned.numbers_at(address)
        found = [number for run in self._runs() for number in self._starting(run, address)]
        if len(found) > 1:
            found.sort(key=lambda number: self._file.row(number).st_name)
        return found

    def following(self, address: int) -> int | None:
        """Return the lowest address above ``address`` at which a symbol starts, or None.

        Symbols that can name no address are left out.
        """
        found = []
        for run in self._runs():
            at = self._count_up_to(run, address)
            while at < len(run) and not self._can_name_address(run[at]):
                at += 1
            if at < len(run):
                found.append(self._values[run[at]])
        return min(found, default=None)

    def _runs(self) -> Sequence[Sequence[int]]:
        """Return the numbers of all symbols, in one or two runs, each sorted by address."""
        return self._halves if self._file.is_snapshot else (self.order,)

    def _count_up_to(self, run: Sequence[int], address: int) -> int:
        """Return the number of symbols of ``run`` that start at ``address`` or before it."""
        if isinstance(run, range):
            return bisect_right(self._values, address, run.start, run.stop) - run.start
        return bisect_right(run, address, key=self._values.__getitem__)

    def _nearest(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Yield the numbers of the innermost symbols of ``run`` that contain ``address``.

        They all start at one address, the nearest. The search goes down from ``address``. It
        passes symbols that end before ``address``, up to :data:`_NESTED` of them, since a
        symbol further down may enclose them::

            a    |----------------------|
            b          |----|
            c                   |--|
            address                   ^     passes c and b, and finds a
        """
        row, file = self._file.row, self._file
        at = self._count_up_to(run, address)
        found, passed = None, 0
        while at > 0 and passed < _NESTED:
            at -= 1
            number = run[at]
            sym = row(number)
            if found is not None and sym.st_value != found:
                return
            if not can_name_address(file, sym):
                continue
            # In a damaged snapshot, whose symbols are not sorted, ``address`` can be below
            # st_value.
            if sym.st_value == address or 0 <= address - sym.st_value < sym.st_size:
                found = sym.st_value
                yield number
            elif sym.st_size:
                passed += 1

    def _starting(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Yield the numbers of those in ``run`` that start at ``address`` and can name it."""
        if isinstance(run, range):
            at = bisect_left(self._values, address, run.start, run.stop) - run.start
        else:
            at = bisect_left(run, address, key=self._values.__getitem__)
        while at < len(run) and self._values[run[at]] == address:
            if self._can_name_address(run[at]):
                yield run[at]
            at += 1

    def _can_name_address(self, number: int) -> bool:
        return can_name_address(self._file, self._file.row(number))
