"""The ``freebsd`` layout: the image that FreeBSD's driver writes, byte for byte.

Source: freebsd-ksyms.c, ``struct ksyms_hdr``, ksyms_snapshot and ksyms_add. The parts are, in
this order: the header, two empty program headers, four section headers, the section names, the
symbol tables of all linker files, their string tables. The driver's known flaws are kept
(docs/driver.md): ``st_shndx`` is a section of the file that the symbol comes from, ``sh_info``
is the number of all symbols, and the segments are empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._elf import Ehdr, Format, Phdr, Shdr
from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import FileTables, LinkerFile
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .emitter import Emitter
from .symtab import file_sections_and_sizes

if TYPE_CHECKING:
    from .._sources.source import Reading, Source

BLOCK: Final = 256
"""The number of symbols that are copied at once (``SYMBLKSZ``)."""

# ksyms_shstrtab; the compiler ends the array with a NUL of its own.
_NAMES: Final = b"\0.symtab\0.strtab\0.shstrtab\0\0"


class FreebsdSizes(NamedTuple):
    """The result of the size pass (``struct tsizes``).

    ``total`` is the image's size in bytes, ``rows`` the number of rows in the symbol table with
    the symbol 0 of each file, ``strings`` the string table's size in bytes.
    """

    total: int
    rows: int
    strings: int

    @property
    def symbols(self) -> int:
        """The number of rows, without symbol 0 of the image."""
        return max(self.rows - 1, 0)

    @property
    def facts(self) -> None:
        """None: the layout has no note."""


def gather(source: Source[Reading], reading: Reading) -> FileTables:
    """Return the tables to copy: those of ELF files, or tables that are made from a text."""
    tables = source.tables(reading)
    if tables is not None:
        return tables
    files = source.files(reading)
    made = zip(files.files, file_sections_and_sizes(files.files))
    return FileTables(
        files.host.format,
        files.host.e_machine,
        tuple(_LinkerFileTables(file, *columns, files.host.format) for file, columns in made),
        files.generation,
    )


def size(tables: FileTables) -> FreebsdSizes:
    """Count the symbols and the bytes of their strings (size pass: ksyms_size_calc).

    Raises:
        LayoutError: there are more than the fields of the image's class can hold.
    """
    sizes = [table.sizes() for table in tables.files]
    rows, strings = sum(s for s, _ in sizes), sum(s for _, s in sizes)
    total = _header_size(tables.format) + rows * tables.format.sym.size + strings
    if strings > 0xFFFFFFFF or rows > 0xFFFFFFFF or (_long(tables.format) == 4 and total >> 32):
        raise LayoutError(
            f"{rows} symbols with {strings} bytes of names are more than the layout's "
            "fields can say.",
            "Leave out some of the files.",
        )
    return FreebsdSizes(total, rows, strings)


def copy(tables: FileTables, sizes: FreebsdSizes, out: Emitter) -> None:
    """Write the image into ``out`` (copy pass: ksyms_snapshot, ksyms_add).

    Tables of ELF files are read again for it.

    Raises:
        ResidueError: the tables no longer have the sizes that the size pass found.
    """
    fmt = tables.format
    out.emit(_header(tables, sizes))
    symbols = out.part(sizes.rows * fmt.sym.size)
    strings = out.part(sizes.strings)
    shift = 0  # where the strings of the next linker file start
    for table in tables.files:
        for block in table.blocks(BLOCK):
            block["st_name"] += np.uint32(shift)
            symbols.emit(block.view(np.uint8))
        for piece in table.strings():
            strings.emit(piece)
            shift += len(piece)
    symbols.finish()
    strings.finish()


class _LinkerFileTables:
    """The tables of a linker file, made from kallsyms.

    As in every ELF file, symbol 0 comes first, and the strings start with a NUL.
    """

    def __init__(
        self,
        file: LinkerFile,
        shndx: npt.NDArray[np.uint16],
        size: npt.NDArray[np.uint64],
        fmt: Format,
    ) -> None:
        symbols = file.symbols
        self._strings = symbols.strings
        self._rows = np.zeros(1 + len(shndx), fmt.sym.dtype)
        rows = self._rows[1:]
        rows["st_name"] = symbols.name + np.uint32(1)
        rows["st_info"] = symbols.info
        rows["st_shndx"] = shndx
        rows["st_value"] = symbols.address
        rows["st_size"] = size

    def sizes(self) -> tuple[int, int]:
        return len(self._rows), 1 + len(self._strings)

    def blocks(self, count: int) -> Iterator[npt.NDArray[np.void]]:
        for start in range(0, len(self._rows), count):
            yield self._rows[start : start + count].copy()

    def strings(self) -> Iterator[npt.NDArray[np.uint8]]:
        yield np.zeros(1, np.uint8)
        yield self._strings


def _long(fmt: Format) -> int:
    """Return ``sizeof(long)`` in bytes, which is also the alignment of ``struct ksyms_hdr``."""
    return 8 if fmt.elf_class == elf.ELFCLASS64 else 4


def _header_size(fmt: Format) -> int:
    """Return ``sizeof(struct ksyms_hdr)``; the compiler pads it for its widest member."""
    size = fmt.ehdr.size + 2 * fmt.phdr.size + 4 * fmt.shdr.size + len(_NAMES)
    return size + -size % _long(fmt)


def _header(tables: FileTables, sizes: FreebsdSizes) -> bytes:
    """Return the bytes of ``struct ksyms_hdr``; fields that the driver leaves zero are zero."""
    fmt = tables.format
    phoff = fmt.ehdr.size
    shoff = phoff + 2 * fmt.phdr.size
    names = shoff + 4 * fmt.shdr.size
    symtab = _header_size(fmt)
    ehdr = Ehdr(
        e_ident=elf.ELFMAG
        + bytes([fmt.elf_class, fmt.data, elf.EV_CURRENT, elf.ELFOSABI_FREEBSD]).ljust(
            12, b"\0"
        ),
        e_type=elf.ET_EXEC,
        e_machine=tables.machine,
        e_version=elf.EV_CURRENT,
        e_entry=0,
        e_phoff=phoff,
        e_shoff=shoff,
        e_flags=0,
        e_ehsize=fmt.ehdr.size,
        e_phentsize=fmt.phdr.size,
        e_phnum=2,
        e_shentsize=fmt.shdr.size,
        e_shnum=4,
        e_shstrndx=3,
    )
    text = Phdr(elf.PT_LOAD, elf.PF_R | elf.PF_X, 0, 0, 0, 0, 0, 0)
    data = text._replace(p_flags=elf.PF_R | elf.PF_W | elf.PF_X)
    sections = (
        Shdr(),
        Shdr(
            sh_name=1,
            sh_type=elf.SHT_SYMTAB,
            sh_offset=symtab,
            sh_size=sizes.rows * fmt.sym.size,
            sh_link=2,
            sh_info=sizes.rows,
            sh_addralign=_long(fmt),
            sh_entsize=fmt.sym.size,
        ),
        Shdr(
            sh_name=_NAMES.index(b".strtab"),
            sh_type=elf.SHT_STRTAB,
            sh_offset=symtab + sizes.rows * fmt.sym.size,
            sh_size=sizes.strings,
            sh_addralign=1,
        ),
        Shdr(
            sh_name=_NAMES.index(b".shstrtab"),
            sh_type=elf.SHT_STRTAB,
            sh_offset=names,
            sh_size=len(_NAMES),
        ),
    )
    parts = [fmt.ehdr.pack(ehdr), fmt.phdr.pack(text), fmt.phdr.pack(data)]
    parts += [fmt.shdr.pack(section) for section in sections]
    return b"".join([*parts, _NAMES]).ljust(symtab, b"\0")
