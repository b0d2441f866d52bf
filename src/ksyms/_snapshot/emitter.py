"""The cursor that the copy pass writes with, and the residue that it keeps.

freebsd-ksyms.c: KSYMS_EMIT advances, ``to_resid`` is what the size pass left room for.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

from .._memory import mapped
from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_HUGE: Final = 1 << 21
"""Bytes of a huge page of x86-64, and of arm64 and riscv with pages of 4 KB."""


class ResidueError(Exception):
    """The copy pass had more or less to write than the size pass found (ENXIO)."""


class Emitter:
    """Writes an image of exactly ``size`` bytes, front to back; or ``image``, a part of one."""

    def __init__(self, size: int, image: npt.NDArray[np.uint8] | None = None) -> None:
        self.image = _zeros(size) if image is None else image
        self.residue = size

    def part(self, length: int) -> Emitter:
        """An emitter of its own for the next ``length`` bytes, with a residue of its own.

        Raises:
            ResidueError: the image has no such room left.
        """
        return Emitter(length, self.room(length))

    def room(self, length: int) -> npt.NDArray[np.uint8]:
        """The next ``length`` bytes of the image, zero until they are written.

        Raises:
            ResidueError: the image has no such room left.
        """
        if length > self.residue:
            raise ResidueError(f"{length - self.residue} bytes more than the sizes allowed")
        start = len(self.image) - self.residue
        self.residue -= length
        return self.image[start : start + length]

    def emit(self, data: bytes | npt.NDArray[np.uint8]) -> None:
        """Write ``data`` next.

        Raises:
            ResidueError: the image has no room left for it.
        """
        import numpy as np

        self.room(len(data))[:] = np.frombuffer(data, np.uint8)

    def finish(self) -> npt.NDArray[np.uint8]:
        """The image, whole and read-only from now on.

        Raises:
            ResidueError: there is room left (the driver's ``to.to_resid != 0``).
        """
        if self.residue:
            raise ResidueError(f"{self.residue} bytes fewer than the sizes said")
        self.image.setflags(write=False)
        return self.image


def _zeros(size: int) -> npt.NDArray[np.uint8]:
    """``size`` bytes that are zero, in huge pages where the system has them.

    The kernel hands out a page of 4 KB at its first touch, for 2.6 us where that was measured,
    as much as it takes to write 20 symbols.
    """
    import numpy as np

    if size < _HUGE:
        return np.zeros(size, np.uint8)
    room = mapped(size + 2 * _HUGE)
    memory = np.frombuffer(room, np.uint8)
    start = -memory.ctypes.data % _HUGE
    with suppress(OSError):  # a kernel without CONFIG_TRANSPARENT_HUGEPAGE
        # Half a huge page too many at most, or half a one of small pages.
        room.madvise(mmap.MADV_HUGEPAGE, start, (size + _HUGE // 2) // _HUGE * _HUGE)
    return memory[start : start + size]
