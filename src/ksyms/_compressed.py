"""Files that may be compressed: modules are, on most machines, and what people send."""

from __future__ import annotations

import io
import mmap
import os
import select
import stat
from collections.abc import Callable, Iterator

from ._memory import mapped
from ._typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from typing import Protocol

    class _Frame(Protocol):
        """What zlib, lzma and zstandard unpack one compressed whole with."""

        @property
        def eof(self) -> bool: ...

        @property
        def unused_data(self) -> bytes: ...

        def decompress(self, data: bytes, /) -> bytes: ...

    _Maker = tuple[Callable[[], _Frame], type[Exception]]

COMPRESSED: Final = (".xz", ".zst", ".gz")
"""How the name of a compressed file ends, where a directory is searched for files."""
LARGEST: Final = 1 << 30
"""Bytes that a compressed file may have unpacked; the largest module has a tenth."""
_PIECE: Final = 1 << 20
_PATIENCE: Final = 5  # seconds until a FIFO is believed to have no writer
_PACKED: Final = 1 << 11  # zstd may make 32,768 times as much of a few bytes


def contents(path: str, copy: bool = False) -> bytes | mmap.mmap:
    """The file's bytes, whatever it is compressed with; a plain one is mapped, or copied.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, is damaged, is larger than :data:`LARGEST` unpacked,
            or was made shorter while it was copied.
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
        if not copy:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = mapped(status.st_size)
        if file.readinto(data) < len(data):
            raise ValueError("it was made shorter while it was read")
        return data


def is_running(path: str) -> bool:
    """Whether ``path`` is the running kernel's own text, by whatever name."""
    try:
        return os.path.samefile(path, "/proc/kallsyms")
    except (OSError, ValueError):
        return False


def is_stream(path: str) -> bool:
    """Whether the file's size does not say what is in it: a pipe, or a file of /proc.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode):
        return not status.st_size
    return stat.S_ISFIFO(status.st_mode)


def read_stream(path: str) -> bytes:
    """Read a stream to its end, for what it has can be read once.

    A pipe is waited for as long as it takes; what has a name in a directory, and may have no
    writer at all, until :data:`_PATIENCE` has passed.

    Raises:
        OSError: it cannot be read.
        ValueError: nothing came from it, or it is larger than :data:`LARGEST`.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb", buffering=0) as file:
        if stat.S_ISFIFO(os.fstat(fd).st_mode) and not _begins(fd):
            raise ValueError(
                f"it is not a regular file, and nothing came from it in {_PATIENCE} seconds"
            )
        os.set_blocking(fd, True)
        return _limited(iter(lambda: file.read(_PIECE), b""), "")


def _begins(fd: int) -> bool:
    """Whether a FIFO has a writer that writes; a pipe without a name had one from the start."""
    if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
        return True
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _, event in ready.poll(_PATIENCE * 1000))


def unpacked(data: bytes) -> bytes:
    """Return ``data``, or what it is when it is compressed.

    Raises:
        ValueError: it is damaged, or is larger than :data:`LARGEST` unpacked.
    """
    packed = compression(data[:6])
    return data if packed is None else _limited(_unpacked(io.BytesIO(data), packed))


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


def _limited(pieces: Iterator[bytes], how: str = " unpacked") -> bytes:
    found: list[bytes] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB{how}")
        found.append(piece)
    return b"".join(found)


def _unpacked(file: BinaryIO, packed: str) -> Iterator[bytes]:
    """The contents in pieces: a read() of many bytes makes room for all of them first."""
    unpacker = Unpacker(packed)
    while piece := file.read(_PACKED):
        yield from unpacker.feed(piece)
    unpacker.end()


class Unpacker:
    """What is unpacked of bytes as they come: of one gzip, xz or zstd after the other.

    Args:
        packed: what :func:`compression` says of the first of them.
    """

    def __init__(self, packed: str) -> None:
        self._begin, self._wrong = _MAKERS[packed]()
        self._frame = self._begin()
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What can be unpacked now that ``data`` has come.

        Raises:
            ValueError: it is damaged.
        """
        while data:
            if self._ended:
                data = data.lstrip(b"\0")  # xz and tapes fill up with it
                if not data:
                    return
                self._frame, self._ended = self._begin(), False
            try:
                found = self._frame.decompress(data)
            except self._wrong as error:
                raise ValueError(str(error)) from None
            self._ended = self._frame.eof
            data = self._frame.unused_data if self._ended else b""
            if found:
                yield found

    def end(self) -> None:
        """Know that no more comes.

        Raises:
            ValueError: more should have.
        """
        if not self._ended:
            raise ValueError("it ends before what is compressed in it does")


def _gzip() -> _Maker:
    import zlib

    return lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error


def _xz() -> _Maker:
    import lzma

    return lzma.LZMADecompressor, lzma.LZMAError


def _zstd() -> _Maker:
    import zstandard

    # Not stream_reader, which takes a file that was cut for one that ends there.
    return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError


_MAKERS: Final = {"gzip": _gzip, "xz": _xz, "zstd": _zstd}
