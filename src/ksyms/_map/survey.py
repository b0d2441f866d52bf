"""What is where: sections, modules, symbols and gaps, each with its size in bytes.

Of every byte of a section at most one symbol has it as its *own*: the one of that section
which ``SymbolTable.lookup`` names for its address. So the parts of a whole add up to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from .._elf import constants as elf
from .._errors import ImageError
from .._symbols import Symbol, SymbolTable, is_mark, link_slide

FEW: Final = 5
"""How many symbols a group has at least; those of smaller ones are its section's rest."""

_LIMIT: Final = 1 << 52
"""The bytes that sections have together, at most: a page counts in floating point."""

# What names a symbol's group: the first word, less what the kernel's macros put before it.
_WORD: Final = re.compile(r"(?:__pfx_)?[_.$]*([^_.]*)")


class Place(NamedTuple):
    """A symbol in its section.

    ``own`` is how many of the section's bytes the symbol answers for; ``group`` its name's
    first word, "" where fewer than FEW symbols of the section share it.
    """

    symbol: Symbol
    own: int
    group: str


class Section(NamedTuple):
    """A section, its ``address`` and ``size`` in bytes, and its symbols by address.

    ``exact`` is false where a rule gave its end (docs/format.md, "The end of a region");
    ``kind`` is text, rodata, data, bss or percpu; ``unnamed`` the bytes that no symbol
    answers for.
    """

    name: str
    module: str | None
    kind: str
    address: int
    size: int
    exact: bool
    unnamed: int
    places: list[Place]

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.size


class Module(NamedTuple):
    """A module: the ``size`` in bytes and the ``symbols`` of its sections together."""

    name: str
    size: int
    symbols: int


class Gap(NamedTuple):
    """Addresses between two sections that belong to neither; ``size`` in bytes."""

    address: int
    size: int
    before: str
    after: str


class Survey(NamedTuple):
    """A kernel's address space.

    ``sections`` are by address; ``elsewhere`` counts the symbols that lie in none of them,
    such as absolute ones; ``slide`` is what KASLR added to the kernel's addresses, None where
    nothing tells.
    """

    label: str
    facts: dict[str, Any]
    bits: int
    slide: int | None
    sections: list[Section]
    elsewhere: int

    @property
    def symbols(self) -> int:
        """How many symbols there are in the sections."""
        return sum(len(section.places) for section in self.sections)

    @property
    def modules(self) -> list[Module]:
        """Every module that has a section, in the order of addresses."""
        sizes: Counter[str] = Counter()
        symbols: Counter[str] = Counter()
        for section in self.sections:
            if section.module is not None:
                sizes[section.module] += section.size
                symbols[section.module] += len(section.places)
        return [Module(name, size, symbols[name]) for name, size in sizes.items()]

    @property
    def gaps(self) -> list[Gap]:
        """What lies between one section and the next, by address."""
        found = []
        last: Section | None = None
        for section in self.sections:
            if last is not None and section.address > last.end:
                size = section.address - last.end
                found.append(Gap(last.end, size, last.name, section.name))
            # One that ends within another (a file that is not linked) makes no gap.
            if last is None or section.end > last.end:
                last = section
        return found


def survey(table: SymbolTable) -> Survey:
    """What is where in ``table``.

    Raises:
        ImageError: no section of it is in the kernel's memory, or they are larger than a
            machine's.
        NoteError: its ``.note.ksyms`` is not whole.
    """
    inferred = _inferred_ends(table.facts)
    sections = []
    for (name, address, size), flags, symbols in zip(
        table.sections, table.section_flags, _members(table)
    ):
        if not size:
            continue  # its symbols have no byte either
        places = _places(table, symbols, address + size)
        module = next((s.module for s in symbols), None) or _module(name)
        kind = _kind(name, flags)
        unnamed = size - sum(place.own for place in places)
        exact = name not in inferred
        sections.append(Section(name, module, kind, address, size, exact, unnamed, places))
    _check(table, sections)
    sections.sort(key=lambda section: section.address)
    shown = sum(len(section.places) for section in sections)
    bits = 32 if max(section.end for section in sections) <= 1 << 32 else 64
    slide = link_slide(table)
    return Survey(table.label, table.facts, bits, slide, sections, len(table) - shown)


def _check(table: SymbolTable, sections: list[Section]) -> None:
    total = sum(section.size for section in sections)
    if not total:
        what = "no section of it is in memory"
    elif total > _LIMIT or max(section.end for section in sections) > 1 << 64:
        what = f"its sections have {total} bytes, more than a machine"
    else:
        return
    raise ImageError(
        f"There is no map of {table.label}: {what}.", "Name a file that ksyms snapshot wrote."
    )


def _inferred_ends(facts: dict[str, Any]) -> set[str]:
    """The names of the sections whose ends are a rule's."""
    ranges = [region for file in facts.get("files", ()) for region in file.get("ranges", ())]
    return {region["section"] for region in ranges if region.get("end_inferred")}


def _module(name: str) -> str | None:
    return name[1 : name.index("]")] if name.startswith("[") and "]" in name else None


def _kind(name: str, flags: int) -> str:
    """A section's kind: its flags tell code and what is not written to, its name the rest."""
    if flags & elf.SHF_EXECINSTR:
        return "text"
    if not flags & elf.SHF_WRITE:
        return "rodata"
    if "percpu" in name:
        return "percpu"
    return "bss" if "bss" in name or name == ".brk" else "data"


def _members(table: SymbolTable) -> list[list[Symbol]]:
    """The named symbols of each of the table's sections, by address.

    One that could be in several sections of one name is in none.
    """
    sections = table.sections
    homes: dict[str | None, list[int]] = {}
    for index, (name, _, _) in enumerate(sections):
        homes.setdefault(name, []).append(index)
    members: list[list[Symbol]] = [[] for _ in sections]
    for symbol in table:
        found = [
            index
            for index in homes.get(symbol.section, ())
            if 0 <= symbol.address - sections[index][1] <= sections[index][2]
        ]
        if len(found) == 1 and symbol.name:
            members[found[0]].append(symbol)
    return members


def _places(table: SymbolTable, symbols: list[Symbol], end: int) -> list[Place]:
    """``symbols`` of one section that ends at ``end``, each with its own bytes and group."""
    symbols = _answering_first(table, symbols)
    words = [_WORD.match(symbol.name)[1] for symbol in symbols]  # type: ignore[index]
    counts = Counter(words)
    groups = [word if counts[word] >= FEW else "" for word in words]
    return list(map(Place, symbols, own_sizes(symbols, end), groups))


def _answering_first(table: SymbolTable, symbols: list[Symbol]) -> list[Symbol]:
    """``symbols`` with the one that answers first among those of one address."""
    ordered: list[Symbol] = []
    for same in _runs(symbols):
        if len(same) > 1:
            answer = table.lookup(same[0].address)
            same.sort(key=lambda symbol: symbol != answer)
        ordered += same
    return ordered


def _runs(symbols: Sequence[Symbol]) -> Iterator[list[Symbol]]:
    """The symbols of each address."""
    at = 0
    while at < len(symbols):
        stop = at + 1
        while stop < len(symbols) and symbols[stop].address == symbols[at].address:
            stop += 1
        yield list(symbols[at:stop])
        at = stop


def own_sizes(symbols: Sequence[Symbol], end: int) -> list[int]:
    """How many bytes below ``end`` each symbol answers for.

    ``symbols`` are by address, the one that answers first of those at one address. A byte
    belongs to the nearest symbol before it that reaches it.
    """
    own = [0] * len(symbols)
    ends = [s.address + (0 if is_mark(s) else s.size) for s in symbols]
    open_ones: list[int] = []  # those that reach on, the nearest last
    at = 0

    def hand_out(until: int) -> None:
        nonlocal at
        while open_ones and at < until:
            reach = min(until, ends[open_ones[-1]])
            if reach > at:
                own[open_ones[-1]] += reach - at
                at = reach
            if at < until:
                open_ones.pop()
        at = until

    index = 0
    for same in _runs(symbols):
        hand_out(same[0].address)
        open_ones.extend(range(index + len(same) - 1, index - 1, -1))
        index += len(same)
    hand_out(end)
    return own
