"""Make tar archives header by header, also such as no program makes; and unpack real ones."""

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
    """Return a member's header (POSIX.1, pax, "ustar Interchange Format")."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    rest = (mode, b"0" * 7 + b"\0", b"0" * 7 + b"\0", field, mtime)
    text = struct.pack("<100s8s8s8s12s12s", name, *rest) + b" " * 8
    text += struct.pack(
        "<c100s8s32s32s8s8s155s12x", kind, link, magic, b"", b"", b"", b"", prefix
    )
    told = b"%06o\0 " % sum(text) if checksum is None else checksum
    return text[:148] + told + text[156:]


def padded(data: bytes) -> bytes:
    """Return ``data`` with zeros up to the end of a block."""
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    """Return a member: its header and its padded contents."""
    return header(name, len(data), kind, **fields) + padded(data)


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Return a pax header with ``records``, which describe the next member."""
    text = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        while len(b"%d" % length) + len(key) + len(value) + 3 != length:
            length = len(b"%d" % length) + len(key) + len(value) + 3
        text += b"%d %s=%s\n" % (length, key, value)
    return member(b"pax", text, kind)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """Return the member that GNU tar puts before a member with a long name."""
    return member(b"././@LongLink", name + b"\0", kind, magic=b"ustar  \0")


def extract(archive: tarfile.TarFile, directory: Path) -> None:
    """Unpack one of our archives, by the data filter if Python has it (since 3.11.4)."""
    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
    archive.extractall(directory)
