"""Symbols that the kernel lists, and ignores where it names an address."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._typing import Final

_CODE_OR_DATA: Final = np.frombuffer(b"adtx", np.uint8)


def mapping_symbols(
    strings: npt.NDArray[np.uint8], name: npt.NDArray[np.uint32], own: bool
) -> npt.NDArray[np.bool_]:
    """Return which symbols the kernel lists, and ignores where it names an address.

    They are no functions or variables: marks of where code and data change (``$x``, ``$d.1``;
    ELF for the Arm 64-bit Architecture, "Mapping symbols"; RISC-V ELF psABI, the same) and the
    assembler's labels (``.L5``, RISC-V's ``.L0 ``, LoongArch's and s390's ``L0`` 0x01).

    In a module the kernel ignores ``.L*``, ``L0*`` and ``$*`` (include/linux/module_symbol.h,
    is_mapping_symbol). Before Linux 6.6 (ff09f6fd2972, "modpost, kallsyms: Treat add
    '$'-prefixed symbols as mapping symbols") that was ``$`` with one of ``axtd`` and the end or
    a dot, before 6.4 not ``L0*``; nothing else had such names there. For its ``own`` it has no
    rule, since its table is made without them (scripts/mksysmap): there only what no C
    compiler makes counts, ``.L*``, ``$a``, ``$d``, ``$t``, ``$x`` alone or with a dot and more
    behind it, and ``$xrv*``, but a function ``L0pin`` keeps its name.

    Args:
        strings: names, each with a NUL behind it.
        name: where in them each symbol's begins.
        own: whether they are the kernel's own, and not a module's.

    Returns:
        One answer for each of ``name``.
    """
    # Behind a name's end may be anything, or nothing.
    first, second, third, fourth = (strings.take(name + n, mode="clip") for n in range(4))
    local = (first == ord(".")) & (second == ord("L"))
    dollar = first == ord("$")
    if not own:
        return np.asarray(local | dollar | ((first == ord("L")) & (second == ord("0"))))
    code = np.isin(second, _CODE_OR_DATA) & ((third == 0) | (third == ord(".")))
    code |= (second == ord("x")) & (third == ord("r")) & (fourth == ord("v"))
    return np.asarray(local | (dollar & code))
