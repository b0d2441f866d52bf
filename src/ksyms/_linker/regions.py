"""Which addresses belong to which linker file, and to which of its sections.

Three kinds of evidence, the strongest first: the kernel's own boundaries (iomem and
boundary symbols), the starts of modules' sections in sysfs, and the letters of the
symbols themselves. What the first explains is a *known* region. All else becomes *marks*,
one a symbol and one a section start, sorted by address; a run of marks of one file and
one kind is a region, so that no region reaches into another file's.

A module's memory is one allocation before Linux 6.4 (ac3b43283923, "module: replace
module_layout with module_memory"), and one for each kind since. The kernel names an address by
the last symbol before it in the same allocation (kernel/module/kallsyms.c,
find_kallsyms_symbol), whatever sections lie between; so a region of a module ends where its
allocation does, or where a symbol of another kind begins.
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
"""Bytes that a mark reaches at most towards the next where nothing says they adjoin."""

# name, kind, first and end symbol. include/asm-generic/vmlinux.lds.h, and
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
"""The kernel's symbols whose addresses this module wants."""

_KINDS: Final[tuple[Kind, ...]] = ("text", "rodata", "data", "bss")
_UNKNOWN: Final = -1
_TEXT: Final = 0
_RODATA: Final = 1
_DATA: Final = 2


def _letters() -> npt.NDArray[np.int8]:
    # kernel/module/kallsyms.c, elf_type; nm's letters for the kernel itself.
    table = np.full(256, _UNKNOWN, np.int8)
    for code, letters in enumerate(("tT", "rRnN", "dDgGV", "bBsS")):
        for letter in letters:
            table[ord(letter)] = code
    return table


LETTER_KIND: Final = _letters()

# What a module's section is by its name, where no symbol in it says so (scripts/module.lds.S
# and include/linux: each is placed by one macro with fixed flags).
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
    """What a linker file brings to its regions.

    ``address`` (uint64) and ``letter`` (uint8) of those of its symbols that are somewhere;
    ``sections`` by sysfs (a module's), ``module`` its line of /proc/modules. ``copied`` is how
    many bytes the kernel's copy of the module's symbol table has, behind the module's data.
    ``apart`` says that this kernel allocates a module's code and data apart.
    """

    id: int
    name: str
    address: U64
    letter: U8
    sections: Sections = Sections((), ())
    module: Module | None = None
    copied: int = 0
    apart: bool = False


class _Marks(NamedTuple):
    """Sorted by address: whose, of what kind, and how each goes with the next.

    ``end`` is where a section ends that begins at the mark, 0 where that is not known.

    ``gap`` is the number of known regions that begin at or below the mark; ``begins`` says that
    an allocation of its file begins at the mark, ``adjoins`` that the mark's allocation holds
    its file's next mark too.
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
    """The kernel's regions by its own boundaries, sorted, none overlapping another.

    iomem is asked where a pair of boundary symbols is not in kallsyms (no
    CONFIG_KALLSYMS_ALL). A pair that bounds nothing gives no region.
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
    """The regions that no boundary gives, by the id of their file, sorted by address.

    Every symbol of ``owners`` lies in a known region of the kernel, in one of its own file's
    regions, or at the end of one. ``named_to`` is the address up to which the kernel names
    what lies between known regions by the symbol before, 0 where it does not.
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
    # A place that a known region has too is a region of no length.
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
    """A region, and how far it can reach at most; ``last`` of its allocation's regions."""

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
    """The region of the marks ``a`` to ``z``; nothing of it lies in a known one."""
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
        end, inferred = final, False  # it marks the end of all that is the kernel's
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
    """Return the regions, with the ends of a module's allocations that their sum tells.

    Since Linux 6.4 /proc/modules has the sum of all allocations, each of whole pages. Where
    what is known of them already adds up to it, all ends are known; where one alone can be
    longer, it is.
    """
    regions = [piece.region for piece in pieces]
    module = owner.module
    open_ = [n for n, piece in enumerate(pieces) if piece.last and piece.region.inferred]
    if module is None or module.state != "Live" or not owner.sections.starts or not open_:
        return tuple(regions)
    if any(owner.sections.ends):  # the module's file told them
        return tuple(regions)
    length, start = 0, None
    for region, _, last in pieces:
        start = region.start if start is None else start
        if last:
            length += page_end(max(region.end - 1, start)) - start // PAGE * PAGE
            start = None
    left = module.size - length
    # Behind an allocation is a page that is nobody's.
    room = {n: (pieces[n].most // PAGE - 1) * PAGE - regions[n].end for n in open_}
    longer = [n for n in open_ if room[n] > 0]
    if left == 0 or (left > 0 and len(longer) == 1 and room[longer[0]] >= left):
        for n in open_:
            more = left if n in longer else 0
            if not regions[n].end % PAGE:
                regions[n] = regions[n]._replace(end=regions[n].end + more, inferred=False)
    return tuple(regions)


class _Own(NamedTuple):
    """The marks of one owner's symbols; ``adjoins`` as in :class:`_Marks`.

    ``label`` says that the mark is a label, which says of no memory what it is.
    """

    address: U64
    kind: npt.NDArray[np.int8]
    adjoins: Mask
    label: Mask


def _own(
    owner: Owner, known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> _Own:
    address, letter = owner.address, owner.letter
    if owner.id != KERNEL_ID:
        adjoins = np.full(len(address), _one_allocation(owner))
        return _Own(address, LETTER_KIND[letter], adjoins, letter == 0)
    # A symbol at a known region's end is that region's, unless it names what follows.
    between = address < np.uint64(named_to)
    out = ~within(address, known, end=True) | (between & ~within(address, known))
    address, kind = address[out], LETTER_KIND[letter[out]]
    # Linker-script symbols between the sections have any letter; code is code.
    ends = np.array([region.end for region in known], np.uint64)
    kind = np.where((kind > 0) | np.isin(address, ends), _DATA, kind)
    adjoins = (address >= image[0]) & (address < image[1])
    return _Own(address, kind, adjoins, np.zeros(len(address), np.bool_))


def _marks(
    owners: list[Owner], known: tuple[Region, ...], image: tuple[int, int], named_to: int
) -> _Marks:
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
    # Of one allocation the kernel knows where the text ends, and no other part.
    begins &= ~adjoins | ~near | _behind_text(file, kind, told)
    begins |= _doubtful(address, file, kind, told, label[order] & ~near)
    kind = _resolve(address, file, kind, section, begins)
    kind = _one_kind_an_address(address, file, kind, told)
    begins &= ~adjoins
    adjoins |= np.append((near & ~begins)[1:], False)
    return _Marks(address, file, kind, gap, begins, adjoins, end[order])


def _near(owners: list[Owner], address: U64, file: I32) -> Mask:
    """Which marks can be in one allocation with their file's mark before, by the distance.

    What sysfs has the sections of is no longer than all of the module.
    """
    reach = np.zeros(max(owner.id for owner in owners) + 1, np.uint64)
    for owner in owners:
        if owner.sections.starts:
            reach[owner.id] = owner.module.size if owner.module else REACH
    return np.append(False, (file[1:] == file[:-1]) & (np.diff(address) < reach[file[1:]]))


def _behind_text(file: I32, kind: npt.NDArray[np.int8], told: Mask) -> Mask:
    """Which marks have code before them, by the last of their file that ``told`` its kind."""
    before = _before(np.flatnonzero(told), np.arange(len(kind)))
    return np.asarray((before >= 0) & (file[before] == file) & (kind[before] == _TEXT))


def _begin_pages(address: U64, file: I32, adjoins: Mask) -> Mask:
    """Which marks begin a page behind one that their file has no mark on.

    An allocation has a page that is never mapped behind it (mm/vmalloc.c, VM_NO_GUARD is not
    set). Within one allocation any page will do: there the text ends.
    """
    begins: Mask = address % np.uint64(PAGE) == 0
    page = address // np.uint64(PAGE)
    apart = np.ones(len(address), np.bool_)
    apart[1:] = (file[1:] != file[:-1]) | (page[1:] - page[:-1] >= 2) | adjoins[1:]
    return begins & apart


def _doubtful(
    address: U64, file: I32, kind: npt.NDArray[np.int8], told: Mask, label: Mask
) -> Mask:
    """Which of the marks of ``label`` may be in another allocation than the mark before.

    They are on another page, and what their file has next is of another kind, or nothing: a
    string of read-only data (``.LC0``) is no reason to take the data before it to go on there.
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
    """Every mark's kind: a symbol's own, of other marks what lies around them.

    A mark that begins an allocation has the kind of the first symbol in it; other sections, and
    symbols of no kind, that of the mark before them. So no region ends before a symbol does.
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
    # Where there is none, its kind is not looked at.
    before_kind, after_kind = kind[before], kind[np.minimum(after, len(kind) - 1)]
    chosen = np.where(has_before, before_kind, after_kind)
    kind[at] = np.where(has_before | has_after, chosen, _DATA)
    return kind


def _after(ascending: Index, at: Index, end: int) -> Index:
    """The first of ``ascending`` above each of ``at``; ``end`` where there is none."""
    after = np.searchsorted(ascending, at, "right")
    found: Index = np.append(ascending, end)[after]
    return found


def _before(ascending: Index, at: Index) -> Index:
    """The last of ``ascending`` at or below each of ``at``; -1 where there is none."""
    before = np.searchsorted(ascending, at, "right")
    found: Index = np.append(-1, ascending)[before]
    return found


def _one_kind_an_address(
    address: U64, file: I32, kind: npt.NDArray[np.int8], told: Mask
) -> npt.NDArray[np.int8]:
    """Of the marks of one file at one address, the kind of the first that ``told`` its own.

    Text if any told that; the first mark's where none told a kind.
    """
    new = np.append(True, (address[1:] != address[:-1]) | (file[1:] != file[:-1]))
    firsts, group = np.flatnonzero(new), np.cumsum(new) - 1
    if len(firsts) == len(kind):
        return kind
    chosen: npt.NDArray[np.int8] = kind[np.lexsort((~told, group))[firsts]]
    chosen[np.logical_or.reduceat(told & (kind == _TEXT), firsts)] = _TEXT
    return chosen.take(group)


def _by_name(sections: Sections) -> list[int]:
    named = ((k for prefix, k in _NAME_KIND if n.startswith(prefix)) for n in sections.names)
    return [
        next(kinds, _TEXT if "text" in name else _UNKNOWN)
        for kinds, name in zip(named, sections.names)
    ]


def unplaced(owner: Owner) -> int:
    """How many of a module's symbols lie in none of the sections that sysfs has of it."""
    if owner.id == KERNEL_ID or owner.name in PSEUDO or not len(owner.address):
        return 0
    starts = np.array(owner.sections.starts, np.uint64)
    ends = np.array([0, *(end or (1 << 64) - 1 for end in owner.sections.ends)], np.uint64)
    place = np.searchsorted(starts, owner.address, "right")
    return int((owner.address > ends[place]).sum())


def _one_allocation(owner: Owner) -> bool:
    """Whether a module is one piece of memory, as all were before Linux 6.4 (ac3b43283923)."""
    if owner.module is None or not owner.module.address or not owner.sections.starts:
        return False
    if owner.apart:
        return False
    low, high = owner.module.address, owner.module.address + owner.module.size
    placed = (owner.address >= low) & (owner.address < high)
    return all(low <= s < high for s in owner.sections.starts) and bool(placed.all())


def within(address: U64, regions: tuple[Region, ...], end: bool = False) -> Mask:
    """Which addresses lie in a region, or at the ``end`` of one."""
    inside = np.zeros(len(address), np.bool_)
    if (address[1:] >= address[:-1]).all():  # the kernel's own ascend in all texts of its
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
    """Return where the page that holds ``address`` ends."""
    return (address // PAGE + 1) * PAGE
