"""The rule which symbols can name an address, for one symbol and for all at once.

A symbol cannot if it is undefined, absolute or common; if it is ELF's own (a section, a file)
or thread-local; or if it has no type. In a snapshot every symbol without a type is one that
names nothing. In any other ELF file an assembler's label can lack a type and still name code:
there only mapping symbols and compilers' labels are left out, by their names.
"""

from __future__ import annotations

from .._elf import Sym
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Final
from .symbol import MARKS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .sectioned import SectionedSymbols
    from .spans import SymbolSpans
    from .symbol_file import SymbolFile

UNNAMED: Final = (elf.STT_SECTION, elf.STT_FILE, elf.STT_TLS)
"""Types of symbols that are not at an address of the kernel's."""
_NOWHERE: Final = (elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON)
_MARKS: Final = tuple(mark.encode() for mark in MARKS)


def can_name_address(file: SymbolFile, sym: Sym) -> bool:
    """Return True if the symbol of a row can name an address."""
    kind = sym.st_info & 0xF
    if sym.st_shndx in _NOWHERE or kind in UNNAMED:
        return False
    if kind != elf.STT_NOTYPE:
        return True
    return not file.is_snapshot and not file.name_at(sym.st_name).startswith(_MARKS)


def addressable_symbols(file: SymbolFile, sectioned: SectionedSymbols | None) -> SymbolSpans:
    """Return the columns of all symbols that can name an address.

    ``sectioned`` has the symbols by section, if the file is neither a snapshot nor an image in
    the driver's layout: then only those in a section of the kernel's memory count.
    """
    import numpy as np

    # Keep symbols with an address and a type that can have one.
    rows = file.array[1:]
    kind = rows["st_info"] & 0xF
    good = ~np.isin(rows["st_shndx"], _NOWHERE) & ~np.isin(kind, UNNAMED)
    if sectioned is not None:
        good &= np.isin(np.arange(1, len(rows) + 1), sectioned.numbers())

    # Drop symbols without a type: all of a snapshot's, and those with a mark's name.
    number = np.flatnonzero(good)
    untyped = number[kind[number] == elf.STT_NOTYPE]
    if not file.is_snapshot:
        untyped = untyped[_has_mark(file, rows["st_name"][untyped])]
    good[untyped] = False

    number = np.flatnonzero(good)
    if sectioned is not None:
        from .sectioned_spans import sectioned_columns

        return sectioned_columns(sectioned, file.array, number + 1)
    from .spans import SymbolSpans

    value, size = (rows[name][number].astype(np.uint64) for name in ("st_value", "st_size"))
    return SymbolSpans(number + 1, value, size, rows["st_name"][number].astype(np.uint32))


def _has_mark(file: SymbolFile, starts: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return for each of ``starts``, offsets in the strings, if a mark begins there."""
    import numpy as np

    strings = np.frombuffer(file.strings, np.uint8)
    found = np.zeros(len(starts), np.bool_)
    for mark in _MARKS if len(strings) else ():
        same = np.ones(len(starts), np.bool_)
        for offset, byte in enumerate(mark):
            at = starts.astype(np.int64) + offset
            same &= strings.take(at, mode="clip") == byte
        found |= same
    return found
