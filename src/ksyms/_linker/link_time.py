"""The kernel's link addresses; with KASLR it runs at these plus the slide."""

from __future__ import annotations

import re

from .._log import decided
from .._typing import Final, NamedTuple
from .root import LARGE, Root

_BOUNDS: Final = ("_text", "_stext", "_etext", "_sinittext", "_einittext")
_LINE: Final = re.compile(
    rb"^([0-9a-f]{1,16}) \w (_text|_stext|_etext|_sinittext|_einittext)$", re.M
)


class LinkTime(NamedTuple):
    """The link addresses of ``_text`` and ``_stext``, and the file that they are from."""

    text: int
    stext: int
    source: str


def read_link_time(root: Root, release: str | None, now: dict[str, int]) -> LinkTime | None:
    """Return the link addresses from a System.map; None if none can be trusted.

    A System.map has no build-id. It is trusted if ``release`` is in its path, and all section
    boundaries in it have the same distance to their addresses ``now``, which is the slide.
    ``_text``, ``_stext`` and ``_etext`` must be among them::

        System.map                   now                          difference
        ffffffff81000000 T _text     ffffffff9a000000 T _text     0x19000000
        ffffffff82001ed2 T _etext    ffffffff9b001ed2 T _etext    0x19000000

    Debian installs a System.map that holds a sentence and no symbols, which is skipped. If
    ``root`` is a kernel image, the addresses ``now`` are link addresses themselves.
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
        if data is not None:
            decided("/%s is not of this kernel, by %d boundaries", name, len(known))
    return None
