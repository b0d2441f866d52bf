"""``.note.ksyms``: what a snapshot says of itself.

One ELF note, name ``ksyms``, type the version of what follows, descriptor a JSON object
in UTF-8 (docs/format.md has every member and its source).
"""

from __future__ import annotations

from ._elf import Buffer, Format, Note, pack_note, parse_notes
from ._errors import NoteError
from ._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = b"ksyms"
LARGEST: Final = 32 << 20
"""Bytes of facts that are believed; with a thousand modules they are one fiftieth."""
_CONTAINERS: Final = 1 << 18
"""How many lists and objects they may have: each of the regions that a file can have is one."""
VERSION: Final = 1
SECTION: Final = ".note.ksyms"
LETTERS: Final = ".ksyms.letters"
BTF: Final = ".BTF"
BTF_ALIGN: Final = 4  # BTF is words of 32 bits
LETTERS_RUN: Final = 8
"""Bytes of a run in ``.ksyms.letters``: the number of its first symbol, its letter; words."""
EXACT: Final = 0x80
"""The bit of a letter there that says that ``st_size`` is exact."""
TWIN: Final = b"__pfx_"
"""What a function has before its name in its padding's (Linux 6.2): a tail in ``.strtab``."""
BEFORE: Final = (TWIN, b"__ksymtab_", b"__")
"""What a name in ``.strtab`` can have before it, if it is no string of its own."""


def btf_section(module: str | None) -> str:
    """What the section with a module's BTF is called; None for the kernel's."""
    return BTF if module is None else f"[{module}]{BTF}"


def pack(facts: Mapping[str, Any], fmt: Format) -> bytes:
    """The note that holds ``facts``."""
    import json

    desc = json.dumps(facts, separators=(",", ":"), ensure_ascii=True).encode()
    return pack_note(Note(NAME, VERSION, desc), fmt)


def check(data: Buffer, fmt: Format, label: str) -> Note:
    """The note in ``data``, of a version this reader knows.

    Raises:
        NoteError: it is of another version, or no whole note named ``ksyms``.
    """
    try:
        notes = [note for note in parse_notes(data, fmt) if note.name == NAME]
    except ValueError as error:
        raise _not_whole(label, str(error)) from None
    if not notes:
        raise _not_whole(label, "it holds no note of that name")
    known(notes[0].type, label)
    return notes[0]


def known(version: int, label: str) -> None:
    """Refuse a note of a version that this reader does not know.

    Raises:
        NoteError: it does not.
    """
    if version != VERSION:
        raise NoteError(
            f"{label} has a {SECTION} of version {version}, and this ksyms knows "
            f"version {VERSION} only.",
            "Read it with a ksyms of the age of the one that wrote it, or a later one.",
        )


def unpack(data: Buffer, fmt: Format, label: str) -> dict[str, Any]:
    """The facts in the note in ``data``.

    Raises:
        NoteError: as :func:`check`, or the descriptor is not what this version has.
    """
    return read(check(data, fmt, label).desc, label)


def read(desc: bytes, label: str) -> dict[str, Any]:
    """The facts in a note's descriptor.

    Raises:
        NoteError: it is not what this version has.
    """
    import json

    try:
        if len(desc) > LARGEST or desc.count(b"{") + desc.count(b"[") > _CONTAINERS:
            raise _not_whole(
                label,
                f"its descriptor has more than {LARGEST >> 20} MiB, or more than "
                f"{_CONTAINERS} lists and objects",
            )
        facts = json.loads(desc)
    except (ValueError, RecursionError):  # brackets in brackets, as deep as one likes
        raise _not_whole(label, "its descriptor is not JSON") from None
    wrong = _mismatch(facts, _MEMBERS, "the descriptor") or _backwards(facts)
    if wrong:
        raise _not_whole(label, wrong)
    assert isinstance(facts, dict)
    return facts


def _backwards(facts: Mapping[str, Any]) -> str | None:
    """Which range ends before it begins, in words."""
    for file in facts["files"]:
        for place in file["ranges"]:
            if int(place["start"], 16) > int(place["end"], 16):
                return f"a range of {file['name']} ends before it begins"
    return None


_TEXT: Final = (str, type(None))
_DIGITS: Final = frozenset("0123456789abcdef")


def _address(value: object) -> bool:
    if not isinstance(value, str):
        return value is None
    digits = value[2:]
    return value[:2] == "0x" and 0 < len(digits) <= 16 and _DIGITS.issuperset(digits)


def _place(value: object) -> bool:
    return value is not None and _address(value)


def _count(value: object) -> bool:
    """Whether it is a number that 64 bits hold; JSON's true is an int to Python."""
    return type(value) is int and 0 <= value < 1 << 64


def _references(value: object) -> bool:
    """Whether it is what the kernel counts in an int, less than 0 of a module that goes."""
    return value is None or (type(value) is int and -1 << 31 <= value < 1 << 31)


_RULES: Final = (_address, _place, _count, _references)


PROGRAMS: Final[list[dict[str, Any]]] = [
    {
        "address": _place,
        "size": _count,
        "id": _count,
        "type": str,
        "tag": str,
        "name": str,
        "subprogram": _count,
        "lines": {"*": [_count]},
    }
]
"""The functions of BPF programs, in the note and in what ``ksyms collect`` writes."""
_MEMBERS: Final[dict[str, Any]] = {
    "ksyms": str,
    "time": str,
    "saved?": _TEXT,
    "release": _TEXT,
    "version": _TEXT,
    "machine": _TEXT,
    "build_id": _TEXT,
    "boot_id": _TEXT,
    "addresses": {"_text": _address, "_stext": _address},
    "link_time": {"_text": _address, "_stext": _address, "source": _TEXT},
    "files": [
        {
            "id": _count,
            "name": str,
            "kind": str,
            "symbols": _count,
            "names?": _count,
            "absolute": _count,
            "build_id": _TEXT,
            "unplaced?": _count,
            "debug?": _TEXT,
            "ranges": [{"section": str, "start": _place, "end": _place}],
            "btf?": _count,
            "programs?": PROGRAMS,
            "module?": {
                "size?": _count,
                "address?": _address,
                "version?": _TEXT,
                "refcount": _references,
                "dependants": [str],
                "taint": str,
                "srcversion": _TEXT,
            },
        }
    ],
    "sizes": {"exact": _count, "inferred": str},
    "lists?": str,
    "absent": {"*": str},
    "refused": {"*": str},
}
"""The members of version 1 and their types; a list has one entry for all of its items.

A member with ``?`` may be missing, and ``*`` is every member that there is.
"""


def has(value: object, wanted: Any) -> bool:
    """Whether ``value`` has the members that ``wanted`` has, and each is of its type."""
    return _mismatch(value, wanted, "it") is None


def _mismatch(value: object, wanted: Any, name: str) -> str | None:
    """What of ``value`` is not as ``wanted``, in words; more members than wanted are well."""
    if isinstance(wanted, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        parts = [
            (value.get(key, ...), kind, key)
            for name, kind in wanted.items()
            for key in (value if name == "*" else [name.rstrip("?")])
            if key in value or not name.endswith("?")
        ]
    elif isinstance(wanted, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        parts = [(item, wanted[0], name) for item in value]
    else:
        is_rule = wanted in _RULES
        good = wanted(value) if is_rule else isinstance(value, wanted)
        return None if good else f"{name} is missing, or of another type"
    return next(filter(None, (_mismatch(*part) for part in parts)), None)


def _not_whole(label: str, why: str) -> NoteError:
    return NoteError(
        f"{label} has a {SECTION} that cannot be read: {why}.",
        "Take the snapshot again, or copy the file again from where it was made.",
    )
