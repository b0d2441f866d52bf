"""What of the symbols that kallsyms lists names addresses, as the kernel's own lookup has it.

kernel/kallsyms.c, kallsyms_lookup_buildid: an address of the kernel's image is the kernel's;
any other is first asked of the live modules, then of BPF programs, then of the functions that
ftrace remembers of init memory that was freed. What /proc/kallsyms lists is more than that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .files import Role, Symbols
from .modules import Module, Sections, is_init
from .regions import PAGE, U8, U64, Mask, page_end, within

if TYPE_CHECKING:
    from .files import Lists, Region

_TOP: Final = (1 << 64) - 1
_TWIN: Final = b"\0__pfx_"
_REMEMBERED: Final = ord("T")
"""The letter of every function that ftrace remembers."""
_OF_CODE_ALONE: Final = b"bdr"
"""Letters of static data, some of which every kernel has that lists its data."""


class Range(NamedTuple):
    """Addresses from ``start`` to before ``end``."""

    start: int
    end: int


def lists(letter: U8, landmarks: dict[str, int]) -> Lists:
    """Return whether the kernel lists its functions only (no CONFIG_KALLSYMS_ALL), or all.

    Such a kernel lists symbols of its text (scripts/kallsyms.c, symbol_valid), and some that
    the linker makes; neither ``_end`` nor static data.

    Args:
        letter: the kernel's own symbols' letters (uint8).
        landmarks: addresses of the kernel's own symbols by name.
    """
    if "_end" in landmarks or not {"_stext", "_etext"} <= landmarks.keys():
        return "all"
    letters = letter.tobytes()
    return "all" if any(one in letters for one in _OF_CODE_ALONE) else "functions"


def named_ranges(listed: Lists, landmarks: dict[str, int]) -> list[Range]:
    """Return where the kernel names addresses by its own symbols; everywhere if none is told.

    include/linux/kallsyms.h, is_ksym_addr; include/asm-generic/sections.h, __is_kernel and
    __is_kernel_text; include/linux/kallsyms.h, is_kernel_inittext.
    """
    bounds = (("_stext", "_end"), ("__init_begin", "__init_end"))
    if listed == "functions":
        bounds = (("_stext", "_etext"), ("_sinittext", "_einittext"))
    if not set(bounds[0]) <= landmarks.keys():
        return [Range(0, _TOP)]
    return [
        Range(landmarks[first], landmarks[last])
        for first, last in bounds
        if {first, last} <= landmarks.keys()
    ]


def kernel_roles(
    symbols: Symbols,
    listed: Lists,
    known: tuple[Region, ...],
    landmarks: dict[str, int],
) -> U8:
    """Return the roles of the kernel's own symbols (uint8, one a symbol).

    An ``A`` outside of every known region is absolute. Per-CPU symbols of x86 are offsets and
    not addresses (before Linux 6.15, from 0); in a System.map they have the letters of what
    they are.
    """
    address = symbols.address
    absolute = (symbols.letter | np.uint8(0x20)) == ord("a")
    if landmarks.get("__per_cpu_start") == 0:
        absolute |= address <= np.uint64(landmarks.get("__per_cpu_end", 0))
    if absolute.any():
        at = np.flatnonzero(absolute)
        absolute[at] = ~within(address[at], known)
    silent = np.ones(len(address), np.bool_)
    for start, end in named_ranges(listed, landmarks):
        silent &= (address < np.uint64(start)) | (address >= np.uint64(end))
    silent &= ~absolute
    if not absolute.any() and not silent.any():
        return symbols.role
    role = symbols.role.copy()
    role[absolute] = Role.ABSOLUTE
    role[silent & (role == Role.NAMES)] = Role.SILENT
    return role


def module_roles(
    symbols: Symbols,
    module: Module | None,
    found: tuple[tuple[int, str], ...],
    image: Range,
) -> U8:
    """Return the roles of a module's symbols (uint8, one a symbol).

    A module keeps its whole symbol table while it is being loaded, and a livepatch as long as
    it is there (kernel/module/kallsyms.c, add_kallsyms), with the letters of elf_type() there:
    ``a`` for files' names and per-CPU variables, whose values are no addresses; ``u`` for
    undefined symbols, at the kernel's addresses; ``?`` and ``n`` for what is in sections of the
    file that stay out of memory; and an undefined weak symbol is ``w`` or ``v``.

    Args:
        symbols: the module's.
        module: its line of /proc/modules, if there is one.
        found: start and name of each section that sysfs has, sorted.
        image: where the kernel's own symbols are.
    """
    letter = symbols.letter | np.uint8(0x20)  # "?" stays: 0x3f has the bit
    absolute = letter == ord("a")
    undefined = (letter == ord("u")) | (letter == ord("?")) | (letter == ord("n"))
    weak = (letter == ord("w")) | (letter == ord("v"))
    if weak.any():
        inside = (symbols.address >= np.uint64(image.start)) & (
            symbols.address < np.uint64(image.end)
        )
        undefined |= weak & (inside | (symbols.address == 0))
    if module is not None and "K" in module.taint:
        undefined |= ~absolute & _in_freed_init(symbols.address, found, module)
    if not absolute.any() and not undefined.any():
        return symbols.role
    role = symbols.role.copy()
    role[absolute] = Role.ABSOLUTE
    role[undefined] = Role.UNDEFINED
    return role


def _in_freed_init(
    address: U64, found: tuple[tuple[int, str], ...], module: Module | None
) -> Mask:
    """Which addresses lie in an init section that was freed; they do behind its start.

    Some machines have their init sections within the module and keep them
    (arch/powerpc/kernel/module_64.c, module_init_section).
    """
    if module is None or module.state != "Live":
        return np.zeros(len(address), np.bool_)
    starts = np.array([start for start, _ in found], np.uint64)
    init = np.array([False, *(is_init(name) for _, name in found)])
    kept = (address >= np.uint64(module.address)) & (
        address - np.uint64(module.address) < np.uint64(module.size)
    )
    return np.asarray(init[np.searchsorted(starts, address, "right")] & ~kept)


def live_sections(
    found: tuple[tuple[int, str], ...], symbols: Symbols, freed: Mask
) -> Sections:
    """Return those sections of a module that are in memory.

    Once a module is Live its ``.init`` sections are freed, and sysfs keeps their addresses
    (kernel/module/sysfs.c, add_sect_attrs): they lie in other modules by now. kallsyms
    lists a module's init symbols as long as they are there, so an ``.init`` section is
    live where one of them lies in it. ``.symtab`` and ``.strtab`` hold no symbols, and are
    copies that go with the rest.

    Args:
        found: start and name of each section that sysfs has, sorted.
        symbols: the module's.
        freed: which of them are functions that ftrace remembers.
    """
    found = tuple(pair for pair in found if pair[1] not in (".symtab", ".strtab"))
    starts = np.array([start for start, _ in found], np.uint64)
    placed = symbols.address[~freed & (symbols.role < Role.ABSOLUTE)]
    used = set((np.searchsorted(starts, placed, "right") - 1).tolist())
    live = [pair for number, pair in enumerate(found) if number in used or not is_init(pair[1])]
    return Sections(tuple(s for s, _ in live), tuple(n for _, n in live), (0,) * len(live))


class Listed(NamedTuple):
    """What is listed of a module.

    ``first`` is the number of symbols in its first run of lines, ``found`` start and name of
    each section that sysfs has, ``module`` its line of /proc/modules.
    """

    symbols: Symbols
    first: int
    found: tuple[tuple[int, str], ...]
    module: Module | None


def freed_functions(modules: Sequence[Listed]) -> list[Mask]:
    """Return which symbols of each module are functions whose memory was freed.

    kallsyms lists the init functions that ftrace remembers behind all modules, with the letter
    ``T``, in a run of lines for each module (kernel/trace/ftrace.c, ftrace_mod_get_kallsym).
    Those of the module that is listed last can follow its own lines, and are in one run with
    them. There a line in an init section is of freed memory, unless the module's whole symbol
    table is listed, which has undefined symbols; and one on a page that an earlier module has
    symbols on, for modules share no page (mm/execmem.c, execmem_alloc: whole pages, of a cache
    of large ones too).

    Args:
        modules: the modules in the order of the text.
    """
    freed = [_behind_its_own(module) for module in modules]
    if not modules:
        return freed
    count = np.array([len(module.symbols.address) for module in modules])
    role = np.concatenate([module.symbols.role for module in modules])
    page = np.concatenate([module.symbols.address for module in modules]) // np.uint64(PAGE)
    placed = np.flatnonzero((role < Role.ABSOLUTE) & ~np.concatenate(freed))
    owner = np.repeat(np.arange(len(modules)), count)[placed]
    _, first, back = np.unique(page[placed], return_index=True, return_inverse=True)
    late = np.zeros(len(page), np.bool_)
    late[placed] = owner != owner[first][back]
    starts = np.cumsum(count) - count
    for number in np.flatnonzero(np.bincount(owner[late[placed]])).tolist():
        lines = slice(starts[number], starts[number] + count[number])
        freed[number] |= _late(modules[number], page[lines], late[lines])
    return freed


def _behind_its_own(module: Listed) -> Mask:
    """Which lines are behind the module's first run, or in init memory that is freed.

    A line on a page of the first run's is the module's own, in a text of another order.
    """
    symbols, first, found, line = module
    placed = symbols.role < Role.ABSOLUTE
    behind = np.zeros(len(placed), np.bool_)
    if first < len(behind):
        page = symbols.address // np.uint64(PAGE)
        behind[first:] = symbols.letter[first:] == _REMEMBERED
        behind[first:] &= ~np.isin(page[first:], page[:first][placed[:first]])
    if found and not (symbols.role == Role.UNDEFINED).any():
        behind |= _in_freed_init(symbols.address, found, line)
    return np.asarray(behind & placed)


def _late(module: Listed, page: U64, late: Mask) -> Mask:
    """Which lines of a module are freed, of those ``late`` on an earlier module's ``page``.

    No kernel has live modules on one page, but a text by hand has. There a line is the
    module's own if /proc/modules has it there, or another letter or place in the text than
    what is freed: on a page with another such line, before the others of its run, or in a
    module that has no other.
    """
    symbols, first, _, line = module
    doubtful = late & (symbols.letter == _REMEMBERED)
    if line is not None and line.address:
        base = np.uint64(line.address // PAGE * PAGE)
        doubtful &= (symbols.address < base) | (
            symbols.address - np.uint64(line.address) >= np.uint64(max(line.size, 0))
        )
        own = ~doubtful
    else:
        own = ~doubtful
        if not own.any():
            return np.zeros_like(late)
    if own[:first].any():
        doubtful[: int(np.argmax(own))] = False
    return np.asarray(doubtful & ~np.isin(page, page[~doubtful]))


class Freed(NamedTuple):
    """Where a module's freed functions still name addresses.

    ``role`` (uint8) has the roles of all of the module's symbols, ``ranges`` the addresses in
    which its freed functions lie, ``stops`` where the last of these functions end.
    """

    role: U8
    ranges: tuple[Range, ...]
    stops: tuple[int, ...]


def name_freed(
    modules: Sequence[tuple[Symbols, Mask]], taken: Sequence[Range], padding: int
) -> list[Freed]:
    """Return which freed functions name addresses: those on whose memory nothing lies now.

    The kernel asks for them last, and of two the one that was freed last, which is listed first
    (ftrace_mod_address_lookup). A function's size was the distance to the symbol after it, or
    to the end of the init memory, which is a page's.

    Args:
        modules: each module's symbols in the order of the text, and which of them are freed.
        taken: where something live lies, sorted, not overlapping.
        padding: bytes of a symbol of its own before each function (``__pfx_``).
    """
    occupied: list[Range] = list(taken)
    results = []
    for symbols, freed in modules:
        if not freed.any():
            results.append(Freed(symbols.role, (), ()))
            continue
        role = symbols.role.copy()
        ranges: list[Range] = []
        stops: list[int] = []
        addresses = sorted({*symbols.address[freed].tolist()})
        for place, address in enumerate(addresses):
            following = addresses[place + 1] if place + 1 < len(addresses) else _TOP
            end = min(max(following - padding, address + 1), page_end(address))
            if following - page_end(address) < PAGE:  # it goes on to the next one's page
                end = max(following - padding, address + 1)
            if _holds(occupied, address):
                role[freed & (symbols.address == np.uint64(address))] = Role.UNDEFINED
                continue
            ranges.append(Range(address, _cut(occupied, address, end)))
            stops.append(ranges[-1].end)
        for found in ranges:
            occupied.insert(bisect_left(occupied, found), found)
        results.append(Freed(role, tuple(ranges), tuple(stops)))
    return results


def _holds(ranges: list[Range], address: int) -> bool:
    at = bisect_right(ranges, address, key=lambda one: one.start) - 1
    return at >= 0 and address < ranges[at].end


def _cut(ranges: list[Range], start: int, end: int) -> int:
    """``end``, or where the next of ``ranges`` behind ``start`` begins before it."""
    at = bisect_right(ranges, start, key=lambda one: one.start)
    return min(end, ranges[at].start) if at < len(ranges) else end


def padding_of(symbols: Symbols) -> int:
    """Return how many bytes lie between ``__pfx_foo`` and ``foo``; 0 where none is listed.

    Since Linux 6.2 (9f2899fe36a6, "objtool: Add option to generate prefix symbols").
    """
    at = symbols.strings.tobytes().find(_TWIN)
    rows = np.flatnonzero(symbols.name == at + 1) if at >= 0 else np.zeros(0, np.intp)
    if not len(rows) or rows[0] + 1 >= len(symbols.address):
        return 0
    first, second = symbols.address[rows[0] : rows[0] + 2].tolist()
    return max(int(second) - int(first), 0)
