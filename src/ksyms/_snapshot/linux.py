"""The ``linux`` layout: an ELF file as nm, gdb, addr2line, perf and elfutils want it.

docs/format.md has every field and where its value comes from. In the order of the file:
header, program headers, ``.symtab``, ``.strtab``, ``.ksyms.letters``, ``.notes``,
``.notes.kernel``, ``.note.ksyms``, ``.shstrtab``, section headers.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _note
from .._elf import Ehdr, Format, Note, Phdr, Shdr, elf_format, pack_note
from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import Files, LinkerFile, Region
from .._version import __version__
from .emitter import Emitter

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

PAGE: Final = 4096

_SECTION_FLAGS: Final = {
    "text": elf.SHF_ALLOC | elf.SHF_EXECINSTR,
    "rodata": elf.SHF_ALLOC,
    "data": elf.SHF_ALLOC | elf.SHF_WRITE,
    "bss": elf.SHF_ALLOC | elf.SHF_WRITE,
    "percpu": elf.SHF_ALLOC | elf.SHF_WRITE,
}
_SEGMENT_FLAGS: Final = {
    "text": elf.PF_R | elf.PF_X,
    "rodata": elf.PF_R,
    "data": elf.PF_R | elf.PF_W,
    "bss": elf.PF_R | elf.PF_W,
}


class Place(NamedTuple):
    """A region, and the id of the linker file that it belongs to."""

    region: Region
    file: int


class Sizes(NamedTuple):
    """What the size pass found: all that the image's headers say, and its whole size."""

    total: int
    format: Format
    places: tuple[Place, ...]
    headers: bytes
    symbols: int
    strings: int
    tail: tuple[bytes, ...]


def size(files: Files) -> Sizes:
    """The size pass: how much of what there is, and from that every header.

    Raises:
        LayoutError: more sections than an ELF file can number.
    """
    fmt = _format(files)
    places = tuple(
        sorted(
            (Place(region, file.id) for file in files.files for region in file.regions),
            key=lambda place: (place.region.start, place.region.end),
        )
    )
    if len(places) >= elf.SHN_LORESERVE - 16:
        raise LayoutError(
            f"The symbols lie in {len(places)} regions, more than an ELF file can number.",
            "Unload BPF programs or modules, or save /proc/kallsyms as text.",
        )
    segments = [
        place.region
        for place in places
        if place.region.kind != "percpu" and place.region.end > place.region.start
    ]
    symbols = 1 + sum(len(file.symbols.address) for file in files.files)
    locals_ = 1 + sum(_local(file).sum() for file in files.files)
    strings = sum(len(file.symbols.strings) for file in files.files)
    start = fmt.ehdr.size + len(segments) * fmt.phdr.size
    table = _Table(fmt, start)
    for place in places:
        table.region(place.region)
    symtab = table.add(
        ".symtab", elf.SHT_SYMTAB, symbols * fmt.sym.size, 8, fmt.sym.size, info=int(locals_)
    )
    table.add(".strtab", elf.SHT_STRTAB, strings, 1)
    table.headers[symtab] = table.headers[symtab]._replace(sh_link=symtab + 1)
    table.add(_note.LETTERS, elf.SHT_PROGBITS, symbols, 1)
    tail = _notes(files, fmt, table)
    names = table.close()
    shoff = table.at
    ehdr = Ehdr(
        e_ident=elf.ELFMAG
        + bytes([fmt.elf_class, fmt.data, elf.EV_CURRENT]).ljust(elf.EI_NIDENT - 4, b"\0"),
        e_type=elf.ET_EXEC,
        e_machine=elf.MACHINES.get(files.host.machine or "", 0),
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
        places=places,
        headers=fmt.ehdr.pack(ehdr) + b"".join(_segment(r, fmt) for r in segments),
        symbols=symbols,
        strings=strings,
        tail=(*tail, *names, *(fmt.shdr.pack(header) for header in table.headers)),
    )


def copy(files: Files, sizes: Sizes, out: Emitter) -> None:
    """The copy pass: headers, the files' symbols and strings, notes, section headers."""
    out.emit(sizes.headers)
    out.emit(bytes(-len(sizes.headers) % 8))
    symbols = out.room(sizes.symbols * sizes.format.sym.size).view(sizes.format.sym.dtype)
    for file in files.files:
        out.emit(file.symbols.strings)
    letters = out.room(sizes.symbols)
    _fill(files, sizes, symbols[1:], letters[1:])
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


def _format(files: Files) -> Format:
    return elf_format(
        elf.ELFCLASS64 if files.host.bits == 64 else elf.ELFCLASS32,
        elf.ELFDATA2LSB if files.host.byteorder == "little" else elf.ELFDATA2MSB,
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


def _notes(files: Files, fmt: Format, table: _Table) -> tuple[bytes, ...]:
    """Add the sections of notes; gives their bytes, with what pads them.

    Only the build-id is SHT_NOTE: elfutils and others parse every SHT_NOTE of an
    executable, and the kernel's Xen notes are not what they expect.
    """
    identity = [
        n for n in files.host.notes if (n.name, n.type) == (b"GNU", elf.NT_GNU_BUILD_ID)
    ]
    others = [n for n in files.host.notes if n not in identity]
    parts = []
    for name, kind, data in (
        (".notes", elf.SHT_NOTE, _packed(identity[:1], fmt)),
        (".notes.kernel", elf.SHT_PROGBITS, _packed(others, fmt)),
        (_note.SECTION, elf.SHT_PROGBITS, _note.pack(_facts(files), fmt)),
    ):
        if data:
            parts.append(table.pad(4))
            table.add(name, kind, len(data), 4)
            parts.append(data)
    return tuple(parts)


def _packed(notes: list[Note], fmt: Format) -> bytes:
    return b"".join(pack_note(note, fmt) for note in notes)


def _facts(files: Files) -> dict[str, Any]:
    """What ``.note.ksyms`` says; ``time`` alone differs between two equal snapshots."""
    host, marks, linked = files.host, files.landmarks, files.link_time
    return {
        "ksyms": __version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
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
        "files": [_file_facts(file) for file in files.files],
        "sizes": {"exact": 0, "inferred": "to the next symbol, section or region end"},
        "absent": files.absent,
    }


def _file_facts(file: LinkerFile) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": file.id,
        "name": file.name,
        "symbols": len(file.symbols.address),
        "absolute": int(file.symbols.absolute.sum()),
        "build_id": file.build_id.hex() if file.build_id else None,
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
    if file.module is not None:
        facts["module"] = {
            "size": file.module.size,
            "address": _hex(file.module.address),
            "refcount": file.module.refcount,
            "dependants": list(file.module.dependants),
            "state": file.module.state,
            "taint": file.module.taint,
        }
    return facts


def _hex(address: int | None) -> str | None:
    return None if address is None else f"{address:#x}"


def _local(file: LinkerFile) -> Mask:
    local: Mask = file.symbols.info >> 4 == elf.STB_LOCAL
    return local


def _fill(files: Files, sizes: Sizes, symbols: npt.NDArray[np.void], letters: U8) -> None:
    """Write the symbols, locals first, both halves by address, and their letters."""
    address, name, info, letter, absolute, owner = _merged(files)
    order = np.arange(len(address))
    if not (address[1:] >= address[:-1]).all():
        order = np.argsort(address, kind="stable")
    address, info, absolute = address[order], info[order], absolute[order]
    place, shndx = _placed(sizes.places, address, info, absolute, owner[order])
    mapping = info & 0xF == elf.STT_NOTYPE
    length = _lengths(files, sizes.places, address, place, absolute | mapping)
    local = info >> 4 == elf.STB_LOCAL
    halves = np.concatenate([np.flatnonzero(local), np.flatnonzero(~local)])
    symbols["st_value"] = address[halves]
    symbols["st_size"] = length[halves]
    symbols["st_info"] = info[halves]
    symbols["st_shndx"] = shndx[halves]
    halves = order[halves]
    symbols["st_name"] = name[halves]
    letters[:] = letter[halves]


def _merged(files: Files) -> tuple[U64, U32, U8, U8, Mask, Index]:
    """The columns of all files, one after the other, names shifted as the driver does."""
    shift, names = 0, []
    for file in files.files:
        names.append(file.symbols.name + np.uint32(shift))
        shift += len(file.symbols.strings)
    tables = [file.symbols for file in files.files]
    return (
        np.concatenate([t.address for t in tables]),
        np.concatenate(names),
        np.concatenate([t.info for t in tables]),
        np.concatenate([t.letter for t in tables]),
        np.concatenate([t.absolute for t in tables]),
        np.repeat([file.id for file in files.files], [len(t.address) for t in tables]),
    )


def _placed(
    places: tuple[Place, ...], address: U64, info: U8, absolute: Mask, owner: Index
) -> tuple[Index, U16]:
    """Each symbol's place (an index into ``places``) and its ``st_shndx``.

    ``address`` is sorted. A symbol at the end of a region, where none of its file
    begins, is in the region that ends; so is code at the end of code where something
    else begins (``_etext``).
    """
    starts = np.array([p.region.start for p in places], np.uint64)
    ends = np.array([p.region.end for p in places] or [0], np.uint64)
    ids = np.array([p.file for p in places] or [0])
    bounds = np.searchsorted(address, starts)
    place = np.repeat(
        np.arange(-1, len(places)), np.diff(bounds, prepend=0, append=len(address))
    )
    wrong = ~absolute & ((place < 0) | (address > ends[place]) | (ids[place] != owner))
    for index in np.flatnonzero(wrong).tolist():
        place[index] = _search(places, int(address[index]), int(owner[index]))
    for before, ((ends_here, file), (begins, other)) in enumerate(pairwise(places)):
        if file != other or ends_here.end != begins.start:
            continue
        if ends_here.kind == "text" != begins.kind:
            low, high = np.searchsorted(address, [begins.start, begins.start + 1])
            code = info[low:high] & 0xF == elf.STT_FUNC
            place[low:high][code] = before
    shndx = np.where(absolute, elf.SHN_ABS, place + 1).astype(np.uint16)
    return place, shndx


def _search(places: tuple[Place, ...], address: int, file: int) -> int:
    """The place of ``file`` that holds ``address``, or that ends or begins at it."""
    touching = [
        index
        for index, (region, owner) in enumerate(places)
        if owner == file and region.start <= address <= region.end
    ]
    if not touching:
        raise LayoutError(
            f"The symbol at {address:#x} is in no region of its linker file.",
            "Report this, with the files it was read from.",
        )
    return max(touching, key=lambda index: places[index].region.start)


def _lengths(
    files: Files, places: tuple[Place, ...], address: U64, place: Index, none: Mask
) -> U64:
    """``st_size`` by the rule: to the next distinct address within the same region.

    A stop of a file (a section's start) ends a symbol too. Those in ``none`` have no
    size, and bound nobody.
    """
    length = np.zeros(len(address), np.uint64)
    sized = np.flatnonzero(~none)
    if not len(sized):
        return length
    at = address[sized]
    ends = np.array([p.region.end for p in places], np.uint64)[place[sized]]
    first = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
    following = np.append(at[first[1:]], np.uint64((1 << 64) - 1))
    limit = np.minimum(np.repeat(following, np.diff(first, append=len(at))), ends)
    stops = np.unique(np.concatenate([file.stops for file in files.files]))
    if len(stops):
        low = int(np.searchsorted(at, stops[0]))
        behind = np.append(stops, np.uint64((1 << 64) - 1))
        limit[low:] = np.minimum(limit[low:], behind[np.searchsorted(stops, at[low:], "right")])
    length[sized] = np.where(limit > at, limit - at, np.uint64(0))
    return length
