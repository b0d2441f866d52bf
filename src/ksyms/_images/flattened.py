"""The kernel in a FIT image, which is a flattened device tree with files in it.

The format of the tree is that of the Devicetree Specification, chapter 5, "Flattened Devicetree
(DTB) Format", and the nodes are those of u-boot's documentation of FIT::

    / {
        images {
            kernel-1 { type = "kernel"; arch = "arm64"; compression = "gzip"; data = ... };
            fdt-1 { type = "flat_dt"; ... };
        };
    };
"""

from __future__ import annotations

import struct

from .._typing import Final, NamedTuple

_BEGIN, _END, _PROPERTY, _NOTHING = 1, 2, 3, 4
_PLACES: Final = 1 << 16
"""The most tokens of a tree that are read; FIT images have a few hundred."""


class KernelPart(NamedTuple):
    """The kernel in a FIT image.

    ``start`` is its offset in the file, ``size`` its size in bytes. ``packed`` is its packing,
    ``none`` if it is not packed, and ``machine`` its machine, both in u-boot's words, and None
    if the tree does not have them.
    """

    start: int
    size: int
    packed: str | None
    machine: str | None


def kernel_of(data: bytes) -> KernelPart | None:
    """Return the first kernel among the nodes below /images; None if there is none.

    Raises:
        struct.error: the tree is cut short.
    """
    total, structure, names = struct.unpack_from(">3I", data, 4)
    found: dict[str, tuple[int, int]] = {}
    at, path = structure, list[str]()

    # path has the names of the open nodes, as ["", "images", "kernel-1"], and found has the
    # offset and the size of each property of such a node.
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
    """Return the kernel of a node; None if the node is not a kernel.

    Args:
        data: the FIT image.
        found: the offset and the size in bytes of each of the node's properties, by name.
        total: the size of the tree in bytes.
    """

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
    elif "data-size" in found and "data-offset" in found:  # counted from the end of the tree
        start, size = (total + 3 & ~3) + number("data-offset"), number("data-size")
    else:
        return None
    return KernelPart(start, size, text("compression"), text("arch"))
