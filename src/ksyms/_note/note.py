"""The note ``.note.ksyms``: its section, its version, and the functions that pack and read it.

It is one ELF note. Its name is ``ksyms``, its type is the version of the descriptor, and its
descriptor is a JSON object in UTF-8, whose members are in ``facts.py``.
"""

from __future__ import annotations

from .._elf import Buffer, Format, Note, pack_note, parse_notes
from .._errors import NoteError
from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .facts import NoteFacts

NAME: Final = b"ksyms"
LARGEST: Final = 32 << 20
"""Limit on the bytes of a descriptor; that of a thousand modules has a fiftieth of them."""
_CONTAINERS: Final = 1 << 18
"""Limit on the lists and objects in a descriptor: each of 65,263 regions can be one."""
VERSION: Final = 1
SECTION: Final = ".note.ksyms"
LETTERS: Final = ".ksyms.letters"
BTF: Final = ".BTF"
BTF_ALIGN: Final = 4  # BTF consists of words of 32 bits
LETTERS_RUN: Final = 8
"""Bytes of a run in ``.ksyms.letters``: two words, its first symbol's number and its letter."""
EXACT: Final = 0x80
"""The bit of a letter in ``.ksyms.letters`` that marks an exact ``st_size``."""
PFX_PREFIX: Final = b"__pfx_"
"""The prefix in the name of the padding before a function (since Linux 6.2).

In ``.strtab`` the function's name is the tail of the padding's name: ``foo`` of ``__pfx_foo``.
"""
SHARING_PREFIXES: Final = (PFX_PREFIX, b"__ksymtab_", b"__")
"""The prefixes in a string after which another symbol's name can start, as its tail.

Images written until November 2026 have the last two; those written since have only the first.
"""


def btf_section(module: str | None) -> str:
    """Return the name of the section with the BTF of ``module``; None stands for the kernel."""
    return BTF if module is None else f"[{module}]{BTF}"


def pack(facts: NoteFacts, fmt: Format) -> bytes:
    """Return the bytes of a note with ``facts``."""
    import json

    desc = json.dumps(facts, separators=(",", ":"), ensure_ascii=True).encode()
    return pack_note(Note(NAME, VERSION, desc), fmt)


def check(data: Buffer, fmt: Format, label: str) -> Note:
    """Return the note called ``ksyms`` in ``data``; check its version.

    Raises:
        NoteError: this reader does not know the version, or no whole note has that name.
    """
    try:
        notes = [note for note in parse_notes(data, fmt) if note.name == NAME]
    except ValueError as error:
        raise _not_whole(label, str(error)) from None
    if not notes:
        raise _not_whole(label, "it holds no note of that name")
    check_version(notes[0].type, label)
    return notes[0]


def check_version(version: int, label: str) -> None:
    """Check that this reader knows the ``version`` of a note.

    Raises:
        NoteError: it does not.
    """
    if version != VERSION:
        raise NoteError(
            f"{label} has a {SECTION} of version {version}, and this ksyms knows "
            f"version {VERSION} only.",
            "Read it with a ksyms of the age of the one that wrote it, or a later one.",
        )


def unpack(data: Buffer, fmt: Format, label: str) -> NoteFacts:
    """Return the facts in the note in ``data``.

    Raises:
        NoteError: as :func:`check` and :func:`read`.
    """
    return read(check(data, fmt, label).desc, label)


def read(desc: bytes, label: str) -> NoteFacts:
    """Return the facts in a note's descriptor.

    Raises:
        NoteError: they lack a member of this version, or one is of another type.
    """
    import json

    from .facts import NoteFacts
    from .schema import mismatch, schema_of

    try:
        if len(desc) > LARGEST or desc.count(b"{") + desc.count(b"[") > _CONTAINERS:
            raise _not_whole(
                label,
                f"its descriptor has more than {LARGEST >> 20} MiB, or more than "
                f"{_CONTAINERS} lists and objects",
            )
        facts: NoteFacts = json.loads(desc)
    except (ValueError, RecursionError):  # RecursionError: lists within lists within lists
        raise _not_whole(label, "its descriptor is not JSON") from None
    wrong = mismatch(facts, schema_of(NoteFacts), "the descriptor") or _backward_range(facts)
    if wrong:
        raise _not_whole(label, wrong)
    return facts


def _backward_range(facts: NoteFacts) -> str | None:
    """Return a sentence on the first range that ends before it starts, None if none does."""
    for file in facts["files"]:
        for region in file["ranges"]:
            if int(region["start"], 16) > int(region["end"], 16):
                return f"a range of {file['name']} ends before it begins"
    return None


def _not_whole(label: str, why: str) -> NoteError:
    return NoteError(
        f"{label} has a {SECTION} that cannot be read: {why}.",
        "Take the snapshot again, or copy the file again from where it was made.",
    )
