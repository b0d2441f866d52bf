"""The columns from which spans are made, for an ELF file that is not a snapshot."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from .._elf import constants as elf
from .sectioned import TOP, SectionedSymbols
from .spans import NOBODY, U64, Index, SymbolSpans

Bools = npt.NDArray[np.bool_]
_ONE: Final = np.uint64(1)


def sectioned_columns(
    sectioned: SectionedSymbols, table: npt.NDArray[np.void], number: Index
) -> SymbolSpans:
    """Return the columns of the symbols ``number`` of ``table``, which name addresses."""
    # Add symbol 0 if it is a real one: addresses in it resolve to no symbol.
    if len(table) and 0 in sectioned.runs.get(int(table["st_shndx"][0]), ()):
        number = np.append(np.int64(0), number)
    rows = table[number]
    section = rows["st_shndx"].astype(np.int64)
    value, stated = (rows[name].astype(np.uint64) for name in ("st_value", "st_size"))
    size, has_bytes = _infer_sizes(sectioned, section, value, stated)

    if sectioned.unlinked:
        found = SymbolSpans(number, value, size, number)
        return _layered(sectioned, found, section, has_bytes, len(table))
    order = _by_precedence(sectioned, number, value, has_bytes)
    return SymbolSpans(number, value, size, order)


def _layered(
    sectioned: SectionedSymbols,
    symbols: SymbolSpans,
    section: Index,
    has_bytes: Bools,
    last: int,
) -> SymbolSpans:
    """Return the columns of an object file, whose sections share addresses, in layers.

    An address belongs to the first section that contains it. If it lies between the symbols of
    that section, it resolves to no symbol. For that each section has a row of its own, without
    a symbol, whose order ``last`` is above that of all symbols. For example, 0x14 is in no
    symbol of ``.text``, so it resolves to none, and not to ``d``::

        layer 0    .text    0x0 to 0x20     f    0x0 to 0x8
        layer 1    .data    0x0 to 0x40     d    0x10 to 0x40
    """
    # Each section is a layer, in the order in which sections are searched. Symbols that only
    # mark the end of a section are in layers of their own, after all others.
    indices = list(sectioned.runs)
    layers = np.zeros(elf.SHN_LORESERVE, np.int64)
    layers[indices] = np.arange(len(indices))
    layer = layers[section] + np.where(has_bytes, 0, len(indices))

    # Add a row for each section that has bytes.
    stops = [sectioned.bounds[index][1] for index in indices]
    held = [layer for layer, stop in enumerate(stops) if stop]
    sizes = np.array([stops[layer] for layer in held], np.uint64)
    return SymbolSpans(
        np.append(symbols.number, np.full(len(held), NOBODY)),
        np.append(symbols.value, np.zeros(len(held), np.uint64)),
        np.append(symbols.size, sizes),
        np.append(symbols.order, np.full(len(held), last)),
        np.append(layer, np.array(held, np.int64)),
    )


def _by_precedence(
    sectioned: SectionedSymbols, number: Index, value: U64, has_bytes: Bools
) -> Index:
    """Return the rank of each symbol among those at its address.

    Only symbols that share an address are compared.
    """
    # Find the symbols that share an address.
    by_value = np.argsort(value, kind="stable")
    same = value[by_value[1:]] == value[by_value[:-1]]
    shared = np.zeros(len(value), np.bool_)
    shared[by_value[1:][same]] = shared[by_value[:-1][same]] = True

    # Rank them. Symbols that only mark the end of a section come last.
    rivals = np.flatnonzero(shared).tolist()
    columns = zip(rivals, number[rivals].tolist(), has_bytes[rivals].tolist())
    keys = {at: (not own, *sectioned.precedence_key(symbol)) for at, symbol, own in columns}
    order = np.zeros(len(value), np.int64)
    order[sorted(rivals, key=keys.__getitem__)] = np.arange(len(rivals))
    return order


def _infer_sizes(
    sectioned: SectionedSymbols, section: Index, value: U64, stated: U64
) -> tuple[U64, Bools]:
    """Return the sizes of symbols in bytes, inferred where the stated size is 0.

    For example, in a section from 0x1000 to 0x1100::

        value     0x1000    0x1040    0x1040    0x1100
        stated    0         0         0x10      0
        size      0x40      0x10      0x10      0         the last marks the section's end

    Returns:
        ``stated``, in which the size that :meth:`SectionedSymbols.size` infers replaces each 0;
        and an array that is False for symbols that only mark the end of a section.
    """
    if not len(value):
        return stated, np.zeros(0, np.bool_)

    # Group the symbols by section and address, and find the largest size of each group.
    by = np.lexsort((value, section))
    new = np.ones(len(by), np.bool_)
    new[1:] = (np.diff(value[by]) != 0) | (np.diff(section[by]) != 0)
    firsts = np.flatnonzero(new)
    longest = np.maximum.reduceat(stated[by], firsts)
    start, own = value[by[firsts]], section[by[firsts]]

    # Find the first and the last address of the section of each group. The address after the
    # last can be 2^64, which uint64 does not have.
    bounds = np.zeros((elf.SHN_LORESERVE, 2), np.uint64)
    for index, (first, stop) in sectioned.bounds.items():
        bounds[index] = first, max(stop - 1, 0)
    last = bounds[own, 1]
    empty = [index for index, (first, stop) in sectioned.bounds.items() if first == stop]
    inside = (bounds[own, 0] <= start) & (start <= last)
    inside &= ~np.isin(own, np.array(empty, np.int64))

    # A group ends before the next group of its section, if that starts within the section.
    follows = np.zeros(len(own), np.bool_)
    follows[:-1] = own[1:] == own[:-1]
    follows[:-1] &= start[1:] - _ONE < last[:-1]
    last[:-1] = np.where(follows[:-1], start[1:] - _ONE, last[:-1])

    # The size is one more than the distance of the last address, but for 2^64.
    inferred = np.where(inside, last - start, 0)
    inferred += inside & (inferred < np.uint64(TOP - 1))
    inferred = np.where(longest > 0, longest, inferred)

    # Give each symbol the size of its group.
    group = np.empty(len(by), np.int64)
    group[by] = np.cumsum(new) - 1
    return np.where(stated > 0, stated, inferred[group]), (inside | (longest > 0))[group]
