"""Damaged ELF files: one error with the file's name, quickly, or an image; nothing else.

KSYMS_DAMAGED=100000 sets how many hypothesis makes; docs/driver.md has what that found.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ksyms
from elf_files import DYN, EXEC, REL, SHN_XINDEX, Row, Section, compile_c, elf_file
from timed import growth, least, spent

EXAMPLES = int(os.environ.get("KSYMS_DAMAGED", "400"))
SOURCE = """
int counter = 5, empty[5];
__attribute__((weak)) int maybe(void) { return counter; }
static __attribute__((noinline)) int inner(int a) { return a + empty[a]; }
int main(int n) { return n ? inner(n) : maybe(); }
"""
BASE = 0x10000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Real files of each type, and small ones of each class and order."""
    directory = tmp_path_factory.mktemp("whole")
    made = [
        compile_c(directory / "linked", SOURCE, "-nostdlib", "-static", "-Wl,-e0"),
        compile_c(directory / "object", SOURCE, "-c", "-ffunction-sections", "-g"),
        compile_c(directory / "shared", SOURCE, "-shared", "-fPIC", "-nostdlib"),
    ]
    rows = [Row(1, 8, 4), Row(5, 16, 4, 0x11), Row(9, 0, 0, 0x10, 0)]
    strings = b"\0one\0two\0three\0"
    shapes = [(b, o, k) for b in (32, 64) for o in "<>" for k in (EXEC, DYN, REL)]
    small = [elf_file(rows, strings, bits=b, order=o, kind=k) for b, o, k in shapes]
    return [*(path.read_bytes() for path in made), *small]


def header_fields(data: bytes) -> tuple[str, int, int, int]:
    """Byte order, where the section headers begin, how long each is, and how many."""
    order = "<" if data[5] == 1 else ">"
    if data[4] == 2:
        shoff, count = struct.unpack_from(f"{order}Q", data, 40)[0], 60
        return order, shoff, 64, struct.unpack_from(f"{order}H", data, count)[0]
    shoff, count = struct.unpack_from(f"{order}I", data, 32)[0], 48
    return order, shoff, 40, struct.unpack_from(f"{order}H", data, count)[0]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with some fields overwritten, or cut, most often where a structure is."""
    order, shoff, each, count = header_fields(data)
    file = bytearray(data)
    sizes = [len(data), len(data) - 1, len(data) + 1, shoff, shoff + each]
    edges = [0, 1, 2, 3, 7, 8, 0xFF, 0x7FFF, 0xFFFF, 0xFFF1]
    large = [(1 << n) - 1 for n in (31, 32, 63, 64)]
    numbers = st.sampled_from([*edges, *large, *sizes, 1 << 32, 1 << 40])
    places = st.one_of(
        st.integers(0, 63),
        st.integers(shoff, shoff + each * count - 1),
        st.integers(0, len(data) - 1),
    )
    for _ in range(draw(st.integers(0, 4))):
        width, letter = draw(st.sampled_from([(1, "B"), (2, "H"), (4, "I"), (8, "Q")]))
        place = min(draw(places), len(file) - width)
        place -= place % width
        number = draw(st.one_of(numbers, st.integers(0, (1 << 8 * width) - 1)))
        struct.pack_into(f"{order}{letter}", file, place, number & ((1 << 8 * width) - 1))
    if draw(st.booleans()):
        ends = st.sampled_from([shoff, shoff + each, shoff + each * count - 1, 15, 16, 63])
        del file[draw(st.one_of(ends, st.integers(0, len(file)))) :]
    return bytes(file)


def used(path: Path, whole: Path) -> None:
    """The file at ``path`` as the kernel and as a module of ``whole``, and loaded as it is."""
    for layout in ("freebsd", "linux"):
        told(path, layout=layout, kernel=path)
        told(path, layout=layout, kernel=whole, modules=[(path, BASE)])
        told(path, layout=layout, kernel=whole, modules=[(path, {".text": BASE})])
    try:
        table = ksyms.load(path)
        for symbol in table:
            table.lookup(symbol.address)
        table.find("one")
    except ksyms.ImageError as error:
        assert str(path) in error.what


@pytest.fixture(scope="module")
def usual(files: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Return the CPU seconds that each undamaged file takes."""
    whole = tmp_path_factory.mktemp("usual") / "whole"
    found = []
    for data in files:
        whole.write_bytes(data)
        used(whole, whole)  # imports
        found.append(spent(lambda: used(whole, whole)))
    return found


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_files(
    data: st.DataObject, files: list[bytes], usual: list[float], tmp_path: Path
) -> None:
    """Read each as the kernel and as a module, in both layouts, and load it."""
    which = data.draw(st.integers(0, len(files) - 1))
    path = tmp_path / "damaged"
    whole = tmp_path / "whole"
    path.write_bytes(data.draw(damaged(files[which])))
    whole.write_bytes(files[which])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit = 100 * usual[which]
    assert least(lambda: used(path, whole), limit) <= limit
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < 64 << 10  # KiB


def told(
    path: Path,
    layout: str,
    kernel: Path,
    modules: Sequence[tuple[Path, int | Mapping[str, int]]] = (),
) -> None:
    """An image that can be read again, or one error that names the file."""
    try:
        image = ksyms.snapshot(layout=layout, kernel=kernel, modules=modules).image
    except (ksyms.ImageError, ksyms.LayoutError) as error:
        assert str(path) in error.what or "whole" in error.what
        assert error.remedy
        return
    table = ksyms.load(image)
    for symbol in table:
        assert symbol.name is not None


def wrong(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(data)
    with pytest.raises(ksyms.ImageError, match=what) as caught:
        ksyms.snapshot(layout="freebsd", kernel=path)
    assert str(path) in caught.value.what


ROWS = [Row(1, 8, 4), Row(5, 16, 4)]
NAMES = b"\0one\0two\0"


def changed(data: bytes, offset: int, code: str, value: int) -> bytes:
    file = bytearray(data)
    struct.pack_into(f"<{code}", file, offset, value)
    return bytes(file)


def section_header(data: bytes, number: int) -> int:
    return int(header_fields(data)[1]) + 64 * number


def test_each_field_by_hand(tmp_path: Path) -> None:
    """The field that is wrong is in the sentence."""
    good = elf_file(ROWS, NAMES)  # null, .text, .symtab, .strtab, .shstrtab
    symtab, strtab = section_header(good, 2), section_header(good, 3)
    for data, what in (
        (b"", "does not begin with the ELF magic number"),
        (good[:15], "does not begin with the ELF magic number"),
        (good[:63], "its header is cut short"),
        (changed(good, 4, "B", 3), "EI_CLASS is 3"),
        (changed(good, 5, "B", 0), "EI_DATA is 0"),
        (changed(good, 16, "H", 4), "e_type is 4"),  # ET_CORE
        (changed(good, 40, "Q", 1 << 60), "e_shoff is"),
        (changed(good, 40, "Q", 0), "e_shoff is 0, and e_shnum 5"),
        (changed(good, 58, "H", 40), "e_shentsize is 40 and not 64"),
        (changed(good, 60, "H", 0xFFFE), "e_shnum is 65534, and the file ends before"),
        (changed(good, 62, "H", 9), "e_shstrndx is 9 of 5 sections"),
        (good[:-1], "e_shnum is 5, and the file ends before"),
        (changed(good, symtab + 24, "Q", 1 << 50), "section 2 reaches past the end"),
        (changed(good, symtab + 32, "Q", 71), "sh_size 71 and sh_entsize 24"),
        (changed(good, symtab + 56, "Q", 0), "sh_size 72 and sh_entsize 0"),
        (changed(good, symtab + 40, "I", 77), ".symtab's sh_link is 77"),
        (
            changed(good, symtab + 40, "I", 2),
            "sh_link is 2, which is not a string table",
        ),  # itself
        (changed(good, symtab + 40, "I", 1), "sh_link is 1, which is not a string table"),
        (changed(good, strtab + 32, "Q", 5), "symbol 2's st_name is 5, and no name"),
        (elf_file(ROWS, b"\0one\0two"), "symbol 2's st_name is 5, and no name"),
        (elf_file([Row(99)], NAMES), "symbol 1's st_name is 99, and no name"),
        (elf_file([Row(1)], b""), "symbol 1's st_name is 1, and no name"),
        (elf_file([Row(0)], b"xy\0"), "its string table does not begin with a NUL"),
    ):
        wrong(tmp_path, data, what)


def test_names_of_no_sections(tmp_path: Path) -> None:
    """A header without sections that says which of them has their names: no symbols."""
    kernel, bare = tmp_path / "kernel", tmp_path / "bare"
    good = elf_file(ROWS, NAMES)
    kernel.write_bytes(good)
    bare.write_bytes(changed(changed(good, 40, "Q", 0), 60, "H", 0))
    for layout in ("freebsd", "linux"):
        image = ksyms.snapshot(layout=layout, kernel=kernel, modules=[(bare, BASE)]).image
        assert ksyms.load(image).names.keys() == {"one", "two"}
    for job in (lambda: ksyms.load(bare), lambda: ksyms.snapshot(kernel=bare)):
        with pytest.raises(ksyms.ImageError, match=r"it has no \.symtab"):
            job()


def test_a_modules_sections_by_hand(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file(ROWS, NAMES))
    text = Section(".text", 1, 6, 0, b"\x90" * 16, align=3)
    path = tmp_path / "wrong"
    for data, what in (
        (
            elf_file([Row(1, shndx=7)], NAMES, kind=REL),
            "symbol 1's st_shndx is 7 of 5 sections",
        ),
        (elf_file([Row(1, shndx=SHN_XINDEX)], NAMES), "there is no SHT_SYMTAB_SHNDX"),
        (elf_file(ROWS, NAMES, kind=REL, sections=(text,)), "section 1's sh_addralign is 3"),
    ):
        path.write_bytes(data)
        with pytest.raises(ksyms.ImageError, match=what):
            ksyms.snapshot(layout="freebsd", kernel=kernel, modules=[(path, BASE)])


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_index_of_the_table_of_names(bits: int, order: str, tmp_path: Path) -> None:
    """Sections are numbered from 0, so that their count is the number of none (gABI)."""
    good = elf_file(ROWS, NAMES, bits=bits, order=order)
    _, shoff, _, count = header_fields(good)
    field, link = (50, 24) if bits == 32 else (62, 40)  # e_shstrndx, and section 0's sh_link
    path = tmp_path / "file"

    def load(index: int, escaped: int = 0) -> ksyms.SymbolTable:
        data = bytearray(good)
        struct.pack_into(f"{order}H", data, field, index)
        struct.pack_into(f"{order}I", data, shoff + link, escaped)
        path.write_bytes(data)
        return ksyms.load(path)

    for right in ((count - 1, 0), (SHN_XINDEX, count - 1)):
        assert [symbol.name for symbol in load(*right)] == ["one", "two"]
    for wrong_ in ((count, 0), (count + 1, 0), (0xFFFE, 0), (SHN_XINDEX, count)):
        with pytest.raises(ksyms.ImageError, match=f"e_shstrndx is [0-9]+ of {count} sections"):
            load(*wrong_)


def test_nothing_is_read_that_is_no_file(tmp_path: Path) -> None:
    """A FIFO without a writer, and a device without an end, named as packed or not."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file(ROWS, NAMES))
    for ending in ("", ".xz", ".gz", ".zst"):
        fifo, zeros = tmp_path / f"fifo.ko{ending}", tmp_path / f"zeros.ko{ending}"
        os.mkfifo(fifo)
        zeros.symlink_to("/dev/zero")
        for path in (fifo, zeros):
            with pytest.raises(ksyms.ImageError, match="not a regular file"):
                ksyms.snapshot(layout="freebsd", kernel=kernel, modules=[(path, BASE)])


def test_a_file_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ksyms import _compressed

    monkeypatch.setattr(_compressed, "LARGEST", 1 << 20)
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file(ROWS, NAMES))
    bomb = tmp_path / "bomb.ko"
    bomb.write_bytes(bytes(4 << 20))
    for command in ("gzip", "xz", "zstd"):
        subprocess.run([command, "-k", "-q", bomb], check=True)
    for ending in (".gz", ".xz", ".zst"):
        with pytest.raises(ksyms.ImageError, match="larger than 1 MiB unpacked"):
            ksyms.snapshot(kernel=kernel, modules=[(f"{bomb}{ending}", BASE)])


def of_one_note() -> bytes:
    note = struct.pack("<III4s", 4, 60_000, 1, b"GNU") + bytes(60_000)
    first = Section(".text", 1, 6, 0x1000, b"x" * 64)
    return elf_file(ROWS, NAMES, sections=(first, Section(".note", 7, 0, 0, note)))


def of_one_name() -> bytes:
    return elf_file(ROWS, NAMES, sections=(Section("n" * 60_000, 1, 6, 0x1000, b"x" * 64),))


@pytest.mark.parametrize("layout", ["linux", "freebsd"])
@pytest.mark.parametrize(
    ("make", "number", "what"),
    [(of_one_note, 2, "notes overlap"), (of_one_name, 1, "names overlap")],
    ids=["notes", "names"],
)
def test_parts_that_share_their_bytes(
    make: Callable[[], bytes], number: int, what: str, layout: str, tmp_path: Path
) -> None:
    """Thousands of sections with one long name, or one note: an error, in no time."""
    kernel, path = tmp_path / "kernel", tmp_path / "wrong"
    kernel.write_bytes(elf_file(ROWS, NAMES))
    data = make()
    order, shoff, each, count = header_fields(data)
    header = data[shoff + each * number : shoff + each * (number + 1)]

    def snapshots(more: int) -> None:
        many = bytearray(data + header * more)
        struct.pack_into(f"{order}H", many, 60, count + more)
        path.write_bytes(many)
        try:
            ksyms.snapshot(layout=layout, kernel=kernel, modules=[(path, {".text": BASE})])
            ksyms.snapshot(layout=layout, kernel=path)
        except ksyms.ImageError as error:
            assert what in error.what or "cannot be moved" in error.what

    assert growth(snapshots, 30, 3000, 40) <= 40  # headers are looked at, and no shared byte
    if make is of_one_name:
        with pytest.raises(ksyms.ImageError, match="names overlap"):
            _ = ksyms.load(path).sections


def test_a_long_name_of_many_sections_that_is_not_needed(tmp_path: Path) -> None:
    """Loaded as it is: no section's name is made but a symbol's."""
    long = Section("n" * 300_000, 1, 0, 0x1000, b"x" * 64)
    data = elf_file(ROWS, NAMES, sections=(long,))
    _, shoff, each, count = header_fields(data)
    many = bytearray(data + data[shoff + each : shoff + 2 * each] * 3000)
    struct.pack_into("<H", many, 60, count + 3000)
    path = tmp_path / "many"
    path.write_bytes(many)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [symbol.name for symbol in ksyms.load(path)] == ["one", "two"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < 64 << 10  # KiB


def test_the_ends_of_the_address_space(tmp_path: Path) -> None:
    """At 2**64 there is no address: one error, and no other exception."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file(ROWS, NAMES))
    sections = (
        Section(".text", 1, 6, 0, b"x" * 16, align=1),
        Section(".data", 1, 3, 0, b"", align=1),
    )
    rows = [Row(1, 8, 4), Row(5, 0, 0, shndx=2)]
    path = tmp_path / "wrong"
    path.write_bytes(elf_file(rows, NAMES, kind=REL, sections=sections))
    top = 0xFFFFFFFFFFFFFFF0
    for layout in ("linux", "freebsd"):
        for place in (top, {".text": top + 12, ".data": 0}):
            with pytest.raises(ksyms.ImageError, match="would end past the last address"):
                ksyms.snapshot(layout=layout, kernel=kernel, modules=[(path, place)])
    high = (Section(".text", 1, 6, top, b"x" * 16),)
    path.write_bytes(elf_file([Row(1, top)], NAMES, sections=high))
    with pytest.raises(ksyms.ImageError, match="ends past the last address"):
        ksyms.snapshot(kernel=path)
    assert len(ksyms.load(ksyms.snapshot(layout="freebsd", kernel=path).image)) == 1


def test_a_sparse_file_of_many_gigabytes(tmp_path: Path) -> None:
    """Its table is larger than memory: an error, with the errno of it."""
    data = bytearray(elf_file(ROWS, NAMES))
    _, shoff, each, _ = header_fields(bytes(data))
    path = tmp_path / "sparse"
    size = 24 << 36  # 1.5 TB
    struct.pack_into("<Q", data, shoff + 2 * each + 32, size)
    struct.pack_into("<Q", data, shoff + 2 * each + 24, len(data))
    path.write_bytes(data)
    os.truncate(path, len(data) + size)
    with pytest.raises(ksyms.KsymsError) as caught:
        ksyms.snapshot(layout="freebsd", kernel=path)
    assert caught.value.errno in (errno.ENOMEM, errno.EOVERFLOW)


def test_section_numbers_over_0xfeff(tmp_path: Path) -> None:
    """gcc and as make 66,000 sections: e_shnum and st_shndx stand elsewhere."""
    lines = [f'.section .t{n},"ax"\nf{n}: .skip 4\n' for n in range(66_000)]
    code, module = tmp_path / "many.s", tmp_path / "many.o"
    code.write_text("".join(lines))
    subprocess.run(["as", code, "-o", module], check=True)
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file(ROWS, NAMES))
    linked = tmp_path / "linked"
    script = tmp_path / "script"
    script.write_text("SECTIONS { . = 0x10000; .text : { *(.text) *(.t*) } }")
    subprocess.run(["ld", "-T", script, module, "-o", linked], check=True)
    image = ksyms.snapshot(layout="freebsd", kernel=kernel, modules=[(module, BASE)]).image
    ours, theirs = ksyms.load(image), ksyms.load(linked)
    for name in ("f0", "f65279", "f65280", "f65999"):
        assert [s.address for s in ours.find(name)] == [s.address for s in theirs.find(name)]
