"""The order of several symbols at one address: the kernel prints the first.

That is the first of them in kallsyms (kernel/kallsyms.c, get_symbol_pos), which
scripts/kallsyms.c sorts when the kernel is built (compare_symbols, of Linux 6.1; the same
since 2.6.24). A snapshot has that order already; an ELF file's symbols are sorted here.
"""

from __future__ import annotations

from .._typing import Final

Key = tuple[bool, bool, bool, int, bytes]

_PREFIXES: Final = (
    *(b"__crc_", b"__kstrtab_", b"__kstrtabns_", b"__efistub_", b"__kvm_nvhe_$"),
    *(b"__kvm_nvhe_.L", b"__pi_$", b"__pi_.L", b"__kcfi_typeid_", b"__AArch64ADRPThunk_"),
    *(b"__ARMV5PILongThunk_", b"__ARMV7PILongThunk_", b"__ThumbV7PILongThunk_"),
    *(b"__LA25Thunk_", b"__microLA25Thunk_"),
)
_SUFFIXES: Final = (b"_from_arm", b"_from_thumb", b"_veneer")
_PARTS: Final = (b".long_branch.", b".plt_branch.")
_NAMES: Final = (b"_SDA_BASE_", b"_SDA2_BASE_", b"L0")
_PROVIDED: Final = (b"__start_", b"__stop_", b"__end_")
_PROVIDED_ENDS: Final = (b"_start", b"_end")
_SHORTEST: Final = 8


def key(name: bytes, weak: bool) -> Key:
    """Return the sort key of a symbol among those at its address; the smallest is printed.

    ``weak`` is True if nm's letter is ``w`` or ``W``: for STB_WEAK that is not an object.
    """
    underscores = len(name) - len(name.lstrip(b"_"))
    # The name comes last: kallsyms gets the symbols from nm -n, which sorts by it.
    return _is_left_out(name), weak, _may_be_provided(name), underscores, name


def _is_left_out(name: bytes) -> bool:
    """Return True if kallsyms omits it (scripts/mksysmap; kallsyms.c, is_ignored_symbol)."""
    return (
        name.startswith(_PREFIXES)
        or name.endswith(_SUFFIXES)
        or name in _NAMES
        or any(part in name for part in _PARTS)
    )


def _may_be_provided(name: bytes) -> bool:
    """Return True if a linker script may have made it (may_be_linker_script_provide_symbol)."""
    if len(name) < _SHORTEST or not name.startswith(b"__"):
        return False
    return name.startswith(_PROVIDED) or name.endswith(_PROVIDED_ENDS)
