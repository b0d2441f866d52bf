"""The regions: the ranges of addresses that belong to each linker file, by kind.

There are three kinds of evidence, the strongest first: the kernel's own boundaries (boundary
symbols and /proc/iomem), the starts of modules' sections in sysfs, and the letters of the
symbols. The boundaries give *known* regions. Each symbol outside of them, and each start of a
section, is a *mark*. The marks of all files are sorted by address, and a run of marks of one
file and one kind is a region, so no region extends into another file's::

    mark      0x1000   0x1100   0x1200   0x4000   0x4080   0x6000
    file      alpha    alpha    alpha    alpha    alpha    beta
    kind      text     text     text     data     data     text
    region    [alpha].text               [alpha].data      [beta].text

A module's memory is one allocation before Linux 6.4 (ac3b43283923, "module: replace
module_layout with module_memory"), and one for each kind since. The kernel names an address by
the last symbol before it in the same allocation (kernel/module/kallsyms.c,
find_kallsyms_symbol), whatever sections lie between. So a module's region ends at the end of
its allocation, or at the start of a symbol of another kind.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .files import KERNEL_ID, Region
from .modules import PSEUDO, Module, Sections

if TYPE_CHECKING:
    from .files import Kind

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

PAGE: Final = 4096
TOP: Final = (1 << 64) - 1
REACH: Final = 1 << 16
"""The distance in bytes to the next mark from which on a new region starts.

It is not used for marks that are known to be in one allocation.
"""

# Name, kind, first symbol and end symbol: include/asm-generic/vmlinux.lds.h, and
# arch/x86/kernel/vmlinux.lds.S for .brk and .init.scratch.
_BOUNDARIES: Final[tuple[tuple[str, Kind, str, str], ...]] = (
    (".head.text", "text", "_text", "_stext"),
    (".text", "text", "_stext", "_etext"),
    (".rodata", "rodata", "__start_rodata", "__end_rodata"),
    (".data", "data", "_sdata", "_edata"),
    (".init.text", "text", "_sinittext", "_einittext"),
    (".bss", "bss", "__bss_start", "__bss_stop"),
    (".brk", "bss", "__brk_base", "__brk_limit"),
    (".init.scratch", "data", "__init_scratch_begin", "__init_scratch_end"),
)
LANDMARKS: Final = frozenset(
    {symbol for _, _, *ends in _BOUNDARIES for symbol in ends}
    | {"__init_begin", "__init_end", "_end", "__per_cpu_start", "__per_cpu_end"}
)
"""The names of the kernel's symbols whose addresses this file needs."""

_KINDS: Final[tuple[Kind, ...]] = ("text", "rodata", "data", "bss")
_UNKNOWN: Final = -1
_TEXT: Final = 0
_RODATA: Final = 1
_DATA: Final = 2


def _letters() -> npt.NDArray[np.int8]:
    # A module's letters are from kernel/module/kallsyms.c, elf_type; the kernel's from nm.
    table = np.full(256, _UNKNOWN, np.int8)
    for code, letters in enumerate(("tT", "rRnN", "dDgGV", "bBsS")):
        for letter in letters:
            table[ord(letter)] = code
    return table


LETTER_KIND: Final = _letters()

# The kind of a module's section by its name, for sections without symbols. Each such name is
# used by one macro, with fixed flags (scripts/module.lds.S, include/linux).
_NAME_KIND: Final[tuple[tuple[str, int], ...]] = (
    (".data", 2),
    (".bss", 3),
    (".sbss", 3),
    (".rodata", 1),
    (".note", 1),
    (".ARM.ex", 1),
    (".orc_", 1),
    ("__ksymtab", 1),
    ("__kcrctab", 1),
    ("__ex_table", 1),
    (".gnu.linkonce.this_module", 2),
    (".altinstr_replacement", 0),
)


class Owner(NamedTuple):
    """A linker file, with the evidence for its regions.

    - ``address`` (uint64), ``letter`` (uint8): those of its symbols that have an address
    - ``sections``: a module's sections in sysfs
    - ``module``: its line of /proc/modules
    - ``copied``: the size in bytes of the kernel's copy of the module's symbol table, which
      lies after the module's data
    - ``apart``: True if this kernel allocates a module's code and data separately
    - ``guarded``: True if this kernel leaves a page unmapped after each allocation of a module
    """

    id: int
    name: str
    address: U64
    letter: U8
    sections: Sections = Sections((), ())
    module: Module | None = None
    copied: int = 0
    apart: bool = False
    guarded: bool = False


class _Marks(NamedTuple):
    """The marks of all linker files, sorted by address, one item each.

    - ``file``: the id of its linker file
    - ``kind``: an index into _KINDS
    - ``gap``: the number of known regions that start at or below the mark
    - ``begins``: True if an allocation of the file starts at the mark
    - ``adjoins``: True if the file's next mark is in the same allocation
    - ``end``: the end of the section that starts at the mark, 0 if it is not known
    """

    address: U64
    file: I32
    kind: npt.NDArray[np.int8]
    gap: Index
    begins: Mask
    adjoins: Mask
    end: U64


def known_regions(
    landmarks: dict[str, int], iomem: dict[str, tuple[int, int]]
) -> tuple[Region, ...]:
    """Return the kernel's regions by its own boundaries, sorted, without overlaps.

    ``iomem`` is used for a region whose two boundary symbols are not in kallsyms (no
    CONFIG_KALLSYMS_ALL). A pair of boundaries with nothing between them gives no region.
    """
    found = []
    for name, kind, first, last in _BOUNDARIES:
        if first in landmarks and last in landmarks:
            start, end, source = landmarks[first], landmarks[last], "boundary symbols"
        elif name[1:] in iomem:
            (start, end), source = iomem[name[1:]], "iomem"
        else:
            continue
        found.append(Region(name, start, end, kind, False, source))
    found.sort(key=lambda r: (r.start, r.end))
    regions: list[Region] = []
    for region in found:
        start = max(region.start, regions[-1].end) if regions else region.start
        if start < region.end:
            regions.append(region._replace(start=start))
    return tuple(regions)


def inferred_regions(
    owners: list[Owner],
    known: tuple[Region, ...],
    landmarks: dict[str, int],
    named_to: int = 0,
) -> dict[int, tuple[Region, ...]]:
    """Return the regions that the boundaries do not give, by file id, sorted by address.

    With these, each symbol of ``owners`` lies in a known region of the kernel or in a region of
    its own file, or at the end of one.

    Args:
        owners: the linker files.
        known: the result of :func:`known_regions`.
        landmarks: addresses of the kernel's own symbols by name.
        named_to: the address up to which the kernel names the addresses between known regions,
            each by the symbol before it; 0 if it does not.
    """
    image = (known[0].start, max(known[-1].end, landmarks.get("_end", 0))) if known else (0, 0)
    marks = _marks(owners, known, image, named_to)
    if not len(marks.address):
        return {}

    fresh = np.ones(len(marks.address), np.bool_)
    fresh[1:] = (
        (marks.file[1:] != marks.file[:-1])
        | (marks.kind[1:] != marks.kind[:-1])
        | (marks.gap[1:] != marks.gap[:-1])
        | marks.begins[1:]
        | (~marks.adjoins[:-1] & (np.diff(marks.address) >= REACH))
    )
    # An address that a known region claims too gets a region of length 0.
    inside = within(marks.address, known)
    fresh[1:] |= (inside[1:] | inside[:-1]) & (np.diff(marks.address) > 0)

    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(fresh)) - 1

    by_id = {owner.id: owner for owner in owners}
    named: dict[int, Counter[str]] = {owner.id: Counter() for owner in owners}
    named[KERNEL_ID].update(region.name for region in known)
    pieces: dict[int, list[_Piece]] = {owner.id: [] for owner in owners}
    for a, z in zip(first.tolist(), last.tolist()):
        owner = by_id[int(marks.file[a])]
        piece = _run(marks, a, z, owner, known, landmarks, image[1])
        count = named[owner.id][piece.region.name] = named[owner.id][piece.region.name] + 1
        if count > 1:
            region = piece.region._replace(name=f"{piece.region.name}.{count}")
            piece = piece._replace(region=region)
        pieces[owner.id].append(piece)
    return {number: _settled(found, by_id[number]) for number, found in pieces.items()}


class _Piece(NamedTuple):
    """A region; ``most`` is its highest possible end.

    ``last`` is True if it is the last region of its allocation.
    """

    region: Region
    most: int
    last: bool


def _run(
    marks: _Marks,
    a: int,
    z: int,
    owner: Owner,
    known: tuple[Region, ...],
    landmarks: dict[str, int],
    image_end: int,
) -> _Piece:
    """Return the region of the marks ``a`` to ``z``, which overlaps no known region.

    Its end is the first of these that applies, but never past the next mark or known region:

    1. ``_end``, if that is the last mark: nothing of the kernel's follows
    2. the end of a section, from the module's debug file
    3. for a kernel's or a module's one allocation: the file's next mark, or its own end
    4. for data and bss: the end of the page that the copy of the symbol table ends on
    5. the end of the page that holds the last mark
    """
    # The region may not reach past the next known region or the next mark.
    gap = int(marks.gap[a])
    barrier = known[gap].start if gap < len(known) else TOP
    if gap and int(marks.address[a]) < known[gap - 1].end:
        barrier = int(marks.address[a])
    start, final = int(marks.address[a]), int(marks.address[z])
    follower = int(marks.address[z + 1]) if z + 1 < len(marks.address) else barrier
    limit = min(barrier, follower)

    told = int(marks.end[a : z + 1].max())
    kind = _KINDS[marks.kind[a]]
    goes_on, end, inferred = False, page_end(final), True
    if owner.id == KERNEL_ID and final == landmarks.get("_end"):
        end, inferred = final, False  # nothing of the kernel's follows _end
    elif told > final:
        end, inferred = told, False
    elif marks.adjoins[z]:
        same = z + 1 < len(marks.file) and marks.file[z + 1] == marks.file[z]
        module = owner.module
        if same and marks.gap[z + 1] == marks.gap[z]:
            goes_on, end, inferred = True, follower, False
        elif owner.id == KERNEL_ID:
            end, inferred = min(limit, image_end), False
        elif module is not None:
            end, inferred = module.address + module.size, False
    elif kind in ("data", "bss"):
        end = page_end(final + owner.copied)

    if end > limit:
        end, inferred = limit, True

    if owner.id == KERNEL_ID:
        init = landmarks.get("__init_begin", 1) <= start < landmarks.get("__init_end", 0)
        name = f".init.{kind}" if init else f".gap.{kind}"
    else:
        name = f"[{owner.name}].{kind}"
    source = "sysfs" if owner.sections.starts else "letters"
    region = Region(name, start, max(start, end), kind, inferred, source)
    return _Piece(region, limit, not goes_on)


def _settled(pieces: list[_Piece], owner: Owner) -> tuple[Region, ...]:
    """Return the regions, with the ends that follow from the sum of a module's allocations.

    Since Linux 6.4 the size in /proc/modules is the sum of all allocations, each of whole
    pages. If the regions' pages already add up to it, all inferred ends are exact. If they do
    not, and only one allocation has room to be longer, that one gets the rest::

        size in /proc/modules    6 pages
        text  2 pages + data 1 page + rodata 2 pages = 5 pages
        room after text 0, after data 0, after rodata 3: so rodata is 3 pages long

    An allocation by vmalloc() has an unmapped page after it (mm/vmalloc.c,
    __get_vm_area_node), so the room ends before that page. Since Linux kernel commit
    2e45474ab14f ("execmem: add support for cache of large ROX pages") (in v6.13) code can come
    from a cache of large pages, which hands out pieces side by side (mm/execmem.c,
    __execmem_cache_alloc). Then the page before the next mark can belong to the allocation.
    """
    regions = [piece.region for piece in pieces]
    module = owner.module
    open_ = [n for n, piece in enumerate(pieces) if piece.last and piece.region.inferred]
    if module is None or module.state != "Live" or not owner.sections.starts or not open_:
        return tuple(regions)
    if any(owner.sections.ends):  # the ends are those of the module's debug file
        return tuple(regions)

    length, start = 0, None
    for region, _, last in pieces:
        start = region.start if start is None else start
        if last:
            length += page_end(max(region.end - 1, start)) - start // PAGE * PAGE
            start = None

    left = module.size - length
    guard = PAGE if owner.guarded else 0
    room = {n: pieces[n].most // PAGE * PAGE - guard - regions[n].end for n in open_}

    longer = [n for n in open_ if room[n] > 0]
    if left == 0 or (left > 0 and len(longer) == 1 and room[longer[0]] >= left):
        for n in open_:
            more = left if n in longer else 0
            if not regions[n].end % PAGE:
                regions[n] = regions[n]._replace(end=regions[n].end + more, inferred=False)
    return tuple(regions)


class _Own(NamedTuple):
    """The marks of one linker file's symbols; ``adjoins`` is that of :class:`_Marks`.

    ``label`` is True if the symbol is a label, which is no evidence of the memory's kind.
    """

    address: U64
    kind: npt.NDArray[np.int8]
    adjoins: Mask
    label: Mask


def _own(
    owner: Owner, known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> _Own:
    """Return the marks of the symbols of ``owner``.

    The kernel's own symbols in a known region are left out.
    """
    address, letter = owner.address, owner.letter
    if owner.id != KERNEL_ID:
        adjoins = np.full(len(address), _one_allocation(owner))
        return _Own(address, LETTER_KIND[letter], adjoins, letter == 0)
    # A symbol at a known region's end belongs to that region, unless the kernel names the
    # addresses after it by that symbol.
    between = address < np.uint64(named_to)
    out = ~within(address, known, end=True) | (between & ~within(address, known))
    address, kind = address[out], LETTER_KIND[letter[out]]

    # A symbol of the linker script between the sections can have any letter, so only the
    # letters of code are evidence; the others count as data.
    ends = np.array([region.end for region in known], np.uint64)
    kind = np.where((kind > 0) | np.isin(address, ends), _DATA, kind)
    adjoins = (address >= image[0]) & (address < image[1])
    return _Own(address, kind, adjoins, np.zeros(len(address), np.bool_))


def _marks(
    owners: list[Owner], known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> _Marks:
    """Return the marks of all linker files: the starts of sections, and the symbols.

    Args:
        owners: the linker files.
        known: the result of :func:`known_regions`.
        image: the range of the kernel's image, [start, end).
        named_to: as for :func:`inferred_regions`.
    """
    parts: list[tuple[U64, I32, npt.NDArray[np.int8], Mask, Mask, U64, Mask]] = []
    for owner in owners:
        address, kind, adjoins, label = _own(owner, known, image, named_to)
        count = len(owner.sections.starts)
        parts.append(
            (
                np.concatenate([np.array(owner.sections.starts, np.uint64), address]),
                np.full(count + len(address), owner.id, np.int32),
                np.concatenate([np.array(_by_name(owner.sections), np.int8), kind]),
                np.arange(count + len(address)) < count,
                np.concatenate([np.full(count, _one_allocation(owner)), adjoins]),
                np.append(np.array(owner.sections.ends, np.uint64), np.zeros_like(address)),
                np.append(np.zeros(count, np.bool_), label),
            )
        )

    columns = list(zip(*parts))
    parts.clear()
    address, file, kind, section, adjoins, end, label = (
        np.concatenate(columns.pop(0)) for _ in range(len(columns))
    )
    if not len(address):
        return _Marks(address, file, kind, file, adjoins, adjoins, end)

    order = np.lexsort((~section, file, address))
    address, file, kind = address[order], file[order], kind[order]
    section, adjoins = section[order], adjoins[order]
    gap = np.searchsorted(np.array([r.start for r in known], np.uint64), address, "right")

    told = ~section & (kind != _UNKNOWN)
    near = _near(owners, address, file)

    begins = section & (_begin_pages(address, file, adjoins) | ~near)
    # Of an allocation that holds all of a module, the kernel's lookup knows the end of the
    # text, and not the ends of the other parts.
    begins &= ~adjoins | ~near | _behind_text(file, kind, told)
    begins |= _doubtful(address, file, kind, told, label[order] & ~near)

    kind = _resolve(address, file, kind, section, begins)
    kind = _one_kind_an_address(address, file, kind, told)
    begins &= ~adjoins
    adjoins |= np.append((near & ~begins)[1:], False)
    return _Marks(address, file, kind, gap, begins, adjoins, end[order])


def _near(owners: list[Owner], address: U64, file: I32) -> Mask:
    """Return a mask of the marks close enough to the mark before to be in one allocation.

    The mark before must be of the same file, a module with sections in sysfs, and nearer than
    the module's size, or than REACH if that is not known.
    """
    reach = np.zeros(max(owner.id for owner in owners) + 1, np.uint64)
    for owner in owners:
        if owner.sections.starts:
            reach[owner.id] = owner.module.size if owner.module else REACH
    return np.append(False, (file[1:] == file[:-1]) & (np.diff(address) < reach[file[1:]]))


def _behind_text(file: I32, kind: npt.NDArray[np.int8], told: Mask) -> Mask:
    """Return a mask of the marks before which their file's last known kind is code.

    ``told`` is a mask of the marks whose kind is known from a symbol.
    """
    before = _before(np.flatnonzero(told), np.arange(len(kind)))
    return np.asarray((before >= 0) & (file[before] == file) & (kind[before] == _TEXT))


def _begin_pages(address: U64, file: I32, adjoins: Mask) -> Mask:
    """Return a mask of the marks at which a new allocation of their file can start.

    They are at the start of a page, and their file has no mark on the page before: after each
    allocation follows a page that is never mapped (mm/vmalloc.c, VM_NO_GUARD is not set). For
    a module in one allocation (``adjoins``) the start of any page counts, since it can be the
    end of the text.
    """
    begins: Mask = address % np.uint64(PAGE) == 0
    page = address // np.uint64(PAGE)
    apart = np.ones(len(address), np.bool_)
    apart[1:] = (file[1:] != file[:-1]) | (page[1:] - page[:-1] >= 2) | adjoins[1:]
    return begins & apart


def _doubtful(
    address: U64, file: I32, kind: npt.NDArray[np.int8], told: Mask, label: Mask
) -> Mask:
    """Return a mask of the labels that can be in another allocation than the mark before.

    They are on another page than it, and their file's next known kind is another, or there is
    none: a label of a string in read-only data (``.LC0``) is no evidence that the data before
    it continues there.
    """
    found = np.zeros(len(kind), np.bool_)
    at, known = np.flatnonzero(label), np.flatnonzero(told)
    if not len(at) or not len(known):
        return found
    before, after = _before(known, at), _after(known, at, len(kind))
    behind = (before >= 0) & (file[before] == file[at])
    after = np.minimum(after, len(kind) - 1)
    goes_on = told[after] & (file[after] == file[at]) & (kind[after] == kind[before])
    other_page = address[at] // np.uint64(PAGE) != address[at - 1] // np.uint64(PAGE)
    found[at[behind & ~goes_on & other_page]] = True
    return found


def _resolve(
    address: U64, file: I32, kind: npt.NDArray[np.int8], section: Mask, begins: Mask
) -> npt.NDArray[np.int8]:
    """Return the kind of each mark.

    - A symbol's is its own, if it is known.
    - A mark that starts an allocation has the kind of the first symbol in it.
    - Other sections, and symbols of unknown kind, have that of the mark before them, so that no
      region ends before a symbol of it does.
    """
    kind = kind.copy()
    files = np.flatnonzero(file[1:] != file[:-1]) + 1

    at = np.flatnonzero(begins)
    symbol = _after(np.flatnonzero(~section & (kind != _UNKNOWN)), at, len(kind))
    end = np.minimum(_after(at, at, len(kind)), _after(files, at, len(kind)))
    inside = symbol < end
    kind[at[inside]] = kind[symbol[inside]]

    first = np.append(True, file[1:] != file[:-1])
    kind[section & ~begins & ~first] = _UNKNOWN
    kind[begins & ~first & (kind == _UNKNOWN)] = _RODATA

    at, known = np.flatnonzero(kind == _UNKNOWN), np.flatnonzero(kind != _UNKNOWN)
    before, after = _before(known, at), _after(known, at, len(kind))
    has_before = (before >= 0) & (before >= _before(files, at))
    has_after = after < _after(files, at, len(kind))
    # If there is no mark before or after, these are other marks' kinds, and are not used.
    before_kind, after_kind = kind[before], kind[np.minimum(after, len(kind) - 1)]
    chosen = np.where(has_before, before_kind, after_kind)
    kind[at] = np.where(has_before | has_after, chosen, _DATA)
    return kind


def _after(ascending: Index, at: Index, end: int) -> Index:
    """Return the first of ``ascending`` above each of ``at``; ``end`` if there is none."""
    after = np.searchsorted(ascending, at, "right")
    found: Index = np.append(ascending, end)[after]
    return found


def _before(ascending: Index, at: Index) -> Index:
    """Return the last of ``ascending`` at or below each of ``at``; -1 if there is none."""
    before = np.searchsorted(ascending, at, "right")
    found: Index = np.append(-1, ascending)[before]
    return found


def _one_kind_an_address(
    address: U64, file: I32, kind: npt.NDArray[np.int8], told: Mask
) -> npt.NDArray[np.int8]:
    """Return the kinds, with one kind for all marks of one file at one address.

    It is text if a symbol there is text, else the kind of the first symbol whose kind is known
    (``told``), else that of the first mark.
    """
    new = np.append(True, (address[1:] != address[:-1]) | (file[1:] != file[:-1]))
    firsts, group = np.flatnonzero(new), np.cumsum(new) - 1
    if len(firsts) == len(kind):
        return kind
    chosen: npt.NDArray[np.int8] = kind[np.lexsort((~told, group))[firsts]]
    chosen[np.logical_or.reduceat(told & (kind == _TEXT), firsts)] = _TEXT
    return chosen.take(group)


def _by_name(sections: Sections) -> list[int]:
    """Return the kind of each section by its name; _UNKNOWN if the name is no evidence."""
    named = ((k for prefix, k in _NAME_KIND if n.startswith(prefix)) for n in sections.names)
    return [
        next(kinds, _TEXT if "text" in name else _UNKNOWN)
        for kinds, name in zip(named, sections.names)
    ]


def unplaced(owner: Owner) -> int:
    """Return the number of a module's symbols that lie in none of its sections in sysfs."""
    if owner.id == KERNEL_ID or owner.name in PSEUDO or not len(owner.address):
        return 0
    starts = np.array(owner.sections.starts, np.uint64)
    ends = np.array([0, *(end or (1 << 64) - 1 for end in owner.sections.ends)], np.uint64)
    place = np.searchsorted(starts, owner.address, "right")
    return int((owner.address > ends[place]).sum())


def _one_allocation(owner: Owner) -> bool:
    """Return True if all of a module is in one allocation.

    So it was before Linux 6.4 (ac3b43283923, "module: replace module_layout with
    module_memory").
    """
    if owner.module is None or not owner.module.address or not owner.sections.starts:
        return False
    if owner.apart:
        return False
    low, high = owner.module.address, owner.module.address + owner.module.size
    placed = (owner.address >= low) & (owner.address < high)
    return all(low <= s < high for s in owner.sections.starts) and bool(placed.all())


def within(address: U64, regions: tuple[Region, ...], end: bool = False) -> Mask:
    """Return a mask of the addresses that lie in a region, or at its end if ``end`` is True."""
    inside = np.zeros(len(address), np.bool_)
    if (address[1:] >= address[:-1]).all():  # true of the kernel's own symbols in its texts
        bounds = np.array([(r.start, r.end) for r in regions], np.uint64).reshape(-1, 2)
        first = np.searchsorted(address, bounds[:, 0])
        behind = np.searchsorted(address, bounds[:, 1], "right" if end else "left")
        for one, other in zip(first.tolist(), behind.tolist()):
            inside[one:other] = True
        return inside
    for region in regions:
        below = address <= region.end if end else address < region.end
        inside |= (address >= region.start) & below
    return inside


def page_end(address: int) -> int:
    """Return the end of the page that holds ``address``."""
    return (address // PAGE + 1) * PAGE
