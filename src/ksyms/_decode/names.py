"""A table's answers, kept once they were asked for: a text asks the same again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from .._printable import word
from .._symbols import Symbol, SymbolTable
from .._symbols.spans import NOBODY

if TYPE_CHECKING:
    from .._symbols.spans import U64, Index

Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.object_]

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
        self.heads: Words = np.full(count, b"", object)
        """For each number what is printed for it and ``+0x``, as a trace (``%pS``) has them.

        These and ``tails`` are added to texts: a name is one word there, and on one line.
        """
        self.tails: Words = np.full(count, b"", object)
        """For each number what is behind the offset there: its size, and its module."""
        self._tails: dict[tuple[int, str | None], bytes] = {}
        self.kernel: Bools = np.zeros(count, np.bool_)
        """Whether it is the kernel's own. All three are filled by :meth:`offsets`."""
        self._filled = np.zeros(count, np.bool_)
        self._filled[NOBODY] = True

    def at(self, address: int) -> Symbol | None:
        """The symbol that ``address`` lies in, by the file's own addresses."""
        return self._table.lookup(address)

    def offsets(self, addresses: U64, numbers: Index) -> U64:
        """How many bytes each of ``addresses`` is behind the symbol of its number."""
        fresh = np.sort(numbers[~self._filled[numbers]])
        if len(fresh):
            self._fill(fresh[np.diff(fresh, prepend=-1) != 0])
        return addresses - self._values[numbers]

    def _fill(self, numbers: Index) -> None:
        self._filled[numbers] = True
        names, sizes, modules = self._table.briefly(numbers)
        self.kernel[numbers] = [module is None for module in modules]
        printed = self._table.printed_name
        # Without a dot or a dollar sign a name is printed as it is.
        words = _words([n if b"." not in n and b"$" not in n else printed(n) for n in names])
        self.heads[numbers] = (b" " + b"+0x\0 ".join(words) + b"+0x").split(b"\0")
        known = self._tails.get
        self.tails[numbers] = [known(key) or self._tail(*key) for key in zip(sizes, modules)]

    def _tail(self, size: int, module: str | None) -> bytes:
        bracket = "" if module is None or module in self.listed else f" [{word(module)}]"
        tail = b"/%#x%b" % (size, bracket.encode())
        self._tails[size, module] = tail
        return tail

    def called(self, name: str) -> list[Symbol]:
        """Every symbol that a text can mean by that name, and that has a place in memory."""
        found = self._called.get(name)
        if found is None:
            if len(self._called) > _KEPT:
                self._called.clear()
            found = [s for s in self._table.said(name) if s.section is not None]
            self._called[name] = found
        return found

    def printed(self, symbol: Symbol) -> str:
        """What is added for a symbol: as the kernel prints it, which can be shorter; a word."""
        return word(self._table.printed(symbol))

    def module(self, symbol: Symbol) -> str | None:
        """The module that traces print behind ``symbol``; None for the kernel's own."""
        return None if symbol.module in self.listed else symbol.module

    def bracketed(self, symbol: Symbol) -> str:
        """The same as it is added to a text, a word; "" for the kernel's own."""
        return word(self.module(symbol) or "")


def _words(names: list[bytes]) -> list[bytes]:
    """The names as words; most are looked at together."""
    whole = b"".join(names)
    if whole.isascii() and b" " not in whole and whole.decode().isprintable():
        return names
    return [word(name.decode("utf-8", "surrogateescape")).encode() for name in names]


def listed(table: SymbolTable) -> set[str]:
    """What kallsyms brackets like modules and is none: traces do not (kernel/kallsyms.c).

    Of those, BPF programs and trampolines, each boot has its own, each at its own place.
    """
    files = table.facts.get("files", ())
    return {file["name"] for file in files if file["kind"] == "listed"}
