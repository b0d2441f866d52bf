"""What ksyms cannot do: refused in two sentences, with nothing left behind.

Then texts that are whole and odd, by hand, and texts and images broken at random.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ksyms as package
from command import COMMAND, TEXT, ksyms, names, nm, refused, same_by_nm, write_root
from ksyms import KallsymsError, KsymsError, Symbol, SymbolTable
from ksyms._cli import main
from ksyms._linker.generation import Generation
from ksyms._linker.reader_thread import ReaderThread

ZEROS = re.sub(r"^\w{16}", "0" * 16, TEXT, flags=re.M)
# This process, without the rights of root over files.
NO_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """An empty directory to write in; no test may leave a scratch file in it."""
    path = tmp_path / "work"
    path.mkdir()
    yield path
    path.chmod(0o700)
    assert [p.name for p in path.iterdir() if p.name.startswith(".")] == []


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A text whose image is more than a pipe or a small disk holds."""
    path = tmp_path / "many"
    path.write_text("".join(f"{0xFFFFFFFF81000000 + 16 * i:x} t f{i}\n" for i in range(20_000)))
    return path


# -- texts that are not kallsyms ------------------------------------------------------------

FIRST = b"ffffffff81000000 T _stext\n"
LAST = b"ffffffff81001000 T _etext\nffffffff81002000 D jiffies\n"


def around(line: bytes) -> bytes:
    return FIRST + line + LAST


NOT_KALLSYMS = {
    "empty": (b"", "holds no symbols"),
    "one-newline": (b"\n", "Line 1"),
    "blank-line": (around(b"\n"), "Line 2"),
    "all-bytes": (bytes(range(256)) * 64, "Line 1"),
    "no-newline-at-all": (b"x" * 300_000, "more than 8192 bytes"),
    "nul-bytes": (bytes(300_000), "more than 8192 bytes"),
    "elf": (Path(sys.executable).read_bytes()[:100_000], "is not kallsyms"),
    "gzip-cut": (gzip.compress(TEXT.encode() * 50, mtime=0)[:-9], "ends before"),
    "gzip-and-more": (gzip.compress(TEXT.encode() * 50, mtime=0) + b"\n", "ends before"),
    "one-crlf": (around(b"ffffffff81000010 T a\r\n"), "Line 2"),
    "cr-only": (TEXT.replace("\n", "\r").encode(), "ends within a line"),
    "utf16": (TEXT.encode("utf-16"), "is not kallsyms"),
    "byte-order-mark": (TEXT.encode("utf-8-sig"), "Line 1"),
    "nm-of-undefined": (around(b"                 U memcpy\n"), "Line 2"),
    "bad-digit": (around(b"ffffffff8100001g T a\n"), "Line 2"),
    "upper-case-digit": (around(b"FFFFFFFF81000010 T a\n"), "Line 2"),
    "0x": (around(b"0xffffffff810000 T a\n"), "Line 2"),
    "sign": (around(b"-fffffff81000010 T a\n"), "Line 2"),
    "fifteen-digits": (around(b"fffffff81000010 T a\n"), "Line 2"),
    "seventeen-digits": (around(b"0ffffffff81000010 T a\n"), "Line 2"),
    "eight-digits-among-sixteen": (around(b"81000010 T long_enough_a_name\n"), "Line 2"),
    "address-only": (around(b"ffffffff81000010\n"), "Line 2"),
    "no-letter": (around(b"ffffffff81000010 schedule\n"), "Line 2"),
    "two-letters": (around(b"ffffffff81000010 Tt schedule\n"), "Line 2"),
    "digit-for-a-letter": (around(b"ffffffff81000010 1 schedule\n"), "Line 2"),
    "high-byte-for-a-letter": (around(b"ffffffff81000010 \xc1 schedule\n"), "Line 2"),
    "no-name": (around(b"ffffffff81000010 T \n"), "Line 2"),
    "no-name-but-a-bracket": (around(b"ffffffff81000010 T \t[mod]\n"), "Line 2"),
    "two-spaces": (around(b"ffffffff81000010  T a\n"), "Line 2"),
    "tab-for-a-space": (around(b"ffffffff81000010\tT a\n"), "Line 2"),
    "two-lines-in-one": (around(b"ffffffff81000010 T affffffff81000040 t b\n"), "Line 2"),
    "two-lines-and-less": (around(b"ffffffff81000010 T al0040 t b\t[mod]\n"), "Line 2"),
    "nul-in-a-name": (around(b"ffffffff81000010 T a\0b\n"), "Line 2"),
    "nul-in-a-spaced-name": (around(b"ffffffff81000010 T a\0 b\t[mod]\n"), "Line 2"),
    "nul-for-a-space": (around(b"ffffffff81000010 T\0a\n"), "Line 2"),
    "no-name-but-a-spaced-bracket": (around(b"ffffffff81000010 T  [mod]\n"), "Line 2"),
    "spaces-and-no-bracket": (around(b"ffffffff81000010 T a  m]\n"), "Line 2"),
    "space-and-two-brackets": (around(b"ffffffff81000010 T a [m]\t[mod] [x]\n"), "Line 2"),
    "null-of-another-width": (around(b"  (null) T a\n"), "Line 2"),
    "null-and-digits": (around(b"0000000000(null) T a\n"), "Line 2"),
    "nulls": (re.sub(r"(?m)^\w{16}", "(null)".rjust(16), TEXT).encode(), "Every address in"),
    "nulls-of-32-bits": (b"  (null) T _stext\n  (null) T _etext\n", "Every address in"),
    "empty-bracket": (around(b"ffffffff81000010 T a\t[]\n"), "Line 2"),
    "tab-and-nothing": (around(b"ffffffff81000010 T a\t\n"), "Line 2"),
    "no-bracket-after-tab": (around(b"ffffffff81000010 T a\tmod\n"), "Line 2"),
    "unopened-bracket": (around(b"ffffffff81000010 T a\tmod]\n"), "Line 2"),
    "unclosed-bracket": (around(b"ffffffff81000010 T a\t[mod\n"), "Line 2"),
    "two-brackets": (around(b"ffffffff81000010 T a\t[mod]\t[dom]\n"), "Line 2"),
    "words-after-the-bracket": (around(b"ffffffff81000010 T a\t[mod] x\n"), "Line 2"),
    "space-in-the-bracket": (around(b"ffffffff81000010 T a\t[m d]\n"), "Line 2"),
    "bracket-in-the-bracket": (around(b"ffffffff81000010 T a\t[m]d]\n"), "Line 2"),
    "last-line-bad": (around(b"") + b"not kallsyms\n", "Line 4"),
    "modules-text": (b"dummy 16384 0 - Live 0xffffffffc0000000\n", "Line 1"),
    "zeros": (ZEROS.encode(), "Every address in"),
    "zeros-of-32-bits": (b"00000000 T _stext\n00000000 T _etext\n", "Every address in"),
    "no-_etext": (FIRST + b"ffffffff81000010 T a\n", "has no _etext"),
    "no-_stext": (LAST, "has no _stext"),
}


@pytest.mark.parametrize("data", NOT_KALLSYMS)
def test_text_that_is_not_kallsyms(data: str, tmp_path: Path, work: Path) -> None:
    """Refused by name and line, and the file that was there before is unharmed."""
    content, said = NOT_KALLSYMS[data]
    source = tmp_path / "saved"
    source.write_bytes(content)
    (work / "kernel.elf").write_bytes(b"precious")
    run = ksyms("snapshot", "--kallsyms", source, cwd=work, timeout=30)
    refused(run, said)
    assert str(source) in run.stderr
    assert [path.name for path in work.iterdir()] == ["kernel.elf"]
    assert (work / "kernel.elf").read_bytes() == b"precious"


@pytest.mark.parametrize("command", ["lookup _stext", "snapshot -o -"])
@pytest.mark.parametrize("data", ["empty", "zeros", "nulls", "one-crlf", "no-_etext"])
def test_every_command_refuses_alike(command: str, data: str, tmp_path: Path) -> None:
    source = tmp_path / "saved"
    source.write_bytes(NOT_KALLSYMS[data][0])
    refused(ksyms(*command.split(), "--kallsyms", source), NOT_KALLSYMS[data][1])


@pytest.mark.parametrize("data", ["empty", "zeros", "nulls", "one-crlf", "no-_etext"])
def test_info_says_why_not(data: str, tmp_path: Path) -> None:
    source = tmp_path / "saved"
    source.write_bytes(NOT_KALLSYMS[data][0])
    run = ksyms("info", "--kallsyms", source)
    assert (run.returncode, run.stderr) == (1, "")
    assert re.search(r"^snapshot +not possible$", run.stdout, re.M)
    assert re.search(rf"^why +.*{NOT_KALLSYMS[data][1]}.*\.$", run.stdout, re.M)
    assert re.search(r"^what to do +[A-Z].*\.$", run.stdout, re.M)


# -- texts that were cut short --------------------------------------------------------------

CUTS = {
    "address": "ffffffff81000010",
    "space": "ffffffff81000010 ",
    "letter": "ffffffff81000010 T",
    "second-space": "ffffffff81000010 T ",
    "name": "ffffffff81000010 T al",
    "before-newline": "ffffffff81000010 T alpha",
    "tab": "ffffffffc0000000 t mod_start\t",
    "opened": "ffffffffc0000000 t mod_start\t[",
    "bracket": "ffffffffc0000000 t mod_start\t[mo",
    "closed": "ffffffffc0000000 t mod_start\t[mod]",
    "first-byte": "f",
}


@pytest.mark.parametrize("cut", CUTS)
def test_text_cut_within_a_line(cut: str, tmp_path: Path, work: Path) -> None:
    source = tmp_path / "saved"
    source.write_text(TEXT[: TEXT.index(CUTS[cut]) + len(CUTS[cut])])
    refused(
        ksyms("snapshot", "--kallsyms", source, cwd=work), "ends within a line", "cut short"
    )
    assert list(work.iterdir()) == []


def test_text_cut_between_stext_and_etext(tmp_path: Path, work: Path) -> None:
    source = tmp_path / "saved"
    source.write_text(TEXT[: TEXT.index("ffffffff81000080")])
    refused(
        ksyms("snapshot", "--kallsyms", source, cwd=work), "has no _etext", "Save the whole"
    )
    assert list(work.iterdir()) == []


def test_text_cut_anywhere(tmp_path: Path) -> None:
    """Each of its lengths: whole lines with both ends of the kernel's code, or refused."""
    source = tmp_path / "saved"
    etext = TEXT.index("_etext\n") + len("_etext\n")
    for length in range(len(TEXT)):
        source.write_text(TEXT[:length])
        if length >= etext and TEXT[length - 1] == "\n":
            image = package.snapshot(kallsyms=source).image
            assert len(package.load(image)) == TEXT[:length].count("\n")
        else:
            with pytest.raises(KallsymsError):
                package.snapshot(kallsyms=source)


def test_root_without_modules_symbols(tmp_path: Path) -> None:
    """proc/modules that is not what the kernel prints, by its line."""
    root = saved_root(tmp_path, modules=b"mod 16384 0 - Live 0xffffffffc0000000\nmod\n")
    refused(ksyms("snapshot", "--root", root, "-o", tmp_path / "x"), "Line 2 of")
    assert not (tmp_path / "x").exists()


# -- files that cannot be read --------------------------------------------------------------


def saved_root(directory: Path, modules: bytes | None = None) -> Path:
    root = directory / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/kallsyms").write_text(TEXT)
    if modules is not None:
        (root / "proc/modules").write_bytes(modules)
    return root


@pytest.mark.parametrize("command", ["snapshot", "lookup x"])
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("--kallsyms {0}/missing", "No such file or directory"),
        ("--kallsyms {0}", "Is a directory"),
        ("--kallsyms {0}/kallsyms/below", "Not a directory"),
        ("--root {0}/missing", "is neither a directory nor an archive"),
        ("--root {0}/kallsyms", "is no archive"),
        ("--root {0}", "proc/kallsyms cannot be read: No such file or directory"),
        ("--kallsyms {0}/loop", "Too many levels of symbolic links"),
    ],
)
def test_missing_source(
    command: str, source: str, said: str, text: Path, tmp_path: Path, work: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    run = ksyms(*command.split(), *source.format(tmp_path).split(), cwd=work)
    refused(run, said)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("command", ["info", "lookup x --from"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "No such file or directory"),
        (".", "Is a directory"),
        ("words", "is neither an ELF file"),
        ("empty", "is neither an ELF file"),
        ("fifo", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
    ],
)
def test_file_that_is_no_image(command: str, name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "words").write_text("cafe au lait\n")
    os.mkfifo(tmp_path / "fifo")
    with open(os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)):  # no open need wait
        refused(ksyms(*command.split(), name, cwd=tmp_path, timeout=30), said)


def without_rights(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NO_RIGHTS, COMMAND, *arguments], capture_output=True, text=True, **options
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "snapshot --kallsyms {0}/kallsyms",
        "lookup x --kallsyms {0}/kallsyms",
        "lookup x --from {0}/kallsyms",
        "info {0}/kallsyms",
        "snapshot --root {0}/root",
    ],
)
def test_file_without_permission(
    arguments: str, text: Path, tmp_path: Path, work: Path
) -> None:
    text.chmod(0)
    (saved_root(tmp_path) / "proc/kallsyms").chmod(0)
    refused(without_rights(*arguments.format(tmp_path).split(), cwd=work), "Permission denied")
    assert list(work.iterdir()) == []


def test_companions_without_permission(tmp_path: Path, work: Path) -> None:
    """Only kallsyms has to be read; the note says what else could not be."""
    root = saved_root(tmp_path, modules=b"mod 16384 0 - Live 0xffffffffc0000000\n")
    (root / "proc/modules").chmod(0)
    run = without_rights("snapshot", "--root", root, cwd=work)
    assert run.returncode == 0, run.stderr
    facts = package.load(work / "kernel.elf").facts
    assert facts["absent"]["proc/modules"] == "Permission denied"
    assert nm(work / "kernel.elf") == names()


# -- places that cannot be written to -------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (".", "Is a directory"),
        ("directory", "Is a directory"),
        ("directory/", "Is a directory"),
        ("missing/kernel.elf", "No such file or directory"),
        ("missing/", "directory"),
        ("file/kernel.elf", "Not a directory"),
        ("file/", "directory"),
        ("n" * 256, "File name too long"),
        ("to-missing-directory/kernel.elf", "No such file or directory"),
        ("loop/kernel.elf", "Too many levels of symbolic links"),
        ("", "directory"),
        ("/dev/full", "No space left on device"),
        ("/proc/version", ""),
        ("/proc/ksyms.elf", "No such file or directory"),
    ],
)
def test_place_that_cannot_be_written(output: str, said: str, text: Path, work: Path) -> None:
    (work / "directory").mkdir()
    (work / "file").write_bytes(b"precious")
    (work / "to-missing-directory").symlink_to("missing")
    (work / "loop").symlink_to("loop")
    before = sorted(path.name for path in work.rglob("*"))
    refused(ksyms("snapshot", "--kallsyms", text, "-o", output, cwd=work), said, "Name a file")
    assert sorted(path.name for path in work.rglob("*")) == before
    assert (work / "file").read_bytes() == b"precious"
    assert (work / "loop").is_symlink()


@pytest.mark.parametrize("there", [True, False], ids=["replace", "new"])
def test_directory_without_permission(there: bool, text: Path, work: Path) -> None:
    if there:
        (work / "kernel.elf").write_bytes(b"precious")
    work.chmod(0o500)
    run = without_rights("snapshot", "--kallsyms", text, "-o", work / "kernel.elf")
    refused(run, "Permission denied", "may be written to")
    assert [path.name for path in work.iterdir()] == ["kernel.elf"] * there
    if there:
        assert (work / "kernel.elf").read_bytes() == b"precious"


# Mounts a disk of 64 KB on $1, runs the rest in it, and says in $2 what that left there.
SMALL_DISK = """\
mount -t tmpfs -o size=64k small "$1" || exit
cd "$1" && printf precious >kernel.elf
left=$2; shift 2
"$@"; status=$?
{ find . -type f -printf '%P\\n'; cat kernel.elf; } >"$left"
exit $status
"""


def test_full_disk(many: Path, tmp_path: Path, work: Path) -> None:
    """Nothing is left on it, and the file that was to be replaced is unharmed."""
    options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    disk = ["unshare", *options, "sh", "-c", SMALL_DISK, "sh", str(work), f"{tmp_path}/left"]
    command: list[str | Path] = [*disk, COMMAND, "snapshot", "--kallsyms", many]
    run = subprocess.run(command, capture_output=True, text=True)
    refused(run, "No space left on device", "has room for")
    assert (tmp_path / "left").read_text() == "kernel.elf\nprecious"


def test_file_size_limit(many: Path, work: Path) -> None:
    (work / "kernel.elf").write_bytes(b"precious")
    run = ksyms(
        *("snapshot", "--kallsyms", many),
        cwd=work,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)),
    )
    refused(run, os.strerror(errno.EFBIG))
    assert [path.name for path in work.iterdir()] == ["kernel.elf"]
    assert (work / "kernel.elf").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "arguments",
    [
        "snapshot -o -",
        "snapshot -o kernel.elf",
        "snapshot -o /dev/null --json",
        "lookup alpha",
        "lookup --json alpha",
        "info",
        "info --json",
    ],
)
def test_stdout_is_full(arguments: str, text: Path, work: Path) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [COMMAND, *arguments.split(), "--kallsyms", text],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=work,
        )
    run.stdout = ""
    refused(run, "No space left on device")


@pytest.mark.parametrize(
    "arguments",
    ["snapshot -o -", "snapshot -o /dev/null", "lookup alpha", "lookup --json alpha", "info"],
)
def test_stdout_is_closed(arguments: str, text: Path, work: Path) -> None:
    """``>&-``: there is nowhere to write to, which is said and not a traceback."""
    run = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", COMMAND, *arguments.split(), "--kallsyms", text],
        stderr=subprocess.PIPE,
        text=True,
        cwd=work,
    )
    assert "Traceback" not in run.stderr
    if not arguments.endswith("/dev/null"):  # where only the summary is lost
        assert run.returncode == 1
        assert run.stderr.startswith("ksyms: ")
    assert list(work.iterdir()) == []


def test_stderr_is_closed(tmp_path: Path) -> None:
    """``2>&-``: an error's sentences do not end up in the image's place."""
    run = subprocess.run(
        [
            "sh",
            "-c",
            'exec "$@" 2>&-',
            "sh",
            COMMAND,
            "snapshot",
            "-o",
            "-",
            "--kallsyms",
            "no",
        ],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert (run.returncode, run.stdout) == (1, b"")


BUFFERING = {  # Docker images often set the second
    "buffered": {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    "unbuffered": {**os.environ, "PYTHONUNBUFFERED": "1"},
}


@pytest.mark.parametrize("buffering", BUFFERING)
@pytest.mark.parametrize("arguments", ["snapshot -o -", "snapshot -o /dev/stdout"])
def test_reader_goes_away(arguments: str, buffering: str, many: Path, work: Path) -> None:
    """As with ``| head -c 10``: no complaint, and nothing written elsewhere."""
    with subprocess.Popen(
        [COMMAND, *arguments.split(), "--kallsyms", many],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=work,
        env=BUFFERING[buffering],
    ) as process:
        assert process.stdout
        assert process.stderr
        assert os.read(process.stdout.fileno(), 10)[:4] == b"\x7fELF"
        process.stdout.close()
        said = process.stderr.read().decode()
        status = process.wait(timeout=30)
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert status == 1
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("buffering", BUFFERING)
def test_stdout_is_full_after_a_part(buffering: str, many: Path, work: Path) -> None:
    """An image that did not go out whole is not exit status 0."""
    with open(work / "part.elf", "wb") as part:
        run = subprocess.run(
            [COMMAND, "snapshot", "-o", "-", "--kallsyms", many],
            stdout=part,
            stderr=subprocess.PIPE,
            text=True,
            env=BUFFERING[buffering],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)),
        )
    run.stdout = ""
    refused(run, os.strerror(errno.EFBIG))


def test_reader_of_info_goes_away(many: Path, tmp_path: Path) -> None:
    """The table is still in the pipe's buffer when the reader goes."""
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        assert reader.stdin
        run = subprocess.run(
            [COMMAND, "info", "--kallsyms", many],
            stdout=reader.stdin.fileno(),
            stderr=subprocess.PIPE,
            text=True,
        )
        reader.stdin.close()
    assert (run.returncode, run.stderr) == (1, "")


# -- interrupts -----------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [None, b"", TEXT.encode()], ids=["no-writer", "none", "some"])
@pytest.mark.parametrize("command", ["snapshot", "lookup x", "info"])
def test_interrupt(command: str, sent: bytes | None, tmp_path: Path, work: Path) -> None:
    """Ctrl-C while the text is slow to come: out at once, quietly, with nothing written."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR) if sent is not None else None
    with subprocess.Popen(
        [COMMAND, *command.split(), "--kallsyms", fifo],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=work,
    ) as process:
        if held is not None:
            os.write(held, sent or b"")
        wait_until_it_waits(process.pid)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail("it goes on after SIGINT")
        finally:
            if held is not None:
                os.close(held)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert list(work.iterdir()) == []


def wait_until_it_waits(pid: int) -> None:
    """Until the process has opened or is opening the FIFO, and every thread sleeps."""
    asleep = 0
    deadline = time.monotonic() + 30
    while asleep < 10:
        assert time.monotonic() < deadline
        states = []
        for task in Path(f"/proc/{pid}/task").iterdir():
            wchan = (task / "stat").read_text().rpartition(") ")[2]
            states.append(wchan[0])
        asleep = asleep + 1 if set(states) == {"S"} else 0
        time.sleep(0.02)


# -- whole texts that are odd ---------------------------------------------------------------


def taken(text: str, directory: Path, machine: str = "x86_64") -> SymbolTable:
    """The table of a snapshot of ``text``, in which nm reads just that text."""
    elf = directory / "odd.elf"
    write_root(directory, text, machine)
    package.snapshot(directory).write(elf)
    same_by_nm(elf, text)
    lint = subprocess.run(["eu-elflint", "-d", elf], capture_output=True, text=True)
    assert lint.stdout == "No errors\n"
    return package.load(elf)


def rows(table: SymbolTable) -> list[tuple[str, int, str | None, str | None]]:
    """Name, size, module and section of each symbol, by address."""
    return [(s.name, s.size, s.module, s.section) for s in table]


def test_several_names_at_one_address(tmp_path: Path) -> None:
    """Each has the size to the next address; the first of them answers."""
    table = taken(
        "ffffffff81000000 T _stext\n"
        "ffffffff81000010 t zeta\n"
        "ffffffff81000010 T alpha\n"
        "ffffffff81000010 W beta\n"
        "ffffffff81000030 T next\n"
        "ffffffff81001000 T _etext\n"
        "ffffffff81002000 D jiffies\n",
        tmp_path,
    )
    assert {s.name: s.size for s in table if s.address == 0xFFFFFFFF81000010} == {
        "zeta": 0x20,
        "alpha": 0x20,
        "beta": 0x20,
    }
    found = table.lookup(0xFFFFFFFF8100001F)
    assert found is not None
    assert found.name == "zeta"
    assert [s.binding for name in ("zeta", "alpha", "beta") for s in table.find(name)] == [
        "local",
        "global",
        "weak",
    ]


def test_one_name_at_several_addresses(tmp_path: Path) -> None:
    table = taken(
        "ffffffff81000000 T _stext\n"
        "ffffffff81000010 t show\n"
        "ffffffff81000018 t show\n"
        "ffffffff81000018 t show\n"
        "ffffffff81001000 T _etext\n"
        "ffffffffc0000000 t show\t[mod]\n",
        tmp_path,
    )
    assert [(s.address, s.size, s.module) for s in table.find("show")] == [
        (0xFFFFFFFF81000010, 0x8, None),
        (0xFFFFFFFF81000018, 0xFE8, None),
        (0xFFFFFFFF81000018, 0xFE8, None),
        (0xFFFFFFFFC0000000, 0x1000, "mod"),
    ]


def test_only_symbols_in_known_sections(tmp_path: Path) -> None:
    """A kernel whose symbols all lie between _stext and _etext."""
    table = taken(
        "ffffffff81000000 T _stext\nffffffff81000010 T a\nffffffff81001000 T _etext\n", tmp_path
    )
    assert rows(table) == [
        ("_stext", 0x10, None, ".text"),
        ("a", 0xFF0, None, ".text"),
        ("_etext", 0, None, ".text"),
    ]


def test_section_without_length(tmp_path: Path) -> None:
    """_stext and _etext at one address bound nothing; no symbol is lost by it."""
    table = taken(
        "ffffffff81000000 T _stext\n"
        "ffffffff81000000 T _etext\n"
        "ffffffff81000010 T a\n"
        "ffffffff81000020 D b\n",
        tmp_path,
    )
    assert ".text" not in [name for name, _, _ in table.sections]
    assert [s.name for s in table.find("a")] == ["a"]
    assert table.find("_etext")[0].address == 0xFFFFFFFF81000000


def test_bounds_in_the_wrong_order(tmp_path: Path) -> None:
    table = taken(
        "ffffffff81001000 T _stext\nffffffff81000000 T _etext\nffffffff81000010 T a\n", tmp_path
    )
    assert [s.name for s in table] == ["_etext", "a", "_stext"]


def test_symbols_outside_of_every_known_section(tmp_path: Path) -> None:
    """Before, between and after; no size reaches across a known section's bounds."""
    table = taken(
        "ffffffff80fff000 T before\n"
        "ffffffff81000000 T _stext\n"
        "ffffffff81000ff0 T last\n"
        "ffffffff81001000 T _etext\n"
        "ffffffff81001800 D after\n"
        "ffffffff81001808 r further\n"
        "ffffffff90000000 D far\n",
        tmp_path,
    )
    sizes = {s.name: s.size for s in table}
    assert sizes["before"] == 0x1000
    assert sizes["last"] == 0x10
    assert sizes["_etext"] == 0
    assert sizes["after"] == 8
    assert sizes["far"] == 0x1000
    sections = {s.name: s.section for s in table}
    assert sections["last"] == sections["_etext"] == ".text"
    assert sections["far"] != sections["after"]
    assert table.lookup(0xFFFFFFFF88000000) is None


@pytest.mark.parametrize("length", [255, 256, 511, 512, 1000, 8000])
def test_long_name(length: int, tmp_path: Path) -> None:
    name = ("long_" * 2000)[:length]
    table = taken(TEXT + f"ffffffffc0000100 t {name}\t[mod]\n", tmp_path)
    assert [(s.address, s.module) for s in table.find(name)] == [(0xFFFFFFFFC0000100, "mod")]


def test_too_long_a_line_is_so_everywhere(tmp_path: Path) -> None:
    """Whether a line is too long does not depend on where in the text it is."""
    long = f"ffffffffa0000000 t {'x' * 9000}\n"
    verdicts = set()
    for place in (0, 250_000, 253_500, 262_000):
        body = ""
        for number in range(place // 26):
            body += f"ffffffff{0x82000000 + number:x} t {number:06}\n"
        path = tmp_path / "kallsyms"
        path.write_text(body + long)
        try:
            package.snapshot(kallsyms=path)
        except KallsymsError:
            verdicts.add("refused")
        else:
            verdicts.add("taken")
    assert len(verdicts) == 1


class Trickle(io.BytesIO):
    """A text that comes a page at a time, later than whoever wants it asks."""

    def readinto(self, buffer: Any) -> int:
        time.sleep(0.01)
        return super().readinto(memoryview(buffer)[:3584])


@pytest.mark.parametrize("live", [False, True])
def test_long_lines_of_a_text_that_trickles(live: bool) -> None:
    """A line that waits for the other of its pair is no part of how long that one is."""
    body = "".join(
        f"ffffffff81000000 t {name}\n" for name in ("__pfx_" + "n" * 7000, "n" * 7000)
    )
    ahead = ReaderThread(
        Trickle(body.encode()), "text", lambda: Generation(None, None, None), live
    )
    taken = [bytes(block.buffer[block.start : block.end]) for block in ahead.blocks()]
    assert b"".join(taken) == body.encode()


@pytest.mark.parametrize("stack", [1 << 20, 1 << 30], ids=["memory", "thread"])
def test_what_the_system_has_no_more_of(stack: int, tmp_path: Path) -> None:
    """A limit that numpy's import is within, and text and image are not; nor a large stack,
    and the text is read without a thread."""
    lines = (f"ffffffff81{n:06x} t a_name_of_usual_length_{n}\n" for n in range(400_000))
    path = tmp_path / "kallsyms"
    path.write_text("".join(lines))
    code = (
        "import numpy, resource, sys, threading\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"threading.stack_size({stack})\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (12 << 20), -1))\n"
        "from ksyms._cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    made = tmp_path / "kernel.elf"
    snapshot = ["snapshot", "--kallsyms", str(path), "-o", str(made)]
    command = [sys.executable, "-c", code, *snapshot]
    result = subprocess.run(command, capture_output=True, text=True)
    refused(result, "There is not enough memory")
    assert not made.exists()


def test_low_absolute_symbols(tmp_path: Path) -> None:
    """x86's per-CPU offsets: absolute, without a size, and no address lies in them."""
    table = taken(
        "0000000000000000 A fixed_percpu_data\n"
        "0000000000000000 A __per_cpu_start\n"
        "0000000000001000 A cpu_debug_store\n"
        "0000000000031000 A __per_cpu_end\n" + TEXT,
        tmp_path,
    )
    low = [s for s in table if s.address < 1 << 32]
    assert [(s.name, s.size, s.section, s.letter) for s in low] == [
        ("fixed_percpu_data", 0, None, "A"),
        ("__per_cpu_start", 0, None, "A"),
        ("cpu_debug_store", 0, None, "A"),
        ("__per_cpu_end", 0, None, "A"),
    ]
    assert table.lookup(0x1000) is None
    assert table.lookup(0x1001) is None


def test_absolute_letter_inside_the_kernel(tmp_path: Path) -> None:
    """An ``A`` among the code has an address like any other."""
    table = taken(TEXT.replace("T alpha", "A alpha"), tmp_path)
    [alpha] = table.find("alpha")
    assert (alpha.section, alpha.size, alpha.letter) == (".text", 0x30, "A")


def test_addresses_of_32_bits(tmp_path: Path) -> None:
    table = taken(
        "c0008000 T _stext\n"
        "c0008010 T a\n"
        "c0100000 T _etext\n"
        "c0200000 d jiffies\n"
        "bf000000 t m\t[mod]\n"
        "bf000020 d n\t[mod]\n",
        tmp_path,
        "armv7l",
    )
    assert [(s.name, s.address, s.size, s.module) for s in table] == [
        ("m", 0xBF000000, 0x20, "mod"),
        ("n", 0xBF000020, 0xFE0, "mod"),
        ("_stext", 0xC0008000, 0x10, None),
        ("a", 0xC0008010, 0xF7FF0, None),
        ("_etext", 0xC0100000, 0, None),
        ("jiffies", 0xC0200000, 0x1000, None),
    ]
    header = subprocess.check_output(["readelf", "-h", tmp_path / "odd.elf"], text=True)
    assert re.search(r"Class: +ELF32", header)
    found = table.lookup(0xC00080FF)
    assert found is not None
    assert found.name == "a"


@pytest.mark.parametrize(("digits", "machine"), [(8, "armv7l"), (16, "x86_64")])
def test_the_highest_addresses(digits: int, machine: str, tmp_path: Path) -> None:
    top = "f" * digits
    table = taken(f"{top[:-3]}000 T page\n{top} T last\n", tmp_path, machine)
    assert [s.name for s in table] == ["page", "last"]
    assert table[0].size == 0xFFF


def test_module_without_sysfs(tmp_path: Path) -> None:
    """Sections by the letters: code, read-only data, data and bss of the module."""
    table = taken(
        TEXT.split("ffffffffc")[0] + "ffffffffc0000000 t m_text\t[mod]\n"
        "ffffffffc0001000 r m_rodata\t[mod]\n"
        "ffffffffc0002000 d m_data\t[mod]\n"
        "ffffffffc0002010 D m_global\t[mod]\n"
        "ffffffffc0003000 b m_bss\t[mod]\n",
        tmp_path,
    )
    assert [row for row in rows(table) if row[2] == "mod"] == [
        ("m_text", 0x1000, "mod", "[mod].text"),
        ("m_rodata", 0x1000, "mod", "[mod].rodata"),
        ("m_data", 0x10, "mod", "[mod].data"),
        ("m_global", 0xFF0, "mod", "[mod].data"),
        ("m_bss", 0x1000, "mod", "[mod].bss"),
    ]


def test_bpf_between_a_modules_symbols(tmp_path: Path) -> None:
    """Each program ends the module's symbol before it, and begins none of its own names."""
    table = taken(
        TEXT.split("ffffffffc")[0] + "ffffffffc0000000 t m1\t[mod]\n"
        "ffffffffc0001000 t m2\t[mod]\n"
        "ffffffffc0002000 t m3\t[mod]\n"
        "ffffffffc0000800 t bpf_prog_1\t[bpf]\n"
        "ffffffffc0001800 t bpf_prog_2\t[bpf]\n",
        tmp_path,
    )
    found = [(s.name, s.size, s.module) for s in table if s.module]
    assert found == [
        ("m1", 0x800, "mod"),
        ("bpf_prog_1", 0x800, "bpf"),
        ("m2", 0x800, "mod"),
        ("bpf_prog_2", 0x800, "bpf"),
        ("m3", 0x1000, "mod"),
    ]
    assert len({s.section for s in table if s.module}) == 5


def test_pages_of_ftrace_and_kprobes(tmp_path: Path) -> None:
    table = taken(
        TEXT + "ffffffffc0010000 t ftrace_trampoline\t[__builtin__ftrace]\n"
        "ffffffffc0011000 t ftrace_trampoline\t[__builtin__ftrace]\n"
        "ffffffffc0020000 t kprobe_insn_page\t[__builtin__kprobes]\n",
        tmp_path,
    )
    assert [(s.size, s.module) for s in table.find("ftrace_trampoline")] == [
        (0x1000, "__builtin__ftrace"),
        (0x1000, "__builtin__ftrace"),
    ]
    assert [(s.size, s.module) for s in table.find("kprobe_insn_page")] == [
        (0x1000, "__builtin__kprobes")
    ]
    assert [file["name"] for file in table.facts["files"]] == [
        "kernel",
        "mod",
        "__builtin__ftrace",
        "__builtin__kprobes",
    ]


@pytest.mark.parametrize("letter", "icp")
def test_unusual_letter(letter: str, tmp_path: Path) -> None:
    """A symbol of whatever letter ends the one before it, and has a size itself."""
    table = taken(TEXT + f"ffffffffc0000030 {letter} odd\t[mod]\n", tmp_path)
    found = [(s.name, s.size, s.letter) for s in table if s.module == "mod"]
    assert found[1:] == [("twin", 0x10, "t"), ("odd", 0xFD0, letter)]


@pytest.mark.parametrize("letter", "?nNu")
def test_a_letter_of_what_a_module_has_no_memory_for(letter: str, tmp_path: Path) -> None:
    """Such a symbol is listed with its module, ends none, and names no address."""
    table = taken(TEXT + f"ffffffffc0000030 {letter} odd\t[mod]\n", tmp_path)
    assert [(s.name, s.size) for s in table.find("twin")][1:] == [("twin", 0xFE0)]
    [odd] = [s for s in table if s.name == "odd"]
    assert (odd.size, odd.module, odd.section, odd.letter) == (0, "mod", None, letter)
    assert not table.find("odd")


def test_two_files_that_claim_one_address(tmp_path: Path) -> None:
    """Modules share no page: the later lines are of memory that was freed."""
    table = taken(
        TEXT.split("ffffffffc")[0] + "ffffffffc0000000 t a\t[one]\n"
        "ffffffffc0000000 t b\t[two]\n"
        "ffffffffc0000010 t c\t[one]\n",
        tmp_path,
    )
    assert {(s.name, s.module, s.size) for s in table if s.module} == {
        ("a", "one", 0x10),
        ("b", "two", 0),
        ("c", "one", 0xFF0),
    }
    found = table.lookup(0xFFFFFFFFC0000004)
    assert found
    assert found.name == "a"


def test_module_at_the_kernels_addresses(tmp_path: Path) -> None:
    """A bracket decides the file, whatever the address says."""
    table = taken(TEXT + "ffffffff81000050 t inside\t[odd]\n", tmp_path)
    [inside] = table.find("inside")
    assert inside.module == "odd"
    assert [s.module for s in table.find("beta") + table.find("_etext")] == [None, None]


def test_unsorted_text(tmp_path: Path) -> None:
    """The order of the lines changes no symbol."""
    lines = TEXT.splitlines(keepends=True)
    straight = {(s.name, s.address, s.size, s.module) for s in taken(TEXT, tmp_path)}
    for order in (lines[::-1], lines[1::2] + lines[::2], lines[5:] + lines[:5]):
        table = taken("".join(order), tmp_path)
        assert {(s.name, s.address, s.size, s.module) for s in table} == straight
        assert [s.address for s in table] == sorted(s.address for s in table)


def test_brackets_first(tmp_path: Path) -> None:
    """No name is lost where the text does not begin with the kernel's own."""
    table = taken(
        "ffffffffc0001000 t in_b\t[b]\n"
        "ffffffffc0000000 t in_a\t[a]\n"
        "ffffffff81000000 T _stext\n"
        "ffffffff81001000 T _etext\n",
        tmp_path,
    )
    assert [s.name for s in table] == ["_stext", "_etext", "in_a", "in_b"]


def test_only_modules(tmp_path: Path) -> None:
    table = taken(
        "ffffffffc0001000 t in_b\t[b]\nffffffffc0000000 t in_a\t[a]\n",
        tmp_path,
    )
    assert [(s.name, s.module) for s in table] == [("in_a", "a"), ("in_b", "b")]


def test_addresses_of_64_bits_with_a_text_of_32(tmp_path: Path, work: Path) -> None:
    """Files of two machines: no ELF file of 32 bits has room for where the section lies."""
    (tmp_path / "proc").mkdir()
    text = "c0008000 T _stext\nc0009000 T _etext\nbf000000 t function\t[mod]\n"
    (tmp_path / "proc/kallsyms").write_text(text)
    (tmp_path / "proc/modules").write_text("mod 4096 0 - Live 0xbf000000\n")
    sections = tmp_path / "sys/module/mod/sections"
    sections.mkdir(parents=True)
    (sections / ".data").write_text("0xffffffffc0000000\n")
    refused(ksyms("snapshot", "--root", tmp_path, cwd=work), "a kernel of 32 bits")
    assert not any(work.iterdir())


def test_module_in_two_runs(tmp_path: Path) -> None:
    """One linker file with the symbols of both; the second has freed functions, listed as T."""
    table = taken(
        TEXT.split("ffffffffc")[0] + "ffffffffc0000000 t one_1\t[one]\n"
        "ffffffffc0001100 t two\t[two]\n"
        "ffffffffc0002200 T one_2\t[one]\n"
        "ffffffff81000ff0 t late\n"
        "ffffffffc0002300 T one_3\t[one]\n",
        tmp_path,
    )
    counts = {file["name"]: file["symbols"] for file in table.facts["files"]}
    assert counts == {"kernel": 9, "one": 3, "two": 1}
    assert [(s.name, s.size, s.section) for s in table if s.module == "one"] == [
        ("one_1", 0x1000, "[one].text"),
        ("one_2", 0x100, "[one].freed.text"),
        ("one_3", 0xD00, "[one].freed.text"),
    ]
    assert [s.section for s in table.find("late")] == [".text"]


@pytest.mark.parametrize(
    "pair",
    [
        ["__pfx_foo", "foo"],
        ["__pfx_foo", "bar"],
        ["__pfx_foo", "foo2"],
        ["__pfx_foo", "oo"],
        ["__pfx_foo", "_foo"],
        ["__pfx_", "foo"],
        ["__pfx_", "__pfx_"],
        ["__pfx_f", "f"],
        ["foo", "__pfx_foo"],
        ["__pfx_foo", "foo", "foo"],
        ["__pfx___pfx_foo", "__pfx_foo", "foo"],
        ["__pfx___pfx___pfx_a", "__pfx___pfx_a", "__pfx_a", "a"],
        ["__pfx_" + "abcdefgh" * 20, "abcdefgh" * 20],
        ["__pfx_" + "abcdefgh" * 20, "abcdefgh" * 19 + "abcdefgX"],
        ["__pfx_" + "abcdefgh" * 20, "Xbcdefgh" + "abcdefgh" * 19],
    ],
    ids=lambda pair: "-".join(pair)[:40],
)
@pytest.mark.parametrize("brackets", [(None, None), ("mod", "mod"), (None, "mod")])
def test_names_that_share_a_string(
    pair: list[str], brackets: tuple[str | None, str | None], tmp_path: Path
) -> None:
    """``foo`` may be the tail of ``__pfx_foo`` in .strtab, and only where it is its tail."""
    lines = ["ffffffff81000000 T _stext", "ffffffff81001000 T _etext"]
    for number, name in enumerate(pair):
        owner = brackets[bool(number)]
        address = (0xFFFFFFFFC0000000 if owner else 0xFFFFFFFF82000000) + 16 * number
        lines.append(f"{address:x} T {name}" + (f"\t[{owner}]" if owner else ""))
    table = taken("".join(f"{line}\n" for line in lines), tmp_path)
    assert [s.name for s in table][2:] == pair
    for name in pair:
        assert len(table.find(name)) == pair.count(name)


def test_shared_strings_save_room(tmp_path: Path) -> None:
    """.strtab has the pair's two names in the room of one."""
    sizes = []
    for second in ("foo", "bar"):
        taken(f"ffffffff81000000 T __pfx_foo\nffffffff81000010 T {second}\n", tmp_path)
        out = subprocess.check_output(["readelf", "-SW", tmp_path / "odd.elf"], text=True)
        match = re.search(r"\.strtab +STRTAB +\w+ \w+ (\w+)", out)
        assert match
        sizes.append(int(match[1], 16))
    assert sizes == [1 + len("__pfx_foo") + 1, 1 + len("__pfx_foo") + 1 + len("bar") + 1]


def test_blocks_of_a_long_text(tmp_path: Path) -> None:
    """A text of several of the parser's blocks: lines, pairs and brackets across each edge."""
    lines = ["ffffffff81000000 T _stext"]
    for number in range(15_000):
        name = f"f{number}" + "x" * (number % 7)
        at, owner = 0xFFFFFFFF81000010 + 64 * number, f"\t[m{number % 3}]" * (number % 5 == 4)
        lines += [f"{at:x} t __pfx_{name}{owner}", f"{at + 16:x} T {name}{owner}"]
    lines.append("ffffffff82000000 T _etext")
    text = "".join(f"{line}\n" for line in lines)
    assert len(text) > 3 << 18
    source = tmp_path / "long"
    source.write_text(text)
    package.snapshot(kallsyms=source).write(tmp_path / "long.elf")
    same_by_nm(tmp_path / "long.elf", text)
    same_rows(package.load(tmp_path / "long.elf"), reference(text.encode()))


def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    odd = [
        "[x]",
        "0x10",
        "ffffffff81000010",
        "a.b$c@d",
        "-o",
        "é",
        "a]",
        "[",
        "__per_cpu_start",
    ]
    text = "".join(f"{0xFFFFFFFF82000000 + 16 * i:x} t {n}\n" for i, n in enumerate(odd))
    table = taken(TEXT + text, tmp_path)
    for number, name in enumerate(odd):
        assert [s.address for s in table.find(name)] == [0xFFFFFFFF82000000 + 16 * number]


@pytest.mark.parametrize("name", ["alph", "lpha", "alpha\0beta", "alpha\0", "\0", "", "\ud800"])
def test_find_what_is_no_name(name: str, tmp_path: Path) -> None:
    """Not a part of a name, nor two of them with the NUL between."""
    assert taken(TEXT, tmp_path).find(name) == []


# -- texts and images broken at random ------------------------------------------------------

WHOLE = (
    b"0000000000000000 A __per_cpu_start\n"
    b"ffffffff81000000 T _stext\n"
    b"ffffffff81000000 T _text\n"
    b"ffffffff81000010 T __pfx_alpha\n"
    b"ffffffff81000020 T alpha\n"
    b"ffffffff81000040 t beta\n"
    b"ffffffff81000040 W beta_alias\n"
    b"ffffffff81001000 T _etext\n"
    b"ffffffff81200000 D jiffies\n"
    b"ffffffffc0000000 t $x\t[mod]\n"
    b"ffffffffc0000000 t __pfx_open\t[mod]\n"
    b"ffffffffc0000010 t open\t[mod]\n"
    b"ffffffffc0001000 d state\t[mod]\n"
    b"ffffffffc0000800 t prog\t[bpf]\n"
    b"ffffffffc0004000 t other\t[dom]\n"
)
NARROW = re.sub(rb"(?m)^[0-9a-f]{8}", b"", WHOLE)
LINE = re.compile(
    rb"([0-9a-f]{8}|[0-9a-f]{16}) ([!-~]) ([^\0\n\t]+?)(?:(?:\t| +)\[([^\0-\x20]+)\])?"
)
Row = tuple[int, str, str, str | None]


def reference(data: bytes) -> list[Row]:
    """Address, letter, name and bracket of each line of a whole text, read plainly."""
    assert data.endswith(b"\n")
    found = []
    if data.splitlines(keepends=True)[0].endswith(b"\r\n"):
        data = data.replace(b"\r\n", b"\n")
    for line in data[:-1].split(b"\n"):
        match = LINE.fullmatch(line)
        assert match, f"this is no kallsyms, and was taken: {line!r}"
        _, letter, name, owner = (
            None if part is None else part.decode("utf-8", "surrogateescape")
            for part in match.groups()
        )
        assert letter
        assert name
        found.append((int(match[1], 16), letter, name, owner))
    return found


def is_placed(symbol: Symbol) -> bool:
    """Whether it is more than listed: in a section, or absolute."""
    return symbol.section is not None or symbol.letter in ("a", "A")


def same_rows(table: SymbolTable, expected: list[Row]) -> None:
    """Hold every symbol against its line; what is only listed is in no module."""
    found = Counter((s.address, s.letter, s.name) for s in table)
    assert found == Counter(row[:3] for row in expected)
    placed = Counter((s.address, s.letter, s.name, s.module) for s in table if s.section)
    assert not placed - Counter(expected)


def nm_bytes(path: Path) -> Counter[tuple[int, str]]:
    out = subprocess.check_output(["nm", "-p", path])
    return Counter(
        (int(match[1], 16), match[2].decode("utf-8", "surrogateescape"))
        for match in re.finditer(rb"([0-9a-f]+) . ([^\n]*)\n", out)
    )


@st.composite
def broken_texts(draw: st.DrawFn) -> bytes:
    """A text with bytes replaced, put in and taken out, lines moved, or its end cut off."""
    data = draw(st.sampled_from([WHOLE, NARROW]))
    byte = st.sampled_from(b"\n\t \0[]aA0f\r$_\xc3\xff") | st.integers(0, 255)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["replace", "insert", "delete", "cut", "swap", "double"]))
        if kind == "replace":
            data = data[:at] + bytes([draw(byte)]) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + bytes([draw(byte)]) + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + draw(st.integers(1, 40)) :]
        elif kind == "cut":
            data = data[:at]
        else:
            lines = data.splitlines(keepends=True) or [b""]
            one, two = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            if kind == "swap":
                lines[one], lines[two] = lines[two], lines[one]
            else:
                lines.insert(two, lines[one])
            data = b"".join(lines)
    return data


@settings(max_examples=400, deadline=None)
@given(broken_texts())
@example(WHOLE)
@example(NARROW)
@example(WHOLE.replace(b"[mod]", b"[m\xffd]"))
@example(WHOLE.replace(b"[mod]", b"[m]d]"))
@example(WHOLE.replace(b"beta_alias", b"b\xffta_alias"))
@example(WHOLE.replace(b"t other", b"\xc1 other"))
@example(b"".join(reversed(WHOLE.splitlines(keepends=True))))
def test_broken_text(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Refused, or every line of it and nothing else is in the file."""
    directory = tmp_path_factory.getbasetemp()
    source, elf = directory / "broken", directory / "broken.elf"
    source.write_bytes(data)
    try:
        snapshot = package.snapshot(kallsyms=source)
    except KsymsError:
        assert data not in (WHOLE, NARROW)
        return
    snapshot.write(elf)
    table = package.load(elf)
    same_rows(table, reference(data))
    assert nm_bytes(elf) == Counter((s.address, s.name) for s in table if is_placed(s))
    assert not any(s.exact for s in table)


MARKS = ["_stext", "_etext", "_text", "_end", "_sdata", "_edata", "__init_begin", "_sinittext"]
BASES = [
    0,
    0x1000,
    0xFFFFFFFF81000000,
    0xFFFFFFFFC0000000,
    0xFFFFFFFFC0001000,
    (1 << 64) - 0x2000,
]
# What elflint says where there is nothing but absolute and per-CPU symbols.
NO_SEGMENT = "executables and DSOs cannot have zero program header offset\n"
WHOLE_LINES = st.lists(
    st.tuples(
        st.sampled_from(BASES),
        st.integers(0, 64).map(lambda n: 16 * n) | st.integers(0, 0x1FFF),
        st.sampled_from("tTdDbBrRaAwWvV?"),
        st.sampled_from(["a", "b", "__pfx_a", "__pfx_b", "$x", "$d.1", *MARKS]),
        st.sampled_from([None, None, "one", "two", "bpf", "__builtin__kprobes"]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(WHOLE_LINES)
def test_any_whole_text(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, int, str, str, str | None]]
) -> None:
    """Taken wherever its symbols lie, in whatever order; a size ends at the file's next."""
    directory = tmp_path_factory.getbasetemp()
    root, elf = directory / "any", directory / "any.elf"
    expected = [
        (base + offset, letter, name, owner) for base, offset, letter, name, owner in lines
    ]
    text = "".join(
        f"{address:016x} {letter} {name}" + (f"\t[{owner}]\n" if owner else "\n")
        for address, letter, name, owner in expected
    )
    write_root(root, text)  # with a machine, for eu-elflint knows no other
    own = {name for _, _, name, owner in expected if owner is None}
    if not any(row[0] for row in expected) or ("_stext" in own) != ("_etext" in own):
        with pytest.raises(KsymsError):
            package.snapshot(root)
        return
    package.snapshot(root).write(elf)
    table = package.load(elf)
    same_rows(table, expected)
    assert nm_bytes(elf) == Counter((s.address, s.name) for s in table if is_placed(s))
    assert [s.address for s in table] == sorted(row[0] for row in expected)
    named = [s for s in table if s.section and s.kind != "none"]
    for symbol in named:
        inside = range(symbol.address + 1, symbol.address + symbol.size)
        assert not any(s.address in inside for s in named if s.module == symbol.module)
        found = table.lookup(symbol.address)
        assert found is not None
        assert found.address == symbol.address
    lint = subprocess.run(["eu-elflint", "-d", elf], capture_output=True, text=True)
    assert lint.stdout in ("No errors\n", NO_SEGMENT)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A snapshot of each class and byte order, and the assembler's object file."""
    directory = tmp_path_factory.mktemp("images")
    found = {}
    for name, text, order in (
        ("64-little", WHOLE, b"little"),
        ("64-big", WHOLE, b"big"),
        ("32-little", NARROW, b"little"),
        ("32-big", NARROW, b"big"),
    ):
        root = directory / name
        (root / "proc").mkdir(parents=True)
        (root / "sys/kernel").mkdir(parents=True)
        (root / "proc/kallsyms").write_bytes(text)
        (root / "sys/kernel/cpu_byteorder").write_bytes(order)
        found[name] = bytes(package.snapshot(root).image)
    source = directory / "a.s"
    source.write_text(".globl f\nf: .zero 8\n.size f,8\ng: .zero 8\n.data\nh: .quad 1\n")
    subprocess.run(["as", "-o", directory / "a.o", source], check=True)
    found["object"] = (directory / "a.o").read_bytes()
    return found


KINDS = ["64-little", "64-big", "32-little", "32-big", "object"]


BYTE = st.sampled_from([0, 1, 2, 3, 8, 0x7F, 0x80, 0xFE, 0xFF]) | st.integers(0, 255)
# Counted from the file's start, its end, where the section headers are, or either.
PLACE = st.integers(0, 63) | st.integers(-1200, -1) | st.integers(0, 4000)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(PLACE, BYTE), max_size=6),
    length=st.none() | st.integers(0, 4000),
)
def test_broken_image(
    images: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    changes: list[tuple[int, int]],
    length: int | None,
) -> None:
    """Refused or answered by the library and ``ksyms info``, and never slowly."""
    image = bytearray(images[kind])
    for place, value in changes:
        image[place % len(image)] = value
    path = tmp_path_factory.getbasetemp() / "broken-image"
    path.write_bytes(image[:length])
    with at_most(20):
        use(path)


def test_image_cut_anywhere(images: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "cut"
    image = images["64-little"]
    for length in range(0, len(image), 7):
        path.write_bytes(image[:length])
        with pytest.raises(package.ImageError):
            package.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_image_with_each_byte_of_a_header_changed(
    kind: str, images: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "changed"
    image = images[kind]
    headers = int.from_bytes(
        image[40:48] if image[4] == 2 else image[32:36], "little" if image[5] == 1 else "big"
    )
    for place in [*range(64), *range(headers, len(image), 5)]:
        for value in (image[place] ^ 1, image[place] ^ 0xFF):
            path.write_bytes(image[:place] + bytes([value]) + image[place + 1 :])
            with at_most(20):
                use(path)


def use(path: Path) -> None:
    """Ask everything of an image; only a KsymsError may come of it."""
    with contextlib.suppress(KsymsError):
        table = package.load(path)
        for ask in (
            lambda: len(table),
            lambda: list(table),
            lambda: table[:3],
            lambda: table.find("open"),
            lambda: table.find("alpha"),
            lambda: [table.lookup(s.address + 1) for s in table],
            lambda: [table.lookup(a) for a in (0, 1, 0xFFFFFFFF81000021, (1 << 64) - 1)],
            lambda: table.sections,
            lambda: table.facts,
        ):
            with contextlib.suppress(KsymsError):
                ask()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["info", str(path)])
    assert status == (1 if err.getvalue() else 0)
    assert bool(out.getvalue()) == (status == 0)


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """An error where what is inside does not end."""

    def late(signum: int, frame: object) -> None:
        raise AssertionError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("command", ["info", "info --json"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id":1', b'"ie":1'),
        (b'"id":1', b'"id":{'),
        (b'"id":2,"name"', b'"id":2,"nane"'),
        (b'"files":', b'"filez":'),
        (b'"files":[{', b'"files":"{'),
        (b'"symbols":9', b'"symbolz":9'),
        (b'"build_id":null,"boot', b'"build_id":1234,"boot'),
        (b'"link_time":{', b'"link_time":"'),
        (b'"addresses":{', b'"addressez":{'),
        (b'"absent":{', b'"absens":{'),
        (b'"release":null', b'"release":1234'),
        (b'"time":"', b'"tine":"'),
    ],
)
def test_note_with_other_members(
    command: str, old: bytes, new: bytes, images: dict[str, bytes], tmp_path: Path
) -> None:
    """A note that is JSON and not what this version writes: answered, or refused."""
    image = images["64-little"]
    assert old in image
    path = tmp_path / "noted.elf"
    path.write_bytes(image.replace(old, new))
    run = ksyms(*command.split(), path)
    if run.returncode == 1:
        refused(run, ".note.ksyms", "Take the snapshot again")
    else:
        assert (run.returncode, run.stderr) == (0, "")


def test_note_of_another_version(images: dict[str, bytes], tmp_path: Path) -> None:
    image = images["64-little"]
    header = b"\x06\0\0\0" + image.split(b"\x01\0\0\0ksyms\0")[0][-4:]
    old = header + b"\x01\0\0\0ksyms\0"
    assert image.count(old) == 1
    path = tmp_path / "later.elf"
    path.write_bytes(image.replace(old, header + b"\x02\0\0\0ksyms\0"))
    refused(ksyms("info", path), "version 2", "later one")
    refused(ksyms("lookup", "--from", path, "alpha"), "version 2", "later one")


def test_errors_of_the_library_are_the_command_lines(text: Path) -> None:
    """One tree: what, remedy and errno on each."""
    for source, kind, number in (
        ("missing", package.SourceError, errno.ENOENT),
        (".", package.SourceError, errno.EISDIR),
        (os.devnull, package.KallsymsError, errno.EINVAL),
    ):
        with pytest.raises(kind) as caught:
            package.snapshot(kallsyms=source)
        assert caught.value.errno == number
        assert str(caught.value) == f"{caught.value.what} {caught.value.remedy}"
    with pytest.raises(package.OutputError) as failed:
        package.snapshot(kallsyms=text).write("/dev/full")
    assert failed.value.errno == errno.ENOSPC
    text.write_text(ZEROS)
    with pytest.raises(package.HiddenError) as hidden:
        package.snapshot(kallsyms=text)
    assert hidden.value.errno == errno.EPERM
    with pytest.raises(ValueError, match="layout"):
        package.snapshot(layout="none")
