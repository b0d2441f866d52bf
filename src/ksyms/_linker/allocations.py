"""The starts and the sizes of modules' allocations.

A module's memory was one allocation before Linux kernel commit ac3b43283923 ("module: replace
module_layout with module_memory") (in v6.4). Since then it is one allocation for each kind:
code, data, read-only data. The kernel names an address by the last symbol before it in the same
allocation, even if other sections lie between (kernel/module/kallsyms.c, find_kallsyms_symbol).
"""

from __future__ import annotations

import numpy as np

from .._arrays import I8, I32, U64, Mask
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .addresses import PAGE, page_end, page_start
from .files import Region
from .kinds import TEXT, first_after, last_before

if TYPE_CHECKING:
    from .region_input import RegionInput

REACH: Final = 1 << 16
"""A new region starts at a mark that is this many bytes or more after the mark before.

This does not apply to marks that are known to be in one allocation.
"""


def near_the_mark_before(files: list[RegionInput], address: U64, file: I32) -> Mask:
    """Return a mask of the marks that can be in one allocation with the mark before.

    Both must be of the same file, a module with sections in sysfs, and their distance less than
    the module's size, or than REACH if the size is not known.
    """
    reach = np.zeros(max(one.id for one in files) + 1, np.uint64)
    for one in files:
        if one.sections.starts:
            reach[one.id] = one.module.size if one.module else REACH
    return np.append(False, (file[1:] == file[:-1]) & (np.diff(address) < reach[file[1:]]))


def after_text(file: I32, kind: I8, known: Mask) -> Mask:
    """Return a mask of the marks at or before which the last known kind of their file is code.

    ``known`` is a mask of the marks whose kind is known from a symbol.
    """
    before = last_before(np.flatnonzero(known), np.arange(len(kind)))
    return np.asarray((before >= 0) & (file[before] == file) & (kind[before] == TEXT))


def on_fresh_pages(address: U64, file: I32, in_one: Mask) -> Mask:
    """Return a mask of the marks at which a new allocation of their file can start.

    They are at the start of a page, and their file has no mark on the page before: an
    allocation by vmalloc() has an unmapped page after it (mm/vmalloc.c; VM_NO_GUARD is not
    set). In a module's one allocation (``in_one``) the start of any page counts, since the text
    can end there.
    """
    begins: Mask = address % np.uint64(PAGE) == 0
    page = address // np.uint64(PAGE)
    apart = np.ones(len(address), np.bool_)
    apart[1:] = (file[1:] != file[:-1]) | (page[1:] - page[:-1] >= 2) | in_one[1:]
    return begins & apart


def doubtful_labels(address: U64, file: I32, kind: I8, known: Mask, label: Mask) -> Mask:
    """Return a mask of the labels that may be in another allocation than the mark before.

    They are on another page than that mark, and the next known kind in their file is another
    kind, or there is none. So a label of a string in read-only data (``.LC0``) is no evidence
    that the data before it goes on up to there::

        0x1000  d counters     data
        0x3000    .LC0         a label: in doubt, since no data follows
        0x3040  r table        rodata

    Args:
        address: the marks, sorted.
        file: the linker file's id of each mark.
        kind: the kind of each mark.
        known: a mask of the marks whose kind is known from a symbol.
        label: a mask of the labels to look at.
    """
    found = np.zeros(len(kind), np.bool_)
    at, known_at = np.flatnonzero(label), np.flatnonzero(known)
    if not len(at) or not len(known_at):
        return found

    before, after = last_before(known_at, at), first_after(known_at, at, len(kind))
    follows = (before >= 0) & (file[before] == file[at])
    after = np.minimum(after, len(kind) - 1)
    goes_on = known[after] & (file[after] == file[at]) & (kind[after] == kind[before])
    other_page = address[at] // np.uint64(PAGE) != address[at - 1] // np.uint64(PAGE)
    found[at[follows & ~goes_on & other_page]] = True
    return found


class RegionRoom(NamedTuple):
    """A region, with the highest address at which it can end (``limit``).

    ``last`` is True if it is the last region of its allocation.
    """

    region: Region
    limit: int
    last: bool


def settle_ends(rooms: list[RegionRoom], file: RegionInput) -> tuple[Region, ...]:
    """Return the regions, with the ends that follow from the sum of a module's allocations.

    Since Linux 6.4 the size in /proc/modules is the sum of all allocations, each of whole
    pages. If the regions' pages already add up to it, all inferred ends are exact. If they do
    not, and only one allocation has room to be longer, that one gets the rest::

        size in /proc/modules    6 pages
        text  2 pages + data 1 page + rodata 2 pages = 5 pages
        room after text 0, after data 0, after rodata 3: so rodata is 3 pages long

    The room after an allocation by vmalloc() ends a page before the next mark, since the page
    in between is unmapped (mm/vmalloc.c, __get_vm_area_node). Since Linux kernel commit
    2e45474ab14f ("execmem: add support for cache of large ROX pages") (in v6.13) code can come
    from a cache of large pages, whose parts lie side by side (mm/execmem.c,
    __execmem_cache_alloc). Then that page can belong to the allocation.

    Args:
        rooms: the regions of a file, sorted by address.
        file: the file.
    """
    regions = [room.region for room in rooms]
    module = file.module
    open_ends = [n for n, room in enumerate(rooms) if room.last and room.region.inferred]
    if module is None or module.state != "Live" or not file.sections.starts or not open_ends:
        return tuple(regions)
    if any(file.sections.ends):  # the ends are those of the module's debug file
        return tuple(regions)

    # The bytes that the regions' pages do not account for, and the room after each open end.
    left = module.size - _pages_of(rooms)
    guard = PAGE if file.guarded else 0
    more = {n: page_start(rooms[n].limit) - guard - regions[n].end for n in open_ends}
    longer = [n for n in open_ends if more[n] > 0]

    if left == 0 or (left > 0 and len(longer) == 1 and more[longer[0]] >= left):
        for n in open_ends:
            added = left if n in longer else 0
            if not regions[n].end % PAGE:
                regions[n] = regions[n]._replace(end=regions[n].end + added, inferred=False)
    return tuple(regions)


def _pages_of(rooms: list[RegionRoom]) -> int:
    """Return the total size in bytes of the pages on which the allocations lie."""
    length, start = 0, None
    for region, _, last in rooms:
        start = region.start if start is None else start
        if last:
            length += page_end(max(region.end - 1, start)) - page_start(start)
            start = None
    return length
