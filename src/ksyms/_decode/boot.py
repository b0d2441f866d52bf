"""Boots: the slides between the file's addresses and a boot's, and boots given by the user.

The kernel moves as one piece, by its slide. Each module moves by itself, and so does each of
its sections: since Linux 6.4 a module's text and data are separate allocations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._symbols import Symbol, SymbolTable, slide_between
from .kaslr import FURTHEST, step
from .names import listed

UNKNOWN: Final = 1 << 63
"""The value for an unknown slide: no address minus this is an address of the kernel."""


class Boot(NamedTuple):
    """A boot of the file's kernel, given by its slides.

    ``slide`` is the kernel's in bytes: an address in the boot is the file's address plus the
    slide. ``own`` is True if the boot may be the file's own, so that modules lie at the file's
    addresses. ``moves`` has the slides of modules' sections, by the section's name, for the
    sections of which the text or the other table gave evidence.
    """

    slide: int = 0
    own: bool = True
    moves: Mapping[str, int] = {}


def slid(table: SymbolTable, slide: int) -> Boot:
    """Return the boot whose kernel has a slide of ``slide`` bytes.

    Raises:
        DecodeError: no kernel can have that slide.
    """
    if slide % step(table) or abs(slide) >= FURTHEST:
        raise DecodeError(
            f"No kernel has the slide {slide:#x}: it is not a multiple of {step(table):#x}, or "
            "it is too large.",
            "Give the slide as the difference of the text's addresses from the symbols'.",
        )
    return Boot(slide, own=slide == 0)


def boot_of(table: SymbolTable, other: SymbolTable, force: bool = False) -> Boot | None:
    """Return the boot of ``other``, from the addresses of the symbols that both tables have.

    None if it is unknown. It is unknown too if no majority of the kernel's symbols agrees on
    the slide, unless ``force`` is True.
    """
    slide = slide_between(table, other)
    if slide is None:
        return None

    there = _only_ones(other)
    votes: dict[str | None, list[int]] = {None: []}
    for key, symbol in _only_ones(table).items():
        if key in there:
            section = symbol.section if symbol.module else None
            votes.setdefault(section, []).append(there[key].address - symbol.address)

    kernel = votes.pop(None)
    if 2 * kernel.count(slide) <= len(kernel) and not force:
        return None

    # A section moves as one piece. If its symbols disagree, its slide is unknown.
    moves = {str(section): found[0] for section, found in votes.items() if len({*found}) == 1}
    return Boot(slide, False, moves)


def _only_ones(table: SymbolTable) -> dict[tuple[str | None, str], Symbol]:
    """Return the symbols with a section, by module and name, without names that occur twice."""
    found: dict[tuple[str | None, str], Symbol | None] = {}
    unlike = listed(table)
    for symbol in table:
        if symbol.section is not None and symbol.module not in unlike:
            key = symbol.module, symbol.name
            found[key] = None if key in found else symbol
    return {key: symbol for key, symbol in found.items() if symbol is not None}
