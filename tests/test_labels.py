"""Names that the kernel lists and that name nothing, and lines that are spelled otherwise.

What the kernel calls an address is in the inputs' comments, by is_mapping_symbol() of
include/linux/module_symbol.h, or is what its ``%pS`` printed.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import ksyms
from command import TEXT, nm
from ksyms import SymbolTable
from ksyms._elf.constants import STB_GLOBAL, STT_FUNC
from ksyms._linker import Linker
from ksyms._linker.debug_files import DebugSymbols
from ksyms._linker.exact_sizes import with_exact_sizes

LABELS = Path(__file__).parent / "fixtures" / "labels"
OWN = TEXT.split("ffffffffc")[0]


def taken(text: str | bytes, tmp_path: Path) -> SymbolTable:
    """The table of a text, of which another reader sees the same symbols."""
    path, elf = tmp_path / "saved", tmp_path / "odd.elf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ksyms.snapshot(kallsyms=path).write(elf)
    return ksyms.load(elf)


def answers(table: SymbolTable, address: int) -> str | None:
    """The name of one address, which is the same where many are asked for at once."""
    one = table.lookup(address)
    [place] = table.locate([address]).tolist()
    assert (table[place] if 0 <= place < len(table) else None) == one
    return one and one.name


MODULE = b"""\
ffffffffc0000000 t $x\t[mod]
ffffffffc0000000 t mod_start\t[mod]
ffffffffc0000008 t .L0 \t[mod]
ffffffffc000000c t .L0 \t[mod]
ffffffffc0000010 t $d\t[mod]
ffffffffc0000012 t .L1\x025\t[mod]
ffffffffc0000014 t L0\x01\t[mod]
ffffffffc0000018 t $x.12\t[mod]
ffffffffc0000019 t $xrv64i2p1_m2p0\t[mod]
ffffffffc000001a t $foo\t[mod]
ffffffffc000001b t $\t[mod]
ffffffffc000001c t L0pin\t[mod]
ffffffffc000001d t .L\t[mod]
ffffffffc0000020 t L1\t[mod]
ffffffffc0000028 t .foo\t[mod]
ffffffffc0000030 t L\t[mod]
ffffffffc0000038 t a $x\t[mod]
"""
NAMING = {0x0: "mod_start", 0x20: "L1", 0x28: ".foo", 0x30: "L", 0x38: "a $x"}


def test_of_a_module(tmp_path: Path) -> None:
    """They are listed and local, have no size, answer nowhere, and bound nobody."""
    table = taken(OWN.encode() + MODULE, tmp_path)
    rows = re.findall(rb"(\w{16}) t (.+)\t", MODULE)
    found = [s for s in table if s.module == "mod"]
    assert [(s.address, s.name.encode()) for s in found] == [(int(a, 16), n) for a, n in rows]
    sizes = {s.address & 0xFF: s.size for s in found if s.kind != "none"}
    assert sizes == {0x0: 0x20, 0x20: 8, 0x28: 8, 0x30: 8, 0x38: 0xFC8}
    ignored = [s for s in found if s.kind == "none"]
    assert {(s.size, s.binding, s.letter) for s in ignored} == {(0, "local", "t")}
    assert len(ignored) + len(sizes) == len(rows)
    for offset in range(0x48):
        name = NAMING[max(start for start in NAMING if start <= offset)]
        assert answers(table, 0xFFFFFFFFC0000000 + offset) == name
    assert [s.name for s in table.at(0xFFFFFFFFC0000000)] == ["mod_start"]
    assert [s.address & 0xFF for s in table.find(".L0 ")] == [8, 12]


def test_of_the_kernel(tmp_path: Path) -> None:
    """Its table has no such names, and get_symbol_pos() ignores none: functions keep theirs."""
    own = b"""\
ffffffff81000020 t $x
ffffffff81000024 t .L5
ffffffff81000028 T L0pin
ffffffff81000030 T $foo
"""
    text = OWN.encode().replace(
        b"ffffffff81000040 t beta\n", own + b"ffffffff81000040 t beta\n"
    )
    table = taken(text + MODULE, tmp_path)
    assert answers(table, 0xFFFFFFFF81000027) == "alpha"
    assert [s.size for s in table.find("alpha")] == [0x18]
    assert [(s.name, s.size) for s in table.find("L0pin") if s.module is None] == [("L0pin", 8)]
    assert answers(table, 0xFFFFFFFF81000031) == "$foo"
    # The same in a module is ignored, and its exact twin in the kernel is not.
    assert {(s.module, s.kind) for s in table.find("L0pin")} == {
        (None, "function"),
        ("mod", "none"),
    }


LOOP = """\
ffffffffc0595000 t lo_open\t[loop]
ffffffffc059a1a0 d loop_misc\t[loop]
ffffffffc059a908 b max_part\t[loop]
ffffffffc059e2f7 r .LC14\t[loop]
"""
RODATA = """\
ffffffffc059e360 r lo_fops\t[loop]
ffffffffc059e6c8 r .LC3\t[loop]
"""


@pytest.mark.parametrize("behind", [RODATA, ""])
def test_a_label_in_other_memory_makes_none_longer(behind: str, tmp_path: Path) -> None:
    """Linux 6.12 allocates data and read-only data apart: what is between is nobody's, and a
    string that the compiler made is all that a text has at the begin of the second."""
    table = taken(OWN + LOOP + behind, tmp_path)
    assert answers(table, 0xFFFFFFFFC059A908) == "max_part"
    assert answers(table, 0xFFFFFFFFC059AFFF) == "max_part"
    for address in (0xFFFFFFFFC059D000, 0xFFFFFFFFC059E000, 0xFFFFFFFFC059E2F8):
        assert answers(table, address) is None
    assert answers(table, 0xFFFFFFFFC059E6D0) == ("lo_fops" if behind else None)
    [label] = table.find(".LC14")
    assert (label.module, label.kind, label.size) == ("loop", "none", 0)


def test_a_label_within_a_function_of_several_pages(tmp_path: Path) -> None:
    """Code before it and code behind it: it changes nothing."""
    text = """\
ffffffffc0000010 t long\t[mod]
ffffffffc0003010 t .L5\t[mod]
ffffffffc0004010 t behind\t[mod]
"""
    table = taken(OWN + text, tmp_path)
    assert [s.size for s in table.find("long")] == [0x4000]
    assert answers(table, 0xFFFFFFFFC0003020) == "long"


def test_a_bracket_that_comes_again(tmp_path: Path) -> None:
    """Each line by whose it is; lines on the module's own pages are its own."""
    lines = MODULE.splitlines(keepends=True)
    other = [
        line.replace(b"[mod]", b"[dom]").replace(b"ffffffffc0", b"ffffffffc1") for line in lines
    ]
    table = taken(OWN.encode() + b"".join([*lines, *other, *lines[9:]]), tmp_path)
    for module in ("mod", "dom"):
        found = [s.name for s in table if s.module == module and s.kind != "none"]
        assert set(found) == {*NAMING.values()}
    assert len(table) == OWN.count("\n") + 3 * len(lines) - 9


def test_many(tmp_path: Path) -> None:
    """More than a block of them: as many as there are, and a function's size is not cut."""
    count = 60_000
    labels = "".join(f"{0xFFFFFFFFC0000000 + 2 * i:x} t .L0 \t[mod]\n" for i in range(count))
    behind = f"{0xFFFFFFFFC0000000 + 2 * count:x} t behind\t[mod]\n"
    start = "ffffffffc0000000 t start\t[mod]\n"
    table = taken(OWN + start + labels + behind, tmp_path)
    assert len(table.find(".L0 ")) == count
    assert [s.size for s in table.find("start")] == [2 * count]
    assert answers(table, 0xFFFFFFFFC0000000 + count) == "start"


POINTER = re.compile(r"([0-9a-f]+) is (.+)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\w+)\])?")


@pytest.mark.parametrize("machine", [p.stem for p in sorted(LABELS.glob("*.pointers"))])
def test_the_kernels_own_words(machine: str) -> None:
    """What ``%pS`` printed of each address, where labels lie between and elsewhere."""
    table = ksyms.load(LABELS / f"{machine}.kallsyms")
    pointers = POINTER.findall((LABELS / f"{machine}.pointers").read_text())
    assert len(pointers) >= 29
    for place, name, offset, size, module in pointers:
        address = int(place, 16)
        found = table.lookup(address)
        assert found is not None, place
        told = (found.name, address - found.address, found.size, found.module or "")
        assert told == (name, int(offset, 16), int(size, 16), module), place
        assert answers(table, address) == name


def test_real_lines_of_riscv() -> None:
    """Every line is there, byte for byte, and of the module's only what is no label answers."""
    path = LABELS / "riscv64.kallsyms"
    lines = [
        re.fullmatch(rb"(\w+) (.) (.*?)(?:\t\[(\w+)\])?", line)
        for line in path.read_bytes().splitlines()
    ]
    expected = Counter(
        (int(m[1], 16), m[3].decode(), m[4] and m[4].decode()) for m in lines if m
    )
    table = ksyms.load(path)
    assert Counter((s.address, s.name, s.module) for s in table) == expected
    assert sum(name == ".L0 " for _, name, _ in expected.elements()) > 40
    names = {s.name for s in table if s.module and s.size}
    assert names == {
        name
        for _, name, module in expected
        if module and not name.startswith((".L", "L0", "$"))
    }
    assert answers(table, 0xFFFFFFFF01A3E028) == "foo_probe"  # not .L6+0x4


SOURCE = """\
    .text
    .globl startup_64
startup_64:
    .zero 8
.Llabel:
    .zero 8
"$x.1":
    .zero 8
L0pin:
    .zero 8
    .globl func
    .type func, @function
func:
    .zero 16
    .size func, .-func
"""


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    """A linked file with labels of the assembler's (``as -L`` keeps .L), laid out by SOURCE."""
    (tmp_path / "a.s").write_text(SOURCE)
    subprocess.run(["as", "-L", "a.s", "-o", "a.o"], cwd=tmp_path, check=True)
    command = ["ld", "-Ttext=0x401000", "-e", "func", "a.o", "-o", "vmlinux"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert any(line.endswith(" .Llabel") for line in nm(tmp_path / "vmlinux"))
    return tmp_path / "vmlinux"


def test_in_other_elf_files(elf: Path) -> None:
    """Labels without a type answer there, and not those that begin as marks do."""
    table = ksyms.load(elf)
    assert answers(table, 0x401000) == "startup_64"
    assert answers(table, 0x401008) == answers(table, 0x401010) == "startup_64"
    assert answers(table, 0x401018) == "L0pin"
    assert answers(table, 0x401024) == "func"


def test_where_elf_files_are_linker_files(elf: Path) -> None:
    """By the same rule: of the kernel's file L0pin names, of a module's it does not."""
    kernel = ksyms.load(ksyms.snapshot(kernel=elf).image)
    assert answers(kernel, 0x401017) == "startup_64"
    assert [s.size for s in kernel.find("startup_64")] == [24]
    assert answers(kernel, 0x401018) == "L0pin"
    both = ksyms.snapshot(kernel=elf, modules=[(elf.with_name("a.o"), {".text": 0x900000})])
    table = ksyms.load(both.image)
    assert answers(table, 0x90001F) == "startup_64"
    assert [(s.module, s.kind) for s in table.find("L0pin")] == [
        (None, "function"),
        ("a", "none"),
    ]


def test_a_file_with_exact_types_changes_nothing(tmp_path: Path) -> None:
    """The kernel goes by the name: what a .ko calls a function L0pin is ignored too."""
    path = tmp_path / "saved"
    path.write_bytes(OWN.encode() + MODULE)
    with Linker(kallsyms=str(path)) as linker:
        _, module = linker.files(linker.read()).files
    places = [(0xFFFFFFFFC000001C, b"L0pin"), (0xFFFFFFFFC0000020, b"L1")]
    exact = DebugSymbols("mod.ko", dict.fromkeys(places, (4, STB_GLOBAL << 4 | STT_FUNC)), {})
    info = with_exact_sizes(module.symbols, exact).info[-6:].tolist()
    assert info == [0, 0, STB_GLOBAL << 4 | STT_FUNC, *[STT_FUNC] * 3]


# -- the same lines, spelled otherwise ------------------------------------------------------


def rows(table: SymbolTable) -> list[tuple[int, str, str | None, str | None, int]]:
    return [(s.address, s.name, s.letter, s.module, s.size) for s in table]


SOME = TEXT + "ffffffffc0000030 t .L0 \t[mod]\nffffffffc0000034 ? q\t[mod]\n"
SPELLED = {
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "crlf-but-the-last": lambda text: text.replace("\n", "\r\n")[:-2] + "\n",
    "one-space": lambda text: text.replace("\t", " "),
    "spaces": lambda text: text.replace("\t", "     "),
    "one-line-with-spaces": lambda text: text.replace("twin\t", "twin    "),
    "nul": lambda text: text.replace(" ? ", " \0 "),
    "all": lambda text: text.replace(" ? ", " \0 ").replace("\t", " ").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("how", SPELLED)
def test_one_meaning(how: str, tmp_path: Path) -> None:
    """The symbols are those of the text as the kernel prints it."""
    plain = SOME
    if "\t" not in SPELLED[how]("\t"):
        plain = plain.replace(".L0 ", ".L0")  # spaces before spaces cannot be told apart
    assert rows(taken(SPELLED[how](plain), tmp_path)) == rows(taken(plain, tmp_path))
    assert rows(ksyms.load(tmp_path / "saved")) == rows(taken(plain, tmp_path))


@pytest.mark.parametrize("digits", [16, 8])
def test_null_is_zero(digits: int, tmp_path: Path) -> None:
    """Linux 4.15 printed it so, right-justified; here of the first lines and a later one."""
    text = "0" * 16 + " A irq_stack_union\n" + TEXT + "0" * 16 + " t gone\t[mod]\n"
    text = re.sub(r"(?m)^\w{16}", lambda found: found[0][-digits:], text)
    nulls = re.sub(r"(?m)^0+ ", "(null)".rjust(digits) + " ", text)
    assert nulls.count("(null)") == 2
    assert rows(taken(nulls, tmp_path)) == rows(taken(text, tmp_path))
    assert rows(ksyms.load(tmp_path / "saved")) == rows(taken(text, tmp_path))


def test_spelled_otherwise_in_a_later_block(tmp_path: Path) -> None:
    """Blocks are taken apart one by one: what is odd in the last is mended there."""
    many = "".join(f"{0xFFFFFFFFC0001000 + 16 * i:x} t f{i}\t[big]\n" for i in range(30_000))
    text = TEXT + many + "ffffffffc1000000 t last\t[end]\n"
    assert rows(taken(text.replace("last\t", "last  "), tmp_path)) == rows(
        taken(text, tmp_path)
    )
    text = text.replace("\n", "\r\n")
    assert rows(taken(text, tmp_path)) == rows(taken(text.replace("\r", ""), tmp_path))


@pytest.mark.parametrize("byte", [*range(1, 9), *range(11, 33), 127, 128, 255])
def test_any_byte_in_a_name(byte: int, tmp_path: Path) -> None:
    name = b"be" + bytes([byte]) + b"ta"
    table = taken(TEXT.encode().replace(b"mod_start", name), tmp_path)
    [found] = [s for s in table if s.address == 0xFFFFFFFFC0000000]
    assert found.name.encode("utf-8", "surrogateescape") == name
    assert (found.module, found.size, table.find(found.name)) == ("mod", 0x20, [found])
