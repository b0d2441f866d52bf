"""Two stock Debian kernels in QEMU, each booted once; guest.py is what runs in them.

The checkout's ksyms and this Python run in the VM too, for it sees this machine's files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import pytest
from guests import HERE, KERNELS, SRC, in_guest, lab

import ksyms
from ksyms import SymbolTable

pytestmark = pytest.mark.vm

Line = tuple[int, str, str, str | None]
"""Address, letter, name and bracket."""
MODULES = {"dummy", "loop", "ext4", "nf_tables", "bridge"}
REFUSED = {
    "kptr-restrict": ("kernel.kptr_restrict is 2", "sysctl kernel.kptr_restrict=1"),
    "no-syslog": ("without CAP_SYSLOG", "Run this as root"),
    "nobody": ("without CAP_SYSLOG", "Run this as root"),
    "user-namespace": ("initial user namespace", "outside of the container"),
}


@pytest.fixture(scope="module", params=KERNELS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What guest.py left, after a boot of the kernel."""
    directory = tmp_path_factory.mktemp(f"vm-{request.param}")
    command = in_guest(str(HERE / "guest.py"), str(SRC), str(directory))
    run = lab(KERNELS[request.param], directory, command, KSYMS_LAB_TIMEOUT="1200")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (directory / "before/proc/kallsyms").read_bytes() == (
        directory / "after/proc/kallsyms"
    ).read_bytes(), "the VM's symbols moved while nothing was loaded"
    return directory


def lines(results: Path) -> list[Line]:
    """The lines of the VM's kallsyms."""
    rows: list[Line] = []
    for line in (results / "after/proc/kallsyms").read_text().splitlines():
        match = re.fullmatch(r"([0-9a-f]{16}) (\S) (\S+)(?:\t\[(\S+)\])?", line)
        assert match, line
        rows.append((int(match[1], 16), match[2], match[3], match[4]))
    return rows


def modules(results: Path) -> list[list[str]]:
    """The words of each line of the VM's /proc/modules."""
    return [line.split() for line in (results / "after/proc/modules").read_text().splitlines()]


def nm(elf: Path) -> list[tuple[int, str, str]]:
    """Address, name and section of each symbol, by nm."""
    text = subprocess.check_output(["nm", "-p", "-f", "sysv", elf], text=True)
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[0] != "Name":
            rows.append((int(cells[1], 16), cells[0], cells[6]))
    return rows


def bracket(section: str) -> str | None:
    match = re.match(r"\[(.*?)\]", section)
    return match[1] if match else None


def said(results: Path, step: str) -> tuple[str, str, str]:
    """A step's exit status, stdout and stderr."""
    status, out, err = (
        (results / step / name).read_text() for name in ("status", "stdout", "stderr")
    )
    return status, out, err


@pytest.mark.parametrize("step", ["snapshot", "nobody-allowed"])
def test_snapshot_is_kallsyms(results: Path, step: str) -> None:
    """Every line of kallsyms and nothing else, each in a section of its own module."""
    status, out, err = said(results, step)
    assert (status, err) == ("0", "")
    assert out.startswith("kernel.elf: ")
    assert [path.name for path in (results / step / "left").iterdir()] == ["kernel.elf"]
    # A module's per-CPU variables are offsets, in no section of it.
    expected = Counter(
        (address, name, None if letter in "aA" else module)
        for address, letter, name, module in lines(results)
    )
    found = Counter(
        (address, name, bracket(section))
        for address, name, section in nm(results / step / "left/kernel.elf")
    )
    assert found == expected
    assert {row[0] for row in modules(results)} >= MODULES


def test_every_kind_of_bracket_was_there(results: Path) -> None:
    """What the smoke test means to test: modules, BPF, kprobe and ftrace pages."""
    brackets = {module for _, _, _, module in lines(results)}
    assert brackets >= {*MODULES, "bpf", "__builtin__ftrace", "__builtin__kprobes", None}


@pytest.mark.parametrize("step", ["snapshot", "nobody-allowed"])
def test_elflint(results: Path, step: str) -> None:
    run = subprocess.run(
        ["eu-elflint", "-d", results / step / "left/kernel.elf"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, "No errors\n")


def test_letters(results: Path) -> None:
    """kallsyms' own letters, which nm cannot tell from NOBITS sections."""
    table = ksyms.load(results / "snapshot/left/kernel.elf")
    found = Counter((symbol.address, symbol.name, symbol.letter) for symbol in table)
    assert found == Counter(
        (address, name, letter) for address, letter, name, _ in lines(results)
    )


def test_build_ids(results: Path) -> None:
    """The kernel's by its notes; a module's by readelf of the file it was loaded from."""
    elf = results / "snapshot/left/kernel.elf"
    facts = ksyms.load(elf).facts
    notes = (results / "after/sys/kernel/notes").read_bytes()
    [identity] = re.findall(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0(.{20})", notes, re.S)
    assert facts["build_id"] == identity.hex()
    assert f"Build ID: {identity.hex()}" in readelf_notes(elf)
    by_name = {file["name"]: file["build_id"] for file in facts["files"]}
    saved = list((results / "ko").iterdir())
    assert len(saved) == 2
    for module in saved:
        assert f"Build ID: {by_name[module.stem]}" in readelf_notes(module)


def readelf_notes(path: Path) -> str:
    return subprocess.check_output(["readelf", "-n", path], text=True)


def test_modules_of_the_note(results: Path) -> None:
    """The note's modules are those of /proc/modules, at the addresses it gives."""
    rows = modules(results)
    facts = ksyms.load(results / "snapshot/left/kernel.elf").facts
    found = {f["name"]: f["module"] for f in facts["files"] if "module" in f}
    assert {name: (m["size"], int(m["address"], 16)) for name, m in found.items()} == {
        row[0]: (int(row[1]), int(row[5], 16)) for row in rows
    }
    assert list(found) == [row[0] for row in reversed(rows)]  # in the order of loading


@pytest.mark.parametrize("step", REFUSED)
def test_refused(results: Path, step: str) -> None:
    assert_refused(results, step, *REFUSED[step])


def test_moving(results: Path) -> None:
    """While a module comes and goes each is refused, or of one moment."""
    assert (results / "moving/moved").read_text() == "True"
    rows = lines(results)
    steps = [f"moving/{path.parent.name}" for path in results.glob("moving/*/status")]
    assert steps
    for step in steps:
        elf = results / step / "left/kernel.elf"
        if not elf.exists():
            assert_refused(results, step, "moved during each of 3 tries", "Try again")
            continue
        assert said(results, step)[::2] == ("0", "")
        table = ksyms.load(elf)
        found = [(s.address, s.letter or "", s.name, s.module) for s in table]
        assert others(found) == others(rows), "a line is missing, or there twice"
        dummy = Counter(name for *_, name, module in found if module == "dummy")
        if dummy:
            assert_whole(dummy, table, rows)


def others(rows: Iterable[Line]) -> Counter[Line]:
    """What is neither the module's that moves nor of the BPF program, which has gone."""
    return Counter(row for row in rows if row[3] not in ("dummy", "bpf"))


def assert_whole(found: Counter[str], table: SymbolTable, rows: list[Line]) -> None:
    """All of dummy's names, as often as it has them.

    While it is being loaded it lists its init sections' besides. Then ftrace remembers its
    init function, and lists it behind all modules, until it is being unloaded
    (kernel/trace/ftrace.c, ftrace_release_mod).
    """
    listed = Counter(name for *_, name, module in rows if module == "dummy")
    first = next(at for at, row in enumerate(rows) if row[3] == "dummy")
    own = Counter(row[2] for row in takewhile(lambda row: row[3] == "dummy", rows[first:]))
    [module] = [file["module"] for file in table.facts["files"] if file["name"] == "dummy"]
    assert found >= own, module
    if module["state"] == "Live" and not module["refcount"]:
        assert found == listed


def assert_refused(results: Path, step: str, what: str, remedy: str) -> None:
    """One sentence on what, one on what to do, and no file."""
    status, out, err = said(results, step)
    assert (status, out) == ("1", "")
    assert re.fullmatch(r"ksyms: \S.*\.\n {7}\S.*\.\n", err), err
    first, second = err.splitlines()
    assert what in first
    assert remedy in second
    assert list((results / step / "left").iterdir()) == []


def test_info_and_lookup_elsewhere(results: Path) -> None:
    """The VM's file, read on this machine by the command line."""
    elf = results / "snapshot/left/kernel.elf"
    command = Path(sys.executable).parent / "ksyms"
    facts = json.loads(subprocess.check_output([command, "info", "--json", elf]))
    rows = lines(results)
    assert facts["symbols"] == len(rows)
    functions = [row for row in rows if row[3] == "dummy" and row[1] in "tT"]
    address, _, name, _ = functions[0]
    text = subprocess.check_output(
        [command, "lookup", "--json", "--from", elf, f"{address + 1:x}"], text=True
    )
    answer = json.loads(text)
    assert (answer["name"], answer["module"], answer["offset"]) == (name, "dummy", 1)
