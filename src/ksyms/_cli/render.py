r"""The output of commands: tables and lines for people, JSON for programs, whole files.

A command makes a record. :func:`show` prints it as JSON, or as tables for people. All output
for people goes through this file, which escapes bytes that a terminal would obey or hide
(``_printable``). Two blanks separate columns. So that columns can be told apart, a cell, line
or message never has two blanks together, or one at an end: such blanks are written ``\x20``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .._printable import blanks_shown, printable
from .._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from .._symbols import Symbol

    Record = TypeVar("Record", bound=Mapping[str, object])

STYLES: Final = {"name": 1, "address": 36, "bad": 33, "dim": 2}
"""The SGR parameter of each style of a column (ECMA-48, 8.3.117): bold, cyan, yellow, faint."""
NUMBER: Final = "number"
"""The style of a column that is aligned to the right."""
_EDGE: Final = "|"
"""The character between the cells of a column when they are tested together."""
_WIDE: Final = ("  ", f"{_EDGE} ", f" {_EDGE}")
"""Blanks that have to be escaped, in cells that are joined with :data:`_EDGE`."""
_PLAIN: Final = bytes(range(0x20, 0x7F))
"""The bytes that need no escape."""


def table(rows: Sequence[Sequence[str]], styles: Sequence[str] = (), indent: int = 0) -> None:
    """Print ``rows`` in aligned columns.

    ``styles`` has a style for each column: a key of STYLES, NUMBER, or "" for none. ``indent``
    is the number of blanks before each row.
    """
    columns(list(zip(*rows)), styles, indent)


def columns(
    cells: Sequence[Sequence[str]], styles: Sequence[str] = (), indent: int = 0
) -> None:
    """Print a table as :func:`table` does, but from its columns."""
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

    if _has_colour():
        codes = [STYLES.get(style) for style, width in zip(styles, widths) if width]
        padded = [_coloured(column, code) for column, code in zip(padded, codes)]

    margin = " " * indent
    lines = [margin + line.rstrip() for line in map("  ".join, zip(*padded))]
    print("\n".join(lines))


def line(text: str, indent: int = 0) -> None:
    """Print a line for people, after ``indent`` blanks."""
    print(" " * indent + blanks_shown(printable(text)))


def complain(what: str, remedy: str = "") -> None:
    """Print on stderr what is wrong and what to do; ignore a stderr that cannot be written."""
    what, remedy = (blanks_shown(printable(text)) for text in (what, remedy))
    lines = f"ksyms: {what}" + (f"\n       {remedy}" if remedy else "")
    try:  # noqa: SIM105 # importing contextlib takes as long as looking up an address
        print(lines, file=sys.stderr)
    except OSError:
        pass


def write(path: str, data: memoryview) -> bool:
    """Write ``data`` to the file ``path``; to stdout if that is ``-``.

    Return True if stdout is still free for messages: ``data`` went to another file.

    Raises:
        OutputError: the file cannot be written.
    """
    if path != "-":
        from .._output import write_whole

        fd = write_whole(path, data)
        return fd is None or not os.path.sameopenfile(fd, sys.stdout.fileno())
    # Open a stream with a buffer: an unbuffered stdout may write only a part.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(data)
    return False


def part(title: str, rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print an empty line, a title and a table; print nothing if the table has no rows."""
    if rows:
        print()
        table([[title]], ["name"])
        table(rows, styles, indent=2)


def show(
    record: Record, as_json: bool, rows: Callable[[Record], None], indent: int | None = None
) -> None:
    """Print a command's record: as JSON with ``indent``, or for people by calling ``rows``."""
    if as_json:
        show_json(record, indent)
    else:
        rows(record)


def show_json(record: Mapping[str, object], indent: int | None = None) -> None:
    """Print a record as a JSON object."""
    print(json_of(record, indent))


def json_of(record: Mapping[str, object], indent: int | None = None) -> str:
    """Return a record as a JSON object, in ASCII."""
    import json

    return json.dumps(record, indent=indent)


def symbol_size(symbol: Symbol) -> str:
    """Return a symbol's size in bytes, with ~ before it if it was inferred."""
    return f"{symbol.size}" if symbol.exact or not symbol.size else f"~{symbol.size}"


def symbol_record(symbol: Symbol) -> dict[str, Any]:
    """Return a symbol as a JSON record, with its address in hexadecimal."""
    return {**symbol._asdict(), "address": f"{symbol.address:#x}"}


def _shown(column: Sequence[str]) -> Sequence[str]:
    """Return a column with its cells escaped.

    Most columns need no escapes. To find that out, all cells are tested together::

        cells     "schedule", "do_exit"
        joined    "|schedule|do_exit|"     plain ASCII, without "  ", "| " or " |"
    """
    whole = _EDGE.join(["", *column, ""])
    # This takes a quarter of isprintable()'s time.
    plain = whole.isascii() and not whole.encode().translate(None, _PLAIN)
    if plain and (" " not in whole or not any(blanks in whole for blanks in _WIDE)):
        return column
    return [blanks_shown(printable(cell)) for cell in column]


def _has_colour() -> bool:
    """Return True if stdout is a terminal with colours, and NO_COLOR does not forbid them."""
    terminal = os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return terminal and "NO_COLOR" not in os.environ and sys.stdout.isatty()


def _coloured(column: Sequence[str], code: int | None) -> list[str]:
    """Return padded cells with the colour ``code``; the blanks of the padding have none."""
    if code is None:
        return [*column]
    bare = [cell.strip() for cell in column]
    return [
        cell.replace(text, f"\x1b[{code}m{text}\x1b[m") if text else cell
        for cell, text in zip(column, bare)
    ]
