"""One record a frame, for a program: each address, and each symbol without one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

from .._symbols import Symbol, SymbolTable, link_slide
from .._symbols.search import aliases
from .._symbols.slide import link_address
from . import forms
from .boot import Place
from .evidence import Key, Part, places_of
from .text import Decoder

Record = dict[str, Any]

_PADDING: Final = 64
"""How much less than kallsyms tells a function can have: what aligns the next one."""


class Frames:
    """The frames of a text, block after block; ``decoder`` is for this text alone."""

    def __init__(self, decoder: Decoder, table: SymbolTable) -> None:
        self._decoder = decoder
        self._table = table
        self._slide = link_slide(table)
        self._typed = table.has_prototypes
        self._line = 1

    def of(self, block: bytes) -> Iterator[Record]:
        """The records of ``block``, in its order.

        ``text`` is the frame as it is there, ``line`` its line's number, ``address`` what the
        text says it is, ``said`` the name that the text has for it. ``symbol`` with its
        ``offset`` and ``size`` in bytes is what it is; where that is None, ``why`` says why.
        ``file_address`` is where it is in the file, ``link_address`` where it was linked, and
        ``prototype`` its C type if the file has BTF.

        Raises:
            DecodeError: the text is of another build than the table.
        """
        pieces = self._decoder.split(block)
        keys = self._decoder.keys(block, pieces)
        parts = self._decoder.parts(block, keys, pieces)
        places = places_of(pieces)
        found = [
            *self._addresses(pieces, keys, parts, places),
            *self._symbols(block, parts),
        ]
        # A symbol whose address is there was found twice: the address tells more.
        taken, at = -1, 0
        for place, end, record in sorted(found, key=lambda item: (item[0], -item[1])):
            if place < taken:
                continue
            taken = end
            self._line += block.count(b"\n", at, place)
            at = place
            text = block[place:end].decode("utf-8", "surrogateescape")
            yield {"line": self._line, "text": text, **record}
        self._line += block.count(b"\n", at)

    def _addresses(
        self, pieces: list[bytes], keys: list[Key], parts: list[Part], places: list[int]
    ) -> Iterator[tuple[int, int, Record]]:
        decoder = self._decoder
        for part in parts:
            for number in range(part.first, part.end):
                key, digits = keys[number], decoder.layout.digits
                start, address = places[number], int(key[:digits], 16)
                named = forms.take_apart(key[digits:])
                # What closes an address that has no name is no part of the frame.
                there = pieces[2 * number + 1]
                end = start + (digits if named.kind == "none" else len(there))
                if key != there:  # its name is before it
                    before = pieces[2 * number]
                    name = key[digits:].partition(b" ")[2]
                    start -= len(before) - before.rindex(b" ") + len(name)
                said = named.name or None
                if said is not None and named.offset is not None and named.kind == "frame":
                    said += f"+{named.offset:#x}"
                place = part.boot and decoder.layout.place(address, part.boot)
                record: Record = {"address": f"{address:#x}", "said": said}
                if place is None:
                    yield start, end, record | self._nothing(address, part)
                else:
                    agrees = decoder.says(named, place) if said else None
                    yield start, end, record | {"agrees": agrees} | self._is(place)

    def _symbols(self, block: bytes, parts: list[Part]) -> Iterator[tuple[int, int, Record]]:
        """Symbols with an offset and a size: what can be known of them without an address."""
        begins = [part.begin for part in parts]
        for match in forms.FRAMES.finditer(block):
            name = match[1].decode("utf-8", "surrogateescape")
            offset, size = int(match[2], 16), int(match[3], 16)
            module = match[4].decode("utf-8", "surrogateescape") if match[4] else None
            record: Record = {"address": None, "said": f"{name}+{offset:#x}", "agrees": None}
            named = self._decoder.names.called(name)
            same = [s for s in named if self._decoder.names.module(s) == module]
            fits = [s for s in same if _has_size(s, size)]
            part = parts[bisect_right(begins, match.start()) - 1]
            if part.alien or offset > size:
                why = part.why if part.alien else f"{name} has no {offset:#x} bytes"
                record |= _UNKNOWN | {"why": why}
            elif len(fits) == 1:
                address = fits[0].address + offset
                record |= {"agrees": True} | self._is(Place(fits[0], offset, address))
            else:
                record |= _UNKNOWN | {"why": _why(same, fits, size)}
            yield match.start(), match.end(), record

    def _is(self, place: Place) -> Record:
        symbol = place.symbol
        linked = link_address(symbol, self._slide)
        link = None if linked is None else linked + place.offset
        return {
            "symbol": symbol.name,
            "offset": place.offset,
            "size": symbol.size,
            "exact": symbol.exact,
            "module": symbol.module,
            "section": symbol.section,
            "aliases": aliases(self._table, symbol),
            "file_address": f"{place.address:#x}",
            "link_address": None if link is None else f"{link:#x}",
            **({"prototype": self._table.prototype(symbol)} if self._typed else {}),
            "why": None,
        }

    def _nothing(self, address: int, part: Any) -> Record:
        why = part.why
        if part.boot is not None:
            why = self._decoder.layout.untold(address, part.boot) or "it lies in no symbol"
        return {"agrees": None, **_UNKNOWN, "why": why}


_UNKNOWN: Final[Record] = {
    **dict.fromkeys(("symbol", "offset", "size", "exact", "module", "section")),
    **{"aliases": [], "file_address": None, "link_address": None},
}


def _has_size(symbol: Symbol, size: int) -> bool:
    """Whether kallsyms can say ``size`` of the symbol: what it has, and what pads it."""
    return symbol.size == size or (symbol.exact and 0 < size - symbol.size < _PADDING)


def _why(named: list[Symbol], fits: list[Symbol], size: int) -> str:
    if not named:
        return "no symbol has that name"
    if fits:
        return f"{len(fits)} symbols have that name and size"
    return f"the symbol of that name has {named[0].size:#x} bytes, not {size:#x}"
