"""Files that may be compressed: modules are, on most machines."""

from __future__ import annotations

import gzip
import lzma
import mmap
import os
import zlib
from typing import Final

COMPRESSED: Final = (".xz", ".zst", ".gz")
"""How the name of a compressed file ends."""


def contents(path: str) -> bytes | mmap.mmap:
    """The file's bytes, whatever it is compressed with; a plain one is mapped.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not compressed as its name says.
    """
    try:
        if path.endswith(".xz"):
            with lzma.open(path) as xz:
                return xz.read()
        if path.endswith(".gz"):
            with gzip.open(path) as gz:
                return gz.read()
        with open(path, "rb") as file:
            if path.endswith(".zst"):
                return _unzstd(file.read())
            if not os.fstat(file.fileno()).st_size:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(str(error)) from None


def _unzstd(data: bytes) -> bytes:
    import zstandard

    try:
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
