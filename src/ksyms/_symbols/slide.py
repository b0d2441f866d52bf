"""The slide: the bytes from a kernel's link addresses, or another boot's, to its addresses.

The kernel moves as one piece (arch/x86/boot/compressed/kaslr.c, drivers/firmware/efi/libstub),
so the two addresses of one symbol, ``_stext``, give the slide of all its symbols. Modules do
not move with the kernel, and absolute symbols do not move at all.
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
    """Return the bytes from the link addresses to the addresses in ``table``.

    None if they are unknown.
    """
    linked = linked_stext(table)
    return None if linked is None else _distance(linked, stext(table))


def link_address(symbol: Symbol, slide: int | None) -> int | None:
    """Return the link address of ``symbol``; ``slide`` is its table's :func:`link_slide`.

    An absolute symbol does not move. The result is None for a module's symbol, which has no
    link address, and if the slide is unknown.
    """
    if slide is None or symbol.module is not None:
        return None
    return symbol.address if symbol.section is None else symbol.address - slide


def slide_between(old: SymbolTable, new: SymbolTable) -> int | None:
    """Return the bytes from the kernel's addresses in ``old`` to those in ``new``.

    None if a table has no ``_stext``.
    """
    return _distance(stext(old), stext(new))


def _distance(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else end - start
