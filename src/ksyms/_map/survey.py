"""A kernel's address space: sections, modules, symbols and gaps, each with its size in bytes.

Each byte of a section is counted for one symbol at most, the one that ``SymbolTable.lookup``
returns for its address. The bytes of a symbol that are counted for it are its *own* bytes. So
the own bytes of all symbols and the bytes in no symbol add up to the size of the section.
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
"""The number of symbols that make a group; fewer are not shown as one."""

_LIMIT: Final = 1 << 52
"""Limit on the total size of the sections in bytes: JavaScript adds in floating point."""

# The first word of a symbol's name, which names its group: without "__pfx_", and without
# underscores, dots and dollar signs before it.
_WORD: Final = re.compile(r"(?:__pfx_)?[_.$]*([^_.]*)")


class SizedSymbol(NamedTuple):
    """A symbol with its own bytes and its group.

    ``own`` is the number of its own bytes, from :func:`own_sizes`. ``group`` is the first word
    of its name, or "" if fewer than :data:`FEW` symbols of the section share that.
    """

    symbol: Symbol
    own: int
    group: str


class Section(NamedTuple):
    """A section with its symbols, ordered by address.

    ``module`` is None for the kernel. ``kind`` is text, rodata, data, bss or percpu. ``size``
    is in bytes. ``exact`` is False if the end was inferred (docs/format.md, "The end of a
    region"). ``unnamed`` is the number of bytes in no symbol.
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
    """A module with the total ``size`` of its sections in bytes and its number of symbols."""

    name: str
    size: int
    symbols: int


class Gap(NamedTuple):
    """The addresses between two sections: from ``address`` on, ``size`` bytes.

    ``before`` and ``after`` are the names of the sections.
    """

    address: int
    size: int
    before: str
    after: str


class Survey(NamedTuple):
    """A kernel's address space.

    ``label`` is the name of the file, ``facts`` are those of its note, and ``bits`` is the
    width of an address. ``slide`` is the number of bytes from link addresses to those of this
    boot, None if unknown. ``sections`` are ordered by address. ``elsewhere`` is the number of
    symbols in no section, such as absolute ones.
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
        """The modules that have a section, ordered by their first section's address."""
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
    """Return the survey of the address space of ``table``.

    Raises:
        ImageError: the table has no section in the kernel's memory, or its sections are larger
            than the memory of any machine.
        NoteError: its ``.note.ksyms`` is not whole.
    """
    inferred = _inferred_ends(table.facts)
    sections = []
    for (name, address, size), flags, symbols in zip(
        table.sections, table.section_flags, _symbols_by_section(table)
    ):
        if not size:
            continue  # its symbols have no bytes either
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
    """Check that a table has sections in memory, and that they are not too large.

    Raises:
        ImageError: it has none, or they are larger than the memory of any machine.
    """
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
    """Return the kind of a section: code or read-only data by its flags, else by its name."""
    if flags & elf.SHF_EXECINSTR:
        return "text"
    if not flags & elf.SHF_WRITE:
        return "rodata"
    if "percpu" in name:
        return "percpu"
    return "bss" if "bss" in name or name == ".brk" else "data"


def _symbols_by_section(table: SymbolTable) -> list[list[Symbol]]:
    """Return the symbols with a name in each section of the table, ordered by address.

    A symbol that can be in several sections of one name is left out.
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
    """Return the symbols by address, at each address first the one that ``lookup`` returns."""
    ordered: list[Symbol] = []
    for same in _group_by_address(symbols):
        if len(same) > 1:
            answer = table.lookup(same[0].address)
            same.sort(key=lambda symbol: symbol != answer)
        ordered += same
    return ordered


def _group_by_address(symbols: Sequence[Symbol]) -> Iterator[list[Symbol]]:
    """Yield the symbols of each address as a list; ``symbols`` are ordered by address."""
    at = 0
    while at < len(symbols):
        stop = at + 1
        while stop < len(symbols) and symbols[stop].address == symbols[at].address:
            stop += 1
        yield list(symbols[at:stop])
        at = stop


def own_sizes(symbols: Sequence[Symbol], end: int) -> list[int]:
    """Return the number of own bytes of each symbol, up to the address ``end``.

    A byte belongs to the symbol with the highest start that contains it. ``symbols`` are
    ordered by address; of several at one address the first one has the bytes.

    For example, ``b`` lies within ``a``, so ``a`` has 0x20 + 0x10 own bytes::

        a  |0x00 ................ 0x40|
        b             |0x20 . 0x30|
    """
    own = [0] * len(symbols)
    ends = [s.address + (0 if is_mark(s) else s.size) for s in symbols]
    # The indices of the symbols that started at or before ``at``. The byte at ``at`` belongs to
    # the last of them that has not ended.
    reaching: list[int] = []
    at = 0

    def hand_out(until: int) -> None:
        """Count the bytes from ``at`` to before ``until`` for the symbols they belong to."""
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
