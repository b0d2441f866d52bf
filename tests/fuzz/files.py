"""Fuzz what ksyms reads: ELF files, snapshots, portable ones, texts, archives, notes, roots.

A file is changed where its format has a field, by what readers get wrong, or anywhere. A small
reader here says which symbols it has; docs/fuzzing.md has what is checked.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import struct
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NamedTuple

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ksyms
from command import TEXT
from elf_files import DYN, EXEC, REL, Row, Section, compile_c, elf_file
from fuzz.shared import (
    EDGES,
    Case,
    Fault,
    Target,
    command,
    damaged,
    number_of,
    program,
    refused,
)

COMMAND = 8
"""One case of so many goes through the command line too."""
ASKED = 40
"""Symbols of a file that are asked for, from its first on."""
UNDEFINED = ("U", "w", "v")
"""nm's letters of what another file has."""
BASE = 0xFFFFFFFFC0400000
SOURCE = """
int counter = 5, empty[5];
__attribute__((weak)) int maybe(void) { return counter; }
static __attribute__((noinline)) int inner(int a) { return a + empty[a]; }
int main(int n) { return n ? inner(n) : maybe(); }
"""
MODULES = (
    "mod 16384 1 - Live 0xffffffffc0000000 (OE)\nother 8192 0 mod, Live 0xffffffffc0010000\n"
)
NOTE = struct.pack("<III4s20s", 4, 20, 3, b"GNU\0", bytes(range(20)))
ROOT: Final[dict[str, str | bytes]] = {
    "proc/kallsyms": TEXT + "ffffffffc0010000 t begin\t[other]\n",
    "proc/modules": MODULES,
    "proc/version": "Linux version 6.6.31 (a@b) (gcc 13.2.0) #1 SMP\n",
    "proc/iomem": "01000000-3fffffff : System RAM\n  01000000-01000fff : Kernel code\n"
    "  01001000-01001fff : Kernel rodata\n  01400000-014fffff : Kernel data\n",
    "proc/sys/kernel/osrelease": "6.6.31\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "proc/sys/kernel/kptr_restrict": "1\n",
    "proc/sys/kernel/random/boot_id": "0f0e0d0c-0b0a-0908-0706-050403020100\n",
    "sys/kernel/cpu_byteorder": "little\n",
    "sys/kernel/notes": NOTE,
    "sys/module/mod/sections/.text": "0xffffffffc0000000\n",
    "sys/module/mod/sections/.data": "0xffffffffc0002000\n",
    "sys/module/mod/sections/.init.text": "0xffffffffc0004000\n",
    "sys/module/mod/sections/__ksymtab_strings": "0xffffffffc0001000\n",
    "sys/module/mod/notes/.note.gnu.build-id": NOTE,
    "sys/module/mod/version": "1.2.3\n",
    "sys/module/other/sections/.text": "0xffffffffc0010000\n",
    "boot/System.map-6.6.31": "ffffffff80000000 T _text\nffffffff80000000 T _stext\n"
    "ffffffff80001000 T _etext\n",
}
"""A small machine's files, as text or bytes."""
Truth = set[tuple[str, int]] | None
"""Names and addresses; None where nothing tells them."""


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


@cache
def elves() -> list[bytes]:
    """Files of each class, order and type, and what gcc makes."""
    rows = [Row(1, 8, 4), Row(5, 16, 4, 0x11), Row(9, 0, 0, 0x10, 0), Row(5, 24, 0, 0x02)]
    strings = b"\0one\0two\0three\0"
    sections = (
        Section(".text", 1, 6, 0x1000, b"\x90" * 64, align=16),
        Section(".data", 1, 3, 0x2000, b"x" * 32, align=8),
        Section(".note.gnu.build-id", 7, 2, 0x3000, NOTE, align=4),
    )
    shapes = [(b, o, k) for b in (32, 64) for o in "<>" for k in (EXEC, DYN, REL)]
    small = [
        elf_file(rows, strings, bits=b, order=o, kind=k, sections=sections)
        for b, o, k in shapes
    ]
    with tempfile.TemporaryDirectory() as place:
        made = [
            compile_c(Path(place) / name, SOURCE, *options).read_bytes()
            for name, options in (
                ("linked", ("-nostdlib", "-static", "-Wl,-e0")),
                ("object", ("-c", "-ffunction-sections", "-g")),
                ("shared", ("-shared", "-fPIC", "-nostdlib")),
            )
        ]
    return [*small, *made]


@cache
def snapshot() -> bytes:
    """A snapshot of the small machine, of one time however often it is taken."""
    with tempfile.TemporaryDirectory() as place:
        write({name: _bytes(data) for name, data in ROOT.items()}, Path(place))
        image = bytes(ksyms.snapshot(place).image)
    return re.sub(rb'"time":"[^"]*"', b'"time":"2026-11-28T00:00:00Z"', image)


def write(files: dict[str, bytes], place: Path) -> None:
    for name, data in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# -- a small reader -------------------------------------------------------------------------


class Header(NamedTuple):
    """An ELF file's section headers: where each is, and its fields as in Elf64_Shdr."""

    order: str
    wide: bool
    kind: int
    sections: list[tuple[int, tuple[int, ...]]]


def header(data: bytes) -> Header:
    """What ELF files have (gABI, "ELF Header", "Sections"); struct.error where it is cut."""
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    kind = struct.unpack_from(f"{order}H", data, 16)[0]
    at = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 40 if wide else 32)[0]
    each, count, _ = struct.unpack_from(f"{order}HHH", data, 58 if wide else 46)
    code = f"{order}IIQQQQIIQQ" if wide else f"{order}10I"
    if count == 0 and at:
        count = struct.unpack_from(code, data, at)[5]
    places = [at + each * n for n in range(min(count, 1 << 16))]
    return Header(order, wide, kind, [(p, struct.unpack_from(code, data, p)) for p in places])


def symbols(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, value and size of what each symbol table of an ELF file has."""
    order, wide, _, sections = header(data)
    code = struct.Struct(f"{order}IBBHQQ" if wide else f"{order}IIIBBH")
    for _, (_, kind, _, _, offset, size, link, *_) in sections:
        if kind != 2 or link >= len(sections):
            continue
        begin, length = sections[link][1][4:6]
        strings = data[begin : begin + length]
        whole = min(size, len(data) - offset) // code.size * code.size
        for fields in code.iter_unpack(data[offset : offset + max(whole, 0)]):
            value, extent = (fields[4], fields[5]) if wide else (fields[1], fields[2])
            end = strings.find(b"\0", fields[0])
            name = strings[fields[0] : end if end >= 0 else len(strings)]
            yield name.decode("utf-8", "surrogateescape"), value, extent


def truth_of_elf(data: bytes) -> Truth:
    try:
        return {(name, value) for name, value, _ in symbols(data)}
    except (struct.error, IndexError):
        return None


def truth_of_text(data: bytes) -> Truth:
    """The names and addresses of a kallsyms text."""
    found = set()
    for line in data.split(b"\n"):
        match = re.match(rb"([0-9a-fA-F]+) . ([^\t]*?)\r*(?:\t|$)", line)
        if match:
            name = match[2].decode("utf-8", "surrogateescape")
            # Until Linux 2.6 a blank was before the module's brackets.
            found |= {(said, int(match[1], 16)) for said in (name, name.partition(" [")[0])}
    return found


def truth_of_archive(data: bytes) -> Truth:
    """What tarfile reads of it; None where it reads nothing, or several texts."""
    try:
        if data[1:4] == b"\xb5\x2f\xfd":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            texts = [archive.extractfile(m) for m in archive if "kallsyms" in m.name]
            whole = [text.read() for text in texts if text is not None]
    except Exception:  # a reader of its own, whatever ails it
        return None
    return truth_of_text(whole[0]) if len(whole) == 1 else None


def truth_of_packed(data: bytes) -> Truth:
    """What a portable snapshot unpacks to."""
    try:
        size = struct.unpack_from("<I", data, 4)[0]
        image = zstandard.ZstdDecompressor().decompressobj().decompress(data[8 + size :])
    except (struct.error, zstandard.ZstdError):
        return None
    return truth_of_elf(image)


# -- damage ---------------------------------------------------------------------------------


def fields(data: bytes) -> list[tuple[int, int]]:
    """Where an ELF file has its header's, sections' and symbols' fields, and how wide."""
    try:
        _, wide, _, sections = header(data)
    except (struct.error, IndexError):
        return []
    widths = (2, 2, 4, *((8, 8, 8) if wide else (4, 4, 4)), 4, 2, 2, 2, 2, 2, 2)
    found = _fields(16, widths)
    of_section = (4, 4, 8, 8, 8, 8, 4, 4, 8, 8) if wide else (4,) * 10
    of_symbol = (4, 1, 1, 2, 8, 8) if wide else (4, 4, 4, 1, 1, 2)
    for place, values in sections:
        found += _fields(place, of_section)
        if values[1] == 2:
            each = sum(of_symbol)
            for at in range(values[4], min(values[4] + values[5], len(data)), each):
                found += _fields(at, of_symbol)
        elif values[1] == 7:
            found += _fields(values[4], (4, 4, 4))
    return [(at, width) for at, width in found if at + width <= len(data)]


def _fields(at: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(at + sum(widths[:n]), width) for n, width in enumerate(widths)]


def damaged_elf(data: bytes, random: Random) -> bytes:
    """An ELF file with some fields changed, or some bytes."""
    places = fields(data)
    if not places or random.randrange(3) == 0:
        return damaged(data, random)
    file = bytearray(data)
    order: Literal["little", "big"] = "little" if data[5] == 1 else "big"
    for _ in range(random.choice((1, 1, 2, 3))):
        at, width = random.choice(places)
        near = int.from_bytes(file[at : at + width], order)
        value = number_of(random, near, len(data), len(data) - near)
        file[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)
    if random.randrange(8) == 0:
        del file[random.randrange(len(file)) :]
    return bytes(file)


def numeral(random: Random) -> bytes:
    """A number as a text has it, or what it should not have."""
    value = number_of(random, 0xFFFFFFFF81000000, 0xFFFFFFFFC0000000)
    return random.choice(
        [
            *(b"0x%x" % value, b"%x" % value, b"%016x" % value, b"%08x" % value, b"%d" % value),
            *(b"-%d" % value, b"-0x%x" % value, b"", b" ", b"\0", b"0x", b"x", b"\xff", b"1_0"),
            *(b"\xd9\xa3", b"9" * 5000, b"+1", b"1e9", b"nan", b"0x" + b"f" * 40, b"(null)"),
        ]
    )


def damaged_text(data: bytes, random: Random) -> bytes:
    """Lines, words and numbers of a text changed."""
    lines = data.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(lines))
        words = re.split(rb"([ \t]+)", lines[at])
        kind = random.randrange(9)
        if kind == 0:
            words[random.randrange(len(words))] = numeral(random)
            lines[at] = b"".join(words)
        elif kind == 1:
            lines[at] = re.sub(rb"[0-9a-f]{6,}", lambda _: numeral(random), lines[at], count=1)
        elif kind == 2:
            lines.insert(at, random.choice(lines))
        elif kind == 3:
            del lines[at]
            lines = lines or [b""]
        elif kind == 4:
            random.shuffle(lines)
        elif kind == 5:
            words[-1] = random.choice(
                [
                    *(
                        b"n" * 511,
                        b"n" * 70000,
                        b"\x1b[2J",
                        b"\xe2\x80\xae",
                        b"\xff\xfe",
                        b"$x",
                    ),
                    *(b"a\t[m]", b"a\t[", b"a\t[]", b"a [m]", b"\t", b"a\r", b"a\x0bb", b".L1"),
                    *(
                        b"a\xc2\x85b",
                        b"a\xe2\x80\xa8b",
                        b"_stext",
                        b"_end",
                        b"bpf\t[bpf]",
                        b"\0",
                    ),
                ]
            )
            lines[at] = b"".join(words)
        elif kind == 6:
            lines[at] = damaged(lines[at], random)
        elif kind == 7:
            return b"\n".join(lines)[: -random.randrange(1, 40)]
        else:
            lines[at] = lines[at].replace(b"\t", b" ").upper()
    return b"\n".join(lines)


def damaged_facts(facts: Any, random: Random) -> Any:
    """A value of JSON with one inside it changed."""
    if isinstance(facts, dict) and facts and random.randrange(8):
        key = random.choice([*facts])
        if random.randrange(8) == 0:
            return {name: value for name, value in facts.items() if name != key}
        return {**facts, key: damaged_facts(facts[key], random)}
    if isinstance(facts, list) and facts and random.randrange(8):
        at = random.randrange(len(facts))
        return [*facts[:at], damaged_facts(facts[at], random), *facts[at + 1 :]]
    return random.choice(
        [
            *(None, True, False, 0, -1, 1 << 64, 1 << 70, 1.5, float("nan"), float("inf"), ""),
            *("0x", "0xffffffff81000000", "0x" + "f" * 16, "\ud800", "\x1b[2J\n", "n" * 70000),
            *(
                [],
                {},
                [[]],
                [None],
                {"": {}},
                ["mod", "mod"],
                1e400,
                str(facts),
                [facts, facts],
            ),
            *(f"{number_of(random):#x}", number_of(random), {"size": -1, "address": "0x0"}),
        ]
    )


def noted(facts: bytes) -> bytes:
    """The snapshot with another note, at its end."""
    image = bytearray(snapshot())
    note = struct.pack("<III", 6, len(facts), 1) + b"ksyms\0\0\0" + facts
    note += bytes(-len(note) % 4)
    names = header(snapshot()).sections
    [(place, _)] = [(p, f) for p, f in names if image[f[4] + 12 : f[4] + 17] == b"ksyms"]
    struct.pack_into("<QQ", image, place + 24, len(image), len(note))
    return bytes(image + note)


def facts_of() -> Any:
    """What the snapshot says of itself."""
    return ksyms.load(memoryview(snapshot())).facts


def packed(facts: bytes, image: bytes, random: Random) -> bytes:
    """A portable snapshot; its frame can be wrong."""
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(image)
    facts = b"ksyms 1\n" + facts
    size = len(facts) if random.randrange(6) else number_of(random, len(facts)) & 0xFFFFFFFF
    data = struct.pack("<II", 0x184D2A5B, size) + facts + whole
    return data if random.randrange(2) else damaged(data, random)


def archive(files: dict[str, bytes], random: Random) -> bytes:
    """A tar of a root, with members that no ksyms collect would make."""
    out = io.BytesIO()
    form = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    top = random.choice(("", "", "host/", "./", "/", "../", "a/" * 60))
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in files.items():
            out.write(_member(top + name, data, form))
            tar.offset = out.tell()
        for _ in range(random.choice((0, 0, 1, 2))):
            _add_odd(tar, top, [*files], random)
    whole = bytearray(out.getvalue())
    if random.randrange(2):
        _damage_header(whole, random)
    pack = random.choice((bytes, bytes, gzip.compress, _xz, bz2.compress, _zstd))
    made: bytes = pack(bytes(whole))
    return made if random.randrange(3) else damaged(made, random)


@lru_cache(maxsize=1 << 10)
def _member(name: str, data: bytes, form: Literal[0, 1, 2]) -> bytes:
    """A file of a tar: its headers and its contents."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    header = member.tobuf(form, tarfile.ENCODING, "surrogateescape")
    return header + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)  # which takes the least memory


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def _add_odd(tar: tarfile.TarFile, top: str, names: list[str], random: Random) -> None:
    kinds = (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.DIRTYPE,
    )
    member = tarfile.TarInfo(top + random.choice([*names, "proc", "proc/kallsyms/x", "x"]))
    member.type = random.choice((*kinds, tarfile.REGTYPE, tarfile.CONTTYPE, b"Z"))
    member.linkname = top + random.choice(
        [*names, "nowhere", member.name, "/etc/hostname", "../" * 9 + "etc/hostname", ""]
    )
    if tar.format == tarfile.PAX_FORMAT:
        key = random.choice(
            ("size", "path", "mtime", "GNU.sparse.map", "GNU.sparse.major", "uid")
        )
        value = random.choice(("-1", "99999999999999999999", "x", "0,1,2", "1", "a" * 3000))
        member.pax_headers = {key: value}
    try:
        tar.addfile(member)
    except (ValueError, OverflowError, UnicodeError):
        return


def _damage_header(data: bytearray, random: Random) -> None:
    """Change a field of a tar's header (pax, "ustar Interchange Format"), and its checksum."""
    at = random.randrange(max(len(data) // 512, 1)) * 512
    begin, end = random.choice(
        [
            *((0, 100), (100, 108), (124, 136), (124, 136), (136, 148), (148, 156), (156, 157)),
            *((156, 157), (157, 257), (257, 265), (265, 297), (329, 345), (345, 500)),
        ]
    )
    value = random.choice(
        [
            *(
                b"%o" % number_of(random),
                b"\x80" + b"\xff" * 11,
                b"\xff" * 12,
                b"-1",
                b"\0" * 12,
            ),
            *(
                random.choice(b"0123456LKxgSDVXN\0").to_bytes(1, "little"),
                b"7" * 11,
                b" ",
                b"a" * 155,
            ),
        ]
    )
    data[at + begin : at + end] = value[: end - begin].ljust(end - begin, b"\0")
    if random.randrange(4):
        total = sum(data[at : at + 512]) - sum(data[at + 148 : at + 156]) + 8 * 32
        data[at + 148 : at + 156] = b"%06o\0 " % total


# -- the fuzzer -----------------------------------------------------------------------------


class Files(Target):
    """Files and roots for load, snapshot, lookup, find and info."""

    name = "files"

    def make(self, number: int) -> Case:
        random = self.random(number)
        kind, make = random.choice(MAKERS)
        return Case(make(random), {"kind": kind, "number": number})

    def check(self, case: Case) -> None:
        random = self.random(case.facts["number"], "check")
        self.kind = kind = case.facts["kind"]
        checks = {"root": self._root, "linked": self._linked}
        try:
            checks.get(kind, self._file)(case, random)
        except ksyms.KsymsError as error:
            refused(error)

    def _written(self, case: Case) -> Path:
        """A directory with the case's files."""
        place = self.directory / "case"
        shutil.rmtree(place, ignore_errors=True)
        write(case.files, place)
        return place

    def loaded(self, case: Case, random: Random) -> ksyms.SymbolTable:
        """The file's symbols; of three ELF files two are loaded without one."""
        data, asked = case.files["file"], random.randrange(COMMAND) == 0
        if data[:4] == b"\x7fELF" and random.randrange(3) and not asked:
            return ksyms.load(memoryview(data))
        path = self._written(case) / "file"
        if asked:
            self._commands(str(path), random)
        return ksyms.load(path)

    def _file(self, case: Case, random: Random) -> None:
        truths: dict[str, Callable[[bytes], Truth]] = {
            "kallsyms": truth_of_text,
            "archive": truth_of_archive,
            "portable": truth_of_packed,
        }
        table = self.loaded(case, random)
        truth = truths.get(case.facts["kind"], truth_of_elf)(case.files["file"])
        self.examine(table, truth, random)

    def _root(self, case: Case, random: Random) -> None:
        place = self._written(case)
        truth = truth_of_text(case.files.get("proc/kallsyms", b""))
        if random.randrange(COMMAND) == 0:
            out = str(self.directory / "out")
            command("snapshot", "--root", str(place), "-o", out)
        image = ksyms.snapshot(place, random.choice(("linux", "linux", "freebsd"))).image
        self.examine(ksyms.load(image), truth, random)

    def _linked(self, case: Case, random: Random) -> None:
        place = self._written(case)
        sections = {".text": BASE, ".data": BASE + 0x1000, ".bss": BASE + 0x2000}
        base = random.choice((BASE, 0, number_of(random), sections))
        layout = random.choice(("linux", "freebsd"))
        modules = [(place / "module", base)]
        image = ksyms.snapshot(kernel=place / "kernel", modules=modules, layout=layout).image
        table = ksyms.load(image)
        names = {name for data in case.files.values() for name, _ in truth_of_elf(data) or ()}
        for symbol in table:
            if symbol.name not in names:
                raise Fault("symbol from nowhere, linked", repr(symbol))
        self.examine(table, truth_of_elf(bytes(image)), random)

    def _commands(self, path: str, random: Random) -> None:
        place = random.choice((0xFFFFFFFF81000010, 0x1008, 8, 1 << 64))
        words = ("--from", path, "one", "alpha", f"{place:#x}")
        said = random.choice(
            [
                *(("info", path), ("info", "--json", path)),
                *(("lookup", *words), ("lookup", "--json", *words), ("diff", path, path)),
            ]
        )
        status, out = command(*said)
        if "--json" in said and (status == 0 or said[0] == "lookup"):
            for line in out.splitlines() if said[0] == "lookup" else [out]:
                json.loads(line)

    def examine(self, table: ksyms.SymbolTable, truth: Truth, random: Random) -> None:
        """Ask for symbols by place, address and name; each answer is one of the file's own."""
        if table.relocatable and truth is not None:
            truth = {(name, -1) for name, _ in truth}  # where its sections lie is not in it
        known = [*table][:ASKED] if random.randrange(8) == 0 else table[:ASKED]
        asked = {0, (1 << 64) - 1, *random.choices(EDGES, k=2)}
        asked.update(s.address + d for s in known for d in (0, s.size // 2, -1))
        for address in asked - {-1}:
            found = table.lookup(address)
            if found is not None:
                known.append(found)
                if not found.address <= address < found.address + max(found.size, 1):
                    raise Fault(
                        f"wrong symbol of a place, {self.kind}", f"{found!r} for {address:#x}"
                    )
        for symbol in known:
            if not symbol.name or symbol.letter in UNDEFINED:
                continue
            # A line of kallsyms that lies nowhere is listed, and not found by its name.
            undefined = symbol.section is None
            value = -1 if table.relocatable else symbol.address
            if truth is not None and (symbol.name, value) not in truth:
                raise Fault(f"symbol from nowhere, {self.kind}", repr(symbol))
            named = table.find(symbol.name)
            lost = symbol not in named and not undefined
            if lost or any(other.name != symbol.name for other in named):
                raise Fault(f"find, {self.kind}", f"{symbol!r} and {named!r}")
        _ = table.build_id, table.release, table.machine, table.facts, table.sections


def _of_root(random: Random) -> dict[str, bytes]:
    """The small machine's files, of which some are changed or not there."""
    files = {name: _bytes(data) for name, data in ROOT.items()}
    for _ in range(random.choice((1, 1, 2, 3))):
        name = random.choice([*files])
        if random.randrange(12) == 0:
            del files[name]
        elif name.endswith("notes") or "build-id" in name:
            files[name] = damaged(files[name], random)
        elif random.randrange(3) == 0 and files[name].count(b"\n") < 2:
            files[name] = numeral(random) + b"\n"
        else:
            files[name] = damaged_text(files[name], random)
    return files


def _archive(random: Random) -> dict[str, bytes]:
    whole = {name: _bytes(data) for name, data in ROOT.items()}
    return {"file": archive(whole if random.randrange(3) else _of_root(random), random)}


def _portable(random: Random) -> dict[str, bytes]:
    facts = facts_of()
    said = json.dumps(damaged_facts(facts, random) if random.randrange(2) else facts).encode()
    image = snapshot()
    if random.randrange(3) == 0:
        image = random.choice((damaged_elf(image, random), noted(said), TEXT.encode(), b""))
    return {"file": packed(said, image, random)}


def _noted(random: Random) -> dict[str, bytes]:
    facts = json.dumps(
        damaged_facts(facts_of(), random), ensure_ascii=bool(random.randrange(2))
    )
    data = facts.encode("utf-8", "surrogatepass")
    return {"file": noted(data if random.randrange(4) else damaged(data, random))}


def _linked(random: Random) -> dict[str, bytes]:
    kernel, module = random.choice(elves()), random.choice(elves())
    if random.randrange(2):
        return {"kernel": damaged_elf(kernel, random), "module": module}
    return {"kernel": kernel, "module": damaged_elf(module, random)}


def _text(random: Random) -> dict[str, bytes]:
    data = _bytes(ROOT["proc/kallsyms"])
    return {
        "file": damaged(data, random)
        if random.randrange(4) == 0
        else damaged_text(data, random)
    }


def _elf(random: Random) -> dict[str, bytes]:
    return {"file": damaged_elf(random.choice(elves()), random)}


def _image(random: Random) -> dict[str, bytes]:
    return {"file": damaged_elf(snapshot(), random)}


MAKERS: Final[list[tuple[str, Callable[[Random], dict[str, bytes]]]]] = [
    ("elf", _elf),
    ("elf", _elf),
    ("snapshot", _image),
    ("snapshot", _image),
    ("note", _noted),
    ("portable", _portable),
    ("kallsyms", _text),
    ("archive", _archive),
    ("archive", _archive),
    ("root", _of_root),
    ("linked", _linked),
]
"""Kinds of files, and what makes one."""


if __name__ == "__main__":
    sys.exit(program(Files))
