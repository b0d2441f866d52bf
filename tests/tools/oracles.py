"""What the tests of other tools share: a kernel's text held still, and the tools asked.

The right answers are those of :mod:`naming`: the kernel's, by its text and its rule.
"""

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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from naming import (
    ABSOLUTE,
    CODE,
    LABEL,
    PAGE,
    Row,
    Span,
    by_address,
    lists_all,
    named_ranges,
    spans,
)

import ksyms

if TYPE_CHECKING:
    from conftest import Kernel

T = TypeVar("T")

TRIES = 20


@dataclass(frozen=True)
class Subject:
    """A kernel's ELF file, and the lines of kallsyms at the moment it was made."""

    root: Path
    elf: Path
    rows: tuple[Row, ...]

    @cached_property
    def names(self) -> dict[int, set[str]]:
        """The names at each address."""
        return by_address(self.rows)

    @cached_property
    def labels(self) -> set[Row]:
        """The lines of local labels of modules."""
        return {row for row in self.rows if row[3] is not None and LABEL.match(row[2])}

    @cached_property
    def addresses(self) -> list[int]:
        """The addresses of all symbols, each once."""
        return sorted(self.names)

    @cached_property
    def code(self) -> set[int]:
        """The addresses at which a function is."""
        return {address for address, letter, _, _ in self.rows if letter in CODE}

    @cached_property
    def lists_all(self) -> bool:
        """Whether the kernel lists its data too, and names all of its image."""
        return lists_all(self.rows)

    @cached_property
    def own(self) -> list[int]:
        """The addresses of the kernel's own symbols, each once."""
        return sorted(by_address(row for row in self.rows if row[3] is None))

    @cached_property
    def spans(self) -> list[Span]:
        """All addresses that the kernel names, sorted."""
        return spans(self.root, self.rows)

    @cached_property
    def silent(self) -> dict[int, set[str]]:
        """The names at each address of the kernel's own that the kernel has no name for."""
        ranges = named_ranges(self.rows)
        outside = {a for a in self.own if not any(start <= a < end for start, end in ranges)}
        return by_address(row for row in self.rows if row[3] is None and row[0] in outside)

    @cached_property
    def typeless(self) -> set[Row]:
        """The lines of symbols that name no address and yet have one."""
        silent = {row for row in self.rows if row[3] is None and row[0] in self.silent}
        return {row for row in silent | self.labels if row[1] not in ABSOLUTE}

    @cached_property
    def untyped(self) -> dict[int, set[str]]:
        """The names of symbols without a type at each address."""
        return by_address(self.typeless)

    @cached_property
    def sizeless(self) -> dict[int, set[str]]:
        """The names at each address at which no symbol has a size."""
        names = by_address(row for row in self.typeless if self.size(row) == (0, 0))
        return {address: them for address, them in names.items() if them == self.names[address]}

    def size(self, row: Row) -> tuple[int, int]:
        """The least and the largest size of a line's symbol."""
        address, letter, _, _ = row
        if letter in ABSOLUTE:
            return 0, 0
        if row in self.typeless:
            # A byte of a section, so that no tool takes it for the name of what follows.
            size = int(row not in self.labels and self.section_at(address) is not None)
            return size, size
        span = self.span_at(address)
        if span is None or span.start != address:  # of memory that is freed
            following = self.addresses[bisect_right(self.addresses, address) :][:1]
            return 0, following[0] - address if following else PAGE
        return span.end - address, span.most - address

    def span_at(self, address: int) -> Span | None:
        """What the kernel names ``address`` by, or may."""
        at = bisect_right(self.spans, address, key=lambda span: span.start) - 1
        return self.spans[at] if at >= 0 and address < self.spans[at].most else None

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

    ``place``: ``inside`` what the kernel names; at an ``edge``, where the kernel has symbols
    of its own and yet no name; or ``nowhere``. ``code`` if it is a function's.
    """

    address: int
    place: str
    names: frozenset[str]
    code: bool


INSIDE, EDGE, NOWHERE = "inside", "edge", "nowhere"


@cache
def questions(subject: Subject, seed: int = 20, inside: int = 2200) -> list[Question]:
    """Some ``inside`` random addresses in symbols, every edge, and random ones nowhere.

    Both sides of every border of a section in the file are among them, and of every symbol that
    names nothing.
    """
    rng = random.Random(seed)
    picked = rng.choices(subject.spans, k=inside)
    ways: list[Callable[[Span], int]] = [
        lambda s: s.start,
        lambda s: rng.randrange(s.start, s.end),
        lambda s: s.end - 1,
    ]
    asked = {ways[n % 3](span) for n, span in enumerate(picked)}
    for start, end in [(s.start, s.end) for s in subject.memory] + _unnamed(subject.spans):
        asked |= {start - 1, start, end - 1, end}
        asked |= {rng.randrange(start, end) for _ in range(5 if start < end else 0)}
    asked |= {row[0] + more for row in subject.typeless for more in (-1, 0, 1)}
    found = (_question(subject, address) for address in sorted(asked) if address >= 0)
    return [question for question in found if question is not None]


def _question(subject: Subject, address: int) -> Question | None:
    """What to ask of an address, None if the text does not tell the answer."""
    span = subject.span_at(address)
    if span is not None and address >= span.end:
        return None
    if address in subject.silent:
        return Question(address, EDGE, frozenset(subject.silent[address]), False)
    if span is None:
        return Question(address, NOWHERE, frozenset(), False)
    section = subject.section_at(address)
    code = span.start in subject.code and (section is None or "X" in section.flags)
    return Question(address, INSIDE, span.names, code)


def _unnamed(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The ranges between the spans, and some of what lies before and behind them all."""
    holes = [(a.most, b.start) for a, b in pairwise(spans) if a.most < b.start]
    first, last = spans[0].start, spans[-1].most
    return [(0, 0x10000), (first - 0x10000, first), *holes, (last, last + 0x10000)]


def _nothing(subject: Subject, address: int) -> set[str]:
    return set()


def _at_the_edge(subject: Subject, address: int) -> set[str]:
    return subject.silent[address]


def _at_the_edge_in_a_section(subject: Subject, address: int) -> set[str]:
    return subject.silent[address] if subject.section_at(address) else set()


def _after_no_size(subject: Subject, address: int) -> set[str]:
    nearest = subject.nearest(address)
    return set() if nearest is None else subject.sizeless.get(nearest, set())


def _before_in_the_code(subject: Subject, address: int) -> set[str]:
    nearest, section = subject.nearest(address), subject.section_at(address)
    if nearest is None or section is None or not section.start <= nearest:
        return set()
    code = nearest in subject.code
    return subject.names[nearest] if code else subject.untyped.get(nearest, set())


class Tool(NamedTuple):
    """A program that says which symbol an address is in.

    ``data``: it knows of data and not of code alone. ``edge``: what it must answer for an
    address at which the kernel has a symbol and no name, nothing if that is empty. ``besides``:
    what it may, by its own nature, answer for any address.
    """

    name: str
    ask: Callable[[Path, Sequence[Question]], list[str | None]]
    data: bool = True
    edge: Callable[[Subject, int], set[str]] = _nothing
    besides: Callable[[Subject, int], set[str]] = _nothing

    def wrong(self, subject: Subject) -> list[tuple[str, str, str | None, frozenset[str]]]:
        """The address, the place, the answer and the right names, of each wrong answer."""
        asked = [q for q in questions(subject) if self.data or q.code or q.place != INSIDE]
        answers = self.ask(subject.elf, asked)
        assert len(answers) == len(asked)
        return [
            (f"{question.address:#x}", question.place, answer, question.names)
            for question, answer in zip(asked, answers)
            if not self._right(subject, question, answer)
        ]

    def _right(self, subject: Subject, question: Question, answer: str | None) -> bool:
        names: set[str] = set(question.names)
        if question.place == EDGE:
            names = self.edge(subject, question.address)
        if answer is None:
            return not names
        return answer in names | self.besides(subject, question.address)


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
    Tool("gdb", _gdb, edge=_at_the_edge_in_a_section),
    # BFD (elf.c, _bfd_elf_find_function) takes the nearest function or symbol of no type before
    # an address in its section, and does not ask for its size; it knows of no objects. An
    # address in no section has no answer, and a section's end is in none.
    Tool(
        "addr2line",
        _addr2line,
        data=False,
        edge=_at_the_edge_in_a_section,
        besides=_before_in_the_code,
    ),
    Tool("eu-addr2line", _eu_addr2line, edge=_at_the_edge),
    # SymbolizableObjectFile.cpp, getNameFromSymbolTable: the nearest symbol is refused
    # where the address is past its size, but only if it has a size.
    Tool("llvm-symbolizer", _llvm_symbolizer, edge=_at_the_edge, besides=_after_no_size),
    Tool("ksyms.load", _library),
    Tool("ksyms lookup", _command),
    # Zero and other small numbers are no addresses of the kernel's in a text.
    Tool("ksyms decode", _decode),
)
