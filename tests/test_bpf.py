"""BPF programs: their ends, and which program and line an address is of.

Held against bpftool, perf's events, objdump of the code that the kernel made, gdb and
elfutils; programs that cannot be loaded here are texts with what an archive has of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ksyms as package
from bpf import Function, load_bpf_program, loaded, native_code
from command import ksyms, write_root
from ksyms import NoteError, SymbolTable
from ksyms._linker.bpf_programs import SAVED
from ksyms._linker.bpf_syscall import _TYPES, BpfSyscall
from ksyms._linker.perf_events import _KSYMBOL_BODY, KernelEvents, _records
from ksyms._note import read

SOURCE, HEADER = "/home/somebody/prog.bpf.c", "./inlined.h"
EXIT = (0x95, 0, 0, 0)
TEXT = "ffffffff81000000 T _stext\nffffffff81001000 T _etext\n"


def constant(value: int) -> tuple[int, int, int, int]:
    """``r0 = value``, which objdump shows in the code."""
    return 0xB7, 0, 0, value


def call(functions: int) -> tuple[int, int, int, int]:
    """Call the function that begins ``functions`` instructions behind the next one."""
    return 0x85, 0x10, 0, functions


OURS = os.getpid()
"""In the names: other tests on this kernel load some too."""
# Each line sets the constant 0x1000 + its number, so that the code tells where it begins.
ENTRY = Function(
    f"entry_{OURS}",
    [
        (constant(0x100A), SOURCE, 10),
        (constant(0x1003), HEADER, 3),
        (constant(0x100C), SOURCE, 12),
        (call(1), SOURCE, 12),
        (EXIT, SOURCE, 12),
    ],
)
HELPER = Function(
    f"helper_of_it_{OURS}",
    [(constant(0x1004), SOURCE, 4), (constant(0x1005), SOURCE, 5), (EXIT, SOURCE, 5)],
)


class Loaded(NamedTuple):
    """A program of two functions while it runs: what others say of it, and what ksyms does."""

    shown: dict[str, Any]
    address: dict[str, int]
    size: dict[int, int]
    code: bytes
    elf: Path
    archive: Path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    directory = tmp_path_factory.mktemp("bpf")
    events = KernelEvents()
    try:
        with loaded([ENTRY, HELPER], b"ksyms_lines") as fd:
            bodies = [
                body
                for ring in events._rings.values()
                for kind, body in _records(ring)
                if kind == 17  # PERF_RECORD_KSYMBOL of include/uapi/linux/perf_event.h
            ]
            told = (_KSYMBOL_BODY.unpack_from(body)[:2] for body in bodies)
            elf, archive = directory / "kernel.elf", directory / "kernel.tar.gz"
            package.snapshot().write(elf)
            assert ksyms("collect", "-o", archive).returncode == 0
            yield Loaded(bpftool(fd), addresses(), dict(told), native_code(fd), elf, archive)
    finally:
        events.close()


def bpftool(fd: int) -> dict[str, Any]:
    """What bpftool shows of the program behind ``fd``."""
    info = Path(f"/proc/self/fdinfo/{fd}").read_text()
    [number] = re.findall(r"^prog_id:\t(\d+)$", info, re.MULTILINE)
    text = subprocess.check_output(["bpftool", "prog", "show", "id", number, "-j"], text=True)
    shown: dict[str, Any] = json.loads(text)
    return shown


def addresses() -> dict[str, int]:
    """Where /proc/kallsyms has the two functions, by what is behind the tag."""
    found = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        match = re.fullmatch(r"(\S+) t bpf_prog_[0-9a-f]{16}_(\w+)\t\[bpf\]", line)
        if match and match[2] in (ENTRY.name, HELPER.name):
            found[match[2]] = int(match[1], 16)
    return found


def objdump(code: bytes, path: Path) -> list[tuple[int, int]]:
    """Offset in ``code`` and line of each constant that a line sets."""
    path.write_bytes(code)
    command: list[str | Path] = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", path]
    text = subprocess.check_output(command, text=True)
    found = re.findall(r"^ *(\w+):.*mov +\$0x10(\w\w),%eax$", text, re.MULTILINE)
    return [(int(offset, 16), int(line, 16)) for offset, line in found]


@pytest.fixture(params=["live", "file", "archive"])
def table(program: Loaded, request: pytest.FixtureRequest) -> SymbolTable:
    """The same program in the running kernel, in a file of it, and in an archive."""
    if request.param == "live":
        return package.load(package.snapshot().image)
    return package.load(program.elf if request.param == "file" else program.archive)


def test_each_function_ends_where_the_kernel_ends_it(
    program: Loaded, table: SymbolTable
) -> None:
    """As many bytes as perf's event tells, and together as many as bpftool does."""
    sizes = []
    for name, address in program.address.items():
        size = program.size[address]
        first, last = table.lookup(address), table.lookup(address + size - 1)
        assert first is not None
        assert first == last
        assert first.name.endswith(f"_{name}")
        assert (first.address, first.size, first.exact) == (address, size, True)
        assert table.lookup(address + size) != first
        sizes.append(size)
    assert sum(sizes) == program.shown["bytes_jited"]
    # Nothing of it reaches from one to the other: the kernel aligns functions.
    entry, helper = (program.address[f.name] for f in (ENTRY, HELPER))
    between = range(min(entry, helper) + program.size[min(entry, helper)], max(entry, helper))
    assert {table.lookup(address) for address in between} <= {None}


def test_which_program_it_is(program: Loaded, table: SymbolTable) -> None:
    shown = program.shown
    for number, function in enumerate((ENTRY, HELPER)):
        symbol = table.lookup(program.address[function.name])
        assert symbol is not None
        found = table.program(symbol)
        assert found is not None
        assert (found.id, found.type, found.name) == (shown["id"], shown["type"], shown["name"])
        assert found.subprogram == number
        assert symbol.name == f"bpf_prog_{found.tag}_{function.name}"
        if number == 0:
            assert found.tag == shown["tag"]
    assert table.program(table[0]) is None


def test_lines_are_those_of_the_code(
    program: Loaded, table: SymbolTable, tmp_path: Path
) -> None:
    """Of every byte: the line whose constant was set last; the first one's from the begin."""
    at = 0
    for function in (ENTRY, HELPER):
        address = program.address[function.name]
        size = program.size[address]
        code = program.code[at : at + size]
        at += size
        begins = objdump(code, tmp_path / "code")
        assert [line for _, line in begins] == [
            instruction[3] & 0xFF
            for instruction, _, _ in function.code
            if instruction[0] == 0xB7
        ]
        sources = {line: source for _, source, line in function.code}
        for offset in range(size):
            line = [line for begin, line in begins if begin <= offset or line == begins[0][1]]
            assert table.source_line(address + offset) == (sources[line[-1]], line[-1])
        assert table.source_line(address + size) is None
    assert at == len(program.code)
    assert table.source_line(table[0].address) is None


def test_lookup_shows_it(program: Loaded) -> None:
    entry = program.address[ENTRY.name]
    asked = hex(entry)
    shown = program.shown
    run = ksyms("lookup", "--from", program.elf, asked)
    assert run.stdout.rstrip().endswith(f"  bpf {shown['id']} socket_filter {SOURCE}:10")
    run = ksyms("lookup", "--from", program.elf, "--json", asked)
    assert json.loads(run.stdout)["bpf"] == {
        **{name: shown[name] for name in ("id", "type", "tag", "name")},
        **{"subprogram": 0, "file": SOURCE, "line": 10},
    }
    behind = entry + program.size[entry]
    run = ksyms("lookup", "--from", program.elf, "--json", "--nearest", hex(behind))
    near = json.loads(run.stdout)
    assert near["name"] is None
    assert (near["nearest"]["before"]["bpf"]["line"], run.returncode) == (None, 1)
    run = ksyms("lookup", "--from", program.elf, "--json", "_stext")
    assert all("bpf" not in json.loads(line) for line in run.stdout.splitlines())


def test_decode_shows_it(program: Loaded) -> None:
    helper = program.address[HELPER.name]
    last = helper + program.size[helper] - 1
    text = f"[<{last:016x}>] something\n"
    run = ksyms("decode", "--from", program.elf, "--json", input=text)
    told = json.loads(run.stdout)["bpf"]
    assert (told["id"], told["subprogram"]) == (program.shown["id"], 1)
    assert (told["file"], told["line"]) == (SOURCE, 5)


def test_other_tools_name_nothing_behind_the_end(program: Loaded) -> None:
    for name, address in program.address.items():
        for place, known in ((program.size[address] - 1, True), (program.size[address], False)):
            asked, elf = hex(address + place), str(program.elf)
            gdb = ["gdb", "-batch", "-nx", "-ex", f"info symbol {asked}", elf]
            assert (f"_{name} + {place}" in subprocess.check_output(gdb, text=True)) == known
            eu = ["eu-addr2line", "-S", "-f", "-e", elf, asked]
            line = subprocess.check_output(eu, text=True).splitlines()[0]
            assert line.endswith(f"_{name}+{place:#x}") == known
            assert known or line == "??"


def test_more_functions_and_lines_than_there_is_room_for() -> None:
    """The room grows: 40 functions, of which the first calls all others, and 600 lines."""
    count = 40
    rest = [(constant(line), SOURCE, 100 + line) for line in range(13)]
    leaves = [Function(f"f{n}", [*rest, (EXIT, HEADER, n)]) for n in range(1, count)]
    lengths = [count, *(len(function.code) for function in leaves)]
    starts = [sum(lengths[:number]) for number in range(count)]
    calls = [(call(start - at - 1), SOURCE, at + 1) for at, start in enumerate(starts[1:])]
    with loaded([Function("f0", [*calls, (EXIT, SOURCE, 99)]), *leaves], b"many") as fd:
        number = bpftool(fd)["id"]
        taken = package.load(package.snapshot().image)
        found = [(s, p) for s in taken if (p := taken.program(s)) and p.id == number]
        assert len(found) == count
        assert sum(symbol.size for symbol, _ in found) == bpftool(fd)["bytes_jited"]
        for symbol, told in found:
            if told.subprogram:
                last = taken.source_line(symbol.address + symbol.size - 1)
                assert symbol.name.endswith(f"_f{told.subprogram}")
                assert last == (HEADER, told.subprogram)


def test_a_program_without_btf() -> None:
    program = load_bpf_program()
    try:
        shown = bpftool(program)
        taken = package.load(package.snapshot().image)
        [symbol] = taken.find(f"bpf_prog_{shown['tag']}_{shown['name']}")
        assert (symbol.size, symbol.exact) == (shown["bytes_jited"], True)
        found = taken.program(symbol)
        assert found is not None
        assert (found.id, found.lines) == (shown["id"], ())
        assert taken.source_line(symbol.address) is None
    finally:
        os.close(program)


def test_a_program_that_has_gone_is_none() -> None:
    program = load_bpf_program()
    call, number = BpfSyscall(), bpftool(program)["id"]
    assert [function.id for function in call.functions(number)] == [number]
    os.close(program)
    assert call.functions(number) == []


def test_nothing_is_asked_where_none_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("ksyms._linker.bpf_programs.read_programs", asked.append)
    write_root(tmp_path, TEXT)
    package.snapshot(tmp_path)
    assert asked == []
    write_root(tmp_path, TEXT + "ffffffffc0000080 t bpf_prog_1\t[bpf]\n")
    package.snapshot(tmp_path)
    assert len(asked) == 1


def test_without_the_right_to_ask_sizes_are_inferred(tmp_path: Path) -> None:
    """bpf(2) takes CAP_SYS_ADMIN; the addresses are there without."""
    elf = tmp_path / "kernel.elf"
    program = load_bpf_program()
    try:
        name = f"bpf_prog_{bpftool(program)['tag']}_{bpftool(program)['name']}"
        command = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
        command += [sys.executable, "-m", "ksyms"]
        run = subprocess.run(
            [*command, "snapshot", "-o", elf], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
    finally:
        os.close(program)
    taken = package.load(elf)
    [symbol] = taken.find(name)
    assert not symbol.exact
    assert taken.program(symbol) is None
    assert taken.facts["absent"]["bpf"] == "Operation not permitted"


def test_types_are_in_the_headers_order() -> None:
    """enum bpf_prog_type; a header that is older has fewer."""
    header = Path("/usr/include/linux/bpf.h").read_text()
    [listed] = re.findall(r"enum bpf_prog_type \{(.*?)\}", header, re.DOTALL)
    names = [name.lower() for name in re.findall(r"BPF_PROG_TYPE_(\w+)", listed)]
    assert len(names) > 25
    assert list(_TYPES[: len(names)]) == names[: len(_TYPES)]


TAG = "0123456789abcdef"
FUNCTION: dict[str, Any] = {
    **{"address": "0xffffffffc0000080", "size": 0x40, "id": 7, "type": "xdp", "tag": TAG},
    **{"name": "prog", "subprogram": 0, "lines": {"a.c": [0, 3, 16, 0], "b.h": [8, 5]}},
}


def saved(root: Path, listed: str, told: object, release: str | None = "6.12.1") -> SymbolTable:
    """The table of a saved root with ``[bpf]`` lines, and what bpf(2) had told of them."""
    lines = (line.split(" ") for line in listed.splitlines())
    text = "".join(f"{address} t {name}\t[bpf]\n" for address, name in lines)
    write_root(root, TEXT + text)
    if release is not None:
        (root / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
        (root / "proc/sys/kernel/osrelease").write_text(release)
    if told is not None:
        (root / SAVED).parent.mkdir(exist_ok=True)
        (root / SAVED).write_text(told if isinstance(told, str) else json.dumps(told))
    return package.load(package.snapshot(root).image)


def sizes(table: SymbolTable) -> list[tuple[str, int, bool]]:
    return [(s.name, s.size, s.exact) for s in table if s.module == "bpf"]


def test_only_what_is_the_same_gets_a_size(tmp_path: Path) -> None:
    """Another tag at its address, or its tag elsewhere, is another program."""
    listed = (
        f"ffffffffc0000080 bpf_prog_{TAG}_prog\n"
        f"ffffffffc0000180 bpf_prog_{TAG}_prog\n"
        f"ffffffffc0000280 bpf_prog_fedcba9876543210_prog"
    )
    other = FUNCTION | {"address": "0xffffffffc0000280"}
    taken = saved(tmp_path, listed, {"page_size": 4096, "programs": [FUNCTION, other]})
    assert [size[1:] for size in sizes(taken)] == [(0x40, True), (0x100, False), (0xD80, False)]
    place = 0xFFFFFFFFC0000080
    lines = [taken.source_line(place + offset) for offset in (0, 7, 8, 15, 16, 63, 64)]
    assert lines == [("a.c", 3)] * 2 + [("b.h", 5)] * 2 + [None] * 3  # line 0 is of none


def test_a_section_holds_its_last_program_whole(tmp_path: Path) -> None:
    """10,000 bytes, more than the page where it begins; and 100,000, more than REACH."""
    listed = (
        f"ffffffffc0000080 bpf_prog_{TAG}_prog\n"
        f"ffffffffc0100000 bpf_prog_{TAG}_prog\n"
        f"ffffffffc0118800 bpf_prog_{TAG}_prog"
    )
    programs = [
        FUNCTION | {"address": f"0xffffffffc0{place:06x}", "size": size}
        for place, size in ((0x80, 10_000), (0x100000, 100_000), (0x118800, 3_000))
    ]
    taken = saved(tmp_path, listed, {"page_size": 4096, "programs": programs})
    assert [size[1:] for size in sizes(taken)] == [
        (10_000, True),
        (100_000, True),
        (3_000, True),
    ]
    bounds = {name: (start, start + size) for name, start, size in taken.sections}
    for symbol in taken:
        if symbol.module == "bpf":
            start, end = bounds[symbol.section or ""]
            assert start <= symbol.address < symbol.address + symbol.size <= end
    ordered = sorted(bounds.values())
    assert all(one[1] <= other[0] for one, other in pairwise(ordered))


@pytest.mark.parametrize(
    ("release", "trampoline"),
    [
        ("6.1.0-56-amd64", True),
        ("6.7.12", True),
        ("6.8.0-rc1", False),
        ("6.12.1", False),
        ("10.0", False),
        ("next", False),
    ],
)
def test_what_has_a_page(tmp_path: Path, release: str, trampoline: bool) -> None:
    """Dispatchers are a page, and trampolines were; since 6.8 they are a page at most."""
    listed = (
        "ffffffffc0000000 bpf_dispatcher_xdp\n"
        "ffffffffc0004000 bpf_trampoline_6442466564\n"
        "ffffffffc0008000 bpf_trampoline_6442466565\n"
        "ffffffffc0008800 bpf__ops_member\n"
        "ffffffffc000a000 bpf_trampoline_6442466566"
    )
    taken = saved(tmp_path, listed, {"page_size": 4096, "programs": []}, release)
    found = sizes(taken)
    assert found[0][1:] == (0x1000, True)
    assert found[1][1:] == (0x1000, trampoline)
    assert found[2][1:] == ((0x1000, True) if trampoline else (0x800, False))
    assert found[3][1:] == (0x1000, False)
    assert found[4][1:] == (0x1000, trampoline)


WRONG: list[dict[str, object]] = [
    {"address": None},
    {"address": 5},
    {"address": "0x"},
    {"size": -1},
    {"size": 0},
    {"size": 1 << 64},
    {"size": "1"},
    {"tag": None},
    {"lines": []},
    {"lines": {"a.c": [0, "3"]}},
    {"lines": {"a.c": [[0, 3]]}},
]
"""What a program's facts in an archive never have."""


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (None, "No such file or directory"),
        ("", "it is not what ksyms collect wrote"),
        ("[" * 100_000, "it is not what ksyms collect wrote"),
        ([], "it is not what ksyms collect wrote"),
        ({"programs": []}, "it is not what ksyms collect wrote"),
        ({"page_size": 0, "programs": []}, "it is not what ksyms collect wrote"),
        *(
            (
                {"page_size": 4096, "programs": [FUNCTION | wrong]},
                "it is not what ksyms collect wrote",
            )
            for wrong in WRONG
        ),
    ],
)
def test_an_archive_that_is_not_as_it_was_written(
    tmp_path: Path, told: object, why: str
) -> None:
    taken = saved(tmp_path, f"ffffffffc0000080 bpf_prog_{TAG}_prog", told)
    assert sizes(taken) == [(f"bpf_prog_{TAG}_prog", 0xF80, False)]
    assert taken.facts["absent"][SAVED] == why


def test_a_root_without_programs_misses_nothing(tmp_path: Path) -> None:
    write_root(tmp_path, TEXT)
    assert SAVED not in package.load(package.snapshot(tmp_path).image).facts["absent"]


@pytest.mark.parametrize(
    "wrong", [{"address": None}, {"id": "7"}, {"lines": None}, {"lines": {"a.c": 3}}]
)
def test_a_note_that_is_not_as_it_was_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    taken = saved(
        tmp_path,
        f"ffffffffc0000080 bpf_prog_{TAG}_prog",
        {"page_size": 4096, "programs": [FUNCTION]},
    )
    assert read(json.dumps(taken.facts).encode(), "it") == taken.facts
    facts: dict[str, Any] = json.loads(json.dumps(taken.facts))
    facts["files"][1]["programs"][0] |= wrong
    with pytest.raises(NoteError):
        read(json.dumps(facts).encode(), "it")


def test_a_source_that_no_terminal_should_see(tmp_path: Path) -> None:
    """What a program's author put there is shown, and does nothing."""
    told = FUNCTION | {"lines": {"a\x1b[2J\n\udcff.c": [0, 3]}}
    saved(
        tmp_path,
        f"ffffffffc0000080 bpf_prog_{TAG}_prog",
        {"page_size": 4096, "programs": [told]},
    )
    run = ksyms("lookup", "--root", tmp_path, "0xffffffffc0000080")
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.splitlines()) == 1
    assert "\x1b" not in run.stdout
    assert "^[[2J" in run.stdout


def test_a_program_beside_a_line_without_an_answer(tmp_path: Path) -> None:
    """What is shown of a program does not depend on what else was asked."""
    told = {"page_size": 4096, "programs": [FUNCTION]}
    saved(tmp_path, f"ffffffffc0000080 bpf_prog_{TAG}_prog", told)
    address = "0xffffffffc0000080"
    alone = ksyms("lookup", "--root", tmp_path, "-", input=f"{address}\n").stdout
    assert f"  bpf {FUNCTION['id']} " in alone
    run = ksyms("lookup", "--root", tmp_path, "-", input=f"{address}\nnowhere\n{address}\n")
    rows = run.stdout.splitlines(keepends=True)
    assert [rows[0].split(), rows[2].split()] == [alone.split()] * 2
