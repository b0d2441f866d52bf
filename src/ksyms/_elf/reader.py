"""An ELF image's header and sections, every offset checked before it is used."""

from __future__ import annotations

from typing import NamedTuple

from .._errors import ImageError
from .constants import (
    EI_CLASS,
    EI_DATA,
    EI_NIDENT,
    ELFCLASS32,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    ELFMAG,
    SHN_LORESERVE,
    SHT_NOBITS,
    SHT_NULL,
)
from .structs import Ehdr, Format, Shdr, elf_format


class Image(NamedTuple):
    """An ELF file in memory: its header, its section headers, its bytes.

    ``data`` is the whole file, not a copy; ``label`` is what errors call it.
    """

    label: str
    data: memoryview
    format: Format
    header: Ehdr
    sections: tuple[Shdr, ...]

    def contents(self, section: Shdr) -> memoryview:
        """A section's bytes, a view into :attr:`data`; none for SHT_NOBITS."""
        if section.sh_type in (SHT_NOBITS, SHT_NULL):
            return self.data[:0]
        return self.data[section.sh_offset : section.sh_offset + section.sh_size]

    def string(self, section: Shdr, offset: int) -> bytes:
        """The NUL-terminated string at ``offset`` of a string table.

        Raises:
            ImageError: ``offset`` is outside the table, or nothing ends the string.
        """
        table = self.contents(section)
        end = offset
        while True:  # in steps: a name is short, a table is not
            if end >= len(table):
                raise self.wrong(f"a string at offset {offset} of its string table has no end")
            step = bytes(table[end : end + 64])
            found = step.find(b"\0")
            if found >= 0:
                return bytes(table[offset : end + found])
            end += len(step)

    def section_name(self, section: Shdr) -> str:
        """A section's name.

        Raises:
            ImageError: the name lies outside the table of section names.
        """
        names = self.sections[self.header.e_shstrndx]
        return self.string(names, section.sh_name).decode("utf-8", "surrogateescape")

    def wrong(self, what: str) -> ImageError:
        """The error for a field of this image that is wrong."""
        return ImageError(
            f"{self.label} is not an ELF image that can be read: {what}.",
            "Take the snapshot again, or copy the file again from where it was made.",
        )


def read_image(data: memoryview, label: str) -> Image:
    """Read an ELF file's header and section headers.

    Args:
        data: the whole file, of format ``B``.
        label: what errors call the file, usually its path.

    Raises:
        ImageError: the file is no ELF file, or a field of it is wrong.
    """
    image = Image(label, data, elf_format(ELFCLASS64, ELFDATA2LSB), _NO_HEADER, ())
    if len(data) < EI_NIDENT or bytes(data[:4]) != ELFMAG:
        raise image.wrong("it does not begin with the ELF magic number")
    if data[EI_CLASS] not in (ELFCLASS32, ELFCLASS64):
        raise image.wrong(f"EI_CLASS is {data[EI_CLASS]}")
    if data[EI_DATA] not in (ELFDATA2LSB, ELFDATA2MSB):
        raise image.wrong(f"EI_DATA is {data[EI_DATA]}")
    fmt = elf_format(data[EI_CLASS], data[EI_DATA])
    if len(data) < fmt.ehdr.size:
        raise image.wrong("its header is cut short")
    image = image._replace(format=fmt, header=fmt.ehdr.unpack(data))
    return image._replace(sections=_sections(image))


_NO_HEADER = Ehdr(b"", *(0,) * 13)


def _sections(image: Image) -> tuple[Shdr, ...]:
    header, fmt, size = image.header, image.format, len(image.data)
    if not header.e_shoff:
        return ()
    if header.e_shentsize != fmt.shdr.size:
        raise image.wrong(f"e_shentsize is {header.e_shentsize} and not {fmt.shdr.size}")
    if header.e_shoff + fmt.shdr.size > size:
        raise image.wrong(f"e_shoff is {header.e_shoff} in a file of {size} bytes")
    # A count over 0xfeff stands in section 0 (gABI, "ELF Header", e_shnum).
    count = header.e_shnum or fmt.shdr.unpack(image.data, header.e_shoff).sh_size
    end = header.e_shoff + count * fmt.shdr.size
    if end > size:
        raise image.wrong(f"e_shnum is {count}, and the file ends before the last of them")
    sections = tuple(fmt.shdr.unpack_all(image.data[header.e_shoff : end]))
    if header.e_shstrndx >= min(count, SHN_LORESERVE):
        raise image.wrong(f"e_shstrndx is {header.e_shstrndx} of {count} sections")
    for index, section in enumerate(sections):
        if section.sh_type in (SHT_NOBITS, SHT_NULL):
            continue
        if section.sh_offset + section.sh_size > size:
            raise image.wrong(f"section {index} reaches past the end of the file")
    return sections
