"""The functions of modules in freed memory: which they are, and which still name addresses.

When a module becomes Live the kernel frees its init sections, but ftrace remembers the
functions in them, and kallsyms lists them after all modules. The kernel's lookup asks for them
last, so such a function names an address only if nothing else uses the memory.
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
"""The letter with which kallsyms lists the functions that ftrace remembers."""


class ListedModule(NamedTuple):
    """The symbols that kallsyms lists for a module.

    ``first_run`` is the number of symbols in its first run of lines, ``sections`` has the start
    and the name of each section in sysfs, and ``module`` is its line of /proc/modules.
    """

    symbols: Symbols
    first_run: int
    sections: tuple[tuple[int, str], ...]
    module: Module | None


def find_freed(modules: Sequence[ListedModule]) -> list[Mask]:
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
    freed = [_listed_as_freed(module) for module in modules]
    if not modules:
        return freed

    count = np.array([len(module.symbols.address) for module in modules])
    role = np.concatenate([module.symbols.role for module in modules])
    page = np.concatenate([module.symbols.address for module in modules]) // np.uint64(PAGE)

    # In doubt are the lines on a page whose first line is another module's.
    at = np.flatnonzero((role < Role.ABSOLUTE) & ~np.concatenate(freed))
    module = np.repeat(np.arange(len(modules)), count)[at]
    _, first, back = np.unique(page[at], return_index=True, return_inverse=True)
    doubtful = np.zeros(len(page), np.bool_)
    doubtful[at] = module != module[first][back]

    starts = np.cumsum(count) - count
    for number in np.flatnonzero(np.bincount(module[doubtful[at]])).tolist():
        lines = slice(starts[number], starts[number] + count[number])
        freed[number] |= _freed_of_doubtful(modules[number], page[lines], doubtful[lines])
    return freed


def _listed_as_freed(module: ListedModule) -> Mask:
    """Return a mask of the functions after the module's first run, or in freed init memory.

    A line after the first run is the module's own if it is on a page on which the first run has
    symbols: such a text was sorted in another order.
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
        doubtful: a mask of the lines on a page on which an earlier module has symbols.
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

    own = ~freed
    if own[:first].any():
        freed[: int(np.argmax(own))] = False
    return np.asarray(freed & ~np.isin(page, page[~freed]))


class FreedFunctions(NamedTuple):
    """The freed functions of a module that still name addresses.

    ``role`` (uint8) has the roles of all of the module's symbols. ``ranges`` are the ranges of
    the freed functions that name addresses, and ``stops`` are their ends.
    """

    role: U8
    ranges: tuple[Range, ...]
    stops: tuple[int, ...]


def find_naming(
    modules: Sequence[tuple[Symbols, Mask]], taken: Sequence[Range], padding: int
) -> list[FreedFunctions]:
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

        for found in ranges:
            occupied.insert(bisect_left(occupied, found), found)
        stops = tuple(found.end for found in ranges)
        results.append(FreedFunctions(role, tuple(ranges), stops))
    return results


def _end_of_freed(address: int, following: int, padding: int) -> int:
    """Return the end of the freed function at ``address``, before ``following``, the next.

    It ends where the next one's ``__pfx_`` symbol begins, ``padding`` bytes before it, but with
    its own page if the next function is neither on that page nor on the one after it::

        0x1010  alpha_init   ends at 0x13f0, with a padding of 16
        0x1400  beta_init    ends at 0x27f0: the next is on the next page
        0x2800  gamma_init   ends at 0x3000: none follows
    """
    end = max(following - padding, address + 1)
    return end if following - page_end(address) < PAGE else min(end, page_end(address))


def freed_regions(name: str, ranges: tuple[Range, ...]) -> list[Region]:
    """Return the regions of freed functions; ranges less than a page apart share one."""
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
    """Return ``end``, or the start of the next of ``ranges`` above ``start`` if it is lower."""
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
