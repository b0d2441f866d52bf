"""The section headers of the ``linux`` layout, and the offsets of the sections in the file."""

from __future__ import annotations

from .._elf import Format, Shdr
from .._elf import constants as elf
from .._linker import Region
from .._typing import Final

PAGE: Final = 4096
SECTION_ALIGN: Final = 8
"""Alignment of ``.symtab`` and of the section headers in the file."""

_FLAGS: Final = {
    "text": elf.SHF_ALLOC | elf.SHF_EXECINSTR,
    "rodata": elf.SHF_ALLOC,
    "data": elf.SHF_ALLOC | elf.SHF_WRITE,
    "bss": elf.SHF_ALLOC | elf.SHF_WRITE,
}


class SectionTable:
    """The section headers, in the order in which they are added, and the section names.

    Args:
        fmt: the image's format.
        start: the offset in the file at which the program headers end.

    Attributes:
        headers: the section headers so far; the first is ELF's section 0.
        names: the contents of ``.shstrtab`` so far.
    """

    def __init__(self, fmt: Format, start: int) -> None:
        self.format = fmt
        self.offset = start + -start % SECTION_ALIGN
        """The offset in the file at which the next section starts."""
        self.headers = [Shdr()]
        self.names = bytearray(1)

    def add_region(self, region: Region) -> None:
        """Add a NOBITS section for ``region``."""
        self.headers.append(
            Shdr(
                sh_name=self._add_name(region.name),
                sh_type=elf.SHT_NOBITS,
                sh_flags=_FLAGS[region.kind],
                sh_addr=region.start,
                sh_offset=region_offset(region),
                sh_size=region.end - region.start,
                sh_addralign=1,
            )
        )

    def add(
        self, name: str, kind: int, size: int, align: int, entry: int = 0, info: int = 0
    ) -> int:
        """Add a section of ``size`` bytes at :attr:`offset`; return its index."""
        assert self.offset % align == 0
        self.headers.append(
            Shdr(
                sh_name=self._add_name(name),
                sh_type=kind,
                sh_offset=self.offset,
                sh_size=size,
                sh_info=info,
                sh_addralign=align,
                sh_entsize=entry,
            )
        )
        self.offset += size
        return len(self.headers) - 1

    def link(self, section: int, to: int) -> None:
        """Set the ``sh_link`` of ``section`` to the index of another section."""
        self.headers[section] = self.headers[section]._replace(sh_link=to)

    def pad(self, align: int) -> bytes:
        """Advance :attr:`offset` to a multiple of ``align``; return the zero bytes up to it."""
        zeros = bytes(-self.offset % align)
        self.offset += len(zeros)
        return zeros

    def close(self) -> tuple[bytes, bytes]:
        """Add ``.shstrtab``; return its bytes, and the zero bytes up to the section headers."""
        name = self._add_name(".shstrtab")
        size = len(self.names)
        self.headers.append(
            Shdr(
                sh_name=name,
                sh_type=elf.SHT_STRTAB,
                sh_offset=self.offset,
                sh_size=size,
                sh_addralign=1,
            )
        )
        self.offset += size
        return bytes(self.names), self.pad(SECTION_ALIGN)

    def _add_name(self, name: str) -> int:
        """Add ``name`` to :attr:`names`; return its offset there."""
        offset = len(self.names)
        self.names += name.encode("utf-8", "surrogateescape") + b"\0"
        return offset


def region_offset(region: Region) -> int:
    """Return ``sh_offset`` and ``p_offset`` of a region, which has no bytes in the file.

    gABI requires ``p_offset`` and ``p_vaddr`` to be congruent modulo the page size.
    """
    return region.start % PAGE
