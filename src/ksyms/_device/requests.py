"""The numbers of the ioctl requests, and the structures that they carry.

They are those of FreeBSD's and NetBSD's sys/ksyms.h::

    FreeBSD    KIOCGSIZE      _IOR('l', 1, size_t)
    FreeBSD    KIOCGADDR      _IOR('l', 2, void *)
    NetBSD     KIOCGSIZE      _IOR('l', 3, int)
    NetBSD     KIOCGVALUE     _IOWR('l', 4, struct ksyms_gvalue)
    NetBSD     KIOCGSYMBOL    _IOWR('l', 5, struct ksyms_gsymbol)
"""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import Final, NamedTuple

_GROUP: Final = ord("l")
_READ: Final = 2
# These machines have their own asm/ioctl.h; all others use include/uapi/asm-generic/ioctl.h.
_OTHER_ENCODING: Final = ("alpha", "mips", "ppc", "sparc")


class Ioctl(NamedTuple):
    """The meaning of a request's number.

    ``call`` is "size", "address", "value" or "symbol". ``word`` is the answer's width in bytes,
    and ``signed`` is True if it has a sign.
    """

    call: str
    word: int
    signed: bool = False


def number(nr: int, size: int, write: bool = False, machine: str | None = None) -> int:
    """Return the value of ``_IOR('l', nr, size)`` in C; of ``_IOWR``, if ``write`` is True.

    ``machine`` is as of uname(2); the default is this machine. On most machines the bits are::

        31 30      29 ... 16    15 ... 8    7 ... 0
        direction  size         'l'         nr
    """
    machine = os.uname().machine if machine is None else machine
    if machine.startswith(_OTHER_ENCODING):
        direction, shift = _READ | (4 if write else 0), 29
    else:
        direction, shift = _READ | (1 if write else 0), 30
    return direction << shift | size << 16 | _GROUP << 8 | nr


GVALUE: Final = struct.Struct("@PQ")
"""``struct ksyms_gvalue`` of a 64-bit program: the name's address, the value."""
GSYMBOL: Final = struct.Struct("@P24s")
"""``struct ksyms_gsymbol`` of a 64-bit program: the name's address, an ``Elf64_Sym``."""

KIOCGSIZE: Final = number(1, struct.calcsize("@N"))
KIOCGADDR: Final = number(2, struct.calcsize("@P"))
KIOCGVALUE: Final = number(4, GVALUE.size, write=True)
KIOCGSYMBOL: Final = number(5, GSYMBOL.size, write=True)


def asks_caller(request: int) -> bool:
    """Return True if a request needs the caller's memory, and so may take long."""
    known = requests().get(request)
    return known is not None and known.call != "size"


@cache
def requests() -> dict[int, Ioctl]:
    """Return every request that the device answers, by its number.

    The size is a part of the number. So KIOCGSIZE and KIOCGADDR have a second number, for
    32-bit programs. NetBSD's lookups have no second one: a 64-bit address does not fit into the
    structures of a 32-bit program.
    """
    found = {number(3, 4): Ioctl("size", 4, signed=True)}
    for word in (4, 8):
        found[number(1, word)] = Ioctl("size", word)
        found[number(2, word)] = Ioctl("address", word)
    found[KIOCGVALUE] = Ioctl("value", GVALUE.size)
    found[KIOCGSYMBOL] = Ioctl("symbol", GSYMBOL.size)
    return found
