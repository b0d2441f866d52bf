"""What somebody without rights, or a machine without room, can take from who uses ksyms."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ksyms
from callers import NOBODY
from command import COMMAND, TEXT, refused
from conftest import SAVED, Kernel
from served import wait_for

SEQNUM = Path("/sys/kernel/uevent_seqnum")
UEVENTS = """\
import ctypes, time
libc = ctypes.CDLL(None)
assert libc.unshare(0x10000000) == 0  # CLONE_NEWUSER
while libc.unshare(0x40000000) == 0:  # CLONE_NEWNET, whose lo makes events
    time.sleep(0.0005)
"""
"""What anybody can do without rights."""


def seqnum() -> int:
    return int(SEQNUM.read_text())


@contextmanager
def uevents() -> Iterator[None]:
    """While nobody makes uevents, as fast as that goes."""
    begun = seqnum()
    with subprocess.Popen([*NOBODY, sys.executable, "-c", UEVENTS]) as attacker:
        try:
            wait_for(lambda: seqnum() > begun + 20)
            yield
            assert attacker.poll() is None
        finally:
            attacker.kill()


def test_uevents_that_are_no_modules_refuse_no_snapshot() -> None:
    with uevents():
        for _ in range(20):
            before = seqnum()
            ksyms.snapshot()
            assert seqnum() > before, "this snapshot was not attacked"


# -- a file that is made shorter while it is loaded ----------------------------------------

ANSWERS = """\
import os, sys, ksyms
path, copy, keep = sys.argv[1:]
table = ksyms.load(path, copy=copy == "copy")
before = [len(table), *table.find("schedule"), *table]
os.truncate(path, int(keep))
assert [len(table), *table.find("schedule"), *table] == before
"""


@pytest.mark.parametrize("keep", [0, 4096])
@pytest.mark.parametrize("copy", ["copy", "map"])
def test_a_file_that_is_made_shorter(
    live: Kernel, tmp_path: Path, copy: str, keep: int
) -> None:
    """A copy answers as before; a mapped file ends the process, as load() says it does."""
    path = tmp_path / "image"
    path.write_bytes(live.elf.read_bytes())
    asked = [sys.executable, "-c", ANSWERS, str(path), copy, str(keep)]
    run = subprocess.run(asked, capture_output=True, text=True)
    assert run.returncode == (0 if copy == "copy" else -signal.SIGBUS), run.stderr
    with pytest.raises(ksyms.ImageError):  # what is left of it is refused, copied or mapped
        ksyms.load(path, copy=copy == "copy")


@pytest.mark.parametrize("how", [[], ["xz"], ["zstd", "-q"], ["gzip"]])
def test_a_copy_is_of_whatever_load_takes(live: Kernel, tmp_path: Path, how: list[str]) -> None:
    """And is the same table as the one that is mapped."""
    path = tmp_path / "image"
    data = live.elf.read_bytes()
    path.write_bytes(subprocess.check_output([*how, "-c"], input=data) if how else data)
    copied = ksyms.load(path, copy=True)
    assert [*copied] == [*ksyms.load(live.elf)]
    assert copied.label == str(path)
    text = tmp_path / "text"
    text.write_text(TEXT)
    assert [*ksyms.load(text, copy=True)] == [*ksyms.load(text)]
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(ksyms.KsymsError):
            ksyms.load(wrong, copy=True)


@pytest.mark.parametrize("command", ["decode", "lookup"])
def test_a_command_that_lasts_survives_it(live: Kernel, tmp_path: Path, command: str) -> None:
    """What answers as long as something comes has copied the file."""
    path = tmp_path / "image"
    path.write_bytes(live.elf.read_bytes())
    names: dict[int, set[str]] = {}
    for at, letter, symbol, module in live.lines:
        if letter in "tT" and module is None:
            names.setdefault(at, set()).add(symbol)
    first, *others = list(names)[:: len(names) // 500]
    arguments = {"decode": [], "lookup": ["-"]}[command]
    with subprocess.Popen(
        [COMMAND, command, "--from", path, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdin
        assert run.stdout
        run.stdin.write(f"{first:016x}\n")
        run.stdin.flush()
        answer = run.stdout.readline()
        assert any(name in answer for name in names[first])
        os.truncate(path, 0)
        out, _ = run.communicate("".join(f"{at:016x}\n" for at in others))
    assert run.returncode == 0
    for at, line in zip(others, out.splitlines(), strict=True):
        assert any(name in line for name in names[at]), line


# -- no thread, and no room for one -----------------------------------------------------------

ALONE = (
    *("prlimit", "--nproc=1:1"),
    *("setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"),
)
"""Starts a program as a user who has no other process, and may have no thread more."""
PATIENCE = 120
"""Seconds that nothing here takes unless it hangs."""
LIMITED = """\
import re, resource, sys, numpy, ksyms
from pathlib import Path
from ksyms._linker import assemble, bpf_syscall, kallsyms, kallsyms_symbols, raw_files
from ksyms._snapshot import linux
[size] = re.findall("VmSize:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())
stack = resource.getrlimit(resource.RLIMIT_STACK)[0] >> 10
limit = int(size) + stack + {beyond} << 10
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    ksyms.snapshot(kallsyms=sys.argv[1])
except (MemoryError, ksyms.KsymsError) as error:
    assert isinstance(error, MemoryError) or error.errno == 12, error
"""


@pytest.fixture(scope="module")
def of_all(saved: dict[str, Kernel]) -> Iterator[dict[str, Path]]:
    """Files that everybody may read: a text, an image of it, and lines to decode."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        text, image, console = (Path(place, n) for n in ("kallsyms", "image", "console"))
        shutil.copy(saved[SAVED[0]].root / "proc/kallsyms", text)
        ksyms.snapshot(kallsyms=text).write(image)
        console.write_text("RIP: 0010:vfs_read+0x10/0x20\n" * 100)
        for path in (text, image, console):
            path.chmod(0o644)
        yield {"text": text, "image": image, "console": console}


@pytest.mark.parametrize(
    "command",
    [
        "lookup --kallsyms {text} vfs_read schedule",
        "lookup --from {image} vfs_read",
        "decode --from {text} {console}",
        "diff {image} {text}",
        "info {image}",
    ],
)
def test_commands_do_without_a_thread(command: str, of_all: dict[str, Path]) -> None:
    """They say what they say with one, and nothing else is printed."""
    arguments = command.format(**of_all).split()
    usual = subprocess.run([COMMAND, *arguments], capture_output=True, check=True)
    run = subprocess.run([*ALONE, COMMAND, *arguments], capture_output=True, cwd="/")
    assert (run.returncode, run.stdout) == (0, usual.stdout)
    assert run.stderr == usual.stderr


def test_a_snapshot_does_without_a_thread(of_all: dict[str, Path]) -> None:
    snapshot = ["snapshot", "--kallsyms", str(of_all["text"]), "-o", "-"]
    asked: list[str | Path] = [*ALONE, COMMAND, *snapshot]
    run = subprocess.run(asked, capture_output=True, check=True)
    assert [*ksyms.load(memoryview(run.stdout))] == [*ksyms.load(of_all["image"])]
    assert run.stderr == b""


def test_what_needs_a_thread_says_so(of_all: dict[str, Path]) -> None:
    place = of_all["text"].with_name("mount")
    asked: list[str | Path] = [*ALONE, COMMAND, "serve", place]
    run = subprocess.run(asked, capture_output=True, text=True)
    refused(run, "There is no thread to be had", "ulimit -u")


def test_the_programs_environment_is_its_own(live: Kernel) -> None:
    """What keeps numpy from threads is for ksyms itself, and gives way to the user's word."""
    asked = [str(COMMAND), "exec", "--", "sh", "-c", "echo ${OPENBLAS_NUM_THREADS-none}"]
    assert subprocess.check_output(asked, text=True) == "none\n"


@pytest.mark.parametrize("beyond", [0, 4, 8, 16, 24, 40, 64, 128, 512])
def test_a_reader_without_memory(beyond: int, of_all: dict[str, Path]) -> None:
    """Wherever there is none: for its thread, for what it reads into; it says so, and ends."""
    code = LIMITED.format(beyond=beyond)
    asked: list[str | Path] = [sys.executable, "-c", code, of_all["text"]]
    run = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
