"""The symbols that kallsyms lists as ``[bpf]``: their sizes, and the programs they are of."""

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
    """The ``[bpf]`` symbols, and what bpf(2) says of them.

    ``functions`` are the programs' functions that have a symbol. ``images`` are the addresses
    of images, such as trampolines, whose size is unknown and at most one ``page`` (bytes).
    """

    symbols: Symbols
    functions: tuple[BpfFunction, ...] = ()
    images: tuple[int, ...] = ()
    page: int = 0


def match_programs(
    symbols: Symbols, programs: BpfPrograms | None, release: str | None
) -> BpfSymbols:
    """Return the ``[bpf]`` ``symbols``, with exact sizes where these are known.

    A symbol is a function of ``programs`` if it has the function's address, and its tag in the
    name. A dispatcher's size is a page, and so was a trampoline's. Since Linux kernel commit
    26ef208c209a ("bpf: Use arch_bpf_trampoline_size") (in v6.8) a trampoline's is unknown, at
    most a page (kernel/bpf/trampoline.c, bpf_image_ksym_add).

    Args:
        symbols: the symbols.
        programs: what bpf(2) reported, if it could be asked.
        release: the kernel's release; if it is not known, no trampoline has a size.
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
    """Return ``regions`` with those of file ``number`` extended to the ends of its symbols.

    Only ``symbols`` with an exact size count, and no region is extended into the next region of
    any file.
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
    """Return the ends of the images after which no symbol of ``files`` follows within a page.

    An image's end is taken to be one page after its start.
    """
    if not programs.images:
        return ()
    address = np.concatenate([file.address for file in files])
    address.sort()
    begin = np.array(programs.images, np.uint64)
    end = begin + np.uint64(programs.page)
    bounds = (np.searchsorted(address, at, "right") for at in (begin, end))
    alone: list[int] = end[np.equal(*bounds)].tolist()
    return tuple(alone)


def _is_symbol_of(name: bytes, function: BpfFunction) -> bool:
    """Return True if ``name`` is that of the symbol of ``function``.

    It is ``bpf_prog_TAG`` or ``bpf_prog_TAG_NAME`` (kernel/bpf/core.c, bpf_prog_ksym_set_name).
    """
    called = _PROGRAM + function.tag.encode()
    return name == called or name.startswith(called + b"_")
