"""A kernel's address space: sections, modules, symbols and gaps, each with its size in bytes.

Each byte of a section is counted for one symbol at most, the one that ``SymbolTable.lookup``
names for its address: that symbol's *own* bytes. So the parts of a section add up to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from .._elf import constants as elf
from .._errors import ImageError
from .._symbols import Symbol, SymbolTable, is_mark, link_slide
from .._symbols.section_of_symbol import module_of_section

FEW: Final = 5
"""Least number of symbols in a group; smaller groups are not shown apart."""

_LIMIT: Final = 1 << 52
"""Largest total of the sections in bytes: JavaScript counts in floating point."""

# A group is named by the symbols' first word, without the prefixes of the kernel's macros.
_WORD: Final = re.compile(r"(?:__pfx_)?[_.$]*([^_.]*)")


class SizedSymbol(NamedTuple):
    """A symbol with its share of the section.

    ``own`` is the number of bytes that :func:`own_sizes` counts for it; ``group`` the first
    word of its name, "" if fewer than FEW symbols of the section share it.
    """

    symbol: Symbol
    own: int
    group: str


class Section(NamedTuple):
    """A section, its ``address`` and ``size`` in bytes, and its symbols by address.

    ``exact`` is False if its end was inferred (docs/format.md, "The end of a region").
    ``kind`` is text, rodata, data, bss or percpu. ``unnamed`` is the number of bytes in no
    symbol.
    """

    name: str
    module: str | None
    kind: str
    address: int
    size: int
    exact: bool
    unnamed: int
    symbols: list[SizedSymbol]

    @property
    def end(self) -> int:
        """The first address after the section."""
        return self.address + self.size


class ModuleTotal(NamedTuple):
    """A module: the total ``size`` of its sections in bytes, and its number of symbols."""

    name: str
    size: int
    symbols: int


class Gap(NamedTuple):
    """Addresses between two sections; ``size`` in bytes."""

    address: int
    size: int
    before: str
    after: str


class Survey(NamedTuple):
    """A kernel's address space.

    ``sections`` are ordered by address. ``elsewhere`` is the number of symbols in no section,
    such as absolute ones. ``slide`` is the kernel's KASLR offset in bytes, None if unknown.
    """

    label: str
    facts: dict[str, Any]
    bits: int
    slide: int | None
    sections: list[Section]
    elsewhere: int

    @property
    def symbols(self) -> int:
        """The number of symbols in the sections."""
        return sum(len(section.symbols) for section in self.sections)

    @property
    def modules(self) -> list[ModuleTotal]:
        """The modules that have a section, in the order of addresses."""
        sizes: Counter[str] = Counter()
        symbols: Counter[str] = Counter()
        for section in self.sections:
            if section.module is not None:
                sizes[section.module] += section.size
                symbols[section.module] += len(section.symbols)
        return [ModuleTotal(name, size, symbols[name]) for name, size in sizes.items()]

    @property
    def gaps(self) -> list[Gap]:
        """The gaps between sections, ordered by address."""
        found = []
        last: Section | None = None
        for section in self.sections:
            if last is not None and section.address > last.end:
                size = section.address - last.end
                found.append(Gap(last.end, size, last.name, section.name))
            # A section within another one (in a file that is not linked) leaves no gap.
            if last is None or section.end > last.end:
                last = section
        return found


def survey(table: SymbolTable) -> Survey:
    """Survey the address space of ``table``.

    Raises:
        ImageError: no section of it is in the kernel's memory, or they are larger than a
            machine's.
        NoteError: its ``.note.ksyms`` is not whole.
    """
    inferred = _inferred_ends(table.facts)
    sections = []
    for (name, address, size), flags, symbols in zip(
        table.sections, table.section_flags, _symbols_by_section(table)
    ):
        if not size:
            continue  # nor have its symbols any bytes
        sized = _add_own_sizes(table, symbols, address + size)
        module = next((s.module for s in symbols), None) or module_of_section(name)
        kind = _kind(name, flags)
        unnamed = size - sum(symbol.own for symbol in sized)
        exact = name not in inferred
        sections.append(Section(name, module, kind, address, size, exact, unnamed, sized))
    _check(table, sections)
    sections.sort(key=lambda section: section.address)
    shown = sum(len(section.symbols) for section in sections)
    bits = 32 if max(section.end for section in sections) <= 1 << 32 else 64
    slide = link_slide(table)
    return Survey(table.label, table.facts, bits, slide, sections, len(table) - shown)


def _check(table: SymbolTable, sections: list[Section]) -> None:
    """Refuse a table without a section in memory, or with more than a machine's memory."""
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
    """Return the names of the sections whose ends were inferred."""
    ranges = [region for file in facts.get("files", ()) for region in file.get("ranges", ())]
    return {region["section"] for region in ranges if region.get("end_inferred")}


def _kind(name: str, flags: int) -> str:
    """Return a section's kind: by its flags for code and read-only data, else by its name."""
    if flags & elf.SHF_EXECINSTR:
        return "text"
    if not flags & elf.SHF_WRITE:
        return "rodata"
    if "percpu" in name:
        return "percpu"
    return "bss" if "bss" in name or name == ".brk" else "data"


def _symbols_by_section(table: SymbolTable) -> list[list[Symbol]]:
    """Return the named symbols of each of the table's sections, ordered by address.

    A symbol that could be in several sections of one name is left out.
    """
    sections = table.sections
    by_name: dict[str | None, list[int]] = {}
    for index, (name, _, _) in enumerate(sections):
        by_name.setdefault(name, []).append(index)
    members: list[list[Symbol]] = [[] for _ in sections]
    for symbol in table:
        found = [
            index
            for index in by_name.get(symbol.section, ())
            if 0 <= symbol.address - sections[index][1] <= sections[index][2]
        ]
        if len(found) == 1 and symbol.name:
            members[found[0]].append(symbol)
    return members


def _add_own_sizes(table: SymbolTable, symbols: list[Symbol], end: int) -> list[SizedSymbol]:
    """Give each symbol of a section that ends at ``end`` its own bytes and its group."""
    symbols = _put_answer_first(table, symbols)
    words = [_WORD.match(symbol.name)[1] for symbol in symbols]  # type: ignore[index]
    counts = Counter(words)
    groups = [word if counts[word] >= FEW else "" for word in words]
    return list(map(SizedSymbol, symbols, own_sizes(symbols, end), groups))


def _put_answer_first(table: SymbolTable, symbols: list[Symbol]) -> list[Symbol]:
    """Return the symbols, at each address the one that ``lookup`` returns before the others."""
    ordered: list[Symbol] = []
    for same in _group_by_address(symbols):
        if len(same) > 1:
            answer = table.lookup(same[0].address)
            same.sort(key=lambda symbol: symbol != answer)
        ordered += same
    return ordered


def _group_by_address(symbols: Sequence[Symbol]) -> Iterator[list[Symbol]]:
    """Yield the symbols of each address together."""
    at = 0
    while at < len(symbols):
        stop = at + 1
        while stop < len(symbols) and symbols[stop].address == symbols[at].address:
            stop += 1
        yield list(symbols[at:stop])
        at = stop


def own_sizes(symbols: Sequence[Symbol], end: int) -> list[int]:
    """Return the number of bytes below ``end`` that each symbol has as its own.

    A byte belongs to the nearest symbol before it that reaches it. ``symbols`` are ordered by
    address; of several at one address the first one has the bytes.

    For example, ``b`` lies within ``a``, so ``a`` has 0x20 + 0x10 bytes of its own::

        a  |0x00 ................ 0x40|
        b             |0x20 . 0x30|
    """
    own = [0] * len(symbols)
    ends = [s.address + (0 if is_mark(s) else s.size) for s in symbols]
    reaching: list[int] = []  # indices of symbols that reach ``at``, the nearest last
    at = 0

    def hand_out(until: int) -> None:
        """Give the bytes from ``at`` to before ``until`` to the nearest that reach them."""
        nonlocal at
        while reaching and at < until:
            reach = min(until, ends[reaching[-1]])
            if reach > at:
                own[reaching[-1]] += reach - at
                at = reach
            if at < until:
                reaching.pop()
        at = until

    index = 0
    for same in _group_by_address(symbols):
        hand_out(same[0].address)
        reaching.extend(range(index + len(same) - 1, index - 1, -1))
        index += len(same)
    hand_out(end)
    return own
