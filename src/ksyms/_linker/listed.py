"""The roles of the symbols in kallsyms: which of them the kernel's own lookup can find.

/proc/kallsyms lists more symbols than the lookup finds (kernel/kallsyms.c,
kallsyms_lookup_buildid). The lookup asks in this order:

1. for an address in the kernel's image, the kernel's own symbols;
2. for any other, the live modules;
3. BPF programs;
4. the init functions of modules that ftrace remembers, though their memory was freed.
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
"""The letter with which kallsyms lists the functions that ftrace remembers."""
_OF_CODE_ALONE: Final = b"bdr"
"""Letters of static data; a kernel that lists its data has symbols with some of them."""


class Range(NamedTuple):
    """The addresses [start, end)."""

    start: int
    end: int


def lists(letter: U8, landmarks: dict[str, int]) -> Lists:
    """Return ``functions`` if the kernel lists its functions only, else ``all``.

    Without CONFIG_KALLSYMS_ALL a kernel lists the symbols of its text (scripts/kallsyms.c,
    symbol_valid) and some that the linker defines, but neither ``_end`` nor static data.

    Args:
        letter: the letters of the kernel's own symbols (uint8).
        landmarks: addresses of the kernel's own symbols by name.
    """
    if "_end" in landmarks or not {"_stext", "_etext"} <= landmarks.keys():
        return "all"
    letters = letter.tobytes()
    return "all" if any(one in letters for one in _OF_CODE_ALONE) else "functions"


def named_ranges(listed: Lists, landmarks: dict[str, int]) -> list[Range]:
    """Return the ranges of addresses that the kernel names by its own symbols.

    They are those of include/linux/kallsyms.h, is_ksym_addr and is_kernel_inittext, and of
    include/asm-generic/sections.h, __is_kernel and __is_kernel_text. All addresses are returned
    if the symbols that bound the ranges are missing.
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

    A symbol with the letter ``A`` outside of every known region is absolute. Before Linux 6.15,
    per-CPU symbols of x86-64 are offsets from 0 and not addresses; in a System.map their
    letters are those of data.
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

    kallsyms lists a module's whole symbol table while the module is being loaded, and that of a
    livepatch always (kernel/module/kallsyms.c, add_kallsyms). The letters are those of
    elf_type() there:

    - ``a``: files' names and per-CPU variables, whose values are not addresses
    - ``u``: undefined symbols, at the kernel's addresses
    - ``?``, ``n``: symbols of sections that are not loaded into memory
    - ``w``, ``v``: weak symbols, also undefined ones, which are at the kernel's addresses or 0

    Args:
        symbols: the module's symbols.
        module: its line of /proc/modules, if there is one.
        found: the start and the name of each section in sysfs, sorted.
        image: the range of the kernel's own symbols.
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
    """Return a mask of the addresses that lie in an init section that was freed.

    An address is taken to be in the section that starts last at or below it. Addresses within
    the module's own memory are not freed: some machines keep the init sections there
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
    """Return the sections of a module that are in memory.

    When a module becomes Live, its ``.init`` sections are freed, but sysfs keeps their
    addresses (kernel/module/sysfs.c, add_sect_attrs), at which another module may be now.
    kallsyms lists a module's init symbols until the sections are freed, so an ``.init`` section
    is in memory if a symbol lies in it. ``.symtab`` and ``.strtab`` are left out, since no
    symbols lie in them.

    Args:
        found: the start and the name of each section in sysfs, sorted.
        symbols: the module's symbols.
        freed: a mask of the symbols that are functions which ftrace remembers.
    """
    found = tuple(pair for pair in found if pair[1] not in (".symtab", ".strtab"))
    starts = np.array([start for start, _ in found], np.uint64)
    placed = symbols.address[~freed & (symbols.role < Role.ABSOLUTE)]
    used = set((np.searchsorted(starts, placed, "right") - 1).tolist())
    live = [pair for number, pair in enumerate(found) if number in used or not is_init(pair[1])]
    return Sections(tuple(s for s, _ in live), tuple(n for _, n in live), (0,) * len(live))


class Listed(NamedTuple):
    """The symbols that kallsyms lists for a module.

    ``first`` is the number of symbols in its first run of lines, ``found`` has the start and
    the name of each section in sysfs, and ``module`` is its line of /proc/modules.
    """

    symbols: Symbols
    first: int
    found: tuple[tuple[int, str], ...]
    module: Module | None


def freed_functions(modules: Sequence[Listed]) -> list[Mask]:
    """Return for each module a mask of the symbols that are functions in freed memory.

    kallsyms lists the init functions that ftrace remembers after all modules, with the letter
    ``T``, in a run of lines for each module (kernel/trace/ftrace.c, ftrace_mod_get_kallsym)::

        ... t alpha_ioctl    [alpha]     first run of alpha
        ... t beta_probe     [beta]      first run of beta, the last module
        ... T beta_init      [beta]      remembered, in the same run
        ... T alpha_init     [alpha]     remembered, in a run of its own

    Within a module's first run, a symbol is in freed memory in two cases:

    - It lies in an init section. This does not count if undefined symbols are listed, since
      then it is the whole symbol table of a module that is being loaded.
    - It lies on a page on which an earlier module has symbols, since modules share no pages
      (mm/execmem.c, execmem_alloc allocates whole pages, also from its cache of large ones).

    Args:
        modules: the modules in the order of the text.
    """
    freed = [_behind_its_own(module) for module in modules]
    if not modules:
        return freed

    count = np.array([len(module.symbols.address) for module in modules])
    role = np.concatenate([module.symbols.role for module in modules])
    page = np.concatenate([module.symbols.address for module in modules]) // np.uint64(PAGE)

    # A line is late if the first line on its page is another module's.
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
    """Return a mask of the lines after the module's first run, or in freed init memory.

    A line after the first run on a page that the first run has symbols on is the module's own:
    such a text was sorted in another order.
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
    """Return a mask of the lines in freed memory, among those on an earlier module's page.

    No kernel has two live modules on one page, but a text edited by hand can. So a line is
    taken to be the module's own in these cases:

    - its letter is not ``T``
    - it is in the module's memory according to /proc/modules
    - /proc/modules has no address of the module, and all of the module's lines are in doubt
    - it comes before the first line that is not in doubt, and that one is in the first run
    - it is on a page with a line that is the module's own

    Args:
        module: the module that the lines are of.
        page: the page number of each line (uint64).
        late: a mask of the lines on a page on which an earlier module has symbols.
    """
    symbols, first, _, line = module
    doubtful = late & (symbols.letter == _REMEMBERED)

    if line is not None and line.address:
        base = np.uint64(line.address // PAGE * PAGE)
        doubtful &= (symbols.address < base) | (
            symbols.address - np.uint64(line.address) >= np.uint64(max(line.size, 0))
        )
    elif doubtful.all():
        return np.zeros_like(late)

    own = ~doubtful
    if own[:first].any():
        doubtful[: int(np.argmax(own))] = False
    return np.asarray(doubtful & ~np.isin(page, page[~doubtful]))


class Freed(NamedTuple):
    """The freed functions of a module that still name addresses.

    ``role`` (uint8) has the roles of all of the module's symbols. ``ranges`` are the ranges of
    the freed functions that name addresses, and ``stops`` are their ends.
    """

    role: U8
    ranges: tuple[Range, ...]
    stops: tuple[int, ...]


def name_freed(
    modules: Sequence[tuple[Symbols, Mask]], taken: Sequence[Range], padding: int
) -> list[Freed]:
    """Find the freed functions that name addresses: those whose memory is not used again.

    The kernel's lookup asks for freed functions last. Of two at one address it finds that of
    the module that was freed last, which is listed first (ftrace_mod_address_lookup). The size
    of a freed function was the distance to the next symbol, or to the end of the init memory,
    which is the end of a page.

    Args:
        modules: the symbols of each module and the mask of its freed functions, in the order
            of the text.
        taken: the ranges of everything live, sorted, without overlaps.
        padding: the number of bytes between ``__pfx_foo`` and ``foo``.

    Returns:
        One item for each module, in the same order.
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
            if following - page_end(address) < PAGE:  # it continues to the next one's page
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
    """Return True if one of the sorted ``ranges`` holds ``address``."""
    at = bisect_right(ranges, address, key=lambda one: one.start) - 1
    return at >= 0 and address < ranges[at].end


def _cut(ranges: list[Range], start: int, end: int) -> int:
    """Return ``end``, or the start of the next of ``ranges`` above ``start`` if it is lower."""
    at = bisect_right(ranges, start, key=lambda one: one.start)
    return min(end, ranges[at].start) if at < len(ranges) else end


def padding_of(symbols: Symbols) -> int:
    """Return the number of bytes between ``__pfx_foo`` and ``foo``; 0 if none is listed.

    The symbols exist since Linux 6.2 (9f2899fe36a6, "objtool: Add option to generate prefix
    symbols").
    """
    at = symbols.strings.tobytes().find(_TWIN)
    rows = np.flatnonzero(symbols.name == at + 1) if at >= 0 else np.zeros(0, np.intp)
    if not len(rows) or rows[0] + 1 >= len(symbols.address):
        return 0
    first, second = symbols.address[rows[0] : rows[0] + 2].tolist()
    return max(int(second) - int(first), 0)
