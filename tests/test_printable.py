"""What a terminal is given: nothing that it obeys, one row a symbol, whatever names are."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms as library
from command import COMMAND, TEXT, write_root
from elf_files import REL, Row, Section, elf_file
from ksyms._cli import render
from ksyms._cli.question import parse_line
from ksyms._cli.sheet import AnswerRows, Records
from ksyms._printable import printable, word

# Each as a name of a symbol, of a file, and as what is asked.
NAMES = [
    *(b"esc\x1b[31mRED", b"title\x1b]0;PWNED\x07", b"clear\x1b[2J\x1b[H", b"\x1bc", b"\x1b"),
    *(
        b"nl\nffffffff81000999  T  1  forged  .text",
        b"\n",
        b"cr\rXXXX",
        b"crlf\r\nrow",
        b"tab\tx",
    ),
    *(
        b"bs\x08\x08\x08evil",
        b"bell\x07",
        b"vt\x0bx",
        b"ff\x0cx",
        b"del\x7f",
        b"so\x0e",
        b"nl\n\n",
    ),
    *(b"us\x1f", b"fs\x1c", b"gs\x1d", b"rs\x1e", b"\x01\x02\x03"),
    *("c1\x9b31m".encode(), b"raw\x9b31m", "nel\x85row".encode(), b"bad\xff\xfeutf8", b"\xc3"),
    *(b"cut\xe2\x80", b"overlong\xc0\x8a", b"surrogate\xed\xa0\x80", b"beyond\xf5\x80\x80\x80"),
    *("lre\u202ax\u202c".encode(), "rlo\u202etxt.exe".encode(), "rli\u2067x\u2069".encode()),
    *("lrm\u200ex".encode(), "rlm\u200fx".encode(), "alm\u061cx".encode()),
    *(
        "zwsp\u200bx".encode(),
        "zwj\u200dx".encode(),
        "bom\ufeffx".encode(),
        "soft\xadx".encode(),
    ),
    *("ls\u2028row".encode(), "ps\u2029row".encode(), "tag\U000e0041".encode()),
    *("filler\u3164x".encode(), "choose\ufe0f".encode(), "cgj\u034fx".encode()),
    *("accent\u0301x".encode(), "enclosed\u20ddx".encode(), "sign\u093fx".encode()),
    *("jamo\u1175x".encode(), "late\ud7b0x".encode(), "zwnj\u200cx".encode()),
    *("nbsp\xa0x".encode(), "wide\u3000x".encode(), "unassigned\u0378".encode()),
    *(
        b"two  blanks  .text",
        b" ",
        b" before",
        b"after ",
        b"a b",
        b"forged  T  1  x  .text  = y",
    ),
    *("café".encode(), "функция".encode(), b"[red]rich[/red]", b":smile:", b"back\\slash"),
]
START = 0xFFFFFFFF81000000
SIZE = 16
STRAY = re.compile("[\udc80-\udcff]")


def text_of(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def in_a_message(name: bytes) -> bytes:
    """As a message has it: no two blanks together."""
    shown = printable(text_of(name))
    return re.sub(" {2,}", lambda blanks: r"\x20" * len(blanks[0]), shown).encode()


def hostile(names: list[bytes], section: str = ".text") -> bytes:
    """An ELF file with a function of each name."""
    strings, rows = b"\0", []
    for number, name in enumerate(names):
        rows.append(Row(len(strings), START + SIZE * number, SIZE))
        strings += name + b"\0"
    code = Section(section, 1, 6, START, b"\x90" * SIZE * len(names), align=16)
    return elf_file(rows, strings, sections=(code,))


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "inj.elf"
    path.write_bytes(hostile(NAMES))
    return path


def run(*arguments: str | bytes | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command, and see that all it says can be shown."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=False, **options
    )
    assert_shown(done.stdout)
    assert_shown(done.stderr)
    assert b"Traceback" not in done.stderr
    return done


def assert_shown(data: bytes) -> None:
    """Hold it against Unicode's own classes, and the algorithm of bidi's marks."""
    for character in data.decode():
        if character != "\n":
            kind = unicodedata.category(character)
            assert kind not in ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"), ascii(character)
            assert not kind.startswith("M"), ascii(character)
            assert kind != "Zs" or character == " ", ascii(character)
            assert unicodedata.bidirectional(character) not in (
                *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B"),
            )


def cells(row: bytes) -> list[str]:
    """What lies between the columns of a table."""
    return re.split(" {2,}", row.decode().strip())


# -- one row a symbol ------------------------------------------------------------------------


def test_a_row_for_each_symbol(elf: Path) -> None:
    done = run("lookup", "--from", elf, "*")
    rows = [cells(row) for row in done.stdout.splitlines()]
    assert (done.returncode, len(rows)) == (0, len(NAMES))
    assert [row[:3] + row[4:] for row in rows] == [
        [f"{START + SIZE * number:016x}", "T", str(SIZE), ".text"]
        for number in range(len(NAMES))
    ]
    assert all(" " not in row[3] for row in rows)
    assert all(len(row.split()) == 5 for row in done.stdout.splitlines())


def test_names_are_shown_as_readelf_shows_them(elf: Path) -> None:
    """Of readelf 2.40; but it makes no letter of DEL, and has its own form of stray bytes."""
    told = subprocess.check_output(["readelf", "-sW", "--unicode=escape", elf])
    theirs = [line[59:] for line in told.splitlines()[4:]]
    ours = [cells(row)[3] for row in run("lookup", "--from", elf, "*").stdout.splitlines()]
    held = 0
    for name, mine, other in zip(NAMES, ours, theirs, strict=True):
        plain = name.isascii() and b"\x7f" not in name
        if plain or (not STRAY.search(text_of(name)) and re.search(r"\\u", mine)):
            assert mine.replace(r"\x20", " ") == other.decode()
            held += 1
    assert held > 30


def test_names_in_json_are_exact(elf: Path) -> None:
    done = run("lookup", "--from", elf, "--json", "*")
    told = [json.loads(line)["name"] for line in done.stdout.splitlines()]
    assert [name.encode("utf-8", "surrogateescape") for name in told] == NAMES


def test_arguments_find_their_symbols(elf: Path) -> None:
    """One row of each that is there, one sentence of another that is not."""
    # Blanks around a question are none of it, and brackets ask for a module.
    asked = [name for name in NAMES if name == name.strip() and not name.startswith(b"[")]
    there = [b"/^" + re.escape(name) + b"$/" for name in asked]
    done = run("lookup", "--from", elf, *there, *(b"no" + name for name in asked))
    rows, sentences = done.stdout.splitlines(), done.stderr.splitlines()
    assert done.returncode == 1
    places = [START + SIZE * NAMES.index(name) for name in asked]
    assert [int(row.split()[0], 16) for row in rows] == places
    assert len(sentences) == len(asked)
    for name, sentence in zip(asked, sentences):
        assert sentence.startswith(b"ksyms: In ")
        if b":" not in name:
            assert b" no" + in_a_message(name) in sentence


def test_lines_of_standard_input(elf: Path) -> None:
    """Each has one row, also of what is not there."""
    asked = [b"no" + name for name in NAMES if b"\n" not in name]
    done = run("lookup", "--from", elf, "-", input=b"\n".join(asked) + b"\n")
    assert done.stdout.count(b"\n") == len(asked)
    done = run("lookup", "--from", elf, "--json", "-", input=b"\n".join(asked) + b"\n")
    told = [json.loads(line)["query"] for line in done.stdout.splitlines()]
    assert [query.encode("utf-8", "surrogateescape") for query in told] == [
        query.strip(b" \t\r\n\v\f") for query in asked
    ]


def test_other_names_of_an_address(tmp_path: Path) -> None:
    """A row each: their blanks, lines and columns are theirs."""
    strings = b"\0" + b"\0".join(NAMES) + b"\0"
    rows, at = [], 1
    for name in NAMES:
        rows.append(Row(at, START, SIZE))
        at += len(name) + 1
    (tmp_path / "k.elf").write_bytes(elf_file(rows, strings))
    done = run("lookup", "--from", tmp_path / "k.elf", f"{START:#x}")
    (row,) = done.stdout.splitlines()
    assert cells(row)[-1].count(", ") == 7
    done = run("lookup", "--from", tmp_path / "k.elf", "--json", f"{START:#x}")
    record = json.loads(done.stdout)
    assert sorted([record["name"], *record["aliases"]]) == sorted(map(text_of, NAMES))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(min_size=1).map(lambda name: name.replace(b"\0", b"0")), min_size=1))
def test_any_names_have_a_row_each(names: list[bytes]) -> None:
    table = library.load(memoryview(hostile(names)))
    everything = [f"{START:#x}-{START + SIZE * len(names):#x}"]
    shown, records = io.StringIO(), io.StringIO()
    for kind, stream in ((AnswerRows, shown), (Records, records)):
        with redirect_stdout(stream):
            sheet = kind(table, False)
            sheet.add(parse_line(everything[0]))
            sheet.flush()
    rows = shown.getvalue().removesuffix("\n").split("\n")
    assert_shown(shown.getvalue().encode())
    assert [row.split()[0] for row in rows] == [
        f"{START + SIZE * number:016x}" for number in range(len(names))
    ]
    assert all(len(row.split()) == 5 for row in rows)
    told = [json.loads(line)["name"] for line in records.getvalue().splitlines()]
    assert told == [text_of(name) for name in names]


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))))
def test_any_cells_stay_apart(rows: list[tuple[str, str, str]]) -> None:
    with redirect_stdout(io.StringIO()) as out:
        render.table([[*row, "end"] for row in rows])
    lines = out.getvalue().split("\n")[:-1]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows):
        assert_shown(line.encode())
        told = re.split(" {2,}", line)
        assert told[3:] == ["end"]
        for cell, shown in zip(row, told):
            if (
                cell.isascii()
                and cell.isprintable()
                and "  " not in cell
                and cell == cell.strip()
            ):
                assert shown == cell


@given(st.text(st.characters(codec=None)))
def test_any_text(text: str) -> None:
    shown = printable(text)
    assert_shown(shown.encode())
    assert printable(shown) == shown
    assert " " not in word(text)
    assert not text or shown
    if text.isascii() and text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "^[[31m"),
        ("a\0b\t\n\r\x7f", "a^@b^I^J^M^?"),
        ("\x80\x9f\xad", r"\u0080\u009f\u00ad"),
        ("\udc80\udcff\ud800", r"\x80\xff\ud800"),
        ("\u202e\u2066\u200f\u061c\u2028", r"\u202e\u2066\u200f\u061c\u2028"),
        ("\U000e0041", r"\U000e0041"),
        ("\u3164\ufe0f\u2800", r"\u3164\ufe0f\u2800"),
        ("e\u0301 a\u20dd \u0915\u093f", r"e\u0301 a\u20dd " "\u0915" r"\u093f"),
        ("\u1112\u1175\u11ab\ud7cb", "\u1112" r"\u1175\u11ab\ud7cb"),
        ("\u200b\u200c\u200d\u2060\ufeff", r"\u200b\u200c\u200d\u2060\ufeff"),
        ("café Ω 語 \\x1b", "café Ω 語 \\x1b"),
    ],
)
def test_the_form(text: str, shown: str) -> None:
    assert printable(text) == shown


# -- every command ---------------------------------------------------------------------------


RELEASE = "6.1\x1b[2J\u202e\x9b-x"
MODULE = "mod\u202e\u2066"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's files whose facts are hostile too."""
    path = tmp_path_factory.mktemp("root")
    names = [name for name in NAMES if not re.search(rb"[\s\x1c-\x1f]|^\[", name)]
    lines = [b"%x t %b" % (START + SIZE * number, name) for number, name in enumerate(names, 1)]
    lines = [b"%x T _stext" % START, *lines, b"%x T _etext" % (START + 0x1000)]
    lines.append(b"ffffffffc0000000 t inside\x1b[31m\xff\t[%b]" % MODULE.encode())
    write_root(path, "")
    (path / "proc/kallsyms").write_bytes(b"".join(line + b"\n" for line in lines))
    (path / "proc/modules").write_text(f"{MODULE} 4096 0 - Live 0xffffffffc0000000\n")
    (path / "proc/version").write_text(f"Linux version {RELEASE} (u@h) #1\n")
    (path / "proc/sys/kernel/osrelease").write_text(RELEASE + "\n")
    (path / "proc/sys/kernel/random").mkdir()
    (path / "proc/sys/kernel/random/boot_id").write_text("\x1b]0;boot\x07\n")
    return path


@pytest.fixture(scope="module")
def snapshot(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / os.fsdecode(b"k\x1b[31m\xe2\x80\xae\xff\n.elf")
    done = run("snapshot", "--root", root, "-o", path)
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert b"k^[[31m\\u202e\\xff^J.elf: " in line
    assert line.endswith(rb"of 6.1^[[2J\u202e\u009b-x")
    return path


@pytest.mark.parametrize(
    "arguments",
    ["info", "info --root", "map", "map --root", "lookup * --root", "lookup * --from", "diff"],
)
def test_tables(arguments: str, snapshot: Path, root: Path, elf: Path) -> None:
    words = arguments.split()
    files = [elf, snapshot] if words == ["diff"] else [root if "--root" in words else snapshot]
    done = run(*words, *files)
    assert done.returncode == (words == ["diff"])
    assert done.stdout
    assert done.stderr == b""
    if words[0] in ("info", "map"):
        assert rb"mod\u202e\u2066" in done.stdout
    if words[0] == "info":
        assert rb"6.1^[[2J\u202e\u009b-x" in done.stdout


@pytest.mark.parametrize("arguments", ["info", "map", "diff", "lookup * --from"])
def test_facts_in_json_are_exact(arguments: str, snapshot: Path) -> None:
    files = [snapshot, snapshot] if arguments == "diff" else [snapshot]
    done = run(*arguments.split(), *files, "--json")
    assert done.stdout.isascii()
    if arguments == "lookup * --from":
        assert f"inside\x1b[31m\udcff {MODULE}" in [
            f"{told['name']} {told['module']}"
            for told in map(json.loads, done.stdout.splitlines())
        ]
        return
    facts = json.loads(done.stdout)
    facts = facts["old"] if arguments == "diff" else facts
    assert facts["release"] == RELEASE
    if arguments != "map":
        assert os.fsencode(facts["file"]) == os.fsencode(snapshot)


def test_a_section_of_any_name(tmp_path: Path) -> None:
    for number, section in enumerate(("a\x1b[31m\nb  c", "\u202e", " ")):
        path = tmp_path / f"{number}.elf"
        path.write_bytes(hostile([b"one", b"two"], section))
        assert run("lookup", "--from", path, "*").stdout.count(b"\n") == 2
        done = run("info", path)
        assert done.stdout.count(b"\n") == done.stdout.split(b"sections")[0].count(b"\n") + 2
        run("map", path)
        told = json.loads(run("lookup", "--from", path, "--json", "one").stdout)
        assert told["section"] == section


def test_messages_with_names(elf: Path, tmp_path: Path) -> None:
    """Two lines of each text that is not there."""
    places = [os.fsencode(tmp_path) + b"/" + name + b"/none" for name in NAMES]
    done = run("decode", "--from", elf, *places)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 2 * len(NAMES))
    for name, sentence in zip(NAMES, lines[::2]):
        shown = re.sub(
            " {2,}", lambda blanks: r"\x20" * len(blanks[0]), printable(text_of(name))
        )
        assert shown.encode() + b"/none cannot be read: " in sentence


@pytest.mark.parametrize("name", NAMES[::6], ids=range(len(NAMES[::6])))
def test_messages_of_files(name: bytes, elf: Path, tmp_path: Path) -> None:
    """Of a file that is not there, of one that is none; of arguments that are wrong."""
    place = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(place)).write_bytes(b"nothing")
    assert run("lookup", "--from", place, "x").stderr.count(b"\n") == 2
    assert run("info", place + b"/none").stderr.count(b"\n") == 2
    assert run(b"--" + name).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["diff", "NAME", "NAME"],
        ["map", "NAME"],
        ["map", "--root", "NAME"],
        ["snapshot", "--root", "NAME"],
        ["snapshot", "--kallsyms", "NAME"],
        ["snapshot", "--kernel", "NAME"],
        ["snapshot", "--kernel", "NAME", "--module", "NAME@NAME"],
        ["snapshot", "--layout", "NAME"],
        ["snapshot", "NAME"],
        ["collect", "--root", "NAME", "-o", "NAME"],
        ["lookup", "--root", "NAME", "NAME"],
        ["lookup", "--from", "ELF", "NAME:NAME"],
        ["lookup", "--from", "ELF", "NAME+0x99/0x10"],
        ["lookup", "--from", "ELF", "/[NAME/"],
        ["lookup", "--from", "ELF", "--nearest", "0x1", "--json"],
        ["lookup", "--from", "ELF", "--nearest", "0xffffffffffffffff", "0x1"],
        ["decode", "--slide", "NAME"],
        ["decode", "--from", "ELF", "--boot", "NAME"],
        ["status", "NAME"],
        ["NAME"],
    ],
    ids=" ".join,
)
def test_messages_with_arguments(arguments: list[str], elf: Path, tmp_path: Path) -> None:
    name = "n\x1b]0;x\x07\u202e\udcff\r\n\x9bz"
    words = [word.replace("NAME", name).replace("ELF", str(elf)) for word in arguments]
    done = run(*words, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode in (1, 2)
    assert done.stderr or "--json" in words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["snapshot", "map"])
def test_summaries_with_blanks(command: str, root: Path, tmp_path: Path) -> None:
    """A release with columns of its own has no columns."""
    other = tmp_path / "root"
    shutil.copytree(root, other)
    release = "6.1   7 modules   of 9.9  "
    (other / "proc/version").write_text(f"Linux version {release}(u@h) #1\n")
    (other / "proc/sys/kernel/osrelease").write_text(release + "x\n")
    done = run(command, "--root", other, "-o", tmp_path / "o  ut")
    assert done.returncode == 0
    first = done.stdout.split(b"\n")[0]
    assert b"  " not in first
    assert rb"/o\x20\x20ut: " in first
    assert rb"6.1\x20\x20\x207 modules\x20\x20\x20of 9.9" in first
    missing = run("info", tmp_path / "no  ne").stderr.splitlines()[0]
    assert rb"no\x20\x20ne" in missing


def test_summaries_with_paths(root: Path, tmp_path: Path) -> None:
    name = "n\x1b]0;x\x07\u202e\udcff\r\nz"
    for command in ("snapshot", "collect", "map"):
        done = run(command, "--root", root, "-o", tmp_path / name)
        assert done.returncode == 0
        first = done.stdout.split(b"\n")[0]
        assert rb"/n^[]0;x^G\u202e\xff^M^Jz: " in first
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [os.fsencode(name)]


# -- decode ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--no-offset"], ["--explain"], ["--check"]])
def test_what_decode_adds(options: list[str], elf: Path) -> None:
    """Lines stay lines, their own bytes what they were; what is added is one word."""
    ends = [b" (raw \x1b[1m\xff)", b"", b"\r"]
    lines = [
        b"\x1b[2m%d: [<%x>]%b" % (number, START + SIZE * number + 1, ends[number % 3])
        for number in range(len(NAMES))
    ]
    done = subprocess.run(
        [COMMAND, "decode", "--from", elf, *options],
        input=b"".join(line + b"\n" for line in lines),
        capture_output=True,
    )
    assert_shown(done.stderr)
    out = done.stdout.split(b"\n")[:-1]
    assert len(out) == len(lines)
    for line, told, name in zip(lines, out, NAMES):
        before, address, after = re.split(rb"(ffffffff8100[0-9a-f]{4})", line)
        if options == ["--no-offset"]:
            added = told.removeprefix(before).removesuffix(after)
            assert before + added + after == told
        else:
            after = after.removeprefix(b">]")
            before += address + b">] "
            added = told.removeprefix(before).removesuffix(after)
            assert before + added + after == told
            assert added.endswith(b"+0x1/0x10")
            added = added.removesuffix(b"+0x1/0x10")
        assert_shown(added)
        shown = word(text_of(name))
        if options == ["--no-offset"]:  # where it would be two frames
            shown = shown.replace(";", r"\x3b")
        assert added == shown.encode()
        assert len(added.split()) == 1
        assert b" " not in added


def test_decode_in_json_is_exact(elf: Path) -> None:
    text = b"".join(b"%x\n" % (START + SIZE * number) for number in range(len(NAMES)))
    done = run("decode", "--from", elf, "--json", input=text)
    told = [json.loads(line)["symbol"] for line in done.stdout.splitlines()]
    assert [name.encode("utf-8", "surrogateescape") for name in told] == NAMES


def test_a_module_in_a_decoded_text(snapshot: Path) -> None:
    done = run("decode", "--from", snapshot, input=b"at ffffffffc0000004 is\n")
    assert done.stdout == (
        b"at ffffffffc0000004 inside^[[31m\\xff+0x4/0x1000 [mod\\u202e\\u2066] is\n"
    )


# -- where it goes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-16"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "LANGUAGE": "\x1b[31m", "TERM": "\x1b[31m", "COLUMNS": "9" * 5000},
    ],
    ids=str,
)
def test_any_locale(more: dict[str, str], elf: Path) -> None:
    """The same bytes go out, and the same name is found."""
    usual = run("lookup", "--from", elf, "*", "café").stdout
    environment = {**os.environ, **more}
    assert run("lookup", "--from", elf, "*", "café", env=environment).stdout == usual
    asked = "café\n".encode()
    assert run("lookup", "--from", elf, "-", input=asked, env=environment).returncode == 0
    for arguments in (["info", elf], ["map", elf], ["lookup", "-h"], ["diff", elf, elf]):
        assert run(*arguments, env=environment).returncode == 0
    assert run("lookup", "--from", elf, "/é[/", env=environment).returncode == 2


def test_colours_are_all_that_a_terminal_gets(elf: Path) -> None:
    file = str(elf)
    for arguments in (["lookup", "--from", file, "*"], ["info", file], ["map", file]):
        plain = run(*arguments).stdout.decode()
        coloured = on_terminal(arguments)
        assert "\x1b[" in coloured
        assert re.sub(r"\x1b\[[\d;]*m", "", coloured).replace("\r\n", "\n") == plain


def on_terminal(arguments: list[str]) -> str:
    """What the command puts out on a terminal that says of itself that it has colours."""
    main, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([COMMAND, *arguments], stdout=other, env=environment) as process:
        os.close(other)
        data = b"".join(pieces(main))
        assert process.wait() == 0
    os.close(main)
    return data.decode()


def pieces(fd: int) -> Iterator[bytes]:
    try:
        while piece := os.read(fd, 1 << 16):
            yield piece
    except OSError:  # EIO: nobody has its other side open any more
        return


def test_one_place_prints() -> None:
    """The commands print by the renderer; only the line of progress is beside it."""
    directory = Path(render.__file__).parent
    printing = {
        path.name
        for path in directory.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "json.dumps")
    }
    assert printing == {"render.py", "progress.py"}


def test_an_error_shows_its_names(tmp_path: Path) -> None:
    """Also in Python, where it ends on a terminal by print() or a traceback."""
    with pytest.raises(library.KsymsError) as failed:
        library.load(tmp_path / "n\x1b[31m\n\u202e")
    for told in (str(failed.value), failed.value.what, failed.value.remedy):
        assert_shown(told.encode())
        assert "\n" not in told
    assert r"n^[[31m^J\u202e" in failed.value.what


def test_complaints_need_no_stderr() -> None:
    full = io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)
    with redirect_stderr(full):
        render.complain("Nobody hears this.", "Nobody needs to.")
    full.detach().close()


def test_the_texts_of_the_tests_are_shown_as_they_were(tmp_path: Path) -> None:
    """Names as kernels have them are not touched."""
    (tmp_path / "kallsyms").write_text(TEXT)
    done = run("lookup", "--kallsyms", tmp_path / "kallsyms", "*")
    names = [line.split()[2] for line in TEXT.splitlines()]
    assert sorted(cells(row)[3] for row in done.stdout.splitlines()) == sorted(names)
    shutil.copy(tmp_path / "kallsyms", tmp_path / "other")
    assert run("diff", tmp_path / "kallsyms", tmp_path / "other").returncode == 0


def test_a_relocatable_file(tmp_path: Path) -> None:
    data = elf_file([Row(1, 0, 8)], b"\0a\x1b[31m\0", kind=REL)
    (tmp_path / "m.ko").write_bytes(data)
    assert b"a^[[31m" in run("lookup", "--from", tmp_path / "m.ko", "*").stdout
