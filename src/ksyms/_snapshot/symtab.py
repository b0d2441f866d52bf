"""``.symtab`` of the ``linux`` layout: its rows, written in blocks.

The driver writes blocks too, of 256 symbols. A block stays in the processor's cache, and peak
memory stays near the size of the image. ``symbol_order.py`` has the order of the rows,
``symbol_sections.py`` their sections, and ``symbol_sizes.py`` their sizes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._arrays import I32, U16, U64, Mask
from .._linker import LinkerFile
from .._typing import Final, NamedTuple
from .symbol_columns import SymbolColumns, count_true, group_columns, groups_of
from .symbol_order import SymbolOrder, is_local, order_symbols
from .symbol_sections import RegionIndex, find_regions, index_regions, section_numbers
from .symbol_sizes import SizeBounds, size_bounds, symbol_sizes

BLOCK: Final = 1 << 13
"""The number of symbols that are written at once."""


class _Halves(NamedTuple):
    """The two halves of the table: local symbols, then all others.

    ``cursors`` has the row of ``table`` that is written next in each half.
    """

    table: npt.NDArray[np.void]
    cursors: list[int]


class _Group(NamedTuple):
    """The symbols of a group of linker files, sorted by address.

    ``bounds`` has the addresses at which they can end, and ``region`` the region of each, as
    from :func:`find_regions`.
    """

    columns: SymbolColumns
    bounds: SizeBounds
    region: I32


def write_symbols(
    files: tuple[LinkerFile, ...],
    strings_start: int,
    index: RegionIndex,
    order: SymbolOrder,
    table: npt.NDArray[np.void],
) -> None:
    """Write all symbols into ``table``: local symbols, then all others, each by address.

    Args:
        files: the linker files; their strings are in this order, without gaps.
        strings_start: the offset in the string table at which the first file's strings start.
        index: the regions of ``files``.
        order: the order of the symbols of ``files``.
        table: the rows after symbol 0, of the format's dtype.

    Raises:
        LayoutError: a symbol is in no region of its file.
    """
    locals_ = sum(count_true(is_local(file.symbols.info)) for file in files)
    halves = _Halves(table, [0, locals_])
    for group, by_address in zip(groups_of(files), order.groups):
        _write_group(_prepare(group, by_address, index), strings_start, index, halves)
        strings_start += sum(len(file.symbols.strings) for file in group)

    # Each group was written by address. If groups overlap, sort each half as a whole.
    if order.disjoint:
        return
    for half in (slice(0, locals_), slice(locals_, len(table))):
        by_value = np.argsort(table["st_value"][half], kind="stable")
        _as_raw_rows(table[half])[:] = _as_raw_rows(table[half])[by_value]


def file_sections_and_sizes(files: tuple[LinkerFile, ...]) -> list[tuple[U16, U64]]:
    """Return the ``st_shndx`` and ``st_size`` of each file's symbols, in the file's own order.

    Raises:
        LayoutError: a symbol is in no region of its file.
    """
    index = index_regions(files)
    found: list[tuple[U16, U64]] = []
    for group, by_address in zip(groups_of(files), order_symbols(files).groups):
        columns, bounds, region = _prepare(group, by_address, index)
        rows = slice(0, len(region))
        section = section_numbers(columns, region, rows)
        size = symbol_sizes(columns, bounds, region, rows, index)

        # Undo the sort by address, and divide the group into its files.
        if by_address is not None:
            back = np.argsort(by_address)
            section, size = section[back], size[back]
        ends = np.cumsum([len(file.symbols.address) for file in group])[:-1]
        found += zip(np.split(section, ends), np.split(size, ends))
    return found[: len(files)]  # without the empty item of a group of no files


def _prepare(
    group: tuple[LinkerFile, ...], by_address: I32 | None, index: RegionIndex
) -> _Group:
    """Return the symbols of ``group``, sorted by the permutation ``by_address``."""
    columns = group_columns(group, by_address)
    return _Group(columns, size_bounds(group, columns), find_regions(columns, index))


def _write_group(
    group: _Group, strings_start: int, index: RegionIndex, halves: _Halves
) -> None:
    """Write the symbols of ``group``, whose strings start at offset ``strings_start``."""
    columns, bounds, region = group
    count = len(region)
    block = np.zeros(min(BLOCK, count), halves.table.dtype)  # reused: new memory is slow
    for start in range(0, count, BLOCK):
        rows = slice(start, min(start + BLOCK, count))
        symbols = block[: rows.stop - start]
        symbols["st_value"] = columns.address[rows]
        symbols["st_size"] = symbol_sizes(columns, bounds, region, rows, index)
        symbols["st_name"] = columns.name[rows] + np.uint32(strings_start)
        symbols["st_info"] = columns.info[rows]
        symbols["st_shndx"] = section_numbers(columns, region, rows)
        _write_rows(symbols, is_local(columns.info[rows]), halves)


def _write_rows(symbols: npt.NDArray[np.void], local: Mask, halves: _Halves) -> None:
    """Write ``symbols`` at the cursors of their halves, and advance the cursors."""
    for half, chosen in enumerate((np.flatnonzero(local), np.flatnonzero(~local))):
        room = slice(halves.cursors[half], halves.cursors[half] + len(chosen))
        halves.cursors[half] = room.stop
        # In any mode but "clip" numpy writes to a copy of ``out`` first, to leave ``out`` as it
        # was if an index is out of range.
        _as_raw_rows(symbols).take(chosen, out=_as_raw_rows(halves.table[room]), mode="clip")


def _as_raw_rows(symbols: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return a view of the same rows without fields, since numpy copies fields one by one."""
    return symbols.view(np.dtype((np.void, symbols.itemsize)))
