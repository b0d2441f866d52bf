"""A table's answers, kept once they were asked for: a text asks the same again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from .._symbols import Symbol, SymbolTable
from .._symbols.spans import NOBODY

if TYPE_CHECKING:
    from .._symbols.spans import U64, Index

Bools = npt.NDArray[np.bool_]

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
        self.formats = [b"%b %x"] * count
        """For each number what makes of an address and an offset both, and the name with the
        offset and its size between, as a trace (``%pS``) prints it.
        """
        self.kernel: Bools = np.zeros(count, np.bool_)
        """Whether it is the kernel's own. Both are filled by :meth:`offsets`."""
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
            self.kernel[number] = module is None
            owner = None if module in self.listed else module
            self.formats[number] = _format(name, size, owner)
        return addresses - self._values[numbers]

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


def _format(name: bytes, size: int, module: str | None) -> bytes:
    said = name.replace(b"%", b"%%")
    end = b"" if module is None else _bytes(f" [{module}]".replace("%", "%%"))
    return b"%%b %b+0x%%x/%#x%b" % (said, size, end)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
