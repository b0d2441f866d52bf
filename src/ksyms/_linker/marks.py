"""Mapping symbols and local labels: kallsyms lists them, the kernel's lookup ignores them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._typing import Final

_CODE_OR_DATA: Final = np.frombuffer(b"adtx", np.uint8)


def mapping_symbols(
    strings: npt.NDArray[np.uint8], name: npt.NDArray[np.uint32], own: bool
) -> npt.NDArray[np.bool_]:
    """Return a mask of the symbols that the kernel ignores when it names an address.

    They are not functions or variables but

    - mapping symbols, which mark changes between code and data: ``$x``, ``$d.1`` (ELF for the
      Arm 64-bit Architecture and RISC-V ELF psABI, "Mapping symbols");
    - local labels of the assembler: ``.L5``, RISC-V's ``.L0 ``, LoongArch's and s390's ``L0``
      0x01.

    In a module the kernel ignores ``.L*``, ``L0*`` and ``$*`` (include/linux/module_symbol.h,
    is_mapping_symbol). Before Linux 6.6 (ff09f6fd2972, "modpost, kallsyms: Treat add
    '$'-prefixed symbols as mapping symbols") it ignored of ``$*`` only ``$a``, ``$x``, ``$t``
    and ``$d``, alone or followed by a dot, and before 6.4 it did not ignore ``L0*``. The
    present rule is used for all versions, since no other symbols had such names then.

    For the kernel's own symbols there is no rule in the kernel, since scripts/mksysmap leaves
    the labels out of its table. Here only names that no C compiler makes count: ``.L*``;
    ``$a``, ``$d``, ``$t`` and ``$x``, alone or followed by a dot and more; and ``$xrv*``. A
    function called ``L0pin`` is a function.

    Args:
        strings: the names, each with its terminating NUL (uint8).
        name: the offset of each symbol's name in ``strings`` (uint32).
        own: True for the kernel's own symbols, False for a module's.

    Returns:
        One bool for each item of ``name``.
    """
    # The bytes after a name's end can be anything, and those after the last one do not exist.
    first, second, third, fourth = (strings.take(name + n, mode="clip") for n in range(4))

    local = (first == ord(".")) & (second == ord("L"))
    dollar = first == ord("$")
    if not own:
        return np.asarray(local | dollar | ((first == ord("L")) & (second == ord("0"))))
    code = np.isin(second, _CODE_OR_DATA) & ((third == 0) | (third == ord(".")))
    code |= (second == ord("x")) & (third == ord("r")) & (fourth == ord("v"))
    return np.asarray(local | (dollar & code))
