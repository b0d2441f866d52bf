"""Make ELF files for the tests: small ones of any class and byte order, and some by gcc.

The writer shares no code with ksyms: the code under test must not make its own input.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

SHN_ABS, SHN_COMMON, SHN_XINDEX = 0xFFF1, 0xFFF2, 0xFFFF
EXEC, DYN, REL = 2, 3, 1


class Row(NamedTuple):
    """A symbol: the offset of its name, and the rest as in ``Elf_Sym``."""

    name: int
    value: int = 0
    size: int = 0
    info: int = 0x12
    shndx: int = 1
    other: int = 0


class Section(NamedTuple):
    """A section: the fields of ``Elf_Shdr``, and its contents."""

    name: str
    kind: int  # sh_type
    flags: int = 0
    address: int = 0
    data: bytes = b""
    size: int | None = None
    link: int = 0
    align: int = 1
    entry: int = 0
    info: int = 0


NULL_ROW = Row(0, info=0, shndx=0)


def elf_file(
    rows: list[Row] | None,
    strings: bytes,
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = 62,
    kind: int = EXEC,
    sections: tuple[Section, ...] = (Section(".text", 1, 6, 0x1000, b"\x90" * 64, align=16),),
) -> bytes:
    """Return an ELF file.

    ``sections`` have the numbers from 1 on. After them come .symtab with ``rows`` and .strtab
    with ``strings``, unless ``rows`` is None; then .shstrtab.
    """
    every = [Section("", 0), *sections]
    if rows is not None:
        table = b"".join(pack_row(row, bits, order) for row in [NULL_ROW, *rows])
        entry = 24 if bits == 64 else 16
        link = len(every) + 1
        info = 1 + sum(row.info >> 4 == 0 for row in rows)
        align = bits // 8
        every.append(Section(".symtab", 2, 0, 0, table, None, link, align, entry, info))
        every.append(Section(".strtab", 3, data=strings))

    names = b"\0" + b"".join(s.name.encode() + b"\0" for s in every[1:]) + b".shstrtab\0"
    every.append(Section(".shstrtab", 3, data=names))

    word = "Q" if bits == 64 else "I"
    at = 64 if bits == 64 else 52
    body, headers, named = b"", b"", 0
    for section in every:
        size = len(section.data) if section.size is None else section.size
        headers += struct.pack(
            f"{order}II{word}{word}{word}{word}II{word}{word}",
            named if section.name else 0,
            section.kind,
            section.flags,
            section.address,
            at + len(body) if section.kind else 0,
            size,
            section.link,
            section.info,
            section.align if section.kind else 0,
            section.entry,
        )
        named += len(section.name) + 1
        body += section.data

    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header = ident + struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        *(kind, machine, 1, 0, 0, at + len(body), 0),
        *(at, 0, 0, 64 if bits == 64 else 40, len(every), len(every) - 1),
    )
    return header + body + headers


def pack_row(row: Row, bits: int = 64, order: str = "<") -> bytes:
    """Return a symbol as a ``struct Elf_Sym``."""
    if bits == 64:
        fields = (row.name, row.info, row.other, row.shndx, row.value, row.size)
        return struct.pack(f"{order}IBBHQQ", *fields)
    fields = (row.name, row.value, row.size, row.info, row.other, row.shndx)
    return struct.pack(f"{order}IIIBBH", *fields)


def compile_c(path: Path, source: str, *options: str) -> Path:
    """Compile ``source`` with gcc into the file ``path``; return ``path``."""
    code = path.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["gcc", "-O1", "-w", *options, code, "-o", path], check=True)
    return path
