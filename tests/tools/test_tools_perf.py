"""perf takes the file for the running kernel's vmlinux, and finds kallsyms' names in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oracles import Subject, subject

if TYPE_CHECKING:
    from conftest import Kernel

TEST = "vmlinux symtab matches kallsyms"
NAME = re.compile(r"WARN: (0x[0-9a-f]+): diff name v: (\S+) k: (\S+)")
MAP = re.compile(r" ([0-9a-f]+)-([0-9a-f]+) [0-9a-f]+ \[kernel\](\S+)")
MAPS = "WARN: Maps only in vmlinux:"
# One byte a system call, so that nearly all of the time is the kernel's.
BUSY = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=400000")
RECORD = ("record", "-e", "cpu-clock:k", "-F", "2000", "-o", "perf.data")

Perf = Callable[..., str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory that perf runs in, and its home: the build-id cache is there."""
    return tmp_path_factory.mktemp("perf")


@pytest.fixture(scope="module")
def perf(place: Path) -> Perf:
    """Run perf; gives what it prints, to stdout and stderr."""

    def run(*argv: str | Path) -> str:
        done = subprocess.run(
            ["perf", *argv],
            cwd=place,
            env=os.environ | {"HOME": str(place), "PERF_PAGER": "cat"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def held(live: Kernel) -> Subject:
    return subject(live)


@pytest.fixture(scope="module")
def number(perf: Perf) -> str:
    """The number of the test among perf's own."""
    match = re.search(rf"^ *(\d+): {TEST}$", perf("test", "list"), re.M)
    assert match
    return match[1]


@pytest.fixture(scope="module")
def verdict(perf: Perf, number: str, place: Path, held: Subject) -> list[str]:
    """The lines of perf's own test with the snapshot as ``vmlinux`` in its directory."""
    vmlinux = place / "vmlinux"
    shutil.copy(held.elf, vmlinux)
    lines = perf("test", "-v", number).splitlines()
    vmlinux.unlink()
    return lines


@pytest.fixture(scope="module")
def recorded(perf: Perf) -> None:
    """``perf.data`` with samples of the kernel."""
    perf(*RECORD, "--", *BUSY)


def test_symtab_matches_kallsyms(verdict: list[str]) -> None:
    assert "Using vmlinux for symbols" in verdict
    assert verdict[-1] == f"{TEST}: Ok"
    assert [line for line in verdict if line.startswith("ERR")] == []


def test_symtab_test_uses_no_other_vmlinux(perf: Perf, number: str) -> None:
    assert "Using vmlinux for symbols" not in perf("test", "-v", number).splitlines()


def test_every_warning_is_explained(verdict: list[str], held: Subject) -> None:
    """``diff name``: perf keeps one name an address, and each side may keep another.

    Of the names at one address perf prefers one with a length (symbol.c,
    choose_best_symbol). kallsyms gives no lengths, and perf takes the distance to the
    next line, which is 0 for all but the last name of an address; in the file each has
    the same length, so that what counts is the binding and then the spelling.

    ``Maps only in vmlinux``: perf makes a map of each section but ``.text``, and one of
    all of kallsyms.
    """
    warnings = [line for line in verdict if line.startswith("WARN")]
    names = [NAME.fullmatch(line) for line in warnings if line != MAPS]
    assert None not in names
    found = [(int(m[1], 16), {m[2], m[3]}) for m in names if m]
    assert [(a, pair) for a, pair in found if not pair <= held.names.get(a, set())] == []
    assert len(found) <= sum(len(held.names[a]) > 1 for a in held.code)


def test_every_map_only_in_the_file_is_a_section(verdict: list[str], held: Subject) -> None:
    maps = {
        (m[3], int(m[1], 16), int(m[2], 16)) for line in verdict if (m := MAP.fullmatch(line))
    }
    sections = {(s.name, s.start, s.end) for s in held.memory}
    assert maps
    assert maps <= sections
    assert {".text", ".init.text"} - {name for name, _, _ in maps} == {".text"}


def _sampled(text: str) -> list[tuple[int, str]]:
    """The address and the name of each sample that perf script prints."""
    rows = re.findall(r"^ +([0-9a-f]{16}) (.+)$", text, re.M)
    assert len(rows) >= 50, text[:2000]
    return [(int(address, 16), name) for address, name in rows]


@pytest.mark.usefixtures("recorded")
def test_script_names_each_sample_as_kallsyms_does(perf: Perf, held: Subject) -> None:
    text = perf("script", "-v", "-i", "perf.data", "--vmlinux", held.elf, "-F", "ip,sym")
    assert f"Using {held.elf} for symbols" in text
    for address, name in _sampled(text):
        nearest = held.nearest(address)
        assert nearest is not None
        assert name in held.names[nearest], hex(address)


@pytest.mark.usefixtures("recorded")
def test_report_has_names_of_kallsyms(perf: Perf, held: Subject) -> None:
    text = perf(
        *("report", "-v", "--stdio", "-i", "perf.data", "--vmlinux", held.elf),
        *("--sort", "dso,sym"),
    )
    assert f"Using {held.elf} for symbols" in text
    rows = re.findall(r"^ +[\d.]+% +(\S+) +0x[0-9a-f]+ +\S \[k\] (\S+)$", text, re.M)
    assert len(rows) >= 10, text[:2000]
    assert {file for file, _ in rows} == {str(held.elf)}
    assert {name for _, name in rows} <= set().union(*held.names.values())


@pytest.mark.usefixtures("recorded")
def test_cached_file_is_found_by_its_build_id(perf: Perf, held: Subject, place: Path) -> None:
    """As on another machine: no vmlinux is named, and no kallsyms is that kernel's."""
    perf("buildid-cache", "-P")
    assert "Ok" in perf("buildid-cache", "-v", "-a", held.elf)
    ((build_id, path),) = (line.split() for line in perf("buildid-cache", "-l").splitlines())
    assert path == str(held.elf)
    cached = place / ".debug/.build-id" / build_id[:2] / build_id[2:] / "elf"
    assert cached.read_bytes() == held.elf.read_bytes()
    text = perf("script", "-v", "-i", "perf.data", "-F", "ip,sym")
    assert f"Using {cached} for symbols" in text
    known = set().union(*held.names.values())
    assert {name for _, name in _sampled(text)} <= known


def test_probe_lists_the_functions(perf: Perf, held: Subject) -> None:
    listed = perf("probe", "-k", held.elf, "-F", "vfs_*").split()
    functions = {
        name for address in held.code for name in held.names[address] if name.startswith("vfs_")
    }
    assert set(listed) <= functions
    assert "vfs_read" in listed
