"""The marks: addresses that are evidence of whose the memory is, and of which kind.

Each symbol outside of the known regions is a mark, and so is each start of a module's section.
"""

from __future__ import annotations

import numpy as np

from .._arrays import I8, I32, U64, Index, Mask
from .._typing import TYPE_CHECKING, NamedTuple
from .addresses import within
from .allocations import after_text, doubtful_labels, near_the_mark_before, on_fresh_pages
from .files import KERNEL_ID
from .kinds import (
    DATA,
    LETTER_KIND,
    TEXT,
    UNKNOWN,
    fill_kinds,
    one_kind_an_address,
    section_kinds,
)

if TYPE_CHECKING:
    from .files import Region
    from .region_input import RegionInput


class Marks(NamedTuple):
    """The marks of all linker files, sorted by address, one item each.

    - ``file``: the id of its linker file
    - ``kind``: an index into :data:`~.kinds.KINDS`
    - ``gap``: the number of known regions that start at or below the mark
    - ``begins``: True if an allocation of the file starts at the mark
    - ``adjoins``: True if the file's next mark is in the same allocation
    - ``end``: the end of the section that starts at the mark, 0 if it is not known
    """

    address: U64
    file: I32
    kind: I8
    gap: Index
    begins: Mask
    adjoins: Mask
    end: U64


class _FileMarks(NamedTuple):
    """The marks of one linker file, sections first; the fields are those of :class:`Marks`.

    ``section`` is True for the start of a section. ``label`` is True for a label, which is no
    evidence of the memory's kind.
    """

    address: U64
    file: I32
    kind: I8
    section: Mask
    adjoins: Mask
    end: U64
    label: Mask


def find_marks(
    files: list[RegionInput], known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> Marks:
    """Return the marks of all linker files: the starts of sections, and the symbols.

    Args:
        files: the linker files.
        known: the result of :func:`~.boundaries.known_regions`.
        image: the range of the kernel's image, [start, end).
        named_to: as for :func:`~.regions.inferred_regions`.
    """
    columns = list(zip(*(_marks_of(file, known, image, named_to) for file in files)))
    # Each file's columns are given back as soon as all of them are one.
    address, file, kind, section, adjoins, end, label = (
        np.concatenate(columns.pop(0)) for _ in range(len(columns))
    )
    if not len(address):
        return Marks(address, file, kind, file, adjoins, adjoins, end)

    # By address; at one address by file, and a section before its first symbol.
    order = np.lexsort((~section, file, address))
    address, file, kind = address[order], file[order], kind[order]
    section, adjoins = section[order], adjoins[order]
    gap = np.searchsorted(np.array([r.start for r in known], np.uint64), address, "right")

    known_kind = ~section & (kind != UNKNOWN)
    near = near_the_mark_before(files, address, file)

    begins = section & (on_fresh_pages(address, file, adjoins) | ~near)
    # In an allocation that holds all of a module, the kernel's lookup knows the end of the
    # text, and not the ends of the other parts.
    begins &= ~adjoins | ~near | after_text(file, kind, known_kind)
    begins |= doubtful_labels(address, file, kind, known_kind, label[order] & ~near)

    kind = fill_kinds(file, kind, section, begins)
    kind = one_kind_an_address(address, file, kind, known_kind)

    begins &= ~adjoins
    adjoins |= np.append((near & ~begins)[1:], False)
    return Marks(address, file, kind, gap, begins, adjoins, end[order])


def _marks_of(
    file: RegionInput, known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> _FileMarks:
    """Return the marks of one linker file, in the order of its sections and symbols."""
    if file.id == KERNEL_ID:
        address, kind, adjoins = _kernel_symbols(file, known, image, named_to)
        label = np.zeros(len(address), np.bool_)
    else:
        address, kind, label = file.address, LETTER_KIND[file.letter], file.letter == 0
        adjoins = np.full(len(address), file.in_one_allocation)

    count = len(file.sections.starts)
    return _FileMarks(
        address=np.concatenate([np.array(file.sections.starts, np.uint64), address]),
        file=np.full(count + len(address), file.id, np.int32),
        kind=np.concatenate([np.array(section_kinds(file.sections), np.int8), kind]),
        section=np.arange(count + len(address)) < count,
        adjoins=np.concatenate([np.full(count, file.in_one_allocation), adjoins]),
        end=np.append(np.array(file.sections.ends, np.uint64), np.zeros_like(address)),
        label=np.append(np.zeros(count, np.bool_), label),
    )


def _kernel_symbols(
    file: RegionInput, known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> tuple[U64, I8, Mask]:
    """Return address, kind and ``adjoins`` of the kernel's symbols outside of known regions.

    A symbol at a known region's end belongs to that region, unless the kernel names the
    addresses after it by that symbol.
    """
    address, letter = file.address, file.letter
    named = address < np.uint64(named_to)
    outside = ~within(address, known, end=True) | (named & ~within(address, known))
    address, kind = address[outside], LETTER_KIND[letter[outside]]

    # A symbol of the linker script between the sections can have any letter, so only the
    # letters of code are evidence; the others count as data.
    ends = np.array([region.end for region in known], np.uint64)
    kind = np.where((kind > TEXT) | np.isin(address, ends), DATA, kind)
    return address, kind, (address >= image[0]) & (address < image[1])
