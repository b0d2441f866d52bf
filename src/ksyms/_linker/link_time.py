"""Where the kernel was linked, before a boot moved it."""

from __future__ import annotations

import re

from .._typing import Final, NamedTuple
from .root import LARGE, Root

_BOUNDS: Final = ("_text", "_stext", "_etext", "_sinittext", "_einittext")
_LINE: Final = re.compile(
    rb"^([0-9a-f]{1,16}) \w (_text|_stext|_etext|_sinittext|_einittext)$", re.M
)


class LinkTime(NamedTuple):
    """The addresses of ``_text`` and ``_stext`` as linked, and the file that told them."""

    text: int
    stext: int
    source: str


def read_link_time(root: Root, release: str | None, now: dict[str, int]) -> LinkTime | None:
    """The link-time addresses from a System.map, or None where none can be trusted.

    A System.map has no build-id; it is trusted where it is named for ``release`` and every
    boundary in it lies as far from ``_text`` as it does ``now``. Debian ships one that
    holds a sentence and no symbols. A kernel's image has no other addresses.
    """
    if root.linked and {"_text", "_stext"} <= now.keys():
        return LinkTime(now["_text"], now["_stext"], root.path)
    if release is None or "_text" not in now:
        return None
    for name in (f"boot/System.map-{release}", f"lib/modules/{release}/System.map"):
        data = root.read(name, LARGE)
        there = {m[2].decode(): int(m[1], 16) for m in _LINE.finditer(data or b"")}
        known = [b for b in _BOUNDS if b in there and b in now]
        slides = {now[b] - there[b] for b in known}
        if len(slides) == 1 and {"_text", "_stext", "_etext"} <= set(known):
            return LinkTime(there["_text"], there["_stext"], f"/{name}")
    return None
