"""The link addresses of a kernel's bytes.

An ELF file has them in its program headers. A raw image has no headers: it is loaded as one
piece, so only the address of its first byte has to be found. The kernel's empty lists are the
evidence: both words of an empty ``LIST_HEAD`` (include/linux/list.h) are its own address::

    offset in the file    0x1a2340            0x1a2348
    word                  0xffffffc0101a2340  0xffffffc0101a2340
    first byte            0xffffffc0101a2340 - 0x1a2340 = 0xffffffc010000000
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
"""The fewest empty lists that must agree; kernels have hundreds."""
_PT_LOAD: Final = 1
_RELATIVE: Final = (1027, 3, 22, 12)
"""The types of relative relocations, which add the slide to a link address.

R_AARCH64_RELATIVE, R_RISCV_RELATIVE and R_LARCH_RELATIVE, R_PPC64_RELATIVE, R_390_RELATIVE.
"""
_R_390_RELATIVE, _R_390_64 = _RELATIVE[-1], 22
_TYPE: Final = 0xFFFFFFFF  # ELF64_R_TYPE; the upper bits are the symbol's number
_ROW: Final = 3
"""The number of words in an Elf64_Rela, and in an Elf64_Sym."""


class Segment(NamedTuple):
    """``size`` bytes of the file at the offset ``start``, with the link address ``address``."""

    start: int
    size: int
    address: int


def segments(data: bytes, order: Order, bits: int) -> list[Segment]:
    """Return the segments of a kernel; none if their addresses are not known.

    Args:
        data: the kernel.
        order: its byte order.
        bits: the number of bits of its words; an ELF file must have the same.
    """
    if data[:4] == b"\x7fELF":
        return _loaded(data, order, bits) if data[4] == bits // 32 else []
    base = _by_lists(data, order, bits)
    return [] if base is None else [Segment(0, len(data), base)]


def address_of(parts: list[Segment], place: int) -> int | None:
    """Return the address of the byte at the offset ``place``; None if it is in no segment."""
    for part in parts:
        if part.start <= place < part.start + part.size:
            return place - part.start + part.address
    return None


def place_of(parts: list[Segment], address: int) -> int | None:
    """Return the offset in the file of the byte at ``address``; None if it is in no segment."""
    for part in parts:
        if part.address <= address < part.address + part.size:
            return address - part.address + part.start
    return None


def _loaded(data: bytes, order: Order, bits: int) -> list[Segment]:
    """Return the segments of type PT_LOAD in an ELF file's program headers."""
    end = "<" if order == "little" else ">"
    try:
        if bits == 64:
            (table,) = struct.unpack_from(f"{end}Q", data, 32)
            size, count = struct.unpack_from(f"{end}2H", data, 54)
            headers = [
                struct.unpack_from(f"{end}2I4Q", data, table + size * n) for n in range(count)
            ]
            # p_type, p_offset, p_filesz, p_vaddr; Elf32_Phdr, below, has another order.
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
    """Return all words of ``size`` bytes in ``data``."""
    kind = f"{'<' if order == 'little' else '>'}u{size}"
    return np.frombuffer(data, kind, len(data) // size)


def _by_lists(data: bytes, order: Order, bits: int) -> int | None:
    """Return the address of the first byte by the empty lists, which is the start of a page.

    Two words can be equal by chance. So at least :data:`_LISTS` lists must agree, and more than
    four times as many as all that disagree; None if they do not.
    """
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
    """Return the link-time value of the word at the offset ``place``, from its relocation.

    None if there is no such relocation. On arm64 the word itself is zero: the kernel is linked
    with --no-apply-dynamic-relocs, and the value is in a row of .rela.dyn::

        .rela.dyn    address              type    value
                     0xffffffc011234560   1027    0xffffffc010080000

    Up to Linux 6.8, rows of s390 name a symbol too, whose address is added to the value
    (arch/s390/boot/startup.c; Linux kernel commit 778666df60f0, "s390: compile relocatable
    kernel without -fPIE").
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
    """Return the one of ``rows`` that relocates the word at the offset ``place``, if any.

    The rows have addresses, but the address of the file's first byte is not known. If a row is
    the one for ``place``, the first byte is at the row's address minus ``place``. This must be
    the start of a page; and most rows must then lie in the file, nearly all at words that are
    zero. For the place 0x4560::

        row at 0xffffffc011234560   first byte at 0xffffffc011230000: look at the other rows
        row at 0xffffffc011234568   first byte at 0xffffffc011230008: not the start of a page


    Args:
        words: the words of the kernel.
        rows: the numbers of the first words of the relocations.
        place: the offset in bytes.
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
    """Return the address of the symbol in a relocation of s390, plus the value that it adds.

    The symbol table lies right before the relocations, and its first symbol is all zero
    (arch/s390/kernel/vmlinux.lds.S). None if no such symbol is found.

    Args:
        words: the words of the kernel.
        row: the number of the first word of the relocation.
    """
    # Go back to the first relocation, and note the highest number of a symbol on the way.
    most, first = 0, row
    while first >= 0 and int(words[first + 1]) & _TYPE in (_R_390_64, _R_390_RELATIVE):
        most = max(most, int(words[first + 1]) >> 32)
        first -= _ROW
    first += _ROW

    # Go back to the first symbol. At least ``most`` others are between it and the relocations.
    for begin in range(first - _ROW * (most + 1), max(first - _ROW * _SYMBOLS, -1), -_ROW):
        if not words[begin : begin + _ROW].any():
            symbol = begin + _ROW * (int(words[row + 1]) >> 32)
            return int(words[symbol + 1]) + int(words[row + 2]) & (1 << 64) - 1
    return None


_BASES: Final = 4096
"""The most rows that are tried.

A kernel has a hundred thousand, of which one in 512 has the right distance from a page.
"""
_SYMBOLS: Final = 1 << 16
"""The most symbols that the table is taken to have; Debian's 6.1 has 1,349."""
