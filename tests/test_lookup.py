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
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ksyms as library
from command import COMMAND, ksyms
from conftest import Kernel
from elf_files import Row, compile_c, elf_file
from ksyms._cli import main
from ksyms._cli import sheet as sheet_file
from ksyms._cli.question import parse_line
from ksyms._cli.sheet import BLOCK, AnswerRows, Records
from ksyms._symbols.by_name import FINDS
from ksyms._symbols.search import aliases, matching, nearest, within
from ksyms._symbols.table import LOOKUPS

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
    """Those that name addresses: no per-CPU offsets, no labels of modules, and of the kernel's
    own those in its image, or in its text if it lists functions only (is_ksym_addr)."""
    own = {name: address for address, _, name, module in lines if module is None}
    bounds = [("_stext", "_etext"), ("_sinittext", "_einittext")]
    if "_end" in own:
        bounds = [("_stext", "_end"), ("__init_begin", "__init_end")]
    named = [range(own[first], own[last]) for first, last in bounds]
    return [
        line
        for line in lines
        if line[1] not in "aA"
        and not (line[3] and line[2].startswith((".L", "L0", "$")))
        and (line[3] or any(line[0] in one for one in named))
    ]


@pytest.fixture(scope="module")
def together(placed: list[Line]) -> dict[int, list[str]]:
    """The names at each address."""
    names = defaultdict(list)
    for address, _, name, _ in placed:
        names[address].append(name)
    return names


def answers(*arguments: str | Path, **options: Any) -> list[dict[str, Any]]:
    """Return the records that ``ksyms lookup --json`` prints."""
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


def test_an_offset_is_held_against_the_size(text: Path) -> None:
    """alpha has 0x30 bytes, and beta comes next; both names of beta are good; two are twin."""
    run = ksyms("lookup", "--kallsyms", text, "beta_alias+4", "beta+4", "twin+1", "twin+0xf80")
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split()[:5] for line in run.stdout.splitlines()] == [
        ["ffffffff81000044", "t", "~64", "beta_alias+0x4/0x40", ".text"],
        ["ffffffff81000044", "t", "~64", "beta+0x4/0x40", ".text"],
        ["ffffffff81000081", "t", "~3968", "twin+0x1/0xf80", ".text"],
        ["ffffffffc0000021", "t", "~4064", "twin+0x1/0xfe0", "[mod].text"],
        ["ffffffffc0000fa0", "t", "~4064", "twin+0xf80/0xfe0", "[mod].text"],
    ]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "alpha+0x35",
            "alpha+0x35 is past the end of alpha, which has 0x30 bytes; "
            "there lies beta+0x5/0x40",
        ),
        (
            "alpha+48",
            "alpha+0x30 is past the end of alpha, which has 0x30 bytes; "
            "there lies beta+0x0/0x40",
        ),
        (
            "twin+0xfe0",
            "twin+0xfe0 is past the end of twin, which has 0xf80 and 0xfe0 bytes; "
            "there lies _etext+0x60/0x0",
        ),
        ("alpha+0x1/0x34", "no alpha has 0x34 bytes, but 0x30"),
        ("twin+0x1/0x34", "no twin has 0x34 bytes, but 0xf80 and 0xfe0"),
        ("twin+0x1/0xf80 [mod]", "no twin has 0xf80 bytes, but 0xfe0"),
        ("alpha+0x31/0x30", "alpha+0x31/0x30 is past its own end"),
        ("mod:beta", "beta is not of mod, but of vmlinux"),
        ("vmlinux:mod_start", "mod_start is not of vmlinux, but of mod"),
        ("alpha+0x1/0x30 [mud]", "no module is called mud"),
        ("mud:*", "no module is called mud"),
        ("[mud]", "no module is called mud"),
    ],
)
def test_why_there_is_no_answer(what: str, said: str, text: Path) -> None:
    run = ksyms("lookup", "--kallsyms", text, what)
    assert (run.returncode, run.stdout) == (1, "")
    expected = said.replace("; there lies _etext+0x60/0x0", "")  # it has no size
    assert run.stderr == f"ksyms: In the image {expected}.\n"
    assert answers("--kallsyms", text, what) == [{"query": what, "name": None, "why": expected}]


FRAMES = {
    # what is pasted: name, offset and where it begins
    "alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "  alpha+0x1/0x30\t": ("alpha", 1, 0xFFFFFFFF81000010),
    "alpha+0x30/0x30": ("alpha", 0x30, 0xFFFFFFFF81000010),  # a call that never returns
    "mod_start+0x4/0x20 [mod]": ("mod_start", 4, 0xFFFFFFFFC0000000),
    "twin+0x4/0xfe0": ("twin", 4, 0xFFFFFFFFC0000020),
    "twin+0x4/0xf80": ("twin", 4, 0xFFFFFFFF81000080),
    "twin+0x4/0xfe0 [mod 3b2c6f10b9a47e3f00000000000000000000cafe]": (
        *("twin", 4, 0xFFFFFFFFC0000020),
    ),
    "twin [mod]": ("twin", None, 0xFFFFFFFFC0000020),
    "twin\t[mod]": ("twin", None, 0xFFFFFFFFC0000020),
    "t?in [mod]": ("twin", None, 0xFFFFFFFFC0000020),
    "mod:twin+0x4/0xfe0": ("twin", 4, 0xFFFFFFFFC0000020),
    "[<ffffffff81000041>]": ("beta", 1, 0xFFFFFFFF81000040),
    "[<FFFFFFFF81000041>]": ("beta", 1, 0xFFFFFFFF81000040),
    "<ffffffff81000041>": ("beta", 1, 0xFFFFFFFF81000040),
    "[ffffffff81000041]": ("beta", 1, 0xFFFFFFFF81000040),
    " ffffffff81000041 ": ("beta", 1, 0xFFFFFFFF81000040),
    "[<ffffffff81000041>] beta_alias+0x1/0x40": ("beta_alias", 1, 0xFFFFFFFF81000040),
    "[<ffffffff81000041>] ? beta+0x1/0x40": ("beta", 1, 0xFFFFFFFF81000040),
    "[<0>] alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),  # /proc/PID/stack
    "[<00000000>] alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    # of another boot: the name says which, the address cannot
    "[<ffffffff99000041>] alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "RIP: 0010:alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "[   12.345678] [<ffffffff81000011>] alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "[   12.345678][   T12]  alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "RIP: 0010:twin+0x4/0xfe0 [mod]": ("twin", 4, 0xFFFFFFFFC0000020),
    "0010:twin+0x4/0xfe0 [mod]": ("twin", 4, 0xFFFFFFFFC0000020),
    "RIP: 0010:[<ffffffff81000011>]  [<ffffffff81000011>] alpha+0x1/0x30": (
        *("alpha", 1, 0xFFFFFFFF81000010),
    ),
    "RIP  [<ffffffff81000011>] alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "EIP is at alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "pc : alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "PC is at alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "NIP [ffffffff81000011] alpha+0x1/0x30": ("alpha", 1, 0xFFFFFFFF81000010),
    "? twin+0x4/0xfe0 [mod]": ("twin", 4, 0xFFFFFFFFC0000020),
    "[   12.345678]  ? twin+0x4/0xfe0 [mod]": ("twin", 4, 0xFFFFFFFFC0000020),
    "<4>[   12.345678][  T123]  twin+0x4/0xfe0 [mod] (unreliable)": (
        *("twin", 4, 0xFFFFFFFFC0000020),
    ),
    "WARNING: CPU: 0 PID: 1 at kernel/a.c:9 alpha+0x1/0x30": (
        *("alpha", 1, 0xFFFFFFFF81000010),
    ),
    " => beta": ("beta", None, 0xFFFFFFFF81000040),
    "<alpha+18>:": ("alpha", 18, 0xFFFFFFFF81000010),
    "ffffffff81000010 T alpha": ("alpha", None, 0xFFFFFFFF81000010),
    "ffffffffc0000020 t twin\t[mod]": ("twin", None, 0xFFFFFFFFC0000020),
    "ffffffff81000080 t twin": ("twin", None, 0xFFFFFFFF81000080),
    "ffffffff81000081 twin+0x1 ([kernel.kallsyms])": ("twin", 1, 0xFFFFFFFF81000080),
}


@pytest.mark.parametrize("source", ["argument", "stdin"])
def test_pasted_frames(source: str, text: Path) -> None:
    if source == "argument":
        found = answers("--kallsyms", text, "--", *FRAMES)
    else:
        found = answers("--kallsyms", text, "-", input="".join(f"{f}\r\n" for f in FRAMES))
        assert [r.pop("line") for r in found] == list(range(1, len(FRAMES) + 1))
    assert [r["query"] for r in found] == [frame.strip() for frame in FRAMES]
    have = [(r["name"], r.get("offset"), int(r["address"], 16)) for r in found]
    assert dict(zip(FRAMES, have)) == FRAMES


def test_a_module_of_another_build(saved: dict[str, Kernel]) -> None:
    """If both build-ids are known, a frame of another build has no answer here."""
    kernel = saved["6.12.117+deb12-amd64-few"]
    notes = (kernel.root / "sys/module/9p/notes/.note.gnu.build-id").read_bytes()
    build_id = notes[-20:].hex()
    size = int(answers("--from", kernel.elf, "v9fs_mount")[0]["size"])
    for id_, why in [(build_id, None), ("ab" * 20, f"9p is another build than {'ab' * 20}")]:
        [found] = answers("--from", kernel.elf, f"v9fs_mount+0x4/{size:#x} [9p {id_}]")
        assert (found["name"], found.get("why")) == (None if why else "v9fs_mount", why)


@pytest.mark.parametrize(
    "what",
    [
        *("[nf_tables]", "[nf-tables]", "nf-tables:hook", "nf_tables:h*", "nf-*:hook"),
        *("hook+0x0/0x1000 [nf-tables]", "hook [nf-tables]", "nf-tables:/^h/"),
    ],
)
def test_a_modules_file_can_have_another_dash(what: str, tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffffffff81000000 T _stext\nffffffff81000010 t hook\nffffffff81000030 T _etext\n"
        "ffffffffc0000000 t hook\t[nf_tables]\n"
    )
    assert told(answers("--kallsyms", path, what)) == [
        (0xFFFFFFFFC0000000, "hook", "nf_tables")
    ]


def test_an_exact_size_may_be_padded(tmp_path: Path) -> None:
    """The kernel counts to the next function, which is less than 64 bytes further."""
    strings = b"\0first\0second\0"
    path = tmp_path / "a.elf"
    path.write_bytes(elf_file([Row(1, 0x1000, 0x30), Row(7, 0x1080, 0x40)], strings))
    sizes = {0x2F: False, 0x30: True, 0x31: True, 0x6F: True, 0x70: False}
    asked = [f"first+0x8/{size:#x}" for size in sizes]
    found = [r["name"] == "first" for r in answers("--from", path, *asked)]
    assert dict(zip(sizes, found)) == sizes


def test_addresses_of_32_bits_have_8_digits(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(
        "00000000 A zero\n00400000 T _stext\n00400100 t low\n00400300 T _etext\n"
        "f8000000 t high\t[mod]\n"
    )
    asked = ("00400104", "high+4", "zero", "0x1000")
    run = ksyms("lookup", "--kallsyms", path, "--nearest", *asked)
    assert [line.split()[0] for line in run.stdout.splitlines()] == [
        *("00400104", "f8000004", "00000000", "00001000")
    ]
    assert [r["address"] for r in answers("--kallsyms", path, "low", "high")] == [
        *("0x400100", "0xf8000000")
    ]


@pytest.mark.parametrize(
    ("what", "near"),
    [
        ("scedule_timeout", "schedule_timeout"),
        ("schedule_timoeut", "schedule_timeout"),
        ("scheduleXtimeout", "schedule_timeout"),
        ("schedule_timeoutt", "schedule_timeout"),
        ("Schedule_Timeout", "schedule_timeout"),
        ("schedule_timeout.isra.0", "schedule_timeout"),
        ("___schedule_timeout+0x12", "schedule_timeout"),
        ("sys_openat", "__x64_sys_openat"),
        ("__arm64_sys_openat", "__x64_sys_openat"),
        ("v9fs_munt", "v9fs_mount"),
        ("init_taks", "init_task"),
    ],
)
def test_a_near_name_is_offered(what: str, near: str, kernel: Kernel) -> None:
    run = ksyms("lookup", "--from", kernel.elf, what)
    assert (run.returncode, run.stdout) == (1, "")
    name = what.partition("+")[0]
    said = re.fullmatch(
        rf"ksyms: In \S+ no symbol is called {name}\. Did you mean ([^\n]+)\?\n", run.stderr
    )
    assert said, run.stderr
    assert near in re.split(", | or ", said[1])
    [record] = answers("--from", kernel.elf, what)
    assert near in record["similar"]
    assert all(answers("--from", kernel.elf, each)[0]["name"] for each in record["similar"])


def test_no_name_is_near_every_other(kernel: Kernel) -> None:
    for what in ("qwertyuiop", "a", "_____", ".", "a" * 4096, "\udcff"):
        run = ksyms("lookup", "--from", kernel.elf, "--", what)
        assert run.returncode == 1
        assert "Did you mean" not in run.stderr


@pytest.mark.parametrize("lists", ["functions", "all", None, ["x"]])
def test_a_kernel_that_lists_functions_only(
    lists: Any, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file's note says so; an older file's note does not."""
    facts = library.load(text).facts
    told = {**facts, "lists": lists} if lists else {**facts}
    if lists is None:
        del told["lists"]
    monkeypatch.setattr(library.SymbolTable, "facts", property(lambda _: told))
    only = "functions only"
    for what in ("init_task", "init_*", "init_task+0x8"):
        assert main(["lookup", "--from", str(text), what]) == 1
        assert (only in capsys.readouterr().err) == (lists == "functions")
    for what in ("0x1000", "twin+0x3fff"):
        assert main(["lookup", "--from", str(text), what]) == 1
        assert only not in capsys.readouterr().err
    assert main(["info", str(text)]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^(lists) +(\S.*)$|^  (data symbols) +(\S.*)$", out, re.M)
    words = f"{only}: the kernel was built without CONFIG_KALLSYMS_ALL"
    assert [tuple(filter(None, row)) for row in rows] == {
        "functions": [("lists", words), ("data symbols", f"no, it lists {words}")],
        "all": [("lists", "functions and data"), ("data symbols", "yes")],
    }.get(str(lists), [])


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
    """The kernel's symbols have one, modules' none; an absolute symbol's is its value."""
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


def test_an_unknown_link_address(kernel: Kernel) -> None:
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
    assert [r["query"] for r in found if r["name"] is None][-5:] == [
        *("0x0", "0x1" + 16 * "0", "nothing", "/[/", "")
    ]
    assert "error" in found[-2]
    assert list(dict.fromkeys(r["query"] for r in found[1:])) == list(
        dict.fromkeys([*asked, ""])
    )


PAIRED = [
    *("ffffffff81000011", "", "0x10", "twin", " ", "nothing", "/[/", "0x20-0x10", "alpha+0x99"),
    *("\udcff", "0xffffffff81000041\r", "[nothing]", "-", "beta", ""),
]


def test_every_line_has_an_answer(text: Path) -> None:
    """In its order, also one that is empty or asks nothing; with the line's number in JSON."""
    lines = "\n".join(PAIRED).encode("utf-8", "surrogateescape")
    command: list[str | Path] = [COMMAND, "lookup", "--kallsyms", text, "-"]
    rows = subprocess.run(command, input=lines, capture_output=True).stdout.splitlines()
    have = [row.decode().split()[:4] for row in rows]
    none = ["??", "?", "?"]
    assert [row[3:] if row[:3] == none else row[3] for row in have] == [
        *("alpha+0x1/0x30", [], ["0x10"], "twin", "twin", [], ["nothing"], ["/[/"]),
        *(["0x20-0x10"], ["alpha+0x99"], [r"\xff"], "beta+0x1/0x40", ["[nothing]"], ["-"]),
        "beta",  # and the last has no end, so it is no line
    ]
    run = subprocess.run([*command, "--json"], input=lines, capture_output=True)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [r["line"] for r in records] == [1, 2, 3, 4, 4, *range(5, len(PAIRED))]
    assert [r["query"] for r in records] == [
        line.strip() for line in PAIRED[:-1] for _ in range(2 if line == "twin" else 1)
    ]
    assert "line" not in answers("--kallsyms", text, "alpha")[0]


def test_an_empty_line_is_no_failure(text: Path) -> None:
    run = ksyms("lookup", "--kallsyms", text, "-", input="alpha\n\nbeta\n\n")
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split()[0] for line in run.stdout.splitlines()] == [
        *("ffffffff81000010", "??", "ffffffff81000040", "??")
    ]


def test_many_at_once_equal_single_ones(kernel: Kernel, placed: list[Line]) -> None:
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


def asked_of(placed: list[Line]) -> st.SearchStrategy[str]:
    """Every form of a question: mostly addresses and nothing else, in symbols or in none."""
    line = st.sampled_from(placed[::97])
    inside = st.builds(lambda line, by: line[0] + by, line, st.integers(0, 300))
    number = st.one_of(inside, inside, st.integers(0, 1 << 66))
    return st.one_of(
        *[st.builds(str.format, st.sampled_from(["{:#x}", "{:016x}", "0X{:X}"]), number)] * 4,
        st.builds(
            str.format, st.sampled_from([" {:#x}\t", "{:#x}+0x40", "[<{:x}>] f"]), number
        ),
        line.map(lambda line: line[2]),
        line.map(lambda line: f"{line[3] or 'vmlinux'}:{line[2]}+0x4"),
        line.map(lambda line: f"{line[0]:016x} {line[1]} {line[2]}"),
        st.sampled_from(["", "-", "0x", "0x_1", "0x12345g", "ffffffff", "0xffffff", "/x(/"]),
    )


class Lines(NamedTuple):
    """Return a sheet's output for lines of standard input, and if all had an answer."""

    out: str
    err: str
    complete: bool


def looked_up(sheet: AnswerRows | Records, blocks: list[list[str]], singly: bool) -> Lines:
    """Return the output for ``blocks`` of lines, each looked up ``singly`` or at once."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        line = 1
        for block in blocks:
            if singly:
                for number, text in enumerate(block, line):
                    sheet.add(parse_line(text), number)
            else:
                sheet.add_lines(block, line)
            sheet.flush()
            line += len(block)
    return Lines(out.getvalue(), err.getvalue(), sheet.complete)


@pytest.mark.parametrize(("near", "block"), [(False, BLOCK), (True, 3)])
@pytest.mark.parametrize("kind", [AnswerRows, Records])
def test_a_block_is_answered_as_its_lines_one_by_one(
    kind: type[AnswerRows | Records],
    near: bool,
    block: int,
    kernel: Kernel,
    placed: list[Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In whatever blocks they come, and however many are put out together."""
    monkeypatch.setattr(sheet_file, "BLOCK", block)
    one, few, many = (library.load(kernel.elf) for _ in range(3))
    many.numbers_of([0] * LOOKUPS)  # what is asked of it next goes by the spans

    @settings(deadline=None, max_examples=25)
    @given(st.lists(st.lists(asked_of(placed), max_size=12), max_size=4))
    def check(blocks: list[list[str]]) -> None:
        expected = looked_up(kind(one, near), blocks, singly=True)
        for table in (few, many):
            assert looked_up(kind(table, near), blocks, singly=False) == expected

    check()


def named_by_nm(path: Path) -> dict[str, list[int]]:
    """The addresses of each name, ascending, as nm has them."""
    found = defaultdict(list)
    for line in subprocess.check_output(["nm", "-n", path], text=True).splitlines():
        address, _, name = line.split(" ", 2)
        found[name].append(int(address, 16))
    return found


def test_every_name_once(kernel: Kernel) -> None:
    """By the index, since numpy is loaded: exactly the names that nm prints."""
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


def test_single_addresses_at_the_edges_of_blocks(kernel: Kernel, placed: list[Line]) -> None:
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
    """A program that holds both ends of a pipe asks so."""
    command: list[str | Path] = [COMMAND, "lookup", "--kallsyms", text, "-"]
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
    *("contextlib", "ctypes", "dataclasses", "inspect", "logging", "pathlib"),
    *("subprocess", "tempfile", "threading", "typing"),
    *("numpy", "zstandard", "ksyms._linker", "ksyms._snapshot", "ksyms._cli.serve"),
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
def test_malformed_questions(what: str, said: str, text: Path) -> None:
    run = ksyms("lookup", "--kallsyms", text, "alpha", what)
    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    run = ksyms("lookup", "--kallsyms", text, "-", input=f"{what}\nalpha\n")
    assert run.returncode == 1
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["??", "ffffffff81000010"]
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
def test_questions_without_an_answer(what: str, text: Path) -> None:
    """A line and a row on each, without what would be read as commands by a terminal."""
    lines = f"{what}\n".encode() + b"\xff\xfe\n"
    run = subprocess.run(
        [COMMAND, "lookup", "--kallsyms", text, "-"], input=lines, capture_output=True
    )
    assert run.returncode == 1
    assert re.fullmatch(rb"(\?\?  \?  \?  [^\0-\x1f]+\n){2}", run.stdout), run.stdout
    assert re.fullmatch(rb"(ksyms: In the image [^\0-\x1f]+[.?]\n){2}", run.stderr), run.stderr
    assert [r["name"] for r in answers("--kallsyms", text, "-", input=f"{what}\n")] == [None]


def test_a_range_over_everything(kernel: Kernel, placed: list[Line]) -> None:
    """The output is a stream: a reader of ten lines need not wait for the rest."""
    arguments: list[str | Path] = ["lookup", "--from", kernel.elf, "0x0-0x10000000000000000"]
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
    command: list[str | Path] = [COMMAND, "lookup", "--kallsyms", path, "_stext", "-"]
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
    from ksyms._cli.question import find_answers, parse_question

    asked = parse_question(glob)
    found = find_answers(table, asked)
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
        word, end, _ = strings[row.name :].partition(b"\0")
        if end and word:
            expected[word.decode("utf-8", "surrogateescape")].append(row.value)
    table = library.load(memoryview(elf_file(rows, strings, bits=form[0], order=form[1])))
    for name in [*expected, "a", "b", "ab", "x" * 50, "abc", "bc", "c"]:
        assert [s.address for s in table.find(name)] == expected.get(name, [])
