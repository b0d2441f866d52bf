"""The symbols that kallsyms lists as ``[bpf]``, with their sizes and their programs."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .bpf_programs import BpfFunction, BpfPrograms
from .files import Region, Symbols
from .host import at_least

if TYPE_CHECKING:
    from .region_input import RegionInput

_DISPATCHER: Final = b"bpf_dispatcher_"
_TRAMPOLINE: Final = b"bpf_trampoline_"
_PROGRAM: Final = b"bpf_prog_"
_TRAMPOLINES_SIZED: Final = (6, 8)
"""The Linux version since which a trampoline can be shorter than a page."""


class BpfSymbols(NamedTuple):
    """The ``[bpf]`` symbols, with what bpf(2) reports of them.

    ``functions`` are the programs' functions that have a symbol. ``images`` are the addresses
    of other code, such as trampolines, whose size is unknown but at most one ``page`` (bytes).
    """

    symbols: Symbols
    functions: tuple[BpfFunction, ...] = ()
    images: tuple[int, ...] = ()
    page: int = 0


def match_programs(
    symbols: Symbols, programs: BpfPrograms | None, release: str | None
) -> BpfSymbols:
    """Return the ``[bpf]`` symbols, with the exact sizes that are known.

    A symbol is that of a function if it has the function's address, and its tag in the name.
    The size of a dispatcher is a page. The size of a trampoline was a page too; since Linux
    kernel commit 26ef208c209a ("bpf: Use arch_bpf_trampoline_size") (in v6.8) it is unknown,
    but at most a page (kernel/bpf/trampoline.c, bpf_image_ksym_add).

    Args:
        symbols: the symbols.
        programs: the programs that bpf(2) reported; None if it could not be called.
        release: the kernel's release; if it is not known, no trampoline gets a size.
    """
    if programs is None:
        return BpfSymbols(symbols)

    known = {function.address: function for function in programs.functions}
    sized = at_least(release, _TRAMPOLINES_SIZED) is not False
    a_page_long = (_DISPATCHER,) if sized else (_DISPATCHER, _TRAMPOLINE)

    size = np.zeros(len(symbols.address), np.uint64)
    functions, images = [], []
    strings = symbols.strings.tobytes()
    for row, (at, address) in enumerate(zip(symbols.name.tolist(), symbols.address.tolist())):
        name = strings[at : strings.index(b"\0", at)]
        function = known.get(address)
        if function is not None and _is_symbol_of(name, function):
            size[row] = function.size
            functions.append(function)
        elif name.startswith(a_page_long):
            size[row] = programs.page
        elif not name.startswith(_PROGRAM):
            images.append(address)

    symbols = symbols._replace(size=size, exact=size > 0)
    return BpfSymbols(symbols, tuple(functions), tuple(images), programs.page)


def extend_regions(
    regions: dict[int, tuple[Region, ...]], number: int, symbols: Symbols
) -> dict[int, tuple[Region, ...]]:
    """Return ``regions``; those of one file reach at least to the ends of its symbols.

    A region was inferred to end with the page of its last symbol, but code can be longer. Only
    symbols with an exact size count, and no region is extended into the next one of any file::

        region of [bpf]         0x1000 to 0x2000
        its last symbol         0x1f40, 0x480 bytes, so it ends at 0x23c0
        the next region         0x3000
        region of [bpf] now     0x1000 to 0x23c0

    Args:
        regions: the regions by file id.
        number: the id of the file.
        symbols: the symbols of the file.
    """
    if not symbols.exact.any():
        return regions

    starts = sorted(region.start for owned in regions.values() for region in owned)
    begin = symbols.address[symbols.exact]
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], (begin + symbols.size[symbols.exact])[order]

    longer = []
    for region in regions.get(number, ()):
        inside = slice(*np.searchsorted(begin, (region.start, region.end)).tolist())
        last = int(end[inside].max(initial=0))
        above = bisect_right(starts, region.start)
        limit = starts[above] if above < len(starts) else last
        whole = region._replace(end=min(last, limit), inferred=last > limit)
        longer.append(whole if region.end < last else region)
    return {**regions, number: tuple(longer)}


def image_ends(programs: BpfSymbols, files: list[RegionInput]) -> tuple[int, ...]:
    """Return the ends of the images that no symbol of ``files`` follows within a page.

    An image's size is unknown. If another symbol follows within a page, the image ends there at
    the latest. Otherwise its end is taken to be one page after its start.
    """
    if not programs.images:
        return ()
    address = np.concatenate([file.address for file in files])
    address.sort()
    begin = np.array(programs.images, np.uint64)
    end = begin + np.uint64(programs.page)
    bounds = (np.searchsorted(address, at, "right") for at in (begin, end))
    # The images for which as many symbols are at or below the end as at or below the start.
    alone: list[int] = end[np.equal(*bounds)].tolist()
    return tuple(alone)


def _is_symbol_of(name: bytes, function: BpfFunction) -> bool:
    """Return True if ``name`` is the name of the symbol of ``function``.

    That is ``bpf_prog_TAG`` or ``bpf_prog_TAG_NAME`` (kernel/bpf/core.c,
    bpf_prog_ksym_set_name).
    """
    called = _PROGRAM + function.tag.encode()
    return name == called or name.startswith(called + b"_")
