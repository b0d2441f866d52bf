"""What commands put out: aligned columns for people, and whole files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from .._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._symbols import Symbol

STYLES = {"name": "bold", "address": "cyan", "bad": "yellow", "dim": "dim"}
"""What a column's style means to rich."""


def table(rows: Sequence[Sequence[str]], styles: Sequence[str] = (), indent: int = 0) -> None:
    """Print ``rows`` with their columns aligned; ``styles`` names one of STYLES a column."""
    columns(list(zip(*rows)), styles, indent)


def columns(
    cells: Sequence[Sequence[str]], styles: Sequence[str] = (), indent: int = 0
) -> None:
    """The same of the table's columns."""
    widths = [max(map(len, column), default=0) for column in cells]
    if not any(widths):
        return
    padded = [
        [cell.ljust(width) for cell in column] for column, width in zip(cells, widths) if width
    ]
    styles = [style for style, width in zip(styles, widths) if width]
    if _coloured():
        _print_coloured(zip(*padded), styles, indent)
        return
    margin = " " * indent
    lines = [margin + line.rstrip() for line in map("  ".join, zip(*padded))]
    print("\n".join(lines))


def write(path: str, data: memoryview) -> bool:
    """Write ``data`` to the file ``path``, or to stdout for ``-``; true if stdout is free.

    Raises:
        OutputError: the file cannot be written.
    """
    if path != "-":
        from .._output import write_whole

        fd = write_whole(path, data)
        return fd is None or not os.path.sameopenfile(fd, sys.stdout.fileno())
    # Buffered anew: an unbuffered stdout writes a part and says how much.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(data)
    return False


def heading(text: str) -> None:
    """Print a line above a table."""
    table([[text]], ["name"])


def size(symbol: Symbol) -> str:
    """A symbol's size in bytes; with ~ before it where it is inferred."""
    return f"{symbol.size}" if symbol.exact or not symbol.size else f"~{symbol.size}"


def record(symbol: Symbol) -> dict[str, Any]:
    """A symbol as JSON has it, with its address in hexadecimal."""
    return {**symbol._asdict(), "address": f"{symbol.address:#x}"}


def _coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _print_coloured(rows: Iterable[Sequence[str]], styles: Sequence[str], indent: int) -> None:
    # Imported where it is needed: a lookup whose output is piped must not wait for it.
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        line = Text(" " * indent)
        for number, cell in enumerate(row):
            style = styles[number] if number < len(styles) else ""
            line.append(cell + "  ", STYLES.get(style, ""))
        line.rstrip()
        console.print(line, soft_wrap=True)
