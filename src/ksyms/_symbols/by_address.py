"""Lookup of single addresses, by bisection: it needs no numpy, and nothing built beforehand.

A snapshot has its symbols in two runs, each sorted by address: the local ones, then all others.
Any other file's symbols are sorted once, when the first address is looked up.
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
"""The last address."""
_NESTED: Final = 64
"""Largest number of symbols with a size that are examined for one that encloses others."""


class AddressSearch:
    """The symbols of ``file``, sorted by address.

    ``sectioned`` has them by section, if the file is neither a snapshot nor an image in the
    driver's layout.
    """

    def __init__(self, file: SymbolFile, sectioned: SectionedSymbols | None) -> None:
        self._file = file
        self._values = file.values
        self._sectioned = sectioned
        first_global = file.symtab.sh_info
        self._halves = (range(1, first_global), range(first_global, file.count))

    @cached_property
    def order(self) -> Sequence[int]:
        """The numbers of all symbols, by address."""
        return sorted(range(1, len(self._values)), key=self._values.__getitem__)

    def ordered(self, numbers: Iterable[int]) -> list[int]:
        """Return ``numbers`` by their symbols' addresses; of one address, in their order."""
        return sorted(sorted(numbers), key=self._values.__getitem__)

    def find(self, address: int) -> int:
        """Return the number of the symbol that ``address`` lies in, or 0.

        Of several symbols at one address it is the first in kallsyms.
        """
        if address > LAST:
            return 0
        if self._sectioned is not None:
            return self._sectioned.find(address)

        best: tuple[int, int, int] | None = None
        for run in self._runs():
            for number in self._nearest(run, address):
                sym = self._file.row(number)
                # The largest address is the nearest; the smallest st_name is kallsyms' first.
                key = (-sym.st_value, sym.st_name, number)
                if best is None or key < best:
                    best = key
        return best[2] if best is not None else 0

    def numbers_at(self, address: int) -> list[int]:
        """Return the numbers of the symbols that start at ``address``, as in kallsyms.

        Symbols that can name no address are left out.
        """
        if self._sectioned is not None:
            return self._sectioned.numbers_at(address)
        found = [number for run in self._runs() for number in self._starting(run, address)]
        if len(found) > 1:
            found.sort(key=lambda number: self._file.row(number).st_name)
        return found

    def following(self, address: int) -> int | None:
        """Return the next address above ``address`` at which a symbol starts, or None.

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
        """Return the numbers of all symbols, in one or two sequences sorted by address."""
        return self._halves if self._file.is_snapshot else (self.order,)

    def _count_up_to(self, run: Sequence[int], address: int) -> int:
        """Return the number of symbols of ``run`` that start at ``address`` or before it."""
        if isinstance(run, range):
            return bisect_right(self._values, address, run.start, run.stop) - run.start
        return bisect_right(run, address, key=self._values.__getitem__)

    def _nearest(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Yield those symbols of ``run``, at the nearest address, that ``address`` lies in.

        The search goes down from ``address``. Symbols that end before it are passed, up to a
        limit, for one may follow that encloses them::

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
            # In a file whose symbols are not sorted, the address can be the smaller one.
            if sym.st_value == address or 0 <= address - sym.st_value < sym.st_size:
                found = sym.st_value
                yield number
            elif sym.st_size:
                passed += 1

    def _starting(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Yield those symbols of ``run`` that start at ``address`` and can name it."""
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
