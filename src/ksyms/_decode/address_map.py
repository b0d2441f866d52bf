"""A map between the addresses of a boot and the file's symbols.

It works in two directions. Given a boot, :meth:`AddressMap.place` finds the symbol at an
address. Given an address and the name that a text has beside it, :meth:`AddressMap.slides`,
:meth:`AddressMap.within` and :meth:`AddressMap.moves` find the boots in which both are right:

    the file                       vfs_open is at 0xffffffff81400000
    the text                       0xffffffff9b40002e vfs_open+0x2e
    the slide                      0xffffffff9b40002e - 0x2e - 0xffffffff81400000 = 0x1a000000
"""

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
from .names import SymbolNames

MODULES: Final = "modules lie elsewhere in that boot, and the text does not say where"
UNTOLD: Final = "it is of another boot, whose slide is unknown"
_RARE: Final = 1 << 10
"""A name alone is evidence only if its symbols cover at most 1/1024 of a step of slides."""
_HEAD: Final = 1 << 24
"""Limit on the bytes from the image's start to _stext, if the file does not list the start."""


class SymbolOffset(NamedTuple):
    """A symbol, the offset of an address in it in bytes, and the file's address for it."""

    symbol: Symbol
    offset: int
    address: int


class Within(NamedTuple):
    """The evidence of a name without an offset: the address is anywhere in its symbol.

    ``near`` is the set of slides at which the address lies in a symbol of that name (0: the
    file's own boot); None if the name gives no evidence. ``held`` is True if the address lies
    in a symbol of that name at slide 0, and False if it lies in another symbol; None if no
    symbol has the name, or the file has no symbol at the address.
    """

    near: frozenset[int] | None
    held: bool | None


class AddressMap:
    """The addresses of ``table``'s sections and symbols, and of the same in other boots."""

    def __init__(self, table: SymbolTable, names: SymbolNames) -> None:
        self.names = names
        self.digits = table.digits
        """The number of digits of an address in a text."""
        self.step = step(table)
        """The number of bytes of which every slide is a multiple."""

        self._table = table
        self._sections = {
            name: range(start, start + size) for name, start, size in table.sections if size
        }
        low, high = self._extent_of_all()
        self.first, self.common = first_digits(low, high, self.digits)
        """The pattern of an address's first digits, and the number of those digits."""
        self.telling = self.digits > 8 and self.first[:1] not in (b"", b"0")
        """True if only kernel addresses begin with these digits."""

        self.fixed = is_fixed(table)
        """True if all boots have the kernel at the same address."""
        self.moved = is_moved(table)
        """True if each boot has the kernel at another address, which identifies the boot."""
        self.first_in_capitals = in_capitals(self.first)
        """The same pattern as ``first``, which matches capital letters too."""

        self._extents: dict[str, tuple[list[range], bool]] = {}
        self._image, modules = self._extent_of(False), self._extent_of(True)
        self.has_modules = len(modules) > 0
        """True if the file has a module's section."""
        self.areas = Areas(table, self._image, modules)
        self._kernels = self._image_range() if is_x86(table) else range(0)
        self._image_digits = self._digits_of_image()

    def _extent_of_all(self) -> tuple[int, int]:
        """Return the first and the last address at which a symbol's span starts."""
        start = self._table.spans.start
        held = start[self._table.spans.number != 0]
        if len(held):
            return int(held[0]), int(held[-1])
        return 0xFFFF << 48, (1 << 64) - 1

    def _extent_of(self, modules: bool) -> range:
        """Return the range from the first to the last section of the kernel, or of modules."""
        parts = [p for name, p in self._sections.items() if name.startswith("[") == modules]
        # x86-64 until Linux 6.15 has per-CPU variables at 0, which are not part of the image.
        if not modules:
            parts = [p for p in parts if p.start >> (4 * self.digits - 1)] or parts
        if not parts:
            return range(0)
        return range(min(p.start for p in parts), max(p.stop for p in parts))

    def _image_range(self) -> range:
        """Return the addresses at which an x86-64 kernel can lie, below all modules.

        It is empty if the file's kernel does not lie in that region.
        """
        if not self._image or self._image.start not in X86_KERNEL:
            return range(0)
        starts = [p.start for name, p in self._sections.items() if name.startswith("[")]
        modules = [start for start in starts if self.areas.is_modules(start, None)]
        return range(X86_KERNEL.start, min([X86_KERNEL.stop, *modules]))

    def _digits_of_image(self) -> bytes:
        """Return the digits that all addresses of the image begin with.

        For an image from 0xffffffff81000000 to 0xffffffff83a00000 that is ``ffffffff8``. It is
        b"" if an address outside of the kernel's region begins with these digits too.
        """
        first, last, digits = self._image.start, self._image.stop, self.digits
        differing = len(f"{first ^ last:x}")
        ends = first >> 4 * differing << 4 * differing, first | (1 << 4 * differing) - 1
        if not all(end in self._kernels for end in ends):
            return b""
        return f"{first:0{digits}x}"[: digits - differing].encode()

    def is_in_image(self, text: bytes) -> bool:
        """Return True if all addresses of a text begin with the digits of the file's image.

        Then none is a module's. It is a quick check by counting: False can also mean that the
        check does not apply.
        """
        digits = self._image_digits
        if not digits or self.first.upper() in text:
            return False
        return text.count(self.first) == text.count(digits) * digits.count(self.first)

    def place(self, address: int, boot: Boot) -> SymbolOffset | None:
        """Find the symbol at ``address`` in ``boot``; None if that cannot be known.

        A kernel's symbol is found by the slide. A module's symbol is found by the slides of
        the module's sections (``boot.moves``), or at the file's address in the file's own boot.
        """
        symbol = self.names.at(address - boot.slide)
        if symbol is not None and (symbol.module is None or boot.own):
            return SymbolOffset(
                symbol, address - boot.slide - symbol.address, address - boot.slide
            )

        found = [
            SymbolOffset(symbol, address - move - symbol.address, address - move)
            for section, move in boot.moves.items()
            if address - move in self._sections[section]
            if (symbol := self.names.at(address - move)) and symbol.section == section
            if self._reaches(symbol, address - move)
        ]

        # Two sections can have been at one address: one was unloaded before the other came.
        return found[0] if len(found) == 1 else None

    def _reaches(self, symbol: Symbol, address: int) -> bool:
        """Return True if a module's symbol is known to contain an address above its own.

        An inferred size reaches to the next symbol, or to the section's end. In the file's own
        boot that range has nothing else in it; in another boot it can have another module.
        """
        if symbol.exact or address // PAGE == symbol.address // PAGE:
            return True
        end = symbol.address + symbol.size
        return symbol.size <= PAGE and end < self._sections[symbol.section or ""].stop

    def lies_as(self, symbol: Symbol, address: int) -> bool:
        """Return True if ``symbol`` can be at ``address`` in some boot."""
        step = self.step if symbol.module is None else PAGE
        return _can_move(address - symbol.address, step)

    def why_unknown(self, address: int, boot: Boot) -> str:
        """Return why the symbol at an address in ``boot`` is unknown.

        It is "" if there is certainly no symbol. :meth:`place` must have returned None.
        """
        if not boot.own and (address - boot.slide) not in self._image:
            slide = None if boot.slide == UNKNOWN else boot.slide
            if self.areas.is_modules(address, slide):
                return MODULES
        return UNTOLD if boot.slide == UNKNOWN else ""

    def elsewhere(self, address: int) -> bool:
        """Return True if only another boot's kernel can have this address.

        Multiples of the step are excluded: texts have them as the bounds of regions.
        """
        return (
            address in self._kernels and address not in self._image and address % self.step > 0
        )

    def can_be_code(self, address: int) -> bool:
        """Return True if a number that looks like an address can be one.

        ``%p`` prints 32 bits of a hash (since Linux 4.15). If kernel addresses do not differ
        from such numbers in their first digits (``telling`` is False), only a number within the
        file's own image is taken for an address.
        """
        return self.telling or address in self._image

    def inside(self, address: int) -> bool:
        """Return True if the file has a symbol of the kernel itself at ``address``."""
        symbol = self.names.at(address)
        return symbol is not None and symbol.module is None

    def of_kernel(self, name: str) -> bool:
        """Return True if the kernel has a symbol of that name, and no module has one."""
        called = self.names.called(name)
        return bool(called) and all(symbol.module is None for symbol in called)

    def slides(self, address: int, name: str, offset: int) -> frozenset[int]:
        """Return the slides at which ``address`` is ``name`` of the kernel plus ``offset``."""
        called = self.names.called(name)
        return self._slides(address, [s.address + offset for s in called if s.module is None])

    def _slides(self, address: int, places: Iterable[int]) -> frozenset[int]:
        """Return the possible slides that take one of ``places`` to ``address``."""
        moves = (address - place for place in places)
        return frozenset(move for move in moves if _can_move(move, self.step))

    def slides_of_start(self, start: int, release: str | None) -> frozenset[int] | None:
        """Return the slides at which the kernel's image begins at ``start``.

        ``release`` is the kernel release that the text has, if any. An empty set means another
        boot with an unknown slide. None means that the file's own start is not known well
        enough.
        """
        exact, highest = image_start(self._table, release)
        if exact:
            return self._slides(start, exact)
        if highest is None or 0 <= highest - start < _HEAD:
            return None
        return frozenset()

    def slides_where_unmoved(self, release: str | None) -> frozenset[int] | None:
        """Return the slides that ``Kernel Offset: disabled`` allows, as slides_of_start()."""
        return slides_where_unmoved(self._table, release)

    def within(self, address: int, name: str) -> Within:
        """Return the evidence of a name without an offset beside ``address``.

        A symbol is smaller than a step of slides, so each gives at most one slide. With a step
        of 0x200000 and a symbol of 0x100 bytes at 0xffffffff81400000:

            0xffffffff9b400040    0x40 bytes in, modulo the step: the slide is 0x1a000000
            0xffffffff9b400140    0x140 bytes in: no slide puts it in the symbol
        """
        places, tells = self._extent(name)
        if not places:
            return Within(None, None)
        own = any(address in place for place in places)

        # An address outside of all symbols can have a symbol in another boot.
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
        """Return the address ranges of the symbols of that name, and True if they are evidence.

        They are evidence if they are small compared with a step of slides (see ``_RARE``), and
        if all symbols are the kernel's.
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
        """Return True if the kernel can have this slide: its image stays within its region."""
        if not self._kernels:
            return _can_move(slide, self.step)
        start, stop = self._image.start + slide, self._image.stop + slide
        return X86_KERNEL.start <= start and stop <= X86_KERNEL.stop

    def moves(self, address: int, name: str, offset: int, module: str | None) -> dict[str, int]:
        """Return the moves of modules' sections with which ``address`` is in ``name``.

        They are in bytes, by the section's name; ``offset`` is the offset in the symbol.
        ``module`` is the module that the text names. If it is None, each module can be meant
        that has such a symbol.
        """
        found: dict[str, int] = {}
        for symbol in self.names.called(name):
            if symbol.module is None or symbol.module in self.names.listed:
                continue
            if module not in (None, symbol.module):
                continue
            move = address - symbol.address - offset
            if symbol.section in self._sections and _can_move(move, PAGE):
                if symbol.section in found:
                    return {}  # it has two symbols of that name: which is meant is unknown
                found[symbol.section] = move
        return found

    def moves_of_base(self, module: str, base: int) -> dict[str, int]:
        """Return the moves in bytes of the sections of a module that begins at ``base``."""
        start = self._module_bases.get(module)
        if start is None or not _can_move(base - start, PAGE):
            return {}
        prefix = f"[{module}]"
        return {name: base - start for name in self._sections if name.startswith(prefix)}

    @cached_property
    def _module_bases(self) -> dict[str, int]:
        """The address of each module in the file's boot, from /proc/modules."""
        files = self._table.facts.get("files", ())
        told = {f["name"]: (f.get("module") or {}).get("address") for f in files}
        return {name: int(address, 16) for name, address in told.items() if address}


def _can_move(distance: int, step: int) -> bool:
    """Return True if a slide or move of ``distance`` bytes is possible in steps of ``step``."""
    return distance % step == 0 and abs(distance) < FURTHEST
