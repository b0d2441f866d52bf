"""Memory that is the system's again as soon as nobody has it."""

from __future__ import annotations

import mmap


def mapped(size: int) -> mmap.mmap:
    """``size`` bytes, all zeros, of this process alone.

    Raises:
        MemoryError: there is not as much.
    """
    try:
        return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from None
