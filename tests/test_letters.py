"""``.ksyms.letters``: runs of symbols with one letter, as docs/format.md has them."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import ksyms
from command import write_root

# A local and a global of each half, modules on both sides of the kernel.
TEXT = """\
ffffffff81000000 T _stext
ffffffff81000010 t one
ffffffff81000020 W two
ffffffff81000030 t three
ffffffff81001000 T _etext
ffffffff81002000 d four
ffffffff80000000 t early\t[mod]
ffffffff80001000 r late\t[mod]
ffffffffc0000000 t last\t[other]
"""
# In the order of .symtab: early, late, one, three, four, last; _stext, two, _etext.
RUNS = [(0, 0), *((n, ord(c)) for n, c in ((1, "t"), (2, "r"), (3, "t"), (5, "d"), (6, "t")))]
RUNS += [(7, ord("T")), (8, ord("W")), (9, ord("T")), (10, 0)]


def taken(directory: Path, machine: str = "x86_64") -> Path:
    write_root(directory, TEXT, machine)
    elf = directory / "kernel.elf"
    ksyms.snapshot(directory).write(elf)
    return elf


def place(elf: Path) -> tuple[int, int]:
    """Return the section's offset in the file, and its bytes, by pyelftools."""
    with elf.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".ksyms.letters")
        assert section is not None
        return section["sh_offset"], section["sh_size"]


def header(elf: Path) -> int:
    """Return the offset of the section's header."""
    with elf.open("rb") as file:
        whole = ELFFile(file)
        number = whole.get_section_index(".ksyms.letters")
        return int(whole["e_shoff"] + number * whole["e_shentsize"])


@pytest.mark.parametrize(("machine", "order"), [("x86_64", "<"), ("s390x", ">")])
def test_runs_by_hand(machine: str, order: str, tmp_path: Path) -> None:
    elf = taken(tmp_path, machine)
    offset, size = place(elf)
    data = elf.read_bytes()[offset : offset + size]
    assert list(struct.iter_unpack(f"{order}II", data)) == RUNS
    lines = [line.split() for line in TEXT.splitlines()]
    told = {line[2]: line[1] for line in lines}
    for _ in range(3):  # by search, and then by a byte a symbol
        assert {symbol.name: symbol.letter for symbol in ksyms.load(elf)} == told
    table = ksyms.load(elf)
    for _ in range(2 * len(RUNS)):
        found = table.lookup(0xFFFFFFFF81002000)
        assert found is not None
        assert found.letter == "d"
        assert [symbol.letter for symbol in table.find("two")] == ["W"]


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [(1, 0), *RUNS[1:]],
        [*RUNS[:-1], (11, 0)],
        [*RUNS[:-2], (9, 0), (9, 0)],
        RUNS[:-1],
        RUNS[:1],
        [*RUNS[:3], (3, 0x174), *RUNS[4:]],
        [*RUNS[:3], (2, ord("t")), *RUNS[4:]],
        [*RUNS[:3], (8, ord("t")), *RUNS[4:]],
        [*RUNS[:3], ((1 << 32) - 1, ord("t")), *RUNS[4:]],
    ],
    ids=[
        "none",
        "no-first",
        "of-more",
        "of-fewer",
        "a-row-less",
        "one-row",
        "no-letter",
        "twice",
        "not-ascending",
        "far",
    ],
)
def test_runs_that_are_not_of_the_symbols(runs: list[tuple[int, int]], tmp_path: Path) -> None:
    elf = taken(tmp_path)
    offset, _ = place(elf)
    data = bytearray(elf.read_bytes())
    changed = b"".join(struct.pack("<II", *run) for run in runs)
    data[offset : offset + len(changed)] = changed
    struct.pack_into("<Q", data, header(elf) + 32, len(changed))
    elf.write_bytes(data)
    with pytest.raises(ksyms.ImageError, match=r"\.ksyms\.letters is not of 10 symbols"):
        [list(ksyms.load(elf)) for _ in range(3)]


def test_a_run_that_is_cut_short(tmp_path: Path) -> None:
    elf = taken(tmp_path)
    data = bytearray(elf.read_bytes())
    struct.pack_into("<Q", data, header(elf) + 32, 8 * len(RUNS) - 3)
    elf.write_bytes(data)
    with pytest.raises(ksyms.ImageError, match=r"\.ksyms\.letters is not of 10 symbols"):
        ksyms.load(elf)


def test_a_table_that_lost_a_symbol(tmp_path: Path) -> None:
    """objcopy takes a symbol out, and leaves the letters of all others where they were."""
    elf, fewer = taken(tmp_path), tmp_path / "fewer.elf"
    subprocess.run(["objcopy", "--strip-symbol=one", elf, fewer], check=True)
    with pytest.raises(ksyms.ImageError, match=r"\.ksyms\.letters is not of 9 symbols"):
        ksyms.load(fewer)


def test_a_table_without_references_closes_its_file(tmp_path: Path) -> None:
    """At once: a device counts who has it mapped."""
    elf = taken(tmp_path)
    table = ksyms.load(elf)
    assert [symbol.name for symbol in table.find("four")] == ["four"]
    assert len([symbol for symbol in table if symbol.letter]) == 9
    assert os.fspath(elf) in Path("/proc/self/maps").read_text()
    del table
    assert os.fspath(elf) not in Path("/proc/self/maps").read_text()
