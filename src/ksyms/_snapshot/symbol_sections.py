"""The section of each symbol: the region of its own linker file that holds its address."""

from __future__ import annotations

import numpy as np

from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import LinkerFile, Region
from .._linker.files import Role, all_name
from .._typing import NamedTuple
from .symbol_columns import I32, U16, U32, U64, Index, Mask, SymbolColumns, is_constant


class RegionIndex(NamedTuple):
    """The regions of all linker files, by address. Region ``i`` is section ``i + 1``.

    ``starts`` and ``ends`` (uint64) are the regions' bounds, ``file_ids`` (uint32) the ids of
    the linker files that they belong to.
    """

    regions: tuple[Region, ...]
    starts: U64
    ends: U64
    file_ids: U32


def index_regions(files: tuple[LinkerFile, ...]) -> RegionIndex:
    """Return the regions of ``files`` by address."""
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
    """Return the region of each symbol, as a position in ``index`` (int32).

    An absolute or undefined symbol has any region, or -1.

    Raises:
        LayoutError: a symbol that has an address is in no region of its file.
    """
    region = _last_started(columns.address, index)
    if not len(region):
        return region

    # Symbols of one file in one region follow each other, at ascending addresses. If the last
    # of such a run is not past the region's end, none is, so a few hundred symbols are checked
    # in place of all.
    changes = region[1:] != region[:-1]
    if not is_constant(columns.file_id):
        changes |= columns.file_id[1:] != columns.file_id[:-1]
    last = np.append(np.flatnonzero(changes), len(region) - 1)
    doubtful = _is_outside(columns, region, last, index)
    if not doubtful.any():
        return region

    rows = np.flatnonzero(np.repeat(doubtful, np.diff(last, prepend=-1)))
    has_address = columns.role[rows] < Role.ABSOLUTE
    rows = rows[_is_outside(columns, region, rows, index) & has_address]
    for row in rows.tolist():
        address, file_id = int(columns.address[row]), int(columns.file_id[row])
        region[row] = _search_file(index, address, file_id)
    return region


def section_numbers(columns: SymbolColumns, region: I32, rows: slice) -> U16:
    """Return ``st_shndx`` of ``rows``."""
    number = region[rows].astype(np.uint16)
    number += np.uint16(1)
    role = columns.role[rows]
    if not all_name(role):
        number[role == Role.ABSOLUTE] = elf.SHN_ABS
        number[role == Role.UNDEFINED] = elf.SHN_UNDEF
    return number


def _last_started(address: U64, index: RegionIndex) -> I32:
    """Return for each of the sorted addresses the last region that starts at or before it.

    -1 stands for an address before the first region.
    """
    first_rows = np.searchsorted(address, index.starts)
    return np.repeat(
        np.arange(-1, len(index.regions), dtype=np.int32),
        np.diff(first_rows, prepend=0, append=len(address)),
    )


def _is_outside(columns: SymbolColumns, region: I32, rows: Index, index: RegionIndex) -> Mask:
    """Return a mask of the ``rows`` that are not in their region.

    They have no region (-1), are past its end, or are of another file than the region.
    """
    own = region[rows]
    outside = own < 0
    if len(index.regions):
        outside |= columns.address[rows] > index.ends[own]
        outside |= index.file_ids[own] != columns.file_id[rows]
    return outside


def _search_file(index: RegionIndex, address: int, file_id: int) -> int:
    """Return the last region of a file that holds ``address``, or ends or starts at it.

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
