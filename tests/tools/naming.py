"""Which symbol the kernel names an address by, from the text of kallsyms and sysfs alone.

The rule is the kernel's: kernel/kallsyms.c, get_symbol_pos, for its own symbols, and
kernel/module/kallsyms.c, find_kallsyms_symbol, for a module's. ksyms is not asked.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

Row = tuple[int, str, str, str | None]
"""Address, letter, name and bracket of a line of kallsyms."""

CODE = frozenset("tTwW")
ABSOLUTE = frozenset("aA")
PAGE = 4096
LABEL = re.compile(r"\.L|L0|\$")
"""How a local label begins (include/linux/module_symbol.h, is_mapping_symbol)."""
FREED = re.compile(r"\.init.*|\.symtab|\.strtab")
"""Sections of a module that are in memory only while it is being loaded."""
ONE_ALLOCATION_BEFORE = (6, 4)
"""Since then a module's memory is one allocation for each kind (ac3b43283923)."""


class Span(NamedTuple):
    """Addresses that the kernel names by the symbols at ``start``.

    They go up to ``end`` at least and to ``most`` at most. These are the same but where the
    text does not tell how long a module's memory is.
    """

    start: int
    end: int
    most: int
    names: frozenset[str]


class Memory(NamedTuple):
    """Memory of a module, in which a symbol goes on at most to the end.

    It goes up to ``end`` at least and to ``most`` at most.
    """

    start: int
    end: int
    most: int


class Module(NamedTuple):
    """A bracket of kallsyms: its lines, and if it is a module its sections and fields.

    ``sections`` are addresses by name, ``fields`` those behind the name in /proc/modules.
    """

    rows: list[Row]
    sections: dict[str, int]
    fields: list[str]


def by_address(rows: Iterable[Row]) -> dict[int, set[str]]:
    """The names at each address; an absolute symbol's value is none."""
    names: dict[int, set[str]] = {}
    for address, letter, name, _ in rows:
        if letter not in ABSOLUTE:
            names.setdefault(address, set()).add(name)
    return names


def lists_all(rows: Iterable[Row]) -> bool:
    """Whether the kernel has CONFIG_KALLSYMS_ALL; only then it lists ``_end``."""
    return any(row[2:] == ("_end", None) for row in rows)


def named_ranges(rows: Iterable[Row]) -> list[tuple[int, int]]:
    """Where the kernel names addresses by its own symbols (kallsyms.h, is_ksym_addr)."""
    bounds = [("_stext", "_etext"), ("_sinittext", "_einittext")]
    if lists_all(rows):
        bounds = [("_stext", "_end"), ("__init_begin", "__init_end")]
    own = {name: address for address, _, name, module in rows if module is None}
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((own[first], own[last]) for first, last in bounds):
        if not ranges or start > ranges[-1][1]:
            ranges.append((start, end))
        else:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
    return ranges


def spans(root: Path, rows: tuple[Row, ...]) -> list[Span]:
    """All addresses that the kernel names, sorted; none overlaps another."""
    found = _of_the_kernel(rows)
    modules = _modules(root, rows)
    for module in modules:
        found += _of(module, _memories(root, module, modules))
    found += _of_unknown_length(rows, modules)
    found.sort()
    assert all(a.most <= b.start for a, b in pairwise(found))
    return found


def _of_the_kernel(rows: tuple[Row, ...]) -> list[Span]:
    """From each address to the next that one of the kernel's own symbols has."""
    names = by_address(row for row in rows if row[3] is None)
    addresses = sorted(names)
    return [
        Span(one, other, other, frozenset(names[one]))
        for start, end in named_ranges(rows)
        for one, other in pairwise(
            [*addresses[bisect_left(addresses, start) : bisect_left(addresses, end)], end]
        )
    ]


def _of(module: Module, memories: list[Memory]) -> list[Span]:
    """From each address to the next in the same memory, or to the end of that."""
    names = by_address(row for row in _live(module) if not LABEL.match(row[2]))
    found = []
    for memory in memories:
        inside = sorted(a for a in names if memory.start <= a < memory.end)
        ends = [(a, a) for a in inside[1:]] + [(memory.end, memory.most)]
        for start, (end, most) in zip(inside, ends):
            found.append(Span(start, end, most, frozenset(names[start])))
    return found


def _of_unknown_length(rows: tuple[Row, ...], modules: list[Module]) -> list[Span]:
    """BPF programs, trampolines, and modules that sysfs tells nothing of."""
    places = sorted(by_address(rows))
    names = by_address(row for module in modules if not module.sections for row in module.rows)
    found = []
    for start, there in names.items():
        behind = places[bisect_right(places, start) :][:1] or [start + PAGE]
        found.append(Span(start, start + 1, behind[0], frozenset(there)))
    return found


def _modules(root: Path, rows: tuple[Row, ...]) -> list[Module]:
    mine: dict[str, list[Row]] = {}
    for row in rows:
        if row[3] is not None:
            mine.setdefault(row[3], []).append(row)
    path = root / "proc/modules"
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {name: rest for name, *rest in map(str.split, lines)}
    found = []
    for name, own in mine.items():
        files = (root / "sys/module" / name / "sections").glob("*") if name in fields else ()
        sections = {file.name: int(file.read_text(), 16) for file in files}
        found.append(Module(own, sections, fields.get(name, [])))
    return found


def _live(module: Module) -> list[Row]:
    """Its lines without those of freed init functions, which ftrace remembers."""
    starts = sorted((start, name) for name, start in module.sections.items())
    freed = [False, *(bool(FREED.fullmatch(name)) for _, name in starts)]
    at = [start for start, _ in starts]
    return [row for row in module.rows if not freed[bisect_right(at, row[0])]]


def _points(module: Module) -> list[int]:
    """Where sections and symbols of its memory begin, sorted."""
    sections = [at for name, at in module.sections.items() if not FREED.fullmatch(name)]
    symbols = [a for a in by_address(_live(module)) if a >= min(sections, default=0)]
    return sorted({*sections, *symbols})


def _memories(root: Path, module: Module, modules: list[Module]) -> list[Memory]:
    """A module's memory by /proc/modules and sysfs; nothing if sysfs has none of it."""
    if not module.sections:
        return []
    major, minor = (root / "proc/sys/kernel/osrelease").read_text().split(".")[:2]
    if (int(major), int(minor)) < ONE_ALLOCATION_BEFORE:
        return _one_allocation(module)
    others = [point for other in modules if other is not module for point in _points(other)]
    return _allocations(module, sorted(others))


def _one_allocation(module: Module) -> list[Memory]:
    """The text, which comes first and is of whole pages (main.c, layout_sections), the rest.

    No symbol of the text goes on behind it (find_kallsyms_symbol, ``text_size``).
    """
    start, size = int(module.fields[4], 16), int(module.fields[0])
    functions = [address for address, letter, _, _ in _live(module) if letter in CODE]
    last = max(functions, default=start)
    text = min(at for at in _points(module) if at % PAGE == 0 and at > last)
    return [Memory(start, text, text), Memory(text, start + size, start + size)]


def _allocations(module: Module, others: list[int]) -> list[Memory]:
    """Memory of whole pages for each kind; a page behind each is never mapped.

    The copy of the symbol table is at the end of the data (layout_symtab): 24 bytes, a letter
    and the name of each symbol, and of symbol 0. The first field of /proc/modules is the sum of
    all lengths.
    """
    points = _points(module)
    starts, lasts = points[:1], []
    for one, other in pairwise(points):
        if other % PAGE == 0 and other // PAGE >= one // PAGE + 2:
            starts.append(other)
            lasts.append(one)
    lasts.append(points[-1])
    copy = 26 + sum(26 + len(name) for _, _, name, _ in _live(module))
    data = bisect_right(starts, module.sections[".gnu.linkonce.this_module"]) - 1
    lasts[data] += copy
    ends = [(last // PAGE + 1) * PAGE for last in lasts]
    more = int(module.fields[0]) - sum(end - start for start, end in zip(starts, ends))
    assert more >= 0
    rooms = []
    for end, following in zip(ends, [*starts[1:], ends[-1] + more + PAGE]):
        behind = [following, *others[bisect_left(others, end) :][:1]]
        rooms.append(max(0, min(more, min(behind) // PAGE * PAGE - PAGE - end)))
    alone = sum(map(bool, rooms)) == 1
    assert sum(rooms) >= more
    return [
        Memory(start, end + room * alone, end + room)
        for start, end, room in zip(starts, ends, rooms)
    ]
