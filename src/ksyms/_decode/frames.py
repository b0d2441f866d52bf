"""Write JSON records of a text's frames, for programs.

There is one for each address, and for each symbol with an offset but without an address.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from json import dumps
from json.encoder import encode_basestring_ascii
from typing import Final, NamedTuple

import numpy as np

from .._symbols import Symbol, SymbolTable, link_slide, programs
from .._symbols.search import aliases, shared
from .._symbols.slide import link_address
from .._symbols.spans import NOBODY
from .annotate import Decoder, Found, Parts, SplitText
from .belief import BootRange, Key, State, places_of
from .boot import Boot
from .forms import BEFORE, DECIMAL_FRAMES, NONE, Style, parse_annotation, text_of
from .repeats import LineResults, Repeats, counted
from .tally import Verdict
from .usual import UNKNOWN, Usual

_KEPT: Final = 1 << 15
"""Limit on the cached records of one boot: a text has the same frames again and again."""
_SYMBOLS: Final = 1 << 17
"""Limit on the symbols whose part of a record is cached: about as many as a kernel has."""
_UNKNOWN: Final = ", ".join(
    [f'"{name}": null' for name in ("symbol", "offset", "size", "exact", "module", "section")]
    + [
        '"section_offset": null',
        '"aliases": []',
        '"file_address": null',
        '"link_address": null',
    ]
)
_UNSAID: Final = 'null, "agrees": null'
LEFT: Final = "its name fits only another boot, and a user of the machine can have written it"
_WORDS: Final = {None: "null", True: "true", False: "false"}
_Told = tuple[int, str]
"""The length of an address's frame in bytes, and its record without ``line`` and ``text``."""
_Frame = tuple[int, int, str]
"""The start and end of a frame in its block, and its record without ``line`` and ``text``."""


class _Static(NamedTuple):
    """The parts of a record that depend on the symbol and not on the offset.

    A record is joined from these parts and three numbers:

        before  OFFSET  between  SECTION_OFFSET  after  FILE_ADDRESS, LINK_ADDRESS

    - ``said``: the name as the kernel prints it, escaped for JSON
    - ``address``: the symbol's address in the file
    - ``within``: its offset in its section in bytes; None if the section is unknown
    - ``linked``: its address at link time; None if that is unknown
    """

    said: str
    before: str
    between: str
    after: str
    address: int
    within: int | None
    linked: int | None

    def record(self, offset: int, more: str = "") -> str:
        """Return the record of the address ``offset`` bytes into the symbol."""
        _, before, between, after, address, within, linked = self
        inside = "null" if within is None else within + offset
        link = "null" if linked is None else f'"{linked + offset:#x}"'
        return (
            f'{before}{offset}{between}{inside}{after}"{address + offset:#x}", '
            f'"link_address": {link}{more}, "why": null'
        )

    def beside(self, address: int, offset: int, is_named: bool) -> str:
        """Return the record with the text's own fields before it.

        ``address`` is the text's; ``is_named`` is True if the right name is beside it.
        """
        said = f'"{self.said}+{offset:#x}", "agrees": true' if is_named else _UNSAID
        return f'"address": "{address:#x}", "said": {said}, {self.record(offset)}'


class Frames:
    """A writer of the frames of one text, block after block; it needs a decoder of its own."""

    def __init__(self, decoder: Decoder, table: SymbolTable) -> None:
        self._decoder = decoder
        self._table = table
        self._slide = link_slide(table)
        self._typed = table.has_prototypes
        self._starts = {name: start for name, start, _ in table.sections}
        self._line = 1
        self._repeats = Repeats(decoder, self._of_lines, self._of_usual_lines)
        self._boot: Boot | None = None
        self._records: dict[Key, _Told] = {}
        self._known: dict[int, _Static | None] = {NOBODY: None}
        self._where: dict[tuple[str | None, str | None], str] = {}
        self._static: dict[Symbol, _Static] = {}

    def lines(self, text: bytes) -> Iterator[str]:
        """Yield a JSON object for each frame of ``text``, in its order.

        From the text: ``text`` is the frame itself, ``line`` the number of its line,
        ``address`` its address, ``said`` the name that the text has for it, and ``agrees`` is
        true if that name is right.

        From the file: ``symbol`` is the symbol at the address as the kernel prints it, with
        ``offset`` and ``size`` in bytes, and ``listed`` its name in the file if that differs.
        ``exact`` is true if the size is not inferred. ``section_offset`` is the offset in the
        symbol's ``section``: for a module's symbol, in the section of its ``.ko``.
        ``file_address`` is the address in the file, and ``link_address`` at link time.
        ``prototype`` is the C type if the file has BTF, and ``bpf`` the program if the symbol
        is of one.

        If ``symbol`` is null, ``why`` is the reason.
        """
        lines = self._repeats.lines(text)
        for line, frames in enumerate(lines, self._line):
            for frame in frames:
                yield f'{{"line": {line}, {frame}}}'
        self._line += len(lines) - 1

    def _of_usual_lines(self, text: bytes) -> LineResults[list[str]] | None:
        """Write the records of lines that stand alone: of their usual frames, then of the rest.

        None if the lines change what is believed of the boot.
        """
        found = None if self._typed or not text.isascii() else self._decoder.find_usual(text)
        if found is None:
            return self._repeats.make_alone(text)
        usual, block, parts = found
        if parts is None:
            return None

        feeds = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        lines: list[list[str]] = [[] for _ in range(len(feeds) + 1)]
        numbers = np.searchsorted(feeds, usual.begins).tolist()
        for number, record in zip(numbers, self._usual_records(text.decode(), usual)):
            lines[number].append(record)
        left = np.searchsorted(feeds, [begin for begin, _ in usual.left]).tolist()
        for number, records in zip(left, self._of_lines(block, parts)):
            lines[number] = records
        return LineResults(lines, counted(block))

    def _usual_records(self, text: str, usual: Usual) -> Iterator[str]:
        """Yield the records of the usual frames of a block, of which ``text`` is all ASCII."""
        starts = np.where(usual.before, usual.names, usual.begins)
        ends = usual.begins + self._decoder.map.digits + usual.unknown * len(UNKNOWN)
        ends = np.where(usual.fits, np.where(usual.before, usual.ends, usual.names), ends)
        numbers = usual.numbers.tolist()
        columns = (starts, ends, usual.addresses, usual.offsets, usual.fits)
        rows = zip(numbers, self._statics(numbers), *(column.tolist() for column in columns))
        for number, static, start, end, address, offset, fits in rows:
            if static is None:  # its records differ in more than the offset
                [symbol] = self._table.several([number])
                name = f"{self._table.printed(symbol)}+{offset:#x}" if fits else None
                record = _head(address, name, fits or None)
                record += self._record_of_symbol(symbol, offset)
            else:
                record = static.beside(address, offset, fits)
            yield f'"text": "{text[start:end]}", {record}'

    def _of_lines(self, block: SplitText, parts: Parts) -> list[list[str]]:
        """Return the records of each line of a block, without ``line``."""
        text = block.text
        lines: list[list[str]] = [[] for _ in range(text.count(b"\n") + 1)]
        found = list(self._addresses(block, parts))
        if others := list(self._symbols(block, parts)):
            # A symbol beside its address was found twice. Of two frames that overlap take the
            # one that begins first; if they begin together, the longer one.
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

    def _addresses(self, block: SplitText, parts: Parts) -> Iterator[_Frame]:
        """Yield the frames with an address."""
        digits, places = self._decoder.map.digits, places_of(block.pieces)
        for part, found in parts:
            usual: list[_Told | None] = [None] * (part.end - part.first)
            if found and not self._typed:
                usual = self._usual(found)
            left = {part.first + at for at in found.left} if found else set[int]()

            for number, known in enumerate(usual, part.first):
                key, start = block.keys[number], places[number]
                if number in left:
                    told = self._record(key, part._replace(boot=None, why=LEFT))
                else:
                    told = known or self._address(key, part)
                if told is None:
                    continue
                length, record = told
                end = start + length
                if key[digits : digits + 1] == BEFORE:
                    start -= _before(block.pieces[2 * number], key)
                yield start, end, record

    def _usual(self, found: Found) -> list[_Told | None]:
        """Return the records of addresses that stand alone or beside the right name.

        For any other address the item is None: :meth:`_address` writes its record.
        """
        digits, slide = self._decoder.map.digits, found.boot.slide
        fits: list[bool | None] = [False] * len(found.keys)
        for at, is_right in zip(found.hard.tolist(), found.fits):
            fits[at] = is_right or None

        offsets, made = found.offsets.tolist(), list[_Told | None]()
        records = self._statics(found.numbers.tolist())
        for key, static, offset, fit in zip(found.keys, records, offsets, fits):
            if fit is None or static is None:
                made.append(None)
                continue
            length = digits
            if fit:
                closed = key.find(b" ", digits) - 1
                length = closed if key[digits] == BEFORE[0] else len(key)
            address = static.address + offset + slide
            made.append((length, static.beside(address, offset, fit)))
        return made

    def _statics(self, numbers: list[int]) -> list[_Static | None]:
        """Return for each symbol the parts that all its records share.

        An item is None if there is no symbol, or if its records have more than these parts.
        """
        if len(self._known) > _SYMBOLS:
            self._known = {NOBODY: None}
        known = self._known
        if fresh := list(set(numbers) - known.keys()):
            for number, symbol in zip(fresh, self._table.several(fresh)):
                static = self._make_static(symbol)
                known[number] = static if self._is_alike(symbol, static.said) else None
        return [known[number] for number in numbers]

    def _is_alike(self, symbol: Symbol, said: str) -> bool:
        """Return True if the name needs no escapes, and the record no fields beyond _Static."""
        usual = "\\" not in said and " " not in said
        return usual and symbol.section is not None and symbol.module != "bpf"

    def _address(self, key: Key, part: BootRange) -> _Told | None:
        """Return the length of an address's frame and its record; None if it is no address."""
        if part.boot is not self._boot or len(self._records) > _KEPT:
            self._boot, self._records = part.boot, {}
        return self._records.get(key) or self._record(key, part)

    def _record(self, key: Key, part: BootRange) -> _Told | None:
        """Make the record of an address, and its length; None if it is no address."""
        digits = self._decoder.map.digits
        address, rest = int(key[:digits], 16), key[digits:]
        said = self._decoder.meant(parse_annotation(rest))
        if said.form.style is Style.NO_ADDRESS:
            return None
        words = said.name or None
        if words is not None and said.offset is not None:
            words += f"+{said.offset:#x}"

        place = part.boot and self._decoder.map.place(address, part.boot)
        agrees = None
        if place is None:
            record = self._record_of_unknown(address, part)
        else:
            if words is not None:
                agrees = self._decoder.agrees(said, place)
            record = self._record_of_symbol(place.symbol, place.offset)

        # A bracket that closes an address without a name is not part of the frame.
        length = digits if said.form is NONE else len(key)
        if rest.startswith(BEFORE):
            length = digits + len(said.closed)
        told = length, _head(address, words, agrees) + record

        # The reason why there is no symbol, and the slide of a module, can change: not cached.
        if place is not None and place.symbol.module is None:
            self._records[key] = told
        return told

    def _symbols(self, block: SplitText, parts: Parts) -> Iterator[_Frame]:
        """Yield the frames without an address, for which the text has a symbol and offset."""
        begins = [part.begin for part, _ in parts]
        for place, match in block.named:
            part, _ = parts[bisect_right(begins, place) - 1]
            verdict = self._decoder.tally.judge(match)
            if match["size"] is None and not self._called(match):
                continue  # a sum, not a symbol
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
        """Return True if the file has a symbol of the name in a match."""
        return bool(self._decoder.names.called(text_of(match["name"])))

    def _symbol(
        self, match: re.Match[bytes], offset: int, verdict: Verdict, part: BootRange
    ) -> str:
        """Return the record of a symbol that stands without an address."""
        said, symbol = f"{text_of(match['name'])}+{offset:#x}", verdict.symbol
        if part.alien or symbol is None:
            why = part.why if part.alien else verdict.why
            return f'{_head(None, said, None)}{_UNKNOWN}, "why": {dumps(why)}'
        return _head(None, said, True) + self._record_of_symbol(symbol, offset)

    def _record_of_symbol(self, symbol: Symbol, offset: int) -> str:
        """Return the record of the address ``offset`` bytes into a symbol."""
        static = self._static.get(symbol)
        if static is None:
            if len(self._static) > _SYMBOLS:
                self._static = {}
            static = self._static[symbol] = self._make_static(symbol)
        more = (
            self._extra_fields(symbol, offset) if self._typed or symbol.module == "bpf" else ""
        )
        return static.record(offset, more)

    def _extra_fields(self, symbol: Symbol, offset: int) -> str:
        """Return the fields for a symbol's prototype and BPF program, if the file has them."""
        more = ""
        if self._typed:
            more = f', "prototype": {dumps(self._table.prototype(symbol))}'
        if symbol.module == "bpf":
            record = programs.record(self._table, symbol, offset)
            more += ", " + dumps(record)[1:-1] if record else ""
        return more

    def _make_static(self, symbol: Symbol) -> _Static:
        """Return the parts that the records of all addresses in a symbol share."""
        name, address, size, exact, module, section, *_ = symbol
        printed = self._table.printed(symbol)
        quoted = _quoted(printed)
        listed = f'"listed": {dumps(name)}, ' if printed != name else ""
        others = dumps(aliases(self._table, symbol)) if address in self._shared else "[]"

        where = self._where.get((module, section))
        if where is None:
            where = f'"module": {_quoted(module)}, "section": {_quoted(section)}'
            self._where[module, section] = where

        start = self._starts.get(section) if section else None
        return _Static(
            quoted[1:-1],
            f'"symbol": {quoted}, {listed}"offset": ',
            f', "size": {size}, "exact": {_WORDS[exact]}, {where}, "section_offset": ',
            f', "aliases": {others}, "file_address": ',
            address,
            None if start is None else address - start,
            link_address(symbol, self._slide),
        )

    @cached_property
    def _shared(self) -> frozenset[int]:
        """The addresses of several symbols each."""
        return shared(self._table)

    def _record_of_unknown(self, address: int, part: BootRange) -> str:
        """Return the record of an address without a known symbol, with the reason."""
        why = part.why
        if part.boot is not None:
            why = self._decoder.map.why_unknown(address, part.boot) or "it lies in no symbol"
            if part.state is State.ASSUMED:
                why += " of the file's own boot, which is assumed"
        return f'{_UNKNOWN}, "why": {dumps(why)}'


def _head(address: int | None, said: str | None, agrees: bool | None) -> str:
    """Return the first fields of a record: the text's address and name, and ``agrees``."""
    where = "null" if address is None else f'"{address:#x}"'
    return f'"address": {where}, "said": {_quoted(said)}, "agrees": {_WORDS[agrees]}, '


def _quoted(text: str | None) -> str:
    """Return a string as JSON; it is quicker than ``dumps``, which checks its arguments."""
    return "null" if text is None else encode_basestring_ascii(text)


def _before(before: bytes, key: Key) -> int:
    """Return the number of bytes from the start of the name before an address to the address.

    ``before`` is the text before the address.
    """
    name = key.rpartition(b"\0")[2].partition(b" ")[2]
    return len(before) - before.rindex(name)
