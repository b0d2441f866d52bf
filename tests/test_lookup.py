"""``ksyms lookup``: ranges, patterns, aliases, link time, nearest, many at once."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ksyms as library
from command import COMMAND, ksyms
from conftest import Kernel
from elf_files import Row, compile_c, elf_file
from ksyms._symbols.search import aliases, matching, nearest, within
from ksyms._symbols.table import FINDS, LOOKUPS

TOP = (1 << 64) - 1
Line = tuple[int, str, str, str | None]


@pytest.fixture(scope="module")
def kernel(saved: dict[str, Kernel]) -> Kernel:
    return saved["6.12.117+deb12-amd64-few"]


@pytest.fixture(scope="module")
def table(kernel: Kernel) -> library.SymbolTable:
    return library.load(kernel.elf)


@pytest.fixture(scope="module")
def lines(kernel: Kernel) -> list[Line]:
    """Address, letter, name and module of each line of the saved text, by address."""
    return sorted(kernel.lines, key=lambda line: line[0])


@pytest.fixture(scope="module")
def placed(lines: list[Line]) -> list[Line]:
    """Those that are no offsets of per-CPU variables."""
    return [line for line in lines if line[1] not in "aA"]


@pytest.fixture(scope="module")
def together(placed: list[Line]) -> dict[int, list[str]]:
    """The names at each address."""
    names = defaultdict(list)
    for address, _, name, _ in placed:
        names[address].append(name)
    return names


def answers(*arguments: str | Path, **options: Any) -> list[dict[str, Any]]:
    """What ``ksyms lookup --json`` prints."""
    run = ksyms("lookup", "--json", *arguments, **options)
    assert "Traceback" not in run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def told(records: list[dict[str, Any]]) -> list[tuple[int, str, str | None]]:
    return [(int(r["address"], 16), r["name"], r["module"]) for r in records]


def rows(lines: list[Line]) -> list[tuple[int, str, str | None]]:
    return [(address, name, module) for address, _, name, module in lines]


# -- what is asked --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("vfs_*", lambda name, _: name.startswith("vfs_")),
        ("*_read?", lambda name, _: fnmatch.fnmatchcase(name, "*_read?")),
        ("sys_[no]*", lambda name, _: fnmatch.fnmatchcase(name, "sys_[no]*")),
        ("/^(v9fs|p9)_.*inode$/", lambda name, _: re.search("^(v9fs|p9)_.*inode$", name)),
        ("/_readdir/", lambda name, _: "_readdir" in name),
        ("[9p]", lambda _, module: module == "9p"),
        ("9p:v9fs_mount", lambda name, module: (module, name) == ("9p", "v9fs_mount")),
        (
            "9*:*_mount",
            lambda name, module: (module or "")[:1] == "9" and name[-6:] == "_mount",
        ),
        ("vmlinux:/_init$/", lambda name, module: module is None and name.endswith("_init")),
        ("__func__.0", lambda name, _: name == "__func__.0"),
    ],
)
def test_every_match_is_an_answer(
    what: str, wanted: Any, kernel: Kernel, lines: list[Line]
) -> None:
    expected = [line for line in lines if wanted(line[2], line[3])]
    found = told(answers("--from", kernel.elf, what))
    assert len(expected) > 0
    assert sorted(found, key=str) == sorted(rows(expected), key=str)
    assert [address for address, _, _ in found] == [line[0] for line in expected]


def test_a_name_in_many_places(kernel: Kernel, lines: list[Line]) -> None:
    """Each with the section that readelf has it in."""
    names = [line[2] for line in lines if line[1] not in "aA"]
    name = next(name for name, count in Counter(names).items() if 2 < count < 9)
    out = subprocess.check_output(["readelf", "-sW", kernel.elf], text=True)
    sections = dict(
        re.findall(
            r"^ +\[ *(\d+)\] (\S+)",
            subprocess.check_output(["readelf", "-SW", kernel.elf], text=True),
            re.M,
        )
    )
    cells = [line.split() for line in out.splitlines()]
    expected = [(int(c[1], 16), sections[c[6]]) for c in cells if c[-1:] == [name]]
    found = answers("--from", kernel.elf, name)
    assert [(int(r["address"], 16), r["section"]) for r in found] == sorted(expected)


@pytest.mark.parametrize(
    "what", ["{0:x}-{1:x}", "{0:#x}-{1:#x}", "{0:#x}+{2:#x}", "{0:#x}+{2}"]
)
def test_a_range(
    what: str, kernel: Kernel, placed: list[Line], together: dict[int, list[str]]
) -> None:
    """The symbol it begins in, and all that begin before its end, as nm -n has them."""
    at = next(i for i, line in enumerate(placed) if line[2] == "v9fs_mount")
    start, end = placed[at][0] + 5, placed[at + 9][0]
    found = told(answers("--from", kernel.elf, what.format(start, end, end - start)))
    out = subprocess.check_output(["nm", "-n", kernel.elf], text=True)
    nm = [(int(row[0], 16), row[2]) for row in map(str.split, out.splitlines())]
    expected = [row for row in nm if placed[at][0] <= row[0] < end]
    assert len(expected) == 9
    assert [row[:2] for row in found] == expected


def test_offsets_as_gdb_and_addr2line_have_them(kernel: Kernel, placed: list[Line]) -> None:
    """Functions at an address of their own, sixteen bytes or more long."""
    # gdb leaves the end of a name like x.part.0 out.
    text = [line for line in placed if line[1] in "tT" and "." not in line[2]]
    picked = [
        line
        for before, line, after in zip(text[::801], text[1::801], text[2::801])
        if before[0] < line[0] and line[0] + 16 <= after[0]
    ]
    assert len(picked) > 50
    asked = [f"{line[2]}+0x7" for line in picked]
    found = answers("--from", kernel.elf, *asked)
    # A name in several places has an answer in each.
    known = {(r["query"], int(r["address"], 16)): r for r in found}
    mine = [known[what, line[0]] for what, line in zip(asked, picked)]
    assert [(r["name"], r["offset"]) for r in mine] == [(line[2], 7) for line in picked]
    addresses = [f"{line[0] + 7:#x}" for line in picked]
    commands = [part for a in addresses for part in ("-ex", f"info symbol {a}")]
    gdb = subprocess.check_output(["gdb", "-nx", "-batch", *commands, kernel.elf], text=True)
    assert [line.split(" in section ")[0] for line in gdb.splitlines()] == [
        f"{line[2]} + 7" for line in picked
    ]
    out = subprocess.check_output(["addr2line", "-fe", kernel.elf, *addresses], text=True)
    assert out.splitlines()[::2] == [line[2] for line in picked]


def test_an_offset_past_the_end_is_in_what_follows(text: Path) -> None:
    """alpha has 0x30 bytes, and beta comes next; both names of beta are good."""
    run = ksyms("lookup", "--kallsyms", text, "alpha+0x35", "beta_alias+4", "beta+4", "twin+1")
    assert [line.split()[:5] for line in run.stdout.splitlines()] == [
        ["ffffffff81000045", "t", "~64", "beta+0x5/0x40", ".text"],
        ["ffffffff81000044", "t", "~64", "beta_alias+0x4/0x40", ".text"],
        ["ffffffff81000044", "t", "~64", "beta+0x4/0x40", ".text"],
        ["ffffffff81000081", "t", "~3968", "twin+0x1/0xf80", ".text"],
        ["ffffffffc0000021", "t", "~4064", "twin+0x1/0xfe0", "[mod].text"],
    ]


def test_names_that_look_like_addresses(tmp_path: Path) -> None:
    """Eight digits are a name where there is one, and an address elsewhere."""
    path = tmp_path / "kallsyms"
    path.write_text(
        "81000000 T _stext\n81000100 t deadbeef\n81000200 t face1234\n81000300 T _etext\n"
    )
    found = answers(
        *("--kallsyms", path, "deadbeef", "face1234+4", "81000104", "0x81000204"),
        *("81000104+0x100", "0xdeadbeef", "deadbee", "0000000081000104"),
    )
    assert [(r["name"], r.get("offset")) for r in found] == [
        ("deadbeef", None),
        ("face1234", 4),
        ("deadbeef", 4),
        ("face1234", 4),
        *(("deadbeef", None), ("face1234", None)),  # of the range
        (None, None),
        (None, None),
        ("deadbeef", 4),
    ]


# -- what an answer has ---------------------------------------------------------------------


def test_aliases(kernel: Kernel, placed: list[Line], together: dict[int, list[str]]) -> None:
    """All other names that the text has at the address; none of an offset's value."""
    several = [line for line in placed if len(together[line[0]]) > 1][::500]
    asked = [f"{line[0]:#x}" for line in several]
    for record in answers("--from", kernel.elf, *asked):
        names = [record["name"], *record["aliases"]]
        assert sorted(names) == sorted(together[int(record["address"], 16)])
    [record] = answers("--from", kernel.elf, "__per_cpu_start")
    assert (record["section"], record["aliases"]) == (None, [])


def test_many_aliases_in_a_row(tmp_path: Path) -> None:
    """A row has eight of them at most, JSON all."""
    path = tmp_path / "kallsyms"
    names = [f"a{number}" for number in range(11)]
    path.write_text(
        "".join(f"ffffffff81000000 T {name}\n" for name in ["_stext", *names])
        + "ffffffff81000100 T _etext\n"
    )
    out = ksyms("lookup", "--kallsyms", path, "_stext").stdout
    assert out.endswith(f".text  = {', '.join(names[:8])} and 3 more\n")
    [record] = answers("--kallsyms", path, "_stext")
    assert record["aliases"] == names


def test_sections_of_an_object_file_do_not_share_addresses(tmp_path: Path) -> None:
    """Each begins at 0 until it is linked; one function has another name."""
    source = """
        int one(void) { return 1; }
        int two(void) { return 2; }
        int also_two(void) __attribute__((alias("two")));
    """
    path = compile_c(tmp_path / "a.o", source, "-c", "-ffunction-sections")
    found = answers("--from", path, "one", "two")
    assert [(r["name"], r["section"], r["aliases"]) for r in found] == [
        ("one", ".text.one", []),
        ("two", ".text.two", ["also_two"]),
    ]


def linked(root: Path, slide: int) -> None:
    """Another machine's files: a kernel that was moved by ``slide``, and a module."""
    system_map = "".join(
        f"{address:016x} {letter} {name}\n"
        for address, letter, name in [
            (0x0, "A", "__per_cpu_start"),
            (0xFFFFFFFF81000000, "T", "_text"),
            (0xFFFFFFFF81000000, "T", "_stext"),
            (0xFFFFFFFF81000040, "t", "middle"),
            (0xFFFFFFFF81000080, "T", "_etext"),
        ]
    )
    moved = [line.split() for line in system_map.splitlines()]
    kallsyms = "".join(
        f"{int(a, 16) + (slide if t != 'A' else 0):016x} {t} {name}\n" for a, t, name in moved
    )
    for name, data in {
        "proc/kallsyms": kallsyms + "ffffffffc0000000 t inside\t[mod]\n",
        "proc/modules": "mod 16384 0 - Live 0xffffffffc0000000\n",
        "proc/sys/kernel/osrelease": "6.1.0-test\n",
        "boot/System.map-6.1.0-test": system_map,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(data)


def test_the_address_at_link_time(tmp_path: Path) -> None:
    """Of the kernel's symbols; a module has none, an absolute symbol stays where it is."""
    linked(tmp_path, 0x12600000)
    asked = ("middle", "inside", "__per_cpu_start")
    found = {r["name"]: r["link_address"] for r in answers("--root", tmp_path, *asked)}
    assert found == {"middle": "0xffffffff81000040", "inside": None, "__per_cpu_start": "0x0"}
    run = ksyms("lookup", "--root", tmp_path, "ffffffff93600044", "inside", "__per_cpu_start")
    assert [" ".join(line.split()) for line in run.stdout.splitlines()] == [
        "ffffffff93600044 t ~64 middle+0x4/0x40 .text link 0xffffffff81000044",
        "ffffffffc0000000 t ~4096 inside [mod].text",
        "0000000000000000 A 0 __per_cpu_start absolute",
    ]


def test_link_time_is_unknown_where_nothing_tells(kernel: Kernel) -> None:
    [record] = answers("--from", kernel.elf, "schedule")
    assert record["link_address"] is None
    assert "link" not in ksyms("lookup", "--from", kernel.elf, "schedule").stdout


# -- nearest --------------------------------------------------------------------------------


def test_nearest_is_no_answer(text: Path) -> None:
    arguments = ("lookup", "--kallsyms", text, "--nearest")
    run = ksyms(*arguments, "ffffffff81001008", "alpha", "0x10", "fffffffffffffff0", "nothing")
    assert run.returncode == 1
    assert [re.sub("  +", "  ", line) for line in run.stdout.splitlines()] == [
        "ffffffff81001008  T  0  nearest before: _etext+0x8/0x0  .text",
        "ffffffff81001008  d  ~4096  nearest after: 81000010-0x3feff8  .gap.data",
        "ffffffff81000010  T  ~48  alpha  .text",
        "0000000000000010  T  ~16  nearest after: _stext-0xffffffff80fffff0  .text  = _text",
        "fffffffffffffff0  t  ~4064  nearest before: twin+0x3fffffd0/0xfe0  [mod].text",
    ]
    assert [line.rsplit(" ", 1)[1] for line in run.stderr.splitlines()] == [
        *("ffffffff81001008.", "0x10.", "fffffffffffffff0.", "nothing.")
    ]
    assert ksyms(*arguments, "alpha").returncode == 0


def test_nearest_json(text: Path) -> None:
    arguments = ("--kallsyms", text, "--nearest", "ffffffff81001008", "0x1" + 16 * "0")
    gap, beyond = answers(*arguments)
    assert (gap["query"], gap["name"]) == ("ffffffff81001008", None)
    near = gap["nearest"]
    assert (near["before"]["name"], near["before"]["distance"]) == ("_etext", 8)
    assert (near["after"]["name"], near["after"]["distance"]) == ("81000010", 0x3FEFF8)
    assert beyond["nearest"] == {"before": None, "after": None}


# -- many at once ---------------------------------------------------------------------------


def test_many_from_standard_input(
    kernel: Kernel, placed: list[Line], together: dict[int, list[str]]
) -> None:
    """More than one at a time pays for: each is answered, in its order."""
    starts = sorted(together)
    asked = [f"{line[0] + 1:#x}" for line in placed[::11]]
    # Beside them what is not there, and what is asked otherwise.
    asked += ["0x0", "0x1" + 16 * "0", "v9fs_mount", "nothing", f"{starts[5]:#x}+1", "/[/"]
    assert len(asked) > LOOKUPS
    found = answers("--from", kernel.elf, "schedule", "-", input="\n".join(asked) + "\n\n")
    assert [r["query"] for r in found][:1] == ["schedule"]
    inside = [r for r in found[1:] if "offset" in r]
    assert len(inside) > 0.99 * len(asked)
    for record in inside:
        address = int(record["query"], 16)
        start = starts[bisect_right(starts, address) - 1]
        assert (record["name"], record["offset"]) == (together[start][0], address - start)
    assert [r["query"] for r in found if r["name"] is None][-4:] == [
        *("0x0", "0x1" + 16 * "0", "nothing", "/[/")
    ]
    assert "error" in found[-1]
    assert list(dict.fromkeys(r["query"] for r in found[1:])) == list(dict.fromkeys(asked))


def test_many_are_what_single_ones_are(kernel: Kernel, placed: list[Line]) -> None:
    table = library.load(kernel.elf)
    asked = [line[0] + 9 for line in placed[:: len(placed) // (2 * LOOKUPS)]]
    asked += [TOP, TOP + 1, 0, -1, asked[0]]
    singly = [library.load(kernel.elf).lookup(address) for address in asked[-300:]]
    assert [table.lookup(address) for address in asked][-300:] == singly
    names = [line[2] for line in placed[:: len(placed) // (2 * FINDS)]]
    for name in names:
        assert {s.address for s in table.find(name)} == {
            line[0] for line in placed if line[2] == name
        }


def named_by_nm(path: Path) -> dict[str, list[int]]:
    """The addresses of each name, ascending, as nm has them."""
    found = defaultdict(list)
    for line in subprocess.check_output(["nm", "-n", path], text=True).splitlines():
        address, _, name = line.split(" ", 2)
        found[name].append(int(address, 16))
    return found


def test_every_name_once(kernel: Kernel) -> None:
    """By the index, for numpy is here: all that nm has, and nothing that it has not."""
    table = library.load(kernel.elf)
    expected = named_by_nm(kernel.elf)
    assert "numpy" in sys.modules
    assert sum(len(addresses) > 1 for addresses in expected.values()) > 1000
    for name, addresses in expected.items():
        found = table.find(name)
        assert [s.address for s in found] == addresses
        assert {s.name for s in found} == {name}
    others = {part for n in list(expected)[::9] for part in (n[1:], n[:-1], n + "~", n.upper())}
    assert {name for name in others if table.find(name)} == others & expected.keys()


def test_names_by_scans_and_then_by_the_index(kernel: Kernel) -> None:
    """A command that is asked for one name imports no numpy; for many it does, once."""
    expected = named_by_nm(kernel.elf)
    several = [name for name, found in expected.items() if len(found) > 1 and "." not in name]
    names = [*several[:FINDS], *list(expected)[:: len(expected) // FINDS]]
    for asked in (names[:1], names):
        run = subprocess.run(
            [COMMAND, "lookup", "--json", "--from", kernel.elf, "-"],
            env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
            input="".join(f"{name}\n" for name in asked),
            capture_output=True,
            text=True,
        )
        found = [json.loads(line) for line in run.stdout.splitlines()]
        assert [(r["query"], int(r["address"], 16)) for r in found] == [
            (name, address) for name in asked for address in expected[name]
        ]
        imported = re.search(r"\| +numpy$", run.stderr, re.M) is not None
        assert imported == (len(asked) > FINDS)


def test_single_ones_at_the_edges_of_what_is_kept_together(
    kernel: Kernel, placed: list[Line]
) -> None:
    """Every page's ends, between symbols and in them, and more pages than are kept."""
    table = library.load(kernel.elf)
    for _ in range(LOOKUPS + 1):
        table.lookup(TOP)
    low, high = placed[0][0] >> 12 << 12, placed[-1][0]
    asked = [*range(low, high, 1 << 14), *range(low - 1, high, 1 << 12)][: (1 << 16) + 999]
    asked += [line[0] + by for line in placed[::7] for by in (-1, 0, 1)]
    places = table.locate(asked).tolist()
    everything = [*table, None]
    assert [table.lookup(address) for address in asked] == [everything[n] for n in places]


def test_an_answer_comes_before_the_next_question(text: Path) -> None:
    """As a program asks that holds both ends of a pipe."""
    command = [COMMAND, "lookup", "--kallsyms", text, "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdin
        assert run.stdout
        for what, name in [("ffffffff81000011", "alpha+0x1/0x30"), ("beta", "beta")]:
            run.stdin.write(what + "\n")
            run.stdin.flush()
            assert run.stdout.readline().split()[3] == name
        run.stdin.write("_etext")  # the last line has no end
        run.stdin.close()
        assert run.stdout.readline().split()[3] == "_etext"
    assert run.returncode == 0


# What a single address in a file must not wait for: each takes a tenth of Python's own start
# or more, and typing all of it.
HEAVY = {
    *("argparse", "contextlib", "ctypes", "dataclasses", "gettext", "inspect", "pathlib"),
    *("subprocess", "tempfile", "threading", "typing"),
    *("numpy", "rich", "zstandard", "ksyms._linker", "ksyms._snapshot", "ksyms._cli.serve"),
}


def test_a_single_address_waits_for_nothing_heavy(kernel: Kernel, placed: list[Line]) -> None:
    run = subprocess.run(
        [COMMAND, "lookup", "--from", kernel.elf, f"{placed[99][0]:#x}"],
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0
    imported = set(re.findall(r"\| +(\S+)$", run.stderr, re.M))
    assert "ksyms._symbols.table" in imported
    assert not imported & HEAVY


# -- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("/(/", "/(/ is no regular expression: "),
        ("/[[a/", "/[[a/ is no regular expression: "),  # Python warns of it too
        ("/a{99999999999999}/", "is no regular expression: "),
        (f"/{'(' * 20_000}/", "is no regular expression: "),
        ("0x20-0x10", "0x20-0x10 is an empty range: "),
        ("0x20-0x20", "0x20-0x20 is an empty range: "),
        ("0x20+0", "0x20+0 is an empty range: "),
    ],
    ids=range(7),
)
def test_what_asks_nothing(what: str, said: str, text: Path) -> None:
    run = ksyms("lookup", "--kallsyms", text, "alpha", what)
    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    run = ksyms("lookup", "--kallsyms", text, "-", input=f"{what}\nalpha\n")
    assert (run.returncode, run.stdout.split()[3]) == (1, "alpha")
    assert re.fullmatch(r"ksyms: [^\n]{,250}\.\n", run.stderr)
    assert said in run.stderr


@pytest.mark.parametrize(
    "what",
    [
        *("0x0-0x10", "0xfffffffffffffff0-0xffffffffffffffff", "0xffffffffffffffff+1"),
        *("0x10000000000000000+0x10", "0xffffffffffffffff", "-", "+0x4", "alpha+", ":", "mod:"),
        *("nothing:alpha", "[nothing]", "nothing*", "/nothing/", "/", "[", "alpha:beta", "0x"),
        *("\x00", "a\x00b", "\x1b[31m", "alpha+99999999999999999999", "twin+0x3fff", "\u0661"),
    ],
)
def test_what_is_not_there(what: str, text: Path) -> None:
    """One line on each, without what would be read as commands by a terminal."""
    lines = f"{what}\n".encode() + b"\xff\xfe\n"
    run = subprocess.run(
        [COMMAND, "lookup", "--kallsyms", text, "-"], input=lines, capture_output=True
    )
    assert (run.returncode, run.stdout) == (1, b"")
    assert re.fullmatch(rb"(ksyms: In [^\0-\x1f]+ no symbol [^\0-\x1f]+\.\n){2}", run.stderr), (
        run.stderr
    )
    assert [r["name"] for r in answers("--kallsyms", text, "-", input=f"{what}\n")] == [None]


def test_a_range_over_everything(kernel: Kernel, placed: list[Line]) -> None:
    """It streams: whoever has enough after ten lines need not wait for the rest."""
    arguments = ["lookup", "--from", kernel.elf, "0x0-0x10000000000000000"]
    with subprocess.Popen([COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        head = [run.stdout.readline().split() for _ in range(10)]
        run.stdout.close()
    assert [row[0] for row in head] == [f"{line[0]:016x}" for line in placed[:10]]
    assert run.returncode == 1


def test_a_range_over_everything_has_all(
    table: library.SymbolTable, placed: list[Line]
) -> None:
    found = [(s.address, s.name, s.module) for s in within(table, 0, TOP + 1)]
    assert sorted(found, key=str) == sorted(rows(placed), key=str)


def test_a_regular_expression_that_never_ends(tmp_path: Path) -> None:
    """An interrupt ends it."""
    path = tmp_path / "kallsyms"
    names = {0: "_stext", 16: "a" * 60, 32: "_etext"}
    path.write_text("".join(f"{0x81000000 + at:x} T {name}\n" for at, name in names.items()))
    command = [COMMAND, "lookup", "--kallsyms", path, "_stext", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as run:
        assert run.stdin
        assert run.stdout
        assert "_stext" in run.stdout.readline()  # it is past the start
        run.stdin.write("/^(a+)+b/\n")
        run.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert (run.returncode, out, err) == (130, "", "")


def test_a_line_without_an_end(text: Path) -> None:
    run = ksyms("lookup", "--kallsyms", text, "-", input="a" * 3_000_000)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("ksyms: Standard input has a line of more than 1 MiB.\n")


@pytest.mark.parametrize("stdin", ["<&-", "0>/dev/null"])
def test_standard_input_that_cannot_be_read(stdin: str, text: Path) -> None:
    shell = f'"{COMMAND}" lookup --kallsyms "{text}" - {stdin}'
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("ksyms: Standard input cannot be read: ")
    assert run.stderr.count("\n") == 2


def test_names_that_overlap_are_refused() -> None:
    """Two thousand symbols whose names are the tails of one string of a megabyte."""
    strings = b"\0" + b"a" * 1_000_000 + b"\0"
    image = elf_file([Row(number, 0x1000 + number) for number in range(1, 2000)], strings)
    table = library.load(memoryview(image))
    with pytest.raises(library.ImageError, match="names overlap"):
        list(matching(table, re.compile("b")))


# -- against searches by hand ---------------------------------------------------------------

places = st.one_of(st.integers(0, 40), st.integers(TOP - 40, TOP))
sizes = st.one_of(st.integers(0, 20), st.just(TOP))


@settings(deadline=None)
@given(st.lists(st.tuples(places, sizes), max_size=8), places, places)
@example([(0, 16), (4, 4), (20, 0)], 5, 19)
@example([(TOP, TOP)], 0, TOP)
def test_ranges_and_neighbours(rows: list[tuple[int, int]], start: int, last: int) -> None:
    """A range's are those that single lookups of its addresses find, and their aliases."""
    strings = b"\0" + b"".join(b"%03d\0" % number for number in range(len(rows)))
    made = [Row(1 + 4 * n, value, size) for n, (value, size) in enumerate(rows)]
    table = library.load(memoryview(elf_file(made, strings)))
    edges = {v + d for v, s in rows for d in (-1, 0, 1, s - 1, s)} | {start, last}
    edges = {edge for edge in edges if 0 <= edge <= TOP}
    owners = {edge: table.lookup(edge) for edge in edges}
    starts = {s.address for edge, s in owners.items() if s and start <= edge <= last}
    expected = {f"{n:03d}" for n, (value, _) in enumerate(rows) if value in starts}
    found = list(within(table, start, last + 1))
    assert sorted(s.name for s in found) == sorted(expected)
    for symbol in found:
        others = [f"{n:03d}" for n, (value, _) in enumerate(rows) if value == symbol.address]
        assert sorted([symbol.name, *aliases(table, symbol)]) == sorted(others)
    if owners[start] is None:
        below = [edge for edge in edges if edge < start and owners[edge]]
        above = [edge for edge in edges if edge > start and owners[edge]]
        assert nearest(table, start) == (
            owners[max(below)] if below else None,
            owners[min(above)] if above else None,
        )


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from([*"*?[]!-_av0", "sys", "read", "init"]), max_size=5).map("".join)
)
@example("__x64_sys_[a-e]*")
@example("[[]*")
@example("[!_]?[0-9]")
def test_globs(table: library.SymbolTable, lines: list[Line], glob: str) -> None:
    """Over all names, those that fnmatch has."""
    from ksyms._cli.question import answers, question

    asked = question(glob)
    [(_, found)] = answers(table, [asked])
    if asked.module is not None:  # [a] is a module
        assert list(found) == []
        return
    wild = any(letter in glob for letter in "*?[")
    match = re.compile(fnmatch.translate(glob)).match if wild else glob.__eq__
    expected = sorted(line[2] for line in lines if match(line[2]))
    assert sorted(symbol.name for symbol, _ in found) == expected


parts = st.lists(st.sampled_from([b"a", b"b" * 8, b"_" * 57, b"\xff", b"\0"]), max_size=20)


@settings(deadline=None)
@given(
    parts.map(b"".join),
    st.lists(st.integers(0, 300), max_size=12),
    st.sampled_from([(64, "<"), (64, ">"), (32, "<"), (32, ">")]),
)
@example(b"\0" + b"x" * 700 + b"\0", [0, 1, 2, 650, 680, 700, 701, 702], (64, "<"))
@example(b"\0abc", [1, 2, 4, 5, 300], (64, "<"))
@example(b"", [0, 1], (32, ">"))
def test_names_wherever_they_begin(
    strings: bytes, starts: list[int], form: tuple[int, str]
) -> None:
    """Tails of each other, long ones, ones without an end, none at all, outside the table."""
    rows = [Row(start, 0x1000 + number, 1) for number, start in enumerate(starts)]
    # What is undefined has no place, whatever it is called.
    rows += [Row(start, shndx=0) for start in starts]
    expected = defaultdict(list)
    for row in rows[: len(starts)]:
        name, end, _ = strings[row.name :].partition(b"\0")
        if end and name:
            expected[name.decode("utf-8", "surrogateescape")].append(row.value)
    table = library.load(memoryview(elf_file(rows, strings, bits=form[0], order=form[1])))
    for name in [*expected, "a", "b", "ab", "x" * 50, "abc", "bc", "c"]:
        assert [s.address for s in table.find(name)] == expected.get(name, [])
