"""Searches of a table by more than an address or a name: ranges, patterns, the nearest."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._errors import ImageError
from .._typing import Final
from .symbol import Symbol
from .table import SymbolTable

_TOP: Final = (1 << 64) - 1
_PADDING: Final = 64
"""Alignment of functions in bytes: kallsyms' size exceeds an exact one by less than this."""
_PAGE: Final = 4096
MOST: Final = 1024
"""Limit on the names of one address that are listed.

A kernel has hundreds of names for the one function that stands in for all system calls that it
lacks.
"""


def within(table: SymbolTable, start: int, end: int) -> Iterator[Symbol]:
    """Yield every symbol that an address from ``start`` to before ``end`` lies in.

    They come in order of address, each together with all symbols that start at its address. A
    symbol that starts before ``start`` and extends into the range is included.
    """
    import numpy as np

    if not start < end or start > _TOP:
        return
    spans = table.spans
    bounds = np.array([start, min(end - 1, _TOP)], np.uint64)
    first, last = np.searchsorted(spans.start, bounds, "right").tolist()
    seen: set[int] = set()
    for number in spans.number[first - 1 : last].tolist():
        if not number:
            continue
        address = table.numbered(number).address
        if address not in seen:
            seen.add(address)
            yield from table.at(address)


def nearest(table: SymbolTable, address: int) -> tuple[Symbol | None, Symbol | None]:
    """Return the nearest symbols below and above an ``address`` that lies in no symbol.

    None stands for no symbol on that side.
    """
    import numpy as np

    if address > _TOP:
        return None, None
    start, number = table.spans
    after = int(np.searchsorted(start, np.uint64(address), "right"))
    before = after - 1

    while before >= 0 and not number[before]:
        before -= 1
    while after < len(number) and not number[after]:
        after += 1
    return (
        table.numbered(int(number[before])) if before >= 0 else None,
        table.numbered(int(number[after])) if after < len(number) else None,
    )


def matching(table: SymbolTable, pattern: re.Pattern[str]) -> Iterator[Symbol]:
    """Return the symbols whose names ``pattern`` is found in, in order of address."""
    search = pattern.search
    hits = [numbers for name, numbers in table.names.items() if search(name)]
    return table.ordered(number for numbers in hits for number in numbers)


def prints_size(table: SymbolTable, symbol: Symbol, size: int) -> bool:
    """Return True if the kernel can print ``size``, in bytes, for the symbol.

    The kernel counts up to the next symbol, or to the end of a module's code, which is the end
    of a page (kernel/kallsyms.c, get_symbol_pos; kernel/module/kallsyms.c,
    find_kallsyms_symbol). An inferred size is counted in the same way, unless a module's file
    gave the end of a section. An exact size can be smaller, without the padding or tables after
    the function, or larger, if other symbols start within the function.
    """
    if size == symbol.size:
        return True
    if symbol.exact and 0 < size - symbol.size < _PADDING:
        return True
    end, following = symbol.address + size, table.following(symbol.address)
    if end == following or size < symbol.size:
        return end == following
    return end % _PAGE == 0 and (following is None or end < following)


def aliases(table: SymbolTable, symbol: Symbol) -> list[str]:
    """Return the other names of the address of ``symbol``, in the order of kallsyms.

    In an object file, where all sections start at 0, only names in the symbol's own section are
    returned.

    Raises:
        ImageError: there are more than :data:`MOST`.
    """
    same = table.beside(symbol)
    if len(same) < 2 or symbol not in same:  # an absolute symbol's value is not an address
        return []
    if len(same) > MOST:
        raise ImageError(
            f"{table.label} has {len(same)} names for the address {symbol.address:#x}, and "
            f"more than {MOST} are not listed.",
            "Name another file, or ask Python: ksyms.load(FILE).at(ADDRESS).",
        )
    return [other.name for other in same if other != symbol]


def shared(table: SymbolTable) -> frozenset[int]:
    """Return the addresses at which two or more symbols start.

    A symbol at any other address has no :func:`aliases`.
    """
    import numpy as np

    values, counts = np.unique(table.rows["st_value"][1:], return_counts=True)
    return frozenset(values[counts > 1].tolist())
