"""How far a kernel's addresses lie from those of another boot, or of its link.

The kernel moves as one piece (arch/x86/boot/compressed/kaslr.c, drivers/firmware/efi/libstub):
one symbol's two addresses tell it for all. Modules are placed each by itself, and absolute
symbols stay where they are.
"""

from __future__ import annotations

from .symbol import Symbol
from .table import SymbolTable


def stext(table: SymbolTable) -> int | None:
    """Where ``table`` has the kernel's ``_stext``; None where it has none."""
    return next((s.address for s in table.find("_stext") if s.module is None), None)


def linked_stext(table: SymbolTable) -> int | None:
    """Where ``_stext`` was linked to; None where nothing told.

    By the snapshot's note; of another ELF file that is linked, where it has it.
    """
    if table.linked:
        return stext(table)
    linked = (table.facts.get("link_time") or {}).get("_stext")
    return None if linked is None else int(linked, 16)


def link_slide(table: SymbolTable) -> int | None:
    """What was added to the kernel's addresses in the boot of ``table``, in bytes."""
    linked = linked_stext(table)
    return None if linked is None else _distance(linked, stext(table))


def link_address(symbol: Symbol, slide: int | None) -> int | None:
    """Where ``symbol`` was linked to, by :func:`link_slide` of its table.

    None of a module's, which has no such place, and where the slide is unknown.
    """
    if slide is None or symbol.module is not None:
        return None
    return symbol.address if symbol.section is None else symbol.address - slide


def slide_between(old: SymbolTable, new: SymbolTable) -> int | None:
    """What is added to the kernel's addresses in ``old`` for those in ``new``, in bytes."""
    return _distance(stext(old), stext(new))


def _distance(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else end - start
