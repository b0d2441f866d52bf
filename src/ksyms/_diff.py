"""What differs between two tables of symbols: of two boots, or of two builds.

Two boots of one build have no difference: the symbols of a section move together, and how far
is taken out. docs/changed.md has the rules.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple

from ._symbols import Symbol, SymbolTable, is_mark, slide_between

_PAGE: Final = 4096
"""Since Linux 6.4 each part of a module has pages of its own (kernel/module/main.c)."""
_LOOK: Final = 8
"""How many symbols on one side of a symbol are looked at for one of another name."""
# Compilers number static variables and copies of functions: foo.12, foo.isra.0, .LC7.
_NUMBER: Final = re.compile(r"(?<=\.LC)\d+$|(?<=.)\.\d+(?=\.|$)")
# The second section of one name: which of them is the second depends on the addresses.
_SECOND: Final = re.compile(r"(?<=.)\.\d+$")

_NAME, _PLACE, _SIZE, _BEFORE, _AFTER = range(5)
_EVIDENCE: Final = (
    (_NAME, _PLACE, _SIZE),
    (_NAME, _SIZE, _BEFORE, _AFTER),
    (_NAME, _SIZE, _BEFORE),
    (_NAME, _SIZE, _AFTER),
    (_NAME, _PLACE),
    (_NAME, _BEFORE),
    (_NAME, _AFTER),
    (_SIZE, _BEFORE),
    (_SIZE, _AFTER),
)
"""What tells which of several symbols of one name is which, the strongest first."""

Group = tuple[str | None, str | None]
"""A module, None for the kernel, and the name of a section, None for absolute symbols."""
Match = tuple[int, int]
"""Where one symbol is in the old side's symbols, and where in the new side's."""


class Pair(NamedTuple):
    """One symbol in the old table and in the new one.

    ``by``: how many bytes it grew, or moved up within its section; None where it moved to
    another section.
    """

    old: Symbol
    new: Symbol
    by: int | None


class Comparison(NamedTuple):
    """What differs; each list is in the order of addresses.

    ``slide`` is what was added to the kernel's addresses in the new table, in bytes; None
    where a table has no ``_stext``. ``modules_went`` and ``modules_appeared`` have the
    symbols of each module that is in one table only; the other lists have none of them.
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
        """Whether anything differs; the slide is no difference."""
        return any(self[1:])


class _Side(NamedTuple):
    """A table's symbols that name a place, by address.

    ``sized``: whether each one's size can be compared; ``modules``: where the symbols of each
    module are, the kernel's under None; ``listed``: the names of what is listed as if it were
    a module, whose symbols are made at run time, anywhere; ``builds``: the other modules with
    their build-ids; ``starts``: where the sections of each name begin.
    """

    symbols: list[Symbol]
    sized: list[bool]
    modules: dict[str | None, list[int]]
    listed: set[str | None]
    builds: set[tuple[str | None, str]]
    starts: dict[str | None, int]


class _Slides(NamedTuple):
    """How far the two sides lie apart, in bytes; None where nothing tells.

    ``kernel`` is the kernel's distance, ``groups`` that of each group's symbols.
    """

    kernel: int | None
    groups: dict[Group, int]


def compare(old: SymbolTable, new: SymbolTable) -> Comparison:
    """What differs between ``old`` and ``new``.

    Raises:
        ImageError: a field of a table is wrong.
        NoteError: a table's note is not whole.
    """
    sides = one, other = _side(old), _side(new)
    went, appeared = _only(one, other), _only(other, one)
    listed = one.listed | other.listed
    fixed = listed | {module for module, _ in one.builds & other.builds}
    groups = _grouped(one, went, listed), _grouped(other, appeared, listed)
    matches = _unique(*groups)
    slides = _slides(sides, matches, slide_between(old, new))
    left: tuple[list[int], list[int]] = [], []
    for key, here in groups[0].items():
        matches += _several(sides, here, groups[1].pop(key, []), slides, left)
    for there in groups[1].values():
        left[1].extend(there)
    elsewhere = _elsewhere(sides, left, slides.kernel)
    pairs = [(one.symbols[a], other.symbols[b]) for a, b in matches]
    moved = [Pair(*pair, by) for pair in pairs if (by := _moved(*pair, slides, fixed))]
    for at, to in elsewhere:
        a, b = one.symbols[at], other.symbols[to]
        if a.module not in fixed and not _stayed(a, b, slides.kernel):
            moved.append(Pair(a, b, None))
    resized = [
        Pair(a, b, b.size - a.size)
        for at, to in matches + elsewhere
        if one.sized[at]
        and other.sized[to]
        and _resized(a := one.symbols[at], b := other.symbols[to])
        and a.module not in fixed
    ]
    return Comparison(
        slides.kernel,
        {str(module): [one.symbols[at] for at in one.modules[module]] for module in went},
        {str(name): [other.symbols[at] for at in other.modules[name]] for name in appeared},
        [one.symbols[at] for at in sorted(left[0])],
        [other.symbols[at] for at in sorted(left[1])],
        sorted(resized, key=_new_address),
        sorted(moved, key=_new_address),
    )


@cache
def group_of(module: str | None, section: str | None) -> Group:
    """Where a symbol is compared: the sections of one name of a module, or of the kernel."""
    return module, section and _SECOND.sub("", section)


def _side(table: SymbolTable) -> _Side:
    files = table.facts.get("files", ())
    symbols = [symbol for symbol in table if _names_a_place(symbol)]
    modules: dict[str | None, list[int]] = defaultdict(list)
    for at, symbol in enumerate(symbols):
        modules[symbol.module].append(at)
    return _Side(
        symbols,
        _sized(symbols, _ends(table)),
        modules,
        {file["name"] for file in files if file["kind"] == "listed"},
        {(file["name"], file["build_id"]) for file in files if file["build_id"]},
        _starts(table),
    )


def _starts(table: SymbolTable) -> dict[str | None, int]:
    starts: dict[str | None, int] = {}
    for name, address, _ in table.sections:
        section = group_of(None, name)[1]
        starts[section] = min(address, starts.get(section, address))
    return starts


def _names_a_place(symbol: Symbol) -> bool:
    """Whether it is none of ELF's own (undefined, file, section), nor a mapping symbol."""
    if symbol.kind == "none" and symbol.section is None:
        return False
    return symbol.name != "" and not is_mark(symbol)


def _ends(table: SymbolTable) -> dict[str | None, int]:
    """Where each section ends of which the note says that no rule had to guess it."""
    told = {
        region.get("section")
        for file in table.facts.get("files", ())
        for region in file["ranges"]
        if isinstance(region, dict) and region.get("end_inferred") is False
    }
    return {name: start + size for name, start, size in table.sections if name in told}


def _sized(symbols: Sequence[Symbol], ends: dict[str | None, int]) -> list[bool]:
    """Whether each symbol has a size that only its own section decides.

    That is an exact one, or one inferred from the next symbol of the section, or from an
    end of it that is known. Others say how far the next module is, or the page's end.
    """
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


def _only(one: _Side, other: _Side) -> list[str | None]:
    """The modules that ``one`` has and ``other`` has not, by their first address."""
    return [module for module in one.modules if module and module not in other.modules]


Key = tuple[str | None, str | None, str]


def _grouped(
    side: _Side, without: Iterable[str | None], listed: set[str | None]
) -> dict[Key, list[int]]:
    """The places of the symbols of each group and name, numbers taken out of the names."""
    groups: dict[Key, list[int]] = defaultdict(list)
    for module, places in side.modules.items():
        if module in without:
            continue
        for at in places:
            symbol = side.symbols[at]
            section = None if module in listed else group_of(module, symbol.section)[1]
            groups[module, section, _base(symbol.name)].append(at)
    return groups


def _base(name: str) -> str:
    return _NUMBER.sub("", name) if "." in name else name


def _unique(old: dict[Key, list[int]], new: dict[Key, list[int]]) -> list[Match]:
    """Those that have their name to themselves on both sides, taken out of the groups."""
    keys = [key for key, here in old.items() if len(here) == 1 == len(new.get(key, ()))]
    return [(old.pop(key)[0], new.pop(key)[0]) for key in keys]


def _slides(
    sides: tuple[_Side, _Side], matches: Iterable[Match], kernel: int | None
) -> _Slides:
    """How far each group moved: as more than half of its symbols did, or as its start.

    The start alone would not do: a section can begin with the first symbol that is known.
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


def _slide_of(symbol: Symbol, slides: _Slides) -> int | None:
    """How far an old symbol lies from where it would be if it had not moved."""
    other = slides.kernel if symbol.module is None else None
    return slides.groups.get(group_of(symbol.module, symbol.section), other)


def _several(
    sides: tuple[_Side, _Side],
    here: list[int],
    there: list[int],
    slides: _Slides,
    left: tuple[list[int], list[int]],
) -> list[Match]:
    """The matches of the symbols of one group and name; the others are added to ``left``."""
    if not here or not there:
        left[0].extend(here)
        left[1].extend(there)
        return []
    slide = _slide_of(sides[0].symbols[here[0]], slides) or 0
    old = {at: _traits(sides[0], at, slide) for at in here}
    new = {at: _traits(sides[1], at, 0) for at in there}
    matches: list[Match] = []
    for evidence in _EVIDENCE:
        if old and new:
            matches += _agreeing(old, new, evidence)
    # What nothing tells apart is matched in the order of place.
    matches += _agreeing(old, new, (_NAME, _SIZE), _always)
    matches += _agreeing(old, new, (_NAME,))
    matches += _agreeing(old, new, (), _single)
    left[0].extend(old)
    left[1].extend(new)
    return matches


def _traits(side: _Side, at: int, slide: int) -> _Traits:
    """What is known of a symbol that can tell it from others of its name."""
    symbol = side.symbols[at]
    base = _base(symbol.name)
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
    """The first name that has nothing of ``base`` in it, as its __pfx_ and .cold have."""
    return next((_base(s.name) for s in symbols if base not in s.name), None)


def _agreeing(
    old: dict[int, _Traits],
    new: dict[int, _Traits],
    evidence: tuple[int, ...],
    when: Callable[[int, int], bool] = int.__eq__,
) -> list[Match]:
    """Take those out of ``old`` and ``new`` that agree in ``evidence``, in order of place.

    ``when`` is asked whether that decides it, by how many have the same on each side.
    """
    found: tuple[dict[Hashable, list[int]], ...] = defaultdict(list), defaultdict(list)
    for traits, places in zip((old, new), found):
        for at, values in traits.items():
            places[tuple(values[trait] for trait in evidence)].append(at)
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


def _elsewhere(
    sides: tuple[_Side, _Side], left: tuple[list[int], list[int]], kernel: int | None
) -> list[Match]:
    """Take those out of ``left`` that are in another section of their module now.

    They lie where the kernel's slide puts them, for one file can know more sections than
    another; or theirs is the only one of the name that is left.
    """
    old = _addresses(sides[0], left[0], kernel or 0)
    new = _addresses(sides[1], left[1], 0)
    matches = _agreeing(old, new, (0, 1, 2)) if kernel is not None else []
    matches += _agreeing(old, new, (0, 1), _single)
    left[0][:], left[1][:] = old, new
    return matches


def _addresses(side: _Side, places: Iterable[int], slide: int) -> dict[int, _Traits]:
    """Name, module and address of each symbol, the slide added."""
    return {
        at: (symbol.name, symbol.module, symbol.address + slide)
        for at in sorted(places)
        for symbol in (side.symbols[at],)
    }


def _stayed(old: Symbol, new: Symbol, kernel: int | None) -> bool:
    """Whether it is one of the kernel's and moved with it, whatever its section is called."""
    return old.module is None and new.address - old.address == kernel


def _moved(old: Symbol, new: Symbol, slides: _Slides, fixed: set[str | None]) -> int:
    """How far a symbol moved up within its section, in bytes."""
    slide = _slide_of(old, slides)
    if slide is None or old.module in fixed:
        return 0
    if old.module is not None and old.section is None:
        return 0  # a per-CPU variable: where it is in that memory is another place in each boot
    by = new.address - old.address - slide
    return by if old.module is None or by % _PAGE else 0


def _resized(old: Symbol, new: Symbol) -> bool:
    """Whether two sizes contradict each other.

    An inferred size is the room for a symbol: an exact one may be less, and not more.
    """
    if old.exact == new.exact:
        return old.size != new.size
    return old.size > new.size if old.exact else new.size > old.size


def _new_address(pair: Pair) -> int:
    return pair.new.address
