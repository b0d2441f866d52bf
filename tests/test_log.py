"""Decisions in the log: what was chosen or refused, and why; and never an address."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ksyms as api
from command import ksyms
from conftest import FIXTURES, Kernel
from elf_files import compile_c
from ksyms._snapshot import take
from ksyms._sources import KERNEL, Input, choose_source

SLIDE = 0x4000000
NAME = "6.12.117+deb12-amd64-few"


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "ksyms")
    return caplog


def test_the_source_and_why(
    text: Path, saved: dict[str, Kernel], records: pytest.LogCaptureFixture
) -> None:
    kernel = saved[NAME]
    api.load(text)
    api.load(kernel.elf)
    api.snapshot(kernel.root)
    chosen = [m for m in records.messages if m.startswith("the source is ")]
    assert chosen == [
        f"the source is a kallsyms text: {text} (--from)",
        f"the source is an ELF file: {kernel.elf} (--from)",
        f"the source is a machine's saved files: {kernel.root} (--root)",
    ]
    # The saved files have no System.map, as the archive's list of members says.
    missing = "boot/System.map-6.12.117+deb12-amd64"
    assert not (kernel.root / missing).exists()
    assert f"{missing} was not read: No such file or directory" in records.messages
    assert {(r.name, r.levelno) for r in records.records} == {("ksyms", logging.DEBUG)}
    assert {r.filename for r in records.records} == {"choose.py", "snapshot.py"}


@pytest.mark.parametrize("times", [1, 2])
def test_a_try_that_was_retried(
    times: int, tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    """A file that is written to while it is read: once, or in two tries."""
    path = compile_c(tmp_path / "kernel", "int main(void) { return 0; }\n", "-Wl,-z,norelro")
    left = times

    def write(length: int) -> None:
        nonlocal left
        if left:
            left -= 1
            path.write_bytes(path.read_bytes())

    given = Input(str(path), KERNEL, progress=write)
    with choose_source(given).open(given) as source:
        take(source, "freebsd")
    tries = [message for message in records.messages if message.startswith("try ")]
    assert tries == [
        f"try {number} of 3: moved: {path} was written to" for number in range(1, times + 1)
    ]


def test_the_boot_that_is_believed(saved: dict[str, Kernel]) -> None:
    """Of a text of another boot the log has the line and the belief, and not the slide."""
    kernel = saved[NAME]
    address = next(a for a, _, name, _ in kernel.lines if name == "vfs_write") + 4 + SLIDE
    told = f"Linux version 6.12.117+deb12-amd64 (x)\n[<{address:016x}>] vfs_write+0x4/0x50\n"
    run = ksyms("decode", "--verbose", "--from", kernel.elf, input=told)
    said = run.stderr.splitlines()
    words = "names with offsets, or a line on the kernel's start, show the slide"
    assert f"ksyms: line 2: {words}" in said
    assert f"{SLIDE:x}" not in run.stderr
    assert f"{address:x}" not in run.stderr


def test_no_line_has_an_address(saved: dict[str, Kernel], tmp_path: Path) -> None:
    """Nothing that kptr_restrict hides is in the log of any command."""
    kernel = saved[NAME]
    archive = FIXTURES / f"{NAME}.tar.gz"
    page, image, packed = (tmp_path / name for name in ("page", "image", "packed"))
    addresses = {address for address, _, _, _ in kernel.lines}
    mean = sorted(addresses)[len(addresses) // 2] + 4
    told = f"Kernel Offset: {SLIDE:#x} from 0xffffffff81000000\n{mean + SLIDE:016x}\n"
    runs = [
        ksyms("snapshot", "--verbose", "--root", kernel.root, "-o", image),
        ksyms("snapshot", "--verbose", "--portable", "--root", archive, "-o", packed),
        ksyms("snapshot", "--verbose", "--kernel", image, "-o", tmp_path / "again"),
        ksyms("info", "--verbose", archive),
        ksyms("lookup", "--verbose", "--from", archive, "schedule", f"{mean:#x}"),
        ksyms("decode", "--verbose", "--from", archive, input=told),
        ksyms("diff", "--verbose", image, packed),
        ksyms("map", "--verbose", "-o", page, archive),
        ksyms("collect", "--verbose", "--root", kernel.root, "-o", tmp_path / "tar"),
    ]
    shown = "".join(run.stderr for run in runs)
    assert shown.count("the source is ") >= len(runs)
    digits = re.findall(r"(?:0x)?([0-9a-fA-F]{5,})", shown)
    values = {int(word, 16) for word in digits}
    assert not values & {each + move for each in addresses for move in (0, SLIDE)}
    assert SLIDE not in values
    assert not re.search(r"(?i)(?:0x)?ffff[0-9a-f]{8}", shown)


def test_who_asks_for_no_log_waits_for_none(text: Path) -> None:
    program = (
        "import sys, ksyms\n"
        f"ksyms.load({str(text)!r})\n"
        "before = sys.modules.pop('logging', None)\n"
        f"ksyms.load({str(text)!r})\n"
        "assert 'logging' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_without_verbose_nothing_is_said(text: Path) -> None:
    quiet = ksyms("lookup", "--from", text, "alpha")
    said = ksyms("lookup", "--verbose", "--from", text, "alpha")
    assert (quiet.stderr, quiet.stdout) == ("", said.stdout)
    assert said.stderr.startswith(f"ksyms: the source is a kallsyms text: {text} (--from)\n")
