"""The kernel's resources in /proc/iomem: where its code, rodata, data and bss lie."""

from __future__ import annotations

import re

from .._typing import Final
from .root import Root

_LINE: Final = re.compile(
    r"^\s*([0-9a-f]{1,16})-([0-9a-f]{1,16}) : Kernel (code|rodata|data|bss)$", re.M
)


def read_iomem(root: Root, landmarks: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Virtual [start, end) of ``code``, ``rodata``, ``data`` and ``bss``, or nothing.

    On x86 the code resource is [_text, _etext) (arch/x86/kernel/setup.c), which gives the
    distance from physical to virtual. Nothing comes of a file in which that range has
    another length: arm64's code resource ends elsewhere, and a reader who is not root is
    shown zeros (kernel/resource.c, r_show).
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
    away = landmarks["_text"] - start
    places = {name: (low + away, high + away) for name, (low, high) in found.items()}
    if not all(0 <= low < high <= 1 << 64 for low, high in places.values()):
        root.absent["proc/iomem"] = "one of its ranges is not of 64 bits"
        return {}
    return places
