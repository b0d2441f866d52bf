"""The section of each symbol: the region of its own linker file that holds its address."""

from __future__ import annotations

import numpy as np

from .._arrays import I32, U16, U32, U64, Index, Mask
from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import LinkerFile, Region
from .._linker.files import Role, all_name
from .._typing import NamedTuple
from .symbol_columns import SymbolColumns, is_constant


class RegionIndex(NamedTuple):
    """The regions of all linker files, by address. Region ``i`` is section ``i + 1``.

    ``starts`` and ``ends`` (uint64) are the bounds of the regions, and ``file_ids`` (uint32)
    the ids of the linker files that own them.
    """

    regions: tuple[Region, ...]
    starts: U64
    ends: U64
    file_ids: U32


def index_regions(files: tuple[LinkerFile, ...]) -> RegionIndex:
    """Return the regions of ``files``, sorted by start, then by end."""
    pairs = sorted(
        ((region, file.id) for file in files for region in file.regions),
        key=lambda pair: (pair[0].start, pair[0].end),
    )
    return RegionIndex(
        tuple(region for region, _ in pairs),
        np.array([region.start for region, _ in pairs], np.uint64),
        np.array([region.end for region, _ in pairs], np.uint64),
        np.array([file_id for _, file_id in pairs], np.uint32),
    )


def find_regions(columns: SymbolColumns, index: RegionIndex) -> I32:
    """Return the region of each symbol, as its index in ``index`` (int32).

    An absolute or undefined symbol can have any region, or -1.

    Raises:
        LayoutError: a symbol that has an address is in no region of its file.
    """
    region = _last_started(columns.address, index)
    if not len(region):
        return region

    # Symbols of one file in one region form a run at ascending addresses. If the last of them
    # is not past the region's end, none is. So only the last symbol of each run is checked: a
    # few hundred symbols instead of all.
    changes = region[1:] != region[:-1]
    if not is_constant(columns.file_id):
        changes |= columns.file_id[1:] != columns.file_id[:-1]
    last = np.append(np.flatnonzero(changes), len(region) - 1)
    doubtful = _is_outside(columns, region, last, index)
    if not doubtful.any():
        return region

    # Check every symbol of a run whose last symbol is outside, and search the symbol's file for
    # another region.
    rows = np.flatnonzero(np.repeat(doubtful, np.diff(last, prepend=-1)))
    has_address = columns.role[rows] < Role.ABSOLUTE
    rows = rows[_is_outside(columns, region, rows, index) & has_address]
    for row in rows.tolist():
        address, file_id = int(columns.address[row]), int(columns.file_id[row])
        region[row] = _search_file(index, address, file_id)
    return region


def section_numbers(columns: SymbolColumns, region: I32, rows: slice) -> U16:
    """Return the ``st_shndx`` of each of ``rows``; ``region`` is from :func:`find_regions`."""
    number = region[rows].astype(np.uint16)
    number += np.uint16(1)
    role = columns.role[rows]
    if not all_name(role):
        number[role == Role.ABSOLUTE] = elf.SHN_ABS
        number[role == Role.UNDEFINED] = elf.SHN_UNDEF
    return number


def _last_started(address: U64, index: RegionIndex) -> I32:
    """Return for each of the sorted addresses the last region that starts at or before it.

    -1 stands for no region. For example, with regions that start at 0x10 and 0x30::

        address     0x0    0x10    0x20    0x40
        region      -1     0       0       1
    """
    first_rows = np.searchsorted(address, index.starts)
    return np.repeat(
        np.arange(-1, len(index.regions), dtype=np.int32),
        np.diff(first_rows, prepend=0, append=len(address)),
    )


def _is_outside(columns: SymbolColumns, region: I32, rows: Index, index: RegionIndex) -> Mask:
    """Return a mask of those of ``rows`` that are not in the region that they have.

    Such a symbol has no region (-1), is past the region's end, or is of another linker file.
    """
    own = region[rows]
    outside = own < 0
    if len(index.regions):
        outside |= columns.address[rows] > index.ends[own]
        outside |= index.file_ids[own] != columns.file_id[rows]
    return outside


def _search_file(index: RegionIndex, address: int, file_id: int) -> int:
    """Return the index of the last region of a file that contains ``address`` or ends at it.

    Raises:
        LayoutError: the file has no such region.
    """
    touching = np.flatnonzero(
        (index.file_ids == file_id) & (index.starts <= address) & (index.ends >= address)
    )
    if not len(touching):
        raise LayoutError(
            f"The symbol at {address:#x} is in no region of its linker file.",
            "Report this, with the files that the snapshot was taken of.",
        )
    return int(touching[-1])
