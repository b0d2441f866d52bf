"""The regions that the kernel's own boundaries give.

A boundary is a symbol of the linker script at the start or the end of a section of the kernel,
such as ``_etext``. A line of /proc/iomem (``iomem.py``) can stand for a pair of them.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Final
from .files import Region

if TYPE_CHECKING:
    from .files import Kind

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
"""The names of the kernel's symbols whose addresses the regions and the roles need."""


def known_regions(
    landmarks: dict[str, int], iomem: dict[str, tuple[int, int]]
) -> tuple[Region, ...]:
    """Return the regions that the kernel's own boundaries give, sorted, without overlaps.

    If a region overlaps the one before, it starts at the end of that one. A pair of boundaries
    with nothing between them gives no region.

    Args:
        landmarks: addresses of the kernel's own symbols by name.
        iomem: the ranges of /proc/iomem by name, for regions whose two boundary symbols are not
            in kallsyms (no CONFIG_KALLSYMS_ALL).
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
