"""The symbol table of an ELF file as it is in the file: its rows, names and extra sections.

The number of a symbol is its index in ``.symtab``. Nothing is copied or built when the file is
opened. numpy is imported only in the functions that need it, so that a single lookup does not
wait for its import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from .. import _note
from .._elf import ElfFile, Shdr, Sym, find_symtab, is_driver_image
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SHORT: Final = 64
"""The number of bytes that are read first for a name; most names have fewer."""
_LONG: Final = 512
"""Limit on the bytes of a kernel's name (KSYM_NAME_LEN): a longer one has all names checked."""
_COPIED: Final = 1 << 10
"""The number of bytes that are copied in the time in which one name is read without a copy."""

_FACTS_KEPT: Final = 1 << 20
"""Size in bytes of the largest note whose facts are kept: a thousand modules have less.

Facts take ten times as much memory as their note, so those of a large one are read each time.
"""


class SymbolFile:
    """The rows of ``.symtab``, the strings of their names, and the sections of a snapshot.

    Attributes:
        image: the ELF file.
        symtab: the section header of ``.symtab``.
        strtab: the section header of its string table.
        row_layout: the structure of a row, in the file's class and byte order.
        table: the bytes of ``.symtab``.
        strings: the bytes of its string table: names, each with a NUL after it.
        values: the ``st_value`` of each symbol, by number.
        count: the number of rows, with ELF's symbol 0.
        note: ``.note.ksyms``; empty if the file is not a snapshot in ksyms' own layout.
        letters: ``.ksyms.letters``; empty if the file has none.
        is_snapshot: True if the file has the note.
        is_driver: True for an image in the layout of FreeBSD's driver.

    Raises:
        ImageError: the file has no ``.symtab``, or a field of it is wrong.
        NoteError: the note is of a version that this ksyms does not know.
    """

    def __init__(self, image: ElfFile) -> None:
        self.image = image
        self.symtab, self.strtab = _find_tables(image)
        self.row_layout = image.format.sym
        self.table = image.contents(self.symtab)
        self.strings = image.contents(self.strtab)
        self.values = _read_values(image, self.table)
        self.count = self.symtab.sh_size // self.row_layout.size
        self.is_driver = is_driver_image(image)

        numbers = {
            name: number
            for number, section in image.stored.items()
            if section.sh_type == elf.SHT_PROGBITS and not section.sh_flags
            for name in (_note.SECTION, _note.LETTERS)
            if image.is_called(section, name)
        }
        self.note = self._section_bytes(numbers.get(_note.SECTION))
        self.letters = self._section_bytes(numbers.get(_note.LETTERS))
        self.is_snapshot = len(self.note) > 0
        if self.is_snapshot:
            _note.check(self.note, image.format, image.label)
        self._facts: dict[str, Any] = {}
        self._overlap_checked = False

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of the note; {} if the file has none.

        Small notes are read once, so a caller must not change the facts.

        Raises:
            NoteError: the note is not whole.
        """
        if not self.is_snapshot:
            return {}
        facts = self._facts or dict(
            _note.unpack(self.note, self.image.format, self.image.label)
        )
        if len(self.note) <= _FACTS_KEPT:
            self._facts = facts
        return facts

    @property
    def is_relocatable(self) -> bool:
        """True for an object file or a ``.ko``, whose sections have no addresses yet."""
        return self.image.header.e_type == elf.ET_REL

    @property
    def array(self) -> npt.NDArray[np.void]:
        """The rows, by number, as they are in the file."""
        import numpy as np

        return np.frombuffer(self.table, self.row_layout.dtype)

    def row(self, number: int) -> Sym:
        """Return the row of one symbol."""
        return self.row_layout.unpack(self.table, number * self.row_layout.size)

    def names_and_sections(self) -> Iterable[tuple[int, int]]:
        """Return ``st_name`` and ``st_shndx`` of each symbol, by number."""
        if _is_native(self.image):
            table = self.table
            return zip(table.cast("I")[::6].tolist(), table.cast("H")[3::12].tolist())
        rows = self.row_layout.unpack_all(self.table)
        return ((sym.st_name, sym.st_shndx) for sym in rows)

    def name_at(self, start: int) -> bytes:
        """Return the name at ``start``, an offset in the strings.

        Raises:
            ImageError: the name has no end.
        """
        name, end, _ = bytes(self.strings[start : start + _SHORT]).partition(b"\0")
        # string() reads longer names, and raises the error for one without an end.
        return name if end else self._checked(self.image.string(self.strtab, start))

    def name_in_copy(self, strings: bytes, start: int) -> bytes:
        """Return the name at ``start`` in ``strings``, a copy of all strings.

        For many names this takes less time than :meth:`name_at`.

        Raises:
            ImageError: the name has no end.
        """
        end = strings.find(b"\0", start)
        if 0 <= end - start < _LONG:
            return strings[start:end]
        # string() raises the error for a name without an end.
        return self._checked(self.image.string(self.strtab, start))

    def names_at(self, starts: list[int]) -> list[bytes]:
        """Return the name at each of ``starts``, offsets in the strings.

        Many names are read from a copy of all strings.

        Raises:
            ImageError: a name has no end.
        """
        if len(starts) * _COPIED <= len(self.strings):
            return [self.name_at(start) for start in starts]

        strings = bytes(self.strings)
        find = strings.find
        ends = [find(b"\0", start) for start in starts]
        if all(0 <= end - start < _LONG for start, end in zip(starts, ends)):
            return [strings[start:end] for start, end in zip(starts, ends)]
        return [self.name_in_copy(strings, start) for start in starts]

    def _checked(self, name: bytes) -> bytes:
        """Return ``name``; if it is long, check that the names do not overlap too much.

        Names can share bytes, so a damaged file could make thousands of long names of one
        string. All names are checked after the first long one, once.

        Raises:
            ImageError: they overlap too much.
        """
        if len(name) >= _LONG and not self._overlap_checked:
            starts = (start for start, _ in self.names_and_sections())
            self.image.names_at(self.strtab, starts)
            self._overlap_checked = True
        return name

    def _section_bytes(self, number: int | None) -> memoryview:
        """Return the bytes of the section with the index ``number``; b"" for None."""
        if number is None:
            return memoryview(b"")
        return self.image.contents(self.image.sections[number])


def _find_tables(image: ElfFile) -> tuple[Shdr, Shdr]:
    """Return the section headers of ``.symtab`` and of its string table.

    Raises:
        ImageError: the file has no ``.symtab``, or a field of its header is wrong.
    """
    found = find_symtab(image)
    if found is None:
        raise image.wrong("it has no .symtab")
    count = found.symtab.sh_size // image.format.sym.size
    if not min(1, count) <= found.symtab.sh_info <= count:
        raise image.wrong(f".symtab's sh_info is {found.symtab.sh_info}")
    return found.symtab, found.strtab


def _read_values(image: ElfFile, table: memoryview) -> Sequence[int]:
    """Return the ``st_value`` of each symbol; a view if the file is native.

    A row of ELF64 has three words of 64 bits, of which ``st_value`` is the second.
    """
    if _is_native(image):
        return table.cast("Q")[1::3]
    return [sym.st_value for sym in image.format.sym.unpack_all(table)]


def _is_native(image: ElfFile) -> bool:
    """Return True if the file is ELF64 in this machine's byte order."""
    fmt = image.format
    return fmt.elf_class == elf.ELFCLASS64 and fmt.byteorder == sys.byteorder
