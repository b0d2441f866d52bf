"""The shape of the file as readelf shows it: sections, segments, order, sizes, notes."""

from __future__ import annotations

import json
import re
import struct
import time
from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from naming import ABSOLUTE, CODE, Row
from oracles import Subject, output, quietly, readelf_sections, subject

import ksyms

if TYPE_CHECKING:
    from conftest import Kernel

NT_GNU_BUILD_ID = 3
BOUNDED = {".text": ("_stext", "_etext"), ".init.text": ("_sinittext", "_einittext")}
ENDS = {"_etext": "FUNC", "__end_rodata": "OBJECT", "_edata": "OBJECT", "_einittext": "FUNC"}
"""Symbols at which a section ends, and their types by their letters."""


def _segments(held: Subject) -> list[tuple[list[int], str]]:
    """Offset, address, size in the file and in memory, and the flags, of each PT_LOAD."""
    pattern = r"^ +LOAD +(\w+) (\w+) \w+ (\w+) (\w+) ([RWE ]{3}) 0x1000$"
    return [
        ([int(number, 16) for number in numbers], flags.replace(" ", ""))
        for *numbers, flags in re.findall(pattern, output("readelf", "-lW", held.elf), re.M)
    ]


@pytest.mark.parametrize("name", BOUNDED)
def test_section_is_what_its_boundary_symbols_say(kernel: Kernel, name: str) -> None:
    held = subject(kernel)
    (section,) = (s for s in held.sections if s.name == name)
    assert (section.start, section.end) == tuple(map(held.address_of, BOUNDED[name]))
    assert section.flags == "AX"


@pytest.mark.parametrize("name", ENDS)
def test_end_symbol_has_the_hole_behind_it_where_the_kernel_names_that(
    kernel: Kernel, name: str
) -> None:
    """Where data is listed, it is the first symbol of what follows; else the end of its own."""
    held = subject(kernel)
    found = [s for s in held.symbols if s.name == name]
    if not held.lists_all and name not in ("_etext", "_einittext"):
        assert found == []
        return
    (symbol,) = found
    (section,) = (s for s in held.sections if s.number == symbol.section)
    if held.lists_all:
        following = held.own[bisect_right(held.own, symbol.value)]
        assert section.start == symbol.value == held.address_of(name)
        assert (symbol.size, symbol.kind) == (following - symbol.value, ENDS[name])
    else:
        assert section.end == symbol.value == held.address_of(name)
        assert (symbol.size, symbol.kind) == (0, "NOTYPE")
        assert (section.name, section.flags) in {(b, "AX") for b in BOUNDED}


def test_sections_in_memory_do_not_overlap(kernel: Kernel) -> None:
    sections = subject(kernel).memory
    assert {s.kind for s in sections} == {"NOBITS"}
    assert all(a.end <= b.start for a, b in pairwise(sections))


def test_every_section_in_memory_has_its_segment(kernel: Kernel) -> None:
    """Both give the same place, and no byte of either is in the file."""
    held = subject(kernel)
    expected = [
        ([s.offset, s.start, 0, s.size], {"AX": "RE", "A": "R", "WA": "RW"}[s.flags])
        for s in held.memory
        if s.size
    ]
    assert _segments(held) == expected
    assert all(s.offset % 0x1000 == s.start % 0x1000 for s in held.memory)


def test_local_symbols_come_first(kernel: Kernel) -> None:
    held = subject(kernel)
    (table,) = (s for s in held.sections if s.name == ".symtab")
    first = table.info - 1  # readelf's symbol 0 is left out of the list
    assert {s.binding for s in held.symbols[:first]} == {"LOCAL"}
    assert {s.binding for s in held.symbols[first:]} == {"GLOBAL", "WEAK"}


def test_binding_and_type_are_those_of_the_letter(kernel: Kernel) -> None:
    held = subject(kernel)
    found = Counter((s.value, s.name, s.binding, s.kind) for s in held.symbols)
    assert found == Counter(
        (row[0], row[2], _binding(held, row), "NOTYPE" if row in held.typeless else _kind(row))
        for row in held.rows
    )


def _kind(row: Row) -> str:
    return "FUNC" if row[1] in CODE else "OBJECT"


def _binding(held: Subject, row: Row) -> str:
    """Upper case is global, but for weak symbols (nm(1)); labels are local."""
    if row in held.labels:
        return "LOCAL"
    if row[1] in "wWvV":
        return "WEAK"
    return "GLOBAL" if row[1].isupper() else "LOCAL"


def test_labels_are_in_sections_of_modules(kernel: Kernel) -> None:
    """The saved kernels have some."""
    held = subject(kernel)
    sections = {s.number: s.name for s in held.sections}
    labels = {(row[0], row[2]): f"[{row[3]}]." for row in held.labels}
    assert kernel.name == "live" or len(labels) > 50
    found = [s for s in held.symbols if (s.value, s.name) in labels]
    assert len(found) >= len(labels)
    for symbol in found:
        assert sections[symbol.section].startswith(labels[symbol.value, symbol.name])


def test_some_symbols_name_nothing(kernel: Kernel) -> None:
    """Those behind the image, or outside of the text where that is all that has names."""
    held = subject(kernel)
    names = set().union(*held.silent.values())
    assert ({"_end"} if held.lists_all else {"_etext", "_einittext"}) <= names
    assert len(names) < 100


def test_both_halves_are_by_address(kernel: Kernel) -> None:
    held = subject(kernel)
    for local in (True, False):
        values = [s.value for s in held.symbols if (s.binding == "LOCAL") is local]
        assert values == sorted(values)


def test_absolute_symbols_are_those_of_kallsyms(kernel: Kernel) -> None:
    held = subject(kernel)
    found = sorted((s.value, s.name) for s in held.symbols if s.section == "ABS")
    assert found == sorted((a, name) for a, letter, name, _ in held.rows if letter in ABSOLUTE)


def test_size_is_up_to_what_follows(kernel: Kernel) -> None:
    """The next address that names something in the same memory, or the end of that."""
    held = subject(kernel)
    sizes: dict[tuple[int, str], set[tuple[int, int]]] = {}
    for row in held.rows:
        sizes.setdefault((row[0], row[2]), set()).add(held.size(row))
    wrong = [
        symbol
        for symbol in held.symbols
        if not any(a <= symbol.size <= b for a, b in sizes[symbol.value, symbol.name])
    ]
    assert wrong == []


def test_the_saved_texts_tell_every_size(kernel: Kernel) -> None:
    """So that the test of sizes allows one for each symbol; elsewhere modules can have more."""
    if kernel.name != "live":
        held = subject(kernel)
        assert [row for row in held.rows if len(set(held.size(row))) > 1] == []


def test_build_id_is_the_kernels(kernel: Kernel) -> None:
    held = subject(kernel)
    expected = _build_id((held.root / "sys/kernel/notes").read_bytes())
    told = output("readelf", "-n", held.elf)
    assert re.findall(r"Build ID: (\w+)", told) == [expected]
    assert re.findall(r"Displaying notes found in: (\S+)", told) == [".notes"]
    assert output("eu-unstrip", "-n", "-e", held.elf).split()[1] == expected


def _notes(data: bytes) -> list[tuple[bytes, int, bytes]]:
    """Name, type and descriptor of each note, by the gABI's definition."""
    notes, at = [], 0
    while at < len(data):
        namesz, descsz, kind = struct.unpack_from("<III", data, at)
        name = data[at + 12 : at + 12 + namesz]
        at += 12 + namesz + -namesz % 4
        notes.append((name.rstrip(b"\0"), kind, data[at : at + descsz]))
        at += descsz + -descsz % 4
    return notes


def _build_id(data: bytes) -> str:
    (desc,) = (d for name, kind, d in _notes(data) if (name, kind) == (b"GNU", NT_GNU_BUILD_ID))
    return desc.hex()


def test_a_second_snapshot_differs_in_the_time_alone(kernel: Kernel, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def both() -> None:
        ksyms.snapshot(kernel.root).write(first)
        time.sleep(1.1)  # the note's time is in whole seconds
        ksyms.snapshot(kernel.root).write(second)

    quietly(kernel, both)
    (earlier, image), (later, other) = map(_without_time, (first, second))
    assert earlier < later
    assert image == other


def _without_time(elf: Path) -> tuple[str, bytes]:
    """The time in ``.note.ksyms``, and the file with zeros in its place."""
    image = elf.read_bytes()
    (section,) = (s for s in readelf_sections(elf) if s.name == ".note.ksyms")
    data = image[section.offset : section.offset + section.size]
    ((name, _, desc),) = _notes(data)
    assert name == b"ksyms"
    moment: str = json.loads(desc)["time"]
    assert data.count(moment.encode()) == 1
    at = section.offset + data.index(moment.encode())
    return moment, image[:at] + bytes(len(moment)) + image[at + len(moment) :]
