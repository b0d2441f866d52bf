"""A table's answers, kept once they were asked for: a text asks the same again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .._symbols import Symbol, SymbolTable
from .._symbols.spans import NOBODY

if TYPE_CHECKING:
    from .._symbols.spans import U64, Index

_KEPT: Final = 1 << 17
"""How many names are kept; a kernel has some hundred thousand, a text is of any length."""


class Names:
    """What is at an address of ``table``, and what has a name there."""

    def __init__(self, table: SymbolTable) -> None:
        self._table = table
        self._called: dict[str, list[Symbol]] = {}
        self.listed = listed(table)
        self._values = table.rows["st_value"].astype(np.uint64)
        count = len(self._values)
        self.starts = [b""] * count
        """What a trace (``%pS``) prints of the symbol of a number, up to an offset's digits."""
        self.ends = [b""] * count
        """What it prints behind them."""
        self.kernel = [False] * count
        """Whether it is the kernel's own. All three are filled by :meth:`offsets`."""
        self._same: dict[tuple[int, str | None], bytes] = {}
        self._filled = np.zeros(count, np.bool_)
        self._filled[NOBODY] = True

    def at(self, address: int) -> Symbol | None:
        """The symbol that ``address`` lies in, by the file's own addresses."""
        return self._table.lookup(address)

    def offsets(self, addresses: U64, numbers: Index) -> U64:
        """How many bytes each of ``addresses`` is behind the symbol of its number."""
        fresh = np.unique(numbers[~self._filled[numbers]])
        self._filled[fresh] = True
        for number, (name, size, module) in zip(fresh.tolist(), self._table.briefly(fresh)):
            self.starts[number] = name + b"+0x"
            self.kernel[number] = module is None
            self.ends[number] = self._end(size, None if module in self.listed else module)
        return addresses - self._values[numbers]

    def _end(self, size: int, module: str | None) -> bytes:
        """What is behind an offset; one object for all symbols that have the same there."""
        end = self._same.get((size, module))
        if end is None:
            text = f"/{size:#x}" + ("" if module is None else f" [{module}]")
            end = self._same[size, module] = _bytes(text)
        return end

    def called(self, name: str) -> list[Symbol]:
        """Every symbol of that name that has a place in memory."""
        found = self._called.get(name)
        if found is None:
            if len(self._called) > _KEPT:
                self._called.clear()
            found = [s for s in self._table.find(name) if s.section is not None]
            self._called[name] = found
        return found

    def module(self, symbol: Symbol) -> str | None:
        """The module that traces print behind ``symbol``; None for the kernel's own."""
        return None if symbol.module in self.listed else symbol.module


def listed(table: SymbolTable) -> set[str]:
    """What kallsyms brackets like modules and is none: traces do not (kernel/kallsyms.c).

    Of those, BPF programs and trampolines, each boot has its own, each at its own place.
    """
    files = table.facts.get("files", ())
    return {file["name"] for file in files if file["kind"] == "listed"}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
