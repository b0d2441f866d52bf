"""Lines of kallsyms that say otherwise what has one meaning: spelled as the kernel does now.

Rarely needed, so nothing here is quick; kallsyms.py takes a text apart, and refuses what is
not whole.
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
    r"""Return whole ``lines`` as a kernel of today prints them, as many as there were.

    - ``(null)`` is an address of zero. Linux 4.15 printed the addresses with ``%px``, and
      that form said so of a null pointer, right-justified (lib/vsprintf.c, pointer; until
      4.16).
    - A NUL for a letter is ``?``, unknown. Linux 5.19-rc printed it for symbols of modules
      whose letter it did not keep.
    - Spaces before a bracket, in a line without a tab, are the tab: terminals and editors
      put them there.
    - Where a text is ``crlf``, a carriage return before the line feed is no part of the
      line. Elsewhere one there can be a name's last byte or not, so the line is refused.
    """
    if crlf:
        lines = lines.replace(b"\r\n", b"\n")
    lines = _NULL.sub(lambda found: b"0" * len(found[0]), lines)
    lines = _NO_LETTER.sub(rb"\1 ? ", lines)
    return _SPACED.sub(rb"\1\t\2", lines)


def has_crlf(text: bytes) -> bool:
    r"""Whether the first line of ``text`` ends with ``\r\n``."""
    return text.find(b"\r\n") == text.find(b"\n") - 1 >= 0
