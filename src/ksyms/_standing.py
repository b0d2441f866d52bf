"""Small files that are asked again and again, kept open.

/proc and sysfs print anew for a read from the file's begin (fs/seq_file.c, seq_read_iter;
fs/kernfs/file.c); what is saved is the way to the file, most of what a question costs.
"""

from __future__ import annotations

import os


class StandingFile:
    """The file at ``path``, opened at the first question and kept open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def value(self) -> bytes:
        """What a file of one value says now.

        Raises:
            OSError: it cannot be opened or read.
        """
        return os.pread(self._opened(), 4096, 0)

    def text(self) -> bytes:
        """What a file of any length says now, in one go from begin to end.

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
        """Close it; a later question opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _opened(self) -> int:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._fd
