"""Unusual spellings of kallsyms lines, rewritten in the usual spelling of today's kernels.

They are rare, so this is not made to be fast. ``kallsyms.py`` parses the result, and refuses
lines that are still malformed.
"""

from __future__ import annotations

import re

from .._typing import Final

_NULL: Final = re.compile(rb"^(?: {10}|  )\(null\)(?= )", re.M)
_NO_LETTER: Final = re.compile(rb"^([0-9a-f]{8}|[0-9a-f]{16}) \0 ", re.M)
_SPACED: Final = re.compile(
    rb"^((?:[0-9a-f]{8}|[0-9a-f]{16}) [!-~] [^\t\n]*[^\t\n ]) +(\[[^][\0-\x20]+\])$", re.M
)


def respelled(lines: bytes, crlf: bool) -> bytes:
    r"""Return whole ``lines`` in the usual spelling; their number stays the same.

    - ``(null)`` becomes an address of zero. Linux 4.15 printed addresses with ``%px``, which
      until 4.16 printed a null pointer in that way, right-justified (lib/vsprintf.c, pointer).
    - A NUL in place of the letter becomes ``?``, the letter for unknown. Linux 5.19-rc printed
      a NUL for symbols of modules whose letter it had not kept.
    - Spaces before a bracket, in a line without a tab, become a tab: terminals and editors
      replace tabs by spaces.
    - If ``crlf`` is True, a carriage return before the line feed is removed. Otherwise it
      stays, since it could be the last byte of a name; such a line is refused later.
    """
    if crlf:
        lines = lines.replace(b"\r\n", b"\n")
    lines = _NULL.sub(lambda found: b"0" * len(found[0]), lines)
    lines = _NO_LETTER.sub(rb"\1 ? ", lines)
    return _SPACED.sub(rb"\1\t\2", lines)


def has_crlf(text: bytes) -> bool:
    r"""Return True if the first line of ``text`` ends with ``\r\n``."""
    return text.find(b"\r\n") == text.find(b"\n") - 1 >= 0
