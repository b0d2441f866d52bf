"""Addresses in a text, and their names beside them."""

from __future__ import annotations

from binascii import unhexlify
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Final

import numpy as np

from .._symbols import SymbolTable
from .._symbols.spans import NOBODY
from . import forms
from .boot import Boot, Layout, Place
from .evidence import Evidence, Key, Part, places_of
from .names import Names

if TYPE_CHECKING:
    from .._symbols.spans import U64, Index
    from .names import Bools

_UNKNOWN: Final = b" [unknown]"
"""What perf script prints for a name that it does not have."""
_KEPT: Final = 1 << 15
"""How many answers are kept of one boot; with more they leave the processor's caches."""
_INSTRUCTION: Final = 8
"""How many digits an instruction has at most, where it is printed as one number."""
_LISTED: Final = 1 << 17
"""How many addresses without a name are told apart, by the reason."""


class Decoder:
    """Adds names to a text's addresses, block after block; one for each text.

    Args:
        table: the kernel's symbols.
        boot: the boot that the text is of; None to find that in the text.
        force: go on where the text is of another build.
    """

    def __init__(
        self, table: SymbolTable, boot: Boot | None = None, *, force: bool = False
    ) -> None:
        self.names = Names(table)
        self.layout = Layout(table, self.names)
        self._given = boot is not None
        self._new_evidence = partial(Evidence, table, self.layout, boot, force)
        self.evidence = self._new_evidence()
        self._spans = table.spans
        self._digits = self.layout.digits
        prefix = self.layout.prefix
        self._capitals = prefix.upper().encode()
        self._usual = forms.addresses(self._digits, prefix)
        self.pattern = forms.addresses(self._digits, prefix, capitals=True)
        """Where addresses are in a text, in capitals too; :meth:`split` is quicker."""
        self._answers: dict[Key, bytes] = {}
        self._boot: Boot | None = None
        self.unknown: dict[str, set[bytes]] = {}
        """Addresses that cannot be known, by the reason; of each a hundred thousand or so."""
        self.linked_in: set[str] = set()
        """The modules that the text says were loaded."""

    def decode(self, block: bytes) -> bytes:
        """``block``, a part of the text that ends where no frame does, with names.

        Raises:
            DecodeError: the text is of another build than the table.
        """
        pieces = self.split(block)
        keys = self.keys(block, pieces)
        for part in self.parts(block, keys, pieces):
            within = keys[part.first : part.end]
            if not within:
                continue
            if part.boot is None:
                self._cannot(part.why, {key[: self._digits] for key in within})
            else:
                pieces[2 * part.first + 1 : 2 * part.end : 2] = self._named(within, part.boot)
        return b"".join(pieces)

    def look_ahead(self, blocks: Iterable[bytes]) -> None:
        """Learn from the whole text which boot its first part is of.

        Raises:
            DecodeError: the text is of another build than the table.
        """
        trial = self._new_evidence()
        for block in blocks:
            if any(hint in block for hint in forms.HINTS):
                pieces = self.split(block)
                parts = self._divide(trial, block, self.keys(block, pieces), pieces)
                self._answers = {}  # what has one already would count as nothing new
                if trial.settled:
                    self.evidence.foresee(trial, parts[0].boot)
                    return

    def split(self, block: bytes) -> list[bytes]:
        """``block`` in pieces: every second is an address and what follows it as its name."""
        pieces = (self.pattern if self._capitals in block else self._usual).split(block)
        if self._digits > _INSTRUCTION or b"Code:" not in block:
            return pieces
        return _without_code(block, pieces)

    def keys(self, block: bytes, pieces: Sequence[bytes]) -> list[Key]:
        """Each address with its name; one before it is marked as that."""
        keys = list(pieces[1::2])
        if not any(opened in block for opened in forms.OPENED):
            return keys
        ends = {opened[-2:] for opened in forms.OPENED}
        opened = [n for n, before in enumerate(pieces[:-1:2]) if before[-2:] in ends]
        for number in opened:
            digits, rest = keys[number][: self._digits], keys[number][self._digits :]
            match = forms.before_address(pieces[2 * number])
            if match is not None and (rest == b">" or forms.closes(rest)):
                keys[number] = b"%b%b%b %b" % (digits, forms.BEFORE, rest, match[1])
        return keys

    def parts(self, block: bytes, keys: list[Key], pieces: Sequence[bytes]) -> list[Part]:
        """Which boot each address is of; and what the block says of modules is kept."""
        for match in forms.LINKED_IN.finditer(block):
            words = forms.COLOUR.sub(b"", match[1]).decode().split()
            self.linked_in.update(word.partition("(")[0] for word in words)
        if len(self._answers) > _KEPT:
            self._answers = {}
        return self._divide(self.evidence, block, keys, pieces)

    def _divide(
        self, evidence: Evidence, block: bytes, keys: list[Key], pieces: Sequence[bytes]
    ) -> list[Part]:
        marks = evidence.marks(block)
        # What cannot be known in a boot is said, so on a trial only its own one is tried.
        if not marks and evidence.boot and (evidence is self.evidence or evidence.boot.own):
            odd, agreed = self._fill(keys, evidence.boot)
            if not evidence.tells(odd, agreed > 0):
                return [evidence.part(0, len(keys), agreed)]
        return evidence.parts(marks, keys, partial(places_of, pieces))

    def _named(self, keys: list[Key], boot: Boot) -> list[bytes]:
        """What is to stand for each of ``keys``: its address, and what is to follow that."""
        if boot is self._boot:
            try:
                return [self._answers[key] for key in keys]
            except KeyError:
                pass  # what the boot is was told behind them
        self._fill(keys, boot)
        return [self._answers[key] for key in keys]

    def _fill(self, keys: Iterable[Key], boot: Boot) -> tuple[list[Key], int]:
        """Have an answer for each of ``keys``.

        Gives those of them, seen for the first time, whose name is another than the boot
        would have it, or which lie in no symbol; and how many others have the right name.
        """
        if boot is not self._boot:
            self._boot, self._answers = boot, {}
        answers, digits = self._answers, self._digits
        missing = [key for key in dict.fromkeys(keys) if key not in answers]
        text = b"".join(missing)
        bare = len(text) == digits * len(missing)
        if not bare:
            text = b"".join([key[:digits] for key in missing])
        offsets, numbers, known = self._numbers(text, boot)
        rows = zip(missing, offsets.tolist(), numbers.tolist(), known.tolist())
        if not bare:
            return self._fill_named(rows, boot)
        formats = self.names.formats
        found = [formats[number] % (key, offset) for key, offset, number, _ in rows]
        answers.update(zip(missing, found))
        others = [missing[at] for at in (~known).nonzero()[0].tolist()]
        for key in others:
            answers[key] = key + self._answer(key, boot)
        return [*compress(missing, (numbers == NOBODY).tolist())], 0

    def _fill_named(
        self, rows: Iterable[tuple[Key, int, int, bool]], boot: Boot
    ) -> tuple[list[Key], int]:
        """Do the same for keys of which some have names."""
        answers, formats, digits = self._answers, self.names.formats, self._digits
        odd: list[Key] = []
        agreed = 0
        for key, offset, number, known in rows:
            if known:
                if len(key) == digits:
                    answers[key] = formats[number] % (key, offset)
                    continue
                whole, rest = formats[number] % (b"", offset), key[digits:]
                if rest.endswith(whole) or _has(rest, whole):
                    answers[key] = key if rest[0] else key[:digits] + _as_it_was(rest)
                    agreed += 1
                    continue
                if rest == _UNKNOWN:
                    answers[key] = key[:digits] + whole.rpartition(b"/")[0]
                    continue
            answers[key] = key[:digits] + self._answer(key, boot)
            if len(key) > digits or not number:
                odd.append(key)
        return odd, agreed

    def _numbers(self, text: bytes, boot: Boot) -> tuple[U64, Index, Bools]:
        """Of each address of ``text`` the offset in its symbol, its number, and if it is so."""
        addresses = np.frombuffer(unhexlify(text), f">u{self._digits // 2}").astype(np.uint64)
        addresses -= np.uint64(boot.slide % (1 << 64))
        numbers = self._spans.find(addresses)
        offsets = self.names.offsets(addresses, numbers)
        known = numbers != NOBODY if boot.own else self.names.kernel[numbers]
        return offsets, numbers, known

    def _answer(self, key: Key, boot: Boot) -> bytes:
        """What is to follow the address in place of what does."""
        address, rest = int(key[: self._digits], 16), key[self._digits :]
        place = self.layout.place(address, boot)
        if place is None:
            if why := self.layout.untold(address, boot):
                self._cannot(why, {key[: self._digits]})
            return _as_it_was(rest)
        named = forms.take_apart(rest)
        if named.kind == "listed" or self.says(named, place):
            return _as_it_was(rest)
        if rest.startswith(forms.BEFORE):
            return named.closed + b" " + self._name(place, True)
        if named.kind == "none" or (named.kind == "bare" and not self.names.called(named.name)):
            return named.closed + b" " + self._name(place, True) + rest[len(named.closed) :]
        whole = named.kind == "frame" and named.size is not None
        return named.closed + named.gap + self._name(place, whole) + named.after

    def says(self, named: forms.Named, place: Place) -> bool:
        """Whether a text's own name is one of the place's, or fits at another boot's slide.

        Where somebody said which boot it is of, no other's counts: after a reboot perf script
        has the names of what lies at the addresses now.
        """
        offset = place.offset if named.offset is None else named.offset
        there = place.symbol.address + place.offset - offset
        called = self.names.called(named.name)
        if self._given:
            return any(symbol.address == there for symbol in called)
        return any(self.layout.lies_as(symbol, there) for symbol in called)

    def _name(self, place: Place, whole: bool) -> bytes:
        """As %pS prints it: the module behind it, and the size, where ``whole``."""
        symbol = place.symbol
        text = f"{symbol.name}+{place.offset:#x}"
        if whole:
            text += f"/{symbol.size:#x}"
            module = self.names.module(symbol)
            text += "" if module is None else f" [{module}]"
        return text.encode("utf-8", "surrogateescape")

    def _cannot(self, why: str, addresses: set[bytes]) -> None:
        kept = self.unknown.setdefault(why, set())
        if len(kept) < _LISTED:
            kept |= addresses


def _without_code(block: bytes, pieces: list[bytes]) -> list[bytes]:
    """``pieces`` of ``block`` where instructions are no addresses."""
    code = [match.span() for match in forms.CODE.finditer(block)]
    kept = pieces[:1]
    for place, word, after in zip(places_of(pieces), pieces[1::2], pieces[2::2]):
        at = bisect_right(code, (place, 0)) - 1
        if at >= 0 and place < code[at][1]:
            kept[-1] += word + after
        else:
            kept += [word, after]
    return kept


def _has(rest: bytes, whole: bytes) -> bool:
    """Whether the name behind an address is that of ``whole``, with another size or none."""
    if whole.startswith(rest) and whole[len(rest) : len(rest) + 3] == b"/0x":
        return True
    said = whole[1:].rpartition(b"/")[0]
    at = rest.find(said)
    after = rest[at + len(said) :][:1]
    return at > 0 and rest[at - 1] in b" (:" and after in (b"", b"/", b" ", b")")


def _as_it_was(rest: bytes) -> bytes:
    return rest[1:].partition(b" ")[0] if rest.startswith(forms.BEFORE) else rest
