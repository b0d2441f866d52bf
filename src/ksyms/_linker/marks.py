"""The marks: addresses of which the linker file, and mostly the kind of memory, is known.

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
    """The marks of all linker files, sorted by address.

    Each array has one item for each mark:

    - ``address``: its address
    - ``file``: the id of its linker file
    - ``kind``: an index into :data:`~.kinds.KINDS`
    - ``gap``: the number of known regions that start at or below the mark, which is the same
      for all marks between two of them
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
    """The marks of one linker file, first the sections and then the symbols.

    ``section`` is True for the start of a section. ``label`` is True for a label, which is no
    evidence of the memory's kind. The other fields are those of :class:`Marks`.
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
    # pop() frees the files' arrays of each field as soon as these are joined.
    address, file, kind, section, adjoins, end, label = (
        np.concatenate(columns.pop(0)) for _ in range(len(columns))
    )
    if not len(address):
        return Marks(address, file, kind, file, adjoins, adjoins, end)

    # Sort by address, then by file; a section comes before a symbol at its start.
    order = np.lexsort((~section, file, address))
    address, file, kind = address[order], file[order], kind[order]
    section, adjoins = section[order], adjoins[order]
    gap = np.searchsorted(np.array([r.start for r in known], np.uint64), address, "right")

    known_kind = ~section & (kind != UNKNOWN)
    near = near_the_mark_before(files, address, file)

    # The marks at which an allocation starts: sections, and labels that may be in another one.
    begins = section & (on_fresh_pages(address, file, adjoins) | ~near)
    # In a module's one allocation the kernel's lookup knows the end of the text, and no others.
    # So there only a section after the text is taken for a start.
    begins &= ~adjoins | ~near | after_text(file, kind, known_kind)
    begins |= doubtful_labels(address, file, kind, known_kind, label[order] & ~near)

    kind = fill_kinds(file, kind, section, begins)
    kind = one_kind_an_address(address, file, kind, known_kind)

    # Marks in one allocation adjoin, and so do marks near to each other, unless one starts.
    begins &= ~adjoins
    adjoins |= np.append((near & ~begins)[1:], False)
    return Marks(address, file, kind, gap, begins, adjoins, end[order])


def _marks_of(
    file: RegionInput, known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> _FileMarks:
    """Return the marks of one linker file. The arguments are those of :func:`find_marks`."""
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
    """Return the address, the kind and ``adjoins`` of each of the kernel's marks.

    They are the symbols outside of the known regions. A symbol at the end of a known region
    belongs to that region, unless the kernel names the addresses after it by this symbol. The
    arguments are those of :func:`find_marks`.
    """
    address, letter = file.address, file.letter
    named = address < np.uint64(named_to)
    outside = ~within(address, known, end=True) | (named & ~within(address, known))
    address, kind = address[outside], LETTER_KIND[letter[outside]]

    # Symbols of the linker script between sections can have any letter. So only letters of code
    # are evidence, and all other symbols are taken to be data.
    ends = np.array([region.end for region in known], np.uint64)
    kind = np.where((kind > TEXT) | np.isin(address, ends), DATA, kind)
    return address, kind, (address >= image[0]) & (address < image[1])
