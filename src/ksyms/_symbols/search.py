"""What is asked of a table beyond an address and a name: ranges, patterns, the nearest."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._errors import ImageError
from .._typing import Final
from .symbol import Symbol
from .table import SymbolTable

_TOP: Final = (1 << 64) - 1
_PADDING: Final = 64
"""How much less than kallsyms tells a function can have: what aligns the next one."""
_PAGE: Final = 4096
MOST: Final = 1024
"""How many names of one address are listed: kernels have hundreds of a call they lack."""


def within(table: SymbolTable, start: int, end: int) -> Iterator[Symbol]:
    """Every symbol that answers for an address from ``start`` to before ``end``.

    They come as their addresses do, with all that begin where one of them begins. What
    lies before ``start`` comes too where it reaches into the range.
    """
    import numpy as np

    if not start < end or start > _TOP:
        return
    spans = table.spans
    bounds = np.array([start, min(end - 1, _TOP)], np.uint64)
    first, last = np.searchsorted(spans.start, bounds, "right").tolist()
    told: set[int] = set()
    for number in spans.number[first - 1 : last].tolist():
        if not number:
            continue
        address = table.numbered(number).address
        if address not in told:
            told.add(address)
            yield from table.at(address)


def nearest(table: SymbolTable, address: int) -> tuple[Symbol | None, Symbol | None]:
    """Who answers nearest below ``address``, and nearest above, where nobody answers for it."""
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
    """Every symbol in whose name ``pattern`` is found, by address."""
    search = pattern.search
    hits = [numbers for name, numbers in table.names.items() if search(name)]
    return table.ordered(number for numbers in hits for number in numbers)


def prints_size(table: SymbolTable, symbol: Symbol, size: int) -> bool:
    """Return whether the kernel can print ``size`` for the symbol.

    It counts up to the next symbol, or to the end of a module's code, which is a page's
    (kernel/kallsyms.c, get_symbol_pos; kernel/module/kallsyms.c, find_kallsyms_symbol). An
    inferred size is that, unless a module's file told where a section ends; an exact one leaves
    out what lies behind the function (padding, tables among a module's code), and takes in
    symbols within it.
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
    """What else ``symbol``'s address is called, as kallsyms has them.

    In a file that is not linked yet every section begins at 0: there only what is in the
    symbol's own section.

    Raises:
        ImageError: they are more than :data:`MOST`.
    """
    same = table.beside(symbol)
    if len(same) < 2 or symbol not in same:  # an absolute one's value is no address
        return []
    if len(same) > MOST:
        raise ImageError(
            f"{table.label} has {len(same)} names for the address {symbol.address:#x}, and "
            f"more than {MOST} are not listed.",
            "Name another file, or ask Python: ksyms.load(FILE).at(ADDRESS).",
        )
    return [other.name for other in same if other != symbol]


def shared(table: SymbolTable) -> frozenset[int]:
    """The addresses of several symbols: no other address has :func:`aliases`."""
    import numpy as np

    values, counts = np.unique(table.rows["st_value"][1:], return_counts=True)
    return frozenset(values[counts > 1].tolist())
