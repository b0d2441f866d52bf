"""Linker files made from ELF files on disk, for the ``linux`` layout; sections are regions."""

from __future__ import annotations

import errno
import os
import re
from itertools import pairwise

import numpy as np

from .._arrays import I64, U8, U32, U64, Mask
from .._elf import ElfFile, Note, Shdr, build_id, find_symtab, parse_notes
from .._elf import constants as elf
from .._errors import LayoutError
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .elf_table import (
    ElfTable,
    ModuleFile,
    Rows,
    extended_numbers,
    section_bases,
    sections_of,
)
from .files import KERNEL_ID, LinkerFile, Region, Role, Symbols
from .kallsyms_symbols import LETTER_INFO, with_role
from .labels import find_labels

if TYPE_CHECKING:
    from .files import Kind

_BLOCK: Final = 1 << 16
"""The number of symbols that are read at once."""
_MOST_SHARED: Final = 16
"""The largest size of the new string table, as a multiple of the file's own."""
_LETTERS: Final[dict[Kind, str]] = {"text": "t", "rodata": "r", "data": "d", "bss": "b"}
_LANDMARKS: Final = (b"_text", b"_stext")
_SOURCE: Final = "section headers"


class ElfLinkerFile(NamedTuple):
    """A linker file, the notes of its ELF file, and the addresses of its landmarks by name."""

    file: LinkerFile
    notes: tuple[Note, ...]
    landmarks: dict[str, int]


def elf_to_linker_file(number: int, table: ElfTable) -> ElfLinkerFile:
    """Return the linker file with the id ``number``, made from the ELF file of ``table``.

    Raises:
        LayoutError: it is not 64-bit little-endian.
        ImageError: a field of it is wrong.
        SourceError: it cannot be read.
    """
    name = "kernel" if number == KERNEL_ID else module_name(table.path)
    with table.opened() as image:
        if (image.format.elf_class, image.format.data) != (elf.ELFCLASS64, elf.ELFDATA2LSB):
            raise LayoutError(
                f"The linux layout takes 64-bit little-endian ELF files, and {table.path} "
                "is not one.",
                "Take the freebsd layout: --layout freebsd.",
                errno=errno.EOPNOTSUPP,
            )
        if number == KERNEL_ID and image.header.e_type == elf.ET_REL:
            raise image.wrong("it is an object file (ET_REL), whose symbols have no addresses")
        if number == KERNEL_ID and find_symtab(image) is None:
            raise image.wrong("it has no .symtab")

        notes = _notes(image)
        regions = _regions(image, table.module, "" if number == KERNEL_ID else f"[{name}]")
        rows, section, strings = _rows(image, table)
        kernel = number == KERNEL_ID
        symbols, landmarks = _symbols(image, rows, section, strings, regions, kernel)
    file = LinkerFile(
        id=number,
        name=name,
        symbols=symbols,
        regions=regions,
        stops=np.zeros(0, np.uint64),
        build_id=build_id(notes),
        debug=table.path,
    )
    return ElfLinkerFile(file, notes, landmarks)


def module_name(path: str) -> str:
    """Return the name that the kernel gives a module in ``path`` (scripts/Makefile.lib)."""
    stem = os.path.basename(path).partition(".")[0]
    return re.sub(r"\W", "_", stem) or "module"


def _notes(image: ElfFile) -> tuple[Note, ...]:
    """Return the notes of an ELF file.

    Raises:
        ImageError: they are damaged.
    """
    notes: list[Note] = []
    if sum(s.sh_size for s in image.sections if s.sh_type == elf.SHT_NOTE) > len(image.data):
        raise image.wrong("its notes overlap")
    for section in image.sections:
        if section.sh_type == elf.SHT_NOTE:
            try:
                notes += parse_notes(image.contents(section), image.format)
            except ValueError as error:
                raise image.wrong(str(error)) from None
    return tuple(notes)


def _in_memory(section: Shdr) -> bool:
    """Return True if the section has addresses of its own; thread-local data has none."""
    return bool(section.sh_flags & elf.SHF_ALLOC) and not section.sh_flags & elf.SHF_TLS


def _regions(image: ElfFile, module: ModuleFile | None, prefix: str) -> tuple[Region, ...]:
    """Return a region for each section in memory, sorted by address.

    Args:
        image: the ELF file.
        module: the module's file and its address; None for the kernel.
        prefix: the start of the regions' names, such as ``[dummy]``.

    Raises:
        ImageError: two sections overlap, or one ends past the last address.
    """
    starts = _starts(image, module)
    names = image.section_names()
    found = []
    for number, section in enumerate(image.sections):
        start, name = starts[number], names[number]
        if start is None or not _in_memory(section) or not section.sh_size:
            continue
        # Per-CPU variables of x86 are linked at 0, as offsets (before Linux 6.15).
        if module is None and not start and name.startswith(".data..percpu"):
            continue
        end = start + section.sh_size
        if end >= 1 << 64:
            raise image.wrong(f"section {number} ends past the last address")
        found.append(Region(prefix + name, start, end, _kind(section), False, _SOURCE))

    found.sort(key=lambda region: (region.start, region.end))
    for before, after in pairwise(found):
        if after.start < before.end:
            raise image.wrong(f"its sections {before.name} and {after.name} overlap")
    return tuple(found)


def _starts(image: ElfFile, module: ModuleFile | None) -> list[int | None]:
    """Return the address of each section, or None for one that has none."""
    if module is None:
        return [section.sh_addr for section in image.sections]
    bases = section_bases(image, module)
    linked = image.header.e_type != elf.ET_REL
    return [
        int(base) + (section.sh_addr if linked else 0) if known else None
        for base, known, section in zip(bases.add, bases.known, image.sections)
    ]


def _kind(section: Shdr) -> Kind:
    """Return the kind of memory of a section, by its flags."""
    if section.sh_flags & elf.SHF_EXECINSTR:
        return "text"
    if not section.sh_flags & elf.SHF_WRITE:
        return "rodata"
    return "bss" if section.sh_type == elf.SHT_NOBITS else "data"


def _rows(image: ElfFile, table: ElfTable) -> tuple[Rows, I64, bytes]:
    """Return the symbols with a name that are in memory or absolute, and what belongs to them.

    Returns:
        The rows of these symbols, the section number of each (-1 for an absolute one), and the
        string table.
    """
    found = find_symtab(image)
    if found is None:
        return np.zeros(0, image.format.sym.dtype), np.zeros(0, np.int64), b""

    rows = np.concatenate(
        [np.zeros(0, image.format.sym.dtype), *table.blocks_of(image, _BLOCK)]
    )
    section = sections_of(image, rows, 0, extended_numbers(image, found.number))

    kind = rows["st_info"] & 0xF
    named = (rows["st_name"] != 0) & (kind != elf.STT_SECTION) & (kind != elf.STT_FILE)
    memory = np.array([bool(s.sh_flags & elf.SHF_ALLOC) for s in image.sections] or [False])
    placed = (section >= 0) & memory[np.maximum(section, 0)]
    keep = named & (placed | (rows["st_shndx"] == elf.SHN_ABS))
    return rows[keep], section[keep], image.contents(found.strtab).tobytes()


def _symbols(
    image: ElfFile,
    rows: Rows,
    section: I64,
    strings: bytes,
    regions: tuple[Region, ...],
    kernel: bool,
) -> tuple[Symbols, dict[str, int]]:
    """Return ``rows`` as Symbols, and the addresses of the landmarks.

    Args:
        image: the ELF file.
        rows: its symbols.
        section: the section number of each, -1 for an absolute one.
        strings: the string table.
        regions: the regions of the file.
        kernel: True for the kernel's symbols, False for a module's.
    """
    address = rows["st_value"].astype(np.uint64)
    name, own = _names(image, rows, strings)

    letter = _letters(image, rows, section)
    info = LETTER_INFO[letter]
    # The file's own type and binding, if kallsyms' letters have a meaning for these.
    typed = np.isin(rows["st_info"] & 0xF, (elf.STT_FUNC, elf.STT_OBJECT))
    typed &= rows["st_info"] >> 4 <= elf.STB_WEAK
    info[typed] = rows["st_info"][typed]

    table = np.frombuffer(own, np.uint8)
    # Symbols whose values are not addresses in memory.
    nowhere = ~_touches(address, regions) | (section < 0) | _is_tls(image, section)
    role = np.where(nowhere, Role.ABSOLUTE, Role.NAMES).astype(np.uint8)
    role[find_labels(table, name, kernel)] = Role.LABEL

    symbols = Symbols(
        address=address,
        name=name,
        info=info,
        letter=letter,
        role=role,
        size=rows["st_size"].astype(np.uint64),
        exact=(rows["st_size"] > 0) & _ends_within(rows, regions),
        strings=table,
    )
    return with_role(symbols, role), _landmarks(symbols, own)


def _landmarks(symbols: Symbols, own: bytes) -> dict[str, int]:
    """Return the addresses of ``_text`` and ``_stext``, if the file has these symbols."""
    found = {}
    for name in _LANDMARKS:
        at = (b"\0" + own).find(b"\0" + name + b"\0")
        rows = np.flatnonzero(symbols.name == at)
        if at >= 0 and len(rows):
            found[name.decode()] = int(symbols.address[rows[0]])
    return found


def _touches(address: U64, regions: tuple[Region, ...]) -> Mask:
    """Return a mask of the addresses that lie in a region, or at its end."""
    if not regions:
        return np.zeros(len(address), np.bool_)
    starts = np.array([region.start for region in regions], np.uint64)
    ends = np.array([region.end for region in regions], np.uint64)
    before = np.searchsorted(starts, address, "right") - 1
    touches: Mask = (before >= 0) & (address <= ends[np.maximum(before, 0)])
    return touches


def _ends_within(rows: Rows, regions: tuple[Region, ...]) -> Mask:
    """Return a mask of the symbols that do not end past the end of their region."""
    address, size = rows["st_value"].astype(np.uint64), rows["st_size"].astype(np.uint64)
    starts = np.array([region.start for region in regions], np.uint64)
    ends = np.array([0, *(region.end for region in regions)], np.uint64)
    end = ends[np.searchsorted(starts, address, "right")]
    return np.asarray((address >= end) | (size <= end - address))


def _is_tls(image: ElfFile, section: I64) -> Mask:
    """Return a mask of the symbols in thread-local sections, whose values are offsets."""
    tls = np.array([bool(s.sh_flags & elf.SHF_TLS) for s in image.sections] or [False])
    return np.asarray(tls[np.maximum(section, 0)])


def _letters(image: ElfFile, rows: Rows, section: I64) -> U8:
    """Return the letters of nm and kallsyms: lower case for local symbols, else capitals."""
    own = [ord(_LETTERS[_kind(s)]) for s in image.sections] or [0]

    letter = np.where(section < 0, ord("a"), np.array(own, np.uint8)[np.maximum(section, 0)])
    binding = rows["st_info"] >> 4
    weak_object = (binding == elf.STB_WEAK) & (rows["st_info"] & 0xF == elf.STT_OBJECT)
    letter = np.where(
        binding == elf.STB_WEAK, np.where(weak_object, ord("v"), ord("w")), letter
    )
    return np.where(binding == elf.STB_LOCAL, letter, letter - 32).astype(np.uint8)


def _names(image: ElfFile, rows: Rows, strings: bytes) -> tuple[U32, bytes]:
    """Return the offset of each name in a new string table, and that table.

    In the file's table a name can be the tail of another, as linkers do to save space. In the
    new one no two names overlap.

    Raises:
        ImageError: the names overlap so much that the new table would be far larger.
    """
    offsets: dict[int, int] = {}
    own = bytearray()
    for start in rows["st_name"].tolist():
        if start not in offsets:
            offsets[start] = len(own)
            own += strings[start : strings.index(b"\0", start) + 1]
            if len(own) > _MOST_SHARED * (len(strings) + 4096):
                raise image.wrong("its symbols' names overlap in its string table")
    name = [offsets[start] for start in rows["st_name"].tolist()]
    return np.array(name, np.uint32), bytes(own)
