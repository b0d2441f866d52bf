"""Texts in every form, and what decode must make of them, by a bisection over their kallsyms.

``forms/NAME.txt`` is a text with its answer in it. Before a line of ``---`` it says what the
form is; behind that, marks say what of the text is what:

- ``«+ name»`` is no part of the text: decode puts it there;
- ``«=name»`` is the name that the text has for an address beside it, and keeps;
- ``«-name»`` is one that is wrong for the boot: the ``«+name»`` behind it takes its place;
- ``«~words»`` look like an address and are none of the kernel's;
- ``«@digits»`` is an address where letters or digits are right before it.

``forms/MACHINE.kallsyms`` has the symbols, of the boot that the texts are of. ``after_NAME``
ends the symbol before it, and no address of a text is in one.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ksyms import SymbolTable
from ksyms._decode import Boot, Decoder, Frames, blocks

FORMS = Path(__file__).parent / "forms"
PAGE = 4096
MARK = re.compile("«([-+=~@])([^»]*)»")
HEXADECIMAL = re.compile("[0-9a-fA-F]+")
NAME = re.compile(
    r":?(?:(?P<owner>[\w-]+):)?(?P<name>[A-Za-z_.$][\w.$]*)"
    r"(?: ?\+ ?(?P<offset>0x[0-9a-f]+|[0-9]+))?(?:/(?P<size>0x[0-9a-f]+))?"
    r"(?: \[(?P<module>[\w.-]+)[^\]]*\])?"
)
BOUNDS = ("_start", "_text", "_stext", "_etext", "_sdata", "_edata", "_end")
"""What tells where parts of the kernel are."""
KERNEL = ("kernel", "kernel.kallsyms", "k")
"""What stands in brackets for the kernel itself."""


class Place(NamedTuple):
    """What an address is: the symbol, how far in it, how long that is, and whose."""

    name: str
    offset: int
    size: int
    module: str | None

    def __str__(self) -> str:
        tail = f" [{self.module}]" if self.module else ""
        return f"{self.name}+{self.offset:#x}/{self.size:#x}{tail}"


class Oracle:
    """The symbols of a kallsyms text, by a dictionary and a bisection."""

    def __init__(self, text: str) -> None:
        self.at: dict[int, tuple[str, str | None]] = {}
        self.named: dict[str, list[int]] = defaultdict(list)
        self.data: set[int] = set()
        """Which symbols are data, and no code."""
        for line in text.splitlines():
            digits, letter, rest = line.split(" ", 2)
            name, _, bracket = rest.partition("\t")
            address = int(digits, 16)
            self.digits = len(digits)
            self.at[address] = (name, bracket[1:-1] or None)
            if letter.lower() not in "tw":
                self.data.add(address)
            self.named[name].append(address)
        self.addresses = sorted(self.at)
        self._ends = {begin: self._end(begin) for begin in self.addresses}

    def place(self, address: int) -> Place | None:
        """What is there; None for nothing, and for what only ends another."""
        number = bisect_right(self.addresses, address) - 1
        if number < 0:
            return None
        begin = self.addresses[number]
        name, module = self.at[begin]
        end = self._ends[begin]
        if address >= end or name.startswith("after_") or name in BOUNDS:
            return None
        return Place(name, address - begin, end - begin, module)

    def end(self, begin: int) -> int:
        """Where a symbol ends: at the next of its section, or with the module's page."""
        return self._ends[begin]

    def _end(self, begin: int) -> int:
        number = bisect_right(self.addresses, begin)
        module = self.at[begin][1]
        following = self.addresses[number] if number < len(self.addresses) else begin
        if module and (number == len(self.addresses) or self.at[following][1] != module):
            return begin // PAGE * PAGE + PAGE
        return following

    def right(self, words: str, address: int) -> bool:
        """Whether a name, however much it says, is that of the address."""
        match = NAME.fullmatch(words.strip())
        place = self.place(address)
        if match is None or place is None:
            return False
        said = int(match["offset"], 0) if match["offset"] else None
        size = int(match["size"], 0) if match["size"] else None
        module = match["owner"] or match["module"]
        return (
            match["name"] == place.name
            and said in (None, place.offset)
            and size in (None, place.size)
            and (module in (None, place.module) or (module in KERNEL and not place.module))
        )


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    ``kind`` is ``text``, ``address``, or a mark's sign. An ``address`` has its ``value``. What
    is of an address has ``of``, the place of that among the pieces.
    """

    kind: str
    text: str
    value: int = 0
    of: int = -1


@dataclass(frozen=True)
class Form:
    """A text of one form, taken apart."""

    name: str
    says: dict[str, str]
    pieces: tuple[Piece, ...]

    @cached_property
    def text(self) -> str:
        """As somebody pasted it."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "+")

    @cached_property
    def decoded(self) -> str:
        """As decode must put it out."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "-")

    @property
    def symbols(self) -> str:
        return self.says["symbols"]


@cache
def oracle(machine: str) -> Oracle:
    return Oracle((FORMS / f"{machine}.kallsyms").read_text())


def names() -> list[str]:
    """The forms that there are."""
    return sorted(path.stem for path in FORMS.glob("*.txt"))


@cache
def form(name: str) -> Form:
    """Read a form; ValueError where a mark is wrong by its kallsyms."""
    head, found, body = (FORMS / f"{name}.txt").read_text().partition("\n---\n")
    if not found:
        raise ValueError(f"{name}: nothing ends its head")
    says = dict(line.split(": ", 1) for line in head.splitlines())
    symbols = oracle(says["symbols"])
    pieces = [piece for line in body.splitlines(True) for piece in _line(line, symbols)]
    return Form(name, says, tuple(_owned(name, pieces, symbols)))


def _line(line: str, symbols: Oracle) -> Iterator[Piece]:
    at = 0
    for match in MARK.finditer(line):
        yield from _plain(line[at : match.start()], symbols)
        if match[1] == "@":
            yield Piece("address", match[2], int(match[2], 16))
        else:
            yield Piece(match[1], match[2])
        at = match.end()
    yield from _plain(line[at:], symbols)


def _plain(text: str, symbols: Oracle) -> Iterator[Piece]:
    """Words of a text, and the addresses in them: what kallsyms has a name for."""
    at = 0
    for match in HEXADECIMAL.finditer(text):
        value = int(match[0], 16)
        if len(match[0]) == symbols.digits and symbols.place(value):
            yield Piece("text", text[at : match.start()])
            yield Piece("address", match[0], value)
            at = match.end()
    yield Piece("text", text[at:])


def _owned(form: str, pieces: list[Piece], symbols: Oracle) -> Iterator[Piece]:
    """The pieces, each name with the address that it is of: one beside it, that it fits."""
    taken: set[int] = set()
    for number, piece in enumerate(pieces):
        if piece.kind not in "+=":
            yield piece
            continue
        before, after = _beside(pieces, number)
        fits = [
            at
            for at in [*before, *after]
            if at not in taken and symbols.right(piece.text, pieces[at].value)
        ]
        if not fits:
            raise ValueError(f"{form}: {piece.text!r} is no address's beside it")
        taken.add(fits[0])
        yield Piece(piece.kind, piece.text, of=fits[0])


def _beside(pieces: list[Piece], number: int) -> tuple[list[int], list[int]]:
    """The addresses in the line of a piece: before it, the nearest first; and behind it."""
    before: list[int] = []
    for at in range(number - 1, -1, -1):
        if pieces[at].kind == "text" and pieces[at].text.endswith("\n"):
            break
        if pieces[at].kind == "address":
            before.append(at)
    after: list[int] = []
    for at in range(number + 1, len(pieces)):
        if pieces[at].kind == "address":
            after.append(at)
        if "\n" in pieces[at].text:
            break
    return before, after


def decode(table: SymbolTable, text: str, boot: Boot | None = None) -> tuple[str, Decoder]:
    """What the command makes of a text that it can read twice, and what did it."""
    decoder, found = _begin(table, text, boot)
    return b"".join(map(decoder.decode, found)).decode(), decoder


def frames(table: SymbolTable, text: str, boot: Boot | None = None) -> list[dict[str, Any]]:
    """The records of such a text."""
    decoder, found = _begin(table, text, boot)
    reader = Frames(decoder, table)
    return [json.loads(line) for block in found for line in reader.lines(block)]


def _begin(table: SymbolTable, text: str, boot: Boot | None) -> tuple[Decoder, list[bytes]]:
    decoder = Decoder(table, boot)
    found = [block for block, plain in blocks([text.encode()], decoder.pattern) if plain]
    decoder.look_ahead(found)
    return decoder, found
