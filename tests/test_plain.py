"""ELF files that are not snapshots: a vmlinux, a module, a file of vmlinux-to-elf."""

from __future__ import annotations

import json
import os
import re
import subprocess
from bisect import bisect_right
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import drgn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import ksyms as command
from conftest import Kernel
from elf_files import REL, SHN_ABS, Row, Section, elf_file, pack_row
from ksyms._symbols.precedence import key
from ksyms._symbols.table import SECTIONS
from timed import growth

TEXT, DATA = 0xFFFFFFFF81000000, 0xFFFFFFFF82000000
LAB = Path(__file__).parent / "vm/lab.sh"
STOCK = ("ext4", "kvm", "btrfs", "nf_tables", "af_key")

ASSEMBLY = """
    .section .head.text, "ax"
    .globl startup_64, _stext
    _stext:
    startup_64: .skip 16, 0x90
    secondary: .skip 16, 0x90
    .section .text, "ax"
    .balign 16
    .globl outer, inner_label, alias_of, __start_x, after
    .type outer, @function
    outer: .skip 8, 0x90
    inner_label: .skip 24, 0x90
    .size outer, . - outer
    .skip 16, 0xcc
    .weak alias_of, aaa
    .type alias_of, @function
    .type sized, @function
    alias_of: aaa: __sized_start: _sized: sized: .skip 32, 0x90
    .size sized, 32
    .size alias_of, 32
    after: .skip 20, 0x90
    .section .rodata, "a"
    .globl linux_banner
    .type linux_banner, @object
    linux_banner: .asciz "Linux version 6.9.1-test (you@there) #1 SMP"
    .size linux_banner, . - linux_banner
    .balign 16
    words: .quad 1, 2, 3
    .section .data, "aw"
    .type number, @object
    number: .quad 4
    .size number, 8
    tail: .quad 5
    .section .bss, "aw", @nobits
    zeros: .skip 64
    .section .data..percpu, "aw"
    .type per_cpu, @object
    per_cpu: .skip 64
    .size per_cpu, 64
    unsized_per_cpu: .skip 64
    .section .note, "a", @note
    .section .comment.labels, "", @progbits
    in_no_memory: .skip 64
    .section .tdata, "awT"
    thread: .quad 1
"""
SCRIPT = """
SECTIONS {
  . = 0xffffffff81000000;
  _text = .;
  .text : { *(.head.text) *(.text) _etext = .; }
  . = 0xffffffff82000000;
  .rodata : { __start_rodata = .; *(.rodata) __end_rodata = .; }
  .notes : { *(.note.*) }
  . = ALIGN(4096);
  .data : { _sdata = .; *(.data) _edata = .; }
  .tdata : { *(.tdata) }
  .data..percpu 0 : AT(0x4000000) { __per_cpu_start = .; *(.data..percpu) __per_cpu_end = .; }
  . = 0xffffffff83000000;
  .bss : { __bss_start = .; *(.bss) __bss_stop = .; }
  absolute = 0x1000;
}
"""


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain")
    (path / "a.s").write_text(ASSEMBLY)
    (path / "a.ld").write_text(SCRIPT)
    subprocess.run(["as", path / "a.s", "-o", path / "a.o"], check=True)
    script = ("-T", path / "a.ld", "-e", "startup_64", "--build-id=0x0123456789abcdef")
    subprocess.run(["ld", *script, path / "a.o", "-o", path / "vmlinux"], check=True)
    return path / "vmlinux"


def told(path: Path, *asked: int) -> list[tuple[str, int, int, bool] | None]:
    """Return name, offset, size and exactness, looked up singly and all at once."""
    table = ksyms.load(path)
    singly = [table.lookup(address) for address in asked]
    places = table.locate(np.array(asked, np.uint64)).tolist()
    assert [table[place] if place < len(table) else None for place in places] == singly
    return [s and (s.name, a - s.address, s.size, s.exact) for s, a in zip(singly, asked)]


def test_each_kind_of_symbol(vmlinux: Path) -> None:
    """Expected is what %pS would print, by hand from the assembly above."""
    assert told(vmlinux, TEXT, TEXT + 15, TEXT + 16) == [
        ("startup_64", 0, 16, False),
        ("startup_64", 15, 16, False),
        ("secondary", 0, 16, False),
    ]
    # A label in a function has what is behind it, up to the next symbol.
    assert told(vmlinux, TEXT + 0x27, TEXT + 0x28, TEXT + 0x4F) == [
        ("outer", 7, 32, True),
        ("inner_label", 0, 40, False),
        ("inner_label", 39, 40, False),
    ]
    assert told(vmlinux, TEXT + 0x50, TEXT + 0x6F, TEXT + 0x70, TEXT + 0x83) == [
        ("sized", 0, 32, True),
        ("sized", 31, 32, True),
        ("after", 0, 20, False),
        ("after", 19, 20, False),
    ]
    # The end of a section is its own address, and no more.
    assert told(vmlinux, TEXT + 0x84, TEXT + 0x85) == [("_etext", 0, 0, False), None]


def test_symbols_without_an_address_name_nothing(vmlinux: Path) -> None:
    """Per-CPU and thread-local offsets, absolute values, sections of debug info."""
    assert told(vmlinux, 0, 8, 0x28, 0x40, 0x48, 0x80, 0x1000, 0x1001) == [None] * 8
    table = ksyms.load(vmlinux)
    assert [s.size for s in table.find("unsized_per_cpu")] == [0]


def test_aliases_in_the_kernels_order(vmlinux: Path) -> None:
    """Weak symbols and a linker script's come last; then by underscores, then by name."""
    names = [symbol.name for symbol in ksyms.load(vmlinux).at(TEXT + 0x50)]
    assert names == ["sized", "_sized", "__sized_start", "aaa", "alias_of"]
    [record] = map(
        json.loads, command("lookup", "--json", "--from", vmlinux, "sized").stdout.splitlines()
    )
    assert record["aliases"] == names[1:]


def test_the_order_is_that_of_real_kernels(saved: dict[str, Kernel]) -> None:
    """kallsyms printed the saved texts in its own order."""
    compared = 0
    for kernel in saved.values():
        groups = defaultdict(list)
        for address, letter, name, module in kernel.lines:
            if module is None and letter not in "aA":
                groups[address].append((name, letter in "wW"))
        for group in groups.values():
            ordered = sorted(group, key=lambda row: key(row[0].encode(), row[1]))
            assert ordered == group
            compared += len(group) > 1
    assert compared > 500


@pytest.mark.parametrize("name", [b"__crc_a", b"__kstrtab_a", b"__efistub_a", b"a_veneer"])
def test_names_that_kallsyms_omits_are_last(name: bytes) -> None:
    assert key(name, False) > key(b"weak", True)


def test_letters_are_nms(vmlinux: Path, stock: dict[str, Path]) -> None:
    for path in (vmlinux, vmlinux.with_name("a.o"), Path("/bin/true"), *stock.values()):
        lines = subprocess.run(["nm", "-p", path], capture_output=True, text=True).stdout
        expected: Counter[tuple[str | None, str]] = Counter(
            (line[17], line[19:]) for line in lines.splitlines() if line
        )
        try:
            table = ksyms.load(path)
        except ksyms.ImageError:  # stripped
            continue
        found = Counter((symbol.letter, symbol.name) for symbol in table)
        assert expected.total() > 10
        assert expected - found == Counter()


def test_the_identity_of_a_file(vmlinux: Path) -> None:
    """It is what readelf prints; info, and decode for a text of another build, use it."""
    table = ksyms.load(vmlinux)
    notes = subprocess.check_output(["readelf", "-n", vmlinux], text=True)
    assert f"Build ID: {table.build_id}" in notes
    assert (table.release, table.machine) == ("6.9.1-test", "x86_64")
    facts = json.loads(command("info", "--json", vmlinux).stdout)
    assert facts["release"] == "6.9.1-test"
    assert facts["machine"] == "x86_64"
    assert facts["build_id"] == "0123456789abcdef"
    assert facts["link_time"]["_stext"] == f"{TEXT:#x}"
    oops = "CPU: 0 PID: 1 Comm: a Not tainted 6.9.1-test #1 {}\n [<ffffffff81000028>] x\n"
    other = oops.format("ffffffffffffffffffffffffffffffffffffffff")
    run = command("decode", "--from", vmlinux, input=other)
    assert run.returncode in (0, 1)
    foreign = "CPU: 0 PID: 1 Comm: a Not tainted 5.0.0 #1\n [<ffffffff81000028>] ? 0x0\n"
    assert "outer" not in command("decode", "--from", vmlinux, input=foreign).stdout


@pytest.mark.parametrize(
    ("bits", "order", "machine", "name"),
    [
        (64, "<", 62, "x86_64"),
        (32, "<", 3, "i386"),
        (32, "<", 40, "arm"),
        (64, "<", 183, "aarch64"),
        (64, ">", 22, "s390x"),
        (64, "<", 21, "ppc64le"),
        (64, ">", 21, "ppc64"),
        (32, "<", 243, "riscv32"),
        (64, "<", 243, "riscv64"),
        (64, "<", 258, "loongarch64"),
        (32, ">", 8, "mips"),
        (64, ">", 8, "mips64"),
        (64, "<", 9999, None),
    ],
)
def test_the_machine(bits: int, order: str, machine: int, name: str | None) -> None:
    data = elf_file([Row(1, 0x1000, 8)], b"\0f\0", bits=bits, order=order, machine=machine)
    assert ksyms.load(memoryview(data)).machine == name


def test_two_builds_are_not_one(vmlinux: Path, tmp_path: Path) -> None:
    """``decode --boot`` by the build-id of both files."""
    other = tmp_path / "other"
    other.write_bytes(vmlinux.read_bytes().replace(bytes.fromhex("0123456789abcdef"), bytes(8)))
    run = command("decode", "--from", vmlinux, "--boot", other, input="ffffffff81000028\n")
    assert "build-id" in run.stderr
    assert run.returncode == 1


# -- drgn and nm on the same file -----------------------------------------------------------


@pytest.fixture(scope="module")
def stock() -> dict[str, Path]:
    """Five modules of a Debian kernel by name, which lab.sh fetches and keeps."""
    subprocess.run([LAB, "--setup"], check=True)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kept = Path(os.environ.get("KSYMS_LAB_DIR") or Path(cache) / "ksyms-lab")
    files = kept.glob("linux-image-amd64/k/lib/modules/*/kernel/**/*.ko")
    found = {path.stem: path for path in files}
    return {name: found[name] for name in STOCK}


def asked(table: ksyms.SymbolTable, place: range) -> list[int]:
    rng = np.random.default_rng(18)
    starts = [s.address for s in table if s.address in place and s.letter not in ("a", "A")]
    some: list[int] = rng.choice(starts, 500).tolist()
    anywhere: list[int] = rng.integers(place.start, place.stop, 500).tolist()
    return some + [a + 1 for a in some] + anywhere


def test_drgns_answers(vmlinux: Path) -> None:
    """But for a label in a function, where drgn has the function and the kernel the label."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    module = prog.extra_module("vmlinux", create=True)
    module.address_ranges = [(0, (1 << 64) - 1)]
    module.try_file(vmlinux, force=True)
    table = ksyms.load(vmlinux)
    label = range(TEXT + 0x28, TEXT + 0x50)
    for address in range(TEXT, TEXT + 0xA0):
        try:
            expected = prog.symbol(address)
        except LookupError:
            expected = None
        found = table.lookup(address)
        if address in label:
            assert found is not None
            assert found.name == "inner_label"
        elif address != TEXT + 0x84:  # the mark of the section's end, which drgn never has
            # Of several at one place each has its own choice.
            assert (found and found.address) == (expected and expected.address), hex(address)


@pytest.mark.parametrize("name", STOCK)
def test_stock_modules(name: str, stock: dict[str, Path]) -> None:
    """Their code, held against drgn and objdump; their BTF goes on from the kernel's."""
    path = stock[name]
    table = ksyms.load(path)
    release = path.parts[path.parts.index("modules") + 1]
    assert (table.release, table.machine) == (release, "x86_64")
    assert not table.has_prototypes
    sections = dict(
        re.findall(
            r"^ +\[ *\d+\] (\S+) +\S+ +0+ [0-9a-f]+ ([0-9a-f]+)",
            subprocess.check_output(["readelf", "-SW", path], text=True),
            re.M,
        )
    )
    text = range(int(sections[".text"], 16))
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    module = prog.relocatable_module(name, TEXT, create=True)
    module.section_addresses[".text"] = TEXT
    module.address_ranges = [(TEXT, TEXT + text.stop)]
    module.try_file(path, force=True)
    dump = subprocess.check_output(["objdump", "-t", path], text=True)
    names = defaultdict(set)
    for value, symbol in re.findall(
        r"^([0-9a-f]{16}).{9}\.text\t[0-9a-f]{16} (?:\.hidden )?(\S+)$", dump, re.M
    ):
        names[int(value, 16)].add(symbol)
    starts = sorted(names)
    for address in asked(table, text):
        try:
            expected = prog.symbol(TEXT + address)
        except LookupError:
            expected = None
        found = table.lookup(address)
        assert (found and found.address) == (expected and expected.address - TEXT)
        if found is not None:
            assert found.address == starts[bisect_right(starts, address) - 1]
            assert found.name in names[found.address]


def test_as_vmlinux_to_elf_writes(saved: dict[str, Kernel], tmp_path: Path) -> None:
    """All symbols of a kallsyms, locals first, none with a size: the kernel's own answers."""
    kernel = saved["6.12.117+deb12-amd64-few"]
    rows = [(a, letter, name) for a, letter, name, module in kernel.lines if module is None]
    start, stop = (next(a for a, _, n in rows if n == name) for name in ("_stext", "_etext"))
    rows = [row for row in rows if start <= row[0] <= stop and row[1] in "tTwW"]
    strings, made = bytearray(b"\0"), []
    for address, letter, name in sorted(rows, key=lambda row: row[1].isupper()):
        binding = {"t": 0, "T": 1}.get(letter, 2)
        made.append(Row(len(strings), address, 0, binding << 4 | 2))
        strings += name.encode() + b"\0"
    made.sort(key=lambda row: row.info >> 4 > 0)
    text = Section(".text", 8, 6, start, size=stop - start)
    table = ksyms.load(memoryview(elf_file(made, bytes(strings), sections=(text,))))
    first: dict[int, str] = {}
    for address, _, name in rows:
        first.setdefault(address, name)
    starts = sorted(first)
    rng = np.random.default_rng(18)
    for address in [start + d for d in rng.integers(0, stop - start, 1000).tolist()] + starts[
        :-1:97
    ]:
        at = bisect_right(starts, address) - 1
        found = table.lookup(address)
        assert found is not None
        assert (found.name, found.address) == (first[starts[at]], starts[at])
        assert (found.size, found.exact) == (starts[at + 1] - starts[at], False)


def test_symbol_0_is_a_real_one() -> None:
    """vmlinux-to-elf 1.4 writes such files: no other symbol may answer for its addresses."""
    rows = [Row(1, 0x1010), Row(3, 0x1000), Row(5, 0x1020)]
    data = bytearray(elf_file(rows, b"\0b\0a\0c\0"))
    first = bytes(24) + pack_row(rows[0])
    assert data.count(first) == 1
    data = data.replace(first, pack_row(rows[0]) * 2)
    data = data.replace(pack_row(rows[0]) * 2, pack_row(rows[0]) + pack_row(Row(0, shndx=0)))
    table = ksyms.load(memoryview(bytes(data)))
    wanted = ["a"] * 16 + [None] * 16 + ["c"] * 16
    singly = [table.lookup(address) for address in range(0x1000, 0x1030)]
    assert [symbol and symbol.name for symbol in singly] == wanted
    places = table.locate(np.arange(0x1000, 0x1030, dtype=np.uint64)).tolist()
    assert [table[place] if place < len(table) else None for place in places] == singly


# -- object files, whose sections all begin at 0 --------------------------------------------

cells = st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 1, 8]), st.integers(1, 3))


@settings(deadline=None, max_examples=200)
@given(st.lists(cells, max_size=12))
def test_an_object_files_code_answers_first(cells: list[tuple[int, int, int]]) -> None:
    """The first section that holds an address has it: by hand, singly and all at once."""
    places = [Section(".data", 1, 3, 0, bytes(24)), Section(".text", 1, 6, 0, bytes(16))]
    places.append(Section(".text.b", 1, 6, 0, bytes(32)))
    strings = b"\0" + b"".join(b"%03d\0" % n for n in range(len(cells)))
    made = [Row(1 + 4 * n, v, s, 0x12, shndx) for n, (v, s, shndx) in enumerate(cells)]
    table = ksyms.load(memoryview(elf_file(made, strings, kind=REL, sections=tuple(places))))
    order = [n for n in (2, 3, 1) if any(shndx == n for _, _, shndx in cells)]

    def by_hand(address: int) -> str | None:
        ends = []
        for number in order:
            stop = len(places[number - 1].data)
            inside = []
            own = [(n, v, s) for n, (v, s, shndx) in enumerate(cells) if shndx == number]
            for n, value, size in own:
                reach = size or max(s for _, v, s in own if v == value)
                if not reach and value < stop:
                    reach = min([v for _, v, _ in own if v > value] + [stop]) - value
                if value <= address < value + reach:
                    inside.append((-value, n))
                elif value == address:
                    ends.append((number, n))
            if inside:
                return f"{min(inside)[1]:03d}"
            if address < stop:
                return None
        ends.sort(key=lambda row: (order.index(row[0]), row[1]))
        return f"{ends[0][1]:03d}" if ends else None

    expected = [by_hand(address) for address in range(64)]
    singly = [table.lookup(address) for address in range(64)]
    assert [symbol and symbol.name for symbol in singly] == expected
    places_ = table.locate(np.arange(64, dtype=np.uint64)).tolist()
    assert [table[place] if place < len(table) else None for place in places_] == singly


def test_very_many_sections() -> None:
    """There are more than are searched one by one."""
    count = SECTIONS + 10
    code = tuple(Section(f".text.{n}", 1, 6, 0, bytes(16)) for n in range(count))
    rows = [Row(1, 0, 0, 0x12, n + 1) for n in range(count)]
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0", kind=REL, sections=code)))
    found = table.lookup(9)
    assert found is not None
    assert (found.section, found.size) == (".text.0", 16)
    assert [table.lookup(address) for address in (-1, 1 << 64)] == [None, None]


@pytest.mark.parametrize("shape", ["one address", "each its own", "labels", "two sections"])
def test_the_time_grows_as_the_symbols_do(shape: str) -> None:
    """16 times as many symbols take about 16 times as long, singly and all at once."""
    assert growth(partial(ask_all, shape), 2_500, 40_000, 80) <= 80


def ask_all(shape: str, count: int) -> None:
    step = 0 if shape == "one address" else 1
    shndx = 2 if shape == "two sections" else 1
    kind = 0x10 if shape == "labels" else 0x12
    rows = [Row(1, 0x1000 + n * step, 0, kind, 1 + n % shndx) for n in range(count)]
    places = tuple(Section(f".{n}", 8, 6, 0x1000, size=count) for n in "ab")
    names = b"\0.Lf\0" if shape == "labels" else b"\0f\0"
    table = ksyms.load(memoryview(elf_file(rows, names, sections=places)))
    assert len(list(table)) == count
    for address in range(0x1000, 0x1000 + count, count // 5):
        table.lookup(address)
    table.locate(np.arange(count, dtype=np.uint64))


def test_absolute_and_undefined_ones_have_no_size() -> None:
    rows = [Row(1, 5, 0, 0x12, SHN_ABS), Row(1, 0, 0, 0x12, 0)]
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0")))
    assert [(s.size, s.letter) for s in table] == [(0, "U"), (0, "A")]
