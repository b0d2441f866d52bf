"""BPF programs in a snapshot's note: the program of a symbol, and its source lines."""

from __future__ import annotations

from bisect import bisect_right

from .._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .symbol import Symbol
    from .table import SymbolTable


class Program(NamedTuple):
    """A BPF program, and the one of its functions that is a symbol of the module ``bpf``.

    ``id``, ``type``, and ``name`` are the program's, as bpftool prints them. ``subprogram`` is
    the function's number in the program, 0 for the program's entry, and ``tag`` is the
    function's tag. ``lines`` has an offset into the function in bytes, a source file and a line
    number for each piece of code, sorted by offset.
    """

    id: int
    type: str
    tag: str
    name: str
    subprogram: int
    lines: tuple[tuple[int, str, int], ...]

    def line(self, offset: int) -> tuple[str, int] | None:
        """Return the source file and line of the code at ``offset`` bytes, None if unknown."""
        after = bisect_right(self.lines, offset, key=lambda line: line[0])
        if not after or not self.lines[after - 1][2]:  # line 0 stands for none
            return None
        return self.lines[after - 1][1:]


def read_programs(facts: Mapping[str, Any]) -> dict[int, Program]:
    """Return the program of each function in a note's ``facts``, by the function's address."""
    return {
        int(function["address"], 16): Program(
            id=function["id"],
            type=function["type"],
            tag=function["tag"],
            name=function["name"],
            subprogram=function["subprogram"],
            lines=_read_lines(function["lines"]),
        )
        for file in facts.get("files", ())
        for function in file.get("programs", ())
    }


def record(table: SymbolTable, symbol: Symbol, offset: int) -> dict[str, Any]:
    """Return the member ``bpf`` of the JSON record of ``symbol``; {} if it has no program.

    ``offset`` is the offset into the symbol, in bytes, whose source line is added.
    """
    program = table.program(symbol)
    if program is None:
        return {}
    fields = program._asdict()
    del fields["lines"]
    source, line = _source_line(program, symbol, offset) or (None, None)
    return {"bpf": {**fields, "file": source, "line": line}}


def words(table: SymbolTable, symbol: Symbol, offset: int) -> str:
    """Return id, type and FILE:LINE of a symbol's program as text; "" if it has none."""
    program = table.program(symbol)
    if program is None:
        return ""
    found = _source_line(program, symbol, offset)
    line = f" {found[0]}:{found[1]}" if found else ""
    return f"bpf {program.id} {program.type}{line}"


def _source_line(program: Program, symbol: Symbol, offset: int) -> tuple[str, int] | None:
    """Return the source file and line at ``offset`` into ``symbol``, None if unknown."""
    # A caller can pass the nearest symbol of an address that lies in no symbol.
    return program.line(offset) if 0 <= offset < symbol.size else None


def _read_lines(by_source: Mapping[str, Iterable[int]]) -> tuple[tuple[int, str, int], ...]:
    """Return :attr:`Program.lines`; each source file has offset, line, offset, line, ..."""
    found = []
    for source, numbers in by_source.items():
        each = iter(numbers)
        found += [(offset, source, line) for offset, line in zip(each, each)]
    return tuple(sorted(found))
