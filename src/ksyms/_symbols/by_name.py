"""Lookup by name: the first names by scans of the strings, later ones by an index."""

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
"""The number of scans that take as long as importing numpy and making the index of names."""
_RANK: Final = {elf.STB_WEAK: 1, elf.STB_LOCAL: 2}
"""The order in which a linker prefers bindings; a global symbol has 0."""


class NameSearch:
    """A search among the names of the symbols of ``file``."""

    def __init__(self, file: SymbolFile) -> None:
        self._file = file
        self._asked = 0

    def find(self, name: bytes) -> list[tuple[int, Sym]]:
        """Return the number and the row of each symbol called ``name``, if it is defined."""
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
        """True as long as scans for single names take less time than an index of all names."""
        return self._asked <= FINDS and "numpy" not in sys.modules

    @cached_property
    def is_lto(self) -> bool:
        """True if the file has names that only clang's LTO makes."""
        from .printed import is_lto

        return is_lto(bytes(self._file.strings))

    @cached_property
    def _index(self) -> NameHashes:
        """The index of all names, by number."""
        from .name_index import index_names

        _ = self.is_lto  # test it now, so that the first name that is not found need not wait
        return index_names(self._file.strings, self._file.array["st_name"])

    def starts_of(self, name: bytes, end: bytes = b"\0") -> list[int]:
        """Return the offsets in the strings at which a name can start with ``name + end``.

        With the default ``end`` the whole name is ``name``.
        """
        strings = bytes(self._file.strings)
        return [
            start
            for start in _occurrences(strings, name + end)
            # In a snapshot a name is a whole string, or the rest of one after a known prefix.
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
        """The numbers of the defined symbols of each name.

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
    """Return the row that a linker would choose from ``found``, the symbols of one name.

    :meth:`SymbolTable.find_best` has the order. Return None if a linker would choose none.
    """
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
