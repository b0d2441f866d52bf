"""Addresses in a text, and their names beside them."""

from __future__ import annotations

import re
from binascii import unhexlify
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, partial
from itertools import accumulate, compress
from operator import add, not_
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .._symbols import SymbolTable
from .._symbols.spans import NOBODY
from . import forms, users
from .address_map import AddressMap, SymbolOffset
from .belief import (
    ELSEWHERE,
    NOTHING,
    SURE,
    Belief,
    BootRange,
    Change,
    Evidence,
    Key,
    Plan,
    State,
    contradicts,
    places_of,
)
from .boot import Boot
from .contexts import Contexts
from .forms import Annotation, Style, Tells, text_of
from .hints import Pairs
from .names import SymbolNames
from .repeats import LineResults, Repeats, counted
from .statements import HINTS, LINKED_IN, Says, Statement, linked_in, statements
from .stretches import LAYOUT_HINTS, Stretches
from .tally import Tally, frames
from .users import ACROSS, BEHIND, hidden, is_in
from .usual import NOT_IN, Usual, UsualFrames, way_of, ways_of

if TYPE_CHECKING:
    from .._errors import DecodeError
    from .._symbols.spans import U64, Index
    from .names import Bools

_UNKNOWN: Final = b" [unknown]"
"""The annotation of perf script for an unknown name."""
_Ends = dict[bytes, tuple[bytes, ...]]
_BEHIND: Final[_Ends] = {b" ": (b"/", b"", b" ", b")")}
"""The bytes that can follow a name and its offset, by the byte before the name."""
_BEHIND_OPENED: Final[_Ends] = {
    **dict.fromkeys((b"(", b":"), (b"/", b"", b" ", b")", b"}")),
    b"{": (b"/", b"}"),
    b"<": (b">",),
}
_BEHIND_DECIMAL: Final[_Ends] = {b"{": (b"}",), b":": (b"}",), b"<": (b">",), b" ": (b"",)}
"""The same of a decimal offset."""
_KEPT: Final = 1 << 15
"""Answers that are kept of one boot; with more they leave the processor's caches."""
_LISTED: Final = 1 << 17
"""Distinct addresses without a name that are counted for each reason."""
_IGNORED: Final = 100
"""Words of users that are kept for ``--explain``, in a text of any length."""
_BLANK: Final = -42
"""The index of the blank before a module's build-id, 40 digits and a bracket."""
_OPENED: Final = forms.OPENED
CLOSED: Final = frozenset((b"", b">", b">]", b"]", b")", b"&gt;", b"&gt;]"))
"""The bytes that close most addresses without a name."""
_USUAL: Final = 1 << 12
_HEX: Final = [b"%x" % number for number in range(_USUAL)]
"""Offsets as they are written, of those that most are."""
_TELLING: Final = (b"+", b" T _", b" (/", b" ([kernel", *forms.OPENERS)
"""One of these, or what is between a name and its address, is in what tells its boot."""
_ACROSS: Final = (*HINTS, LINKED_IN, *LAYOUT_HINTS, *forms.PAIR_HINTS, *ACROSS)
"""One of these is in a text whose lines are to be read together."""
_FEW: Final = 16
"""With so many places in a block only what is around them is looked at for users' words."""
_SPARSE: Final = 1 << 9
"""An address in so many bytes, or more, has a text whose lines are looked at one by one."""
_LOOKED_AT: Final = 2
"""Blocks looked at in which only the addresses themselves are evidence of the boot."""


class Found(NamedTuple):
    """The symbols of ``keys`` in ``boot``; each column has an item for each key.

    ``words`` are what stands for the keys in the text, ``offsets`` (uint64) are in bytes from
    the symbols of ``numbers`` (int64). ``hard`` (intp) are the places in all these of what is
    more than an address whose symbol is known, and ``fits`` whether the name there is right as
    it stands.

    ``agreed`` are keys, seen for the first time, that have the right name; ``odd`` those whose
    name is another than the boot would have it, or which lie in no symbol. ``named`` is how
    many have a symbol, ``inside`` how many lie in the kernel. ``left`` are the places of what
    keeps its own name, which tells of another boot where it is no evidence.
    """

    keys: list[Key]
    boot: Boot
    words: list[bytes]
    offsets: U64
    numbers: Index
    hard: Index
    fits: list[bool]
    agreed: list[Key]
    odd: list[Key]
    named: int
    inside: int
    left: set[int]


Parts = list[tuple["BootRange", "Found | None"]]
"""The parts of a block by the boots that they are of, and where the addresses of each lie."""
Named = tuple[int, re.Match[bytes]]
"""A name with an offset and without an address: where it is in a text, and its match."""


class _Counts(NamedTuple):
    """How many addresses have a symbol, how many of the kernel's, and which agree anew.

    ``modules`` is True if one agrees that lies in a module.
    """

    named: int = 0
    inside: int = 0
    agreed: Collection[int] = ()
    modules: bool = False


_NO_COUNTS: Final = _Counts()


class SplitText(NamedTuple):
    """A part of a text, split at its addresses.

    Every second of ``pieces`` is an address with its annotation; ``keys`` has these, with a
    name that stands before its address marked. ``named`` are names between them that have an
    offset and no address; ``said`` are the statements of its kernel. ``told`` has the numbers
    of keys whose names stand in lines of their own, with these. ``contexts`` knows which keys
    stand where the kernel prints frames: the others tell nothing.
    """

    text: bytes
    pieces: list[bytes]
    keys: list[Key]
    named: list[Named]
    said: list[Statement]
    told: dict[int, Key]
    contexts: Contexts


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
        self.names = SymbolNames(table)
        self.map = AddressMap(table, self.names)
        self._given = boot is not None
        self._new_belief = partial(Belief, table, self.map, boot, force)
        self.belief = self._new_belief()
        self._trial: Belief | None = None
        self.tally = Tally(table, self.names)
        self._ids = table.build_ids
        self._numbers = table.numbers
        self._digits = digits = self.map.digits
        self.pattern = forms.addresses(digits, self.map.first_in_capitals)
        """The pattern of addresses in a text, in capitals too."""
        self._patterns: dict[bool, re.Pattern[bytes]] = {}
        self._capitals = self.map.first.upper()
        self._stretches = Stretches(digits, not self.map.telling)
        self._before = b""
        self._tagged = False
        self._answers: dict[Key, bytes] = {}
        self._agreed = set[int]()
        """Addresses with the right name, each in a way that it is written (:func:`way_of`)."""
        self._boot: Boot | None = None
        self._modules = 0
        self.unknown: dict[str, set[bytes]] = {}
        """Addresses that cannot be known, by the reason; of each a hundred thousand or so."""
        self._decoded = Repeats(self, self._with_names, self._decode_usual)
        self._named_only = Repeats(self, self._with_names_only)
        self.ignored: list[tuple[int, str]] = []
        """Lines, by number, and what stands there of a kernel in words that a user chose."""
        self.linked_in: set[str] = set()
        """The modules that the text says were loaded."""

    @property
    def settled(self) -> bool:
        """True if the boot is given or there is evidence of it, while looking ahead too."""
        return (self._trial or self.belief).settled

    @property
    def assumed(self) -> bool:
        """True if addresses are named as of the own boot's without evidence.

        Where no boot moves the kernel, its place tells nothing of the modules.
        """
        modules = self._modules > 0 and not self.map.moved and not self.belief.modules_told
        return self.belief.assumed or (modules and not self._given)

    @property
    def refusal(self) -> DecodeError | None:
        """Why the text is refused, where nothing in it so far was of the file's kernel."""
        return None if self.belief.names_something else self.belief.refusal

    def decode(self, text: bytes) -> bytes:
        """Give ``text``, which ends where no frame does, with names."""
        return b"\n".join(self._decoded.lines(text))

    def _decode_usual(self, text: bytes) -> LineResults[bytes] | None:
        """Decode lines that stand alone: their usual frames at once, and then what is left.

        None if they change what is believed of the boot.
        """
        found = self.find_usual(text)
        if found is None:
            return self._decoded.make_alone(text)
        usual, block, parts = found
        if parts is None:
            return None
        named, places = self._usual_frames.with_names(text, usual)
        out, at = list[bytes](), 0
        for (begin, end), line in zip(places, self._with_names(block, parts)):
            out += [named[at:begin], line]
            at = end
        return LineResults(b"".join([*out, named[at:]]).split(b"\n"), counted(block))

    def find_usual(self, text: bytes) -> tuple[Usual, SplitText, Parts | None] | None:
        """Find the usual frames of lines that stand alone, and divide the lines that are left.

        The parts are None if the lines change what is believed of the boot. All is None if the
        table of forms must read every line.
        """
        boot = self.belief.boot
        if boot is None or self.belief.is_doubted or not self._may_be_usual(text):
            return None
        found = self._usual_frames.find(text, boot)
        lines = b"\n".join([text[begin:end] for begin, end in found.left])
        block = self.read(lines, alone=True)
        return found, block, self.parts_of_some(block, self._count(text, found, boot))

    def _may_be_usual(self, text: bytes) -> bool:
        """Return whether a block has nothing that needs the table of forms for all of it."""
        return not Pairs(text).any((self._capitals, *NOT_IN))

    def _count(self, text: bytes, found: Usual, boot: Boot) -> _Counts:
        """Count the usual frames of a block, and remember which agree."""
        self._remember(boot)
        inside = int(found.inside.sum())
        told = bool((found.fits & ~found.inside & found.sized).any())
        return _Counts(len(found.begins), inside, ways_of(text, found) - self._agreed, told)

    def _annotated(self, seldom: bool) -> re.Pattern[bytes]:
        """Return the pattern of addresses and annotations; ``seldom``, of all there are.

        Each takes a tenth of a command's start to compile, so it is made when it is needed.
        """
        pattern = self._patterns.get(seldom)
        if pattern is None:
            first = self.map.first_in_capitals if seldom else self.map.first
            pattern = self._patterns[seldom] = forms.annotated(self._digits, first, seldom)
        return pattern

    @cached_property
    def _usual_frames(self) -> UsualFrames:
        return UsualFrames(self.names, self.map.first)

    def _with_names(self, block: SplitText, parts: Parts) -> list[bytes]:
        """Give the lines of a block with names."""
        out = list(block.pieces)
        for part, found in parts:
            if found is None:
                self._count_unknown(block, part)
            else:
                out[2 * part.first + 1 : 2 * part.end + 1 : 2] = found.words
        return b"".join(out).split(b"\n")

    def name_only(self, text: bytes) -> bytes:
        """Give ``text`` with names alone: in the place of addresses, and without offsets.

        So that frames of one function are one text, as flame graphs want them. What cannot be
        known stays as it is.
        """
        return b"\n".join(self._named_only.lines(text))

    def _with_names_only(self, block: SplitText, parts: Parts) -> list[bytes]:
        out = list(block.pieces)
        for part, found in parts:
            if found is None:
                self._count_unknown(block, part)
                continue
            for number, key in enumerate(found.keys, part.first):
                name = self._name_at(found, number - part.first)
                if name:
                    at = 2 * number
                    out[at] = out[at].removesuffix(b"0x")
                    out[at + 1] = name + self._behind(key)
        out[::2] = [self._without_offsets(piece) for piece in out[::2]]
        return b"".join(out).split(b"\n")

    def _name_at(self, found: Found, at: int) -> bytes:
        r"""Give the name alone of an address; b"" where it has none or is not to have one.

        A semicolon is between frames here, so one of a name is ``\x3b``.
        """
        key = found.keys[at]
        said = forms.parse_annotation(key[self._digits :])
        if at in found.left or said.form.style in (Style.NO_ADDRESS, Style.KEPT):
            return b""
        place = self.map.place(int(key[: self._digits], 16), found.boot)
        if place is None:
            return b""
        return _encoded(self.names.printed(place.symbol)).replace(b";", rb"\x3b")

    def _behind(self, key: Key) -> bytes:
        """Give what stays behind an address whose name takes its place."""
        said = self.meant(forms.parse_annotation(key[self._digits :]))
        return said.closed + (said.tail if said.form is forms.NONE else said.after)

    def _without_offsets(self, text: bytes) -> bytes:
        """Give a text whose symbols have no offsets, sizes and modules."""
        out, at = [], 0
        for match in frames(text):
            if self.names.called(text_of(match["name"])):
                out += [text[at : match.start()], match["name"]]
                at = match.end()
        return b"".join([*out, text[at:]])

    def look_ahead(self, texts: Iterable[bytes]) -> DecodeError | None:
        """Learn from the blocks of a text which boots it is of.

        What would refuse the text if these were all of it is given back.
        """
        trial, looked = self._new_belief(), 0
        self._trial = trial
        boots: dict[int, Change] = {}
        changes: defaultdict[int, list[Change]] = defaultdict(list)
        self._before = b""
        self._tagged = False
        for text in texts:
            if self._may_tell(trial, text, looked < _LOOKED_AT):
                looked += 1
                block = self.read(text)
                known = len(trial.changes)
                parts, _ = self._divide(trial, block)
                for change in trial.changes[known:]:
                    changes[change.section].append(change)
                trial.names_something = trial.names_something or self._fits(block, parts)
                for part in parts:
                    _plan(boots, changes[part.section], part)
            trial.line += text.count(b"\n")
            self.pass_by(text)
        self._trial, self._before = None, b""
        self._forget()  # what has an answer already would count as nothing new
        if trial.several:
            self._find_own(boots)
        plan = Plan(boots, trial.several, trial.foreign, trial.firmware)
        self.belief = self._new_belief(plan)
        self._stretches = Stretches(self._digits, not self.map.telling)
        return None if trial.names_something else trial.refusal

    def _find_own(self, boots: dict[int, Change]) -> None:
        """Find the one boot of several that can be the file's own.

        That is where each boot has the kernel elsewhere, and one alone has it as the file.
        """
        same = {
            section: told.boot
            for section, told in boots.items()
            if told.state in SURE and told.boot is not None and told.boot.slide == 0
        }
        for section, boot in same.items():
            own = self.map.moved and len(same) == 1 and not any(boot.moves.values())
            boots[section] = boots[section]._replace(boot=boot._replace(own=own))

    def _fits(self, block: SplitText, parts: list[BootRange]) -> bool:
        """Return whether a name without an address is one of the file's kernel's."""
        begins = [part.begin for part in parts]
        return any(
            self.tally.judge(match).fits
            for place, match in block.named
            if match["size"] and not parts[bisect_right(begins, place) - 1].alien
        )

    def _proven(self, boot: Boot | None) -> bool:
        """Return whether a boot is no other than it seems: the file's own, or another.

        Where the kernel is never moved its place tells nothing of the modules, if the file has
        any.
        """
        return boot is not None and (not boot.own or self.map.moved or not self.map.has_modules)

    def _may_tell(self, trial: Belief, text: bytes, few: bool) -> bool:
        """Return whether a block can change what a look ahead found out."""
        if Pairs(text).any(HINTS):
            return True
        if trial.settled and (self._proven(trial.boot) or self.map.is_in_image(text)):
            return False  # what is left to be told, if anything, is where modules lie
        if not trial.names_something and b"+0x" in text:
            return True
        text = text.replace(_UNKNOWN + b" (", b"")  # of perf script, and no name
        has_addresses = not self.map.telling or self.map.first in text or self._capitals in text
        return has_addresses and (few or Pairs(text).any(_TELLING))

    def pass_by(self, text: bytes) -> None:
        """Keep what the next block needs of the text before it."""
        self._before = (self._before + text[-BEHIND:])[-BEHIND:]

    def read(self, text: bytes, alone: bool = False) -> SplitText:
        """Split a text at its addresses, and find what it says of its kernel.

        ``alone`` is whether its lines do not follow each other in the text.
        """
        pairs = Pairs(text)
        seldom = pairs.any((self._capitals, *forms.LONG))
        pieces = self._annotated(seldom).split(text)
        told: dict[int, Key] = {}
        if len(pieces) > 1 or not self.map.telling:
            if spans := self._stretches.find(text, pairs):
                pieces = _without(spans, pieces)
            if pairs.any(forms.TWICE):
                pieces = self._once(pieces)
            if lines := list(forms.pairs(text)) if pairs.any(forms.PAIR_HINTS) else []:
                numbers = {place: number for number, place in enumerate(places_of(pieces))}
                told = {numbers[place]: key for place, key in lines if place in numbers}
        keys = self._keys(pieces)
        # Most texts have a name with an offset only where an address is.
        elsewhere = text.count(b"+0x") > b"".join(keys).count(b"+0x")
        named = _named(pieces, keys, self._digits) if elsewhere else []
        said = statements(text) if pairs.any(HINTS) else []
        ignored = list[Statement]()
        count = len(keys) + len(named) + len(said)
        places = [s.place for s in said] + [place for place, _ in named]
        places += places_of(pieces) if count <= _FEW else []
        self._tagged = self._tagged or users.has_kernels_tag(text)
        few = places if count <= _FEW else None
        spans = users.find(self._before, text, few, self._tagged)
        before = None if alone else self._before
        contexts = Contexts(before, text, pieces, keys, self._digits, told, spans)
        if spans:
            named = [one for one in named if not is_in(spans, one[0])]
            ignored = [one for one in said if is_in(spans, one.place)]
        if said:
            kept = statements(hidden(text, spans), contexts.goes_on)
            ignored += [one for one in said if one not in kept and one not in ignored]
            said = kept
        self._ignore(text, ignored)
        said += [one for one in self._modules_of(keys, pieces) if contexts.is_key(one.place)]
        said += [one for one in self._modules_named(named) if contexts.is_printed(one.place)]
        said.sort(key=lambda statement: statement.place)
        return SplitText(text, pieces, keys, named, said, told, contexts)

    def _ignore(self, text: bytes, said: Iterable[Statement]) -> None:
        """Keep what a user of the machine made a block say of its kernel."""
        for one in said:
            self._ignore_words(text, one.place, one.words)

    def _ignore_words(self, text: bytes, place: int, words: str) -> None:
        line = self.belief.line + text.count(b"\n", 0, place)
        if self._trial is None and len(self.ignored) < _IGNORED:
            self.ignored.append((line, words))

    def _once(self, pieces: list[bytes]) -> list[bytes]:
        """Join to what is around it an address right before itself with a name."""
        digits, kept = self._digits, pieces[:1]
        for number in range(1, len(pieces), 2):
            word, after = pieces[number], pieces[number + 1]
            following = pieces[number + 2] if number + 2 < len(pieces) else b""
            if (
                following[:digits] == word[:digits]
                and forms.parse_annotation(word[digits:]).form is forms.NONE
                and after.replace(b"&lt;", b"<").strip(b" <[").removesuffix(b"0x") == b""
                and forms.parse_annotation(following[digits:]).name
            ):
                kept[-1] += word + after
            else:
                kept += [word, after]
        return kept

    def _keys(self, pieces: list[bytes]) -> list[Key]:
        """Give each address with its annotation; a name before it is marked as that."""
        keys = pieces[1::2]
        opened = [
            number
            for number, before in enumerate(pieces[:-1:2])
            if before[-2:] in _OPENED and (before[-2:] != b"0x" or before[-4:-2] in _OPENED)
        ]
        usual = forms.USUAL_BEFORE.search
        for number in opened:
            key, before = keys[number], pieces[2 * number]
            digits, rest = key[: self._digits], key[self._digits :]
            last = max(0, len(before) - forms.LONGEST)
            if rest == b">" and (match := usual(before, last)):
                keys[number] = b"%b%b> %b" % (digits, forms.BEFORE, match[1])
                continue
            name, close = forms.name_before(before)
            if not name:
                continue
            if rest not in CLOSED and forms.parse_annotation(rest).form is not forms.NONE:
                continue
            if not rest.lower().startswith(close):
                continue
            if b"+" in name or self.names.called(name.decode()):
                keys[number] = digits + forms.BEFORE + rest + b" " + name
        return keys

    def _modules_of(self, keys: list[Key], pieces: list[bytes]) -> Iterator[Statement]:
        """Find annotations whose module has another build-id than the file's."""
        places: list[int] = []
        longer = self._digits - _BLANK
        long = [number for number, key in enumerate(keys) if len(key) > longer]
        for number in [n for n in long if keys[n][_BLANK :: -_BLANK - 1] == b" ]"]:
            said = forms.parse_annotation(keys[number][self._digits :])
            places = places or places_of(pieces)
            yield from self._module(places[number], said.module, said.build_id, said.name)

    def _modules_named(self, named: list[Named]) -> Iterator[Statement]:
        """Find names without addresses whose module has another build-id than the file's."""
        for place, match in named:
            if match["build_id"]:
                module, build_id = match["module"].decode(), match["build_id"].decode()
                yield from self._module(place, module, build_id, text_of(match[0]))

    def _module(
        self, place: int, module: str | None, build_id: str | None, words: str
    ) -> Iterator[Statement]:
        ours = self._ids.get(module or "kernel")
        if module and build_id and ours is not None and not ours.startswith(build_id):
            yield Statement(Says.MODULE, place, words, build_id=build_id, module=module)

    def has_single_lines(self, text: bytes) -> bool:
        """Return whether each line of a block tells by itself alone what is to be told of it.

        Not of a block with few addresses either, in which nothing is gained by that.
        """
        if not self.map.telling or text.count(self.map.first) * _SPARSE < len(text):
            return False
        return not Pairs(text).any(_ACROSS)

    def parts(self, block: SplitText) -> Parts:
        """Divide a block by the boots that it is of; with each part where its addresses lie.

        What the block says of modules is kept, and its names without addresses are counted.
        """
        self.linked_in |= linked_in(block.text)
        return self._counted(block, *self._divide(self.belief, block))

    def parts_of_some(self, block: SplitText, usual: _Counts = _NO_COUNTS) -> Parts | None:
        """Do the same of some lines of a block; None if they change what is believed.

        What they are among counts then: :meth:`parts_by_news` is to be asked for all.
        ``usual`` counts the usual frames in the other lines.
        """
        quiet = self._quiet(self.belief, block, usual)
        if quiet is None:
            return None
        self._agreed.update(usual.agreed)
        if quiet[1].boot.own:
            self.belief.modules_told |= usual.modules
            self._modules += usual.named - usual.inside
        return self._counted(block, *quiet)

    def parts_by_news(self, block: SplitText) -> Parts:
        """Divide a block that changes what is believed."""
        return self._counted(block, self._divide_by_news(self.belief, block), None)

    def _counted(self, block: SplitText, parts: list[BootRange], found: Found | None) -> Parts:
        if block.named:
            begins = [part.begin for part in parts]
            named: list[list[re.Match[bytes]]] = [[] for _ in parts]
            for place, match in block.named:
                named[bisect_right(begins, place) - 1].append(match)
            for part, matches in zip(parts, named):
                self.belief.names_something |= self.tally.add(matches, part.alien)
        self.belief.line += block.text.count(b"\n")
        if found is not None and parts[0].boot is found.boot:
            divided: Parts = [(parts[0], found)]
        else:
            divided = [(part, self._found_in(part, block)) for part in parts]
        if block.contexts.unsaid:
            self._leave(block, divided)
        for _, where in divided:
            if where is not None and where.boot.own:
                self.belief.modules_told |= any(key[-1:] == b"]" for key in where.agreed)
                self._modules += where.named - where.inside
        return divided

    def _leave(self, block: SplitText, divided: Parts) -> None:
        """Leave without a name what has one that tells another, and is no evidence.

        Where nothing surer tells the boot, one of both is wrong.
        """
        said = {key: self.belief.evidence(key) for key in block.contexts.unsaid}
        unsaid = {key for key, told in said.items() if told not in (NOTHING, ELSEWHERE)}
        for key in unsaid:
            words = key.replace(forms.BEFORE, b"").decode("utf-8", "replace")
            self._ignore_words(block.text, block.contexts.unsaid[key], words)
        for part, found in divided:
            if found is None or part.state in SURE:
                continue
            for at in found.hard.tolist():
                key = found.keys[at]
                if key in unsaid and _differs(said[key], found.boot):
                    found.words[at] = _as_it_was(key, self._digits)
                    found.left.add(at)

    def _quiet(
        self, belief: Belief, block: SplitText, usual: _Counts = _NO_COUNTS
    ) -> tuple[list[BootRange], Found] | None:
        """Find a block's one part and its addresses; None if it changes the belief."""
        boot = belief.boot
        # What cannot be known in a boot is said, so on a trial only its own one is tried.
        if boot is None or not (belief is self.belief or boot.own) or belief.news(block.said):
            return None
        self._remember(boot)
        found = self._find(block.keys, block.pieces[1::2], boot)
        agreed, is_evidence = len(found.agreed) + len(usual.agreed), block.contexts.is_evidence
        if agreed and not belief.settled:
            if block.contexts.are_alone:
                return None
            agreed *= any(map(is_evidence, found.agreed))  # the others say the same
        if belief.tells([*found.odd, *block.told.values()], agreed > 0, is_evidence):
            return None
        for key in block.contexts.unsaid:  # elsewhere it may be evidence
            self._answers.pop(key, None)
            self._agreed.discard(way_of(key, self._digits))
        counts = found.named + usual.named, found.inside + usual.inside, agreed
        part = belief.part(0, len(block.keys) + usual.named, *counts)
        return [part._replace(end=len(block.keys))], found

    def _divide(self, belief: Belief, block: SplitText) -> tuple[list[BootRange], Found | None]:
        """Divide a block; where its addresses lie too if it changes nothing of the belief."""
        quiet = self._quiet(belief, block)
        return quiet or (self._divide_by_news(belief, block), None)

    def _divide_by_news(self, belief: Belief, block: SplitText) -> list[BootRange]:
        said, keys, told = belief.news(block.said), block.keys, block.told
        asked = [told.get(n, key) for n, key in enumerate(keys)] if told else keys
        places = partial(places_of, block.pieces)
        return belief.parts(block.text, said, asked, places, block.contexts.is_evidence)

    def _found_in(self, part: BootRange, block: SplitText) -> Found | None:
        """Find the addresses of a part; None where its boot is unknown."""
        if part.boot is None:
            return None
        words = block.pieces[2 * part.first + 1 : 2 * part.end : 2]
        return self._find(block.keys[part.first : part.end], words, part.boot)

    def _find(self, keys: list[Key], words: list[bytes], boot: Boot) -> Found:
        """Find where ``keys`` lie in ``boot``; ``words`` are what the text has of them."""
        digits = self._digits
        text = b"".join(keys)
        bare: Bools | None = None
        if len(text) != digits * len(keys):
            text = b"".join([key[:digits] for key in keys])
            closed = [key[digits:] in CLOSED for key in keys]
            bare = np.fromiter(closed, np.bool_, len(keys))
        addresses = np.frombuffer(unhexlify(text), f">u{digits // 2}").astype(np.uint64)
        addresses -= np.uint64(boot.slide % (1 << 64))
        numbers = self._numbers(addresses)
        offsets = self.names.offsets(addresses, numbers)
        kernel = self.names.kernel[numbers]
        known = numbers != NOBODY if boot.own else kernel
        hard = np.flatnonzero(~known if bare is None else ~(known & bare))
        counts = int(known.sum()), int(kernel.sum())
        found = Found(keys, boot, words, offsets, numbers, hard, [], [], [], *counts, set())
        self._fill(found, known)
        return found

    def _fill(self, found: Found, known: Bools) -> None:
        """Put names behind addresses, and look at what is more than an address."""
        heads, tails = (
            column[found.numbers].tolist() for column in (self.names.heads, self.names.tails)
        )
        offsets = found.offsets.tolist()
        hexes = [_HEX[offset] if offset < _USUAL else b"%x" % offset for offset in offsets]
        names = list(map(add, heads, hexes))
        wholes = list(map(add, names, tails))
        hard = found.hard.tolist()
        if len(hard) < len(wholes):
            kept = [found.words[at] for at in hard]
            found.words[:] = map(add, found.words, wholes)
            for at, word in zip(hard, kept):
                found.words[at] = word
        self._remember(found.boot)
        keys = [found.keys[at] for at in hard]
        found.fits[:] = fits = [
            has and key.endswith((names[at], wholes[at]))
            for at, key, has in zip(hard, keys, known[found.hard].tolist())
        ]
        digits = self._digits
        agreed = {way_of(key, digits): key for key in set(compress(keys, fits))}
        fresh = agreed.keys() - self._agreed
        self._agreed |= fresh
        found.agreed.extend([agreed[way] for way in fresh])
        for at, key in compress(zip(hard, keys), map(not_, fits)):
            if key[digits:] == _UNKNOWN and known[at]:
                found.words[at] = key[:digits] + names[at]
            else:
                if key not in self._answers:
                    number = int(found.numbers[at]) if known[at] else NOBODY
                    self._answers[key] = self._make_answer(found, key, number, offsets[at])
                found.words[at] = self._answers[key]

    def _remember(self, boot: Boot) -> None:
        """Forget the answers of another boot, or too many."""
        if boot is not self._boot or len(self._answers) + len(self._agreed) > _KEPT:
            self._boot = boot
            self._forget()

    def _forget(self) -> None:
        """Forget the answers, which are a boot's, and which keys agreed with it."""
        self._answers, self._agreed = {}, set()

    def _make_answer(self, found: Found, key: Key, number: int, offset: int) -> bytes:
        """Find the words for ``key``, which is in the symbol ``number`` if that is somebody."""
        digits, head = self._digits, self.names.heads[number]
        named = number != NOBODY
        if not (named and _says(key, head, offset)):
            said = forms.parse_annotation(key[digits:])
            if not (named and self._is_there(said, number, offset)):
                if len(key) > digits or not number:
                    found.odd.append(key)
                return self._answer(key, said, found.boot)
        found.agreed.append(key)
        return _as_it_was(key, digits)

    def _is_there(self, said: Annotation, number: int, offset: int) -> bool:
        """Return whether an annotation says what was found: the symbol of that number."""
        name = self.names.heads[number][1:-3]
        return (
            said.offset == offset
            and said.form.style is not Style.KEPT
            and _encoded(said.name) == name
        )

    def _answer(self, key: Key, said: Annotation, boot: Boot) -> bytes:
        """Give what is to stand for ``key``, of which the text says ``said``."""
        there, rest = key[: self._digits], key[self._digits :]
        said = self.meant(said)
        place = None
        if said.form.style is not Style.NO_ADDRESS:
            place = self.map.place(int(there, 16), boot)
            if place is None and (why := self.map.untold(int(there, 16), boot)):
                self._cannot(why, {there})
        if place is None or self._stays(said, place):
            return _as_it_was(key, self._digits)
        if rest.startswith(forms.BEFORE):
            return there + said.closed + b" " + self._printed(place, True)
        if said.form is forms.NONE:
            return there + said.closed + b" " + self._printed(place, True) + said.tail
        return there + said.closed + said.gap + self._written(said, place) + said.after

    def _stays(self, said: Annotation, place: SymbolOffset) -> bool:
        """Return whether an annotation is right, or may be, or is not to be changed."""
        if said.form.style is Style.KEPT or said.form.tells is Tells.ANCHOR:
            return True
        if self.agrees(said, place):
            return True
        # A name alone is no proof of another boot; the file's own was not told either.
        return said.form.tells is Tells.EXTENT and not self.settled

    def meant(self, said: Annotation) -> Annotation:
        """Take for no annotation a word alone that is no symbol's name."""
        if said.form.tells is not Tells.EXTENT or self.names.called(said.name):
            return said
        return Annotation(forms.NONE, said.closed, said.tail)

    def agrees(self, said: Annotation, place: SymbolOffset) -> bool:
        """Return whether a text's own name is one of the place's, at some boot's slide.

        Where somebody said which boot it is of, no other's counts: after a reboot perf script
        has the names of what lies at the addresses now.
        """
        offset = place.offset if said.offset is None else said.offset
        there = place.symbol.address + place.offset - offset
        called = self.names.called(said.name)
        if self._given:
            return any(symbol.address == there for symbol in called)
        return any(self.map.lies_as(symbol, there) for symbol in called)

    def _written(self, said: Annotation, place: SymbolOffset) -> bytes:
        """Write a place's name as the form has it."""
        if said.form.style is Style.PRINTED:
            return self._printed(place, said.size is not None)
        name = _encoded(self.names.printed(place.symbol))
        name += b"+%d" % place.offset
        if said.form.style is Style.DECIMAL:
            return name
        if said.form.style is Style.ANGLES:
            return b"<" + name + b">"
        module = self.names.bracketed(place.symbol)
        return b"{" + (b":%b:" % module.encode() if module else b"") + name + b"}"

    def _printed(self, place: SymbolOffset, whole: bool) -> bytes:
        """Write a place as %pS prints it: the module behind it, and the size, if ``whole``."""
        symbol = place.symbol
        text = f"{self.names.printed(symbol)}+{place.offset:#x}"
        if whole:
            text += f"/{symbol.size:#x}"
            module = self.names.bracketed(symbol)
            text += f" [{module}]" if module else ""
        return _encoded(text)

    def _count_unknown(self, block: SplitText, part: BootRange) -> None:
        """Count the addresses of a part whose boot is unknown."""
        if part.end > part.first:
            keys = block.keys[part.first : part.end]
            self._cannot(part.why, {key[: self._digits] for key in keys})

    def _cannot(self, why: str, addresses: set[bytes]) -> None:
        kept = self.unknown.setdefault(why, set())
        if len(kept) < _LISTED:
            kept |= addresses


def _named(pieces: list[bytes], keys: list[Key], digits: int) -> list[Named]:
    """Find the names between a text's addresses that have an offset, and where each is.

    Not those that stand before their addresses, which the keys have.
    """
    texts = pieces[::2]
    telling = [number for number, text in enumerate(texts) if b"+0x" in text]
    if not telling:
        return []
    found: list[Named] = []
    begins = list(accumulate(map(len, pieces), initial=0))
    for number in telling:
        text = texts[number]
        key = keys[number] if number < len(keys) else b""
        is_before = key.startswith(forms.BEFORE, digits)
        before = key[digits:].partition(b" ")[2] if is_before else b""
        if text.count(b"+0x") == before.count(b"+0x"):
            continue
        matches = list(frames(text))
        if before and matches and before.startswith(matches[-1][0]):
            matches.pop()
        found += [(begins[2 * number] + match.start(), match) for match in matches]
    return found


def _without(spans: list[tuple[int, int]], pieces: list[bytes]) -> list[bytes]:
    """Join to what is around them those of ``pieces`` that are no addresses."""
    kept = pieces[:1]
    for place, word, after in zip(places_of(pieces), pieces[1::2], pieces[2::2]):
        at = bisect_right(spans, (place, len(word) + place)) - 1
        if at >= 0 and place < spans[at][1]:
            kept[-1] += word + after
        else:
            kept += [word, after]
    return kept


def _plan(boots: dict[int, Change], changes: list[Change], part: BootRange) -> None:
    """Keep the first boot that is told in a section, if this part tells it.

    ``changes`` are the section's changes of what is believed.
    """
    known, boot = boots.get(part.section), part.boot
    if boot is None or not (part.state in SURE or part.state is State.OTHER):
        return
    sure = known.boot if known is not None and known.state in SURE else None
    # The same slide tells nothing of modules that a later frame has elsewhere.
    if sure is not None and not (sure.own and not boot.own and boot.slide == sure.slide):
        return
    told = next((change for change in changes if change.state is part.state), None)
    if told is not None:  # what was given is no news in a later section
        boots[part.section] = told._replace(boot=boot)


def _differs(told: Evidence, boot: Boot) -> bool:
    """Return whether the name that a text has for an address is not what lies there."""
    is_held = told.within is None or told.within.held is not False
    return told.against or not is_held or contradicts(told, boot)


def _says(key: Key, head: bytes, offset: int) -> bool:
    """Return whether the name behind an address is that of ``head`` with ``offset``.

    That of most: other ways to write it need :func:`~.forms.parse_annotation`.
    """
    name, behind = head + b"%x" % offset, _BEHIND
    begin = key.find(name)
    if begin < 0:
        begin, behind = key.find(name[1:]) - 1, _BEHIND_OPENED
    if begin < 0:
        name, behind = b"%b+%d" % (head[:-3], offset), _BEHIND_DECIMAL
        begin = key.find(name[1:]) - 1
    end = begin + len(name)
    return begin >= 0 and key[end : end + 1] in behind.get(key[begin : begin + 1], ())


def _as_it_was(key: Key, digits: int) -> bytes:
    """Give an address and what follows it in the text, which a name before it does not."""
    if key[digits : digits + 1] != forms.BEFORE:
        return key
    return key[:digits] + key[digits + 1 : key.index(b" ", digits)]


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
