"""A boot: where it has what the file has, and the boots that somebody names.

The kernel moves as one piece, by its slide; each module, and each part of one, by itself
(since Linux 6.4 a module's text and data are allocations of their own).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._symbols import Symbol, SymbolTable, slide_between
from .kaslr import FURTHEST, step
from .names import listed

UNKNOWN: Final = 1 << 63
"""The slide of a kernel that is nobody knows where: no address less this is a kernel's."""


class Boot(NamedTuple):
    """A boot of the file's kernel: what is added to the file's addresses there.

    ``slide`` is in bytes. Where ``own`` is true the boot may be the file's own: what else the
    file has lies where the file says. ``moves`` has the bytes for the sections of modules that
    something was told of.
    """

    slide: int = 0
    own: bool = True
    moves: Mapping[str, int] = {}


def slid(table: SymbolTable, slide: int) -> Boot:
    """The boot that is moved by ``slide``, in bytes; DecodeError if none can be."""
    if slide % step(table) or abs(slide) >= FURTHEST:
        raise DecodeError(
            f"No kernel is moved by {slide:#x} bytes: that is no multiple of {step(table):#x}, "
            "or too much.",
            "Give the slide as what the text's addresses have more than the symbols'.",
        )
    return Boot(slide, own=slide == 0)


def boot_of(table: SymbolTable, other: SymbolTable, force: bool = False) -> Boot | None:
    """The boot that ``other`` is of, by where it has what ``table`` has.

    None if that is unknown, as it is where most of the kernel's symbols do not agree on the
    slide; ``force`` takes it all the same.
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
    # A section moves as one; where its symbols do not agree, nothing is known of it.
    moves = {str(section): found[0] for section, found in votes.items() if len({*found}) == 1}
    return Boot(slide, False, moves)


def _only_ones(table: SymbolTable) -> dict[tuple[str | None, str], Symbol]:
    """What has a place in memory by module and name, where no other has that name too."""
    found: dict[tuple[str | None, str], Symbol | None] = {}
    unlike = listed(table)
    for symbol in table:
        if symbol.section is not None and symbol.module not in unlike:
            key = symbol.module, symbol.name
            found[key] = None if key in found else symbol
    return {key: symbol for key, symbol in found.items() if symbol is not None}
