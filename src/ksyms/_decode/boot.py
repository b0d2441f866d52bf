"""Where another boot of the same kernel has what a file has, as a text itself tells.

The kernel moves as one piece, by its slide; each module, and each part of one, by itself
(since Linux 6.4 a module's text and data are allocations of their own).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from .._symbols import Symbol, SymbolTable, slide_between
from .names import Names

_PAGE: Final = 4096
_X86_STEP: Final = 1 << 21
"""The kernel is placed in steps of CONFIG_PHYSICAL_ALIGN (arch/x86/boot/compressed/kaslr.c)."""
_X86_MODULES: Final = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
"""Where modules can lie (Documentation/arch/x86/x86_64/mm.rst)."""
_FURTHEST: Final = 1 << 47
"""Further than any kernel is moved: what lies further apart was not moved."""


class Boot(NamedTuple):
    """A boot of the file's kernel: what is added to the file's addresses there.

    ``slide`` is in bytes. Where ``own`` is true the boot may be the file's own: what else the
    file has lies where the file says. ``moves`` has the bytes for the sections of modules that
    something was told of.
    """

    slide: int = 0
    own: bool = True
    moves: Mapping[str, int] = {}


class Place(NamedTuple):
    """A symbol, how far in it an address is, and that address in the file."""

    symbol: Symbol
    offset: int
    address: int


class Layout:
    """Which addresses of ``table`` are whose, and so what an address of a boot is."""

    def __init__(self, table: SymbolTable, names: Names) -> None:
        self.names = names
        self._sections = {
            name: range(start, start + size) for name, start, size in table.sections if size
        }
        x86 = table.facts.get("machine") in ("x86_64", "amd64")
        self.step = _X86_STEP if x86 else _PAGE
        """What every slide is a multiple of."""
        self._modules = _X86_MODULES if x86 else range(0)

    def place(self, address: int, boot: Boot) -> Place | None:
        """What ``address`` is in ``boot``; None where that cannot be known."""
        symbol = self.names.at(address - boot.slide)
        if symbol is not None and (symbol.module is None or boot.own):
            return Place(symbol, address - boot.slide - symbol.address, address - boot.slide)
        found = [p for s, move in boot.moves.items() if (p := self._moved(address, s, move))]
        return found[0] if len(found) == 1 else None

    def _moved(self, address: int, section: str, move: int) -> Place | None:
        there = address - move
        symbol = self.names.at(there) if there in self._sections[section] else None
        if symbol is None or symbol.section != section:
            return None
        return Place(symbol, there - symbol.address, there)

    def lies_as(self, symbol: Symbol, address: int) -> bool:
        """Whether ``symbol`` can be at ``address`` in some boot."""
        step = self.step if symbol.module is None else _PAGE
        return self._can_move(address - symbol.address, step)

    def among_modules(self, address: int) -> bool:
        """Whether modules, and nothing else, can lie there."""
        return address in self._modules

    def slides(self, address: int, name: str, offset: int) -> frozenset[int]:
        """Every slide at which ``address`` is ``offset`` bytes into a kernel's ``name``."""
        places = (s.address + offset for s in self.names.called(name) if s.module is None)
        return frozenset(
            address - place for place in places if self._can_move(address - place, self.step)
        )

    def moves(self, address: int, name: str, offset: int, module: str | None) -> dict[str, int]:
        """By how much a module's section lies elsewhere, if ``address`` is in its ``name``."""
        found: dict[str, int] = {}
        for symbol in self.names.called(name):
            if symbol.module is None or module not in (None, symbol.module):
                continue
            move = address - symbol.address - offset
            if symbol.section in self._sections and self._can_move(move, _PAGE):
                if symbol.section in found:
                    return {}  # two of one name: nothing says which of them is meant
                found[symbol.section] = move
        return found

    @staticmethod
    def _can_move(distance: int, step: int) -> bool:
        return distance % step == 0 and abs(distance) < _FURTHEST


def boot_of(table: SymbolTable, other: SymbolTable) -> Boot | None:
    """The boot that ``other`` is of, by where it has what ``table`` has; None if unknown."""
    slide = slide_between(table, other)
    if slide is None:
        return None
    there = _module_symbols(other)
    votes: dict[str, list[int]] = {}
    for key, symbol in _module_symbols(table).items():
        if symbol.section is not None and key in there:
            move = there[key].address - symbol.address
            votes.setdefault(symbol.section, []).append(move)
    # A section moves as one; where its symbols do not agree, nothing is known of it.
    moves = {section: found[0] for section, found in votes.items() if len({*found}) == 1}
    return Boot(slide, False, moves)


def _module_symbols(table: Iterable[Symbol]) -> dict[tuple[str, str], Symbol]:
    """The symbols of modules by module and name, without those that are not the only ones."""
    found: dict[tuple[str, str], Symbol | None] = {}
    for symbol in table:
        if symbol.module is not None and symbol.section is not None:
            key = symbol.module, symbol.name
            found[key] = None if key in found else symbol
    return {key: symbol for key, symbol in found.items() if symbol is not None}
