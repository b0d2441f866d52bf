"""Cache the symbols of a table by address and name: a text has the same ones many times."""

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
"""Limit on cached names: a kernel has some hundred thousand, and a text can have any number."""


class SymbolNames:
    """The symbols of ``table`` by address and by name, and the words to write for them."""

    def __init__(self, table: SymbolTable) -> None:
        self.table = table
        self._called: dict[str, list[Symbol]] = {}
        self.listed = listed(table)
        self._values = table.rows["st_value"].astype(np.uint64)
        count = len(self._values)
        self.heads: Words = np.full(count, b"", object)
        """For each symbol's number a blank, its printed name and ``+0x`` (see :meth:`offsets`).

        With ``tails`` these are what a trace prints for ``%pS``, in three parts:

            heads             offset    tails
            " vfs_open+0x"    "2e"      "/0xf0 [xfs]"

        They are added to texts, so a name is made one word without line ends.
        """
        self.tails: Words = np.full(count, b"", object)
        """For each symbol's number its size and module, as they stand after the offset."""
        self._tails: dict[tuple[int, str | None], bytes] = {}
        self.kernel: Bools = np.zeros(count, np.bool_)
        """For each symbol's number True if it is the kernel's, and not a module's.

        :meth:`offsets` fills ``heads``, ``tails`` and ``kernel`` for the numbers it is given.
        """
        self._filled = np.zeros(count, np.bool_)
        self._filled[NOBODY] = True

    def at(self, address: int) -> Symbol | None:
        """Return the symbol at ``address``, an address of the file; None if there is none."""
        return self.table.lookup(address)

    def offsets(self, addresses: U64, numbers: Index) -> U64:
        """Return the offset of each of ``addresses`` in the symbol of its number, in bytes.

        It also fills ``heads``, ``tails`` and ``kernel`` for these numbers.
        """
        fresh = np.sort(numbers[~self._filled[numbers]])
        if len(fresh):
            self._fill(fresh[np.diff(fresh, prepend=-1) != 0])
        return addresses - self._values[numbers]

    def _fill(self, numbers: Index) -> None:
        """Fill ``heads``, ``tails`` and ``kernel`` for ``numbers``, in which each is once."""
        self._filled[numbers] = True
        names, sizes, modules = self.table.briefly(numbers)

        self.kernel[numbers] = [module is None for module in modules]

        printed = self.table.printed_name
        # A name without a dot or a dollar sign is printed unchanged.
        words = _words([n if b"." not in n and b"$" not in n else printed(n) for n in names])
        self.heads[numbers] = (b" " + b"+0x\0 ".join(words) + b"+0x").split(b"\0")

        known = self._tails.get
        self.tails[numbers] = [known(key) or self._tail(*key) for key in zip(sizes, modules)]

    def tail(self, size: int, module: str | None) -> bytes:
        """Return the text after an offset: ``/0xf0 [xfs]``, or ``/0xf0``."""
        return self._tails.get((size, module)) or self._tail(size, module)

    def _tail(self, size: int, module: str | None) -> bytes:
        """Make and cache the result of :meth:`tail`."""
        bracket = "" if module is None or module in self.listed else f" [{word(module)}]"
        tail = b"/%#x%b" % (size, bracket.encode())
        self._tails[size, module] = tail
        return tail

    def called(self, name: str) -> list[Symbol]:
        """Return the symbols with a section that a text can mean by ``name``."""
        found = self._called.get(name)
        if found is None:
            if len(self._called) > _KEPT:
                self._called.clear()
            found = [s for s in self.table.said(name) if s.section is not None]
            self._called[name] = found
        return found

    def printed(self, symbol: Symbol) -> str:
        """Return a symbol's name as the kernel prints it, possibly shortened, as one word."""
        return word(self.table.printed(symbol))

    def module(self, symbol: Symbol) -> str | None:
        """Return the module that traces print after ``symbol``; None for the kernel's own."""
        return None if symbol.module in self.listed else symbol.module

    def bracketed(self, symbol: Symbol) -> str:
        """Return the module that traces print after ``symbol`` as one word, or ""."""
        return word(self.module(symbol) or "")


def _words(names: list[bytes]) -> list[bytes]:
    """Return each name as one word; if all are words already, one check finds that."""
    whole = b"".join(names)
    if whole.isascii() and b" " not in whole and whole.decode().isprintable():
        return names
    return [word(name.decode("utf-8", "surrogateescape")).encode() for name in names]


def listed(table: SymbolTable) -> set[str]:
    """Return the names that kallsyms has in brackets although they are not modules.

    They stand for BPF programs, trampolines and the like. Traces do not print them
    (kernel/kallsyms.c), and in each boot their symbols have other addresses.
    """
    files = table.facts.get("files", ())
    return {file["name"] for file in files if file["kind"] == "listed"}
