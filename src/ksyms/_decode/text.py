"""Addresses in a text, and their names beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from .._symbols import SymbolTable
from . import forms
from .boot import Boot, Layout, Place
from .evidence import Evidence, Key, Part, places_of
from .names import Names

_KEPT: Final = 1 << 17
"""How many answers are kept of one boot."""


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
        self._digits, prefix = _shape(table)
        self.pattern = forms.addresses(self._digits, prefix)
        self._answers: dict[Key, bytes] = {}
        self._boot: Boot | None = None
        self.unknown: dict[str, set[bytes]] = {}
        """Addresses that cannot be known, by the reason; of each no more than are kept."""
        self.linked_in: set[str] = set()
        """The modules that the text says were loaded."""

    def decode(self, block: bytes) -> bytes:
        """``block``, a part of the text that ends where no frame does, with names.

        Raises:
            DecodeError: the text is of another build than the table.
        """
        pieces = self.pattern.split(block)
        keys = self.keys(pieces)
        for part in self.parts(block, keys, pieces):
            within = keys[part.first : part.end]
            if not within:
                continue
            if part.boot is None:
                self._cannot(part.why, {key[0] for key in within})
            else:
                behind = slice(3 * part.first + 2, 3 * part.end, 3)
                pieces[behind] = self._what_follows(within, part.boot)
        return b"".join(pieces)

    def look_ahead(self, blocks: Iterable[bytes]) -> None:
        """Learn from the whole text which boot its first part is of.

        Raises:
            DecodeError: the text is of another build than the table.
        """
        trial = self._new_evidence()
        for block in blocks:
            if any(hint in block for hint in forms.HINTS):
                pieces = self.pattern.split(block)
                places = partial(places_of, pieces)
                parts = trial.parts(trial.marks(block), self.keys(pieces), places)
                if trial.settled:
                    self.evidence.foresee(trial, parts[0].boot)
                    return

    def keys(self, pieces: Sequence[bytes]) -> list[Key]:
        """Each address with its name; one before it is marked as that."""
        keys = list(zip(pieces[1::3], pieces[2::3]))
        if b">" in pieces[2::3]:
            for number, key in enumerate(keys):
                if key[1] == b">" and pieces[3 * number].endswith(b" <"):
                    match = forms.BEFORE_ADDRESS.search(pieces[3 * number][-forms.LONGEST :])
                    if match is not None:
                        keys[number] = key[0], forms.BEFORE + b" " + match[0][:-2]
        return keys

    def parts(self, block: bytes, keys: list[Key], pieces: Sequence[bytes]) -> list[Part]:
        """Which boot each address is of; and what the block says of modules is kept."""
        for match in forms.LINKED_IN.finditer(block):
            words = match[1].decode().split()
            self.linked_in.update(word.partition("(")[0] for word in words)
        if len(self._answers) > _KEPT:
            self._answers = {}
        evidence = self.evidence
        marks = evidence.marks(block)
        if not marks and evidence.boot is not None:
            odd, agreed = self._fill(keys, evidence.boot)
            if not evidence.tells(odd):
                return [evidence.part(0, len(keys), agreed)]
        return evidence.parts(marks, keys, partial(places_of, pieces))

    def _what_follows(self, keys: list[Key], boot: Boot) -> list[bytes]:
        """What is to stand behind each address."""
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
        answers, label_of = self._answers, self.names.label
        missing = list(set(keys).difference(answers))
        odd: list[Key] = []
        agreed = 0
        for key, address, number in zip(missing, *self._numbers(missing, boot)):
            rest = key[1]
            if number:
                start, end, value, kernel = label_of(number)
                if kernel or boot.own:
                    said = start + b"%x" % (address - value)
                    if not rest:
                        answers[key] = b" " + said + end
                        continue
                    if rest == b" [unknown]":
                        answers[key] = b" " + said
                        continue
                    if _has(rest, said):
                        answers[key] = _as_it_was(rest)
                        agreed += 1
                        continue
            answers[key] = self._answer(key, boot)
            if rest or not number:
                odd.append(key)
        return odd, agreed

    def _numbers(self, keys: list[Key], boot: Boot) -> tuple[list[int], list[int]]:
        """The address of each of ``keys`` in the file, and the symbol's number there."""
        import numpy as np

        text = np.frombuffer(b"".join([key[0] for key in keys]), np.uint8)
        digits = (text & 0xF) + np.uint8(9) * (text >> 6)  # of "0" to "9" and "a" to "f"
        weights = np.uint64(16) ** np.arange(self._digits, dtype=np.uint64)[::-1]
        addresses = digits.reshape(-1, self._digits).astype(np.uint64) @ weights
        addresses -= np.uint64(boot.slide % (1 << 64))
        return addresses.tolist(), self._spans.find(addresses).tolist()

    def _answer(self, key: Key, boot: Boot) -> bytes:
        """What is to follow the address in place of what does."""
        address = int(key[0], 16)
        place = self.layout.place(address, boot)
        if place is None:
            if why := self.layout.untold(address, boot):
                self._cannot(why, {key[0]})
            return _as_it_was(key[1])
        named = forms.take_apart(key[1])
        if named.kind == "listed" or self.says(named, place):
            return _as_it_was(key[1])
        if key[1].startswith(forms.BEFORE):
            return b"> " + self._name(place, True)
        if named.kind == "none" or (named.kind == "bare" and not self.names.called(named.name)):
            return named.closed + b" " + self._name(place, True) + key[1][len(named.closed) :]
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
        if len(kept) < _KEPT:
            kept |= addresses


def _has(rest: bytes, said: bytes) -> bool:
    """Whether the name behind an address is ``said``, and no longer one."""
    at = rest.find(said)
    after = rest[at + len(said) : at + len(said) + 1]
    return at > 0 and rest[at - 1] in b" (:" and after in (b"", b"/", b" ", b")")


def _as_it_was(rest: bytes) -> bytes:
    return b">" if rest.startswith(forms.BEFORE) else rest


def _shape(table: SymbolTable) -> tuple[int, str]:
    """How many digits an address of the kernel has, and what all of them begin with."""
    start = table.spans.start
    held = start[table.spans.number != 0]
    if not len(held):
        return 16, "ffff"
    low, high = int(held[0]), int(held[-1])
    digits = 8 if high < 1 << 32 else 16
    first, last = f"{low:0{digits}x}", f"{high:0{digits}x}"
    common = digits // 4
    return digits, first[:common] if first[:common] == last[:common] else ""
