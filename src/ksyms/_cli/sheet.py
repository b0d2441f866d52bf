"""The output of ``ksyms lookup``: rows for people, or a JSON object a line."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

from .._printable import word
from .._symbols import Symbol, SymbolTable, link_slide, programs
from .._symbols.search import aliases, nearest, shared
from .._symbols.slide import link_address
from .._symbols.table import LOOKUPS
from .._typing import Any, Final
from . import render
from .missing import Missing, explain_missing
from .question import Question, find_answers, parse_addresses, parse_line, shorten

STYLES: Final = ("address", "dim", "dim", "name", "dim", "dim", "dim", "", "")
BLOCK: Final = 4096
"""Number of rows that are printed together, with aligned columns."""
OTHERS: Final = 8
"""Largest number of other names of an address that a row lists; JSON lists all."""
NONE: Final = "??"
"""The address column's text if a line of standard input has no answer."""
HINTS: Final = 16
"""Number of unknown names for which similar ones are searched: each search takes a while."""
_KEPT: Final = 1 << 16  # size of each cache
_SIDES: Final = ("before", "after")


class Sheet(ABC):
    """The output of answers to stdout; subclasses print them for people or as JSON.

    ``complete`` is True as long as each question has an answer.

    Args:
        table: the symbols in which the answers are found.
        near: for an address that is in no symbol, print the symbols before and after it.
    """

    def __init__(self, table: SymbolTable, near: bool) -> None:
        self.table = table
        self.complete = True
        self._near = near
        self._hints = HINTS
        """Number of unknown names for which similar ones may still be searched."""
        self._slide = link_slide(table)
        self._typed = table.has_prototypes
        self._aliases_of = lru_cache(_KEPT)(lambda symbol: aliases(table, symbol))
        self._asked = 0
        """Number of symbols whose other names were asked for."""
        self._shared: frozenset[int] | None = None
        """All addresses with several symbols, once they are known; see :meth:`_aliases`."""
        self._parts: dict[int, Any] = {0: None}
        """The parts of answers by the symbol's number; see :meth:`_parts_of`."""

    def add(self, asked: Question, line: int | None = None) -> None:
        """Print all answers to a question, or that there is none.

        ``line`` is the line number of a question from standard input; else None. For a line
        of standard input stdout has an answer in any case, even that there is none.
        """
        none = True
        for symbol, offset in find_answers(self.table, asked):
            none = False
            self._print_answer(asked, line, symbol, offset)
        if none:
            self._print_no_answer(asked, line, *self._explain(asked, line))

    def add_lines(self, texts: Sequence[str], line: int) -> None:
        """Print the answers to lines of standard input; ``line`` is the number of the first.

        Consecutive addresses that lie in symbols are answered together, other lines one by
        one::

            0xffffffff81000010    _print_addresses()
            0xffffffff81000020    the same call
            schedule              add()
            0xffffffff81000030    _print_addresses()
        """
        starts = parse_addresses(texts)
        kept = self._parts_of(starts)

        first = 0
        for place in [*(place for place, each in enumerate(kept) if each is None), len(texts)]:
            alike = slice(first, place)
            if first < place:
                self._print_addresses(texts[alike], line + first, starts[alike], kept[alike])
            if place < len(texts):
                self.add(parse_line(texts[place]), line + place)
            first = place + 1

    def flush(self) -> None:
        """Print all that was added, so that a waiting reader has it."""
        sys.stdout.flush()

    def _parts_of(self, starts: Sequence[int | None]) -> list[Any]:
        """Return for each address the part of the answer that its symbol determines.

        Answers for two addresses in one symbol differ only in the address and the offset. The
        rest is the part: it is made once for each symbol. It is None if the address lies in no
        symbol, or in a BPF program, whose source line depends on the offset too.
        """
        found = iter(self.table.numbers_of([start for start in starts if start is not None]))
        numbers = [0 if start is None else next(found) for start in starts]

        fresh = sorted(set(numbers).difference(self._parts))
        self._asked += len(fresh)
        for number, symbol in zip(fresh, self.table.several(fresh)):
            alike = symbol.module != "bpf" or self.table.program(symbol) is None
            self._parts[number] = self._make_part(symbol) if alike else None

        return [self._parts[number] for number in numbers]

    @abstractmethod
    def _make_part(self, symbol: Symbol) -> Any:
        """Return the part of the answer that is the same for all addresses in a symbol."""

    @abstractmethod
    def _print_addresses(
        self, texts: Sequence[str], line: int, starts: Sequence[Any], kept: Sequence[Any]
    ) -> None:
        """Print the answers to addresses; ``kept`` has the part of each one's symbol."""

    @abstractmethod
    def _print_answer(
        self, asked: Question, line: int | None, symbol: Symbol, offset: int | None
    ) -> None:
        """Print one answer to a question."""

    @abstractmethod
    def _print_no_answer(
        self, asked: Question, line: int | None, told: Missing, near: list[Symbol | None]
    ) -> None:
        """Print that there is no answer; ``near`` has the symbols before and after, or none."""

    def _explain(
        self, asked: Question, line: int | None
    ) -> tuple[Missing, list[Symbol | None]]:
        """Return why a question has no answer, and the symbols before and after, or none."""
        if asked.text or line is None:
            told = explain_missing(self.table, asked, self._hints > 0)
            self._hints -= told.name is not None
            self.complete = False
        else:  # an empty line asks nothing
            told = Missing("")
        if not self._near or asked.start is None or asked.end is not None:
            return told, []
        return told, list(nearest(self.table, asked.start))

    def _aliases(self, symbol: Symbol) -> list[str]:
        """Return the other names of the symbol's address.

        After many calls, find all addresses that have several symbols at once. From then on no
        other address is searched for names.
        """
        self._asked += 1
        if self._shared is None and self._asked >= LOOKUPS:
            self._shared = shared(self.table)
        if self._shared is not None and symbol.address not in self._shared:
            return []
        return self._aliases_of(symbol)


_Cells = tuple[str, str, str, int | None, str, str]
"""A symbol's cells: letter, size, section, slide (bytes or None), other names, prototype."""
_Named = tuple[int, str, str, str, str, str, int | None, str, str]
"""A symbol's address; name and size as ``NAME+OFFSET/SIZE`` has them; then its cells."""


class AnswerRows(Sheet):
    """The output of answers as rows for people."""

    def __init__(self, table: SymbolTable, near: bool) -> None:
        super().__init__(table, near)
        self._columns: list[list[str]] = [[] for _ in STYLES]
        """The columns of the rows that are not printed yet."""
        self._nowhere = "absolute" if table.sections else ""  # FreeBSD's layout has none
        self._hexadecimal = f"%0{table.digits}x"
        self._section = lru_cache(_KEPT)(word)

    def flush(self) -> None:
        """Print all that was added, so that a waiting reader has it."""
        render.columns(self._columns, STYLES)
        self._columns = [[] for _ in STYLES]
        super().flush()

    def _make_part(self, symbol: Symbol) -> _Named:
        name, size = word(self.table.printed(symbol)), f"{symbol.size:#x}"
        return symbol.address, name, size, *self._cells(symbol)

    def _print_addresses(
        self, texts: Sequence[str], line: int, starts: Sequence[Any], kept: Sequence[_Named]
    ) -> None:
        begins, names, sizes, *cells = zip(*kept)
        rows = zip(names, starts, begins, sizes)
        places = [f"{name}+{start - begin:#x}/{size}" for name, start, begin, size in rows]
        self._add_rows(starts, places, cells, [""] * len(places))

    def _print_answer(
        self, asked: Question, line: int | None, symbol: Symbol, offset: int | None
    ) -> None:
        place = word(symbol.name)
        if offset is not None:
            place = f"{word(self.table.printed(symbol))}+{offset:#x}/{symbol.size:#x}"
        self._add_row(symbol, place, offset or 0)

    def _print_no_answer(
        self, asked: Question, line: int | None, told: Missing, near: list[Symbol | None]
    ) -> None:
        if told.sentence:
            render.complain(told.sentence)
        if line is not None:
            row = (NONE, "?", "?", shorten(asked.text), "", "", "", "", "")
            self._add_columns(*([cell] for cell in row))
        for side, symbol in zip(_SIDES, near):
            if symbol is not None:
                away = (asked.start or 0) - symbol.address
                into = f"+{away:#x}/{symbol.size:#x}" if away >= 0 else f"-{-away:#x}"
                self._add_row(symbol, f"nearest {side}: {word(symbol.name)}{into}", away)

    def _add_row(self, symbol: Symbol, place: str, offset: int) -> None:
        program = programs.words(self.table, symbol, offset)
        cells = [[cell] for cell in self._cells(symbol)]
        self._add_rows([symbol.address + offset], [place], cells, [program])

    def _add_rows(
        self,
        starts: Sequence[int],
        places: Sequence[str],
        cells: Sequence[Sequence[Any]],
        told: Sequence[str],
    ) -> None:
        """Add a row for each of the addresses ``starts``.

        The other arguments are columns: the names with offsets, the columns of :data:`_Cells`,
        and what is known of BPF programs.
        """
        letters, sizes, sections, slides, others, prototypes = cells
        shown = [self._hexadecimal % start for start in starts]
        links = [
            "" if slide is None else f"link {start - slide:#x}"
            for start, slide in zip(starts, slides)
        ]
        self._add_columns(
            shown, letters, sizes, places, sections, links, others, prototypes, told
        )

    def _add_columns(self, *columns: Sequence[str]) -> None:
        """Add rows, given by their columns; print all whole blocks of rows."""
        for mine, more in zip(self._columns, columns):
            mine.extend(more)
        while len(self._columns[0]) >= BLOCK:
            later = [column[BLOCK:] for column in self._columns]
            self._columns = [column[:BLOCK] for column in self._columns]
            self.flush()
            self._columns = later

    def _cells(self, symbol: Symbol) -> _Cells:
        """Return the cells of a row that depend on the symbol alone."""
        linked = link_address(symbol, self._slide)
        slide = 0 if linked is None else symbol.address - linked
        others = self._aliases(symbol)
        return (
            symbol.letter or "?",
            render.symbol_size(symbol),
            self._section(symbol.section or self._nowhere),
            slide or None,
            _listed(others) if others else "",
            self._prototype(symbol) if self._typed else "",
        )

    def _prototype(self, symbol: Symbol) -> str:
        """Return the cell with the prototype; with all of them if it is ambiguous."""
        found = self.table.prototype(symbol)
        if found is None and (several := self.table.prototypes(symbol)):
            return f"ambiguous: {'; '.join(several)}"
        return found or ""


def _listed(others: Sequence[str]) -> str:
    """Return the cell with the other names of an address."""
    more = len(others) - OTHERS
    shown = ", ".join(map(word, others[:OTHERS]))
    return f"= {shown} and {more} more" if more > 0 else f"= {shown}"


class Records(Sheet):
    """The output of answers as JSON objects, one a line."""

    def _make_part(self, symbol: Symbol) -> tuple[int, str]:
        return symbol.address, render.json_of(self._named(symbol, 0))[1:-1]

    def _print_addresses(
        self, texts: Sequence[str], line: int, starts: Sequence[Any], kept: Sequence[Any]
    ) -> None:
        # The texts are addresses, and have no characters that JSON would escape.
        records = [
            f'{{"query": "{text}", "line": {number}, {told}, "offset": {start - first}}}\n'
            for number, (text, start, (first, told)) in enumerate(
                zip(texts, starts, kept), line
            )
        ]
        sys.stdout.write("".join(records))

    def _print_answer(
        self, asked: Question, line: int | None, symbol: Symbol, offset: int | None
    ) -> None:
        if offset is None:
            self._print(asked, line, self._record(symbol, 0))
        else:
            self._print(asked, line, {**self._named(symbol, offset), "offset": offset})

    def _print_no_answer(
        self, asked: Question, line: int | None, told: Missing, near: list[Symbol | None]
    ) -> None:
        record: dict[str, Any] = {"name": None}
        if asked.wrong:
            record["error"] = asked.wrong
        if told.why:
            record["why"] = told.why
        if told.similar:
            record["similar"] = told.similar
        if near:
            record["nearest"] = {
                side: symbol and self._neighbour(symbol, (asked.start or 0) - symbol.address)
                for side, symbol in zip(_SIDES, near)
            }
        self._print(asked, line, record)

    def _neighbour(self, symbol: Symbol, away: int) -> dict[str, Any]:
        """Return the record of a symbol near an address ``away`` bytes after its start."""
        return {**self._record(symbol, away), "distance": abs(away)}

    def _named(self, symbol: Symbol, offset: int) -> dict[str, Any]:
        """Return the record of an address in the symbol, with the name that the kernel prints.

        If kallsyms lists another name, the record has that as ``listed``.
        """
        record, name = self._record(symbol, offset), self.table.printed(symbol)
        return (
            record if name == symbol.name else {**record, "name": name, "listed": symbol.name}
        )

    def _record(self, symbol: Symbol, offset: int) -> dict[str, Any]:
        """Return a symbol's record; ``offset`` is for the source line of a BPF program."""
        linked = link_address(symbol, self._slide)
        return {
            **render.symbol_record(symbol),
            "link_address": None if linked is None else f"{linked:#x}",
            "aliases": self._aliases(symbol),
            **({"prototype": self.table.prototype(symbol)} if self._typed else {}),
            **programs.record(self.table, symbol, offset),
        }

    def _print(self, asked: Question, line: int | None, record: dict[str, Any]) -> None:
        query = {"query": asked.text} if line is None else {"query": asked.text, "line": line}
        render.show_json({**query, **record})
