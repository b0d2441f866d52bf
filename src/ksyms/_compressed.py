"""Files that may be compressed: modules are, on most machines, and what people send."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator

from ._typing import BinaryIO, Final

COMPRESSED: Final = (".xz", ".zst", ".gz")
"""How the name of a compressed file ends, where a directory is searched for files."""
LARGEST: Final = 1 << 30
"""Bytes that a compressed file may have unpacked; the largest module has a tenth."""
_PIECE: Final = 1 << 20
_PACKED: Final = 1 << 11  # zstd may make 32,768 times as much of a few bytes


def contents(path: str) -> bytes | mmap.mmap:
    """The file's bytes, whatever it is compressed with; a plain one is mapped.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, is damaged, or is larger than :data:`LARGEST`
            unpacked.
    """
    # Without O_NONBLOCK a FIFO would keep us here until somebody writes to it.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        packed = compression(file.read(6))
        file.seek(0)
        if packed is not None:
            return _limited(_unpacked(file, packed))
        if not status.st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def compression(head: bytes) -> str | None:
    """What a file that begins with ``head``, six bytes or more, is compressed with."""
    if head.startswith(b"\xfd7zXZ\0"):  # The .xz File Format, 2.1.1.1
        return "xz"
    if head.startswith(b"\x1f\x8b"):  # RFC 1952, 2.3.1
        return "gzip"
    # RFC 8878, 3.1.1; a skippable frame, 3.1.2, may come before.
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return None


def _limited(pieces: Iterator[bytes]) -> bytes:
    found: list[bytes] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB unpacked")
        found.append(piece)
    return b"".join(found)


def _unpacked(file: BinaryIO, packed: str) -> Iterator[bytes]:
    """The contents in pieces: a read() of many bytes makes room for all of them first."""
    import gzip
    import lzma
    import zlib

    if packed == "zstd":
        yield from _unzstd(file)
        return
    try:
        with (lzma.open if packed == "xz" else gzip.open)(file) as plain:
            yield from iter(lambda: plain.read(_PIECE), b"")
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(str(error)) from None


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    # Not stream_reader, which takes a file that was cut for one that ends there.
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        while piece := file.read(_PACKED):
            while piece:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if not frame.eof:
        raise ValueError("it ends before its last frame does")
