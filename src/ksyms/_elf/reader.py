"""The header and the sections of an ELF image; every offset is checked before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from .._errors import ImageError
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .constants import (
    EI_CLASS,
    EI_DATA,
    EI_NIDENT,
    EI_VERSION,
    ELFCLASS32,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    ELFMAG,
    EV_CURRENT,
    SHN_XINDEX,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_NULL,
)
from .notes import Note, parse_notes
from .structs import Buffer, Ehdr, Format, Shdr, StructTable, elf_format

if TYPE_CHECKING:
    from typing import Protocol

    class Data(Protocol):
        """An ELF file's bytes: a view of memory, or a file that is read as needed."""

        def __len__(self) -> int: ...

        def __getitem__(self, part: slice, /) -> Buffer: ...


_MAX_OVERLAP: Final = 16
"""Limit on the total length of the names in a string table, as a multiple of the table's size.

Names can share bytes, so a damaged file could make a million long names of one string.
"""


class ElfFile(NamedTuple):
    """An ELF file: its header, its section headers, its bytes.

    ``data`` is the whole file, not a copy; ``label`` is its name in errors. The header's
    ``e_shstrndx`` is the true index, even if the file has it in section 0. ``stored`` has the
    sections that have bytes in the file, by index: in a snapshot they are few among thousands
    of regions.
    """

    label: str
    data: Data
    format: Format
    header: Ehdr
    sections: Sequence[Shdr] = ()
    stored: Mapping[int, Shdr] = {}

    def contents(self, section: Shdr) -> memoryview:
        """Return the bytes of a section, as a view if :attr:`data` is one.

        A section of type SHT_NOBITS has none.
        """
        if section.sh_type in (SHT_NOBITS, SHT_NULL):
            return memoryview(b"")
        return memoryview(self.data[section.sh_offset : section.sh_offset + section.sh_size])

    def string(self, section: Shdr, offset: int) -> bytes:
        """Return the string at ``offset`` in a string table, without the NUL after it.

        At the end of the table, after its last byte, the string is empty: so an empty table has
        the empty string (gABI, "String Table"), also after other tables in the driver's image.

        Raises:
            ImageError: ``offset`` is outside the table, or the string has no NUL.
        """
        size = 0 if section.sh_type in (SHT_NOBITS, SHT_NULL) else section.sh_size
        parts: list[bytes] = []
        at = offset
        while at < size:
            # Read 64 bytes at a time: names are short, tables are long.
            step = min(size - at, 64)
            part = bytes(self.data[section.sh_offset + at : section.sh_offset + at + step])
            name, end, _ = part.partition(b"\0")
            parts.append(name)
            if end:
                return b"".join(parts)
            at += step
        if offset == size:
            return b""
        raise self.wrong(f"a string at offset {offset} of its string table has no end")

    def names_at(self, strtab: Shdr, starts: Iterable[int]) -> dict[int, bytes]:
        """Return the strings at ``starts`` in a string table, by their offsets.

        Raises:
            ImageError: as :meth:`string`; or the strings share so many bytes that they are
                longer than :data:`_MAX_OVERLAP` allows.
        """
        table = bytes(self.contents(strtab))
        left = _MAX_OVERLAP * (len(table) + 4096)
        found: dict[int, bytes] = {}
        for start in starts:
            if start in found:
                continue
            end = table.find(b"\0", start)
            name = table[start:end] if end >= 0 else self.string(strtab, start)
            found[start] = name
            left -= len(name)
            if left < 0:
                raise self.wrong("its symbols' names overlap")
        return found

    def notes(self) -> Iterator[list[Note]]:
        """Yield the notes of each SHT_NOTE section that can be parsed.

        Sections whose notes are padded to eight bytes are left out.

        Raises:
            ImageError: the sections overlap, so that together they are larger than the file.
        """
        left = len(self.data)
        for section in self.stored.values():
            if section.sh_type != SHT_NOTE:
                continue
            left -= section.sh_size
            if left < 0:
                raise self.wrong("its notes overlap")
            try:
                yield parse_notes(self.contents(section), self.format)
            except ValueError:
                continue

    def section_names(self) -> list[str]:
        """Return the names of all sections.

        They are empty if the file has no names of sections (``e_shstrndx`` is SHN_UNDEF).

        Raises:
            ImageError: a name lies outside of the table of section names, or they share so many
                bytes that they are longer than :data:`_MAX_OVERLAP` allows.
        """
        if not self.header.e_shstrndx:
            return [""] * len(self.sections)
        table = bytes(self.contents(self.sections[self.header.e_shstrndx]))
        left = _MAX_OVERLAP * (len(table) + 4096)
        names = []
        for number, section in enumerate(self.sections):
            end = table.find(b"\0", section.sh_name)
            if end < 0 and section.sh_name != len(table):
                raise self.wrong(f"section {number}'s sh_name is {section.sh_name}")
            name = table[section.sh_name : end] if end >= 0 else b""
            left -= len(name)
            if left < 0:
                raise self.wrong("its sections' names overlap")
            names.append(name.decode("utf-8", "surrogateescape"))
        return names

    def section_name(self, number: int) -> str:
        """Return the name of one section.

        For many sections use :meth:`section_names`, which has a limit.

        Raises:
            ImageError: the name lies outside of the table of section names, or has no NUL.
        """
        if not self.header.e_shstrndx:
            return ""
        start = self.sections[number].sh_name
        try:
            name = self.string(self.sections[self.header.e_shstrndx], start)
        except ImageError:
            raise self.wrong(f"section {number}'s sh_name is {start}") from None
        return name.decode("utf-8", "surrogateescape")

    def is_called(self, section: Shdr, name: str) -> bool:
        """Return True if ``section`` is called ``name``."""
        if not self.header.e_shstrndx:
            return False
        wanted, start = name.encode() + b"\0", section.sh_name
        table = self.contents(self.sections[self.header.e_shstrndx])
        return bytes(table[start : start + len(wanted)]) == wanted

    def wrong(self, what: str) -> ImageError:
        """Return the error for a wrong field of this image, which ``what`` describes."""
        return ImageError(
            f"{self.label} is not an ELF image that can be read: {what}.",
            "Name another file, or copy it again from where it was made.",
        )


def read_image(data: Data, label: str) -> ElfFile:
    """Return an ELF file, with its header and section headers read and checked.

    Args:
        data: the whole file; a view has the format ``B``.
        label: the file's name in errors, usually its path.

    Raises:
        ImageError: the file is not an ELF file, or a field of it is wrong.
    """
    # The format is replaced below; until then the image only makes errors.
    image = ElfFile(label, data, elf_format(ELFCLASS64, ELFDATA2LSB), _NO_HEADER)
    head = bytes(data[:64])
    if len(head) < EI_NIDENT or head[:4] != ELFMAG:
        raise image.wrong("it does not begin with the ELF magic number")
    if head[EI_CLASS] not in (ELFCLASS32, ELFCLASS64):
        raise image.wrong(f"EI_CLASS is {head[EI_CLASS]}")
    if head[EI_DATA] not in (ELFDATA2LSB, ELFDATA2MSB):
        raise image.wrong(f"EI_DATA is {head[EI_DATA]}")
    if head[EI_VERSION] != EV_CURRENT:
        raise image.wrong(f"EI_VERSION is {head[EI_VERSION]}")
    fmt = elf_format(head[EI_CLASS], head[EI_DATA])
    if len(head) < fmt.ehdr.size:
        raise image.wrong("its header is cut short")
    return _read_sections(image._replace(format=fmt, header=fmt.ehdr.unpack(head)))


_NO_HEADER = Ehdr(b"", *(0,) * 13)


def _read_sections(image: ElfFile) -> ElfFile:
    """Return ``image`` with its section headers and the true ``e_shstrndx``.

    Raises:
        ImageError: a field of a header is wrong.
    """
    header, fmt, size = image.header, image.format, len(image.data)
    if not header.e_shoff:
        if header.e_shnum:
            raise image.wrong(f"e_shoff is 0, and e_shnum {header.e_shnum}")
        return image._replace(header=header._replace(e_shstrndx=0))
    if header.e_shentsize != fmt.shdr.size:
        raise image.wrong(f"e_shentsize is {header.e_shentsize} and not {fmt.shdr.size}")
    if header.e_shoff + fmt.shdr.size > size:
        raise image.wrong(f"e_shoff is {header.e_shoff} in a file of {size} bytes")

    # If there are more than 0xfeff sections, section 0 has their count (gABI, "ELF Header",
    # e_shnum).
    first = fmt.shdr.unpack(image.data[header.e_shoff : header.e_shoff + fmt.shdr.size])
    count = header.e_shnum or first.sh_size
    end = header.e_shoff + count * fmt.shdr.size
    if end > size:
        raise image.wrong(f"e_shnum is {count}, and the file ends before the last of them")

    # Copy the table, so that nothing can change it after this check. Unpack the sections that
    # have bytes in the file.
    table = bytes(image.data[header.e_shoff : end])
    kinds = enumerate(fmt.shdr.column("sh_type").iter_unpack(table))
    with_bytes = [n for n, (kind,) in kinds if kind not in (SHT_NOBITS, SHT_NULL)]
    stored = {n: fmt.shdr.unpack(table, n * fmt.shdr.size) for n in with_bytes}

    # If the index of the names is above 0xfeff, section 0 has it, and e_shstrndx is SHN_XINDEX.
    names = first.sh_link if header.e_shstrndx == SHN_XINDEX else header.e_shstrndx
    if names >= count:
        raise image.wrong(f"e_shstrndx is {names} of {count} sections")
    for number, section in stored.items():
        if section.sh_offset + section.sh_size > size:
            raise image.wrong(f"section {number} reaches past the end of the file")
    header = header._replace(e_shstrndx=names)
    return image._replace(header=header, sections=StructTable(fmt.shdr, table), stored=stored)
