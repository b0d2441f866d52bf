"""Where another boot of the same kernel has what a file has, as a text itself tells.

The kernel moves as one piece, by its slide; each module, and each part of one, by itself
(since Linux 6.4 a module's text and data are allocations of their own).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._symbols import Symbol, SymbolTable, slide_between
from .names import Names, listed

_PAGE: Final = 4096
_X86_STEP: Final = 1 << 21
"""The kernel is placed in steps of CONFIG_PHYSICAL_ALIGN (arch/x86/boot/compressed/kaslr.c)."""
_X86_MODULES: Final = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
"""Where modules can lie (Documentation/arch/x86/x86_64/mm.rst)."""
_X86_KERNEL: Final = range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000)
"""Where the kernel can lie; of it what modules do not take where nothing is moved."""
UNKNOWN: Final = 1 << 63
"""The slide of a kernel that is nobody knows where: no address less this is a kernel's."""
MODULES: Final = "modules lie elsewhere in that boot, and the text does not say where"
UNTOLD: Final = "it is of another boot, and the text does not say by how much that was moved"
_RARE: Final = 1 << 10
"""Of so many addresses one is in a symbol, at some slide, if its name alone tells a slide."""
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


class Within(NamedTuple):
    """What a name tells of the boot whose address is anywhere in it.

    ``near`` are the slides at which it can be so, of which the file's own boot is 0; None
    where the name tells no other, and not that one. ``held`` is whether it is so in the file;
    None where the file has no symbol at the address, or none of that name.
    """

    near: frozenset[int] | None
    held: bool | None


class Layout:
    """Which addresses of ``table`` are whose, and so what an address of a boot is."""

    def __init__(self, table: SymbolTable, names: Names) -> None:
        self.names = names
        self._sections = {
            name: range(start, start + size) for name, start, size in table.sections if size
        }
        self.digits, self.prefix = _shape(table)
        """How many digits an address has in a text, and what all of them begin with."""
        self.step = step(table)
        """What every slide is a multiple of."""
        self._modules = _X86_MODULES if _is_x86(table) else range(0)
        linux = table.facts.get("machine") == "x86_64"
        self._extents: dict[str, tuple[list[range], bool]] = {}
        self._kernels, self._image = self._places() if linux else (range(0), range(0))

    def _places(self) -> tuple[range, range]:
        """Where a kernel can lie and no module does, and where the file's lies."""
        parts = self._sections.items()
        modules = [p.start for name, p in parts if name[0] == "[" and p.start in _X86_MODULES]
        stop = min([_X86_KERNEL.stop, *modules] if modules else [_X86_MODULES.start])
        kernels = range(_X86_KERNEL.start, stop)
        own = [p for name, p in parts if name[0] != "[" and p.start in kernels]
        if not own:
            return range(0), range(0)
        return kernels, range(min(p.start for p in own), max(p.stop for p in own))

    def place(self, address: int, boot: Boot) -> Place | None:
        """What ``address`` is in ``boot``; None where that cannot be known."""
        symbol = self.names.at(address - boot.slide)
        if symbol is not None and (symbol.module is None or boot.own):
            return Place(symbol, address - boot.slide - symbol.address, address - boot.slide)
        found = [
            Place(symbol, address - move - symbol.address, address - move)
            for section, move in boot.moves.items()
            if address - move in self._sections[section]
            if (symbol := self.names.at(address - move)) and symbol.section == section
        ]
        # Two have been at one place where one was unloaded before the other came.
        return found[0] if len(found) == 1 else None

    def lies_as(self, symbol: Symbol, address: int) -> bool:
        """Whether ``symbol`` can be at ``address`` in some boot."""
        step = self.step if symbol.module is None else _PAGE
        return self._can_move(address - symbol.address, step)

    def untold(self, address: int, boot: Boot) -> str:
        """Why an address without a place in ``boot`` can have one; empty if it has none."""
        if not boot.own and address in self._modules:
            return MODULES
        return UNTOLD if boot.slide == UNKNOWN else ""

    def elsewhere(self, address: int) -> bool:
        """Whether only another boot's kernel can lie there; not of what bounds a region."""
        return (
            address in self._kernels and address not in self._image and address % self.step > 0
        )

    def of_kernel(self, name: str) -> bool:
        """Whether a symbol of the kernel's own, and none of a module, has that name."""
        called = self.names.called(name)
        return bool(called) and all(symbol.module is None for symbol in called)

    def slides(self, address: int, name: str, offset: int) -> frozenset[int]:
        """Every slide at which ``address`` is ``offset`` bytes into a kernel's ``name``."""
        places = (s.address + offset for s in self.names.called(name) if s.module is None)
        return frozenset(
            address - place for place in places if self._can_move(address - place, self.step)
        )

    def within(self, address: int, name: str) -> Within:
        """What a name without an offset, beside ``address``, tells of the boot."""
        places, tells = self._extent(name)
        if not places:
            return Within(None, None)
        own = any(address in place for place in places)
        # Behind a section there can be what has a name in another boot.
        held = own if own or self.names.at(address) is not None else None
        if not tells:
            return Within(frozenset([0]) if own else None, held)
        found = set()
        for place in places:
            offset = (address - place.start) % self.step
            if offset < place.stop - place.start:
                found.add(address - place.start - offset)
        return Within(frozenset(slide for slide in found if self._can_lie(slide)), held)

    def _extent(self, name: str) -> tuple[list[range], bool]:
        """Where the symbols of that name are, and whether one of them tells a slide.

        None does that is long beside a step, or that can be a module's.
        """
        extent = self._extents.get(name)
        if extent is None:
            called = self.names.called(name)
            places = [range(s.address, s.address + max(s.size, 1)) for s in called]
            rare = sum(p.stop - p.start for p in places) * _RARE <= self.step
            extent = places, rare and all(symbol.module is None for symbol in called)
            if places:
                self._extents[name] = extent
        return extent

    def _can_lie(self, slide: int) -> bool:
        """Whether a kernel can be moved by that, for all that is known of the machine."""
        if not self._image:
            return self._can_move(slide, self.step)
        start, stop = self._image.start + slide, self._image.stop + slide
        return _X86_KERNEL.start <= start and stop <= _X86_KERNEL.stop

    def moves(self, address: int, name: str, offset: int, module: str | None) -> dict[str, int]:
        """By how much a module's section lies elsewhere, if ``address`` is in its ``name``."""
        found: dict[str, int] = {}
        for symbol in self.names.called(name):
            if symbol.module is None or symbol.module in self.names.listed:
                continue
            if module not in (None, symbol.module):
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


def _shape(table: SymbolTable) -> tuple[int, str]:
    """The digits of the table's addresses, and what of them is the same in all."""
    start = table.spans.start
    held = start[table.spans.number != 0]
    if not len(held):
        return 16, "ffff"
    low, high = int(held[0]), int(held[-1])
    digits = 8 if high < 1 << 32 else 16
    first, last = f"{low:0{digits}x}", f"{high:0{digits}x}"
    common = digits // 4
    return digits, first[:common] if first[:common] == last[:common] else ""


def step(table: SymbolTable) -> int:
    """What every slide of the table's kernel is a multiple of, in bytes."""
    return _X86_STEP if _is_x86(table) else _PAGE


def _is_x86(table: SymbolTable) -> bool:
    return table.facts.get("machine") in ("x86_64", "amd64")


def slid(table: SymbolTable, slide: int) -> Boot:
    """The boot that is moved by ``slide``, in bytes; DecodeError if none can be."""
    if slide % step(table) or abs(slide) >= _FURTHEST:
        raise DecodeError(
            f"No kernel is moved by {slide:#x} bytes: that is no multiple of {step(table):#x}, "
            "or too much.",
            "Give the slide as what the text's addresses have more than the symbols'.",
        )
    return Boot(slide, own=slide == 0)


def boot_of(table: SymbolTable, other: SymbolTable, force: bool = False) -> Boot | None:
    """The boot that ``other`` is of, by where it has what ``table`` has.

    None if that is unknown, as it is where most of the kernel's symbols do not agree on the
    slide; ``force`` takes it all the same.
    """
    slide = slide_between(table, other)
    if slide is None:
        return None
    there = _only_ones(other)
    votes: dict[str | None, list[int]] = {None: []}
    for key, symbol in _only_ones(table).items():
        if key in there:
            section = symbol.section if symbol.module else None
            votes.setdefault(section, []).append(there[key].address - symbol.address)
    kernel = votes.pop(None)
    if 2 * kernel.count(slide) <= len(kernel) and not force:
        return None
    # A section moves as one; where its symbols do not agree, nothing is known of it.
    moves = {str(section): found[0] for section, found in votes.items() if len({*found}) == 1}
    return Boot(slide, False, moves)


def _only_ones(table: SymbolTable) -> dict[tuple[str | None, str], Symbol]:
    """What has a place in memory by module and name, where no other has that name too."""
    found: dict[tuple[str | None, str], Symbol | None] = {}
    unlike = listed(table)
    for symbol in table:
        if symbol.section is not None and symbol.module not in unlike:
            key = symbol.module, symbol.name
            found[key] = None if key in found else symbol
    return {key: symbol for key, symbol in found.items() if symbol is not None}
