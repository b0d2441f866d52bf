"""The regions: the ranges of addresses that belong to each linker file, by kind.

There are three kinds of evidence, the strongest first: the kernel's own boundaries
(``boundaries.py``), the starts of modules' sections in sysfs, and the letters of the symbols.
The boundaries give the *known* regions. Each symbol outside of them is a *mark*, and so is each
start of a section (``marks.py``). The marks of all files are sorted by address. A run of marks
of one file and one kind is a region, so no region extends into another file's::

    mark      0x1000   0x1100   0x1200   0x4000   0x4080   0x6000
    file      alpha    alpha    alpha    alpha    alpha    beta
    kind      text     text     text     data     data     text
    region    [alpha].text               [alpha].data      [beta].text

A module's region ends with its allocation (``allocations.py``), or where a symbol of another
kind starts.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .._typing import TYPE_CHECKING
from .addresses import LAST_ADDRESS, page_end, within
from .allocations import REACH, RegionRoom, settle_ends
from .files import KERNEL_ID, Region
from .kinds import KINDS
from .marks import Marks, find_marks

if TYPE_CHECKING:
    from .._arrays import Mask
    from .files import Kind
    from .region_input import RegionInput


def inferred_regions(
    files: list[RegionInput],
    known: tuple[Region, ...],
    landmarks: dict[str, int],
    named_to: int = 0,
) -> dict[int, tuple[Region, ...]]:
    """Return the regions that are not known but inferred, by file id, sorted by address.

    After this, each symbol of ``files`` lies in a known region of the kernel, or in a region of
    its own file, or at the end of one.

    Args:
        files: the linker files.
        known: the result of :func:`~.boundaries.known_regions`.
        landmarks: addresses of the kernel's own symbols by name.
        named_to: the address up to which the kernel also names the addresses between known
            regions, each by the symbol before it; 0 if it does not name these.
    """
    image = (known[0].start, max(known[-1].end, landmarks.get("_end", 0))) if known else (0, 0)
    marks = find_marks(files, known, image, named_to)
    if not len(marks.address):
        return {}

    # The first and the last mark of each region.
    starts = _starts_region(marks, known)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(starts)) - 1

    # The second region of one name in a file gets the suffix .2, and so on.
    by_id = {file.id: file for file in files}
    names: dict[int, Counter[str]] = {file.id: Counter() for file in files}
    names[KERNEL_ID].update(region.name for region in known)
    rooms: dict[int, list[RegionRoom]] = {file.id: [] for file in files}
    for one, other in zip(first.tolist(), last.tolist()):
        file = by_id[int(marks.file[one])]
        room = _run_to_region(marks, one, other, file, known, landmarks, image[1])
        count = names[file.id][room.region.name] = names[file.id][room.region.name] + 1
        if count > 1:
            name = f"{room.region.name}.{count}"
            room = room._replace(region=room.region._replace(name=name))
        rooms[file.id].append(room)
    return {number: settle_ends(found, by_id[number]) for number, found in rooms.items()}


def _starts_region(marks: Marks, known: tuple[Region, ...]) -> Mask:
    """Return a mask of the marks at which a new region starts."""
    starts = np.ones(len(marks.address), np.bool_)
    starts[1:] = (
        (marks.file[1:] != marks.file[:-1])
        | (marks.kind[1:] != marks.kind[:-1])
        | (marks.gap[1:] != marks.gap[:-1])
        | marks.begins[1:]
        | (~marks.adjoins[:-1] & (np.diff(marks.address) >= REACH))
    )
    # An address that a known region claims too gets a region of length 0.
    inside = within(marks.address, known)
    starts[1:] |= (inside[1:] | inside[:-1]) & (np.diff(marks.address) > 0)
    return starts


def _run_to_region(
    marks: Marks,
    first: int,
    last: int,
    file: RegionInput,
    known: tuple[Region, ...],
    landmarks: dict[str, int],
    image_end: int,
) -> RegionRoom:
    """Return the region of the marks ``first`` to ``last``, which overlaps no known region.

    Its end is the first of these that applies, but never past the next mark or known region:

    1. ``_end``, if the last mark is this symbol: no memory of the kernel follows it
    2. the end of a section that starts in it, from the module's debug file
    3. if the last mark is in the kernel's image, or in a module's one allocation: the file's
       next mark there, or else the end of the image or of the allocation
    4. for data and bss: the end of the page on which the copy of the symbol table ends
    5. the end of the page of the last mark
    """
    # The limit of its end: the next known region or the next mark.
    gap = int(marks.gap[first])
    barrier = known[gap].start if gap < len(known) else LAST_ADDRESS
    if gap and int(marks.address[first]) < known[gap - 1].end:
        barrier = int(marks.address[first])
    start, final = int(marks.address[first]), int(marks.address[last])
    has_next = last + 1 < len(marks.address)
    next_mark = int(marks.address[last + 1]) if has_next else barrier
    limit = min(barrier, next_mark)

    # Its end, by the rules in their order.
    section_end = int(marks.end[first : last + 1].max())
    kind = KINDS[marks.kind[first]]
    goes_on, end, inferred = False, page_end(final), True
    if file.id == KERNEL_ID and final == landmarks.get("_end"):
        end, inferred = final, False
    elif section_end > final:
        end, inferred = section_end, False
    elif marks.adjoins[last]:
        same_file = has_next and marks.file[last + 1] == marks.file[last]
        if same_file and marks.gap[last + 1] == marks.gap[last]:
            goes_on, end, inferred = True, next_mark, False
        elif file.id == KERNEL_ID:
            end, inferred = min(limit, image_end), False
        elif file.module is not None:
            end, inferred = file.module.address + file.module.size, False
    elif kind in ("data", "bss"):
        end = page_end(final + file.symtab_copy)

    if end > limit:
        end, inferred = limit, True

    name = _name_of(file, start, kind, landmarks)
    source = "sysfs" if file.sections.starts else "letters"
    region = Region(name, start, max(start, end), kind, inferred, source)
    return RegionRoom(region, limit, not goes_on)


def _name_of(file: RegionInput, start: int, kind: Kind, landmarks: dict[str, int]) -> str:
    """Return the name of a region of ``file`` that starts at ``start``, without a number."""
    if file.id != KERNEL_ID:
        return f"[{file.name}].{kind}"
    is_init = landmarks.get("__init_begin", 1) <= start < landmarks.get("__init_end", 0)
    return f".init.{kind}" if is_init else f".gap.{kind}"
