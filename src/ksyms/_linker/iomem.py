"""The kernel's own ranges in /proc/iomem: its code, rodata, data and bss."""

from __future__ import annotations

import re

from .._typing import Final
from .root import Root

_LINE: Final = re.compile(
    r"^\s*([0-9a-f]{1,16})-([0-9a-f]{1,16}) : Kernel (code|rodata|data|bss)$", re.M
)


def read_iomem(root: Root, landmarks: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return the virtual addresses [start, end) of ``code``, ``rodata``, ``data`` and ``bss``.

    /proc/iomem has physical addresses. On x86 its ``Kernel code`` is [_text, _etext)
    (arch/x86/kernel/setup.c). So the virtual addresses are the physical ones plus the
    difference between ``_text`` and the start of ``Kernel code``::

        01000000-01ffffff : Kernel code      _text = 0xffffffff81000000
        02200000-02aeffff : Kernel rodata    0xffffffff82200000 to 0xffffffff82af0000

    The result is empty, and ``root.absent`` has the reason, if ``Kernel code`` is not as long
    as [_text, _etext). That happens on arm64, whose range ends elsewhere, and for a reader
    without root's privileges, to whom the kernel shows zeros (kernel/resource.c, r_show).
    """
    text = root.text("proc/iomem") or ""
    found = {m[3]: (int(m[1], 16), int(m[2], 16) + 1) for m in _LINE.finditer(text)}
    if not {"_text", "_etext"} <= landmarks.keys() or "code" not in found:
        if text:
            root.absent["proc/iomem"] = "it names no kernel code"
        return {}

    start, end = found["code"]
    if end - start == 1:
        root.absent["proc/iomem"] = "its addresses are hidden from this process"
        return {}
    if end - start != landmarks["_etext"] - landmarks["_text"]:
        root.absent["proc/iomem"] = "its kernel code is not [_text, _etext)"
        return {}

    distance = landmarks["_text"] - start
    ranges = {name: (low + distance, high + distance) for name, (low, high) in found.items()}
    if not all(0 <= low < high <= 1 << 64 for low, high in ranges.values()):
        root.absent["proc/iomem"] = "one of its ranges is not of 64 bits"
        return {}
    return ranges
