"""Which addresses belong to which linker file, and to which of its sections.

Three kinds of evidence, the strongest first: the kernel's own boundaries (iomem and
boundary symbols), the starts of modules' sections in sysfs, and the letters of the
symbols themselves. What the first explains is a *known* region. All else becomes *marks*,
one a symbol and one a section start, sorted by address; a run of marks of one file and
one kind is a region, so that no region reaches into another file's.
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

_KINDS: Final[tuple[Kind, ...]] = ("text", "rodata", "data", "bss", "percpu")
_UNKNOWN: Final = -1
_TEXT: Final = 0
_DATA: Final = 2
_PERCPU: Final = 4


def _letters() -> npt.NDArray[np.int8]:
    # kernel/module/kallsyms.c, elf_type; nm's letters for the kernel itself.
    table = np.full(256, _UNKNOWN, np.int8)
    for code, letters in enumerate(("tT", "rRnN", "dDgGV", "bBsS", "aA")):
        for letter in letters:
            table[ord(letter)] = code
    return table


LETTER_KIND: Final = _letters()

# What a module's section is by its name, where no symbol in it says so (scripts/module.lds.S
# and include/linux: each is placed by one macro with fixed flags).
_NAME_KIND: Final[tuple[tuple[str, int], ...]] = (
    (".data..percpu", _PERCPU),
    (".data", 2),
    (".bss", 3),
    (".sbss", 3),
    (".rodata", 1),
    (".note", 1),
    (".orc_", 1),
    ("__ksymtab", 1),
    ("__kcrctab", 1),
    ("__ex_table", 1),
    (".gnu.linkonce.this_module", 2),
    (".altinstr_replacement", 0),
)


class Owner(NamedTuple):
    """What a linker file brings to its regions.

    ``address`` (uint64) and ``letter`` (uint8) of its symbols, and which of them are
    ``absolute`` (bool); ``sections`` by sysfs (a module's), ``module`` its line of
    /proc/modules.
    """

    id: int
    name: str
    address: U64
    letter: U8
    absolute: Mask
    sections: Sections = Sections((), ())
    module: Module | None = None


class _Marks(NamedTuple):
    """Sorted by address: whose, of what kind, and how each goes with the next.

    ``end`` is where a section ends that begins at the mark, 0 where that is not known.

    ``gap`` is the number of known regions that begin at or below the mark; ``adjoins``
    says that the mark's piece of memory holds its file's next mark too, ``reaches`` that
    its section does.
    """

    address: U64
    file: I32
    kind: npt.NDArray[np.int8]
    gap: Index
    adjoins: Mask
    reaches: Mask
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


def is_absolute(
    address: U64, letter: U8, known: tuple[Region, ...], landmarks: dict[str, int]
) -> Mask:
    """Which of the kernel's symbols are absolute: an ``A`` outside of every known region.

    Per-CPU symbols of x86 are offsets and not addresses (before Linux 6.15, from 0); in a
    System.map they have the letters of what they are.
    """
    absolute: Mask = (letter | np.uint8(0x20)) == ord("a")  # _PERCPU's, without a table
    if landmarks.get("__per_cpu_start") == 0:
        absolute |= address <= np.uint64(landmarks.get("__per_cpu_end", 0))
    if absolute.any():
        at = np.flatnonzero(absolute)
        absolute[at] = ~_within(address[at], known)
    return absolute


def inferred_regions(
    owners: list[Owner], known: tuple[Region, ...], landmarks: dict[str, int]
) -> dict[int, tuple[Region, ...]]:
    """The regions that no boundary gives, by the id of their file, sorted by address.

    Every symbol of ``owners`` that is not absolute lies in a known region of the kernel,
    in one of its own file's regions, or at the end of one.
    """
    image = (known[0].start, max(known[-1].end, landmarks.get("_end", 0))) if known else (0, 0)
    marks = _marks(owners, known, image)
    if not len(marks.address):
        return {}
    fresh = np.ones(len(marks.address), np.bool_)
    fresh[1:] = (
        (marks.file[1:] != marks.file[:-1])
        | (marks.kind[1:] != marks.kind[:-1])
        | (marks.gap[1:] != marks.gap[:-1])
        | (~(marks.adjoins | marks.reaches)[:-1] & (np.diff(marks.address) >= REACH))
    )
    # A place that a known region has too is a region of no length.
    within = _within(marks.address, known)
    fresh[1:] |= (within[1:] | within[:-1]) & (np.diff(marks.address) > 0)
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(fresh)) - 1
    by_id = {owner.id: owner for owner in owners}
    named: dict[int, Counter[str]] = {owner.id: Counter() for owner in owners}
    named[KERNEL_ID].update(region.name for region in known)
    regions: dict[int, list[Region]] = {owner.id: [] for owner in owners}
    for a, z in zip(first.tolist(), last.tolist()):
        owner = by_id[int(marks.file[a])]
        region = _run(marks, a, z, owner, known, landmarks)
        count = named[owner.id][region.name] = named[owner.id][region.name] + 1
        if count > 1:
            region = region._replace(name=f"{region.name}.{count}")
        regions[owner.id].append(region)
    return {number: tuple(found) for number, found in regions.items()}


def _run(
    marks: _Marks,
    a: int,
    z: int,
    owner: Owner,
    known: tuple[Region, ...],
    landmarks: dict[str, int],
) -> Region:
    """The region of the marks ``a`` to ``z``; nothing of it lies in a known one."""
    gap = int(marks.gap[a])
    barrier = known[gap].start if gap < len(known) else TOP
    if gap and int(marks.address[a]) < known[gap - 1].end:
        barrier = int(marks.address[a])
    start, end, inferred = int(marks.address[a]), _page_end(int(marks.address[z])), True
    follower = int(marks.address[z + 1]) if z + 1 < len(marks.address) else barrier
    limit = min(barrier, follower)
    told = int(marks.end[a : z + 1].max())
    if told > int(marks.address[z]):
        end, inferred = told, False
    elif marks.adjoins[z]:
        same = z + 1 < len(marks.file) and marks.file[z + 1] == marks.file[z]
        module = owner.module
        if same and marks.gap[z + 1] == marks.gap[z]:
            end, inferred = follower, False
        elif module is not None:
            end, inferred = module.address + module.size, False
    if end > limit:
        end, inferred = limit, True
    kind = _KINDS[marks.kind[a]]
    if owner.id == KERNEL_ID:
        init = landmarks.get("__init_begin", 1) <= start < landmarks.get("__init_end", 0)
        name = f".init.{kind}" if init else f".gap.{kind}"
    else:
        name = f"[{owner.name}].{kind}"
    source = "sysfs" if owner.sections.starts else "letters"
    return Region(name, start, max(start, end), kind, inferred, source)


def _marks(
    owners: list[Owner],
    known: tuple[Region, ...],
    image: tuple[int, int],
) -> _Marks:
    parts: list[tuple[U64, I32, npt.NDArray[np.int8], Mask, Mask, U64]] = []
    for owner in owners:
        address, letter = owner.address, owner.letter
        if owner.id == KERNEL_ID:
            # A symbol at a known region's end is that region's.
            out = np.flatnonzero(~(_within(address, known, end=True) | owner.absolute))
            address, kind = address[out], LETTER_KIND[letter[out]]
            # Linker-script symbols between the sections have any letter; code is code.
            kind = np.where(kind > 0, _DATA, kind)
            adjoins = (address >= image[0]) & (address < image[1])
        else:
            kind = LETTER_KIND[letter]
            adjoins = np.full(len(address), _one_allocation(owner)) & (kind != _PERCPU)
        count = len(owner.sections.starts)
        parts.append(
            (
                np.concatenate([np.array(owner.sections.starts, np.uint64), address]),
                np.full(count + len(address), owner.id, np.int32),
                np.concatenate([np.array(_by_name(owner.sections), np.int8), kind]),
                np.arange(count + len(address)) < count,
                np.concatenate([np.full(count, _one_allocation(owner)), adjoins]),
                np.append(np.array(owner.sections.ends, np.uint64), np.zeros_like(address)),
            )
        )
    columns = list(zip(*parts))
    parts.clear()
    address, file, kind, section, adjoins, end = (
        np.concatenate(columns.pop(0)) for _ in range(len(columns))
    )
    if not len(address):
        return _Marks(address, file, kind, file, adjoins, adjoins, end)
    order = np.lexsort((~section, file, address))
    address, file, kind = address[order], file[order], kind[order]
    gap = np.searchsorted(np.array([r.start for r in known], np.uint64), address, "right")
    kind = _one_kind_an_address(address, file, _resolve(address, file, kind, section[order]))
    reaches = np.append(~section[order][1:], False)
    reaches &= np.isin(file, [owner.id for owner in owners if owner.sections.starts])
    return _Marks(address, file, kind, gap, adjoins[order], reaches, end[order])


def _resolve(
    address: U64, file: I32, kind: npt.NDArray[np.int8], section: Mask
) -> npt.NDArray[np.int8]:
    """Every mark's kind: what symbols say of their section, else a neighbour's.

    The neighbour is the one before, but the one after for a section at a page's start,
    which may begin an allocation, and for one after code, for code is named so.
    """
    kind = kind.copy()
    files = np.flatnonzero(file[1:] != file[:-1]) + 1
    at = np.flatnonzero(section)
    symbol = _after(np.flatnonzero(~section & (kind != _UNKNOWN)), at, len(kind))
    end = np.minimum(_after(at, at, len(kind)), _after(files, at, len(kind)))
    inside = symbol < end
    kind[at[inside]] = kind[symbol[inside]]

    at, known = np.flatnonzero(kind == _UNKNOWN), np.flatnonzero(kind != _UNKNOWN)
    before, after = _before(known, at), _after(known, at, len(kind))
    has_before = (before >= 0) & (before >= _before(files, at))
    has_after = after < _after(files, at, len(kind))
    # Where there is none, its kind is not looked at.
    before_kind, after_kind = kind[before], kind[np.minimum(after, len(kind) - 1)]
    forward = section[at] & ((address[at] % PAGE == 0) | (before_kind == _TEXT))
    chosen = np.where(has_before & ~(forward & has_after), before_kind, after_kind)
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
    address: U64, file: I32, kind: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """Of the marks of one file at one address, the first's kind, or text if any is."""
    same = np.append(False, (address[1:] == address[:-1]) & (file[1:] == file[:-1]))
    first = np.flatnonzero(~same[:-1] & same[1:])
    others = np.flatnonzero(same)
    run = np.searchsorted(first, others) - 1
    text = kind[first] == _TEXT
    text[run[kind[others] == _TEXT]] = True
    chosen = np.where(text, _TEXT, kind[first]).astype(np.int8)
    kind[first], kind[others] = chosen, chosen[run]
    return kind


def _by_name(sections: Sections) -> list[int]:
    return [
        0
        if "text" in name
        else next((k for prefix, k in _NAME_KIND if name.startswith(prefix)), _UNKNOWN)
        for name in sections.names
    ]


def live_sections(found: tuple[tuple[int, str], ...], addresses: U64) -> Sections:
    """Those sections of a module that are in memory, given its symbols' ``addresses``.

    Once a module is Live its ``.init`` sections are freed, and sysfs keeps their addresses
    (kernel/module/sysfs.c, add_sect_attrs): they lie in other modules by now. kallsyms
    lists a module's init symbols as long as they are there, so an ``.init`` section is
    live where one of them lies in it. ``.symtab`` and ``.strtab`` hold no symbols, and are
    copies that go with the rest.
    """
    found = tuple(pair for pair in found if pair[1] not in (".symtab", ".strtab"))
    starts = np.array([start for start, _ in found], np.uint64)
    used = set((np.searchsorted(starts, addresses, "right") - 1).tolist())
    live = [
        pair
        for number, pair in enumerate(found)
        if number in used or not pair[1].startswith(".init")
    ]
    return Sections(tuple(s for s, _ in live), tuple(n for _, n in live), (0,) * len(live))


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
    low, high = owner.module.address, owner.module.address + owner.module.size
    starts = [
        start
        for start, name in zip(owner.sections.starts, owner.sections.names)
        if not name.startswith(".data..percpu")
    ]
    placed = owner.address[LETTER_KIND[owner.letter] != _PERCPU]
    return all(low <= s < high for s in starts) and bool(
        ((placed >= low) & (placed < high)).all()
    )


def _within(address: U64, regions: tuple[Region, ...], end: bool = False) -> Mask:
    """Which addresses lie in a region, or at the ``end`` of one."""
    within = np.zeros(len(address), np.bool_)
    if (address[1:] >= address[:-1]).all():  # the kernel's own ascend in all texts of its
        bounds = np.array([(r.start, r.end) for r in regions], np.uint64).reshape(-1, 2)
        first = np.searchsorted(address, bounds[:, 0])
        behind = np.searchsorted(address, bounds[:, 1], "right" if end else "left")
        for one, other in zip(first.tolist(), behind.tolist()):
            within[one:other] = True
        return within
    for region in regions:
        below = address <= region.end if end else address < region.end
        within |= (address >= region.start) & below
    return within


def _page_end(address: int) -> int:
    return (address // PAGE + 1) * PAGE
