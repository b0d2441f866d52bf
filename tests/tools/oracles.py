"""What the tests of other tools share: a kernel's text held still, and the tools asked."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import ksyms

if TYPE_CHECKING:
    from conftest import Kernel

Row = tuple[int, str, str, str | None]
T = TypeVar("T")

TRIES = 20
CODE = frozenset("tTwW")
ABSOLUTE = frozenset("aA")


@dataclass(frozen=True)
class Subject:
    """A kernel's ELF file, and the lines of kallsyms at the moment it was made."""

    root: Path
    elf: Path
    rows: tuple[Row, ...]

    @cached_property
    def names(self) -> dict[int, set[str]]:
        """The names at each address; an absolute symbol's value is none."""
        names: dict[int, set[str]] = {}
        for address, letter, name, _ in self.rows:
            if letter not in ABSOLUTE:
                names.setdefault(address, set()).add(name)
        return names

    @cached_property
    def addresses(self) -> list[int]:
        return sorted(self.names)

    @cached_property
    def code(self) -> set[int]:
        """The addresses at which a function is."""
        return {address for address, letter, _, _ in self.rows if letter in CODE}

    @cached_property
    def edges(self) -> set[int]:
        """The addresses that only symbols without a size have."""
        placed = [s for s in self.symbols if s.section != "ABS"]
        return {s.value for s in placed if not s.size} - {s.value for s in placed if s.size}

    @cached_property
    def symbols(self) -> list[Entry]:
        return readelf_symbols(self.elf)

    @cached_property
    def sections(self) -> list[Section]:
        return readelf_sections(self.elf)

    @cached_property
    def memory(self) -> list[Section]:
        """The sections that are ranges of the kernel's memory, by address."""
        return sorted((s for s in self.sections if "A" in s.flags), key=lambda s: s.start)

    def nearest(self, address: int) -> int | None:
        """The largest address of a symbol at or below ``address``."""
        at = bisect_right(self.addresses, address)
        return self.addresses[at - 1] if at else None

    def section_at(self, address: int) -> Section | None:
        """The section that ``address`` lies in."""
        return next((s for s in self.memory if s.start <= address < s.end), None)

    def address_of(self, name: str) -> int:
        """Where the kernel's own symbol ``name`` is, which there is one of."""
        (address,) = {a for a, _, n, module in self.rows if n == name and module is None}
        return address


def quietly(kernel: Kernel, act: Callable[[], T]) -> tuple[tuple[Row, ...], T]:
    """What ``act`` gives, done while kallsyms stayed as it is in the lines that come too.

    On the running kernel trampolines and BPF programs come and go.
    """
    for _ in range(TRIES):
        before = kernel.lines
        result = act()
        if kernel.lines == before:
            return tuple(before), result
    raise AssertionError(f"kallsyms changed during each of {TRIES} tries")


@cache
def subject(kernel: Kernel) -> Subject:
    elf = kernel.elf.with_name(f"{kernel.name}-held.elf")
    rows, _ = quietly(kernel, lambda: ksyms.snapshot(kernel.root).write(elf))
    return Subject(kernel.root, elf, rows)


def output(*argv: str | Path, stdin: str | None = None) -> str:
    """What a command prints; it must succeed and complain of nothing."""
    run = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, ""), f"{argv[0]}: {run.stdout[-2000:]}"
    return run.stdout


class Entry(NamedTuple):
    """A symbol as readelf prints it."""

    value: int
    size: int
    kind: str
    binding: str
    section: str
    name: str


class Section(NamedTuple):
    """A section as readelf prints it."""

    number: str
    name: str
    kind: str
    start: int
    offset: int
    size: int
    flags: str
    info: int

    @property
    def end(self) -> int:
        return self.start + self.size


_SECTION = re.compile(
    r"\s*\[\s*(\d+)\] (\S+)\s+(\S+)\s+([0-9a-f]{16}) ([0-9a-f]+) ([0-9a-f]+) [0-9a-f]{2} "
    r"([A-Zopx ]{3}) +\d+ +(\d+) +\d+$"
)


def readelf_symbols(elf: Path) -> list[Entry]:
    """Every symbol but ELF's symbol 0, which must be there."""
    lines = output("readelf", "-sW", elf).splitlines()
    assert lines[1].startswith("Symbol table '.symtab' contains "), lines[:3]
    rows = [line.split() for line in lines[3:]]
    assert int(lines[1].split()[4]) == len(rows)
    assert rows[0][:7] == ["0:", "0" * 16, "0", "NOTYPE", "LOCAL", "DEFAULT", "UND"]
    return [
        Entry(int(value, 16), int(size, 0), kind, binding, section, name)
        for _, value, size, kind, binding, _, section, name in rows[1:]
    ]


def readelf_sections(elf: Path) -> list[Section]:
    found = filter(None, map(_SECTION.match, output("readelf", "-SW", elf).splitlines()))
    return [
        Section(
            number=m[1],
            name=m[2],
            kind=m[3],
            start=int(m[4], 16),
            offset=int(m[5], 16),
            size=int(m[6], 16),
            flags=m[7].strip(),
            info=int(m[8]),
        )
        for m in found
    ]


class Question(NamedTuple):
    """An address, and the names that answer it.

    ``place``: ``inside`` a symbol; at the ``edge``, where a section ends and a symbol
    without a size is; or ``nowhere``, in no symbol. ``code`` if it is a function's.
    """

    address: int
    place: str
    names: frozenset[str]
    code: bool


INSIDE, EDGE, NOWHERE = "inside", "edge", "nowhere"


@cache
def questions(subject: Subject, seed: int = 20, inside: int = 2200) -> list[Question]:
    """Some ``inside`` random addresses in symbols, every edge, and random ones nowhere.

    Where symbols begin and end is readelf's word, what the answers are is kallsyms'.
    """
    rng = random.Random(seed)
    sized = [s for s in subject.symbols if s.size]
    picked = rng.choices(sized, k=inside) + _outermost(sized)
    ways: list[Callable[[Entry], int]] = [
        lambda s: s.value,
        lambda s: rng.randrange(s.value, s.value + s.size),
        lambda s: s.value + s.size - 1,
    ]
    asked = {ways[n % 3](symbol) for n, symbol in enumerate(picked)}
    asked |= {s.value for s in _outermost(sized)}
    asked |= {s.value + s.size - 1 for s in _outermost(sized)}
    result = [_question(subject, a, INSIDE) for a in sorted(asked)]
    result += [_question(subject, a, EDGE) for a in sorted(subject.edges)]
    for start, end in _uncovered(subject.memory, sized):
        outside = {start, end - 1, *(rng.randrange(start, end) for _ in range(5))}
        outside -= subject.edges
        result += [Question(a, NOWHERE, frozenset(), False) for a in sorted(outside)]
    return result


def _question(subject: Subject, address: int, place: str) -> Question:
    nearest = subject.nearest(address)
    assert nearest is not None
    section = subject.section_at(address)
    code = nearest in subject.code and (section is None or "X" in section.flags)
    return Question(address, place, frozenset(subject.names[nearest]), code)


def _outermost(symbols: list[Entry]) -> list[Entry]:
    """The first and the last symbol of each section."""
    by_section: dict[str, list[Entry]] = {}
    for symbol in symbols:
        by_section.setdefault(symbol.section, []).append(symbol)
    return [end(group) for group in by_section.values() for end in (min, max)]


def _uncovered(sections: list[Section], symbols: list[Entry]) -> list[tuple[int, int]]:
    """The ranges between symbols, and some of what lies before and behind them all."""
    spans = sorted({(s.value, s.value + s.size) for s in symbols})
    holes, reached = [(0, 0x10000)], min(sections[0].start, spans[0][0]) - 0x10000
    for start, end in spans:
        if start > reached:
            holes.append((reached, start))
        reached = max(reached, end)
    return [*holes, (reached, reached + 0x10000)]


def _nothing(subject: Subject, address: int) -> set[str]:
    return set()


def _after_an_edge(subject: Subject, address: int) -> set[str]:
    nearest = subject.nearest(address)
    return subject.names[nearest] if nearest in subject.edges else set()


def _before_in_the_code(subject: Subject, address: int) -> set[str]:
    nearest, section = subject.nearest(address), subject.section_at(address)
    if nearest is None or section is None or not section.start <= nearest:
        return set()
    return subject.names[nearest] if nearest in subject.code else set()


class Tool(NamedTuple):
    """A program that says which symbol an address is in.

    ``data``: it knows of data and not of code alone. ``edges``: it answers for the
    address of a symbol without a size at a section's end. ``nowhere``: what it may, by
    its own nature, answer for an address that no symbol holds.
    """

    name: str
    ask: Callable[[Path, Sequence[Question]], list[str | None]]
    data: bool = True
    edges: bool = True
    nowhere: Callable[[Subject, int], set[str]] = _nothing

    def wrong(self, subject: Subject) -> list[tuple[str, str, str | None, frozenset[str]]]:
        """The address, the place, the answer and the right names, of each wrong answer."""
        asked = [q for q in questions(subject) if self.data or q.code or q.place == NOWHERE]
        answers = self.ask(subject.elf, asked)
        assert len(answers) == len(asked)
        return [
            (f"{question.address:#x}", question.place, answer, question.names)
            for question, answer in zip(asked, answers)
            if not self._right(subject, question, answer)
        ]

    def _right(self, subject: Subject, question: Question, answer: str | None) -> bool:
        if answer is None:
            return question.place == NOWHERE or (question.place == EDGE and not self.edges)
        if question.place == NOWHERE:
            return answer in self.nowhere(subject, question.address)
        return answer in question.names


def _gdb(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    commands = elf.with_suffix(".gdb")
    commands.write_text("".join(f"info symbol {q.address:#x}\n" for q in asked))
    style = ("-iex", "set demangle-style none")
    text = output("gdb", "-nx", "-batch", *style, "-x", commands, elf)
    return [
        None if line.startswith("No symbol matches") else _gdb_name(line)
        for line in text.splitlines()
    ]


def _gdb_name(line: str) -> str:
    match = re.fullmatch(r"(\S+)(?: \+ \d+)? in section \S+", line)
    assert match, line
    return match[1]


def _addr2line(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    text = output("addr2line", "-f", "-e", elf, *(f"{q.address:#x}" for q in asked))
    return [_known(name) for name in text.splitlines()[::2]]


def _eu_addr2line(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    text = output("eu-addr2line", "-S", "-e", elf, *(f"{q.address:#x}" for q in asked))
    return [_known(re.sub(r"\+0x[0-9a-f]+$", "", line)) for line in text.splitlines()[::2]]


def _llvm_symbolizer(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    lines = "".join(f"{'CODE' if q.code else 'DATA'} {q.address:#x}\n" for q in asked)
    text = output("llvm-symbolizer", "--no-demangle", "-e", elf, stdin=lines)
    return [_known(answer.splitlines()[0]) for answer in text.strip().split("\n\n")]


def _library(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    table = ksyms.load(elf)
    found = (table.lookup(q.address) for q in asked)
    return [None if symbol is None else symbol.name for symbol in found]


def _command(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    argv = [sys.executable, "-m", "ksyms", "lookup", "--json", "--from", str(elf)]
    run = subprocess.run(
        [*argv, *(f"{q.address:#x}" for q in asked)], capture_output=True, text=True
    )
    # Status 1 says that something was not found, and here something is nowhere.
    assert (run.returncode, run.stderr) == (1, "")
    records = [json.loads(line) for line in run.stdout.splitlines()]
    answers = {int(record["query"], 16): record["name"] for record in records}
    return [answers[q.address] for q in asked]


def _decode(elf: Path, asked: Sequence[Question]) -> list[str | None]:
    text = "".join(f"{q.address:#x}\n" for q in asked)
    run = output(
        sys.executable, "-m", "ksyms", "decode", "--slide=0", "--from", elf, stdin=text
    )
    words = (line.split() for line in run.splitlines())
    return [word[1].partition("+0x")[0] if len(word) > 1 else None for word in words]


def _known(name: str) -> str | None:
    return None if name == "??" else name


TOOLS = (
    # The end of a section is not in it, and gdb looks for the section of an address first.
    Tool("gdb", _gdb, edges=False),
    # BFD (elf.c, _bfd_elf_find_function) takes the nearest function before an address in
    # its section, and does not ask for its size; it knows of no objects. An address in no
    # section has no answer, and a section's end is in none.
    Tool("addr2line", _addr2line, data=False, edges=False, nowhere=_before_in_the_code),
    Tool("eu-addr2line", _eu_addr2line),
    # SymbolizableObjectFile.cpp, getNameFromSymbolTable: the nearest symbol is refused
    # where the address is past its size, but only if it has a size.
    Tool("llvm-symbolizer", _llvm_symbolizer, nowhere=_after_an_edge),
    Tool("ksyms.load", _library),
    Tool("ksyms lookup", _command),
    # Zero and other small numbers are no addresses of the kernel's in a text.
    Tool("ksyms decode", _decode),
)
