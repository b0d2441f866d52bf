r"""Text for people, with nothing in it that a terminal obeys or hides.

Names and facts come from files, and a file has any bytes. What is shown of them has the form
that ``readelf`` gives them: control characters as ``^[``, others as ``\u202e``. What is for
programs, as JSON is, has them as they are.
"""

from __future__ import annotations

import re

from ._typing import Final

_NO_SHAPES: Final = (
    *((0x115F, 0x11FF), (0x2800, 0x2800), (0x3164, 0x3164), (0xD7B0, 0xD7FB)),
    (0xFFA0, 0xFFA0),
)
"""Letters without a shape of their own: fillers, and what joins the Hangul before it; and the
blank of Braille. Marks, which join whatever is before them, are known by their category."""
_BLANKS: Final = re.compile(r"\A +| +\Z| {2,}")
_STRAY: Final = range(0xDC80, 0xDD00)
"""What ``surrogateescape`` makes of bytes that are no UTF-8."""


def printable(text: str, stray: bool = True) -> str:
    r"""``text`` on one line, with all escaped that has no shape of its own.

    That is what Python calls not printable (controls, line ends, what turns the direction of
    writing or has no width, surrogates, what Unicode does not assign), marks that join the
    character before them (accents), and what shows nothing. A control character of ASCII is
    ``^[``, a byte that is no UTF-8 ``\xff``, another character ``\u202e`` or ``\U000e0001``. A
    backslash stays, so this is to be read, and not to be read back. Without ``stray`` such
    bytes stay, as the surrogates that they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join([c if not stray and ord(c) in _STRAY else _escaped(c) for c in text])


def word(name: str) -> str:
    r"""The same of a name among others: its blanks are ``\x20``, so that it is one word."""
    if name.isascii() and name.isidentifier():  # as most are, and in a third of the time
        return name
    return printable(name).replace(" ", r"\x20")


def blanks_shown(text: str) -> str:
    r"""``text`` with blanks as ``\x20`` where two are together, or one at an end.

    So that nobody takes them for those between columns.
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
    import unicodedata  # which most texts have no need of

    if unicodedata.category(character).startswith("M"):
        return False
    return not any(first <= ord(character) <= last for first, last in _NO_SHAPES)
