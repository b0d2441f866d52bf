"""Memory that goes back to the system as soon as it is released, unlike that of malloc()."""

from __future__ import annotations

import mmap


def anonymous_mmap(size: int) -> mmap.mmap:
    """Return ``size`` zero bytes in a private mapping.

    Raises:
        MemoryError: the system does not have that much.
    """
    try:
        return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from None
