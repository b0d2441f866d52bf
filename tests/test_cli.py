"""The command line as whole processes: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import struct
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from command import COMMAND, TEXT, ksyms, names, nm

BUILD_ID = bytes(range(20))


@pytest.fixture
def elf(tmp_path: Path, text: Path) -> Path:
    path = tmp_path / "small.elf"
    assert ksyms("snapshot", "--kallsyms", text, "-o", path).returncode == 0
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Another machine's files: a big-endian one, so that nothing of this one can help."""
    path = tmp_path / "root"
    note = struct.pack(">III4s20s", 4, 20, 3, b"GNU", BUILD_ID)
    for name, data in {
        "proc/kallsyms": TEXT.encode(),
        "proc/modules": b"mod 16384 0 - Live 0xffffffffc0000000 (OE)\n",
        "proc/version": b"Linux version 6.9.1-test (you@there) #1 SMP\n",
        "proc/sys/kernel/osrelease": b"6.9.1-test\n",
        "proc/sys/kernel/arch": b"s390x\n",
        "proc/sys/kernel/random/boot_id": b"4b1d2c3e-0000-4000-8000-000000000001\n",
        "sys/kernel/cpu_byteorder": b"big\n",
        "sys/kernel/notes": note,
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


# -- help, version, wrong arguments ---------------------------------------------------------


@pytest.mark.parametrize("command", ["", "snapshot", "info", "lookup", "diff"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(command: str, option: str) -> None:
    run = ksyms(*command.split(), option)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"usage: ksyms {command}".rstrip())
    assert "\nexamples:\n  ksyms " in run.stdout


def test_help_names_every_command_and_exit_status() -> None:
    out = ksyms("--help").stdout
    for word in ("snapshot", "info", "lookup", "diff"):
        assert re.search(rf"^    {word} +\w", out, re.M)
    assert re.search(r"^exit status: 0 .*1 .*2 ", out, re.M)


def test_version() -> None:
    run = ksyms("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"ksyms {version('ksyms')}\n", "")


def test_as_a_module() -> None:
    run = subprocess.run([sys.executable, "-m", "ksyms", "--version"], capture_output=True)
    assert (run.returncode, run.stdout) == (0, ksyms("--version").stdout.encode())


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        "--nonsense",
        "snapshot extra",
        "snapshot -o",
        "snapshot --root a --kallsyms b",
        "info a b",
        "info --root",
        "lookup",
        "lookup --from",
        "lookup --json",
    ],
)
def test_wrong_arguments(arguments: str, tmp_path: Path) -> None:
    run = ksyms(*arguments.split(), cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("usage: ksyms")
    assert "error: " in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


# -- snapshot -------------------------------------------------------------------------------


def test_snapshot_writes_one_file(text: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    run = ksyms("snapshot", "--kallsyms", text, cwd=work)
    assert (run.returncode, run.stderr) == (0, "")
    assert [path.name for path in work.iterdir()] == ["kernel.elf"]
    size = (work / "kernel.elf").stat().st_size
    assert run.stdout == (
        f"kernel.elf: 10 symbols, 1 modules, {size} bytes, of an unknown release\n"
    )
    assert nm(work / "kernel.elf") == names()


def test_snapshot_is_its_owners_only(text: Path, tmp_path: Path) -> None:
    """Kernel addresses are secrets, whatever the umask."""
    path = tmp_path / "new.elf"
    ksyms("snapshot", "--kallsyms", text, "-o", path, umask=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_snapshot_to_stdout(text: Path, elf: Path, tmp_path: Path) -> None:
    """The same bytes as into a file, but for the time in the note."""
    run = subprocess.run(
        [COMMAND, "snapshot", "--kallsyms", text, "-o", "-"], capture_output=True, cwd=tmp_path
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.startswith(b"\x7fELF")
    taken = re.compile(rb'"time":"[^"]{20}"')
    assert taken.sub(b"", run.stdout) == taken.sub(b"", elf.read_bytes())
    assert len(taken.findall(run.stdout)) == 1
    copy = tmp_path / "copy.elf"
    copy.write_bytes(run.stdout)
    assert nm(copy) == names()
    assert not (tmp_path / "-").exists()


def test_snapshot_json(root: Path, tmp_path: Path) -> None:
    run = ksyms("snapshot", "--root", root, "-o", "a.elf", "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == {
        "file": "a.elf",
        "bytes": (tmp_path / "a.elf").stat().st_size,
        "symbols": 10,
        "modules": 1,
        "release": "6.9.1-test",
        "build_id": BUILD_ID.hex(),
    }
    assert run.stdout.count("\n") == 1


def test_snapshot_of_a_root(root: Path, tmp_path: Path) -> None:
    """readelf tells the machine, the byte order and the build-id of the other machine."""
    path = tmp_path / "other.elf"
    run = ksyms("snapshot", "--root", root, "-o", path)
    size = path.stat().st_size
    assert run.stdout == f"{path}: 10 symbols, 1 modules, {size} bytes, of 6.9.1-test\n"
    out = subprocess.check_output(["readelf", "-h", "-n", path], text=True)
    assert re.search(r"Data: +2's complement, big endian", out)
    assert re.search(r"Machine: +IBM S/390", out)
    assert f"Build ID: {BUILD_ID.hex()}" in out
    assert nm(path) == names()


def test_snapshot_replaces_a_file(text: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.elf"
    path.write_bytes(b"old" * 100_000)
    assert ksyms("snapshot", "--kallsyms", text, "-o", path).returncode == 0
    assert nm(path) == names()
    assert {p.name for p in tmp_path.iterdir()} == {"kallsyms", "old.elf"}


def test_snapshot_over_its_own_source(text: Path) -> None:
    assert ksyms("snapshot", "--kallsyms", text, "-o", text).returncode == 0
    assert nm(text) == names()


@pytest.mark.parametrize("length", [200, 240, 255])
def test_snapshot_to_a_long_name(length: int, text: Path, tmp_path: Path) -> None:
    """255 bytes is what a file name may have (NAME_MAX)."""
    path = tmp_path / ("n" * length)
    run = ksyms("snapshot", "--kallsyms", text, "-o", path)
    assert (run.returncode, run.stderr) == (0, "")
    assert nm(path) == names()


def test_snapshot_to_a_name_that_is_not_utf8(text: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.elf")
    run = ksyms(
        *("snapshot", "--kallsyms", text, "-o", path),
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},  # as in a UTF-8 locale
        errors="surrogateescape",
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert path.exists()


@pytest.mark.parametrize("output", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"])
def test_snapshot_to_a_pipe_by_name(output: str, text: Path, tmp_path: Path) -> None:
    """A pipe is written to as it is."""
    run = subprocess.run(
        [COMMAND, "snapshot", "--kallsyms", text, "-o", output],
        capture_output=True,
        cwd=tmp_path,
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.startswith(b"\x7fELF")


def test_snapshot_to_a_fifo(text: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        run = ksyms("snapshot", "--kallsyms", text, "-o", fifo, timeout=30)
        data, _ = reader.communicate(timeout=30)
    assert run.returncode == 0
    assert data.startswith(b"\x7fELF")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_snapshot_to_a_device(text: Path) -> None:
    assert ksyms("snapshot", "--kallsyms", text, "-o", "/dev/null").returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_kallsyms_from_a_pipe(text: Path, tmp_path: Path) -> None:
    """As in ``ssh host cat /proc/kallsyms | ksyms snapshot --kallsyms /dev/stdin``."""
    run = ksyms(
        *("snapshot", "--kallsyms", "/dev/stdin", "-o", "piped.elf"), cwd=tmp_path, input=TEXT
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert nm(tmp_path / "piped.elf") == names()


# -- info -----------------------------------------------------------------------------------


def test_info_of_a_file(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.elf"
    ksyms("snapshot", "--root", root, "-o", path)
    run = ksyms("info", path)
    assert (run.returncode, run.stderr) == (0, "")
    rows = {tuple(line.split(None, 1)) for line in run.stdout.splitlines() if " " in line}
    assert rows >= {
        ("file", str(path)),
        ("release", "6.9.1-test"),
        ("machine", "s390x"),
        ("build-id", BUILD_ID.hex()),
        ("_stext", "0xffffffff81000000"),
        ("symbols", "10"),
        ("absolute", "0"),
    }
    assert re.search(r"^  \.text +0xffffffff81000000  0x1000 +7 symbols$", run.stdout, re.M)
    assert re.search(r"^boot id +4b1d2c3e-0000-4000-8000-000000000001$", run.stdout, re.M)
    assert re.search(
        r"^  mod  2 symbols  2 in no section  no build-id  OE  0$", run.stdout, re.M
    )


def test_info_of_a_file_json(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.elf"
    ksyms("snapshot", "--root", root, "-o", path)
    run = ksyms("info", "--json", path)
    facts = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert facts["file"] == str(path)
    assert (facts["release"], facts["machine"]) == ("6.9.1-test", "s390x")
    assert facts["build_id"] == BUILD_ID.hex()
    assert facts["symbols"] == 10
    assert facts["addresses"] == {"_text": "0xffffffff81000000", "_stext": "0xffffffff81000000"}
    assert {"name": ".text", "address": "0xffffffff81000000", "size": 4096, "symbols": 7} in (
        facts["sections"]
    )
    assert [file["name"] for file in facts["files"]] == ["kernel", "mod"]
    assert facts["files"][1]["module"] == {
        "size": 16384,
        "address": "0xffffffffc0000000",
        "refcount": 0,
        "dependants": [],
        "state": "Live",
        "taint": "OE",
        "srcversion": None,
        "version": None,
    }


def test_info_of_another_elf_file(tmp_path: Path) -> None:
    """An object file from the assembler: symbols, and no note."""
    path = assembled(tmp_path)
    run = ksyms("info", "--json", path)
    facts = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert facts["file"] == str(path)
    text = [section for section in facts["sections"] if section["name"] == ".text"]
    assert [(section["size"], section["symbols"]) for section in text] == [(24, 2)]
    assert ksyms("info", path).returncode == 0


def test_info_of_a_machine(root: Path) -> None:
    run = ksyms("info", "--root", root)
    assert (run.returncode, run.stderr) == (0, "")
    rows = {tuple(line.split(None, 1)) for line in run.stdout.splitlines() if " " in line}
    assert rows >= {
        ("snapshot", "possible"),
        ("release", "6.9.1-test"),
        ("kernel", "8 symbols"),
        ("mod", "2 symbols"),
    }


def test_info_of_a_machine_json(root: Path) -> None:
    run = ksyms("info", "--root", root, "--json")
    facts = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert (facts["possible"], facts["why"], facts["remedy"]) == (True, None, None)
    assert facts["symbols"] == {"kernel": 8, "mod": 2}
    assert "access" not in facts  # it is another machine's


@pytest.mark.parametrize("alone", [False, True], ids=["root", "kallsyms"])
def test_info_names_what_is_missing(alone: bool, root: Path) -> None:
    """Each source that is not there is said not to be."""
    source = ("--kallsyms", root / "proc/kallsyms") if alone else ("--root", root)
    facts = json.loads(ksyms("info", *source, "--json").stdout)
    there = {s["name"] for s in facts["sources"] if s["missing"] is None}
    expected = {s["name"] for s in facts["sources"] if (root / s["name"]).exists()}
    assert there == (set() if alone else expected)
    assert "proc/modules" in expected
    assert len(expected) < len(facts["sources"])


def test_info_of_a_machine_that_cannot(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    run = ksyms("info", "--root", tmp_path, "--json")
    facts = json.loads(run.stdout)
    assert run.returncode == 1
    assert facts["possible"] is False
    assert "proc/kallsyms cannot be read: No such file" in facts["why"]
    assert facts["remedy"]


def test_info_of_the_running_kernel() -> None:
    run = ksyms("info", "--json")
    facts = json.loads(run.stdout)
    assert (run.returncode, facts["possible"]) == (0, True)
    assert (facts["release"], facts["machine"]) == (os.uname().release, os.uname().machine)
    with open("/proc/kallsyms") as file:
        assert sum(facts["symbols"].values()) == len(file.readlines())


# -- lookup ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("0xffffffff81000010", "ffffffff81000010  T  ~48  alpha+0x0/0x30  .text"),
        ("0xffffffff8100003f", "ffffffff8100003f  T  ~48  alpha+0x2f/0x30  .text"),
        ("ffffffff8100003f", "ffffffff8100003f  T  ~48  alpha+0x2f/0x30  .text"),
        ("0XFFFFFFFF8100003F", "ffffffff8100003f  T  ~48  alpha+0x2f/0x30  .text"),
        # the first in kallsyms answers for an address that has two names
        ("ffffffff81000041", "ffffffff81000041  t  ~64  beta+0x1/0x40  .text  = beta_alias"),
        ("ffffffff81000fff", "ffffffff81000fff  t  ~3968  twin+0xf7f/0xf80  .text"),
        ("0xffffffffc0000005", "ffffffffc0000005  t  ~32  mod_start+0x5/0x20  [mod].text"),
        ("alpha", "ffffffff81000010  T  ~48  alpha  .text"),
        ("beta_alias", "ffffffff81000040  t  ~64  beta_alias  .text  = beta"),
        ("_etext", "ffffffff81001000  T  0  _etext  .text"),
        # a name that looks like an address of eight digits
        ("81000010", "ffffffff81400000  d  ~4096  81000010  .gap.data"),
    ],
)
def test_lookup(what: str, line: str, elf: Path) -> None:
    run = ksyms("lookup", "--from", elf, what)
    assert (run.returncode, run.stdout, run.stderr) == (0, line + "\n", "")


def test_lookup_of_a_name_in_two_places(elf: Path) -> None:
    run = ksyms("lookup", "--from", elf, "twin")
    assert run.returncode == 0
    assert [line.split() for line in run.stdout.splitlines()] == [
        ["ffffffff81000080", "t", "~3968", "twin", ".text"],
        ["ffffffffc0000020", "t", "~4064", "twin", "[mod].text"],
    ]


def test_lookup_of_several_in_the_order_asked(elf: Path) -> None:
    run = ksyms("lookup", "--from", elf, "twin", "ffffffff81000011", "_stext")
    assert run.returncode == 0
    assert [line.split()[3] for line in run.stdout.splitlines()] == [
        "twin",
        "twin",
        "alpha+0x1/0x30",
        "_stext",
    ]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("gamma", "no symbol is called gamma."),
        ("alph", "no symbol is called alph."),
        ("lpha", "no symbol is called lpha."),
        ("", "no symbol is called ."),
        ("0x10", "no symbol is at 0x10."),
        ("0xffffffff81001000", None),
        ("0xffffffff81001001", "no symbol is at 0xffffffff81001001."),
        ("0xffffffff80ffffff", "no symbol is at 0xffffffff80ffffff."),
        ("ffffffffffffffff", "no symbol is at ffffffffffffffff."),
        ("0x1ffffffff81000010", "no symbol is at 0x1ffffffff81000010."),
        ("-1", None),
    ],
)
def test_lookup_of_what_is_not_there(what: str, said: str | None, elf: Path) -> None:
    run = ksyms("lookup", "--from", elf, "--", what)
    assert "Traceback" not in run.stderr
    if what == "0xffffffff81001000":  # the end, which has a name
        assert run.returncode == 0
        assert "_etext+0x0/0x0" in run.stdout
        return
    assert (run.returncode, run.stdout) == (1, "")
    assert (said or "no symbol is called -1.") in run.stderr


def test_lookup_of_some_that_are_there(elf: Path) -> None:
    """What there is is printed, what there is not is said, and the exit status is 1."""
    run = ksyms("lookup", "--from", elf, "alpha", "nothing", "beta")
    assert run.returncode == 1
    assert [line.split()[3] for line in run.stdout.splitlines()] == ["alpha", "beta"]
    assert run.stderr == f"ksyms: In {elf} no symbol is called nothing.\n"


def test_lookup_json(elf: Path) -> None:
    run = ksyms("lookup", "--from", elf, "--json", "ffffffffc0000021", "nothing", "_etext")
    assert run.returncode == 1
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert sorted(answers, key=lambda answer: answer["query"]) == [
        {
            "query": "_etext",
            "name": "_etext",
            "address": "0xffffffff81001000",
            "size": 0,
            "exact": False,
            "module": None,
            "section": ".text",
            "binding": "global",
            "kind": "function",
            "letter": "T",
            "link_address": None,
            "aliases": [],
        },
        {
            "query": "ffffffffc0000021",
            "name": "twin",
            "address": "0xffffffffc0000020",
            "size": 0xFE0,
            "exact": False,
            "module": "mod",
            "section": "[mod].text",
            "binding": "local",
            "kind": "function",
            "letter": "t",
            "link_address": None,
            "aliases": [],
            "offset": 1,
        },
        {"query": "nothing", "name": None},
    ]


def test_lookup_without_a_file(text: Path, root: Path) -> None:
    """In a text, or another machine's files, without an ELF file between."""
    line = "ffffffff81000010  T  ~48  alpha  .text\n"
    assert ksyms("lookup", "--kallsyms", text, "alpha").stdout == line
    assert ksyms("lookup", "--root", root, "alpha").stdout == line


def test_lookup_in_the_running_kernel() -> None:
    with open("/proc/kallsyms") as file:
        address = next(line.split()[0] for line in file if line.endswith(" _stext\n"))
    run = ksyms("lookup", "_stext")
    assert (run.returncode, run.stdout.split()[:2]) == (0, [address, "T"])


def test_lookup_in_another_elf_file(tmp_path: Path) -> None:
    """An object file from the assembler: 0x08 to 0x18 is ``second``."""
    path = assembled(tmp_path)
    run = ksyms("lookup", "--from", path, "0x9", "first", "0x7")
    assert run.returncode == 0
    assert [line.split() for line in run.stdout.splitlines()] == [
        ["0000000000000009", "T", "16", "second+0x1/0x10", ".text"],
        ["0000000000000000", "T", "8", "first", ".text"],
        ["0000000000000007", "T", "8", "first+0x7/0x8", ".text"],
    ]


def test_lookup_prints_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_bytes(
        TEXT.replace("alpha", "al\udcffa").encode("utf-8", "surrogateescape")
    )
    run = subprocess.run(
        [COMMAND, "lookup", "--kallsyms", tmp_path / "kallsyms", "ffffffff81000010"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},  # as in a UTF-8 locale
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.startswith(b"ffffffff81000010  T  ~48  al")


@pytest.mark.parametrize(
    "arguments",
    [
        ("snapshot", "--kallsyms", "", "-o", "x.elf"),
        ("snapshot", "--root", "", "-o", "x.elf"),
        ("info", "--kallsyms", ""),
        ("info", ""),
        ("lookup", "--from", "", "_stext"),
        ("lookup", "--kallsyms", "", "_stext"),
    ],
    ids=" ".join,
)
def test_an_empty_name_is_not_the_running_kernel(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """``--from "$unset"`` must not answer from another kernel than was meant."""
    run = ksyms(*arguments, cwd=tmp_path)
    assert run.returncode in (1, 2)
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


# -- a terminal -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["info", "lookup"])
def test_colour_on_a_terminal_only(command: str, elf: Path) -> None:
    """Colour changes no word, and NO_COLOR turns it off."""
    arguments: list[str | Path] = (
        ["info", elf] if command == "info" else ["lookup", "--from", elf, "alpha"]
    )
    plain = ksyms(*arguments).stdout
    coloured = on_a_terminal(arguments, {"TERM": "xterm-256color", "COLUMNS": "200"})
    quiet = on_a_terminal(arguments, {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain + quiet
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == plain.split() == quiet.split()


def on_a_terminal(arguments: list[str | Path], environment: dict[str, str]) -> str:
    master, terminal = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [COMMAND, *arguments], stdout=terminal, env={**kept, **environment}
    ) as process:
        os.close(terminal)
        data = b""
        while part := _read_terminal(master):
            data += part
    os.close(master)
    assert process.returncode == 0
    return data.decode()


def _read_terminal(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # EIO: the other side has closed
        return b""


def test_the_start_is_instant() -> None:
    """No command's help waits for numpy or logging."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND, "snapshot", "--help"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0
    assert not re.search(r"\| +(numpy|logging)$", run.stderr, re.M)


def assembled(directory: Path) -> Path:
    """An object file with two functions, ``first`` of 8 bytes and ``second`` of 16."""
    source = directory / "two.s"
    source.write_text(
        ".text\n"
        ".globl first\n.type first,@function\nfirst:\n.zero 8\n.size first,8\n"
        ".globl second\n.type second,@function\nsecond:\n.zero 16\n.size second,16\n"
    )
    path = directory / "two.o"
    subprocess.run(["as", "-o", path, source], check=True)
    return path


@pytest.mark.parametrize(("pause", "shown"), [(0.0, False), (1.2, True)])
def test_progress_of_a_long_wait(tmp_path: Path, pause: float, shown: bool) -> None:
    """On stderr, if that is a terminal, and once a wait is longer than a second."""
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    lines = "".join(f"{0xFFFFFFFF81000000 + 16 * i:x} t f{i}\n" for i in range(30_000))
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "snapshot", "--kallsyms", fifo, "-o", tmp_path / "slow.elf"],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    ) as run:
        os.close(terminal)
        with fifo.open("w") as text:
            text.write(lines[: len(lines) // 2])
            text.flush()
            time.sleep(pause)
            text.write(lines[len(lines) // 2 :])
        said = b""
        while part := read_terminal(master):
            said += part
    assert run.returncode == 0
    assert (b"reading symbols" in said) == shown


def read_terminal(master: int) -> bytes:
    """What comes next; nothing once the other end is closed."""
    try:
        return os.read(master, 4096)
    except OSError:  # EIO, where a pipe would be at its end
        return b""


@pytest.mark.parametrize("terminal", ["dumb", "unknown", ""])
def test_no_colour_on_a_terminal_that_has_none(terminal: str, elf: Path) -> None:
    arguments: list[str | Path] = ["lookup", "--from", elf, "alpha"]
    assert (
        on_a_terminal(arguments, {"TERM": terminal}).split() == ksyms(*arguments).stdout.split()
    )


def test_colours_are_around_words_and_not_blanks(elf: Path) -> None:
    """A line has what the piped one has, each coloured cell in one pair of sequences."""
    arguments: list[str | Path] = ["info", elf]
    coloured = on_a_terminal(arguments, {"TERM": "xterm"}).replace("\r\n", "\n")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == ksyms(*arguments).stdout
    cells = re.findall(r"\x1b\[(\d+)m([^\x1b]*)\x1b\[m", coloured)
    assert len(cells) * 2 == coloured.count("\x1b")
    assert ("1", str(elf)) in cells
    assert all(words == words.strip() and words for _, words in cells)


def test_progress_is_erased(tmp_path: Path) -> None:
    """What is on the last line when a command has ended is nothing."""
    program = (
        "import ksyms._cli.progress as p; p.PATIENCE = -1.0; p._PAUSE = 0.0\n"
        "with p.Progress('reading') as bar:\n"
        "    bar.advance(1_500_000); bar.advance(700_000)\n"
    )
    master, terminal = pty.openpty()
    run = subprocess.run([sys.executable, "-c", program], stderr=terminal)
    os.close(terminal)
    said = b"".join(iter(lambda: read_terminal(master), b""))
    os.close(master)
    assert run.returncode == 0
    assert said == b"\rreading: 1.5 MB\rreading: 2.2 MB\r\x1b[K"


@pytest.mark.parametrize("command", ["snapshot", "decode", "serve"])
def test_help_is_as_wide_as_the_terminal(command: str) -> None:
    run = ksyms(command, "--help", env={**os.environ, "COLUMNS": "60"})
    _, description, *options = run.stdout.partition("\nexamples:\n")[0].split("\n\n")
    for line in "\n".join([description, *options]).splitlines():
        assert len(line) <= 60
