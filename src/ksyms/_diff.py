"""The differences between two symbol tables, of two boots or of two builds.

Two boots of one build do not differ: all symbols of a section move by one distance, which is
subtracted first. docs/changed.md has the rules.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple

from ._symbols import Symbol, SymbolTable, is_mark, slide_between

_PAGE: Final = 4096
"""The unit in bytes in which a part of a module moves.

Since Linux kernel commit ac3b43283923 ("module: replace module_layout with module_memory") (in
v6.4) each part of a module has pages of its own.
"""
_LOOK: Final = 8
"""The number of symbols on either side of one that are examined for a neighbour's name."""
# The numbers that compilers add to static variables and copies of functions: foo.12,
# foo.isra.0, .LC7.
_NUMBER: Final = re.compile(r"(?<=\.LC)\d+$|(?<=.)\.\d+(?=\.|$)")
# The number of a section among those of one name. It is given by address, and so can differ
# between two boots.
_SECOND: Final = re.compile(r"(?<=.)\.\d+$")

_NAME, _ADDRESS, _SIZE, _BEFORE, _AFTER = range(5)
_EVIDENCE: Final = (
    (_NAME, _ADDRESS, _SIZE),
    (_NAME, _SIZE, _BEFORE, _AFTER),
    (_NAME, _SIZE, _BEFORE),
    (_NAME, _SIZE, _AFTER),
    (_NAME, _ADDRESS),
    (_NAME, _BEFORE),
    (_NAME, _AFTER),
    (_SIZE, _BEFORE),
    (_SIZE, _AFTER),
)
"""Combinations of traits that tell symbols of one name apart, the strongest first.

A trait is an index into :data:`_Traits`. _BEFORE and _AFTER are the names of neighbours.
"""

Group = tuple[str | None, str | None]
"""A module (None: the kernel) and a section's name (None: absolute symbols)."""
Match = tuple[int, int]
"""The index of a symbol on the old side, and that of the same symbol on the new side."""


class Pair(NamedTuple):
    """A symbol in the old table and in the new one.

    ``by`` is the number of bytes by which it grew, or by which it moved up within its section;
    None if it moved to another section.
    """

    old: Symbol
    new: Symbol
    by: int | None


class Comparison(NamedTuple):
    """The differences between two tables; each list is ordered by address.

    ``slide`` is the number of bytes from the kernel's addresses in the old table to those in
    the new one; None if a table has no ``_stext``. ``modules_went`` and ``modules_appeared``
    have the symbols of each module that only one table has. The other lists do not include
    these symbols.
    """

    slide: int | None
    modules_went: dict[str, list[Symbol]]
    modules_appeared: dict[str, list[Symbol]]
    went: list[Symbol]
    appeared: list[Symbol]
    resized: list[Pair]
    moved: list[Pair]

    @property
    def different(self) -> bool:
        """True if anything differs; a slide alone is not a difference."""
        return any(self[1:])


class _Side(NamedTuple):
    """The symbols of one table that name an address, ordered by address.

    ``sized`` is True for each symbol whose size can be compared. ``modules`` has the indices of
    each module's symbols, and those of the kernel's under None. ``listed`` has the groups that
    kallsyms lists like modules (bpf, __builtin__ftrace), whose symbols are made at run time, at
    any address. ``builds`` has the names of linker files with their build-ids. ``starts`` has
    the lowest start of the sections of each name.
    """

    symbols: list[Symbol]
    sized: list[bool]
    modules: dict[str | None, list[int]]
    listed: set[str | None]
    builds: set[tuple[str | None, str]]
    starts: dict[str | None, int]


class _Slides(NamedTuple):
    """The distances in bytes from addresses of the old side to those of the new side.

    ``kernel`` is the kernel's slide (None if unknown); ``groups`` has the distance of each
    group.
    """

    kernel: int | None
    groups: dict[Group, int]


def compare(old: SymbolTable, new: SymbolTable) -> Comparison:
    """Compare ``old`` with ``new``.

    Raises:
        ImageError: a field of a table is wrong.
        NoteError: a table's note is not whole.
    """
    sides = one, other = _read_side(old), _read_side(new)

    # Leave out the modules that only one table has. ``fixed`` are those whose symbols are not
    # compared by address and size: both tables have the same file, by its build-id, or the
    # symbols are made at run time.
    went, appeared = _modules_only_in(one, other), _modules_only_in(other, one)
    listed = one.listed | other.listed
    fixed = listed | {module for module, _ in one.builds & other.builds}

    # Match symbols in the same section. Unique names come first: they give the slides.
    groups = _group_by_name(one, went, listed), _group_by_name(other, appeared, listed)
    matches = _match_unique(*groups)
    slides = _measure_slides(sides, matches, slide_between(old, new))
    left: tuple[list[int], list[int]] = [], []
    for key, here in groups[0].items():
        found, *unmatched = _match_same_name(sides, here, groups[1].pop(key, []), slides)
        matches += found
        left[0].extend(unmatched[0])
        left[1].extend(unmatched[1])
    for there in groups[1].values():
        left[1].extend(there)

    # Match the rest in other sections, and compare the two symbols of each match.
    elsewhere, *unmatched = _match_across_sections(sides, left, slides.kernel)
    pairs = [(one.symbols[at], other.symbols[to]) for at, to in matches]
    moved = [Pair(*pair, by) for pair in pairs if (by := _distance(*pair, slides, fixed))]
    for at, to in elsewhere:
        a, b = one.symbols[at], other.symbols[to]
        if a.module not in fixed and not _moved_with_kernel(a, b, slides.kernel):
            moved.append(Pair(a, b, None))
    resized = [
        Pair(a, b, b.size - a.size)
        for at, to in matches + elsewhere
        if one.sized[at]
        and other.sized[to]
        and _sizes_differ(a := one.symbols[at], b := other.symbols[to])
        and a.module not in fixed
    ]
    return Comparison(
        slides.kernel,
        {str(module): [one.symbols[at] for at in one.modules[module]] for module in went},
        {str(name): [other.symbols[at] for at in other.modules[name]] for name in appeared},
        [one.symbols[at] for at in sorted(unmatched[0])],
        [other.symbols[at] for at in sorted(unmatched[1])],
        sorted(resized, key=_new_address),
        sorted(moved, key=_new_address),
    )


@cache
def group_of(module: str | None, section: str | None) -> Group:
    """Return the group in which a symbol is compared: a module's sections of one name."""
    return module, section and _SECOND.sub("", section)


def _read_side(table: SymbolTable) -> _Side:
    """Return the symbols of ``table`` that are compared, with their modules and sections."""
    files = table.facts.get("files", ())
    symbols = [symbol for symbol in table if _names_an_address(symbol)]
    modules: dict[str | None, list[int]] = defaultdict(list)
    for at, symbol in enumerate(symbols):
        modules[symbol.module].append(at)
    return _Side(
        symbols,
        _comparable_sizes(symbols, _known_ends(table)),
        modules,
        {file["name"] for file in files if file["kind"] == "listed"},
        {(file["name"], file["build_id"]) for file in files if file["build_id"]},
        _section_starts(table),
    )


def _section_starts(table: SymbolTable) -> dict[str | None, int]:
    """Return the lowest address of the sections of each name."""
    starts: dict[str | None, int] = {}
    for name, address, _ in table.sections:
        section = group_of(None, name)[1]
        starts[section] = min(address, starts.get(section, address))
    return starts


def _names_an_address(symbol: Symbol) -> bool:
    """Return False for ELF's own symbols (undefined, file, section) and mapping symbols."""
    if symbol.kind == "none" and symbol.section is None:
        return False
    return symbol.name != "" and not is_mark(symbol)


def _known_ends(table: SymbolTable) -> dict[str | None, int]:
    """Return the end of each section that is not inferred, by the note."""
    known = {
        region.get("section")
        for file in table.facts.get("files", ())
        for region in file["ranges"]
        if isinstance(region, dict) and region.get("end_inferred") is False
    }
    return {name: start + size for name, start, size in table.sections if name in known}


def _comparable_sizes(symbols: Sequence[Symbol], ends: dict[str | None, int]) -> list[bool]:
    """Return a list that is True for each symbol whose size depends on its own section only.

    That is an exact size, or one inferred from the next symbol of the section or from the
    section's known end. Any other size extends to the next module, or to the end of a page, and
    so can change though the symbol did not.
    """
    # Go down in address. ``following`` has two addresses for each section: that of the last
    # symbol that the loop came to, and the next higher one, at which such a symbol should end.
    following: dict[str | None, tuple[int, int]] = {}
    sized = []
    for symbol in reversed(symbols):
        end = ends.get(symbol.section, -1)
        here, after = following.get(symbol.section, (end, end))
        if symbol.address != here:
            here, after = following[symbol.section] = symbol.address, here
        inferred = symbol.address + symbol.size == after
        sized.append(symbol.size > 0 and (symbol.exact or inferred))
    sized.reverse()
    return sized


def _modules_only_in(one: _Side, other: _Side) -> list[str | None]:
    """Return the modules that only ``one`` has, ordered by their first symbols."""
    return [module for module in one.modules if module and module not in other.modules]


Key = tuple[str | None, str | None, str]
"""A module, a section's name, and a symbol's name without compilers' numbers."""


def _group_by_name(
    side: _Side, without: Iterable[str | None], listed: set[str | None]
) -> dict[Key, list[int]]:
    """Return the indices of the symbols of each key.

    Symbols of the modules ``without`` are left out. Symbols that are made at run time have no
    section in their keys.
    """
    groups: dict[Key, list[int]] = defaultdict(list)
    for module, indices in side.modules.items():
        if module in without:
            continue
        for at in indices:
            symbol = side.symbols[at]
            section = None if module in listed else group_of(module, symbol.section)[1]
            groups[module, section, _without_number(symbol.name)].append(at)
    return groups


def _without_number(name: str) -> str:
    return _NUMBER.sub("", name) if "." in name else name


def _match_unique(old: dict[Key, list[int]], new: dict[Key, list[int]]) -> list[Match]:
    """Match the names that only one symbol has on each side; remove them from both dicts."""
    keys = [key for key, here in old.items() if len(here) == 1 == len(new.get(key, ()))]
    return [(old.pop(key)[0], new.pop(key)[0]) for key in keys]


def _measure_slides(
    sides: tuple[_Side, _Side], matches: Iterable[Match], kernel: int | None
) -> _Slides:
    """Return the distance of each group: that of most of its symbols, or else of its start.

    The start comes second, since an inferred section starts at its first known symbol, which
    can be another one on each side.
    """
    one, other = sides
    counts: dict[Group, Counter[int]] = defaultdict(Counter)
    for at, to in matches:
        old, new = one.symbols[at], other.symbols[to]
        counts[group_of(old.module, old.section)][new.address - old.address] += 1
    groups = {}
    for group, found in counts.items():
        [(by, most)] = found.most_common(1)
        section = group[1]
        if 2 * most <= found.total() and section in one.starts and section in other.starts:
            by = other.starts[section] - one.starts[section]
        groups[group] = by
    if one.starts and other.starts:  # FreeBSD's layout has no sections
        groups[None, None] = 0
    return _Slides(kernel, groups)


_Traits = tuple[Hashable, ...]
"""Properties of a symbol that are compared with those of others."""


def _slide_of(symbol: Symbol, slides: _Slides) -> int | None:
    """Return the distance in bytes of an old symbol's group; None if unknown."""
    other = slides.kernel if symbol.module is None else None
    return slides.groups.get(group_of(symbol.module, symbol.section), other)


def _match_same_name(
    sides: tuple[_Side, _Side], here: list[int], there: list[int], slides: _Slides
) -> tuple[list[Match], list[int], list[int]]:
    """Match the symbols of one group and name.

    For example, where the new table has a second static function called ``init``::

        old    exit, init, open
        new    exit, init, open, init, read

    The first ``init`` has the neighbours that the old one had, so it is the same symbol; the
    second one appeared.

    Returns:
        The matches, and the indices of the old and the new symbols that match no other.
    """
    if not here or not there:
        return [], here, there
    slide = _slide_of(sides[0].symbols[here[0]], slides) or 0
    old = {at: _traits(sides[0], at, slide) for at in here}
    new = {at: _traits(sides[1], at, 0) for at in there}
    matches: list[Match] = []
    for evidence in _EVIDENCE:
        if old and new:
            matches += _match_agreeing(old, new, evidence)

    # Match symbols that no trait tells apart in the order of their addresses.
    matches += _match_agreeing(old, new, (_NAME, _SIZE), _always)
    matches += _match_agreeing(old, new, (_NAME,))
    matches += _match_agreeing(old, new, (), _single)
    return matches, list(old), list(new)


def _traits(side: _Side, at: int, slide: int) -> _Traits:
    """Return the traits of the symbol with the index ``at`` (:data:`_EVIDENCE`).

    ``slide`` is added to its address. A symbol that is made at run time only has its name.
    """
    symbol = side.symbols[at]
    base = _without_number(symbol.name)
    if symbol.module in side.listed:
        return symbol.name, None, None, None, None
    before = side.symbols[max(0, at - _LOOK) : at]
    return (
        symbol.name,
        symbol.address + slide,
        symbol.size if side.sized[at] else None,
        _neighbour(base, reversed(before)),
        _neighbour(base, side.symbols[at + 1 : at + 1 + _LOOK]),
    )


def _neighbour(base: str, symbols: Iterable[Symbol]) -> str | None:
    """Return the first name that does not contain ``base``, without its number; else None.

    ``__pfx_base`` and ``base.cold`` come and go with ``base``, so they are no evidence.
    """
    return next((_without_number(s.name) for s in symbols if base not in s.name), None)


def _match_agreeing(
    old: dict[int, _Traits],
    new: dict[int, _Traits],
    evidence: tuple[int, ...],
    when: Callable[[int, int], bool] = int.__eq__,
) -> list[Match]:
    """Match the symbols that agree in ``evidence``; remove them from ``old`` and ``new``.

    ``when`` gets two counts: of the old and of the new symbols that have the same traits. If it
    returns True, these are matched in the order of their addresses.
    """
    found: tuple[dict[Hashable, list[int]], ...] = defaultdict(list), defaultdict(list)
    for traits, indices in zip((old, new), found):
        for at, values in traits.items():
            indices[tuple(values[trait] for trait in evidence)].append(at)
    matches: list[Match] = []
    for key, here in found[0].items():
        there = found[1].get(key, [])
        if when(len(here), len(there)):
            matches += zip(here, there)
    for at, to in matches:
        del old[at], new[to]
    return matches


def _always(here: int, there: int) -> bool:
    return True


def _single(here: int, there: int) -> bool:
    return here == there == 1


def _match_across_sections(
    sides: tuple[_Side, _Side], left: tuple[list[int], list[int]], kernel: int | None
) -> tuple[list[Match], list[int], list[int]]:
    """Match symbols in ``left`` that are in another section of their module on the new side.

    Two symbols match if they are one kernel slide apart (one table can have more sections than
    the other), or are the only ones left of their name.

    Returns:
        The matches, and the indices of the old and the new symbols that match no other.
    """
    old = _slid_addresses(sides[0], left[0], kernel or 0)
    new = _slid_addresses(sides[1], left[1], 0)
    matches = _match_agreeing(old, new, (0, 1, 2)) if kernel is not None else []
    matches += _match_agreeing(old, new, (0, 1), _single)
    return matches, list(old), list(new)


def _slid_addresses(side: _Side, indices: Iterable[int], slide: int) -> dict[int, _Traits]:
    """Return the name, the module and the address plus ``slide`` of each symbol, by index."""
    return {
        at: (symbol.name, symbol.module, symbol.address + slide)
        for at in sorted(indices)
        for symbol in (side.symbols[at],)
    }


def _moved_with_kernel(old: Symbol, new: Symbol, kernel: int | None) -> bool:
    """Return True if a symbol of the kernel moved by the kernel's slide."""
    return old.module is None and new.address - old.address == kernel


def _distance(old: Symbol, new: Symbol, slides: _Slides, fixed: set[str | None]) -> int:
    """Return the number of bytes by which a symbol moved up within its section.

    Return 0 if it did not move, or if that cannot be known.
    """
    slide = _slide_of(old, slides)
    if slide is None or old.module in fixed:
        return 0
    if old.module is not None and old.section is None:
        return 0  # a per-CPU variable: its offset differs from boot to boot
    # Parts of a module move by whole pages.
    by = new.address - old.address - slide
    return by if old.module is None or by % _PAGE else 0


def _sizes_differ(old: Symbol, new: Symbol) -> bool:
    """Return True if two sizes contradict each other.

    An inferred size extends to what follows the symbol. So the exact size can be smaller, but
    not larger.
    """
    if old.exact == new.exact:
        return old.size != new.size
    return old.size > new.size if old.exact else new.size > old.size


def _new_address(pair: Pair) -> int:
    return pair.new.address
