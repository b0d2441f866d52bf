"""Files that may be compressed: modules are, on most machines."""

from __future__ import annotations

import gzip
import lzma
import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

COMPRESSED: Final = (".xz", ".zst", ".gz")
"""How the name of a compressed file ends."""
LARGEST: Final = 1 << 30
"""Bytes that a compressed file may have unpacked; the largest module has a tenth."""
_PIECE: Final = 1 << 20


def contents(path: str) -> bytes | mmap.mmap:
    """The file's bytes, whatever it is compressed with; a plain one is mapped.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, is not compressed as its name says, or is larger
            than :data:`LARGEST` unpacked.
    """
    # Without O_NONBLOCK a FIFO would keep us here until somebody writes to it.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if not path.endswith(COMPRESSED):
            if not status.st_size:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            return _limited(_unpacked(file, path))
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(str(error)) from None


def _limited(pieces: Iterator[bytes]) -> bytes:
    found: list[bytes] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB unpacked")
        found.append(piece)
    return b"".join(found)


def _unpacked(file: BinaryIO, path: str) -> Iterator[bytes]:
    """The contents in pieces: a read() of many bytes makes room for all of them first."""
    if path.endswith(".xz"):
        with lzma.open(file) as xz:
            yield from iter(lambda: xz.read(_PIECE), b"")
    elif path.endswith(".gz"):
        with gzip.open(file) as gz:
            yield from iter(lambda: gz.read(_PIECE), b"")
    else:
        yield from _unzstd(file)


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    try:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        yield from iter(lambda: reader.read(_PIECE), b"")
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
