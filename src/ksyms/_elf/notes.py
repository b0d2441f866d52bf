"""ELF notes: a name, a type and a descriptor, padded to four bytes.

Source: System V ABI, "Note Section". Linux pads to four bytes in both classes
(include/linux/elfnote.h), also in ``/sys/kernel/notes``.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._typing import NamedTuple
from .constants import NT_GNU_BUILD_ID
from .structs import Buffer, Format, Nhdr


class Note(NamedTuple):
    """One note; ``name`` is without the NUL after it."""

    name: bytes
    type: int
    desc: bytes


def parse_notes(data: Buffer, fmt: Format) -> list[Note]:
    """Return the notes in ``data``, in order.

    Raises:
        ValueError: a note's header or lengths reach past the end of ``data``.
    """
    notes, at, end = [], 0, len(data)
    while at < end:
        if end - at < fmt.nhdr.size:
            raise ValueError(f"a note header at byte {at} is cut short")
        header = fmt.nhdr.unpack(data, at)
        name_at = at + fmt.nhdr.size
        desc_at = name_at + _padded(header.n_namesz)
        if desc_at + header.n_descsz > end:
            raise ValueError(f"the note at byte {at} reaches past the end")
        name = bytes(data[name_at : name_at + header.n_namesz]).rstrip(b"\0")
        notes.append(
            Note(name, header.n_type, bytes(data[desc_at : desc_at + header.n_descsz]))
        )
        at = desc_at + _padded(header.n_descsz)
    return notes


def pack_note(note: Note, fmt: Format) -> bytes:
    """Return the bytes of the note, padded to a multiple of four."""
    name = note.name + b"\0"
    header = fmt.nhdr.pack(Nhdr(len(name), len(note.desc), note.type))
    return (
        header
        + name.ljust(_padded(len(name)), b"\0")
        + note.desc.ljust(_padded(len(note.desc)), b"\0")
    )


def build_id(notes: Iterable[Note]) -> bytes | None:
    """Return the bytes of the GNU build-id, None if no note has one."""
    for note in notes:
        if note.name == b"GNU" and note.type == NT_GNU_BUILD_ID:
            return note.desc
    return None


def _padded(length: int) -> int:
    return (length + 3) & ~3
