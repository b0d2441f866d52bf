"""The ``linux`` layout: an ELF file as nm, gdb, addr2line, perf and elfutils want it.

docs/format.md has every field and where its value comes from. In the order of the file:
header, program headers, ``.symtab``, ``.strtab``, ``.ksyms.letters``, ``.notes``,
``.notes.kernel``, ``.note.ksyms``, the files' BTF, ``.shstrtab``, section headers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import accumulate

from .. import _note
from .._elf import Ehdr, Format, Note, Phdr, Shdr, pack_note
from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import KERNEL_ID, PSEUDO, Files, LinkerFile, Region
from .._linker.files import Role
from .._typing import TYPE_CHECKING, Any, Final, NamedTuple
from .._version import __version__
from .emitter import Emitter
from .symbol_columns import count_true
from .symbol_order import SymbolOrder, is_local, letter_runs, order_symbols
from .symbol_sections import RegionIndex, index_regions
from .symtab import write_symbols

if TYPE_CHECKING:
    from .._linker import Linker
    from .._linker.elf_files import ElfLinker

PAGE: Final = 4096
_NO_NAME: Final = b"\0"  # what every string table begins with (gABI, "String Table")

_SECTION_FLAGS: Final = {
    "text": elf.SHF_ALLOC | elf.SHF_EXECINSTR,
    "rodata": elf.SHF_ALLOC,
    "data": elf.SHF_ALLOC | elf.SHF_WRITE,
    "bss": elf.SHF_ALLOC | elf.SHF_WRITE,
}
_SEGMENT_FLAGS: Final = {
    "text": elf.PF_R | elf.PF_X,
    "rodata": elf.PF_R,
    "data": elf.PF_R | elf.PF_W,
    "bss": elf.PF_R | elf.PF_W,
}


class Sizes(NamedTuple):
    """What the size pass found: all that the image's headers say, and its whole size."""

    total: int
    format: Format
    regions: RegionIndex
    order: SymbolOrder
    headers: bytes
    symbols: int
    tail: tuple[bytes, ...]


def gather(linker: Linker | ElfLinker, reading: Any) -> Files:
    """The linker files, each with its regions."""
    return linker.files(reading)


def size(files: Files) -> Sizes:
    """The size pass: how much of what there is, and from that every header.

    Raises:
        LayoutError: more sections than an ELF file can number, or one where it can say none.
    """
    fmt = files.host.format
    index = index_regions(files.files)
    order = order_symbols(files.files)
    more = sum(file.btf is not None for file in files.files)
    _check(index, more, fmt)
    segments = [r for r in index.regions if r.end > r.start]
    symbols = 1 + sum(len(file.symbols.address) for file in files.files)
    locals_ = 1 + sum(count_true(is_local(file.symbols.info)) for file in files.files)
    strings = len(_NO_NAME) + sum(len(file.symbols.strings) for file in files.files)
    start = fmt.ehdr.size + len(segments) * fmt.phdr.size
    table = _Table(fmt, start)
    for region in index.regions:
        table.region(region)
    symtab = table.add(
        ".symtab", elf.SHT_SYMTAB, symbols * fmt.sym.size, 8, fmt.sym.size, info=locals_
    )
    table.add(".strtab", elf.SHT_STRTAB, strings, 1)
    table.headers[symtab] = table.headers[symtab]._replace(sh_link=symtab + 1)
    letters_ = _letters(files, order, table)
    tail = (*letters_, *_notes(files, fmt, table), *_btf(files, table))
    names = table.close()
    shoff = table.at
    ehdr = Ehdr(
        e_ident=elf.ELFMAG
        + bytes([fmt.elf_class, fmt.data, elf.EV_CURRENT]).ljust(elf.EI_NIDENT - 4, b"\0"),
        e_type=elf.ET_EXEC,
        e_machine=files.host.e_machine,
        e_version=elf.EV_CURRENT,
        e_entry=0,
        e_phoff=fmt.ehdr.size if segments else 0,
        e_shoff=shoff,
        e_flags=0,
        e_ehsize=fmt.ehdr.size,
        e_phentsize=fmt.phdr.size,
        e_phnum=len(segments),
        e_shentsize=fmt.shdr.size,
        e_shnum=len(table.headers),
        e_shstrndx=len(table.headers) - 1,
    )
    return Sizes(
        total=shoff + len(table.headers) * fmt.shdr.size,
        format=fmt,
        regions=index,
        order=order,
        headers=fmt.ehdr.pack(ehdr) + b"".join(_segment(r, fmt) for r in segments),
        symbols=symbols,
        tail=(*tail, *names, *(fmt.shdr.pack(header) for header in table.headers)),
    )


def copy(files: Files, sizes: Sizes, out: Emitter) -> None:
    """The copy pass: headers, the files' symbols and strings, notes, section headers."""
    out.emit(sizes.headers)
    out.emit(bytes(-len(sizes.headers) % 8))
    symbols = out.room(sizes.symbols * sizes.format.sym.size).view(sizes.format.sym.dtype)
    out.emit(_NO_NAME)
    for file in files.files:
        out.emit(file.symbols.strings)
    write_symbols(files.files, len(_NO_NAME), sizes.regions, sizes.order, symbols[1:])
    for data in sizes.tail:
        out.emit(data)


class _Table:
    """Section headers as they are added, and where in the file the next one's bytes go."""

    def __init__(self, fmt: Format, start: int) -> None:
        self.format = fmt
        self.at = start + -start % 8
        self.headers = [Shdr()]
        self.names = bytearray(1)

    def region(self, region: Region) -> None:
        """A NOBITS section for ``region``."""
        self.headers.append(
            Shdr(
                sh_name=self._name(region.name),
                sh_type=elf.SHT_NOBITS,
                sh_flags=_SECTION_FLAGS[region.kind],
                sh_addr=region.start,
                sh_offset=_offset(region),
                sh_size=region.end - region.start,
                sh_addralign=1,
            )
        )

    def add(
        self, name: str, kind: int, size: int, align: int, entry: int = 0, info: int = 0
    ) -> int:
        """A section with ``size`` bytes next in the file; gives its index."""
        assert self.at % align == 0
        self.headers.append(
            Shdr(
                sh_name=self._name(name),
                sh_type=kind,
                sh_offset=self.at,
                sh_size=size,
                sh_info=info,
                sh_addralign=align,
                sh_entsize=entry,
            )
        )
        self.at += size
        return len(self.headers) - 1

    def pad(self, align: int) -> bytes:
        """The zeros up to the next multiple of ``align``."""
        zeros = bytes(-self.at % align)
        self.at += len(zeros)
        return zeros

    def close(self) -> tuple[bytes, bytes]:
        """Add ``.shstrtab``; gives its bytes, and the zeros up to the section headers."""
        name = self._name(".shstrtab")
        size = len(self.names)
        self.headers.append(
            Shdr(
                sh_name=name,
                sh_type=elf.SHT_STRTAB,
                sh_offset=self.at,
                sh_size=size,
                sh_addralign=1,
            )
        )
        self.at += size
        return bytes(self.names), self.pad(8)

    def _name(self, name: str) -> int:
        at = len(self.names)
        self.names += name.encode("utf-8", "surrogateescape") + b"\0"
        return at


def _check(index: RegionIndex, more: int, fmt: Format) -> None:
    """Refuse what an ELF file cannot say; ``more`` is how many sections are no regions."""
    if len(index.regions) + more >= elf.SHN_LORESERVE - 16:
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


def _offset(region: Region) -> int:
    # No bytes of a region are in the file; gABI wants p_offset and p_vaddr congruent.
    return region.start % PAGE


def _segment(region: Region, fmt: Format) -> bytes:
    return fmt.phdr.pack(
        Phdr(
            p_type=elf.PT_LOAD,
            p_flags=_SEGMENT_FLAGS[region.kind],
            p_offset=_offset(region),
            p_vaddr=region.start,
            p_paddr=region.start,
            p_filesz=0,
            p_memsz=region.end - region.start,
            p_align=PAGE,
        )
    )


def _letters(files: Files, order: SymbolOrder, table: _Table) -> tuple[bytes, ...]:
    """Add the section of letters; gives its bytes, with what pads them."""
    word = "<u4" if table.format.byteorder == "little" else ">u4"
    data = letter_runs(files.files, order).astype(word).tobytes()
    zeros = table.pad(4)
    table.add(_note.LETTERS, elf.SHT_PROGBITS, len(data), 4, _note.LETTERS_RUN)
    return zeros, data


def _notes(files: Files, fmt: Format, table: _Table) -> tuple[bytes, ...]:
    """Add the sections of notes; gives their bytes, with what pads them.

    Only the build-id is SHT_NOTE: elfutils and others parse every SHT_NOTE of an
    executable, and the kernel's Xen notes are not what they expect.
    """
    others = list(files.host.notes)
    identity = [n for n in others if (n.name, n.type) == (b"GNU", elf.NT_GNU_BUILD_ID)][:1]
    for note in identity:
        others.remove(note)
    parts = []
    for name, kind, data in (
        (".notes", elf.SHT_NOTE, _packed(identity, fmt)),
        (".notes.kernel", elf.SHT_PROGBITS, _packed(others, fmt)),
        (_note.SECTION, elf.SHT_PROGBITS, _note.pack(_facts(files), fmt)),
    ):
        if data:
            parts.append(table.pad(4))
            table.add(name, kind, len(data), 4)
            parts.append(data)
    return tuple(parts)


def _btf(files: Files, table: _Table) -> tuple[bytes, ...]:
    """Add a section for each file's BTF; gives their bytes, with what pads them."""
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


def _facts(files: Files) -> dict[str, Any]:
    """What ``.note.ksyms`` says.

    Of two snapshots of one kernel, ``time`` differs and reference counts may.
    """
    host, marks, linked = files.host, files.landmarks, files.link_time
    saved = None if host.saved is None else _time(host.saved)
    return {
        "ksyms": __version__,
        "time": _time(time.time()),
        **({} if host.running else {"saved": saved}),
        "release": host.release,
        "version": host.version,
        "machine": host.machine,
        "build_id": host.build_id.hex() if host.build_id else None,
        "boot_id": host.boot_id,
        "addresses": {
            "_text": _hex(marks.get("_text")),
            "_stext": _hex(marks.get("_stext")),
        },
        "link_time": {
            "_text": _hex(linked.text if linked else None),
            "_stext": _hex(linked.stext if linked else None),
            "source": linked.source if linked else None,
        },
        "lists": files.lists,
        "files": [_file_facts(*pair) for pair in zip(files.files, _names(files))],
        "sizes": {
            "exact": sum(count_true(file.symbols.exact) for file in files.files),
            "inferred": "to the next symbol, section or region end",
        },
        "absent": files.absent,
        "refused": files.refused,
    }


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _names(files: Files) -> Iterator[int]:
    """Where in ``.strtab`` each file's names begin, as :func:`copy` writes them."""
    return accumulate((len(f.symbols.strings) for f in files.files), initial=len(_NO_NAME))


def _file_facts(file: LinkerFile, names: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": file.id,
        "name": file.name,
        "kind": _kind(file),
        "symbols": len(file.symbols.address),
        "names": names,
        "absolute": count_true(file.symbols.role >= Role.ABSOLUTE),
        "build_id": file.build_id.hex() if file.build_id else None,
        "unplaced": file.unplaced,
        "debug": file.debug,
        "ranges": [
            {
                "section": region.name,
                "start": _hex(region.start),
                "end": _hex(region.end),
                "end_inferred": region.inferred,
                "source": region.source,
            }
            for region in file.regions
        ],
    }
    if file.btf is not None:
        facts["btf"] = len(file.btf)
    if file.programs:
        facts["programs"] = [program.facts() for program in file.programs]
    if file.module is not None:
        facts["module"] = {
            "size": file.module.size,
            "address": _hex(file.module.address),
            "refcount": file.module.refcount,
            "dependants": list(file.module.dependants),
            "state": file.module.state,
            "taint": file.module.taint,
            "srcversion": file.module.srcversion,
            "version": file.module.version,
        }
    return facts


def _kind(file: LinkerFile) -> str:
    if file.id == KERNEL_ID:
        return "kernel"
    return "listed" if file.name in PSEUDO else "module"


def _hex(address: int | None) -> str | None:
    return None if address is None else f"{address:#x}"
