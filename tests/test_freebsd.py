"""The driver's image: its bytes by hand from freebsd-ksyms.c, and of real ELF files."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest

import ksyms
from command import ksyms as ksyms_command
from command import nm, refused
from conftest import Kernel
from elf_files import DYN, EXEC, REL, SHN_ABS, SHN_COMMON, Row, Section, compile_c, elf_file
from ksyms._linker import FileTables
from ksyms._linker.elf_files import ElfLinker
from ksyms._linker.elf_table import ModuleFile
from ksyms._snapshot import freebsd, take
from ksyms._snapshot.emitter import Emitter
from timed import least, spent

KERNEL_STRINGS = b"\0start\0data\0"
MODULE_STRINGS = b"\0mod\0abs\0gone\0"
KERNEL_ROWS = [Row(1, 0x1000, 16), Row(7, 0x2000, 4, 0x11, 2)]
MODULE_ROWS = [Row(1, 0x40, 8), Row(5, 0x99, 0, 0x10, SHN_ABS), Row(9, 0, 0, 0x10, 0)]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def image_of(kernel: Path, *modules: tuple[Path, int]) -> bytes:
    return bytes(ksyms.snapshot(layout="freebsd", kernel=kernel, modules=modules).image)


def test_64_bit_by_hand(tmp_path: Path) -> None:
    """Every byte of the header written out here, from struct ksyms_hdr and ksyms_snapshot."""
    kernel = write(tmp_path / "kernel", elf_file(KERNEL_ROWS, KERNEL_STRINGS))
    module = write(tmp_path / "mod.ko", elf_file(MODULE_ROWS, MODULE_STRINGS, kind=DYN))
    header = bytes.fromhex(
        "7f454c46 02 01 01 09 00 00000000000000"  # ELF64, little, FreeBSD
        "0200 3e00 01000000"  # ET_EXEC, x86-64, EV_CURRENT
        "0000000000000000 4000000000000000 b000000000000000"  # entry, phoff 64, shoff 176
        "00000000 4000 3800 0200 4000 0400 0300"  # flags, sizes, 2 segments, 4 sections
        # PT_LOAD, R X; PT_LOAD, R W X; all else zero
        "01000000 05000000"
        + "00" * 48
        + "01000000 07000000"
        + "00" * 48
        +
        # section 0
        "00" * 64
        +
        # .symtab: name 1, SHT_SYMTAB; at 464, 7 symbols of 24; link 2, info 7, align 8
        "01000000 02000000 0000000000000000 0000000000000000"
        "d001000000000000 a800000000000000 02000000 07000000"
        "0800000000000000 1800000000000000"
        # .strtab: name 9, SHT_STRTAB; at 632, 26 bytes; align 1
        "09000000 03000000 0000000000000000 0000000000000000"
        "7802000000000000 1a00000000000000 00000000 00000000"
        "0100000000000000 0000000000000000"
        # .shstrtab: name 17, SHT_STRTAB; at 432, 28 bytes; align 0
        "11000000 03000000 0000000000000000 0000000000000000"
        "b001000000000000 1c00000000000000 00000000 00000000"
        "0000000000000000 0000000000000000"
    )
    names = b"\0.symtab\0.strtab\0.shstrtab\0\0"
    symbols = bytes.fromhex(
        "00000000 00 00 0000 0000000000000000 0000000000000000"
        "01000000 12 00 0100 0010000000000000 1000000000000000"
        "07000000 11 00 0200 0020000000000000 0400000000000000"
        # the module's: names 12 further, the defined one moved to 0xffffffff82a00040
        "0c000000 00 00 0000 0000000000000000 0000000000000000"
        "0d000000 12 00 0100 4000a082ffffffff 0800000000000000"
        "11000000 10 00 f1ff 9900000000000000 0000000000000000"
        "15000000 10 00 0000 0000000000000000 0000000000000000"
    )
    expected = header + names + bytes(4) + symbols + KERNEL_STRINGS + MODULE_STRINGS
    assert image_of(kernel, (module, 0xFFFFFFFF82A00000)) == expected


def test_32_bit_big_endian_by_hand(tmp_path: Path) -> None:
    """As a compiler for 32-bit PowerPC lays the structure out: 304 bytes, no padding."""
    made = partial(elf_file, bits=32, order=">", machine=20)
    kernel = write(tmp_path / "kernel", made(KERNEL_ROWS[:1], b"\0start\0"))
    module = write(tmp_path / "m", made(MODULE_ROWS[:1], b"\0mod\0", kind=EXEC))
    expected = (
        bytes.fromhex(
            "7f454c46 01 02 01 09 00 00000000000000"
            "0002 0014 00000001 00000000 00000034 00000074 00000000"  # phoff 52, shoff 116
            "0034 0020 0002 0028 0004 0003"
            # p_type, offset, vaddr, paddr, filesz, memsz, p_flags, align
            "00000001" + "00" * 20 + "00000005 00000000"
            "00000001" + "00" * 20 + "00000007 00000000" + "00" * 40 +
            # .symtab: at 304, 4 symbols of 16, align 4
            "00000001 00000002 00000000 00000000 00000130 00000040"
            "00000002 00000004 00000004 00000010"
            # .strtab: at 368, 12 bytes
            "00000009 00000003 00000000 00000000 00000170 0000000c"
            "00000000 00000000 00000001 00000000"
            # .shstrtab: at 276, 28 bytes
            "00000011 00000003 00000000 00000000 00000114 0000001c"
            "00000000 00000000 00000000 00000000"
        )
        + b"\0.symtab\0.strtab\0.shstrtab\0\0"
        + bytes.fromhex(
            "00000000 00000000 00000000 00 00 0000"
            "00000001 00001000 00000010 12 00 0001"
            "00000007 00000000 00000000 00 00 0000"
            "00000008 c0000040 00000008 12 00 0001"
        )
        + b"\0start\0\0mod\0"
    )
    assert image_of(kernel, (module, 0xC0000000)) == expected


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [EXEC, DYN, REL])
def test_every_class_order_and_type(tmp_path: Path, bits: int, order: str, kind: int) -> None:
    """readelf prints the rows that went in, a module's moved to where it was loaded."""
    text = Section(".text", 1, 6, 0, b"\x90" * 20, align=16)
    data = Section(".data", 1, 3, 0 if kind == REL else 0x40, b"\x01" * 8, align=64)
    note = Section(".comment", 1, 0, 0, b"gcc\0")
    rows = [
        *(Row(1, 4, 3), Row(5, 0 if kind == REL else 0x40, 8, 0x11, 2)),
        *(Row(9, 2, 0, 0x01, 3), Row(13, 32, 4, 0x11, SHN_COMMON)),
    ]
    made = partial(elf_file, bits=bits, order=order, machine=21 if bits == 64 else 20)
    kernel = write(tmp_path / "kernel", made(KERNEL_ROWS, KERNEL_STRINGS))
    names = b"\0fun\0var\0doc\0com\0"
    module = made(rows, names, kind=kind, sections=(text, data, note))
    out = tmp_path / "out"
    out.write_bytes(image_of(kernel, (write(tmp_path / "mod", module), 0x80000010)))
    listed = readelf(out)[len(KERNEL_ROWS) + 1 :]
    # An ET_REL's .text is at the base, its .data at the next multiple of 64; what is not in
    # memory stays, but for a linked file, of which all is moved by one distance.
    doc = 2 if kind == REL else 0x80000012
    var = 0x80000040 if kind == REL else 0x80000050
    assert listed == [
        (0, "NOTYPE", "LOCAL", "UND", 0, ""),
        (0x80000014, "FUNC", "GLOBAL", "1", 3, "fun"),
        (var, "OBJECT", "GLOBAL", "2", 8, "var"),
        (doc, "OBJECT", "LOCAL", "3", 0, "doc"),
        (32, "OBJECT", "GLOBAL", "COM", 4, "com"),
    ]
    table = ksyms.load(out)
    assert [hex(s.address) for s in table.find("fun")] == ["0x80000014"]


def test_sections_of_an_object_file(tmp_path: Path) -> None:
    """FILE@.text=...,.data=... as sysfs tells of a module, against where ld puts them."""
    source = "int far; int near = 3; int work(int a) { return a + near + far; }"
    module = compile_c(tmp_path / "mod.o", source, "-c")
    linked = tmp_path / "linked"
    places = {".text": 0x400000, ".data": 0x500000, ".bss": 0x600000}
    told = [f"-T{name[1:]}={place:#x}" for name, place in places.items()]
    subprocess.run(["ld", "-e0", *told, module, "-o", linked], check=True)
    kernel = write(tmp_path / "kernel", elf_file(KERNEL_ROWS, KERNEL_STRINGS))
    out = tmp_path / "out"
    spec = ",".join(f"{name}={place:#x}" for name, place in places.items())
    arguments = ("--kernel", kernel, "--module", f"{module}@{spec}", "-o", out)
    run = ksyms_command("snapshot", "--layout", "freebsd", *arguments)
    assert run.returncode == 0, run.stderr
    names = (" far", " near", " work")
    ours = [line for line in nm(out) if line.endswith(names)]
    assert ours == [line for line in nm(linked) if line.endswith(names)]
    assert len(ours) == 3


def readelf(path: Path) -> list[tuple[int, str, str, str, int, str]]:
    """Value, type, binding, section, size and name of each symbol in .symtab, by readelf.

    Of a section's own symbol it prints the section's name, which is none in the image.
    """
    command: list[str | Path] = ["readelf", "-s", "-W", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = text.partition("table '.symtab'")[2]
    text = re.sub(r"bad section index\[ *(\d+)\]", r"\1", text)
    found = re.findall(
        r"^ *\d+: ([0-9a-f]+) +(\d+|0x[0-9a-f]+) (\w+) +(\w+) +\w+ +(\w+) ?(.*)$", text, re.M
    )
    return [
        (
            *(int(value, 16), kind, bind, section, int(size, 0)),
            "" if kind == "SECTION" else name.strip(),
        )
        for value, size, kind, bind, section, name in found
    ]


def many_functions(count: int, prefix: str) -> str:
    """Assembly with ``count`` functions of 8 bytes."""
    lines = [".text"]
    for n in range(count):
        lines.append(f".type {prefix}{n},@function\n{prefix}{n}: .skip 8\n.size {prefix}{n},8")
    return "\n".join(lines) + "\n"


def assembled(path: Path, source: str, *link: str) -> Path:
    code = path.with_suffix(".s")
    code.write_text(source)
    subprocess.run(["gcc", "-c", code, "-o", path.with_suffix(".o")], check=True)
    if not link:
        return path.with_suffix(".o")
    subprocess.run(["ld", *link, path.with_suffix(".o"), "-o", path], check=True)
    return path


SETS = [(0, 0), (1000, 3), (100_000, 1), (300, 40)]


@pytest.mark.parametrize(("functions", "modules"), SETS)
def test_real_files(tmp_path: Path, functions: int, modules: int) -> None:
    """What gcc, as and ld made: readelf's rows of the image are those of each file, moved."""
    kernel = assembled(
        tmp_path / "kernel", many_functions(functions, "k"), "-e0", "-Ttext=0x400000"
    )
    files: list[tuple[Path, int]] = []
    expected = readelf(kernel)
    for number in range(modules):
        name = f"mod{number}"
        if number % 3 == 2:  # a linked one, which has no address until it is loaded
            file = assembled(tmp_path / name, many_functions(number, f"m{number}_"), "-shared")
        else:
            source = f"int v{number} = 1; int f{number}(void) {{ return v{number}; }}"
            file = compile_c(tmp_path / f"{name}.o", source, "-c")
        if number == 7:
            subprocess.run(["strip", file], check=True)  # no symbol table at all
        base = 0xFFFFFFFFC0000000 + number * 0x10000
        files.append((file, base))
        expected += moved(file, base)
    out = tmp_path / "out"
    out.write_bytes(image_of(kernel, *files))
    assert readelf(out) == expected
    assert subprocess.run(["readelf", "-a", "-W", out], capture_output=True).stderr == b""
    table = ksyms.load(out)
    assert len(table) == len(expected) - 1
    if functions:
        last = f"k{functions - 1}"
        [symbol] = table.find(last)
        assert (symbol.address, symbol.size, symbol.exact) == (
            0x400000 + 8 * (functions - 1),
            8,
            True,
        )
        found = table.lookup(symbol.address + 7)
        assert found is not None
        assert found.name == last


def moved(file: Path, base: int) -> list[tuple[int, str, str, str, int, str]]:
    """readelf's rows of a module's file, at the addresses that ld gives them there."""
    if file.suffix == ".o":
        at, starts = base, {}
        headers = subprocess.run(
            ["readelf", "-S", "-W", file], capture_output=True, text=True, check=True
        ).stdout
        pattern = r"^ +\[ *(\d+)\] \S+ +\w+ +\w+ \w+ (\w+) \w+ +(\w*) +\d+ +\d+ +(\d+)$"
        for number, size, flags, align in re.findall(pattern, headers, re.M):
            if "A" in flags:
                at += -at % max(int(align), 1)
                starts[number] = at
                at += int(size, 16)
    else:
        starts = dict.fromkeys(map(str, range(100)), base)
    return [
        (value + starts.get(section, 0), kind, bind, section, size, name)
        for value, kind, bind, section, size, name in readelf(file)
    ]


def test_empty_string_tables(tmp_path: Path) -> None:
    """A nameless symbol in an empty table: as the driver has it, and load takes it."""
    kernel = write(tmp_path / "kernel", elf_file([Row(0, 0x1000)], b""))
    module = write(tmp_path / "m", elf_file([Row(1, 8)], b"\0one\0"))
    last = write(tmp_path / "n", elf_file([Row(0, 16)], b""))
    image = image_of(kernel, (module, 0x10000), (last, 0x20000))
    names = [struct.unpack_from("<I", image, 464 + 24 * n)[0] for n in range(6)]
    assert names == [0, 0, 0, 1, 5, 5]
    assert image[464 + 6 * 24 :] == b"\0one\0"
    out = write(tmp_path / "out", image)
    assert [(s.name, s.address) for s in ksyms.load(out) if s.address] == [
        ("", 0x1000),
        ("one", 0x10008),
        ("", 0x20010),
    ]


def test_no_symbols_at_all(tmp_path: Path) -> None:
    kernel = write(tmp_path / "kernel", elf_file(None, b""))
    image = image_of(kernel)
    assert len(image) == 464
    table = ksyms.load(write(tmp_path / "out", image))
    assert (len(table), list(table), table.lookup(0), table.find("a")) == (0, [], None, [])


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("which", ["symbols", "strings", "fewer"])
def test_a_file_that_changes_between_the_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, which: str
) -> None:
    """ENXIO for that try; three tries. The file is written anew before the copy pass."""
    kernel = write(tmp_path / "kernel", elf_file(KERNEL_ROWS, KERNEL_STRINGS))
    path = tmp_path / "mod"
    tries = 0

    def write_module(extra: int) -> None:
        rows = [Row(1, 0x10 * n) for n in range(300 + (extra if which == "symbols" else 0))]
        rows = rows[: len(rows) - (extra if which == "fewer" else 0)]
        strings = b"\0mod\0" + b"x\0" * (extra if which == "strings" else 0)
        write(path, elf_file(rows, strings))

    def copy(tables: FileTables, sizes: freebsd.FreebsdSizes, out: Emitter) -> None:
        nonlocal tries
        tries += 1
        if tries <= times:
            write_module(tries)
        real(tables, sizes, out)

    write_module(0)
    real = freebsd.copy
    monkeypatch.setattr(freebsd, "copy", copy)
    linker = ElfLinker(str(kernel), [ModuleFile(str(path), 0x10000)])
    if times < 3:
        names = {s.name for s in ksyms.load(take(linker, "freebsd").image)}
        assert names == {"", "start", "data", "mod"}
    else:
        with pytest.raises(ksyms.MovedError, match="during each of 3 tries") as caught:
            take(linker, "freebsd")
        assert caught.value.errno == 6  # ENXIO
    assert tries == min(times + 1, 3)


def test_a_file_that_changes_and_keeps_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver would give half of each; here the file's times tell."""
    kernel = write(tmp_path / "kernel", elf_file(KERNEL_ROWS, KERNEL_STRINGS))
    real, tries = freebsd.copy, 0

    def copy(tables: FileTables, sizes: freebsd.FreebsdSizes, out: Emitter) -> None:
        nonlocal tries
        real(tables, sizes, out)
        tries += 1
        if tries == 1:
            write(kernel, elf_file(KERNEL_ROWS, KERNEL_STRINGS.upper()))
            os.utime(kernel, (1, 1))

    monkeypatch.setattr(freebsd, "copy", copy)
    table = ksyms.load(take(ElfLinker(str(kernel)), "freebsd").image)
    assert tries == 2
    assert [s.name for s in table] == ["START", "DATA"]


def test_of_a_text(kernel: Kernel, tmp_path: Path) -> None:
    """Of kallsyms too: its names and addresses, with sizes as in the linux layout."""
    theirs, ours = tmp_path / "linux", tmp_path / "freebsd"
    ksyms.snapshot(kernel.root).write(theirs)
    ksyms.snapshot(kernel.root, "freebsd").write(ours)
    named = [line for line in nm(ours) if " " in line.strip() and "U" not in line.split()[0]]
    assert named == nm(theirs)
    table, other = ksyms.load(ours), ksyms.load(theirs)
    for symbol in other[::997]:
        one, two = other.lookup(symbol.address), table.lookup(symbol.address)
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            assert (one.address, one.size) == (two.address, two.size)


def test_of_a_text_without_modules(tmp_path: Path) -> None:
    text = tmp_path / "kallsyms"
    text.write_text("0000000000001000 T _text\n0000000000001008 t f\n0000000000001020 D d\n")
    image = tmp_path / "image"
    ksyms.snapshot(layout="freebsd", kallsyms=text).write(image)
    named = [line for line in nm(image) if line.strip() != "U"]
    assert named == ["0000000000001000 _text", "0000000000001008 f", "0000000000001020 d"]


def test_names_that_end_others_are_found_at_once(saved: dict[str, Kernel]) -> None:
    """Thousands of names end in "e"; the tables are not searched once for each."""
    image = ksyms.snapshot(saved["6.12.117+deb12-amd64-few"].root, "freebsd").image
    table = ksyms.load(image)
    assert [len(table.find(name)) for name in ("init", "e", "schedule")] == [0, 0, 1]
    once = spent(lambda: table.find("schedule"))
    assert least(lambda: table.find("e"), 50 * once) <= 50 * once


def test_commands(tmp_path: Path) -> None:
    kernel = write(tmp_path / "kernel", elf_file(KERNEL_ROWS, KERNEL_STRINGS))
    module = write(tmp_path / "a@b.ko", elf_file(MODULE_ROWS, MODULE_STRINGS, kind=DYN))
    out = tmp_path / "out"
    arguments = ("snapshot", "--layout", "freebsd", "--kernel", kernel, "-o", out)
    run = ksyms_command(*arguments, "--module", f"{module}@0xffffffff82a00000")
    assert run.stdout == f"{out}: 6 symbols, 658 bytes, as FreeBSD's driver lays them out\n"
    run = ksyms_command("lookup", "--from", out, "ffffffff82a00042", "abs", "gone")
    assert run.stdout.splitlines() == [
        "ffffffff82a00042  ?  8  mod+0x2/0x8",
        "0000000000000099  ?  0  abs",
    ]
    assert "no symbol is called gone" in run.stderr
    assert "absolute          unknown" in ksyms_command("info", out).stdout
    for wrong in (
        "mod.ko",
        "mod.ko@",
        "@0x10",
        "mod.ko@12",
        "mod.ko@.text",
        "a@.text=0x1,=0x2",
    ):
        run = ksyms_command(*arguments, "--module", wrong)
        assert (run.returncode, "neither FILE@ADDRESS nor" in run.stderr) == (2, True), wrong
    run = ksyms_command("snapshot", "--module", "a@0x10", "-o", out)
    assert (run.returncode, "without argument --kernel" in run.stderr) == (2, True)
    run = ksyms_command("snapshot", "--kernel", kernel, "--root", tmp_path, "-o", out)
    assert (run.returncode, "not allowed with" in run.stderr) == (2, True)


def test_what_cannot_be_placed(tmp_path: Path) -> None:
    """One sentence each, with the file's name, and nothing written."""
    kernel = write(tmp_path / "kernel", elf_file(KERNEL_ROWS, KERNEL_STRINGS))
    linked = write(tmp_path / "linked", elf_file(MODULE_ROWS, MODULE_STRINGS))
    small = write(tmp_path / "small", elf_file(MODULE_ROWS, MODULE_STRINGS, bits=32))
    source = "int one = 1; int two(void) { return one; }"
    both = compile_c(tmp_path / "both.o", source, "-c")
    out = tmp_path / "out"
    for module, what in (
        (f"{small}@0x10", "small is 32-bit little-endian of machine 62, and the kernel's"),
        (f"{linked}@.text=0x10", "linked cannot lie at the address given for it"),
        (f"{both}@.text=0x10", "in .data, for which no address was given"),
        (f"{both}@.text=0x10,.rodata=0x20", "it has no section in memory called .rodata"),
        (f"{both}@0xffffffffffffffff", "would end past the last address"),
        (f"{linked}@0x11111111111111111", "is no address of 64 bits"),
        (f"{tmp_path}@0x10", "is not a regular file"),
        (f"{tmp_path}/none@0x10", "No such file or directory"),
        (f"{__file__}@0x10", "it does not begin with the ELF magic number"),
    ):
        arguments = ("--kernel", kernel, "--module", module, "-o", out)
        refused(ksyms_command("snapshot", "--layout", "freebsd", *arguments), what)
        assert not out.exists()
