r"""The output of commands: aligned columns and lines for people, and whole files.

All output for people passes here, where bytes that a terminal would obey or hide are escaped
(``_printable``). Two blanks separate columns. No cell, line or message has two blanks together,
or one at an end: such blanks are written ``\x20``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from .._printable import blanks_shown, printable
from .._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .._symbols import Symbol

STYLES = {"name": "bold", "address": "cyan", "bad": "yellow", "dim": "dim"}
"""The rich style of each style of a column."""
NUMBER: Final = "number"
"""The style of a column that is aligned to the right."""
_EDGE: Final = "|"
_WIDE: Final = ("  ", f"{_EDGE} ", f" {_EDGE}")
_PLAIN: Final = bytes(range(0x20, 0x7F))


def table(rows: Sequence[Sequence[str]], styles: Sequence[str] = (), indent: int = 0) -> None:
    """Print ``rows`` in aligned columns; ``styles`` has a key of STYLES or NUMBER for each."""
    columns(list(zip(*rows)), styles, indent)


def columns(
    cells: Sequence[Sequence[str]], styles: Sequence[str] = (), indent: int = 0
) -> None:
    """Print a table given by its columns."""
    cells = [_shown(column) for column in cells]
    widths = [max(map(len, column), default=0) for column in cells]
    if not any(widths):
        return
    styles = [*styles, *[""] * (len(cells) - len(styles))]
    pads = [str.rjust if style == NUMBER else str.ljust for style in styles]
    padded = [
        [pad(cell, width) for cell in column]
        for column, width, pad in zip(cells, widths, pads)
        if width
    ]
    styles = [style for style, width in zip(styles, widths) if width]
    if _coloured():
        _print_coloured(zip(*padded), styles, indent)
        return
    margin = " " * indent
    lines = [margin + line.rstrip() for line in map("  ".join, zip(*padded))]
    print("\n".join(lines))


def line(text: str, indent: int = 0) -> None:
    """Print a line for people."""
    print(" " * indent + blanks_shown(printable(text)))


def complain(what: str, remedy: str = "") -> None:
    """Print on stderr what is wrong and what to do; ignore a stderr that cannot be written."""
    what, remedy = (blanks_shown(printable(text)) for text in (what, remedy))
    lines = f"ksyms: {what}" + (f"\n       {remedy}" if remedy else "")
    try:  # noqa: SIM105 # to import contextlib lasts as long as to look an address up
        print(lines, file=sys.stderr)
    except OSError:
        pass


def write(path: str, data: memoryview) -> bool:
    """Write ``data`` to ``path``, or to stdout if that is ``-``; return True if to a file.

    Raises:
        OutputError: the file cannot be written.
    """
    if path != "-":
        from .._output import write_whole

        fd = write_whole(path, data)
        return fd is None or not os.path.sameopenfile(fd, sys.stdout.fileno())
    # With a buffer of its own: an unbuffered stdout may write a part only.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(data)
    return False


def heading(text: str) -> None:
    """Print a line above a table."""
    table([[text]], ["name"])


def size(symbol: Symbol) -> str:
    """Return a symbol's size in bytes, with ~ before it if it was inferred."""
    return f"{symbol.size}" if symbol.exact or not symbol.size else f"~{symbol.size}"


def record(symbol: Symbol) -> dict[str, Any]:
    """Return a symbol as a JSON record, with its address in hexadecimal."""
    return {**symbol._asdict(), "address": f"{symbol.address:#x}"}


def _shown(column: Sequence[str]) -> Sequence[str]:
    """Escape a column's cells; most columns are tested as a whole."""
    whole = _EDGE.join(["", *column, ""])
    # This takes a quarter of isprintable()'s time.
    plain = whole.isascii() and not whole.encode().translate(None, _PLAIN)
    if plain and (" " not in whole or not any(blanks in whole for blanks in _WIDE)):
        return column
    return [blanks_shown(printable(cell)) for cell in column]


def _coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _print_coloured(rows: Iterable[Sequence[str]], styles: Sequence[str], indent: int) -> None:
    # Imported here, so that a lookup whose output is piped does not wait for it.
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        line = Text(" " * indent)
        for cell, style in zip(row, styles):
            line.append(cell + "  ", STYLES.get(style, ""))
        line.rstrip()
        console.print(line, soft_wrap=True)
