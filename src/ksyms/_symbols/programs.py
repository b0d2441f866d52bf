"""BPF programs in a snapshot's note: the program of a symbol, and the lines of its code."""

from __future__ import annotations

from bisect import bisect_right

from .._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .symbol import Symbol
    from .table import SymbolTable


class Program(NamedTuple):
    """The BPF program that has a symbol of module ``bpf`` as one of its functions.

    ``id``, ``type``, and ``name`` are the program's, as bpftool prints them. ``subprogram`` is
    the function's number in the program, 0 for its entry, and ``tag`` the function's own.
    ``lines`` are offset in bytes, source and line, by offset.
    """

    id: int
    type: str
    tag: str
    name: str
    subprogram: int
    lines: tuple[tuple[int, str, int], ...]

    def line(self, offset: int) -> tuple[str, int] | None:
        """Return source and line of the code at ``offset`` (bytes), None if unknown."""
        place = bisect_right(self.lines, offset, key=lambda line: line[0])
        if not place or not self.lines[place - 1][2]:  # line 0: it has no line
            return None
        return self.lines[place - 1][1:]


def programs(facts: Mapping[str, Any]) -> dict[int, Program]:
    """Return the programs in a note's ``facts`` by the address of each function."""
    return {
        int(told["address"], 16): Program(
            id=told["id"],
            type=told["type"],
            tag=told["tag"],
            name=told["name"],
            subprogram=told["subprogram"],
            lines=_lines(told["lines"]),
        )
        for file in facts.get("files", ())
        for told in file.get("programs", ())
    }


def record(table: SymbolTable, symbol: Symbol, offset: int) -> dict[str, Any]:
    """Return the member ``bpf`` of a JSON record on ``symbol``; {} if no program is known."""
    program = table.program(symbol)
    if program is None:
        return {}
    told = program._asdict()
    del told["lines"]
    source, line = _place(program, symbol, offset) or (None, None)
    return {"bpf": {**told, "file": source, "line": line}}


def words(table: SymbolTable, symbol: Symbol, offset: int) -> str:
    """Return id, type and FILE:LINE of a symbol's program in words; none if it is unknown."""
    program = table.program(symbol)
    if program is None:
        return ""
    found = _place(program, symbol, offset)
    place = f" {found[0]}:{found[1]}" if found else ""
    return f"bpf {program.id} {program.type}{place}"


def _place(program: Program, symbol: Symbol, offset: int) -> tuple[str, int] | None:
    # The symbol may only be the nearest to an address, and not contain it.
    return program.line(offset) if 0 <= offset < symbol.size else None


def _lines(by_source: Mapping[str, Iterable[int]]) -> tuple[tuple[int, str, int], ...]:
    found = []
    for source, numbers in by_source.items():
        each = iter(numbers)
        found += [(offset, source, line) for offset, line in zip(each, each)]
    return tuple(sorted(found))
