"""What nobody foresaw is a sentence, and a traceback where that is asked for; never else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command import COMMAND, TEXT
from ksyms import __version__

QUIET = {name: value for name, value in os.environ.items() if name != "KSYMS_TRACEBACK"}

# Each command's file and what of it runs, and arguments that get so far.
COMMANDS = {
    "snapshot": ("snapshot:run", "-o", "none.elf"),
    "info": ("info:run", "k.elf"),
    "lookup": ("lookup:run", "--from", "k.elf", "alpha"),
    "decode": ("decode:run", "--from", "k.elf"),
    "diff": ("diff:run", "k.elf", "k.elf"),
    "map": ("mapping:run", "k.elf"),
    "collect": ("collect:run", "-o", "none.tar.gz"),
    "serve": ("serve:run", "mount"),
    "status": ("serve:run_status", "mount"),
    "exec": ("execute:run", "true"),
}
REFUSED = {command: 2 if command == "diff" else 1 for command in COMMANDS}

# Deeper: what is patched, and a command that comes by.
INSIDE = {
    "ksyms._symbols:load": ["info", "lookup", "decode", "diff", "map"],
    "ksyms._symbols.table:SymbolTable.__len__": ["info", "diff"],
    "ksyms._cli.render:columns": ["info", "lookup", "diff", "map"],
    "ksyms._cli.sheet:find_answers": ["lookup"],
    "ksyms._linker.linker:Linker.__init__": ["snapshot", "collect"],
    "ksyms._decode.annotate:Decoder.__init__": ["decode"],
}

# Runs ksyms after what argv[1] says; the rest are its arguments.
CHILD = """\
import sys
patch = sys.argv.pop(1)
from ksyms._cli import program
exec(patch)
program()
"""


def raising(place: str, what: str) -> str:
    """Statements that let a function, MODULE:NAME, raise."""
    module, _, name = place.partition(":")
    return (
        f"import importlib; module = importlib.import_module({module!r})\n"
        f"def fail(*_, **__): {what}\n"
        f"module.{name} = fail\n"
    )


def child(
    patch: str, *arguments: str, cwd: Path, traceback: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = QUIET if traceback is None else {**QUIET, "KSYMS_TRACEBACK": traceback}
    return subprocess.run(
        [sys.executable, "-c", CHILD, patch, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small snapshot."""
    path = tmp_path_factory.mktemp("unforeseen")
    (path / "kallsyms").write_text(TEXT)
    command: list[str | Path] = [COMMAND, "snapshot", "--kallsyms", "kallsyms", "-o", "k.elf"]
    subprocess.run(command, check=True, cwd=path)
    return path


def said(done: subprocess.CompletedProcess[str], status: int, what: str) -> None:
    """One sentence on what happened, one on how to report it, and no traceback."""
    assert done.returncode == status, done.stderr
    assert re.fullmatch(
        r"ksyms: This is a fault in ksyms: [^\n]*\.\n"
        r" {7}Report it as an issue of ksyms, [^\n]*KSYMS_TRACEBACK=1 adds\.\n",
        done.stderr,
    ), done.stderr
    assert what in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command(command: str, place: Path) -> None:
    function, *arguments = COMMANDS[command]
    before = sorted(place.iterdir())
    patch = raising(f"ksyms._cli.{function}", "[][3]")
    done = child(patch, command, *arguments, cwd=place)
    said(done, REFUSED[command], "IndexError: list index out of range.")
    done = child(patch, command, *arguments, cwd=place, traceback="1")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("IndexError: list index out of range\n")
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("where", "command"),
    [(where, command) for where, commands in INSIDE.items() for command in commands],
)
def test_inside(where: str, command: str, place: Path) -> None:
    before = sorted(place.iterdir())
    patch = raising(where, "{}['missing']")
    done = child(patch, command, *COMMANDS[command][1:], cwd=place)
    said(done, REFUSED[command], "KeyError: 'missing'.")
    done = child(patch, command, *COMMANDS[command][1:], cwd=place, traceback="yes")
    assert done.stderr.startswith("Traceback")
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raise RuntimeError('a\\x1b[31m\\nb\\u202e\\udcff')", r"a^[[31m^Jb\u202e\xff."),
        ("raise ValueError()", "ValueError: ."),
        ("raise ValueError('x' * 10**6)", "xxx."),
        ("fail()", "RecursionError"),
        ("assert False", "AssertionError"),
        ("1 / 0", "ZeroDivisionError: division by zero."),
        ("'\\ud800'.encode()", "UnicodeEncodeError"),
        ("open('/no')", "FileNotFoundError: [Errno 2] No such file or directory: '/no'."),
        ("import no_such_module", "ModuleNotFoundError"),
        ("import struct; struct.unpack('I', b'')", "error: unpack requires"),
        ("raise ExceptionGroup('several', [KeyError(1), OSError(2)])", "ExceptionGroup"),
        ("raise StopIteration", "StopIteration"),
    ],
)  # fmt: skip
def test_every_kind(what: str, told: str, place: Path) -> None:
    done = child(raising("ksyms._cli.info:run", what), "info", cwd=place)
    said(done, 1, told)
    assert len(done.stderr) < 600


@pytest.mark.parametrize(
    ("what", "status", "told"),
    [
        ("raise MemoryError", 1, "ksyms: There is not enough memory for this."),
        ("[0] * (1 << 62)", 1, "ksyms: There is not enough memory for this."),
        ("raise KeyboardInterrupt", 130, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, ""),
        ("raise BrokenPipeError", 1, ""),
        ("raise OSError(28, 'full')", 1, "ksyms: The output cannot be written: No space left"),
        ("raise SystemExit(7)", 7, ""),
    ],
)
@pytest.mark.parametrize("traceback", [None, "1"])
def test_what_was_foreseen(
    what: str, status: int, told: str, traceback: str | None, place: Path
) -> None:
    """It is the same with KSYMS_TRACEBACK."""
    patch = raising("ksyms._cli.info:run", what)
    done = child(patch, "info", cwd=place, traceback=traceback)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(told)
    assert bool(done.stderr) == bool(told)


@pytest.mark.parametrize("what", ["[][3]", "raise KeyboardInterrupt"])
def test_while_arguments_are_read(what: str, place: Path) -> None:
    """No command has said what trouble is then; 1 would be an answer of diff."""
    patch = raising("ksyms._cli.main:_parse_arguments", what)
    done = child(patch, "diff", "k.elf", "k.elf", cwd=place)
    if "Keyboard" in what:
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    else:
        said(done, 2, "IndexError")


THREAD = """\
import threading
from ksyms._cli import info
def run(options):
    thread = threading.Thread(target=lambda: [][3])
    thread.start()
    thread.join()
    return True
info.run = run
"""
GONE = """\
from ksyms._cli import info
class Gone:
    def __del__(self): [][3]
def run(options):
    Gone()
    return True
info.run = run
"""


@pytest.mark.parametrize("patch", [THREAD, GONE], ids=["thread", "del"])
def test_where_nobody_can_catch_it(patch: str, place: Path) -> None:
    said(child(patch, "info", cwd=place), 0, "IndexError")
    assert "Traceback" in child(patch, "info", cwd=place, traceback="1").stderr


def test_an_empty_variable_asks_for_nothing(place: Path) -> None:
    done = child(raising("ksyms._cli.info:run", "[][3]"), "info", cwd=place, traceback="")
    said(done, 1, "IndexError")


def test_the_tests_see_tracebacks(place: Path) -> None:
    """As conftest.py has it: a test that meets what nobody foresaw shows where."""
    assert os.environ["KSYMS_TRACEBACK"]


# -- the streams -----------------------------------------------------------------------------


STREAMS = {
    "--version": 0,
    "--help": 0,
    "lookup --help": 0,
    "nothing": 2,
    "lookup": 2,
    "info k.elf": 0,
    "info none": 1,
    "lookup --from k.elf alpha": 0,
    "lookup --from k.elf nothing": 1,
    "lookup --from k.elf --json alpha nothing": 1,
    "diff k.elf none": 2,
    "map k.elf": 0,
    "decode --from k.elf --explain": 0,
    "decode --from k.elf none": 1,
    "status none": 1,
    "snapshot --root none": 1,
    "collect --root none -o -": 1,
}


@pytest.mark.parametrize("arguments", STREAMS)
def test_stderr_that_takes_nothing(arguments: str, place: Path) -> None:
    """Nobody is told why; stdout and the exit status are what they were."""
    usual = sh("", arguments, place)
    assert usual.returncode == STREAMS[arguments]
    for redirection in ("2>&-", "2>/dev/full"):
        done = sh(redirection, arguments, place)
        assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)


@pytest.mark.parametrize("arguments", STREAMS)
def test_stdout_that_takes_nothing(arguments: str, place: Path) -> None:
    """It is said, and what had something to put out has failed."""
    usual = sh("", arguments, place)
    for redirection in (">/dev/full", ">&-", ">/dev/full 2>&-", ">&- 2>&-", ">&- 2>&- <&-"):
        done = sh(redirection, arguments, place)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert done.returncode in (usual.returncode, 1, 2)
        if usual.stdout and "full" in redirection:
            assert done.returncode
            assert ("cannot be written: No space left" in done.stderr) == (
                "2>" not in redirection
            )


@pytest.mark.parametrize("arguments", ["--help", "lookup --help", "lookup --from k.elf *"])
def test_a_reader_that_has_enough(arguments: str, place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [COMMAND, *arguments.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=place,
        env=QUIET,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1 if "*" in arguments else 2, b"")


def sh(redirection: str, arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    script = f'exec "$@" {redirection}'
    words: list[str | Path] = ["sh", "-c", script, "sh", COMMAND, *arguments.split()]
    return subprocess.run(
        words, capture_output=True, text=True, cwd=place, env=QUIET, stdin=subprocess.DEVNULL
    )


def test_as_a_module(place: Path) -> None:
    """``python -m ksyms`` is the same command."""
    command = [sys.executable, "-m", "ksyms"]
    for arguments in (["--version"], ["lookup", "--from", "k.elf", "alpha"], ["info", "none"]):
        runs = [
            subprocess.run([*start, *arguments], capture_output=True, text=True, cwd=place)
            for start in (command, [COMMAND])
        ]
        assert len({(run.returncode, run.stdout, run.stderr) for run in runs}) == 1
    assert runs[0].returncode == 1
    run = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert run.stdout == f"ksyms {__version__}\n"
