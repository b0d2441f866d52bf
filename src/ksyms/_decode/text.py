"""Addresses in a text, and their names beside them."""

from __future__ import annotations

from binascii import unhexlify
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

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
_BEHIND: Final = (b"/", b"", b" ", b")")
"""What ends a name with its offset."""
_KEPT: Final = 1 << 15
"""How many answers are kept of one boot; with more they leave the processor's caches."""
_INSTRUCTION: Final = 8
"""How many digits an instruction has at most, where it is printed as one number."""
_LISTED: Final = 1 << 17
"""How many addresses without a name are told apart, by the reason."""
_COLUMNS: Final = 5
"""How many parts a frame has as it is written: what is before it, and its own four."""
_USUAL: Final = 1 << 12
_HEX: Final = [b"%x" % number for number in range(_USUAL)]
"""Offsets as they are written, of those that most are."""


class _Found(NamedTuple):
    """Where ``keys`` lie in ``boot``: an item of each column for a key.

    ``words`` are the keys with what they are to be followed by, ``offsets`` (uint64) in bytes
    from the symbols of ``numbers`` (int64). ``hard`` (intp) are the places in all these of what
    is more than an address whose symbol is known: of the others the word is the key.

    ``agreed`` are keys, seen for the first time, that have the right name; ``odd`` those whose
    name is another than the boot would have it, or which lie in no symbol.
    """

    keys: list[Key]
    boot: Boot
    words: list[bytes]
    offsets: U64
    numbers: Index
    hard: Index
    agreed: list[Key]
    odd: list[Key]


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
        self._numbers = table.numbers
        self._digits = self.layout.digits
        prefix = self.layout.prefix
        self._capitals = prefix.upper().encode()
        self._hints = (*forms.HINTS, forms.OPENED[0] + prefix.encode())
        self._usual = forms.addresses(self._digits, prefix)
        self.pattern = forms.addresses(self._digits, prefix, capitals=True)
        """Where addresses are in a text, in capitals too; :meth:`split` is quicker."""
        self._answers: dict[Key, bytes] = {}
        self._boot: Boot | None = None
        self._found: _Found | None = None
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
        out = [b""] * (_COLUMNS * len(keys) + 1)
        out[::_COLUMNS], out[1::_COLUMNS] = pieces[::2], pieces[1::2]
        for part in self.parts(block, keys, pieces):
            whole = part.end - part.first == len(keys)
            within = keys if whole else keys[part.first : part.end]
            if not within:
                continue
            if part.boot is None:
                self._cannot(part.why, {key[: self._digits] for key in within})
                continue
            first, end = _COLUMNS * part.first, _COLUMNS * part.end
            for column, words in enumerate(self._named(within, part.boot), 1):
                out[first + column : end + column : _COLUMNS] = words
        return b"".join(out)

    def look_ahead(self, blocks: Iterable[bytes]) -> None:
        """Learn from the whole text which boot its first part is of.

        Raises:
            DecodeError: the text is of another build than the table.
        """
        trial = self._new_evidence()
        for block in blocks:
            if any(hint in block for hint in self._hints):
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
            name = forms.before_address(pieces[2 * number])
            if not name or not (rest == b">" or forms.closes(rest)):
                continue
            if b"+" in name or self.names.called(name.decode()):
                keys[number] = digits + forms.BEFORE + rest + b" " + name
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
            found = self._find(keys, evidence.boot)
            if not evidence.tells(found.odd, len(found.agreed) > 0):
                return [evidence.part(0, len(keys), len(found.agreed))]
        return evidence.parts(marks, keys, partial(places_of, pieces))

    def _named(self, keys: list[Key], boot: Boot) -> tuple[list[bytes], ...]:
        """What is to stand for each of ``keys``, in four parts that follow each other."""
        found = self._find(keys, boot)
        offsets, numbers = found.offsets.tolist(), found.numbers.copy()
        hexes = [_HEX[offset] if offset < _USUAL else b"%x" % offset for offset in offsets]
        numbers[found.hard] = NOBODY
        for at in found.hard.tolist():
            hexes[at] = b""
        places = numbers.tolist()
        heads, tails = self.names.heads, self.names.tails
        return found.words, [heads[at] for at in places], hexes, [tails[at] for at in places]

    def _find(self, keys: list[Key], boot: Boot) -> _Found:
        """Where ``keys`` lie in ``boot``; the last answer is kept."""
        found = self._found
        if found is not None and found.keys is keys and found.boot is boot:
            return found
        digits = self._digits
        text = b"".join(keys)
        bare: Bools | None = None
        if len(text) != digits * len(keys):
            text = b"".join([key[:digits] for key in keys])
            bare = np.fromiter(map(len, keys), np.intp, len(keys)) == digits
        addresses = np.frombuffer(unhexlify(text), f">u{digits // 2}").astype(np.uint64)
        addresses -= np.uint64(boot.slide % (1 << 64))
        numbers = self._numbers(addresses)
        offsets = self.names.offsets(addresses, numbers)
        known = numbers != NOBODY if boot.own else self.names.kernel[numbers]
        hard = np.flatnonzero(~known if bare is None else ~(known & bare))
        self._found = _Found(keys, boot, keys.copy(), offsets, numbers, hard, [], [])
        self._fill(self._found, known)
        return self._found

    def _fill(self, found: _Found, known: Bools) -> None:
        """Have the words for what is more than an address whose symbol is known."""
        keys, boot, words, offsets, numbers, hard, agreed, odd = found
        if boot is not self._boot:
            self._boot, self._answers = boot, {}
        answers, digits, heads = self._answers, self._digits, self.names.heads
        columns = (hard, offsets[hard], numbers[hard], known[hard])
        for at, offset, number, named in zip(*(column.tolist() for column in columns)):
            key = keys[at]
            word = answers.get(key)
            if word is None:
                said = heads[number] + (_HEX[offset] if offset < _USUAL else b"%x" % offset)
                begin = key.find(said, digits) if named else -1
                end = begin + len(said)
                if key[end : end + 1] in _BEHIND if begin >= 0 else named and _has(key, said):
                    word = key if key[digits] else _as_it_was(key, digits)
                    agreed.append(key)
                elif named and key[digits:] == _UNKNOWN:
                    word = key[:digits] + said
                else:
                    word = self._answer(key, boot)
                    if len(key) > digits or not number:
                        odd.append(key)
                answers[key] = word
            words[at] = word

    def _answer(self, key: Key, boot: Boot) -> bytes:
        """What is to stand for ``key``."""
        there, rest = key[: self._digits], key[self._digits :]
        place = self.layout.place(address := int(there, 16), boot)
        if place is None:
            if why := self.layout.untold(address, boot):
                self._cannot(why, {there})
            return _as_it_was(key, self._digits)
        named = forms.take_apart(rest)
        if named.kind == "listed" or self.says(named, place):
            return _as_it_was(key, self._digits)
        there += named.closed
        if rest.startswith(forms.BEFORE):
            return there + b" " + self._name(place, True)
        if named.kind == "none" or (named.kind == "bare" and not self.names.called(named.name)):
            return there + b" " + self._name(place, True) + rest[len(named.closed) :]
        whole = named.kind == "frame" and named.size is not None
        return there + named.gap + self._name(place, whole) + named.after

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


def _has(key: Key, said: bytes) -> bool:
    """Whether the name behind an address is ``said`` with another character before it."""
    begin = key.find(said[1:]) - 1
    end = begin + len(said)
    return begin >= 0 and key[begin] in b"(:" and key[end : end + 1] in _BEHIND


def _as_it_was(key: Key, digits: int) -> bytes:
    """An address and what follows it in the text, which a name before it does not."""
    if not key.startswith(forms.BEFORE, digits):
        return key
    return key[:digits] + key[digits + len(forms.BEFORE) :].partition(b" ")[0]
