"""Files that may be compressed, such as modules, and snapshots that people send."""

from __future__ import annotations

import io
import mmap
import os
import select
import stat
from collections.abc import Callable, Iterator

from ._memory import anonymous_mmap
from ._typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from typing import Protocol

    class _Frame(Protocol):
        """An unpacker of one frame, of zlib, lzma or zstandard."""

        @property
        def eof(self) -> bool: ...

        @property
        def unused_data(self) -> bytes: ...

        def decompress(self, data: bytes, /) -> bytes: ...

    _Maker = tuple[Callable[[], _Frame], type[Exception]]

COMPRESSED: Final = (".xz", ".zst", ".gz")
"""The suffixes of compressed files, for searches of directories."""
LARGEST: Final = 1 << 30
"""Limit on the bytes that are read from a stream, and on the result of :func:`most_of`."""
_SMALL: Final = 64 << 20
_TIMES: Final = 16
"""Largest ratio of a file's unpacked size to its packed size: kernels have 3 to 8."""
_FRAMES: Final = 4096
"""Limit on the number of frames, if all of them are empty."""
_FRAME: Final = 16
"""The average number of bytes of a frame with which a file can have any number of frames."""
_DICTIONARY: Final = 160 << 20  # bytes of memory for xz: its level 9 needs 65 MiB
_PIECE: Final = 1 << 20
_PATIENCE: Final = 5  # seconds to wait for a FIFO's first byte
_HEAD: Final = 6  # bytes from which the compression is recognised
_PACKED: Final = 1 << 11  # bytes unpacked at once: zstd can make 32,768 times as many of them


class FollowedError(ValueError):
    """A whole frame is followed by bytes that are no frame, such as a device tree."""


def contents(path: str, copy: bool = False) -> bytes | mmap.mmap:
    """Return the bytes of a file, unpacked; a plain file is mapped, or copied with ``copy``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file, or is damaged, or its unpacked size is above
            :func:`most_of` its size, or it was truncated while it was copied.
    """
    # Without O_NONBLOCK, open() of a FIFO waits for a writer.
    return contents_of(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), copy)


def contents_of(fd: int, copy: bool = False) -> bytes | mmap.mmap:
    """Return the bytes of an open file as :func:`contents` does, and close it.

    Raises:
        OSError, ValueError: as :func:`contents`.
    """
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        packed = compression(file.read(_HEAD))
        file.seek(0)
        if packed is not None:
            return _joined(limited(_unpacked(file, packed), most_of(status.st_size)))
        if not status.st_size:
            return b""
        if not copy:
            return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        data = anonymous_mmap(status.st_size)
        if file.readinto(data) < len(data):
            raise ValueError("it was made shorter while it was read")
        return data


def most_of(size: int) -> int:
    """Return the largest unpacked size of a compressed file of ``size`` bytes.

    Without a limit, a few packed bytes could fill the memory.
    """
    return min(LARGEST, _SMALL + _TIMES * size)


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of an open file, unpacked, in pieces.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged, or larger than :data:`LARGEST`, or its unpacked size is
            above four times :func:`most_of` its size.
    """
    packed = compression(file.read(_HEAD))
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if packed is not None:
        return limited(_unpacked(file, packed), min(LARGEST, 4 * most_of(size)))
    return limited(iter(lambda: file.read(_PIECE), b""), LARGEST, "")


def is_packed(path: str) -> bool:
    """Return True if ``path`` is a compressed regular file.

    A pipe is not examined, since its first bytes could not be read again.

    Raises:
        OSError: the file cannot be read.
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return compression(file.read(_HEAD)) is not None


def is_running(path: str) -> bool:
    """Return True if ``path`` is the running kernel's /proc/kallsyms, by any name."""
    try:
        return os.path.samefile(path, "/proc/kallsyms")
    except (OSError, ValueError):
        return False


def is_stream(path: str) -> bool:
    """Return True if a file's size is not that of its contents: a pipe, or a file of /proc.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode):
        return not status.st_size
    return stat.S_ISFIFO(status.st_mode)


def read_stream(path: str) -> bytes:
    """Return the bytes of a stream, read to its end; it can be read once only.

    Raises:
        OSError: it cannot be read.
        ValueError: as :func:`open_stream`, or it has more bytes than :data:`LARGEST`.
    """
    with open(open_stream(path), "rb", buffering=0) as file:
        return _joined(limited(iter(lambda: file.read(_PIECE), b""), LARGEST, ""))


def open_stream(path: str) -> int:
    """Open a file that may be a stream; return a descriptor.

    The first byte of a pipe without a name can take any time. A FIFO with a name in a directory
    may have no writer at all, so its first byte must come within :data:`_PATIENCE` seconds.

    Raises:
        OSError: it cannot be opened.
        ValueError: nothing came from it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode) and not _begins(fd):
            raise ValueError(
                f"it is not a regular file, and nothing came from it in {_PATIENCE} seconds"
            )
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _begins(fd: int) -> bool:
    """Return True if a pipe's first byte comes in time.

    A pipe without a name is not waited for: it has had a writer.
    """
    if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
        return True
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _, event in ready.poll(_PATIENCE * 1000))


def unpacked(data: bytes) -> bytes:
    """Return ``data``, unpacked if it is compressed.

    Raises:
        ValueError: it is damaged, or its unpacked size is above :func:`most_of` its size.
    """
    packed = compression(data[:_HEAD])
    if packed is None:
        return data
    return _joined(limited(_unpacked(io.BytesIO(data), packed), most_of(len(data))))


def compression(head: bytes) -> str | None:
    """Return the compression of a file by its first six bytes or more, None if it has none."""
    if head.startswith(b"\xfd7zXZ\0"):  # The .xz File Format, 2.1.1.1
        return "xz"
    if head.startswith(b"\x1f\x8b"):  # RFC 1952, 2.3.1
        return "gzip"
    if head.startswith(b"BZh") and head[4:6] in (b"1A", b"\x17r"):
        return "bzip2"  # its compress.c: a digit, then the first digits of pi or of sqrt(pi)
    # RFC 8878, 3.1.1; a skippable frame, 3.1.2, may come before.
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return None


def limited(pieces: Iterator[bytes], most: int, how: str = " unpacked") -> Iterator[bytes]:
    """Yield ``pieces``, which may have at most ``most`` bytes in all.

    Raises:
        ValueError: they have more.
    """
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > most:
            raise ValueError(f"it is larger than {most >> 20} MiB{how}")
        yield piece


def _joined(pieces: Iterator[bytes]) -> bytes:
    """Return all ``pieces``, one after the other."""
    found = io.BytesIO()  # getvalue() makes no copy, as b"".join() of a list would
    for piece in pieces:
        found.write(piece)
    return found.getvalue()


def _unpacked(file: BinaryIO, packed: str) -> Iterator[bytes]:
    """Yield the unpacked contents of an open file, which are read in small parts."""
    unpacker = Unpacker(packed)
    while piece := file.read(_PACKED):
        yield from unpacker.feed(piece)
    unpacker.end()


class Unpacker:
    """An unpacker of bytes as they come, one frame after the other.

    Args:
        packed: the compression, from :func:`compression`.
    """

    def __init__(self, packed: str) -> None:
        self._begin, self._wrong = _MAKERS[packed]()
        self._frame = self._begin()
        self._ended = False
        # Each frame costs _FRAME bytes of room, since even an empty one takes time. Its
        # contents give room back.
        self._room = _FRAME * _FRAMES

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes that can be unpacked once ``data``, the next packed bytes, have come.

        Raises:
            ValueError: they are damaged, or there are too many empty frames.
            FollowedError: they come after a whole frame, and are no frame.
        """
        while data:
            follows = self._ended
            if self._ended:
                data = data.lstrip(b"\0")  # padding, by xz and tapes
                if not data:
                    return
                self._frame, self._ended = self._begin(), False
                self._room -= _FRAME
                if self._room < 0:
                    raise ValueError(f"it has more than {_FRAMES} frames that hold nothing")
            begins = True  # until the frame has accepted a part of the data
            try:
                for found in _pieces(self._frame, data):
                    begins = False
                    self._room += len(found)
                    if found:
                        yield found
            except self._wrong as error:
                kind = FollowedError if follows and begins else ValueError
                raise kind(str(error)) from None
            self._ended = self._frame.eof
            data = self._frame.unused_data if self._ended else b""

    def end(self) -> None:
        """Check that the last frame is complete; the caller has no more data.

        Raises:
            ValueError: it is not.
        """
        if not self._ended:
            raise ValueError("it ends before what is compressed in it does")


def _pieces(frame: Any, data: bytes) -> Iterator[bytes]:
    """Yield the bytes that ``frame`` unpacks from ``data``.

    They come in pieces where they can be many: with bzip2, 45 bytes can make 45 MB.
    """
    if not hasattr(frame, "needs_input"):  # zlib and zstandard have no such limit
        yield frame.decompress(data)
        return
    yield frame.decompress(data, _PIECE)
    while not frame.eof and not frame.needs_input:
        yield frame.decompress(b"", _PIECE)


def first_frame(data: bytes, packed: str) -> Iterator[bytes]:
    """Yield the unpacked bytes of the frame at the start of ``data``.

    Args:
        data: a frame, and any bytes after it.
        packed: the compression, one of :data:`KINDS`; ``lzma`` is the format LZMA_Alone.

    Raises:
        ValueError: the frame is damaged.
    """
    begin, wrong = _MAKERS[packed]()
    frame = begin()
    for at in range(0, len(data), _PACKED):
        try:
            yield from _pieces(frame, data[at : at + _PACKED])
        except wrong as error:
            raise ValueError(str(error)) from None
        if frame.eof:
            return
    raise ValueError("it ends before what is compressed in it does")


def _gzip() -> _Maker:
    import zlib

    return lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error


def _bzip2() -> _Maker:
    import bz2

    return bz2.BZ2Decompressor, OSError


def _xz() -> _Maker:
    import lzma

    return lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY), lzma.LZMAError


def _lzma() -> _Maker:
    import lzma

    alone = lzma.FORMAT_ALONE
    return lambda: lzma.LZMADecompressor(alone, memlimit=_DICTIONARY), lzma.LZMAError


def _zstd() -> _Maker:
    import zstandard

    # Make it once: with a large window, making it takes longer than unpacking a small frame.
    unpacker = zstandard.ZstdDecompressor()
    # stream_reader is not used: it accepts a truncated file as a whole one.
    return unpacker.decompressobj, zstandard.ZstdError


_MAKERS: Final = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "lzma": _lzma,
    "zstd": _zstd,
}
KINDS: Final = frozenset(_MAKERS)
"""The names of the compressions that can be unpacked."""
