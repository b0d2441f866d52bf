"""What an address of a boot is, and what a name beside one tells of the boot."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Final, NamedTuple

from .._symbols import Symbol, SymbolTable
from .boot import UNKNOWN, Boot
from .kaslr import (
    FURTHEST,
    PAGE,
    X86_KERNEL,
    Areas,
    first_digits,
    image_start,
    in_capitals,
    is_fixed,
    is_moved,
    is_x86,
    slides_where_unmoved,
    step,
)
from .names import Names

MODULES: Final = "modules lie elsewhere in that boot, and the text does not say where"
UNTOLD: Final = "it is of another boot, and nothing tells by how much that was moved"
_RARE: Final = 1 << 10
"""A name alone is evidence only if its symbols cover at most 1/1024 of a step of slides."""
_HEAD: Final = 1 << 24
"""How far behind the image's begin _stext can be, where the file does not tell it."""


class Place(NamedTuple):
    """A symbol, how far in it an address is, and that address in the file."""

    symbol: Symbol
    offset: int
    address: int


class Within(NamedTuple):
    """What a name without an offset tells of the boot whose address is anywhere in it.

    ``near`` are the slides at which the address lies in a symbol of that name, of which the
    file's own boot is 0; None where the name is no evidence. ``held`` is whether it lies so in
    the file; None where the file has no symbol at the address, or none of that name.
    """

    near: frozenset[int] | None
    held: bool | None


class AddressMap:
    """Which addresses of ``table`` are whose, and so what an address of a boot is."""

    def __init__(self, table: SymbolTable, names: Names) -> None:
        self.names = names
        self.digits = table.digits
        """How many digits an address has in a text."""
        self.step = step(table)
        """What every slide is a multiple of."""
        self._table = table
        self._sections = {
            name: range(start, start + size) for name, start, size in table.sections if size
        }
        low, high = self._extent_of_all()
        self.first, self.common = first_digits(low, high, self.digits)
        """The pattern that addresses begin with, and how many digits it is of."""
        self.telling = self.digits > 8 and self.first[:1] not in (b"", b"0")
        """Whether nothing but a kernel's address begins as they do."""
        self.fixed = is_fixed(table)
        """Whether all boots have the kernel at one place."""
        self.moved = is_moved(table)
        """Whether each boot has the kernel elsewhere, so that its place tells the boot."""
        self.first_in_capitals = in_capitals(self.first)
        self._extents: dict[str, tuple[list[range], bool]] = {}
        self._image, modules = self._extent_of(False), self._extent_of(True)
        self.has_modules = len(modules) > 0
        """Whether the file has a module's section."""
        self.areas = Areas(table, self._image, modules)
        self._kernels = self._image_range() if is_x86(table) else range(0)
        self._image_digits = self._digits_of_image()

    def _extent_of_all(self) -> tuple[int, int]:
        start = self._table.spans.start
        held = start[self._table.spans.number != 0]
        if len(held):
            return int(held[0]), int(held[-1])
        return 0xFFFF << 48, (1 << 64) - 1

    def _extent_of(self, modules: bool) -> range:
        """From the first to the last byte of the kernel's sections, or of all modules'."""
        parts = [p for name, p in self._sections.items() if name.startswith("[") == modules]
        # x86-64 until Linux 6.15 has per-CPU variables at 0, which are no part of the image.
        if not modules:
            parts = [p for p in parts if p.start >> (4 * self.digits - 1)] or parts
        if not parts:
            return range(0)
        return range(min(p.start for p in parts), max(p.stop for p in parts))

    def _image_range(self) -> range:
        """Where a kernel of x86-64 can lie and no module does."""
        if not self._image or self._image.start not in X86_KERNEL:
            return range(0)
        starts = [p.start for name, p in self._sections.items() if name.startswith("[")]
        modules = [start for start in starts if self.areas.is_modules(start, None)]
        return range(X86_KERNEL.start, min([X86_KERNEL.stop, *modules]))

    def _digits_of_image(self) -> bytes:
        """Give what all addresses of the image begin with; b"" if a module's can as well."""
        first, last, digits = self._image.start, self._image.stop, self.digits
        differing = len(f"{first ^ last:x}")
        ends = first >> 4 * differing << 4 * differing, first | (1 << 4 * differing) - 1
        if not all(end in self._kernels for end in ends):
            return b""
        return f"{first:0{digits}x}"[: digits - differing].encode()

    def is_in_image(self, text: bytes) -> bool:
        """Return whether all addresses in a text lie near the file's image, and no module does.

        Where that cannot be told so quickly it is False.
        """
        digits = self._image_digits
        if not digits or self.first.upper() in text:
            return False
        return text.count(self.first) == text.count(digits) * digits.count(self.first)

    def place(self, address: int, boot: Boot) -> Place | None:
        """Find what ``address`` is in ``boot``; None where that cannot be known."""
        symbol = self.names.at(address - boot.slide)
        if symbol is not None and (symbol.module is None or boot.own):
            return Place(symbol, address - boot.slide - symbol.address, address - boot.slide)
        found = [
            Place(symbol, address - move - symbol.address, address - move)
            for section, move in boot.moves.items()
            if address - move in self._sections[section]
            if (symbol := self.names.at(address - move)) and symbol.section == section
            if self._reaches(symbol, address - move)
        ]
        # Two have been at one place where one was unloaded before the other came.
        return found[0] if len(found) == 1 else None

    def _reaches(self, symbol: Symbol, address: int) -> bool:
        """Return whether a module's symbol is known to hold an address behind it.

        An inferred size takes in whatever is up to the next symbol, or to the section's end. In
        its own boot nothing else is there; in another boot another module's pages can be.
        """
        if symbol.exact or address // PAGE == symbol.address // PAGE:
            return True
        end = symbol.address + symbol.size
        return symbol.size <= PAGE and end < self._sections[symbol.section or ""].stop

    def lies_as(self, symbol: Symbol, address: int) -> bool:
        """Return whether ``symbol`` can be at ``address`` in some boot."""
        step = self.step if symbol.module is None else PAGE
        return _can_move(address - symbol.address, step)

    def untold(self, address: int, boot: Boot) -> str:
        """Say why an address without a place in ``boot`` can have one; "" if it has none."""
        if not boot.own and (address - boot.slide) not in self._image:
            slide = None if boot.slide == UNKNOWN else boot.slide
            if self.areas.is_modules(address, slide):
                return MODULES
        return UNTOLD if boot.slide == UNKNOWN else ""

    def elsewhere(self, address: int) -> bool:
        """Return whether only another boot's kernel can lie there.

        What bounds a region, a multiple of the step, is no such address.
        """
        return (
            address in self._kernels and address not in self._image and address % self.step > 0
        )

    def can_be_code(self, address: int) -> bool:
        """Return whether the number can be an address, for all that it looks like.

        ``%p`` prints 32 bits of a hash (since Linux 4.15): where a kernel's addresses begin as
        other numbers do, that is none but in the file's own image.
        """
        return self.telling or address in self._image

    def inside(self, address: int) -> bool:
        """Return whether the file's kernel has a symbol there."""
        symbol = self.names.at(address)
        return symbol is not None and symbol.module is None

    def of_kernel(self, name: str) -> bool:
        """Return whether a symbol of the kernel's own, and none of a module, has that name."""
        called = self.names.called(name)
        return bool(called) and all(symbol.module is None for symbol in called)

    def slides(self, address: int, name: str, offset: int) -> frozenset[int]:
        """Give every slide at which an address is ``offset`` bytes into a kernel's ``name``."""
        called = self.names.called(name)
        return self._slides(address, [s.address + offset for s in called if s.module is None])

    def _slides(self, address: int, places: Iterable[int]) -> frozenset[int]:
        """Give the distances of ``address`` from ``places`` that a kernel can be moved by."""
        moves = (address - place for place in places)
        return frozenset(move for move in moves if _can_move(move, self.step))

    def slides_of_start(self, start: int, release: str | None) -> frozenset[int] | None:
        """Give the slides at which the kernel's image begins at ``start``.

        ``release`` is the text's, where it says it. An empty set says that it is another boot,
        and not by how much it was moved; None that the file tells too little.
        """
        exact, highest = image_start(self._table, release)
        if exact:
            return self._slides(start, exact)
        if highest is None or 0 <= highest - start < _HEAD:
            return None
        return frozenset()

    def slides_where_unmoved(self, release: str | None) -> frozenset[int] | None:
        """Give what ``Kernel Offset: disabled`` tells, as :meth:`slides_of_start` does."""
        return slides_where_unmoved(self._table, release)

    def within(self, address: int, name: str) -> Within:
        """Give what a name without an offset, beside ``address``, tells of the boot."""
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
        """Find where the symbols of that name are, and whether one of them tells a slide.

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
        """Return whether a kernel can be moved by that, for all that is known."""
        if not self._kernels:
            return _can_move(slide, self.step)
        start, stop = self._image.start + slide, self._image.stop + slide
        return X86_KERNEL.start <= start and stop <= X86_KERNEL.stop

    def moves(self, address: int, name: str, offset: int, module: str | None) -> dict[str, int]:
        """Give how far a module's section is moved, if ``address`` is in its ``name``."""
        found: dict[str, int] = {}
        for symbol in self.names.called(name):
            if symbol.module is None or symbol.module in self.names.listed:
                continue
            if module not in (None, symbol.module):
                continue
            move = address - symbol.address - offset
            if symbol.section in self._sections and _can_move(move, PAGE):
                if symbol.section in found:
                    return {}  # two of one name: nothing says which of them is meant
                found[symbol.section] = move
        return found

    def moves_of_base(self, module: str, base: int) -> dict[str, int]:
        """Give how far each section of a module is moved that begins at ``base``."""
        start = self._module_bases.get(module)
        if start is None or not _can_move(base - start, PAGE):
            return {}
        prefix = f"[{module}]"
        return {name: base - start for name in self._sections if name.startswith(prefix)}

    @cached_property
    def _module_bases(self) -> dict[str, int]:
        """Where the file has each module, as /proc/modules says it."""
        files = self._table.facts.get("files", ())
        told = {f["name"]: (f.get("module") or {}).get("address") for f in files}
        return {name: int(address, 16) for name, address in told.items() if address}


def _can_move(distance: int, step: int) -> bool:
    return distance % step == 0 and abs(distance) < FURTHEST
