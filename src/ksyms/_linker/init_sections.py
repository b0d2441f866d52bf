"""The init sections of modules, which the kernel frees when a module has been initialized."""

from __future__ import annotations

import numpy as np

from .._typing import TYPE_CHECKING
from .files import Role
from .modules import Module, Sections

if TYPE_CHECKING:
    from .._arrays import U64, Mask
    from .files import Symbols


def is_init(section: str) -> bool:
    """Return True if ``section`` is the name of an init section.

    The rule is module_init_section in kernel/module/main.c, and for arm in
    arch/arm/kernel/module.c.
    """
    return section.startswith((".init", ".ARM.exidx.init", ".ARM.extab.init"))


def in_freed_init(
    address: U64, sections: tuple[tuple[int, str], ...], module: Module | None
) -> Mask:
    """Return a mask of the addresses that lie in an init section that was freed.

    An address is taken to be in the last section that starts at or below it. Addresses in the
    module's memory according to /proc/modules are not freed: some machines keep the init
    sections there (arch/powerpc/kernel/module_64.c, module_init_section).

    Args:
        address: the addresses (uint64).
        sections: the start and the name of each section in sysfs, sorted.
        module: the module's line of /proc/modules, if there is one.
    """
    if module is None or module.state != "Live":
        return np.zeros(len(address), np.bool_)
    starts = np.array([start for start, _ in sections], np.uint64)
    init = np.array([False, *(is_init(name) for _, name in sections)])
    kept = (address >= np.uint64(module.address)) & (
        address - np.uint64(module.address) < np.uint64(module.size)
    )
    return np.asarray(init[np.searchsorted(starts, address, "right")] & ~kept)


def live_sections(
    sections: tuple[tuple[int, str], ...], symbols: Symbols, freed: Mask
) -> Sections:
    """Return the sections of a module that are in memory.

    When a module becomes Live, its init sections are freed, but sysfs keeps their addresses
    (kernel/module/sysfs.c, add_sect_attrs). Another module may be there now. kallsyms lists the
    init symbols until the sections are freed, so an init section is in memory if a symbol lies
    in it. ``.symtab`` and ``.strtab`` are left out, since no symbols lie in them.

    Args:
        sections: the start and the name of each section in sysfs, sorted.
        symbols: the module's symbols.
        freed: a mask of the symbols that are freed functions.
    """
    sections = tuple(pair for pair in sections if pair[1] not in (".symtab", ".strtab"))
    starts = np.array([start for start, _ in sections], np.uint64)
    address = symbols.address[~freed & (symbols.role < Role.ABSOLUTE)]
    used = set((np.searchsorted(starts, address, "right") - 1).tolist())

    live = [
        pair for number, pair in enumerate(sections) if number in used or not is_init(pair[1])
    ]
    return Sections(tuple(s for s, _ in live), tuple(n for _, n in live), (0,) * len(live))
