"""One record a frame, for a program: each address, and each symbol without one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from json import dumps
from json.encoder import encode_basestring_ascii
from typing import Final, NamedTuple

from .._symbols import Symbol, SymbolTable, link_slide, programs
from .._symbols.search import aliases, shared
from .._symbols.slide import link_address
from .._symbols.spans import NOBODY
from .annotate import CLOSED, Block, Decoder, Found, Parts
from .belief import Key, Part, State, places_of
from .boot import Boot
from .forms import BEFORE, DECIMAL_FRAMES, NONE, Style, parse_annotation, text_of
from .repeats import Repeats
from .tally import Verdict

_KEPT: Final = 1 << 15
"""How many records are kept of one boot: a text has the same frames again and again."""
_SYMBOLS: Final = 1 << 17
"""How many symbols are kept, and what their records have in common: as many as a kernel has."""
_UNKNOWN: Final = ", ".join(
    [f'"{name}": null' for name in ("symbol", "offset", "size", "exact", "module", "section")]
    + [
        '"section_offset": null',
        '"aliases": []',
        '"file_address": null',
        '"link_address": null',
    ]
)
LEFT: Final = "its name tells of another boot, and stands where a user of the machine can write"
_WORDS: Final = {None: "null", True: "true", False: "false"}
_Frame = tuple[int, int, str]
"""Where a frame begins and ends in its block, and its record without line and text."""


class _Static(NamedTuple):
    """What the records of a symbol have in common: up to the offset, and between and behind.

    ``start`` is where its section begins, ``linked`` where it was linked.
    """

    before: str
    between: str
    after: str
    start: int | None
    linked: int | None


class Frames:
    """Writes the frames of a text, block after block; ``decoder`` is for this text alone."""

    def __init__(self, decoder: Decoder, table: SymbolTable) -> None:
        self._decoder = decoder
        self._table = table
        self._slide = link_slide(table)
        self._typed = table.has_prototypes
        self._starts = {name: start for name, start, _ in table.sections}
        self._line = 1
        self._repeats = Repeats(decoder, self._of_lines)
        self._boot: Boot | None = None
        self._records: dict[Key, tuple[int, str] | None] = {}
        self._known: dict[int, Symbol] = {}
        self._where: dict[tuple[str | None, str | None], str] = {}
        self._static: dict[Symbol, _Static] = {}

    def lines(self, text: bytes) -> Iterator[str]:
        """Give a JSON object for each frame of ``text``, in its order.

        ``text`` is the frame as it is there, ``line`` its line's number, ``address`` what the
        text says it is, ``said`` the name that the text has for it. ``symbol`` with its
        ``offset`` and ``size`` in bytes is what it is, as the kernel prints it; ``listed`` its
        name in the file if that is another. ``section_offset`` is where it is in its section:
        of a module's, in the section of its ``.ko``. Where ``symbol`` is null, ``why`` says
        why. ``file_address`` is where it is in the file, ``link_address`` where it was linked,
        and ``prototype`` its C type if the file has BTF, ``bpf`` its program if it is of BPF's.
        """
        lines = self._repeats.lines(text)
        for line, frames in enumerate(lines, self._line):
            for frame in frames:
                yield f'{{"line": {line}, {frame}}}'
        self._line += len(lines) - 1

    def _of_lines(self, block: Block, parts: Parts) -> list[list[str]]:
        """Write the records of each line of a block."""
        text = block.text
        lines: list[list[str]] = [[] for _ in range(text.count(b"\n") + 1)]
        found = list(self._addresses(block, parts))
        if others := list(self._symbols(block, parts)):
            # A symbol whose address is there was found twice: the address tells more.
            found = sorted([*found, *others], key=lambda frame: (frame[0], -frame[1]))
        taken, at, line = -1, 0, 0
        for place, end, record in found:
            if place < taken:
                continue
            taken = end
            line += text.count(b"\n", at, place)
            at = place
            words = _quoted(text_of(text[place:end]))
            lines[line].append(f'"text": {words}, {record}')
        return lines

    def _addresses(self, block: Block, parts: Parts) -> Iterator[_Frame]:
        """Give the frames that have an address."""
        digits, places = self._decoder.map.digits, places_of(block.pieces)
        for part, found in parts:
            symbols = self._symbols_of(found) if found else [None] * (part.end - part.first)
            if part.boot is not self._boot or len(self._records) > _KEPT:
                self._boot, self._records = part.boot, {}
            records = self._records
            left = {part.first + at for at in found.left} if found else frozenset[int]()
            for number, symbol in enumerate(symbols, part.first):
                key, start = block.keys[number], places[number]
                if number in left:
                    told = self._address(key, part._replace(boot=None, why=LEFT), None)
                elif key in records:
                    told = records[key]
                else:
                    told = self._address(key, part, symbol)
                    if symbol is not None:  # else why it has none can be another next time
                        records[key] = told
                if told is None:
                    continue
                length, record = told
                end = start + length
                if key[digits : digits + 1] == BEFORE:
                    start -= _before(block.pieces[2 * number], key)
                yield start, end, record

    def _symbols_of(self, found: Found) -> list[Symbol | None]:
        """Give the symbol of each address that lies in one by the boot's slide alone."""
        numbers = found.numbers.copy()
        if not found.boot.own:
            numbers[~self._decoder.names.kernel[numbers]] = NOBODY
        wanted = numbers.tolist()
        known = self._known
        if fresh := list(set(wanted) - known.keys() - {NOBODY}):
            if len(known) > _SYMBOLS:
                known = self._known = {}
                fresh = list(set(wanted) - {NOBODY})
            known.update(zip(fresh, self._table.several(fresh)))
        return [known.get(number) for number in wanted]

    def _address(self, key: Key, part: Part, symbol: Symbol | None) -> tuple[int, str] | None:
        """Give how long the frame of an address is, and its record; None if it is none."""
        digits = self._decoder.map.digits
        address, rest = int(key[:digits], 16), key[digits:]
        if symbol is not None and part.boot is not None:
            offset = address - part.boot.slide - symbol.address
            usual = self._usual_address(address, rest, symbol, offset)
            if usual is not None:
                return usual
        said = self._decoder.meant(parse_annotation(rest))
        if said.form.style is Style.NO_ADDRESS:
            return None
        words = said.name or None
        if words is not None and said.offset is not None:
            words += f"+{said.offset:#x}"
        place = part.boot and self._decoder.map.place(address, part.boot, symbol)
        agrees = None
        if place is None:
            record = self._nothing(address, part)
        else:
            if words is not None:
                agrees = self._decoder.agrees(said, place)
            record = self._is(place.symbol, place.offset)
        # What closes an address that has no name is no part of the frame.
        length = digits if said.form is NONE else len(key)
        if rest.startswith(BEFORE):
            length = digits + len(said.closed)
        return length, _head(address, words, agrees) + record

    def _usual_address(
        self, address: int, rest: bytes, symbol: Symbol, offset: int
    ) -> tuple[int, str] | None:
        """Do what :meth:`_address` does where there is no name, or a right one as most have."""
        digits = self._decoder.map.digits
        if rest in CLOSED:
            return digits, _head(address, None, None) + self._is(symbol, offset)
        name = f"{self._table.printed(symbol)}+{offset:#x}"
        whole = f"{name}/{symbol.size:#x}"
        said = (f" {name}", f" {whole}", f" {whole} [{symbol.module}]")
        if symbol.section is None or not text_of(rest).endswith(said):
            return None
        closed = rest.removeprefix(BEFORE).partition(b" ")[0]
        length = len(closed) if rest.startswith(BEFORE) else len(rest)
        return digits + length, _head(address, name, True) + self._is(symbol, offset)

    def _symbols(self, block: Block, parts: Parts) -> Iterator[_Frame]:
        """Give the symbols without an address: what can be known of them."""
        begins = [part.begin for part, _ in parts]
        for place, match in block.named:
            part, _ = parts[bisect_right(begins, place) - 1]
            verdict = self._decoder.tally.judge(match)
            if match["size"] is None and not self._called(match):
                continue  # a sum, and no symbol
            length = match.end() - match.start()
            offset = int(match["offset"], 16)
            yield place, place + length, self._symbol(match, offset, verdict, part)
        if b"+" in block.text:
            for match in DECIMAL_FRAMES.finditer(block.text):
                if self._called(match):
                    part, _ = parts[bisect_right(begins, match.start()) - 1]
                    offset = int(match["decimal"])
                    verdict = self._decoder.tally.find(
                        text_of(match["name"]), offset, None, None
                    )
                    begin, end = match.start("name"), match.end()
                    yield begin, end, self._symbol(match, offset, verdict, part)

    def _called(self, match: re.Match[bytes]) -> bool:
        return bool(self._decoder.names.called(text_of(match["name"])))

    def _symbol(self, match: re.Match[bytes], offset: int, verdict: Verdict, part: Part) -> str:
        said, symbol = f"{text_of(match['name'])}+{offset:#x}", verdict.symbol
        if part.alien or symbol is None:
            why = part.why if part.alien else verdict.why
            return f'{_head(None, said, None)}{_UNKNOWN}, "why": {dumps(why)}'
        return _head(None, said, True) + self._is(symbol, offset)

    def _is(self, symbol: Symbol, offset: int) -> str:
        """Write what is so many bytes into a symbol."""
        static = self._static.get(symbol) or self._make_static(symbol)
        before, between, after, start, linked = static
        address = symbol.address + offset
        inside = "null" if start is None else address - start
        link = "null" if linked is None else f'"{linked + offset:#x}"'
        more = self._more(symbol, offset) if self._typed or symbol.module == "bpf" else ""
        return (
            f'{before}{offset}{between}{inside}{after}"{address:#x}", "link_address": {link}'
            f'{more}, "why": null'
        )

    def _more(self, symbol: Symbol, offset: int) -> str:
        """Write what the file knows of a symbol beside its place."""
        more = ""
        if self._typed:
            more = f', "prototype": {dumps(self._table.prototype(symbol))}'
        if symbol.module == "bpf":
            record = programs.record(self._table, symbol, offset)
            more += ", " + dumps(record)[1:-1] if record else ""
        return more

    def _make_static(self, symbol: Symbol) -> _Static:
        """Write what the records of all places in a symbol have in common."""
        name, address, size, exact, module, section, *_ = symbol
        printed = self._table.printed(symbol)
        listed = f'"listed": {dumps(name)}, ' if printed != name else ""
        others = dumps(aliases(self._table, symbol)) if address in self._shared else "[]"
        where = self._where.get((module, section))
        if where is None:
            where = f'"module": {_quoted(module)}, "section": {_quoted(section)}'
            self._where[module, section] = where
        made = _Static(
            f'"symbol": {_quoted(printed)}, {listed}"offset": ',
            f', "size": {size}, "exact": {_WORDS[exact]}, {where}, "section_offset": ',
            f', "aliases": {others}, "file_address": ',
            self._starts.get(section) if section else None,
            link_address(symbol, self._slide),
        )
        if len(self._static) > _SYMBOLS:
            self._static = {}
        self._static[symbol] = made
        return made

    @cached_property
    def _shared(self) -> frozenset[int]:
        """The addresses that have several symbols."""
        return shared(self._table)

    def _nothing(self, address: int, part: Part) -> str:
        why = part.why
        if part.boot is not None:
            why = self._decoder.map.untold(address, part.boot) or "it lies in no symbol"
            if part.state is State.ASSUMED:
                why += " of the file's own boot, and nothing tells of another"
        return f'{_UNKNOWN}, "why": {dumps(why)}'


def _head(address: int | None, said: str | None, agrees: bool | None) -> str:
    """Write the begin of a record: what the text says of a frame, and whether it is right."""
    where = "null" if address is None else f'"{address:#x}"'
    return f'"address": {where}, "said": {_quoted(said)}, "agrees": {_WORDS[agrees]}, '


def _quoted(text: str | None) -> str:
    """Write a string as JSON: what ``dumps`` calls after it has looked at its arguments."""
    return "null" if text is None else encode_basestring_ascii(text)


def _before(before: bytes, key: Key) -> int:
    """Give how many bytes before an address its name begins."""
    name = key.rpartition(b"\0")[2].partition(b" ")[2]
    return len(before) - before.rindex(name)
