"""Decompress texts and convert UTF-16 to UTF-8; the kind is found from the first bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final, Protocol

from .._compressed import Unpacker, compression

_SIP: Final = 64
"""Packed bytes that are unpacked at once. If one is damaged, the good ones are lost too."""
_ENOUGH: Final = 1 << 16
"""Least number of unpacked bytes that are handed on together, except for the last ones."""
_FREE: Final = 256 << 20
_TIMES: Final = 256
"""Limit on the unpacked size of a text: ``_FREE`` bytes, and ``_TIMES`` for each packed byte.

Logs usually unpack to 50 for each. Without a limit a few packed bytes could become an endless
text.
"""
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PERF_DATA: Final = (b"PERFILE2", b"2ELIFREP")
"""First bytes of perf.data, in either byte order (tools/perf/util/header.c)."""
_PACKED: Final = (
    *(b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)),
)
_BEGINNINGS: Final = (*_UTF16, *_PERF_DATA, *_PACKED)


class PerfDataError(ValueError):
    """The error of an input that is a perf.data file and not a text."""


class Encoded:
    """A decoder of bytes to text as they arrive: unpacked once, and UTF-16 made UTF-8.

    Args:
        packed: True if the bytes may be packed by gzip, xz or zstd.
    """

    def __init__(self, packed: bool = True) -> None:
        self._packed = packed
        self._head = b""
        self._kind: _Kind | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the text that ``data`` continues, as far as it is known now.

        Raises:
            ValueError: the packed bytes are damaged.
            PerfDataError: it is a perf.data file.
        """
        if self._kind is None:
            self._head += data
            if any(one.startswith(self._head) for one in _BEGINNINGS if one != self._head):
                return
            data = self._head
            self._kind = self._begin()
        yield from self._kind.feed(data)

    def end(self) -> Iterator[bytes]:
        """Yield the rest of the text at the end of the input.

        Raises:
            ValueError: the input ends too soon.
        """
        if self._kind is None:
            self._kind = self._begin()
            yield from self._kind.feed(self._head)
        yield from self._kind.end()

    def _begin(self) -> _Kind:
        """Return the decoder for the kind of text that the first bytes show."""
        if self._head.startswith(_PERF_DATA):
            raise PerfDataError
        if self._head.startswith(_UTF16):
            return _Utf16()
        packed = compression(self._head) if self._packed else None
        return _Packed(packed) if packed is not None else _Unchanged()


class _Kind(Protocol):
    """A decoder for one kind of text."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def end(self) -> Iterator[bytes]: ...


class _Unchanged:
    """A text that is passed on unchanged."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> Iterator[bytes]:
        return iter(())


class _Utf16:
    """A text in UTF-16, with a byte order mark; invalid characters become U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._decoder.decode(data).encode()

    def end(self) -> Iterator[bytes]:
        if self._decoder.getstate()[0]:
            raise ValueError("it ends within a character of UTF-16")
        return iter(())


class _Packed:
    """A packed text, whose contents may be UTF-16."""

    def __init__(self, packed: str) -> None:
        self._unpacker = Unpacker(packed)
        self._room = _FREE
        self._text = Encoded(packed=False)

    def feed(self, data: bytes) -> Iterator[bytes]:
        for piece in self._unpacked(data):
            yield from self._text.feed(piece)

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes that ``data`` unpacks to; before an error, the good ones first."""
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
        """Subtract ``size`` unpacked bytes from the room that is left.

        Raises:
            ValueError: the text is larger than the limit.
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
