"""Texts as people send them, told by how they begin: packed, in UTF-16, or as they are."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final, Protocol

from .._compressed import Unpacker, compression

_SIP: Final = 64
"""Packed bytes that are unpacked at once: what comes right before damage is lost with it."""
_ENOUGH: Final = 1 << 16
"""Unpacked bytes that are handed on together."""
_FREE: Final = 256 << 20
_TIMES: Final = 256
"""How many bytes a text may have unpacked, and how many more for each packed one: of logs 50
are usual, and of a few bytes can be made a text without end."""
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PERF_DATA: Final = (b"PERFILE2", b"2ELIFREP")
"""How perf.data begins, on machines of either byte order (tools/perf/util/header.c)."""
_PACKED: Final = (
    *(b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)),
)
_BEGINNINGS: Final = (*_UTF16, *_PERF_DATA, *_PACKED)


class PerfDataError(ValueError):
    """What comes is a perf.data file, and no text."""


class Encoded:
    """The text that bytes are, as they come: unpacked once, and UTF-8 where it is UTF-16.

    Args:
        packed: whether it may be packed by gzip, xz or zstd.
    """

    def __init__(self, packed: bool = True) -> None:
        self._packed = packed
        self._head = b""
        self._kind: _Kind | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What can be known of the text now that ``data`` has come.

        Raises:
            ValueError: what is packed is damaged.
            PerfDataError: it is none.
        """
        if self._kind is None:
            self._head += data
            if any(one.startswith(self._head) for one in _BEGINNINGS if one != self._head):
                return
            data = self._head
            self._kind = self._begin()
        yield from self._kind.feed(data)

    def end(self) -> Iterator[bytes]:
        """The rest of the text, once no more comes.

        Raises:
            ValueError: more should have come.
        """
        if self._kind is None:
            self._kind = self._begin()
            yield from self._kind.feed(self._head)
        yield from self._kind.end()

    def _begin(self) -> _Kind:
        """What the text is, by what came of it."""
        if self._head.startswith(_PERF_DATA):
            raise PerfDataError
        if self._head.startswith(_UTF16):
            return _Utf16()
        packed = compression(self._head) if self._packed else None
        return _Packed(packed) if packed is not None else _Plain()


class _Kind(Protocol):
    """One way in which a text comes."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def end(self) -> Iterator[bytes]: ...


class _Plain:
    """A text as it is."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> Iterator[bytes]:
        return iter(())


class _Utf16:
    """A text that begins with a byte order mark; half a character becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._decoder.decode(data).encode()

    def end(self) -> Iterator[bytes]:
        if self._decoder.getstate()[0]:
            raise ValueError("it ends within a character of UTF-16")
        return iter(())


class _Packed:
    """A text that is packed, and that may be UTF-16 once it is not."""

    def __init__(self, packed: str) -> None:
        self._unpacker = Unpacker(packed)
        self._room = _FREE
        self._text = Encoded(packed=False)

    def feed(self, data: bytes) -> Iterator[bytes]:
        for piece in self._unpacked(data):
            yield from self._text.feed(piece)

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` unpacks to; where that is damaged, what comes before it."""
        found: list[bytes] = []
        size = 0
        try:
            for at in range(0, len(data), _SIP):
                sip = data[at : at + _SIP]
                self._room += _TIMES * len(sip)
                for piece in self._unpacker.feed(sip):
                    found.append(piece)
                    size += len(piece)
                    self._take(len(piece))
                if size >= _ENOUGH:
                    yield b"".join(found)
                    found, size = [], 0
        except ValueError:
            yield b"".join(found)
            raise
        yield b"".join(found)

    def _take(self, size: int) -> None:
        """Take room for so many unpacked bytes.

        Raises:
            ValueError: there is none.
        """
        self._room -= size
        if self._room < 0:
            raise ValueError(
                f"it is more than {_FREE >> 20} MiB and {_TIMES} times its size unpacked; "
                "if it is a text, unpack it first"
            )

    def end(self) -> Iterator[bytes]:
        yield from self._text.end()
        self._unpacker.end()
