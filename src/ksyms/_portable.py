"""The portable file: a snapshot packed by zstd, whose facts can be read without unpacking it.

It has two frames of RFC 8878. The first is a skippable frame (3.1.2), which every reader of
zstd ignores, with the descriptor of ``.note.ksyms``. The second (3.1.1) is the packed ELF
image. So ``zstd -d`` gives the image, and ``ksyms info`` reads the first frame only.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Mapping

from . import _note
from ._elf import read_image
from ._errors import ImageError
from ._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._note.facts import NoteFacts

# One of the sixteen of skippable frames; zstd's own tools use 0x184D2A50 and 0x184D2A5E.
_MAGIC: Final = 0x184D2A5B
_FRAME: Final = struct.Struct("<II")  # the magic number, the number of bytes that follow
_NAME: Final = _note.NAME + b" "
"""The first bytes of the skippable frame, before the version, a line end and the JSON."""
_LARGEST: Final = _note.LARGEST + 64  # including the name and the version
_LEVEL: Final = 19
"""zstd's level: 9 makes files a sixth larger in a twentieth of the time, 22 none smaller."""
_PIECE: Final = 1 << 20


def pack(image: memoryview, progress: Callable[[int], None] | None = None) -> bytes:
    """Return the portable file of a snapshot's ``image``.

    Args:
        image: the ELF image, with its note.
        progress: called with the number of bytes each time some have been packed.

    Raises:
        ImageError: the image has no note, as in the ``freebsd`` layout.
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


def read_header_facts(path: str) -> NoteFacts | None:
    """Return the facts in the first frame of a portable file; None for any other file.

    Raises:
        ImageError: the file starts like a portable one, but its first frame is not whole.
        NoteError: the facts are not valid, or are of another version.
        OSError: the file cannot be read.
    """
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return _read_header(file, path)


def header_facts(data: bytes, label: str) -> NoteFacts | None:
    """Return the facts that :func:`read_header_facts` returns, from the bytes of a file.

    Raises:
        ImageError, NoteError: as :func:`read_header_facts`.
    """
    return _read_header(io.BytesIO(data), label)


def _read_header(file: io.BufferedIOBase, label: str) -> NoteFacts | None:
    """Return the facts in the first frame of a portable file; None for any other file."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size or _FRAME.unpack(head)[0] != _MAGIC:
        return None
    size = _FRAME.unpack(head)[1]
    content = file.read(min(size, _LARGEST + 1))
    if not content.startswith(_NAME[: len(content)]):
        return None  # a skippable frame of another program
    if size > _LARGEST or len(content) < size:
        raise _wrong(label, "its first frame is cut short, or too long")
    title, _, facts = content.partition(b"\n")
    version = title.removeprefix(_NAME)
    if not version.isdigit() or len(version) > 9:
        raise _wrong(label, "its first frame has no version")
    _note.check_version(int(version), label)
    return _note.read(facts, label)


def check_matches(header: NoteFacts, note: Mapping[str, object], label: str) -> None:
    """Check that the first frame and the image of a portable file have the same facts.

    Raises:
        ImageError: they have not.
    """
    if header != note:
        raise _wrong(label, "its first frame has other facts than its image")


def _descriptor(image: memoryview) -> bytes:
    """Return the descriptor of the image's note.

    Raises:
        ImageError: the image has no note.
    """
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
