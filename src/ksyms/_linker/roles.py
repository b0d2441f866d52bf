"""The roles of the symbols in kallsyms: which of them the kernel finds for an address.

/proc/kallsyms lists more symbols than the kernel's lookup can find (kernel/kallsyms.c,
kallsyms_lookup_buildid). The lookup searches in this order:

1. the kernel's own symbols, for an address in the kernel's image;
2. the modules, for any other address;
3. the BPF programs;
4. the freed functions of modules, which ftrace remembers (``freed_functions.py``).
"""

from __future__ import annotations

import numpy as np

from .._typing import TYPE_CHECKING, Final
from .addresses import LAST_ADDRESS, Range, within
from .files import Role, Symbols
from .init_sections import in_freed_init
from .modules import Module

if TYPE_CHECKING:
    from .._arrays import U8
    from .files import Lists, Region

_STATIC_DATA: Final = b"bdr"
"""Letters of static data; a kernel that lists its data has symbols with such letters."""


def kernel_listing(letter: U8, landmarks: dict[str, int]) -> Lists:
    """Return ``functions`` if the kernel lists only its functions, else ``all``.

    A kernel without CONFIG_KALLSYMS_ALL lists the symbols of its text (scripts/kallsyms.c,
    symbol_valid) and some symbols of the linker script, but neither ``_end`` nor static data.

    Args:
        letter: the letters of the kernel's own symbols (uint8).
        landmarks: addresses of the kernel's own symbols by name.
    """
    if "_end" in landmarks or not {"_stext", "_etext"} <= landmarks.keys():
        return "all"
    letters = letter.tobytes()
    return "all" if any(one in letters for one in _STATIC_DATA) else "functions"


def named_ranges(listed: Lists, landmarks: dict[str, int]) -> list[Range]:
    """Return the ranges of addresses that the kernel names by its own symbols.

    They are those of is_ksym_addr and is_kernel_inittext in include/linux/kallsyms.h, and of
    __is_kernel and __is_kernel_text in include/asm-generic/sections.h. If the symbols at their
    ends are missing, the result is one range of all addresses.

    Args:
        listed: the result of :func:`kernel_listing`.
        landmarks: addresses of the kernel's own symbols by name.
    """
    bounds = (("_stext", "_end"), ("__init_begin", "__init_end"))
    if listed == "functions":
        bounds = (("_stext", "_etext"), ("_sinittext", "_einittext"))
    if not set(bounds[0]) <= landmarks.keys():
        return [Range(0, LAST_ADDRESS)]
    return [
        Range(landmarks[first], landmarks[last])
        for first, last in bounds
        if {first, last} <= landmarks.keys()
    ]


def kernel_roles(
    symbols: Symbols,
    listed: Lists,
    known: tuple[Region, ...],
    landmarks: dict[str, int],
) -> U8:
    """Return the roles of the kernel's own symbols (uint8, one for each symbol).

    A symbol with the letter ``A`` is absolute if it is outside of all known regions. Before
    Linux 6.15 the per-CPU symbols of x86-64 are absolute too: they are offsets from 0, which
    have letters of data in a System.map.

    Args:
        symbols: the kernel's own symbols.
        listed: the result of :func:`kernel_listing`.
        known: the known regions.
        landmarks: addresses of the kernel's own symbols by name.
    """
    address = symbols.address
    absolute = (symbols.letter | np.uint8(0x20)) == ord("a")
    if landmarks.get("__per_cpu_start") == 0:
        absolute |= address <= np.uint64(landmarks.get("__per_cpu_end", 0))
    if absolute.any():
        at = np.flatnonzero(absolute)
        absolute[at] = ~within(address[at], known)

    silent = np.ones(len(address), np.bool_)
    for start, end in named_ranges(listed, landmarks):
        silent &= (address < np.uint64(start)) | (address >= np.uint64(end))
    silent &= ~absolute

    if not absolute.any() and not silent.any():
        return symbols.role
    role = symbols.role.copy()
    role[absolute] = Role.ABSOLUTE
    role[silent & (role == Role.NAMES)] = Role.SILENT
    return role


def module_roles(
    symbols: Symbols,
    module: Module | None,
    sections: tuple[tuple[int, str], ...],
    image: Range,
) -> U8:
    """Return the roles of a module's symbols (uint8, one for each symbol).

    While a module is being loaded, kallsyms lists its whole symbol table; for a livepatch it
    always does (kernel/module/kallsyms.c, add_kallsyms). The letters are those of elf_type() in
    that file:

    - ``a``: names of files and per-CPU variables, whose values are not addresses
    - ``u``: undefined symbols, at the kernel's addresses
    - ``?``, ``n``: symbols of sections that are not loaded into memory
    - ``w``, ``v``: weak symbols; undefined ones are at the kernel's addresses, or at 0

    Args:
        symbols: the module's symbols.
        module: its line of /proc/modules, if there is one.
        sections: the start and the name of each section in sysfs, sorted.
        image: the range of the kernel's own addresses, [_stext, _end).
    """
    letter = symbols.letter | np.uint8(0x20)  # in lower case; "?" (0x3f) has this bit already
    absolute = letter == ord("a")
    undefined = (letter == ord("u")) | (letter == ord("?")) | (letter == ord("n"))

    weak = (letter == ord("w")) | (letter == ord("v"))
    if weak.any():
        inside = (symbols.address >= np.uint64(image.start)) & (
            symbols.address < np.uint64(image.end)
        )
        undefined |= weak & (inside | (symbols.address == 0))

    # A livepatch (TAINT_LIVEPATCH) still lists the init functions that were freed.
    if module is not None and "K" in module.taint:
        undefined |= ~absolute & in_freed_init(symbols.address, sections, module)

    if not absolute.any() and not undefined.any():
        return symbols.role
    role = symbols.role.copy()
    role[absolute] = Role.ABSOLUTE
    role[undefined] = Role.UNDEFINED
    return role
