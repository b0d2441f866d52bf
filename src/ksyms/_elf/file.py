"""An ELF file on disk, whose bytes are read as they are needed.

It is not mapped: if another process truncates a mapped file, the reader gets SIGBUS. Here a
short read is an error.
"""

from __future__ import annotations

import os
import stat

from .._errors import ImageError, SourceError, reason


class FileData:
    """The bytes of an open file, as :class:`~.reader.Data`; its length is asked each time."""

    def __init__(self, path: str) -> None:
        """Open ``path``.

        Raises:
            SourceError: the file cannot be opened.
            ImageError: it is not a regular file.
        """
        self.path = path
        try:
            # Check this before open(), since opening a device can have effects.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ImageError(f"{path} is not a regular file.", "Name an ELF file.")
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise SourceError(
                f"{path} cannot be opened: {reason(error)}.",
                "Name an ELF file that you may read.",
                errno=getattr(error, "errno", None),
            ) from None

    def __len__(self) -> int:
        return os.fstat(self.fd).st_size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(len(self))
        parts = []
        while start < stop:
            try:
                data = os.pread(self.fd, min(stop - start, 1 << 30), start)
            except OSError as error:
                raise self._cannot_read(reason(error), error.errno) from None
            if not data:
                raise self._cannot_read("it became shorter meanwhile", None)
            parts.append(data)
            start += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def _cannot_read(self, why: str, errno: int | None) -> SourceError:
        return SourceError(
            f"{self.path} cannot be read: {why}.",
            "Try again when no program writes to it.",
            errno=errno,
        )
