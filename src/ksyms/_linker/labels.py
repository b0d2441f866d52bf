"""Labels: mapping symbols and the assembler's local labels.

kallsyms lists them, but the kernel ignores them when it looks up the name of an address.
"""

from __future__ import annotations

import numpy as np

from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._arrays import U8, U32, U64, Index, Mask

_STARTS_LABEL: Final = np.array([chr(c) in "$.L" for c in range(256)])
"""True for the bytes with which the name of a label can start."""
_CODE_OR_DATA: Final = np.frombuffer(b"adtx", np.uint8)


def may_be_labels(first: U8, eight: U64) -> Index:
    """Return the rows that may be labels: those whose names start with ``$``, ``.L`` or ``L0``.

    All labels are among them. They are few, so :func:`find_labels` has little to do.

    Args:
        first: the first byte of each name (uint8).
        eight: the first eight bytes of each name, as a little-endian word (uint64).
    """
    rows = np.flatnonzero(_STARTS_LABEL.take(first))
    # The first two bytes of these names.
    two = (eight[rows] & np.uint64(0xFFFF)).astype("<u2").view("S2")
    found: Index = rows[(two == b".L") | (two == b"L0") | (two.astype("S1") == b"$")]
    return found


def find_labels(strings: U8, name: U32, own: bool) -> Mask:
    """Return a mask of the symbols that the kernel ignores when it names an address.

    They are neither functions nor variables, but

    - mapping symbols, which mark changes between code and data: ``$x``, ``$d.1`` (ELF for the
      Arm 64-bit Architecture and RISC-V ELF psABI, "Mapping symbols");
    - local labels of the assembler: ``.L5``, RISC-V's ``.L0 ``, LoongArch's and s390's ``L0``
      0x01.

    In a module the kernel ignores ``.L*``, ``L0*`` and ``$*`` (include/linux/module_symbol.h,
    is_mapping_symbol). This rule is used for all versions, since no other symbols had such
    names before. (Before Linux kernel commit ff09f6fd2972 ("modpost, kallsyms: Treat add
    '$'-prefixed symbols as mapping symbols") (in v6.6) the kernel ignored ``$a``, ``$x``,
    ``$t`` and ``$d``, alone or followed by a dot, and no other ``$*``. Before 6.4 it did not
    ignore ``L0*``.)

    For its own symbols the kernel has no rule, since scripts/mksysmap leaves labels out of its
    table. Here only names that no C compiler makes are labels: ``.L*``; ``$a``, ``$d``, ``$t``
    and ``$x``, alone or followed by a dot and more; and ``$xrv*``. So a function of the kernel
    can be called ``L0pin``.

    Args:
        strings: the names, each with its terminating NUL (uint8).
        name: the offset of each symbol's name in ``strings`` (uint32).
        own: True for the kernel's own symbols, False for a module's.

    Returns:
        One bool for each item of ``name``.
    """
    # Bytes after a name's NUL do not matter. After the last name, the last byte is repeated.
    first, second, third, fourth = (strings.take(name + n, mode="clip") for n in range(4))

    local = (first == ord(".")) & (second == ord("L"))
    dollar = first == ord("$")
    if not own:
        return np.asarray(local | dollar | ((first == ord("L")) & (second == ord("0"))))

    code = np.isin(second, _CODE_OR_DATA) & ((third == 0) | (third == ord(".")))
    code |= (second == ord("x")) & (third == ord("r")) & (fourth == ord("v"))
    return np.asarray(local | (dollar & code))
