"""The device or a stored image, opened from Python."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import sys
from types import TracebackType

from ._device import KIOCGSIZE
from ._errors import SourceError, reason
from ._symbols import SymbolTable, load


class Handle:
    """The open device ``ksyms``, a served ``vmlinux``, or a stored image: a context manager.

    Its contents never change, even if the kernel's symbols do. ``path`` is its name, and
    ``size`` its size in bytes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._fd = -1
        self._table: SymbolTable | None = None
        self._map: mmap.mmap | None = None
        try:
            # Without O_NONBLOCK, open() of a FIFO waits for a writer.
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _unopened(self.path, error) from None
        try:
            self.size = _size(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise _unopened(self.path, error) from None

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> int:
        """The address in this process' memory at which the image is mapped (KIOCGADDR).

        It is 0 if the image is empty.

        Raises:
            SourceError: it cannot be mapped.
        """
        if not self.size:
            return 0
        # from_buffer() makes no copy: this is the address of the mapping's first byte.
        return ctypes.addressof(ctypes.c_char.from_buffer(self._mapped()))

    @property
    def table(self) -> SymbolTable:
        """The symbol table of the image, as :func:`ksyms.load` returns it.

        Raises:
            ImageError: it is no image with a symbol table.
        """
        if self._table is None:
            self._table = load(memoryview(self._mapped()) if self.size else memoryview(b""))
        return self._table

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Return ``length`` bytes at ``offset``, or fewer at the end; for None all up to there.

        Raises:
            SourceError: EFAULT, if ``offset`` is negative or past the end; or the errno of
                read().
        """
        if not 0 <= offset <= self.size:
            raise SourceError(
                f"Offset {offset} is outside of {self.path}'s {self.size} bytes.",
                "Read within them.",
                errno=errno.EFAULT,
            )
        left = self.size - offset if length is None else min(length, self.size - offset)
        parts = []
        while left > 0:
            try:
                part = os.pread(self._fd, left, offset)
            except OSError as error:
                raise SourceError(
                    f"{self.path} cannot be read: {reason(error)}.",
                    "Open it again.",
                    errno=error.errno,
                ) from None
            if not part:
                break
            parts.append(part)
            offset, left = offset + len(part), left - len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the device or file; a table from :attr:`table` stays valid."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._map, self._table = -1, None, None

    def __del__(self) -> None:
        self.close()

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            try:
                # Private and writable, as ctypes requires; it is not written to.
                self._map = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise _unopened(self.path, error) from None
        return self._map


def _size(fd: int) -> int:
    """Return the size in bytes of an open device or file.

    Raises:
        OSError: EINVAL: it is neither the device nor a regular file.
    """
    status = os.fstat(fd)
    try:
        # Ask the device itself: fstat() has no size for a character device.
        word = fcntl.ioctl(fd, KIOCGSIZE, bytes(8))
        return int.from_bytes(word, sys.byteorder)
    except OSError:
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        return status.st_size


def _unopened(path: str, error: OSError | ValueError) -> SourceError:
    return SourceError(
        f"{path} cannot be opened: {reason(error)}.",
        "Name the device, or a file that ksyms snapshot wrote.",
        errno=getattr(error, "errno", None),
    )


def open_handle(path: str | os.PathLike[str]) -> Handle:
    """Open the device, or a stored image.

    For example::

        with ksyms.open("/dev/ksyms") as handle:
            handle.table.lookup(0xFFFFFFFF81000000)

    Args:
        path: ``/dev/ksyms`` or where else the device is served, a served ``vmlinux``, or a
            file that ksyms wrote.

    Raises:
        SourceError: it cannot be opened: EBUSY, if this process has the device open already;
            EACCES, if this process may not see addresses.
    """
    return Handle(path)
