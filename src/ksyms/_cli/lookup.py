"""``ksyms lookup``: an address to its symbol, a name to its symbols."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from . import output
from .source import ADDRESS, add_source, take_snapshot

if TYPE_CHECKING:
    from .._symbols import Symbol, SymbolTable

_EXAMPLES: Final = """\
examples:
  ksyms lookup 0xffffffff81000000
  ksyms lookup --from kernel.elf ffffffff81001234 schedule
  ksyms lookup --from kernel.elf --json schedule"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "lookup",
        help="say what is at an address, or where a name is",
        description="Say which symbol an address lies in, or where every symbol of a name "
        "is; in the running kernel, or in a file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", metavar="ADDRESS|NAME", nargs="+")
    parser.add_argument("--json", action="store_true", help="one JSON object a symbol")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="file", metavar="FILE", help="a file with symbols")
    add_source(source)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Answer each argument; true where every one was found."""
    from .._symbols import load

    if options.file is not None:
        table = load(options.file)
    else:
        table = load(take_snapshot(options).image)
    rows, complete = [], True
    nowhere = "absolute" if table.sections else ""  # FreeBSD's layout has no sections
    for what in options.what:
        found = answers(table, what)
        if not found:
            complete = False
            _say_missing(table, what, options.json)
        for symbol, offset in found:
            if options.json:
                print(json.dumps(_record(what, symbol, offset) | _types(table, symbol)))
            else:
                place = symbol.section or nowhere
                rows.append([*_row(symbol, offset), place, _prototype(table, symbol)])
    output.table(rows, ["address", "dim", "dim", "name", "dim", ""])
    return complete


def answers(table: SymbolTable, what: str) -> list[tuple[Symbol, int | None]]:
    """The symbols for one argument; with an address, how far into the symbol it is."""
    if not ADDRESS.fullmatch(what) or (len(what) == 8 and table.find(what)):
        return [(symbol, None) for symbol in table.find(what)]
    address = int(what, 16)
    symbol = table.lookup(address)
    return [] if symbol is None else [(symbol, address - symbol.address)]


def _row(symbol: Symbol, offset: int | None) -> list[str]:
    place = symbol.name if offset is None else f"{symbol.name}+{offset:#x}/{symbol.size:#x}"
    at = symbol.address if offset is None else symbol.address + offset
    size = f"{symbol.size}" if symbol.exact or not symbol.size else f"~{symbol.size}"
    return [f"{at:016x}", symbol.letter or "?", size, place]


def _record(what: str, symbol: Symbol, offset: int | None) -> dict[str, Any]:
    record = {"query": what, **symbol._asdict(), "address": f"{symbol.address:#x}"}
    if offset is not None:
        record["offset"] = offset
    return record


def _types(table: SymbolTable, symbol: Symbol) -> dict[str, Any]:
    """The members of a record that a file with BTF has."""
    return {"prototype": table.prototype(symbol)} if table.has_prototypes else {}


def _prototype(table: SymbolTable, symbol: Symbol) -> str:
    """The prototype; all that it may be, where there are several of one name."""
    found = table.prototype(symbol)
    if found is None and (several := table.prototypes(symbol)):
        return f"ambiguous: {'; '.join(several)}"
    return found or ""


def _say_missing(table: SymbolTable, what: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"query": what, "name": None}))
        return
    kind = "no symbol is at" if ADDRESS.fullmatch(what) else "no symbol is called"
    print(f"ksyms: In {table.label} {kind} {what}.", file=sys.stderr)
