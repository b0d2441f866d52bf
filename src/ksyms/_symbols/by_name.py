"""Lookup by name: a scan of the strings for the first names, an index of all for more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property

from .. import _note
from .._elf import Sym
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Final
from .addressable import UNNAMED
from .section_of_symbol import SymbolSections
from .symbol_file import SymbolFile
from .symbol_maker import FEW

if TYPE_CHECKING:
    from .name_index import NameHashes

FINDS: Final = 48
"""The number of scans for a name that take as long as numpy's import and the index of names."""
_RANK: Final = {elf.STB_WEAK: 1, elf.STB_LOCAL: 2}
"""The order in which a linker prefers bindings; a global symbol has 0."""


class NameSearch:
    """The names of the symbols of ``file``."""

    def __init__(self, file: SymbolFile) -> None:
        self._file = file
        self._asked = 0

    def find(self, name: bytes) -> list[tuple[int, Sym]]:
        """Return number and row of the symbols called ``name``, but undefined ones."""
        if not name or 0 in name:
            return []
        self._asked += 1
        if self.scans:
            starts = self.starts_of(name)
            rows = [(number, self._file.row(number)) for number in self.numbers_named(starts)]
            return [row for row in rows if row[1].st_shndx != elf.SHN_UNDEF]

        # Compare the names: hashes collide.
        found = []
        string, strings = name + b"\0", self._file.strings
        for number in self._index.find(name):
            sym = self._file.row(number)
            start, _, _, section, _, _ = sym
            same = strings[start : start + len(string)] == string
            if same and number and section != elf.SHN_UNDEF:
                found.append((number, sym))
        return found

    @property
    def scans(self) -> bool:
        """True if a scan for a name is quicker than an index of all."""
        return self._asked <= FINDS and "numpy" not in sys.modules

    @cached_property
    def is_lto(self) -> bool:
        """True if the kernel was compiled with clang's LTO, by the names that it makes."""
        from .printed import is_lto

        return is_lto(bytes(self._file.strings))

    @cached_property
    def _index(self) -> NameHashes:
        """The index of all names, by number."""
        from .name_index import index_names

        _ = self.is_lto  # now, so that the first name that is not found need not wait
        return index_names(self._file.strings, self._file.array["st_name"])

    def starts_of(self, name: bytes, end: bytes = b"\0") -> list[int]:
        """Return the offsets in the strings at which ``name + end`` can start a name."""
        strings = bytes(self._file.strings)
        return [
            start
            for start in _occurrences(strings, name + end)
            # In a snapshot a name is a whole string, or what follows a known prefix in one.
            if not self._file.is_snapshot
            or strings[start - 1] == 0
            or strings.endswith(_note.SHARING_PREFIXES, 0, start)
        ]

    def numbers_named(self, starts: list[int]) -> list[int]:
        """Return the numbers of the symbols whose ``st_name`` is one of ``starts``."""
        layout = self._file.row_layout
        if len(starts) > FEW:
            wanted = set(starts)
            rows = enumerate(layout.unpack_all(self._file.table))
            return [number for number, sym in rows if sym.st_name in wanted and number]

        # Find the bytes of each st_name, which is the first field of a row.
        table, order = bytes(self._file.table), self._file.image.format.byteorder
        found = []
        for start in starts:
            offsets = _occurrences(table, start.to_bytes(4, order))
            found += [at // layout.size for at in offsets if at % layout.size == 0 and at]
        return found

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """The numbers of the symbols of each name, but of undefined ones.

        Raises:
            ImageError: a name has no end, or names overlap so much that together they are far
                larger than their table.
        """
        by_start: dict[int, list[int]] = {}
        for number, (start, section) in enumerate(self._file.names_and_sections()):
            if number and section != elf.SHN_UNDEF:
                by_start.setdefault(start, []).append(number)

        # Several strings can spell one name.
        by_name: dict[str, list[int]] = {}
        names = self._file.image.names_at(self._file.strtab, by_start)
        for name, numbers in zip(names.values(), by_start.values()):
            if name:
                known = by_name.setdefault(name.decode("utf-8", "surrogateescape"), numbers)
                if known is not numbers:
                    known += numbers
        return by_name


def choose_like_linker(
    found: list[tuple[int, Sym]], file: SymbolFile, sections: SymbolSections
) -> Sym | None:
    """Return the row that a linker takes of the symbols of one name; None if it takes none."""
    rows = [sym for _, sym in found if sym.st_shndx != elf.SHN_COMMON]
    rows = [sym for sym in rows if sym.st_info & 0xF not in UNNAMED]

    def preference(sym: Sym) -> tuple[int, bool, int, int]:
        rank, name = _RANK.get(sym.st_info >> 4, 0), sym.st_name
        if not file.is_snapshot:
            return rank, False, name, 0
        module = sections.find(sym.st_shndx, sym.st_name)[1]
        return rank, module is not None, sym.st_value, name

    return min(rows, key=preference, default=None)


def _occurrences(text: bytes, part: bytes) -> Iterator[int]:
    """Yield each offset in ``text`` at which ``part`` starts."""
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)
