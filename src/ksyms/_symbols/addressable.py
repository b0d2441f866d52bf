"""The rule for symbols that can name an address, applied to one symbol and to all at once.

A symbol cannot name an address if it is undefined, absolute or common; if it stands for a
section or a file, or is thread-local; or if it is a label. In a snapshot every symbol without a
type is treated like a label. In any other ELF file a symbol without a type can be one that
names code written in assembler: there labels are recognised by their names.
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
"""Types of symbols that are at no address in the kernel's memory."""
_NOWHERE: Final = (elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON)
_MARKS: Final = tuple(mark.encode() for mark in MARKS)


def can_name_address(file: SymbolFile, sym: Sym) -> bool:
    """Return True if the symbol in the row ``sym`` of ``file`` can name an address."""
    kind = sym.st_info & 0xF
    if sym.st_shndx in _NOWHERE or kind in UNNAMED:
        return False
    if kind != elf.STT_NOTYPE:
        return True
    return not file.is_snapshot and not file.name_at(sym.st_name).startswith(_MARKS)


def addressable_symbols(file: SymbolFile, sectioned: SectionedSymbols | None) -> SymbolSpans:
    """Return the columns of all symbols of ``file`` that can name an address.

    ``sectioned`` has the symbols by section. It is None if the file is a snapshot or an image
    in the driver's layout. In any other file a symbol must also be in a section that is in the
    kernel's memory.
    """
    import numpy as np

    # Keep symbols that have an address, and a type that allows one.
    rows = file.array[1:]
    kind = rows["st_info"] & 0xF
    good = ~np.isin(rows["st_shndx"], _NOWHERE) & ~np.isin(kind, UNNAMED)
    if sectioned is not None:
        good &= np.isin(np.arange(1, len(rows) + 1), sectioned.numbers())

    # Of the symbols without a type, drop those with the name of a label; in a snapshot all.
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
    """Return a mask of the ``starts``, offsets in the strings, where a label's name starts."""
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
