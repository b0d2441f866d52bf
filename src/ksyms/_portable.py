"""A snapshot as the smallest file: one zstd file that says what it is of before it is unpacked.

RFC 8878: a skippable frame (3.1.2), which every reader of zstd passes over, with what
``.note.ksyms`` holds; then a frame (3.1.1) of exactly the ELF image. So ``zstd -d`` gives
the image, and ``ksyms info`` need not.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable

from . import _note
from ._elf import read_image
from ._errors import ImageError
from ._typing import Any, Final

_MAGIC: Final = 0x184D2A5B  # one of the sixteen; zstd's own tools use 0x184D2A50 and ...5E
_FRAME: Final = struct.Struct("<II")  # magic, bytes that follow
_NAME: Final = _note.NAME + b" "
"""What the frame's content begins with; the note's version, a line end and its JSON follow."""
_LARGEST: Final = _note.LARGEST + 64  # with what comes before them
_LEVEL: Final = 19
"""Of zstd: 9 gives a file a sixth larger in a twentieth of the time, 22 none smaller."""
_PIECE: Final = 1 << 20


def pack(image: memoryview, progress: Callable[[int], None] | None = None) -> bytes:
    """The file that holds ``image``, a snapshot's.

    Args:
        image: the ELF image, with its note.
        progress: called with the number of bytes each time some have been packed.

    Raises:
        ImageError: the image has no note: it is of the ``freebsd`` layout.
    """
    import zstandard

    facts = _NAME + b"%d\n" % _note.VERSION + _descriptor(image)
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    frame = compressor.compressobj(size=len(image))
    parts = [_FRAME.pack(_MAGIC, len(facts)), facts]
    for at in range(0, len(image), _PIECE):
        piece = image[at : at + _PIECE]
        parts.append(frame.compress(piece))
        if progress is not None:
            progress(len(piece))
    return b"".join([*parts, frame.flush()])


def facts_of(path: str) -> dict[str, Any] | None:
    """What the file ``path`` says of itself, without unpacking it; None if it is another kind.

    Raises:
        ImageError: it begins as such a file, and what it says is not whole.
        NoteError: what it says is not what this version has, or it is of another one.
        OSError: it cannot be read.
    """
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return _facts(file, path)


def facts_in(data: bytes, label: str) -> dict[str, Any] | None:
    """The same of a file that has been read.

    Raises:
        ImageError, NoteError: as :func:`facts_of`.
    """
    return _facts(io.BytesIO(data), label)


def _facts(file: io.BufferedIOBase, label: str) -> dict[str, Any] | None:
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size or _FRAME.unpack(head)[0] != _MAGIC:
        return None
    size = _FRAME.unpack(head)[1]
    content = file.read(min(size, _LARGEST + 1))
    if not content.startswith(_NAME[: len(content)]):
        return None  # somebody else's frame
    if size > _LARGEST or len(content) < size:
        raise _wrong(label, "what it says of itself is cut short, or too long")
    title, _, facts = content.partition(b"\n")
    version = title.removeprefix(_NAME)
    if not version.isdigit() or len(version) > 9:
        raise _wrong(label, "what it says of itself has no version")
    _note.known(int(version), label)
    return _note.read(facts, label)


def checked(facts: dict[str, Any], unpacked: dict[str, Any], label: str) -> None:
    """Refuse a file that says of itself what its image's note does not.

    Raises:
        ImageError: they differ.
    """
    if facts != unpacked:
        raise _wrong(label, "what it says of itself is not what its image says")


def _descriptor(image: memoryview) -> bytes:
    elf = read_image(image, "the image")
    names = elf.section_names()
    if _note.SECTION not in names:
        raise elf.wrong(f"it has no {_note.SECTION}")
    section = elf.sections[names.index(_note.SECTION)]
    return _note.check(elf.contents(section), elf.format, elf.label).desc


def _wrong(label: str, what: str) -> ImageError:
    return ImageError(
        f"{label} is not a snapshot that can be read: {what}.",
        "Copy the file again from where it was made.",
    )
