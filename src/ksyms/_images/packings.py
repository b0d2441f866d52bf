"""The packings of kernels: those of scripts/Makefile.lib, and those that boot loaders unpack.

Other data follows a packed kernel: its build appends the unpacked size, and a flash has the
next partition there. So only the first frame is unpacked, and the rest is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._compressed import KINDS, compression, first_frame, limited, most_of
from .._typing import Final

MOST: Final = 1 << 29
"""The most bytes of an unpacked kernel; those of distributions have up to 100 MiB."""
_BLOCK: Final = 8 << 20
"""The most bytes of an unpacked block (lib/decompress_unlz4.c; lzop's have 256 KiB)."""
_LZO_CHECKS: Final = 0x1 | 0x100  # lzop's conf.h: F_ADLER32_D, F_CRC32_D
_LZO_CHECKS_PACKED: Final = 0x2 | 0x200  # F_ADLER32_C, F_CRC32_C
_LZO_FILTER: Final = 0x800  # F_H_FILTER

_MAGIC: Final = re.compile(
    rb"\x1f\x8b\x08[\0-\x1f]"  # RFC 1952: no flag above the fifth
    rb"|\xfd7zXZ\0"
    rb"|BZh[1-9]1AY&SY"
    rb"|\x28\xb5\x2f\xfd"
    rb"|\x02\x21\x4c\x18"  # lz4's Frame format, "Legacy frame"
    rb"|\x89LZO\0\r\n\x1a\n"
    # LZMA_Alone: the usual properties, a dictionary, and a size below 4 GiB or none
    rb"|\x5d\0\0[\0-\xff][\0-\x0f](?:\xff{8}|[\0-\xff]{4}\0{4})",
    re.S,
)
"""The first bytes of each packing."""
_BY_MAGIC: Final = {0x02: "lz4", 0x89: "lzo", 0x5D: "lzma"}
"""The packings that :func:`~.._compressed.compression` does not know, by their first byte."""


def packing(head: bytes) -> str | None:
    """Return the packing of bytes that start with ``head``; None if they are not packed."""
    found = _MAGIC.match(head[:16])
    return found and (_BY_MAGIC.get(head[0]) or compression(head[:6]))


def places(data: bytes) -> Iterator[int]:
    """Return the offsets in ``data`` of the magics of packings, in order."""
    return (found.start() for found in _MAGIC.finditer(data))


def unpack(data: bytes, how: str) -> bytes:
    """Unpack the frame at the start of ``data``.

    ``how`` is its packing, from :func:`packing` or from a boot loader's header.

    Raises:
        ValueError: it is damaged, cut short or larger than a kernel; or ``how`` is unknown.
        ImportError: the package that unpacks it is not installed.
    """
    pieces = {"lz4": _lz4, "lzo": _lzo}.get(how)
    if pieces is None and how not in KINDS:
        raise ValueError("no such packing is known")
    found = pieces(data) if pieces else first_frame(data, how)
    return b"".join(limited(found, min(MOST, most_of(len(data)))))


def _lz4(data: bytes) -> Iterator[bytes]:
    """Yield the unpacked blocks of a legacy frame of lz4.

    The frame is a magic, and then for each block its packed size and the packed bytes. No field
    marks the end, but only the last block is smaller than :data:`_BLOCK` when unpacked.
    """
    import lz4.block

    at = 4
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        # Not a block, but the data after the frame, such as the unpacked size.
        if not 0 < size <= _BLOCK + _BLOCK // 255 + 16 or at + size > len(data):
            return
        try:
            block = lz4.block.decompress(data[at : at + size], uncompressed_size=_BLOCK)
        except lz4.block.LZ4BlockError as error:
            raise ValueError(str(error)) from None
        yield block
        at += size
        if len(block) < _BLOCK:  # the last block
            return


def _lzo(data: bytes) -> Iterator[bytes]:
    """Yield the unpacked blocks of a file of lzop, as lib/decompress_unlzo.c reads it.

    A block is its unpacked size, its packed size, checksums (which are not verified) and the
    bytes, as they are if packing would not make them smaller. The last size is zero.
    """
    import lzallright

    lzo = lzallright.LZOCompressor()
    at = 9 + 2 + 2  # the magic, its version and the library's
    at += 2 if int.from_bytes(data[9:11]) >= 0x0940 else 0  # the version needed to extract it
    at += 1 + (1 if int.from_bytes(data[9:11]) >= 0x0940 else 0)  # method, level
    flags = int.from_bytes(data[at : at + 4])
    at += 4 + (4 if flags & _LZO_FILTER else 0) + 4 + 4  # filter, mode, time
    at += 4 if int.from_bytes(data[9:11]) >= 0x0940 else 0  # the time's upper half
    at += 1 + data[at] + 4 if at < len(data) else 0  # the name, the header's checksum

    while size := int.from_bytes(data[at : at + 4]):
        packed = int.from_bytes(data[at + 4 : at + 8])
        at += 8 + 4 * (flags & _LZO_CHECKS).bit_count()
        if packed < size:
            at += 4 * (flags & _LZO_CHECKS_PACKED).bit_count()
        if size > _BLOCK or packed > size or at + packed > len(data):
            raise ValueError("a block in it is none of lzop's")
        block = data[at : at + packed]
        try:
            yield block if packed == size else lzo.decompress(block, output_size_hint=size)
        except (lzallright.LZOError, lzallright.InputNotConsumed) as error:
            raise ValueError(str(error)) from None
        at += packed
