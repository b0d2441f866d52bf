"""ksyms diff: small tables by hand, two builds by gcc and nm, and every single edit."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import COMMAND, refused
from command import ksyms as run
from conftest import Kernel
from elf_files import Row, Section, compile_c, elf_file
from ksyms._diff import Comparison, compare
from pages import check_page

KERNEL = """\
0000000000000000 A __per_cpu_start
0000000000001000 A cpu_number
ffffffff81000000 T _stext
ffffffff81000010 T alpha
ffffffff81000040 t beta
ffffffff81000080 t init_once
ffffffff810000c0 T gamma
ffffffff81000100 t init_once
ffffffff81000140 T delta
ffffffff81001000 T _etext
"""
MODULE = """\
ffffffffc0000000 t mod_start\t[mod]
ffffffffc0000020 t mod_work\t[mod]
ffffffffc0000060 t mod_end\t[mod]
ffffffffc0002010 d mod_data\t[mod]
ffffffffc0002040 d mod_more\t[mod]
"""


def of_text(text: str) -> ksyms.SymbolTable:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".kallsyms") as file:
        file.write(text)
        file.flush()
        return ksyms.load(ksyms.snapshot(kallsyms=file.name).image)


def slid(text: str, by: int, modules: dict[str, int]) -> str:
    """``text`` with the kernel's addresses moved by one distance, each module's by its own."""

    def move(line: str) -> str:
        address, rest = line.split(" ", 1)
        name = rest.partition("[")[2][:-1]
        if rest.startswith("A "):
            return line
        return f"{int(address, 16) + modules.get(name, by):016x} {rest}"

    lines = [move(line) for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def texts(old: str, new: str) -> Comparison:
    return compare(of_text(old), of_text(new))


def summary(found: Comparison) -> dict[str, Any]:
    """The names in each list; of pairs, with how many bytes."""
    return {
        "modules": ([*found.modules_went], [*found.modules_appeared]),
        "went": [symbol.name for symbol in found.went],
        "appeared": [symbol.name for symbol in found.appeared],
        "resized": {pair.new.name: pair.by for pair in found.resized},
        "moved": {pair.new.name: pair.by for pair in found.moved},
    }


NOTHING: dict[str, object] = {
    "modules": ([], []),
    "went": [],
    "appeared": [],
    "resized": {},
    "moved": {},
}


# -- two boots of one build -----------------------------------------------------------------


def test_two_boots() -> None:
    """The slide is told and no difference; absolute symbols have stayed."""
    boot = slid(KERNEL + MODULE, 0x1A00000, {"mod": -0x5000})
    found = texts(KERNEL + MODULE, boot)
    assert summary(found) == NOTHING
    assert (found.slide, found.different) == (0x1A00000, False)


def test_an_absolute_symbol_never_slides() -> None:
    boot = slid(KERNEL, 0x200000, {}).replace("0000000000001000", "0000000000001040")
    assert summary(texts(KERNEL, boot)) == NOTHING | {"moved": {"cpu_number": 0x40}}


def test_absolute_symbols_that_all_moved() -> None:
    """All move by the same distance, and still that is not a slide."""
    new = KERNEL.replace("A __per_cpu_start", "A new").replace("1000 A cpu", "1040 A cpu")
    found = texts(KERNEL.replace("A __per", "A old"), new)
    assert summary(found)["moved"] == {"cpu_number": 0x40}


def test_per_cpu_variables_of_modules() -> None:
    """Which memory each gets is a matter of what was loaded before; whose they are is not."""
    own = "0000000000039000 a seq\t[mod]\n0000000000000000 a mod.c\t[mod]\n"
    other = MODULE.replace("c0", "c1").replace("mod", "dom")
    old = KERNEL + MODULE + own + other + "0000000000039010 a count\t[dom]\n"
    new = old.replace("39010 a", "39000 a").replace("39000 a seq", "39018 a seq")
    table = of_text(new)
    assert {s.name: s.module for s in table if s.letter in ("A", "a")} == {
        **{"__per_cpu_start": None, "cpu_number": None},
        **{"seq": "mod", "mod.c": "mod", "count": "dom"},
    }
    assert summary(compare(of_text(old), table)) == NOTHING
    gone = summary(texts(old, new.replace("0000000000039000 a count\t[dom]\n", "")))
    assert gone == NOTHING | {"went": ["count"]}


def test_modules_in_another_order() -> None:
    """The end of a module's last symbol is told by nothing that is the module's own."""
    one = "ffffffffc0000fc0 t one\t[a]\nffffffffc0000fd0 t one_end\t[a]\n"
    two = "ffffffffc0001000 t two\t[b]\nffffffffc0001040 t two_end\t[b]\n"
    boot = slid(KERNEL + one + two, 0x400000, {"a": 0x3080, "b": -0x1000})
    old, new = of_text(KERNEL + one + two), of_text(boot)
    sizes = [table.find("one_end")[0].size for table in (old, new)]
    assert sizes == [0x30, 0xFB0]  # to the end of the page, which is another part of it
    assert summary(compare(old, new)) == NOTHING


def test_parts_of_a_module_are_placed_apart() -> None:
    """Since Linux 6.4 the loader moves parts by whole pages, never by less than a page."""
    part = "ffffffffc0003010 d init_data\t[mod]\nffffffffc0003040 d init_more\t[mod]\n"
    for apart in (
        MODULE.replace("c0002", "c0102") + part,
        MODULE + part.replace("c0003", "c0103"),
    ):
        assert summary(texts(KERNEL + MODULE + part, KERNEL + apart)) == NOTHING
    inside = MODULE.replace("ffffffffc0000060", "ffffffffc0000050")
    found = summary(texts(KERNEL + MODULE, KERNEL + inside))
    assert found["moved"] == {"mod_end": -0x10}


def test_a_saved_kernel_slid(saved: dict[str, Kernel], tmp_path: Path) -> None:
    """A Debian kernel's text moved by hand: no difference, and exit status 0."""
    text = (saved["6.1.0-56-amd64-few"].root / "proc/kallsyms").read_text()
    # Every tenth page would do; whole modules are moved by megabytes, each by another.
    names = sorted(set(re.findall(r"\[(.+)\]$", text, re.M)))
    by = {name: 0x100000 * (number - 7) for number, name in enumerate(names)}
    old, new = tmp_path / "old.elf", tmp_path / "new.elf"
    for path, lines in ((old, text), (new, moved_text(text, 0x6A00000, by))):
        (tmp_path / "kallsyms").write_text(lines)
        ksyms.snapshot(kallsyms=tmp_path / "kallsyms").write(path)
    done = run("diff", old, new)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["slide  0x6a00000, taken out", "no difference"]


def moved_text(text: str, by: int, modules: dict[str, int]) -> str:
    """Do as :func:`slid` for a whole kernel; per-CPU symbols are not in its half of memory."""
    rows = []
    for line in text.splitlines():
        address, rest = line.split(" ", 1)
        name = rest.partition("[")[2][:-1]
        distance = modules[name] if name else by
        if address < "8":
            distance = 0
        rows.append(f"{int(address, 16) + distance:016x} {rest}\n")
    return "".join(rows)


def test_bpf_is_anywhere() -> None:
    """Programs are made at run time: the name is what there is to compare."""
    programs = (
        "ffffffffc0700000 t bpf_prog_1_a\t[bpf]\nffffffffc0700100 t bpf_prog_2_b\t[bpf]\n"
    )
    boot = programs.replace("700000", "730040").replace("700100", "7100c4")
    swapped = "".join(sorted(boot.splitlines(keepends=True)))
    assert summary(texts(KERNEL + programs, KERNEL + swapped)) == NOTHING
    one = swapped.splitlines(keepends=True)[0]
    found = summary(texts(KERNEL + programs, KERNEL + one))
    assert found == NOTHING | {"went": ["bpf_prog_1_a"]}


# -- modules and sections -------------------------------------------------------------------


def test_a_module_in_one_only() -> None:
    """A module that appeared is one difference, with its number of symbols."""
    found = texts(KERNEL, KERNEL + MODULE)
    assert summary(found) == NOTHING | {"modules": ([], ["mod"])}
    assert [s.name for s in found.modules_appeared["mod"]] == re.findall(r"mod_\w+", MODULE)
    assert summary(texts(KERNEL + MODULE, KERNEL))["modules"] == (["mod"], [])


def test_another_section(tmp_path: Path) -> None:
    """A symbol that is in .rodata now has moved, and did not go and come."""
    sections = (
        Section(".data", 1, 3, 0x1000, bytes(64)),
        Section(".rodata", 1, 2, 0x2000, bytes(64)),
    )
    files = [tmp_path / "old", tmp_path / "new"]
    for file, (value, section) in zip(files, ((0x1010, 1), (0x2010, 2))):
        rows = [Row(1, 0x1000, 16, 0x11, 1), Row(6, value, 16, 0x11, section)]
        file.write_bytes(elf_file(rows, b"\0stay\0go\0", sections=sections))
    found = compare(*map(ksyms.load, files))
    assert summary(found) == NOTHING | {"moved": {"go": None}}
    [pair] = found.moved
    assert (pair.old.section, pair.new.section) == (".data", ".rodata")


# -- symbols of one name --------------------------------------------------------------------


def test_an_inserted_duplicate() -> None:
    """One init_once more, before the others: it appeared, they are who they were."""
    lines = KERNEL.replace("810000c0 T gamma", "810000c0 t init_once\nffffffff810000d0 T gamma")
    found = texts(KERNEL, lines)
    assert summary(found)["appeared"] == ["init_once"]
    assert found.appeared[0].address == 0xFFFFFFFF810000C0
    assert summary(found)["moved"] == {"gamma": 0x10}


def test_a_duplicate_that_pushes_the_others() -> None:
    """The new one is first and of the others' size: its neighbours tell them apart."""
    head, tail = KERNEL.split("ffffffff81000080")
    pushed = slid("ffffffff81000080" + tail.replace("81001000", "81000fc0"), 0x40, {})
    new = head + "ffffffff81000080 t init_once\nffffffff81000090 T epsilon\n" + pushed
    found = texts(KERNEL, new)
    assert sorted(summary(found)["appeared"]) == ["epsilon", "init_once"]
    assert [s.address & 0xFFF for s in found.appeared] == [0x80, 0x90]


def test_a_duplicate_that_grew() -> None:
    """Which of the two it was is told by where it is."""
    new = KERNEL.replace("81000140 T delta", "81000150 T delta")
    found = texts(KERNEL, new)
    assert summary(found)["resized"] == {"init_once": 0x10, "delta": -0x10}
    assert found.resized[0].old.address == 0xFFFFFFFF81000100


def test_nothing_tells_them_apart() -> None:
    """One of 40 equal symbols is gone: any one of them went, and none was resized."""
    lines = [f"ffffffff8100{0x200 + 16 * n:04x} t same\n" for n in range(40)]
    end = "ffffffff81001000 T _etext\n"
    start = KERNEL.replace(end, "")
    found = texts(start + "".join(lines) + end, start + "".join(lines[:-1]) + end)
    assert summary(found)["went"] == ["same"]
    assert summary(found)["appeared"] == []


def test_most_of_the_equal_symbols_are_matched() -> None:
    """All alike and all elsewhere, one less: one went, and the others have moved."""
    here = KERNEL.replace("ffffffff81001000", "ffffffff81002000")
    rows = [f"ffffffff81001{0x100 + 16 * n:03x} t same" for n in range(5)]
    end = "ffffffff81001{:03x} t rest\n"
    old = [*rows, end.format(0x150)]
    new = [row.replace("810011", "810014") for row in rows[:-1]]
    found = texts(here + "\n".join(old), here + "\n".join([*new, end.format(0x440)]))
    assert summary(found)["went"] == ["same"]
    assert {pair.by for pair in found.moved} == {0x300, 0x2F0}
    assert len(found.moved) == 5


def test_a_number_and_a_size() -> None:
    """The only count.N of either: it grew."""
    old = KERNEL.replace("beta", "count.0")
    new = old.replace("count.0", "count.4").replace("81000080", "81000090")
    assert summary(texts(old, new))["resized"] == {"count.4": 0x10, "init_once": -0x10}


def test_the_last_one_left() -> None:
    """Two count.N, one of which is told by its size and neighbours: the other grew too."""
    old = KERNEL.replace("beta", "count.0").replace("delta", "count.1")
    new = KERNEL.replace("delta", "count.7").replace("81000010 T alpha", "81000010 t count.9")
    new = new.replace("81000040 t beta", "81000040 T alpha")
    found = summary(texts(old, new))
    assert (found["went"], found["appeared"]) == ([], [])
    assert found["resized"] == {"count.9": -0x10, "alpha": 0x10}


def test_most_symbols_tell_how_far_a_section_moved() -> None:
    """Not its start where nothing but its first symbol says where it starts."""
    inserted = MODULE.replace("d mod_data", "d first\t[mod]\nffffffffc0002018 d mod_data")
    assert summary(texts(KERNEL + MODULE, KERNEL + inserted))["appeared"] == ["first"]
    before = "ffffffffc0001ff8 d first\t[mod]\n"
    found = texts(KERNEL + MODULE, KERNEL + MODULE + before)
    assert summary(found) == NOTHING | {"appeared": ["first"]}


def test_sections_that_one_file_does_not_know() -> None:
    """Without .rodata's boundaries its symbols are in another section, where they were."""
    data = "ffffffff81200000 {} a\nffffffff81200040 D b\nffffffff81200080 {} c\n"
    known = KERNEL + data.format("R", "R").replace(" a", " __start_rodata").replace(
        " c", " __end_rodata"
    )
    unknown = slid(KERNEL + data.format("D", "D"), 0x200000, {})
    found = texts(known, unknown)
    assert found.moved == []
    assert {symbol.name for symbol in found.appeared} == {"a", "c"}


def test_numbers_that_compilers_give() -> None:
    """count.0 of one build is count.3 of another: no news."""
    old = KERNEL.replace("beta", "count.0").replace("gamma", "copy.isra.2")
    new = KERNEL.replace("beta", "count.3").replace("gamma", "copy.isra.0")
    assert summary(texts(old, new)) == NOTHING
    other = KERNEL.replace("beta", "count.x").replace("gamma", "copy.constprop.2")
    assert summary(texts(old, other))["went"] == ["count.0", "copy.isra.2"]


# -- sizes ----------------------------------------------------------------------------------


def exact_file(path: Path, size: int) -> Path:
    section = Section(".text", 1, 6, 0xFFFFFFFF81000000, bytes(0x1000))
    rows = [
        Row(1, 0xFFFFFFFF81000000, 0x10),
        Row(8, 0xFFFFFFFF81000010, size),
        Row(14, 0xFFFFFFFF81000040, 0x40),
    ]
    path.write_bytes(elf_file(rows, b"\0_stext\0alpha\0beta\0", sections=(section,)))
    return path


@pytest.mark.parametrize(("size", "by"), [(0x30, None), (0x21, None), (0x31, 1), (0, None)])
def test_exact_beside_inferred(size: int, by: int | None, tmp_path: Path) -> None:
    """alpha has room for 0x30 bytes: less may be its size, more cannot."""
    text = "".join(
        line for line in KERNEL.splitlines(True) if re.search("stext|alpha|beta|_etext", line)
    )
    found = compare(of_text(text), ksyms.load(exact_file(tmp_path / "exact", size)))
    assert summary(found)["resized"] == ({} if by is None else {"alpha": by})


def test_exact_sizes_differ(tmp_path: Path) -> None:
    files = exact_file(tmp_path / "old", 0x21), exact_file(tmp_path / "new", 0x1F)
    assert summary(compare(*map(ksyms.load, files)))["resized"] == {"alpha": -2}


# -- two builds of a C file, against nm -----------------------------------------------------

VERSIONS = (
    """
    int table[4] = {1}; static int hits; int gone_data = 7;
    __attribute__((noinline)) static int step(int a) { return a * 3 + ++hits; }
    int first(int a) { return step(a) + table[a & 3]; }
    int gone(int a) { return a - 1; }
    int last(int a) { return first(a) ^ gone_data; }
    void _stext(void) {}
    """,
    """
    int table[6] = {1}; static int hits; const int fresh_data = 7;
    __attribute__((noinline)) static int step(int a) { return a * 3 + ++hits; }
    int first(int a) {
        int s = 0;
        for (int i = 0; i < a; i++) s += step(i) * table[i & 3];
        return s;
    }
    int fresh(int a) { return step(a) - fresh_data; }
    int last(int a) { return first(a) ^ 7; }
    void _stext(void) {}
    """,
)


class Told(NamedTuple):
    address: int
    size: int
    section: str


def by_nm(path: Path) -> dict[str, Told]:
    """Address, size and section of each symbol that has a size, by nm."""
    text = subprocess.check_output(["nm", "-S", "-f", "sysv", path], text=True)
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    return {
        row[0]: Told(int(row[1], 16), int(row[4], 16), row[6])
        for row in rows
        if len(row) == 7 and row[4] and row[0] != "Name"
    }


def test_two_builds(tmp_path: Path) -> None:
    """The differences are those between the outputs of nm -S for the two files."""
    options = ["-nostdlib", "-static", "-fno-toplevel-reorder", "-Wl,-e,first"]
    files = [
        compile_c(
            tmp_path / f"v{number}", source, *options, f"-Wl,-Ttext={0x400000 << number:#x}"
        )
        for number, source in enumerate(VERSIONS)
    ]
    old, new = map(by_nm, files)
    found = compare(*map(ksyms.load, files))
    markers = {"__bss_start", "_edata", "_end"}  # nm has no size for them
    assert {s.name for s in found.went} - markers == old.keys() - new.keys() >= {"gone"}
    assert {s.name for s in found.appeared} - markers == new.keys() - old.keys() >= {"fresh"}
    sizes = {name: new[name].size - old[name].size for name in old.keys() & new.keys()}
    changed = {name: by for name, by in sizes.items() if by}
    assert {pair.new.name: pair.by for pair in found.resized} == changed
    assert changed.keys() >= {"first", "table"}
    distances = {name: new[name].address - old[name].address for name in sizes}
    moved = {pair.new.name: pair.by for pair in found.moved if pair.new.name not in markers}
    starts = [section_starts(path) for path in files]
    for section in {new[name].section for name in distances}:
        here = {name: by for name, by in distances.items() if new[name].section == section}
        # As far as more than half of them, or as the section's start.
        [(usual, most)] = Counter(here.values()).most_common(1)
        if 2 * most <= len(here):
            usual = starts[1][section] - starts[0][section]
        assert {name: moved.get(name, 0) for name in here} == {
            name: by - usual for name, by in here.items()
        }


def section_starts(path: Path) -> dict[str, int]:
    text = subprocess.check_output(["readelf", "-SW", path], text=True)
    return {
        name: int(address, 16)
        for name, address in re.findall(r"^ +\[ *\d+\] (\S+) +\S+ +([0-9a-f]{16}) ", text, re.M)
    }


# -- every single edit ----------------------------------------------------------------------

SECTIONS = (".text", ".data", "[one].text", "[one].data", "[two].text")
GAP = 0x100


class Thing(NamedTuple):
    section: int
    place: int
    name: str
    size: int


@st.composite
def things(draw: st.DrawFn) -> list[Thing]:
    """Draw symbols with exact sizes and room around each; few names, so that many repeat."""
    rows = []
    for section in range(len(SECTIONS)):
        for number in range(draw(st.integers(0, 6))):
            name = draw(st.sampled_from(["init", "exit", "probe", "count.1", "count.2"]))
            size = draw(st.sampled_from([16, 16, 24, 32]))
            rows.append(Thing(section, GAP * (3 + number), name, size))
        # Three that are the only ones of their name say where the section is.
        rows += [Thing(section, GAP * n, f"own{section}_{n}", 16) for n in range(1, 3)]
        rows.append(Thing(section, 0, "_stext" if not section else f"start{section}", 8))
    return rows


def table(rows: list[Thing], bases: list[int]) -> ksyms.SymbolTable:
    strings, symbols = b"\0", []
    for row in rows:
        value = bases[row.section] + row.place
        symbols.append(Row(len(strings), value, row.size, 0x02, row.section + 1))
        strings += row.name.encode() + b"\0"
    sections = tuple(
        Section(name, 8, 6, base, size=0x4000) for name, base in zip(SECTIONS, bases)
    )
    image = elf_file(sorted(symbols, key=lambda row: row.value), strings, sections=sections)
    return ksyms.load(memoryview(image))


BASES = [0xFFFFFFFF81000000 + 0x100000 * n for n in range(2)] + [
    0xFFFFFFFFC0000000 + 0x10000 * n for n in range(3)
]


@st.composite
def boots(draw: st.DrawFn) -> list[int]:
    """Draw the sections' addresses in another boot: the kernel moves as one, modules apart."""
    slide = 0x200000 * draw(st.integers(0, 500))
    pages = draw(st.permutations(range(3)))
    return [base + slide for base in BASES[:2]] + [BASES[2 + page] for page in pages]


@settings(max_examples=60, deadline=None)
@given(things(), boots())
def test_against_itself(rows: list[Thing], bases: list[int]) -> None:
    found = compare(table(rows, BASES), table(rows, bases))
    assert summary(found) == NOTHING
    assert found.slide == bases[0] - BASES[0]


@settings(max_examples=150, deadline=None)
@given(things(), boots(), st.data())
def test_a_single_edit(rows: list[Thing], bases: list[int], data: st.DataObject) -> None:
    """One symbol removed, added, grown or moved: that is the answer, and all of it."""
    at = data.draw(st.integers(0, len(rows) - 1).filter(lambda at: rows[at].name != "_stext"))
    row = rows[at]
    edit = data.draw(st.sampled_from(["remove", "add", "grow", "move"]))
    rest = rows[:at] + rows[at + 1 :]
    expected = dict(NOTHING)
    if edit == "remove":
        found = compare(table(rows, BASES), table(rest, bases))
        expected["went"] = [row.name]
        assert [s.address for s in found.went] == [BASES[row.section] + row.place]
    elif edit == "add":
        found = compare(table(rest, BASES), table(rows, bases))
        expected["appeared"] = [row.name]
        assert [s.address for s in found.appeared] == [bases[row.section] + row.place]
    elif edit == "grow":
        by = data.draw(st.integers(1, 64))
        grown = [*rest, row._replace(size=row.size + by)]
        found = compare(table(rows, BASES), table(grown, bases))
        expected["resized"] = {row.name: by}
    else:
        by = data.draw(st.integers(1, GAP - 1 - row.size))
        found = compare(
            table(rows, BASES), table([*rest, row._replace(place=row.place + by)], bases)
        )
        expected["moved"] = {row.name: by}
    assert summary(found) == expected


# -- the command ----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two boots of two builds: one function more, one less, one larger, one module more."""
    new = slid(KERNEL, 0x200000, {}).replace(" beta", " fresh") + MODULE
    paths = tmp_path / "old.elf", tmp_path / "new.elf"
    for path, text in zip(paths, (KERNEL, new.replace("81200140", "81200150"))):
        (tmp_path / "kallsyms").write_text(text)
        ksyms.snapshot(kallsyms=tmp_path / "kallsyms").write(path)
    return paths


def test_for_people(files: tuple[Path, Path]) -> None:
    done = run("diff", *files)
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        done.stdout
        == f"""\
old  {files[0]}    no build-id
new  {files[1]}    no build-id
slide  0x200000, taken out

modules
  appeared  mod  5 symbols

sections
         went  appeared  grew  shrank  moved
  .text  1     1         1     1       1

changed size
  -16  ~3776 -> ~3760  .text  delta
  +16  ~64 -> ~80      .text  init_once

went
  ~64  .text  beta

appeared
  ~64  .text  fresh
""".replace("    no", "  no")
    )


def test_for_programs(files: tuple[Path, Path]) -> None:
    done = run("diff", "--json", *files)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["different"] is True
    assert (found["old"]["file"], found["old"]["symbols"]) == (str(files[0]), 10)
    assert (found["slide"], found["new"]["release"]) == ("0x200000", None)
    assert found["sections"] == [
        {"section": ".text", "module": None}
        | {"went": 1, "appeared": 1, "grew": 1, "shrank": 1, "moved": 1}
    ]
    [module] = found["modules"]["appeared"]
    assert (module["name"], len(module["symbols"])) == ("mod", 5)
    assert found["went"][0]["address"] == "0xffffffff81000040"
    assert [(p["old"]["name"], p["by"]) for p in found["moved"]] == [("delta", 16)]
    assert run("diff", "--json", files[0], files[0]).returncode == 0


def test_padding_is_not_listed(tmp_path: Path) -> None:
    """__pfx_fresh comes with fresh, and has no line of its own: it is counted."""
    paths = tmp_path / "old", tmp_path / "new"
    new = KERNEL.replace("beta", "__pfx_fresh").replace("gamma", "fresh")
    for path, text in zip(paths, (KERNEL, new)):
        (tmp_path / "kallsyms").write_text(text)
        ksyms.snapshot(kallsyms=tmp_path / "kallsyms").write(path)
    listed = run("diff", *paths).stdout.partition("\nappeared\n")[2]
    assert listed == "  ~64  .text  fresh\n  and 1 __pfx_ symbols\n"


def test_an_archive_and_its_snapshot(saved: dict[str, Kernel]) -> None:
    name = "6.1.0-56-amd64-few"
    archive = Path(__file__).parent / f"fixtures/{name}.tar.gz"
    done = run("diff", archive, saved[name].elf)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done.stdout


@pytest.mark.parametrize("arguments", ["", "one", "a b c", "a b --nonsense"])
def test_wrong_arguments(arguments: str) -> None:
    done = run("diff", *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ksyms")


@pytest.mark.parametrize("bad", [b"", b"\x7fELF", b"noise" * 100, b"\x1f\x8bnot gzip"])
def test_trouble(bad: bytes, files: tuple[Path, Path], tmp_path: Path) -> None:
    """A file that cannot be read gives 2, as in diff(1); 1 would mean differences."""
    path = tmp_path / "bad"
    path.write_bytes(bad)
    for done in (run("diff", path, files[0]), run("diff", files[0], tmp_path / "none")):
        assert done.returncode == 2
        done.returncode = 1
        refused(done, "")


def test_nowhere_to_write_to(files: tuple[Path, Path]) -> None:
    for place in (">&-", ">/dev/full"):
        script = f'exec "$@" {place}'
        command: list[str | Path] = ["sh", "-c", script, "sh", COMMAND, "diff", *files]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert "cannot be written" in done.stderr
        assert "Traceback" not in done.stderr


def test_page(tmp_path: Path) -> None:
    """docs/changed.md: what it shows is what happens."""
    check_page("changed.md", tmp_path)
