"""The ``linux`` layout: an ELF file that nm, gdb, addr2line, perf and elfutils can read.

docs/format.md has every field and the source of its value. The parts are, in this order: the
header, program headers, ``.symtab``, ``.strtab``, ``.ksyms.letters``, ``.notes``,
``.notes.kernel``, ``.note.ksyms``, the BTF of linker files, ``.shstrtab``, section headers.
"""

from __future__ import annotations

from .. import _note
from .._elf import Ehdr, Format, Note, Phdr, pack_note
from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import KERNEL_ID, Files, Region
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .emitter import Emitter
from .note_facts import note_facts
from .section_table import PAGE, SECTION_ALIGN, SectionTable, region_offset
from .symbol_columns import count_true
from .symbol_order import SymbolOrder, is_local, letter_runs, order_symbols
from .symbol_sections import RegionIndex, index_regions
from .symtab import write_symbols

if TYPE_CHECKING:
    from .._note.facts import NoteFacts
    from .._sources.source import Reading, Source

_NO_NAME: Final = b"\0"
"""The first byte of every string table (gABI, "String Table")."""

_SEGMENT_FLAGS: Final = {
    "text": elf.PF_R | elf.PF_X,
    "rodata": elf.PF_R,
    "data": elf.PF_R | elf.PF_W,
    "bss": elf.PF_R | elf.PF_W,
}


class LinuxSizes(NamedTuple):
    """The result of the size pass.

    ``total`` is the image's size in bytes, ``symbols`` the number of symbols without symbol 0.
    ``headers`` are the bytes before ``.symtab``, without padding; ``tail`` are the bytes after
    ``.strtab``, in parts.
    """

    total: int
    symbols: int
    facts: NoteFacts
    format: Format
    regions: RegionIndex
    order: SymbolOrder
    headers: bytes
    tail: tuple[bytes, ...]


def gather(source: Source[Reading], reading: Reading) -> Files:
    """Return the linker files, each with its regions."""
    return source.files(reading)


def size(files: Files) -> LinuxSizes:
    """Count all parts of the image, and make the headers from the counts (size pass).

    Raises:
        LayoutError: there are more sections than an ELF file can number, or an address that
            the file's class cannot express.
    """
    # Count regions and symbols.
    fmt = files.host.format
    index = index_regions(files.files)
    order = order_symbols(files.files)
    btf_sections = sum(file.btf is not None for file in files.files)
    _check_limits(index, btf_sections, fmt)

    segments = [region for region in index.regions if region.end > region.start]
    symbols = sum(len(file.symbols.address) for file in files.files)
    locals_ = sum(count_true(is_local(file.symbols.info)) for file in files.files)
    strings = len(_NO_NAME) + sum(len(file.symbols.strings) for file in files.files)
    facts = note_facts(files, len(_NO_NAME))

    # Place the sections one after the other.
    table = SectionTable(fmt, fmt.ehdr.size + len(segments) * fmt.phdr.size)
    for region in index.regions:
        table.add_region(region)
    row = fmt.sym.size
    symtab = table.add(
        ".symtab", elf.SHT_SYMTAB, (1 + symbols) * row, SECTION_ALIGN, row, info=1 + locals_
    )
    table.link(symtab, to=table.add(".strtab", elf.SHT_STRTAB, strings, 1))
    tail = (
        *_add_letters(files, order, table),
        *_add_notes(files, facts, table),
        *_add_btf(files, table),
        *table.close(),
    )

    # Make the file header: the section headers are the last part.
    section_headers = table.offset
    ehdr = Ehdr(
        e_ident=elf.ELFMAG
        + bytes([fmt.elf_class, fmt.data, elf.EV_CURRENT]).ljust(elf.EI_NIDENT - 4, b"\0"),
        e_type=elf.ET_EXEC,
        e_machine=files.host.e_machine,
        e_version=elf.EV_CURRENT,
        e_entry=0,
        e_phoff=fmt.ehdr.size if segments else 0,
        e_shoff=section_headers,
        e_flags=0,
        e_ehsize=fmt.ehdr.size,
        e_phentsize=fmt.phdr.size,
        e_phnum=len(segments),
        e_shentsize=fmt.shdr.size,
        e_shnum=len(table.headers),
        e_shstrndx=len(table.headers) - 1,
    )
    return LinuxSizes(
        total=section_headers + len(table.headers) * fmt.shdr.size,
        symbols=symbols,
        facts=facts,
        format=fmt,
        regions=index,
        order=order,
        headers=fmt.ehdr.pack(ehdr) + b"".join(_segment(region, fmt) for region in segments),
        tail=(*tail, *(fmt.shdr.pack(header) for header in table.headers)),
    )


def copy(files: Files, sizes: LinuxSizes, out: Emitter) -> None:
    """Write the image's parts into ``out``, in the order of the file (copy pass)."""
    out.emit(sizes.headers)
    out.emit(bytes(-len(sizes.headers) % SECTION_ALIGN))
    row = sizes.format.sym
    symbols = out.room((1 + sizes.symbols) * row.size).view(row.dtype)
    out.emit(_NO_NAME)
    for file in files.files:
        out.emit(file.symbols.strings)
    write_symbols(files.files, len(_NO_NAME), sizes.regions, sizes.order, symbols[1:])
    for data in sizes.tail:
        out.emit(data)


def _check_limits(index: RegionIndex, btf_sections: int, fmt: Format) -> None:
    """Check that an ELF file can number all sections and express all addresses.

    Sixteen section numbers are kept for the sections that are neither regions nor BTF.

    Raises:
        LayoutError: it cannot.
    """
    if len(index.regions) + btf_sections >= elf.SHN_LORESERVE - 16:
        raise LayoutError(
            f"The symbols lie in {len(index.regions)} regions, more than an ELF file can "
            "number.",
            "Unload BPF programs or modules, or save /proc/kallsyms as text.",
        )
    beyond = [r for r in index.regions if r.end > 1 << 32]
    if fmt.elf_class == elf.ELFCLASS32 and beyond:
        raise LayoutError(
            f"{beyond[0].name} ends at {beyond[0].end:#x}, and a kernel of 32 bits before.",
            "Save the files of one machine again, all of them.",
        )


def _segment(region: Region, fmt: Format) -> bytes:
    """Return the program header of a region, which has no bytes in the file."""
    return fmt.phdr.pack(
        Phdr(
            p_type=elf.PT_LOAD,
            p_flags=_SEGMENT_FLAGS[region.kind],
            p_offset=region_offset(region),
            p_vaddr=region.start,
            p_paddr=region.start,
            p_filesz=0,
            p_memsz=region.end - region.start,
            p_align=PAGE,
        )
    )


def _add_letters(files: Files, order: SymbolOrder, table: SectionTable) -> tuple[bytes, ...]:
    """Add the section of letters; return the padding before it and its bytes."""
    word = "<u4" if table.format.byteorder == "little" else ">u4"
    data = letter_runs(files.files, order).astype(word).tobytes()
    zeros = table.pad(4)
    table.add(_note.LETTERS, elf.SHT_PROGBITS, len(data), 4, _note.LETTERS_RUN)
    return zeros, data


def _add_notes(files: Files, facts: NoteFacts, table: SectionTable) -> tuple[bytes, ...]:
    """Add the sections of notes; return the padding before each and its bytes.

    Only the section with the build-id has the type SHT_NOTE: elfutils and others parse every
    SHT_NOTE of an executable, and do not expect the kernel's Xen notes there.
    """
    others = list(files.host.notes)
    build_id = [n for n in others if (n.name, n.type) == (b"GNU", elf.NT_GNU_BUILD_ID)][:1]
    for note in build_id:
        others.remove(note)
    parts = []
    for name, kind, data in (
        (".notes", elf.SHT_NOTE, _packed(build_id, table.format)),
        (".notes.kernel", elf.SHT_PROGBITS, _packed(others, table.format)),
        (_note.SECTION, elf.SHT_PROGBITS, _note.pack(facts, table.format)),
    ):
        if data:
            parts.append(table.pad(4))
            table.add(name, kind, len(data), 4)
            parts.append(data)
    return tuple(parts)


def _add_btf(files: Files, table: SectionTable) -> tuple[bytes, ...]:
    """Add a section for the BTF of each linker file; return their padding and bytes."""
    parts = []
    for file in files.files:
        if file.btf is not None:
            parts.append(table.pad(_note.BTF_ALIGN))
            name = _note.btf_section(None if file.id == KERNEL_ID else file.name)
            table.add(name, elf.SHT_PROGBITS, len(file.btf), _note.BTF_ALIGN)
            parts.append(file.btf)
    return tuple(parts)


def _packed(notes: list[Note], fmt: Format) -> bytes:
    return b"".join(pack_note(note, fmt) for note in notes)
