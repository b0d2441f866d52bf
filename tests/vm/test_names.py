"""Every answer of ksyms beside the kernel's own: what ``%pS`` prints for the same address.

names.py makes the scene in one boot of each kernel: a function tracer, freed init functions
with other modules on their memory, a livepatch, BPF programs, trampolines.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from guests import HERE, KERNELS, build_modules, in_guest, lab

from command import COMMAND

pytestmark = pytest.mark.vm

WORDS = re.compile(r"(\S+)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\S+)\])?")
LISTED = ("bpf", "__builtin__ftrace", "__builtin__kprobes")
"""Brackets of kallsyms that %pS does not print."""
LIVE_CODE = ("ftrace_trampoline", "kprobe_insn_page", "kprobe_optinsn_page")
"""Code that kallsyms lists and no lookup of the kernel's knows; ksyms names it."""
ENDS = ("_end", "__brk_limit", "__init_scratch_end")
"""Symbols behind the image: the kernel has no name there, and elfutils that of no size."""
WRAPPED = 1 << 40
"""Before Linux 6.12.35 (and 6.16) the kernel's size of a module's data is less than nothing."""


class Name(NamedTuple):
    """What something calls an address; ``size`` is None where that is not told."""

    name: str
    offset: int
    size: int | None
    module: str | None


@pytest.fixture(scope="module", params=KERNELS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What names.py left, after a boot of the kernel."""
    package = KERNELS[request.param]
    built = tmp_path_factory.mktemp("modules")
    build_modules(package, built)
    directory = tmp_path_factory.mktemp("names")
    run = lab(
        package,
        directory,
        in_guest(str(HERE / "names.py"), str(built), str(directory)),
        KSYMS_LAB_TIMEOUT="1200",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return directory


@pytest.fixture(scope="module")
def kernels(results: Path) -> dict[int, Name | None]:
    """What the kernel calls each address; None where it has no name.

    An offset that is not less than the size is no name: before Linux 6.12.35 the last function
    of a module answered for its data, with the size that it has up to the end of the code.
    """
    found: dict[int, Name | None] = {}
    for line in (results / "names").read_text().splitlines():
        address, words = int(line[:16], 16), line[17:]
        match = WORDS.fullmatch(words)
        assert match or words == f"{address:#x}", line
        found[address] = None
        if match:
            offset, size = int(match[2], 16), int(match[3], 16)
            if offset < size:
                told = None if size > WRAPPED else size
                found[address] = Name(match[1], offset, told, match[4])
    return found


def test_the_scene(results: Path, kernels: dict[int, Name | None]) -> None:
    """The kernel names what it is to name, and nothing for what it is not to name."""
    left = json.loads((results / "left").read_text())
    assert left == {
        "cmdline": "this has been live patched\n",
        "programs": 3,
        "patched": "1",
    }
    modules = Counter(name.module for name in kernels.values() if name)
    assert len(kernels) >= 2000
    assert modules[None] > 1000
    assert min(modules[f"ksyms_{name}"] for name in ("freed", "after", "patch", "names")) > 10
    named = {name.name for name in kernels.values() if name}
    assert {"after_long", "after_longer", "patch_cmdline_proc_show"} <= named
    assert any(name.startswith("bpf_prog_") for name in named)
    assert {kernels[address] for address in (0, 0x28, 0x1000, 0x35000)} == {None}
    with tarfile.open(results / "root.tar.gz") as archive:
        file = archive.extractfile("proc/kallsyms")
        assert file is not None
        kallsyms = file.read().decode()
    lines = [line.split(maxsplit=2) for line in kallsyms.splitlines()]
    assert ["0" * 16, "a", "patch.c\t[ksyms_patch]"] in lines
    freed = [int(a, 16) for a, _, name in lines if name.startswith("freed_step_")]
    # The dead function is listed where a live one is, and the kernel names the live one.
    assert any(n.module == "ksyms_after" for n in map(kernels.get, freed) if n)


def alike(kernel: Name | None, ours: Name | None) -> bool:
    """Whether both are the same, as far as both tell."""
    if ours is not None and ours.name in LIVE_CODE:
        return True
    if kernel is None or ours is None or None in (kernel.size, ours.size):
        return (kernel and kernel._replace(size=0)) == (ours and ours._replace(size=0))
    return kernel == ours


def wrong(
    kernels: dict[int, Name | None], ours: dict[int, Name | None]
) -> list[tuple[str, Name | None, Name | None]]:
    assert ours.keys() == kernels.keys()
    # The kernel's size there says that it had no end for the name; few are such.
    endless = {a for a, name in kernels.items() if name and name.size is None}
    unknown = {address for address in endless if ours[address] is None}
    assert 20 * len(unknown) <= len(endless)
    return [
        (f"{address:#x}", kernels[address], ours[address])
        for address in kernels
        if address not in unknown and not alike(kernels[address], ours[address])
    ]


def looked_up(source: list[object], addresses: list[int]) -> Iterator[tuple[int, Name | None]]:
    """What ``ksyms lookup`` says of each address."""
    asked = "".join(f"{address:#x}\n" for address in addresses)
    command = [str(COMMAND), "lookup", *map(str, source), "--json", "-"]
    run = subprocess.run(command, input=asked, capture_output=True, text=True)
    for line in run.stdout.splitlines():
        record = json.loads(line)
        name = None
        if record["name"] is not None:
            module = None if record["module"] in LISTED else record["module"]
            name = Name(record["name"], record["offset"], record["size"], module)
        yield int(record["query"], 16), name


@pytest.mark.parametrize("source", [["--from", "kernel.elf"], ["--root", "root.tar.gz"]])
def test_lookup(results: Path, kernels: dict[int, Name | None], source: list[str]) -> None:
    """From the running kernel, and from what was collected of it."""
    found = dict(looked_up([source[0], results / source[1]], list(kernels)))
    assert wrong(kernels, found) == []


def test_lookup_in_a_text_alone(results: Path, kernels: dict[int, Name | None]) -> None:
    """Each name is right; ends are the text's, and of freed memory it tells less."""
    found = dict(looked_up(["--from", results / "text.elf"], list(kernels)))
    rest = [row for row in misnamed(kernels, found) if row[2].module != "ksyms_patch"]
    assert [row for row in rest if not row[2].name.startswith("bpf_")] == []
    assert_most(kernels, found, 0.95)


def test_lookup_with_exact_sizes(results: Path, kernels: dict[int, Name | None]) -> None:
    """Behind the end of a function there is no name, and all others are the kernel's.

    What lies behind the end of one within a longer one is the longer one's.
    """
    found = dict(looked_up(["--from", results / "exact.elf"], list(kernels)))
    assert [
        (address, kernel, our)
        for address, kernel, our in misnamed(kernels, found)
        if kernel is None or our.offset <= kernel.offset
    ] == []
    assert_most(kernels, found, 0.7)


def misnamed(
    kernels: dict[int, Name | None], ours: dict[int, Name | None]
) -> list[tuple[str, Name | None, Name]]:
    """Where ksyms has a name, and the kernel another or none."""
    return [
        (f"{address:#x}", kernel, our)
        for address, kernel in kernels.items()
        if (our := ours[address]) is not None
        and our.name not in LIVE_CODE
        and (kernel is None or kernel._replace(size=0) != our._replace(size=0))
    ]


def assert_most(
    kernels: dict[int, Name | None], ours: dict[int, Name | None], share: float
) -> None:
    """Of what the kernel names, ksyms names that share at least."""
    named = [address for address, name in kernels.items() if name]
    assert sum(ours[address] is not None for address in named) > share * len(named)


def test_decode(results: Path, kernels: dict[int, Name | None], tmp_path: Path) -> None:
    """A text of bare addresses, as an oops prints what it has no name for."""
    text = tmp_path / "text"
    text.write_text("".join(f" ? 0x{address:016x}\n" for address in kernels))
    source = ["--from", f"{results}/kernel.elf", "--slide", "0"]
    command: list[str | Path] = [COMMAND, "decode", *source, text]
    run = subprocess.run(command, capture_output=True, text=True)
    ours: dict[int, Name | None] = {}
    for line in run.stdout.splitlines():
        address, _, words = line.removeprefix(" ? ").partition(" ")
        match = WORDS.fullmatch(words)
        ours[int(address, 16)] = match and Name(
            match[1], int(match[2], 16), int(match[3], 16), match[4]
        )
    # A text's addresses are those that begin as the kernel's do.
    told = {address: name for address, name in kernels.items() if name or ours[address]}
    assert wrong(told, {address: ours[address] for address in told}) == []


def test_decode_takes_the_kernels_own_words(
    results: Path, kernels: dict[int, Name | None], tmp_path: Path
) -> None:
    """Also where the file has exact sizes: the kernel's go on to the next symbol."""
    functions = {
        name for name in kernels.values() if name and name.size and name.module is not None
    }
    text = tmp_path / "text"
    text.write_text(
        "".join(f" {n.name}+{n.offset:#x}/{n.size:#x} [{n.module}]\n" for n in functions)
    )
    for file in ("kernel.elf", "exact.elf"):
        source = ["--from", str(results / file)]
        command: list[str | Path] = [COMMAND, "decode", "--json", *source, text]
        run = subprocess.run(command, capture_output=True, text=True)
        records = [json.loads(line) for line in run.stdout.splitlines()]
        assert len(records) == len(functions)
        unknown = [r for r in records if r["symbol"] is None]
        # A freed function can lie where a page of kprobes is now, and has no name then.
        rest = [r["text"] for r in unknown if "have that name and size" not in r["why"]]
        assert [
            text for text in rest if not re.search(r"_init\+\S+ \[ksyms_names\]$", text)
        ] == []


def test_addr2line(results: Path, kernels: dict[int, Name | None]) -> None:
    """elfutils, on the file."""
    asked = [f"{address:#x}" for address in kernels]
    command: list[str | Path] = ["eu-addr2line", "-S", "-e", results / "kernel.elf"]
    run = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True)
    ours: dict[int, Name | None] = {}
    for address, line in zip(kernels, run.stdout.splitlines()[::2], strict=True):
        name, _, offset = line.partition("+")
        ours[address] = None if "?" in name else Name(name, int(offset or "0", 16), None, None)
    assert differ(kernels, ours) == []


def test_gdb(results: Path, kernels: dict[int, Name | None], tmp_path: Path) -> None:
    """gdb's ``info symbol``, on the file."""
    script = tmp_path / "script"
    script.write_text("".join(f"info symbol {address:#x}\n" for address in kernels))
    command: list[str | Path] = ["gdb", "-batch", "-nx", "-x", script, results / "kernel.elf"]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = [
        line for line in run.stdout.splitlines() if "ymbol" in line or " in section" in line
    ]
    ours: dict[int, Name | None] = {}
    for address, line in zip(kernels, lines, strict=True):
        match = re.match(r"(\S+)(?: \+ (\d+))? in section", line)
        ours[address] = match and Name(match[1], int(match[2] or "0"), None, None)
    assert differ(kernels, ours) == []


def differ(
    kernels: dict[int, Name | None], ours: dict[int, Name | None]
) -> list[tuple[str, Name | None, Name | None]]:
    """Where a tool gives another place than the kernel; of several names of it any will do."""
    return [
        (f"{address:#x}", kernel, our)
        for address, kernel in kernels.items()
        if (our := ours[address]) is not None
        and our.name not in (*LIVE_CODE, *ENDS)
        # Where there is nothing with a size the tools take a label.
        and not (kernel is None and our.name.startswith(".L"))
        and (kernel is None or kernel.offset != our.offset)
    ]
