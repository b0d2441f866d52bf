"""The precedence of the symbols at one address: the kernel prints the first of them.

The kernel prints the symbol that comes first in kallsyms (kernel/kallsyms.c, get_symbol_pos).
scripts/kallsyms.c sorts kallsyms when the kernel is built (compare_symbols, of Linux 6.1; the
rule is the same since 2.6.24). A snapshot has its symbols in that order already. For the
symbols of any other ELF file, :func:`key` gives the order.
"""

from __future__ import annotations

from .._typing import Final

Key = tuple[bool, bool, bool, int, bytes]
"""The sort key of a symbol, from :func:`key`."""

# Parts of the names that kallsyms omits: see _is_left_out().
_PREFIXES: Final = (
    *(b"__crc_", b"__kstrtab_", b"__kstrtabns_", b"__efistub_", b"__kvm_nvhe_$"),
    *(b"__kvm_nvhe_.L", b"__pi_$", b"__pi_.L", b"__kcfi_typeid_", b"__AArch64ADRPThunk_"),
    *(b"__ARMV5PILongThunk_", b"__ARMV7PILongThunk_", b"__ThumbV7PILongThunk_"),
    *(b"__LA25Thunk_", b"__microLA25Thunk_"),
)
_SUFFIXES: Final = (b"_from_arm", b"_from_thumb", b"_veneer")
_PARTS: Final = (b".long_branch.", b".plt_branch.")
_NAMES: Final = (b"_SDA_BASE_", b"_SDA2_BASE_", b"L0")

# Parts of the names that a linker script defines: see _may_be_provided().
_PROVIDED: Final = (b"__start_", b"__stop_", b"__end_")
_PROVIDED_ENDS: Final = (b"_start", b"_end")
_SHORTEST: Final = 8


def key(name: bytes, weak: bool) -> Key:
    """Return the sort key of a symbol among those at its address; the smallest is printed.

    ``weak`` is True if nm prints ``w`` or ``W`` for the symbol: it is STB_WEAK and no object.
    For example, these symbols of one address are in order::

        _foo         one underscore
        __foo        two underscores
        __foo_end    a linker script may have defined it
        foo, weak
        __crc_foo    kallsyms omits it
    """
    underscores = len(name) - len(name.lstrip(b"_"))
    # The name decides last: kallsyms gets its symbols from nm -n, which sorts those of one
    # address by name.
    return _is_left_out(name), weak, _may_be_provided(name), underscores, name


def _is_left_out(name: bytes) -> bool:
    """Return True if kallsyms omits the name.

    Source: scripts/mksysmap; scripts/kallsyms.c, is_ignored_symbol.
    """
    return (
        name.startswith(_PREFIXES)
        or name.endswith(_SUFFIXES)
        or name in _NAMES
        or any(part in name for part in _PARTS)
    )


def _may_be_provided(name: bytes) -> bool:
    """Return True if a linker script may have defined the name.

    Source: scripts/kallsyms.c, may_be_linker_script_provide_symbol.
    """
    if len(name) < _SHORTEST or not name.startswith(b"__"):
        return False
    return name.startswith(_PROVIDED) or name.endswith(_PROVIDED_ENDS)
