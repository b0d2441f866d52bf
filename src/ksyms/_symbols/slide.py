"""The slide: the distance of a kernel's addresses from its link addresses or another boot's.

The kernel moves as one piece (arch/x86/boot/compressed/kaslr.c, drivers/firmware/efi/libstub),
so the two addresses of one symbol give the slide of all. Each module is loaded at an address of
its own, and absolute symbols do not move.
"""

from __future__ import annotations

from .symbol import Symbol
from .table import SymbolTable


def stext(table: SymbolTable) -> int | None:
    """Return the address of the kernel's ``_stext`` in ``table``, None if it has none."""
    return next((s.address for s in table.find("_stext") if s.module is None), None)


def linked_stext(table: SymbolTable) -> int | None:
    """Return the link address of ``_stext``, None if unknown.

    A snapshot has it in its note. In any other linked ELF file it is the symbol's own address.
    """
    if table.linked:
        return stext(table)
    linked = (table.facts.get("link_time") or {}).get("_stext")
    return None if linked is None else int(linked, 16)


def link_slide(table: SymbolTable) -> int | None:
    """Return the slide in bytes of the boot that ``table`` is of, None if unknown."""
    linked = linked_stext(table)
    return None if linked is None else _distance(linked, stext(table))


def link_address(symbol: Symbol, slide: int | None) -> int | None:
    """Return the link address of ``symbol``; ``slide`` is its table's :func:`link_slide`.

    None for a module's symbol, which has no link address, and if the slide is unknown.
    """
    if slide is None or symbol.module is not None:
        return None
    return symbol.address if symbol.section is None else symbol.address - slide


def slide_between(old: SymbolTable, new: SymbolTable) -> int | None:
    """Return the distance in bytes from the kernel in ``old`` to the kernel in ``new``."""
    return _distance(stext(old), stext(new))


def _distance(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else end - start
