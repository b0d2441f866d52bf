"""The symbols of several linker files as columns: an array for each field, by symbol.

Most fields of most files have one value for all symbols. ``np.broadcast_to`` makes such a
column from a single item. It takes no memory, and no pass is made over it.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._arrays import I32, U8, U32, U64, Mask
from .._linker import LinkerFile
from .._typing import NamedTuple

Item = TypeVar("Item", bound=np.generic)


class SymbolColumns(NamedTuple):
    """The symbols of a group of linker files, sorted by address.

    ``name`` is an offset into the strings of all files of the group, one after the other;
    ``file_id`` is the id of the symbol's linker file. The other fields are those of
    :class:`~.._linker.Symbols`.
    """

    address: U64
    name: U32
    info: U8
    role: U8
    size: U64
    exact: Mask
    file_id: U32


def groups_of(files: tuple[LinkerFile, ...]) -> tuple[tuple[LinkerFile, ...], ...]:
    """Return two groups of ``files``: the kernel, and all others.

    The kernel's table is large and usually sorted by address. The groups are processed one
    after the other, so that the memory for one is freed before the next.
    """
    return files[:1], files[1:]


def group_columns(group: tuple[LinkerFile, ...], by_address: I32 | None) -> SymbolColumns:
    """Return the symbols of ``group`` sorted by address.

    ``by_address`` is the permutation that sorts them, or None if they are sorted already.
    """
    tables = [file.symbols for file in group]
    shifts = accumulate((len(table.strings) for table in tables), initial=0)
    names = [t.name + np.uint32(shift) if shift else t.name for t, shift in zip(tables, shifts)]
    ids = [np.broadcast_to(np.uint32(f.id), len(f.symbols.name)) for f in group]
    return SymbolColumns(
        address=sorted_column([t.address for t in tables], np.uint64, by_address),
        name=sorted_column(names, np.uint32, by_address),
        info=sorted_column([t.info for t in tables], np.uint8, by_address),
        role=sorted_column([t.role for t in tables], np.uint8, by_address),
        size=sorted_column([t.size for t in tables], np.uint64, by_address),
        exact=sorted_column([t.exact for t in tables], np.bool_, by_address),
        file_id=sorted_column(ids, np.uint32, by_address),
    )


def sorted_column(
    parts: list[npt.NDArray[Item]], dtype: type[Item], by_address: I32 | None
) -> npt.NDArray[Item]:
    """Return one column of a group: the ``parts`` of its files, joined, then sorted."""
    column = joined(parts, dtype)
    return column if by_address is None or is_constant(column) else column[by_address]


def joined(parts: list[npt.NDArray[Item]], dtype: type[Item]) -> npt.NDArray[Item]:
    """Return the parts, one after the other, as one array.

    A single part is not copied, nor are parts with one constant value.
    """
    if len(parts) == 1:
        return parts[0]
    if parts and all(is_constant(p) and len(p) and p[0] == parts[0][0] for p in parts):
        return np.broadcast_to(parts[0][0], sum(map(len, parts)))
    return np.concatenate([np.zeros(0, dtype), *parts])


def is_constant(column: npt.NDArray[Item]) -> bool:
    """Return True if one item in memory stands for all items (``np.broadcast_to``)."""
    return column.strides == (0,)


def count_true(mask: Mask) -> int:
    """Return the number of True items in ``mask``; a constant mask is not scanned."""
    if is_constant(mask):
        return len(mask) * bool(mask[:1].any())
    return int(np.count_nonzero(mask))
