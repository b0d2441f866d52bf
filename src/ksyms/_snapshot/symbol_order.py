"""The order of the symbols in ``.symtab``: local symbols, then all others, each by address."""

from __future__ import annotations

import numpy as np

from .._arrays import I32, U8, U32, U64, Mask
from .._elf import constants as elf
from .._linker import LinkerFile
from .._note import EXACT
from .._typing import NamedTuple
from .symbol_columns import count_true, groups_of, joined, sorted_column


class SymbolOrder(NamedTuple):
    """The permutations that sort symbols by address.

    ``groups`` has one for each group of :func:`~.symbol_columns.groups_of`, or None if that
    group is sorted already. ``disjoint`` is True if all symbols of a group have higher
    addresses than those of the group before it, or the same: then the sorted groups, one after
    the other, are sorted as a whole.
    """

    groups: tuple[I32 | None, ...]
    disjoint: bool


def order_symbols(files: tuple[LinkerFile, ...]) -> SymbolOrder:
    """Return the permutations that sort the symbols of ``files``."""
    groups: list[I32 | None] = []
    disjoint, highest = True, 0
    for group in groups_of(files):
        address = joined([file.symbols.address for file in group], np.uint64)
        ascending = (address[1:] >= address[:-1]).all()
        groups.append(
            None if ascending else np.argsort(address, kind="stable").astype(np.int32)
        )
        if len(address):
            disjoint &= highest <= int(address.min())
            highest = int(address.max())
    return SymbolOrder(tuple(groups), disjoint)


def is_local(info: U8) -> Mask:
    """Return a mask of the local symbols (STB_LOCAL), which are the first half of the table."""
    local: Mask = info >> 4 == elf.STB_LOCAL
    return local


def letter_runs(files: tuple[LinkerFile, ...], order: SymbolOrder) -> U32:
    """Return the rows of ``.ksyms.letters``: one for each run of symbols with one letter.

    A row has the number of the run's first symbol, and the letter, with the bit of an exact
    size. The last row has the number of symbols, and 0. Local symbols of a section usually have
    one letter, and all others another, so a kernel has some hundred runs. For example, the rows
    for symbol 0 and the letters t, t, T are::

        0 0    1 't'    3 'T'    4 0
    """
    # Collect the letters of the two halves, group by group.
    halves: tuple[list[U8], list[U8]] = ([], [])
    addresses: tuple[list[U64], list[U64]] = ([], [])
    for group, by_address in zip(groups_of(files), order.groups):
        tables = [file.symbols for file in group]
        letter = sorted_column([t.letter for t in tables], np.uint8, by_address)
        exact = sorted_column([t.exact for t in tables], np.bool_, by_address)
        if count_true(exact):
            letter = letter | exact.view(np.uint8) * np.uint8(EXACT)

        local = is_local(sorted_column([t.info for t in tables], np.uint8, by_address))
        for half, half_addresses, chosen in zip(halves, addresses, (local, ~local)):
            half.append(letter.compress(chosen))  # takes half the time of letter[chosen]
            if not order.disjoint:
                address = sorted_column([t.address for t in tables], np.uint64, by_address)
                half_addresses.append(address.compress(chosen))

    # Put them into the order of the table.
    ordered = [np.concatenate(half) for half in halves]
    if not order.disjoint:
        merges = [np.argsort(np.concatenate(half), kind="stable") for half in addresses]
        ordered = [half[merge] for half, merge in zip(ordered, merges)]

    # Find the first symbol of each run.
    letters = np.concatenate([np.zeros(1, np.uint8), *ordered])
    firsts = np.flatnonzero(np.append(True, letters[1:] != letters[:-1]))
    rows = np.zeros((len(firsts) + 1, 2), np.uint32)
    rows[:, 0] = np.append(firsts, len(letters))
    rows[:-1, 1] = letters[firsts]
    return rows
