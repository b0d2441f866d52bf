"""Tables of figures, and the parts of docs/performance.md that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, with its columns aligned in the source too."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    rule = [("-" if n == 0 else "-" * (width - 1) + ":") for n, width in enumerate(widths)]
    rule[0] = "-" * widths[0]

    def line(cells: list[str]) -> str:
        first, *others = zip(cells, widths)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(row) for row in (head, rule, *rows))


def recorded(name: str) -> str:
    """Return the text between the two comments called ``name`` in docs/performance.md."""
    _, _, rest = PAGE.read_text().partition(f"<!-- {name}: begin -->\n")
    return rest.partition(f"<!-- {name}: end -->")[0]


def record(name: str, report: str) -> None:
    """Put ``report`` between the two comments called ``name`` in docs/performance.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n{report}\n{end}{after}")
