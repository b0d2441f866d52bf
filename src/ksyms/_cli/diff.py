"""``ksyms diff``: print the differences between two files' symbols."""

from __future__ import annotations

import gc
from collections import defaultdict

from .._printable import word
from .._typing import TYPE_CHECKING, Any, Final
from . import render
from .arguments import add_verbose
from .source import load_file

if TYPE_CHECKING:
    import argparse

    from .._diff import Comparison, Pair
    from .._symbols import Symbol, SymbolTable

EXIT_TROUBLE: Final = 2
"""The exit status for trouble, as of diff and cmp (POSIX); 1 is that for differences."""

_PADDING: Final = "__pfx_"
"""The prefix of the symbols for the padding before each function, since Linux 6.2.

They are not listed: they differ whenever their functions do.
"""
_COUNTS: Final = ("went", "appeared", "grew", "shrank", "moved")
"""The columns of the table of sections."""

_EXAMPLES: Final = """\
examples:
  ksyms diff monday.elf tuesday.elf
  ksyms diff host-6.1.tar.gz host-6.12.tar.gz
  ksyms diff --json old/vmlinux new/vmlinux

exit status: 0 no difference, 1 some, 2 trouble"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "diff",
        help="say what differs between two files' symbols",
        description="Say which symbols and modules went, appeared, changed their size or "
        "moved within their section from OLD to NEW. That KASLR and the module loader put "
        "the whole elsewhere is no difference: two boots of one build have none.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("old", metavar="OLD", help="a file with symbols")
    parser.add_argument("new", metavar="NEW", help="a file with symbols")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
    add_verbose(parser)
    parser.set_defaults(run=run, refused=EXIT_TROUBLE)


def run(options: argparse.Namespace) -> bool:
    """Print the differences; return True if there are none."""
    from .._diff import compare

    # Half a million tuples are made, and no cycles. Collecting garbage would take a quarter of
    # the time.
    gc.disable()
    old, new = load_file(options.old), load_file(options.new)
    found = compare(old, new)
    heads = _head(options.old, old), _head(options.new, new)
    if options.json:
        render.show_json(record(heads, found))
    else:  # not from the record: to make it takes longer than to print the rows
        _print(heads, found)
    return not found.different


def _head(file: str, table: SymbolTable) -> dict[str, Any]:
    """Return the record of one of the two files, without its symbols."""
    known = {"release": table.release, "build_id": table.build_id}
    boot = table.facts.get("boot_id")
    return {"file": file, **known, "boot_id": boot, "symbols": len(table)}


def sections(found: Comparison) -> list[dict[str, Any]]:
    """Return the number of differences in each section, for sections that have some.

    Modules that are in one of the files only are not counted.
    """
    from .._diff import group_of

    shown = {
        "went": found.went,
        "appeared": found.appeared,
        "grew": [pair.new for pair in found.resized if pair.new.size > pair.old.size],
        "shrank": [pair.new for pair in found.resized if pair.new.size < pair.old.size],
        "moved": [pair.new for pair in found.moved],
    }
    counts: dict[Any, dict[str, int]] = defaultdict(lambda: dict.fromkeys(shown, 0))
    for what, symbols in shown.items():
        for symbol in symbols:
            counts[group_of(symbol.module, symbol.section)][what] += 1

    order = sorted(counts, key=lambda group: (group[0] or "", group[1] or ""))
    return [{"section": group[1], "module": group[0], **counts[group]} for group in order]


# -- for people -----------------------------------------------------------------------------


def _print(heads: tuple[dict[str, Any], ...], found: Comparison) -> None:
    rows = [
        [which, head["file"], head["release"] or "", head["build_id"] or "no build-id"]
        for which, head in zip(("old", "new"), heads)
    ]
    render.table(rows, ["dim", "name", "", "dim"])

    slide = "unknown" if found.slide is None else f"{found.slide:#x}, taken out"
    render.table([["slide", slide]], ["dim"])
    if not found.different:
        render.line("no difference")
        return

    modules = [
        [what, word(name), f"{len(symbols)} symbols"]
        for what, group in (("went", found.modules_went), ("appeared", found.modules_appeared))
        for name, symbols in group.items()
    ]
    render.part("modules", modules, ["dim", "name", "dim"])

    render.part("sections", _section_rows(found), ["name"])

    resized = sorted(found.resized, key=_largest_first)
    render.part("changed size", [_resized_row(pair) for pair in resized], _STYLES)
    for title, symbols in (("went", found.went), ("appeared", found.appeared)):
        rows = [_row(symbol) for symbol in symbols if not symbol.name.startswith(_PADDING)]
        render.part(title, rows, _STYLES[1:])
        if len(rows) < len(symbols):
            render.line(f"and {len(symbols) - len(rows)} {_PADDING} symbols", indent=2)


_STYLES: Final = ("", "dim", "dim", "name")


def _section_rows(found: Comparison) -> list[list[str]]:
    """Return the rows of the table of sections, with a head; none if no section differs."""
    rows = [
        [word(section["section"] or "absolute"), *(f"{section[what]}" for what in _COUNTS)]
        for section in sections(found)
    ]
    return [["", *_COUNTS], *rows] if rows else []


def _row(symbol: Symbol) -> list[str]:
    return [render.symbol_size(symbol), word(symbol.section or "absolute"), word(symbol.name)]


def _resized_row(pair: Pair) -> list[str]:
    """Return the row of a symbol that changed its size: by how much, both sizes, its place."""
    size, *rest = _row(pair.new)
    return [f"{pair.by:+d}", f"{render.symbol_size(pair.old)} -> {size}", *rest]


def _largest_first(pair: Pair) -> tuple[int, str]:
    """Return the key that sorts the largest change of size first."""
    return -abs(pair.by or 0), pair.new.name


# -- for programs ---------------------------------------------------------------------------


def record(heads: tuple[dict[str, Any], ...], found: Comparison) -> dict[str, Any]:
    """Return all differences as a JSON record; ``heads`` are the records of the two files."""
    return {
        "different": found.different,
        "old": heads[0],
        "new": heads[1],
        "slide": None if found.slide is None else f"{found.slide:#x}",
        "modules": {
            "went": _modules(found.modules_went),
            "appeared": _modules(found.modules_appeared),
        },
        "sections": sections(found),
        "went": [render.symbol_record(symbol) for symbol in found.went],
        "appeared": [render.symbol_record(symbol) for symbol in found.appeared],
        "resized": [_pair(pair) for pair in found.resized],
        "moved": [_pair(pair) for pair in found.moved],
    }


def _modules(modules: dict[str, list[Symbol]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "symbols": [render.symbol_record(symbol) for symbol in symbols]}
        for name, symbols in modules.items()
    ]


def _pair(pair: Pair) -> dict[str, Any]:
    old, new = (render.symbol_record(symbol) for symbol in (pair.old, pair.new))
    return {"old": old, "new": new, "by": pair.by}
