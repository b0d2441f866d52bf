"""The addresses of a kernel's bytes, where it runs as it was linked.

An ELF file says so. Of what has no headers the first byte is one address and all else follows
in order, so what is missing is one number. The kernel's empty lists tell it: the two words of a
``LIST_HEAD`` (include/linux/list.h) are both the address of the first.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from .._typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from .tables import Order

Words = npt.NDArray[np.uint64]

_PAGE: Final = 4096
_LISTS: Final = 32
"""Empty lists that have to agree; kernels have hundreds."""
_PT_LOAD: Final = 1
_RELATIVE: Final = (1027, 3, 22, 12)
"""R_AARCH64_RELATIVE, R_RISCV_RELATIVE and R_LARCH_RELATIVE, R_PPC64_RELATIVE,
R_390_RELATIVE.
"""
_R_390_RELATIVE, _R_390_64 = _RELATIVE[-1], 22
_TYPE: Final = 0xFFFFFFFF  # ELF64_R_TYPE; what is above is the symbol's number
_ROW: Final = 3
"""Words of an Elf64_Rela, and of an Elf64_Sym."""


class Segment(NamedTuple):
    """``size`` bytes of the file from ``start`` on, in memory from ``address`` on."""

    start: int
    size: int
    address: int


def segments(data: bytes, order: Order, bits: int) -> list[Segment]:
    """Return the segments of ``data``; none if nothing tells them."""
    if data[:4] == b"\x7fELF":
        return _loaded(data, order, bits) if data[4] == bits // 32 else []
    base = _by_lists(data, order, bits)
    return [] if base is None else [Segment(0, len(data), base)]


def address_of(parts: list[Segment], place: int) -> int | None:
    """The address of the byte at ``place`` of the file."""
    for part in parts:
        if part.start <= place < part.start + part.size:
            return place - part.start + part.address
    return None


def place_of(parts: list[Segment], address: int) -> int | None:
    """The place in the file of what is at ``address``."""
    for part in parts:
        if part.address <= address < part.address + part.size:
            return address - part.address + part.start
    return None


def _loaded(data: bytes, order: Order, bits: int) -> list[Segment]:
    """The segments that an ELF file's program headers say are loaded."""
    end = "<" if order == "little" else ">"
    try:
        if bits == 64:
            (table,) = struct.unpack_from(f"{end}Q", data, 32)
            size, count = struct.unpack_from(f"{end}2H", data, 54)
            headers = [
                struct.unpack_from(f"{end}2I4Q", data, table + size * n) for n in range(count)
            ]
            rows = [(h[0], h[2], h[5], h[3]) for h in headers]
        else:
            (table,) = struct.unpack_from(f"{end}I", data, 28)
            size, count = struct.unpack_from(f"{end}2H", data, 42)
            headers = [
                struct.unpack_from(f"{end}5I", data, table + size * n) for n in range(count)
            ]
            rows = [(h[0], h[1], h[4], h[2]) for h in headers]
    except (struct.error, OverflowError):
        return []
    return [Segment(start, size, at) for kind, start, size, at in rows if kind == _PT_LOAD]


def _words(data: bytes, order: Order, size: int) -> Words:
    kind = f"{'<' if order == 'little' else '>'}u{size}"
    return np.frombuffer(data, kind, len(data) // size)


def _by_lists(data: bytes, order: Order, bits: int) -> int | None:
    """The address of the first byte that most empty lists agree on, of whole pages."""
    size = bits // 8
    words = _words(data, order, size)
    same = np.flatnonzero((words[1:] == words[:-1]) & (words[1:] != 0))
    base = words[same].astype(np.uint64) - (same * size).astype(np.uint64)
    base = base[base % np.uint64(_PAGE) == 0]
    if not len(base):
        return None
    found, count = np.unique(base, return_counts=True)
    best = int(np.argmax(count))
    rest = int(count.sum() - count[best])
    return int(found[best]) if count[best] >= _LISTS and count[best] > 4 * rest else None


def moved_to(data: bytes, order: Order, place: int) -> int | None:
    """Return the value that the kernel relocates the word at ``place`` to, if that is known.

    arm64 is linked with --no-apply-dynamic-relocs: what a word becomes is in a row of
    .rela.dyn, of an address, a type and a value, and the word itself is zero. s390's rows name
    a symbol too until 6.8, whose address is added (arch/s390/boot/startup.c; 778666df60f0,
    "s390: compile relocatable kernel without -fPIE").
    """
    words = _words(data, order, 8)
    for kind in _RELATIVE:
        row = _row_of(words, np.flatnonzero(words[1:-1] == kind), place)
        if row is not None and words[row + 2]:
            return int(words[row + 2])
    if order == "big":
        rows = np.flatnonzero((words[1:-1] & _TYPE) == _R_390_64)
        row = _row_of(words, rows, place)
        if row is not None:
            return _by_symbol(words, row)
    return None


def _row_of(words: Words, rows: npt.NDArray[np.int64], place: int) -> int | None:
    """The one of ``rows`` that is of the word at ``place``.

    It is the one of all those at its distance from a page that has every other row at a word
    that is zero.
    """
    address = words[rows].astype(np.uint64)
    rows, address = rows[address >= place], address[address >= place]
    base = address - np.uint64(place)
    for row in np.flatnonzero(base % np.uint64(_PAGE) == 0)[:_BASES].tolist():
        offset = address - base[row]
        offset = offset[(address >= base[row]) & (offset < 8 * len(words) - 8)]
        zeros = np.count_nonzero(words[offset // np.uint64(8)] == 0)
        if 2 * len(offset) > len(address) and 20 * zeros > 19 * len(offset):
            return int(rows[row])
    return None


def _by_symbol(words: Words, row: int) -> int | None:
    """The address of the symbol that a row of s390's names, and what the row adds.

    The symbols lie right before the rows, the first one is all zero
    (arch/s390/kernel/vmlinux.lds.S).
    """
    most, first = 0, row
    while first >= 0 and int(words[first + 1]) & _TYPE in (_R_390_64, _R_390_RELATIVE):
        most = max(most, int(words[first + 1]) >> 32)
        first -= _ROW
    first += _ROW
    for begin in range(first - _ROW * (most + 1), max(first - _ROW * _SYMBOLS, -1), -_ROW):
        if not words[begin : begin + _ROW].any():
            symbol = begin + _ROW * (int(words[row + 1]) >> 32)
            return int(words[symbol + 1]) + int(words[row + 2]) & (1 << 64) - 1
    return None


_BASES: Final = 4096
"""Rows that are tried: of a hundred thousand one in 512 is as far from a page."""
_SYMBOLS: Final = 1 << 16
"""Symbols among which the first is looked for: Debian's 6.1 has 1,349."""
