"""The kinds of memory, by the letters of symbols and the names of sections.

A kind is an index into :data:`KINDS`, or :data:`UNKNOWN` if there is no evidence.
"""

from __future__ import annotations

import numpy as np

from .._arrays import I8, I32, U64, Index, Mask
from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .files import Kind
    from .modules import Sections

KINDS: Final[tuple[Kind, ...]] = ("text", "rodata", "data", "bss")
TEXT, RODATA, DATA, BSS = range(4)
UNKNOWN: Final = -1


def _letters_to_kind() -> I8:
    """Return the table :data:`LETTER_KIND`."""
    # elf_type in kernel/module/kallsyms.c makes a module's letters, and nm makes the kernel's.
    table = np.full(256, UNKNOWN, np.int8)
    for kind, letters in enumerate(("tT", "rRnN", "dDgGV", "bBsS")):
        for letter in letters:
            table[ord(letter)] = kind
    return table


LETTER_KIND: Final = _letters_to_kind()
"""The kind by kallsyms' letter (int8, 256)."""

# The kind of a module's section by the start of its name, for sections without symbols. Each of
# these names is used by one macro, with fixed flags (scripts/module.lds.S, include/linux).
_SECTION_KINDS: Final = (
    (".data", DATA),
    (".bss", BSS),
    (".sbss", BSS),
    (".rodata", RODATA),
    (".note", RODATA),
    (".ARM.ex", RODATA),
    (".orc_", RODATA),
    ("__ksymtab", RODATA),
    ("__kcrctab", RODATA),
    ("__ex_table", RODATA),
    (".gnu.linkonce.this_module", DATA),
    (".altinstr_replacement", TEXT),
)


def section_kinds(sections: Sections) -> list[int]:
    """Return the kind of each section by its name; UNKNOWN if the name is no evidence."""
    named = (
        (kind for prefix, kind in _SECTION_KINDS if name.startswith(prefix))
        for name in sections.names
    )
    return [
        next(kinds, TEXT if "text" in name else UNKNOWN)
        for kinds, name in zip(named, sections.names)
    ]


def fill_kinds(file: I32, kind: I8, section: Mask, begins: Mask) -> I8:
    """Return the kind of each mark, also of those without evidence.

    - A symbol keeps its kind, if it is known.
    - A mark that starts an allocation gets the kind of the first symbol in it.
    - Other sections, and symbols of unknown kind, get the kind of the mark before them. So a
      region does not end within a symbol.

    In these marks of one file, ``[`` is the start of an allocation::

        mark      [.text  f     .L1   .exit.text  g     [.rodata  r
        evidence  text    text  -     text        text  -         rodata
        result    text    text  text  text        text  rodata    rodata

    Args:
        file: the linker file's id of each mark; the marks are sorted by address.
        kind: the kind of each mark by its own letter or name.
        section: a mask of the marks that are starts of sections.
        begins: a mask of the marks at which an allocation starts.
    """
    kind = kind.copy()
    files = np.flatnonzero(file[1:] != file[:-1]) + 1

    # The start of an allocation: the kind of the first symbol before the next start or file.
    at = np.flatnonzero(begins)
    symbol = first_after(np.flatnonzero(~section & (kind != UNKNOWN)), at, len(kind))
    end = np.minimum(first_after(at, at, len(kind)), first_after(files, at, len(kind)))
    inside = symbol < end
    kind[at[inside]] = kind[symbol[inside]]

    # Other sections are filled in below; a start that is left without a kind is read-only data.
    first = np.append(True, file[1:] != file[:-1])
    kind[section & ~begins & ~first] = UNKNOWN
    kind[begins & ~first & (kind == UNKNOWN)] = RODATA

    # All others: the kind of the mark before in the same file, or of the mark after, or data.
    at, known = np.flatnonzero(kind == UNKNOWN), np.flatnonzero(kind != UNKNOWN)
    before, after = last_before(known, at), first_after(known, at, len(kind))
    has_before = (before >= 0) & (before >= last_before(files, at))
    has_after = after < first_after(files, at, len(kind))
    # If there is no mark before or after, this reads another file's kind, which is not used.
    before_kind, after_kind = kind[before], kind[np.minimum(after, len(kind) - 1)]
    chosen = np.where(has_before, before_kind, after_kind)
    kind[at] = np.where(has_before | has_after, chosen, DATA)
    return kind


def one_kind_an_address(address: U64, file: I32, kind: I8, known: Mask) -> I8:
    """Return the kinds, with the same kind for all marks of one file at one address.

    It is text if a symbol there is text, else the kind of the first symbol of known kind, else
    the kind of the first mark.

    Args:
        address: the marks, sorted.
        file: the linker file's id of each mark.
        kind: the kind of each mark.
        known: a mask of the marks whose kind is known from a symbol.
    """
    new = np.append(True, (address[1:] != address[:-1]) | (file[1:] != file[:-1]))
    firsts, group = np.flatnonzero(new), np.cumsum(new) - 1
    if len(firsts) == len(kind):
        return kind

    # In each group, sort the marks of known kind to the front and take the first.
    chosen: I8 = kind[np.lexsort((~known, group))[firsts]]
    chosen[np.logical_or.reduceat(known & (kind == TEXT), firsts)] = TEXT
    return chosen.take(group)


def first_after(ascending: Index, at: Index, end: int) -> Index:
    """Return the first item of ``ascending`` above each of ``at``, or ``end``."""
    after = np.searchsorted(ascending, at, "right")
    found: Index = np.append(ascending, end)[after]
    return found


def last_before(ascending: Index, at: Index) -> Index:
    """Return the last item of ``ascending`` at or below each of ``at``, or -1."""
    before = np.searchsorted(ascending, at, "right")
    found: Index = np.append(-1, ascending)[before]
    return found
