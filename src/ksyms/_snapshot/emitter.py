"""The image under construction: the copy pass writes it from start to end.

The residue is the number of bytes that the size pass counted and the copy pass has not written
yet (freebsd-ksyms.c, KSYMS_EMIT and ``to_resid``).
"""

from __future__ import annotations

import mmap
from contextlib import suppress

from .._memory import anonymous_mmap
from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_HUGE: Final = 1 << 21
"""Bytes of a huge page of x86-64, and of arm64 and riscv with pages of 4 KB."""


class ResidueError(Exception):
    """The copy pass wrote more or fewer bytes than the size pass had counted (ENXIO)."""


class Emitter:
    """A writer of exactly ``size`` bytes.

    It writes into ``image``, which is a part of another emitter's, or into a new image.
    ``residue`` is the number of bytes that are left.
    """

    def __init__(self, size: int, image: npt.NDArray[np.uint8] | None = None) -> None:
        self.image = _zeros(size) if image is None else image
        self.residue = size

    def part(self, length: int) -> Emitter:
        """Return an emitter for the next ``length`` bytes, with a residue of its own.

        Raises:
            ResidueError: the image has fewer bytes left.
        """
        return Emitter(length, self.room(length))

    def room(self, length: int) -> npt.NDArray[np.uint8]:
        """Return the next ``length`` bytes of the image, zero until they are written.

        Raises:
            ResidueError: the image has fewer bytes left.
        """
        if length > self.residue:
            raise ResidueError(f"{length - self.residue} bytes more than the sizes allowed")
        start = len(self.image) - self.residue
        self.residue -= length
        return self.image[start : start + length]

    def emit(self, data: bytes | npt.NDArray[np.uint8]) -> None:
        """Write ``data`` into the next bytes of the image.

        Raises:
            ResidueError: the image has no room left for it.
        """
        import numpy as np

        self.room(len(data))[:] = np.frombuffer(data, np.uint8)

    def finish(self) -> npt.NDArray[np.uint8]:
        """Return the complete image, and make it read-only.

        Raises:
            ResidueError: bytes are missing (the driver's ``to.to_resid != 0``).
        """
        if self.residue:
            raise ResidueError(f"{self.residue} bytes fewer than the sizes said")
        self.image.setflags(write=False)
        return self.image


def _zeros(size: int) -> npt.NDArray[np.uint8]:
    """Return ``size`` zero bytes, in huge pages if the system has them.

    The first access to a page of 4 KB takes 0.7 to 2.6 us in the kernel. Writing the 170
    symbols of the page takes about as long (docs/performance.md).
    """
    import numpy as np

    if size < _HUGE:
        return np.zeros(size, np.uint8)
    room = anonymous_mmap(size + 2 * _HUGE)
    memory = np.frombuffer(room, np.uint8)
    start = -memory.ctypes.data % _HUGE
    with suppress(OSError):  # a kernel without CONFIG_TRANSPARENT_HUGEPAGE
        # Round to whole huge pages: at most half of one is wasted, or left in small pages.
        room.madvise(mmap.MADV_HUGEPAGE, start, (size + _HUGE // 2) // _HUGE * _HUGE)
    return memory[start : start + size]
