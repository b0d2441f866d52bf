"""The section headers of an ELF image's symbol table and of its string table."""

from __future__ import annotations

from .._typing import NamedTuple
from .constants import EI_OSABI, ELFOSABI_FREEBSD, SHT_NULL, SHT_STRTAB, SHT_SYMTAB
from .reader import ElfFile
from .structs import Shdr


class SymtabHeaders(NamedTuple):
    """The section headers of ``.symtab`` and its string table.

    ``number`` is the index of ``.symtab`` among the sections.
    """

    number: int
    symtab: Shdr
    strtab: Shdr


def find_symtab(image: ElfFile) -> SymtabHeaders | None:
    """Return the image's symbol table; None if it has none (gABI: at most one SHT_SYMTAB).

    Raises:
        ImageError: the size of its rows is not that of the format, or its ``sh_link`` is not a
            string table.
    """
    found = ((n, s) for n, s in image.stored.items() if s.sh_type == SHT_SYMTAB)
    number, section = next(found, (0, None))
    if section is None:
        return None
    size = image.format.sym.size
    if section.sh_entsize != size or section.sh_size % size:
        raise image.wrong(
            f".symtab has sh_size {section.sh_size} and sh_entsize {section.sh_entsize}"
        )
    if section.sh_link >= len(image.sections):
        raise image.wrong(f".symtab's sh_link is {section.sh_link}")
    strings = image.sections[section.sh_link]
    if strings.sh_type != SHT_STRTAB:
        raise image.wrong(
            f".symtab's sh_link is {section.sh_link}, which is not a string table"
        )
    return SymtabHeaders(number, section, strings)


def is_driver_image(image: ElfFile) -> bool:
    """Return True for an image of FreeBSD's ``/dev/ksyms``, or of ksyms' ``freebsd`` layout.

    In such an image ``st_shndx`` is the index of a section in another file. The image is
    recognised by its four section headers, of which none is that of code or data
    (freebsd-ksyms.c, ksyms_snapshot).
    """
    kinds = [SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_STRTAB]
    return (
        image.header.e_ident[EI_OSABI] == ELFOSABI_FREEBSD
        and [section.sh_type for section in image.sections[:5]] == kinds
    )
