"""A table's answers, kept once they were asked for: a text asks the same again and again."""

from __future__ import annotations

from typing import Final, NamedTuple

from .._symbols import Symbol, SymbolTable

_KEPT: Final = 1 << 17
"""How many names are kept; a kernel has some hundred thousand, a text is of any length."""


class Label(NamedTuple):
    """What a trace prints of a symbol: ``start``, an offset in hexadecimal, and ``end``."""

    start: bytes
    end: bytes
    value: int
    kernel: bool


class Names:
    """What is at an address of ``table``, and what has a name there."""

    def __init__(self, table: SymbolTable) -> None:
        self._table = table
        self._labels: dict[int, Label] = {}
        self._called: dict[str, list[Symbol]] = {}
        self.listed = listed(table)

    def at(self, address: int) -> Symbol | None:
        """The symbol that ``address`` lies in, by the file's own addresses."""
        return self._table.lookup(address)

    def label(self, number: int) -> Label:
        """What a trace prints (``%pS``) of the ``number``-th symbol of the table."""
        label = self._labels.get(number)
        if label is None:
            symbol = self._table.numbered(number)
            module = self.module(symbol)
            label = self._labels[number] = Label(
                _bytes(f"{symbol.name}+0x"),
                _bytes(f"/{symbol.size:#x}" + ("" if module is None else f" [{module}]")),
                symbol.address,
                symbol.module is None,
            )
        return label

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
