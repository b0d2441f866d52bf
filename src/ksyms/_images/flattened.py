"""The kernel of a FIT image: a flattened device tree with files in it (u-boot's fit docs).

Devicetree Specification, chapter 5, "Flattened Devicetree (DTB) Format".
"""

from __future__ import annotations

import struct

from .._typing import Final, NamedTuple

_BEGIN, _END, _PROPERTY, _NOTHING = 1, 2, 3, 4
_PLACES: Final = 1 << 16
"""Tokens that are read: FIT images have some hundred."""


class KernelPart(NamedTuple):
    """The kernel's place, its packing (``none`` for nothing), its machine."""

    start: int
    size: int
    packed: str | None
    machine: str | None


def kernel_of(data: bytes) -> KernelPart | None:
    """The first kernel among the tree's /images; None where there is none.

    Raises:
        struct.error: the tree ends within a header.
    """
    total, structure, names = struct.unpack_from(">3I", data, 4)
    found: dict[str, tuple[int, int]] = {}
    at, path = structure, list[str]()
    for _ in range(_PLACES):
        (token,) = struct.unpack_from(">I", data, at)
        at += 4
        if token == _BEGIN:
            end = data.index(b"\0", at) if b"\0" in data[at : at + 256] else at
            path.append(data[at:end].decode("latin-1"))
            at = end + 4 - end % 4
            found = {} if len(path) == 3 else found
        elif token == _PROPERTY:
            size, name = struct.unpack_from(">2I", data, at)
            at += 8
            if len(path) == 3 and path[1] == "images":
                text = data[names + name : names + name + 32].partition(b"\0")[0]
                found[text.decode("latin-1")] = at, size
            at += size + -size % 4
        elif token == _END and path:
            kernel = _kernel(data, found, total) if len(path) == 3 else None
            if kernel is not None:
                return kernel
            path.pop()
        elif token != _NOTHING:
            return None
    return None


def _kernel(data: bytes, found: dict[str, tuple[int, int]], total: int) -> KernelPart | None:
    """The kernel that the node with these properties is."""

    def text(name: str) -> str | None:
        start, size = found.get(name, (0, 0))
        return data[start : start + size].partition(b"\0")[0].decode("latin-1") or None

    def number(name: str) -> int:
        start, size = found[name]
        return int.from_bytes(data[start : start + size])

    if text("type") not in ("kernel", "kernel_noload"):
        return None
    if "data" in found:
        start, size = found["data"]
    elif "data-size" in found and "data-position" in found:
        start, size = number("data-position"), number("data-size")
    elif "data-size" in found and "data-offset" in found:  # from the tree's end on
        start, size = (total + 3 & ~3) + number("data-offset"), number("data-size")
    else:
        return None
    return KernelPart(start, size, text("compression"), text("arch"))
