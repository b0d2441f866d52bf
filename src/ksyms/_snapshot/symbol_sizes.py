"""The sizes of symbols: exact if a debug file gave them, else inferred.

A symbol of inferred size ends at the first of these: the next address at which a symbol starts,
the end of the symbol's region, or the start of a section that its linker file gave::

    symbols start:    a          b       c                  d
    regions:          [----------------------------)        [-----)
    section starts:                  x
                      :          :   :   :         :
    sizes:            |<--- a -->|<b>|   |<-- c -->|
                                 :   :             :
              next_address of a  :   :             :  region_end of c
                                     section_start of b

Several symbols at one address have the same size.
"""

from __future__ import annotations

import numpy as np

from .._arrays import I32, U8, U64, Mask
from .._linker import LinkerFile
from .._linker.files import Role, all_name
from .._typing import Final, NamedTuple
from .symbol_columns import SymbolColumns, count_true, joined
from .symbol_sections import RegionIndex

_LAST: Final = np.uint64((1 << 64) - 1)
"""The highest address: a symbol ends there if nothing follows it."""


class SizeBounds(NamedTuple):
    """The addresses at which symbols of a group can end.

    ``sizeless`` is a mask of the group's symbols that have no size, and at whose addresses no
    other symbol ends. ``addresses`` (sorted) are the addresses of all others.
    ``section_starts`` (sorted) are the :attr:`LinkerFile.stops` of the group's linker files.
    """

    sizeless: Mask
    addresses: U64
    section_starts: U64


def size_bounds(group: tuple[LinkerFile, ...], columns: SymbolColumns) -> SizeBounds:
    """Return the addresses at which the symbols of ``group`` can end."""
    sizeless = _is_sizeless(columns.role)
    addresses = columns.address
    if sizeless.any():
        # In most kernels the sizeless symbols, per-CPU variables, come first: cut these off.
        first = int(np.argmin(sizeless))
        addresses = addresses[~sizeless] if sizeless[first:].any() else addresses[first:]
    # np.unique would import numpy.ma, which takes a tenth of numpy's import.
    section_starts = np.sort(joined([file.stops for file in group], np.uint64))
    return SizeBounds(sizeless, addresses, section_starts)


def symbol_sizes(
    columns: SymbolColumns, bounds: SizeBounds, region: I32, rows: slice, index: RegionIndex
) -> U64:
    """Return the ``st_size`` of each of ``rows``, in bytes.

    ``region`` has the region of every symbol of the group, from :func:`find_regions`.
    """
    # Find where each symbol ends.
    address, sizeless = columns.address[rows], bounds.sizeless[rows]

    end = _next_addresses(address, sizeless, bounds)
    if len(index.regions):
        region_end = index.ends[region[rows]]
        np.minimum(end, np.maximum(region_end, address), out=end)
    if len(bounds.section_starts):
        section_start = _next_greater(bounds.section_starts, address)
        np.minimum(end, section_start, out=end)
    size = end - address

    # Symbols of some roles have no size, or a short one.
    size[sizeless] = 0
    role = columns.role[rows]
    if not all_name(role):
        # The kernel names no address by such a symbol. With one byte at most, no tool names the
        # addresses after it by it.
        silent = role == Role.SILENT
        size[silent] = np.minimum(size[silent], 1)

    exact = columns.exact[rows]
    return np.where(exact, columns.size[rows], size) if count_true(exact) else size


def _is_sizeless(role: U8) -> Mask:
    """Return a mask of the symbols whose role gives them no size (:class:`SizeBounds`)."""
    if all_name(role):
        return np.broadcast_to(np.False_, len(role))
    return np.asarray((role != Role.NAMES) & (role != Role.SILENT))


def _next_addresses(address: U64, sizeless: Mask, bounds: SizeBounds) -> U64:
    """Return for each row the next higher address at which a symbol can end.

    ``address`` and ``sizeless`` are of the same rows, sorted by address.
    """
    next_address = np.empty_like(address)
    next_address[:-1] = address[1:]
    next_address[-1:] = address[-1:]

    # Usually it is the address of the next row. To search ``bounds`` for all rows took 5.4 ms
    # of CPU time for the 163,000 symbols of a 6.12 kernel; this takes 2.0 ms.
    unanswered = next_address == address
    if sizeless.any():
        unanswered[:] = True
    rows = np.flatnonzero(unanswered)
    next_address[rows] = _next_greater(bounds.addresses, address[rows])
    return next_address


def _next_greater(ascending: U64, address: U64) -> U64:
    """Return for each address the first of ``ascending`` above it; _LAST if there is none."""
    after = np.searchsorted(ascending, address, "right")
    found = np.full(len(address), _LAST)
    inside = after < len(ascending)
    found[inside] = ascending[after[inside]]
    return found
