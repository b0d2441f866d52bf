"""Read texts in every form that decode knows, with what decode must make of them.

``forms/NAME.txt`` is a text that contains its own answer. A head describes the form, up to a
line ``---``. In the text after it, marks tell what its parts are:

    «+ name»     not in the text: decode must add it here
    «=name»      in the text: the name of an address beside it; decode must keep it
    «-name»      in the text: a name that is wrong for the boot; decode must replace it by the
                 «+name» that comes after it
    «~words»     in the text: looks like a kernel address, but is none
    «@digits»    in the text: an address with a letter or digit right before it

For example, of a line of a form:

    the form                pc = [<fffffc000031109c>]«+ vfs_read+0x1c/0x260»
    decode gets             pc = [<fffffc000031109c>]
    decode must return      pc = [<fffffc000031109c>] vfs_read+0x1c/0x260

``forms/MACHINE.kallsyms`` has the symbols of the boot in which the texts were printed. Reading
a form checks that each mark is right by a bisection over this kallsyms. A symbol
``after_NAME`` there only ends the symbol before it: no address of a text is in one.
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
"""Symbols that only bound parts of the kernel, and name no address of a text."""
KERNEL = ("kernel", "kernel.kallsyms", "k")
"""The words in brackets that mean the kernel itself, and no module."""


class Place(NamedTuple):
    """The symbol at an address: its name, the offset in it, its size (bytes), its module."""

    name: str
    offset: int
    size: int
    module: str | None

    def __str__(self) -> str:
        tail = f" [{self.module}]" if self.module else ""
        return f"{self.name}+{self.offset:#x}/{self.size:#x}{tail}"


class Oracle:
    """The symbols of a kallsyms text, found by a dictionary and a bisection."""

    def __init__(self, text: str) -> None:
        self.at: dict[int, tuple[str, str | None]] = {}
        """Name and module of the symbol that begins at an address."""
        self.named: dict[str, list[int]] = defaultdict(list)
        """The addresses of the symbols with a name."""
        self.data: set[int] = set()
        """The addresses of the symbols that are data."""
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
        """Return the symbol at ``address``; None if there is none, or one that names nothing.

        The latter are the bounds and ``after_NAME``.
        """
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
        """Return the address at which the symbol that begins at ``begin`` ends.

        That is where the next symbol begins. A module's last symbol ends with its page.
        """
        return self._ends[begin]

    def _end(self, begin: int) -> int:
        number = bisect_right(self.addresses, begin)
        module = self.at[begin][1]
        following = self.addresses[number] if number < len(self.addresses) else begin
        if module and (number == len(self.addresses) or self.at[following][1] != module):
            return begin // PAGE * PAGE + PAGE
        return following

    def right(self, words: str, address: int) -> bool:
        """Return True if the name ``words`` is right for the address.

        Of offset, size and module those must be right that ``words`` has: ``vfs_read`` is right
        where ``vfs_read+0x1c/0x260`` is.
        """
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
    """A part of a form's text.

    ``kind`` is ``text``, ``address``, or the sign of a mark. ``value`` is the address, in a
    piece of the kind ``address``. In a piece that names an address, ``of`` is the index of the
    address's piece; else it is -1.
    """

    kind: str
    text: str
    value: int = 0
    of: int = -1


@dataclass(frozen=True)
class Form:
    """A text of one form, in pieces; ``says`` has the lines of its head, by their key."""

    name: str
    says: dict[str, str]
    pieces: tuple[Piece, ...]

    @cached_property
    def text(self) -> str:
        """The text as somebody pasted it: decode's input."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "+")

    @cached_property
    def decoded(self) -> str:
        """The text that decode must return."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "-")

    @property
    def symbols(self) -> str:
        """The machine whose kallsyms has the text's symbols."""
        return self.says["symbols"]


@cache
def oracle(machine: str) -> Oracle:
    """Return the symbols of ``forms/MACHINE.kallsyms``."""
    return Oracle((FORMS / f"{machine}.kallsyms").read_text())


def names() -> list[str]:
    """Return the names of all forms."""
    return sorted(path.stem for path in FORMS.glob("*.txt"))


@cache
def form(name: str) -> Form:
    """Return the form ``name``.

    Raises:
        ValueError: a mark has a name that its kallsyms does not confirm.
    """
    head, found, body = (FORMS / f"{name}.txt").read_text().partition("\n---\n")
    if not found:
        raise ValueError(f"{name}: nothing ends its head")
    says = dict(line.split(": ", 1) for line in head.splitlines())
    symbols = oracle(says["symbols"])
    pieces = [piece for line in body.splitlines(True) for piece in _line(line, symbols)]
    return Form(name, says, tuple(_owned(name, pieces, symbols)))


def _line(line: str, symbols: Oracle) -> Iterator[Piece]:
    """Yield the pieces of a line with marks."""
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
    """Yield the pieces of a text without marks: words, and the addresses of symbols in it."""
    at = 0
    for match in HEXADECIMAL.finditer(text):
        value = int(match[0], 16)
        if len(match[0]) == symbols.digits and symbols.place(value):
            yield Piece("text", text[at : match.start()])
            yield Piece("address", match[0], value)
            at = match.end()
    yield Piece("text", text[at:])


def _owned(form: str, pieces: list[Piece], symbols: Oracle) -> Iterator[Piece]:
    """Yield the pieces, with ``of`` set in each that names an address.

    That is the nearest address in the line for which the name is right and which no other name
    has taken. Addresses before the name are tried first, then those after it.
    """
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
    """Return the indices of the addresses in a piece's line: those before it, those after it.

    In both lists the nearest comes first.
    """
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
    """Return the decoded text, and the decoder, as the command decodes a file.

    The command reads a file twice: first for the evidence, then to decode it.
    """
    decoder, found = _begin(table, text, boot)
    return b"".join(map(decoder.decode, found)).decode(), decoder


def frames(table: SymbolTable, text: str, boot: Boot | None = None) -> list[dict[str, Any]]:
    """Return the records of the text's frames, as the command makes them of a file."""
    decoder, found = _begin(table, text, boot)
    reader = Frames(decoder, table)
    return [json.loads(line) for block in found for line in reader.lines(block)]


def _begin(table: SymbolTable, text: str, boot: Boot | None) -> tuple[Decoder, list[bytes]]:
    """Return a decoder that has looked through the text for evidence, and the text's blocks."""
    decoder = Decoder(table, boot)
    found = [block for block, plain in blocks([text.encode()], decoder.pattern) if plain]
    decoder.look_ahead(found)
    return decoder, found
