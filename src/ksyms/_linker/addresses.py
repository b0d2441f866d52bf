"""Pages and ranges of addresses."""

from __future__ import annotations

import numpy as np

from .._typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from .._arrays import U64, Mask
    from .files import Region

PAGE: Final = 4096
"""The size of a page in bytes."""
LAST_ADDRESS: Final = (1 << 64) - 1
"""The highest address of 64 bits."""


class Range(NamedTuple):
    """The addresses [start, end)."""

    start: int
    end: int


def page_start(address: int) -> int:
    """Return the start of the page that holds ``address``."""
    return address // PAGE * PAGE


def page_end(address: int) -> int:
    """Return the end of the page that holds ``address``."""
    return page_start(address) + PAGE


def within(address: U64, regions: tuple[Region, ...], end: bool = False) -> Mask:
    """Return a mask of the addresses that lie in a region, or at its end if ``end`` is True."""
    inside = np.zeros(len(address), np.bool_)
    # The kernel's own symbols are sorted, so the addresses in a region are one slice.
    if (address[1:] >= address[:-1]).all():
        bounds = np.array([(r.start, r.end) for r in regions], np.uint64).reshape(-1, 2)
        first = np.searchsorted(address, bounds[:, 0])
        after = np.searchsorted(address, bounds[:, 1], "right" if end else "left")
        for low, high in zip(first.tolist(), after.tolist()):
            inside[low:high] = True
        return inside

    for region in regions:
        below = address <= region.end if end else address < region.end
        inside |= (address >= region.start) & below
    return inside
