"""The freed functions: init functions of modules, in memory that the kernel has freed.

When a module becomes Live, the kernel frees its init sections. But ftrace remembers the
functions in them, and kallsyms lists these after all modules. The kernel's lookup searches them
last, so a freed function names an address only if nothing else uses the memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from .._note import PFX_PREFIX
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .addresses import LAST_ADDRESS, PAGE, Range, page_end, page_start
from .files import Region, Role, Symbols
from .init_sections import in_freed_init
from .modules import Module

if TYPE_CHECKING:
    from .._arrays import U8, U64, Mask

_REMEMBERED: Final = ord("T")
"""The letter of all functions that ftrace remembers, in kallsyms."""


class ListedModule(NamedTuple):
    """The symbols that kallsyms lists for a module.

    ``first_run`` is the number of symbols in its first run of lines. ``sections`` has the start
    and the name of each section in sysfs, sorted. ``module`` is its line of /proc/modules, None
    if there is none.
    """

    symbols: Symbols
    first_run: int
    sections: tuple[tuple[int, str], ...]
    module: Module | None


def find_freed(modules: Sequence[ListedModule]) -> list[Mask]:
    """Return for each module a mask of the symbols that are freed functions.

    kallsyms lists the init functions that ftrace remembers after all modules, with the letter
    ``T``, in a run of lines for each module (kernel/trace/ftrace.c, ftrace_mod_get_kallsym)::

        ... t alpha_ioctl    [alpha]     first run of alpha
        ... t beta_probe     [beta]      first run of beta, the last module
        ... T beta_init      [beta]      remembered, in the same run
        ... T alpha_init     [alpha]     remembered, in a run of its own

    So the symbols with the letter ``T`` after the first run are freed functions. A symbol in
    the first run is one in two cases:

    - It lies in an init section that was freed. This does not count if the module has undefined
      symbols, since then the kernel lists its whole symbol table.
    - It lies on a page on which an earlier module has symbols. Modules share no pages, since
      execmem_alloc in mm/execmem.c allocates whole pages, also from its cache of large ones.

    Args:
        modules: the modules in the order of the text.
    """
    freed = [_listed_as_freed(module) for module in modules]
    if not modules:
        return freed

    count = np.array([len(module.symbols.address) for module in modules])
    role = np.concatenate([module.symbols.role for module in modules])
    page = np.concatenate([module.symbols.address for module in modules]) // np.uint64(PAGE)

    # A line is in doubt if the first line on its page is another module's.
    at = np.flatnonzero((role < Role.ABSOLUTE) & ~np.concatenate(freed))
    module = np.repeat(np.arange(len(modules)), count)[at]
    _, first, back = np.unique(page[at], return_index=True, return_inverse=True)
    doubtful = np.zeros(len(page), np.bool_)
    doubtful[at] = module != module[first][back]

    # Decide about the lines in doubt, for each module that has some.
    starts = np.cumsum(count) - count
    for number in np.flatnonzero(np.bincount(module[doubtful[at]])).tolist():
        lines = slice(starts[number], starts[number] + count[number])
        freed[number] |= _freed_of_doubtful(modules[number], page[lines], doubtful[lines])
    return freed


def _listed_as_freed(module: ListedModule) -> Mask:
    """Return a mask of the functions after the module's first run, or in a freed init section.

    A line after the first run is no freed function if the first run has symbols on the same
    page: then somebody has sorted the text in another order.
    """
    symbols, first, sections, line = module
    has_address = symbols.role < Role.ABSOLUTE
    freed = np.zeros(len(has_address), np.bool_)
    if first < len(freed):
        page = symbols.address // np.uint64(PAGE)
        freed[first:] = symbols.letter[first:] == _REMEMBERED
        freed[first:] &= ~np.isin(page[first:], page[:first][has_address[:first]])
    if sections and not (symbols.role == Role.UNDEFINED).any():
        freed |= in_freed_init(symbols.address, sections, line)
    return np.asarray(freed & has_address)


def _freed_of_doubtful(module: ListedModule, page: U64, doubtful: Mask) -> Mask:
    """Return a mask of the lines that are freed functions, among those that are in doubt.

    A line is in doubt if an earlier module has symbols on its page. No kernel has two live
    modules on one page, but a text edited by hand can. So a line is taken to be live in these
    cases:

    - its letter is not ``T``
    - it is in the module's memory according to /proc/modules
    - /proc/modules has no address of the module, and all of the module's lines are in doubt
    - it comes before the first line that is not in doubt, and that one is in the first run
    - there is a live line on the same page

    Args:
        module: the module that the lines are of.
        page: the page number of each line (uint64).
        doubtful: a mask of the lines that are in doubt.
    """
    symbols, first, _, line = module
    freed = doubtful & (symbols.letter == _REMEMBERED)

    if line is not None and line.address:
        base = np.uint64(page_start(line.address))
        freed &= (symbols.address < base) | (
            symbols.address - np.uint64(line.address) >= np.uint64(max(line.size, 0))
        )
    elif freed.all():
        return np.zeros_like(freed)

    # Lines before the first live one in the first run are live, and lines on a page with one.
    own = ~freed
    if own[:first].any():
        freed[: int(np.argmax(own))] = False
    return np.asarray(freed & ~np.isin(page, page[~freed]))


class FreedFunctions(NamedTuple):
    """The freed functions of a module that still name addresses.

    ``role`` (uint8) has the roles of all symbols of the module. ``ranges`` are the addresses of
    the freed functions that still name them, and ``stops`` are the ends of these ranges.
    """

    role: U8
    ranges: tuple[Range, ...]
    stops: tuple[int, ...]


def find_naming(
    modules: Sequence[tuple[Symbols, Mask]], taken: Sequence[Range], padding: int
) -> list[FreedFunctions]:
    """Find the freed functions that name addresses: those whose memory is not used again.

    The kernel's lookup searches freed functions last. Of two at one address it finds the one of
    the module that was freed last, which the text lists first (ftrace_mod_address_lookup). The
    size of a freed function is the distance to the next symbol, or to the end of the init
    memory, which is the end of a page.

    Args:
        modules: the symbols of each module and the mask of its freed functions, in the order
            of the text.
        taken: the ranges of memory in use, sorted, without overlaps.
        padding: the number of bytes between ``__pfx_foo`` and ``foo``.

    Returns:
        One item for each module, in the same order.
    """
    occupied = list(taken)
    results = []
    for symbols, freed in modules:
        if not freed.any():
            results.append(FreedFunctions(symbols.role, (), ()))
            continue

        role = symbols.role.copy()
        ranges: list[Range] = []
        addresses = sorted({*symbols.address[freed].tolist()})
        for address, following in zip(addresses, [*addresses[1:], LAST_ADDRESS]):
            if _holds(occupied, address):
                role[freed & (symbols.address == np.uint64(address))] = Role.UNDEFINED
            else:
                end = _end_of_freed(address, following, padding)
                ranges.append(Range(address, _cut(occupied, address, end)))

        # For the next modules, which were freed before this one, these ranges are in use.
        for found in ranges:
            occupied.insert(bisect_left(occupied, found), found)
        stops = tuple(found.end for found in ranges)
        results.append(FreedFunctions(role, tuple(ranges), stops))
    return results


def _end_of_freed(address: int, following: int, padding: int) -> int:
    """Return the end of the freed function at ``address``; the next one is at ``following``.

    It ends where the ``__pfx_`` symbol of the next one starts, ``padding`` bytes before that.
    If the next one is neither on the same page nor on the page after it, it ends with its
    page::

        0x1010  alpha_init   ends at 0x13f0, with a padding of 16
        0x1400  beta_init    ends at 0x27f0: the next is on the next page
        0x2800  gamma_init   ends at 0x3000: none follows
    """
    end = max(following - padding, address + 1)
    return end if following - page_end(address) < PAGE else min(end, page_end(address))


def freed_regions(name: str, ranges: tuple[Range, ...]) -> list[Region]:
    """Return the regions of a module's freed functions.

    Ranges that are less than a page apart share one region.
    """
    found: list[Region] = []
    for start, end in ((start, min(end, LAST_ADDRESS)) for start, end in ranges):
        if found and start - found[-1].end < PAGE:
            found[-1] = found[-1]._replace(end=end)
        else:
            count = f".{len(found) + 1}" if found else ""
            label = f"[{name}].freed.text{count}"
            found.append(Region(label, start, end, "text", True, "letters"))
    return found


def _holds(ranges: list[Range], address: int) -> bool:
    """Return True if one of the sorted ``ranges`` holds ``address``."""
    at = bisect_right(ranges, address, key=lambda one: one.start) - 1
    return at >= 0 and address < ranges[at].end


def _cut(ranges: list[Range], start: int, end: int) -> int:
    """Return ``end``, or the start of the first range above ``start`` if that is lower."""
    at = bisect_right(ranges, start, key=lambda one: one.start)
    return min(end, ranges[at].start) if at < len(ranges) else end


def pfx_padding(symbols: Symbols) -> int:
    """Return the number of bytes between ``__pfx_foo`` and ``foo``; 0 if none is listed.

    The symbols exist since Linux kernel commit 9f2899fe36a6 ("objtool: Add option to generate
    prefix symbols") (in v6.2).
    """
    at = symbols.strings.tobytes().find(b"\0" + PFX_PREFIX)
    rows = np.flatnonzero(symbols.name == at + 1) if at >= 0 else np.zeros(0, np.intp)
    if not len(rows) or rows[0] + 1 >= len(symbols.address):
        return 0
    first, second = symbols.address[rows[0] : rows[0] + 2].tolist()
    return max(int(second) - int(first), 0)
