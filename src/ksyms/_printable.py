r"""Text for people, in which characters that a terminal obeys or does not show are escaped.

Names and facts come from files, which can have any bytes. Control characters are escaped as by
readelf, ``^[``, and others like ``\u202e``. Output for programs, such as JSON, is not escaped.
"""

from __future__ import annotations

import re

from ._typing import Final

_NO_SHAPES: Final = (
    *((0x115F, 0x11FF), (0x2800, 0x2800), (0x3164, 0x3164), (0xD7B0, 0xD7FB)),
    (0xFFA0, 0xFFA0),
)
"""Letters without a shape of their own: fillers, Hangul letters that join the letter before
them, and the blank of Braille. Marks, which join any character, are recognised by category.
"""
_BLANKS: Final = re.compile(r"\A +| +\Z| {2,}")
_STRAY: Final = range(0xDC80, 0xDD00)
"""Characters into which ``surrogateescape`` converts bytes that are not UTF-8."""


def printable(text: str, stray: bool = True) -> str:
    r"""Return ``text`` on one line; characters without a shape of their own are escaped.

    These are the characters that Python calls not printable (controls, line ends, changes of
    the writing direction, those without width, surrogates, unassigned ones), marks that join
    the character before them (accents), and letters that show nothing. An ASCII control
    character becomes ``^[``, a byte that is not UTF-8 ``\xff``, any other character ``\u202e``
    or ``\U000e0001``. A backslash is not escaped: the result is for people, and cannot be
    converted back. If ``stray`` is False, bytes that are not UTF-8 are kept, as surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join([c if not stray and ord(c) in _STRAY else _escaped(c) for c in text])


def word(name: str) -> str:
    r"""Return a name as one word: as by :func:`printable`, with ``\x20`` for each blank."""
    if name.isascii() and name.isidentifier():  # most are; this takes a third of the time
        return name
    return printable(name).replace(" ", r"\x20")


def blanks_shown(text: str) -> str:
    r"""Return ``text`` with ``\x20`` for blanks next to each other or at an end.

    As blanks they would look like those between columns.
    """
    return _BLANKS.sub(lambda found: r"\x20" * len(found[0]), text) if " " in text else text


def _escaped(character: str) -> str:
    code = ord(character)
    if character.isprintable() and _has_shape(character):
        return character
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    if code in _STRAY:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _has_shape(character: str) -> bool:
    import unicodedata  # most texts do not need it

    if unicodedata.category(character).startswith("M"):
        return False
    return not any(first <= ord(character) <= last for first, last in _NO_SHAPES)
