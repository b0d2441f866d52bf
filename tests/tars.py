"""Tar archives made header by header: also those that no program makes."""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    size: int | bytes = 0,
    kind: bytes = b"0",
    link: bytes = b"",
    *,
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    mode: bytes = b"0000644\0",
    mtime: bytes = b"00000000000\0",
    checksum: bytes | None = None,
) -> bytes:
    """A header (POSIX.1, pax, "ustar Interchange Format")."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    rest = (mode, b"0" * 7 + b"\0", b"0" * 7 + b"\0", field, mtime)
    text = struct.pack("<100s8s8s8s12s12s", name, *rest) + b" " * 8
    text += struct.pack(
        "<c100s8s32s32s8s8s155s12x", kind, link, magic, b"", b"", b"", b"", prefix
    )
    told = b"%06o\0 " % sum(text) if checksum is None else checksum
    return text[:148] + told + text[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header and its contents."""
    return header(name, len(data), kind, **fields) + padded(data)


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """A pax header with ``records``."""
    text = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        while len(b"%d" % length) + len(key) + len(value) + 3 != length:
            length = len(b"%d" % length) + len(key) + len(value) + 3
        text += b"%d %s=%s\n" % (length, key, value)
    return member(b"pax", text, kind)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU tar's header before that of a member with a long name."""
    return member(b"././@LongLink", name + b"\0", kind, magic=b"ustar  \0")


def extract(archive: tarfile.TarFile, directory: Path) -> None:
    """Unpack an archive of ours by the data filter, which Python has since 3.11.4."""
    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
    archive.extractall(directory)
