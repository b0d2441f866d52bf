"""What ``ksyms lookup`` puts out: rows for people, or JSON, an object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import lru_cache

from .._symbols import Symbol, SymbolTable, link_slide
from .._symbols.search import aliases, nearest
from .._symbols.slide import link_address
from .._typing import Any, Final
from . import output
from .question import Found, Question, shown

STYLES: Final = ("address", "dim", "dim", "name", "dim", "dim", "dim", "")
BLOCK: Final = 4096
"""How many rows are put out together, with their columns aligned."""
OTHERS: Final = 8
"""How many other names of an address a row has at most; JSON has all."""
_KEPT: Final = 1 << 16


class Sheet:
    """Answers from ``table`` as they go to stdout; ``complete`` while each question has one."""

    def __init__(self, table: SymbolTable, as_json: bool, near: bool) -> None:
        self.table = table
        self.complete = True
        self._json = as_json
        self._near = near
        self._rows: list[list[str]] = []
        self._nowhere = "absolute" if table.sections else ""  # FreeBSD's layout has none
        self._slide = link_slide(table)
        self._typed = table.has_prototypes
        self._aliases = lru_cache(_KEPT)(lambda symbol: aliases(table, symbol))

    def add(self, asked: Question, found: Iterable[Found]) -> None:
        """Put out all that is ``found`` for a question, or that there is nothing."""
        none = True
        for symbol, offset in found:
            none = False
            if self._json:
                record = {"query": asked.text, **self._record(symbol)}
                print(json.dumps(record if offset is None else {**record, "offset": offset}))
            else:
                into = "" if offset is None else f"+{offset:#x}/{symbol.size:#x}"
                self._row(symbol, symbol.name + into, offset or 0)
        if none:
            self.complete = False
            self._missing(asked)

    def flush(self) -> None:
        """Put out all there is, so that whoever waits for it has it."""
        output.table(self._rows, STYLES)
        self._rows = []
        sys.stdout.flush()

    def _missing(self, asked: Question) -> None:
        near: tuple[Symbol | None, ...] = ()
        address = asked.start or 0
        if self._near and asked.start is not None and asked.end is None:
            near = nearest(self.table, address)
        if self._json:
            record: dict[str, Any] = {"query": asked.text, "name": None}
            if asked.wrong:
                record["error"] = asked.wrong
            if near:
                record["nearest"] = {
                    side: symbol
                    and {**self._record(symbol), "distance": abs(address - symbol.address)}
                    for side, symbol in zip(("before", "after"), near)
                }
            print(json.dumps(record))
            return
        missing = f"In {self.table.label} {_no(asked)} {shown(asked.text)}"
        print(f"ksyms: {asked.wrong or missing}.", file=sys.stderr)
        for side, symbol in zip(("before", "after"), near):
            if symbol is not None:
                away = address - symbol.address
                into = f"+{away:#x}/{symbol.size:#x}" if away >= 0 else f"-{-away:#x}"
                self._row(symbol, f"nearest {side}: {symbol.name}{into}", away)

    def _row(self, symbol: Symbol, place: str, offset: int) -> None:
        section = symbol.section or self._nowhere
        row = [
            f"{symbol.address + offset:016x}",
            symbol.letter or "?",
            output.size(symbol),
            place,
            section,
        ]
        linked = link_address(symbol, self._slide)
        moved = linked is not None and linked != symbol.address
        row.append(f"link {linked + offset:#x}" if linked is not None and moved else "")
        others = self._aliases(symbol)
        more = len(others) - OTHERS
        shown = ", ".join(others[:OTHERS]) + (f" and {more} more" if more > 0 else "")
        row.append(f"= {shown}" if others else "")
        row.append(self._prototype(symbol))
        self._rows.append(row)
        if len(self._rows) == BLOCK:
            self.flush()

    def _record(self, symbol: Symbol) -> dict[str, Any]:
        linked = link_address(symbol, self._slide)
        return {
            **output.record(symbol),
            "link_address": None if linked is None else f"{linked:#x}",
            "aliases": self._aliases(symbol),
            **({"prototype": self.table.prototype(symbol)} if self._typed else {}),
        }

    def _prototype(self, symbol: Symbol) -> str:
        """The prototype; all that it may be, where there are several of one name."""
        if not self._typed:
            return ""
        found = self.table.prototype(symbol)
        if found is None and (several := self.table.prototypes(symbol)):
            return f"ambiguous: {'; '.join(several)}"
        return found or ""


def _no(asked: Question) -> str:
    """What there is not, in words; the question follows."""
    if asked.end is not None:
        return "no symbol is in"
    if asked.start is not None or asked.offset is not None:
        return "no symbol is at"
    return "no symbol is called" if asked.pattern is None else "no symbol matches"
