"""Small files of /proc and sysfs that are read often, and are kept open for that.

The kernel prints such a file anew for each read from its start (fs/seq_file.c, seq_read_iter;
fs/kernfs/file.c). An open file saves the lookup of its path, which is most of the time.
"""

from __future__ import annotations

import os


class ProcFile:
    """The file at ``path``, opened at the first read and kept open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def value(self) -> bytes:
        """Return the present contents of a file with one value, of at most 4096 bytes.

        Raises:
            OSError: it cannot be opened or read.
        """
        return os.pread(self._opened(), 4096, 0)

    def text(self) -> bytes:
        """Return the present contents of a file of any length.

        Raises:
            OSError: it cannot be opened or read.
        """
        fd = self._opened()
        os.lseek(fd, 0, os.SEEK_SET)
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _opened(self) -> int:
        """Return the descriptor of the file; open it if it is not open."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._fd
