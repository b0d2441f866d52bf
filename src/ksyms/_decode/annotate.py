"""Find the addresses in a text and write the names of their symbols beside them.

A block is decoded in three steps:

1. :meth:`Decoder.read` splits it at its addresses, and finds the statements on its kernel.
2. :meth:`Decoder.parts` divides the addresses by boot, and looks each up in the boot's symbols.
3. The names are joined to the text again.

If the lines of a block do not depend on each other, the usual frames in them are decoded all at
once by :mod:`.usual`, and these steps are only for the lines that are left.
"""

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
from .usual import NOT_IN, UNKNOWN, Usual, UsualFrames, frame_hash, frame_hashes

if TYPE_CHECKING:
    from .._errors import DecodeError
    from .._symbols.spans import U64, Index
    from .names import Bools

_Ends = dict[bytes, tuple[bytes, ...]]
_BEHIND: Final[_Ends] = {b" ": (b"/", b"", b" ", b")")}
"""The bytes that can follow a name and its offset, by the byte before the name.

b"" stands for the end of the annotation.
"""
_BEHIND_OPENED: Final[_Ends] = {
    **dict.fromkeys((b"(", b":"), (b"/", b"", b" ", b")", b"}")),
    b"{": (b"/", b"}"),
    b"<": (b">",),
}
_BEHIND_DECIMAL: Final[_Ends] = {b"{": (b"}",), b":": (b"}",), b"<": (b">",), b" ": (b"",)}
"""The same for a name with a decimal offset."""
_KEPT: Final = 1 << 15
"""Limit on the cached answers of one boot; more would not fit the processor's caches."""
_LISTED: Final = 1 << 17
"""Limit on the distinct unknown addresses that are kept for each reason."""
_IGNORED: Final = 100
"""Limit on the ignored words of users that are kept for ``--explain``."""
_BLANK: Final = -42
"""The index in a key of the blank before a build-id, which is 40 digits and a bracket long."""
_OPENED: Final = forms.OPENED
CLOSED: Final = frozenset((b"", b">", b">]", b"]", b")", b"&gt;", b"&gt;]"))
"""The bytes after most addresses without a name: none, or a closing bracket."""
_USUAL: Final = 1 << 12
_HEX: Final = [b"%x" % number for number in range(_USUAL)]
"""The hexadecimal digits of the offsets below ``_USUAL``, as most offsets are."""
_TELLING: Final = (b"+", b" T _", b" (/", b" ([kernel", *forms.OPENERS)
"""A block with names that are evidence of its boot has one of these: the sign of an offset, the
start of ``_text`` in kallsyms, perf's file after a name, or what opens an address after one.
"""
_ACROSS: Final = (*HINTS, LINKED_IN, *LAYOUT_HINTS, *forms.PAIR_HINTS, *ACROSS)
"""A text whose lines depend on each other, and must be read together, has one of these."""
_FEW: Final = 16
"""Number of places in a block up to which only the text around them is searched for users'
words, instead of the whole block.
"""
_SPARSE: Final = 1 << 9
"""A block's lines are decoded independently if it has at least one address in this number of
bytes. With fewer that would not be faster.
"""
_LOOKED_AT: Final = 2
"""Number of blocks that a look ahead reads even if they have only addresses as evidence."""


class Found(NamedTuple):
    """The symbols at the addresses of ``keys`` in ``boot``.

    Columns, with an item for each key:

    - ``words``: the text to write in place of the address and its annotation
    - ``offsets`` (uint64): the offset in the symbol in bytes
    - ``numbers`` (int64): the symbol's number, NOBODY if there is none

    Keys that need a closer look, since they have an annotation or no known symbol:

    - ``hard`` (intp): their indices in the columns
    - ``fits``: for each of them True if its annotation is the symbol's name as it is printed

    For the evidence of the boot:

    - ``agreed``: the keys with the right name that were not counted for this boot before
    - ``odd``: the keys with another name than the symbol's, or in no symbol
    - ``named``: the number of keys with a symbol
    - ``inside``: the number of keys with a symbol of the kernel itself
    - ``left``: the indices of keys that keep the text's own name: it contradicts the boot, but
      stands where a user can write, so it is no evidence either
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
"""The parts of a block by boot, each with its symbols, or None if its boot is unknown."""
Named = tuple[int, re.Match[bytes]]
"""A name with an offset but without an address: its offset in the block, and its match."""


class _Counts(NamedTuple):
    """The counts of a block's usual frames.

    - ``named``: the number of addresses with a symbol
    - ``inside``: the number of those with a symbol of the kernel itself
    - ``agreed``: the numbers (:func:`~.usual.frame_hash`) of frames with the right name that
      were not counted for this boot before
    - ``modules``: True if the right name of one is a module's symbol with its size
    """

    named: int = 0
    inside: int = 0
    agreed: Collection[int] = ()
    modules: bool = False


_NO_COUNTS: Final = _Counts()


class SplitText(NamedTuple):
    """A block of a text, split at its addresses.

    - ``pieces``: the parts of the text; every second one is an address with its annotation
    - ``keys``: the addresses with their annotations; a name before the address is appended
      (see :data:`~.forms.BEFORE`)
    - ``named``: the names with an offset but without an address
    - ``said``: the statements about the text's kernel, in order
    - ``told``: by the number of a key whose name stands in a separate line, the key with this
      name (see :func:`~.forms.pairs`)
    - ``contexts``: the words before the keys; only a key that stands where the kernel prints
      frames is evidence

    For example ``RIP: ffffffff81200a2e vfs_open+0x2e, R9: 0`` has the pieces ``RIP: ``,
    ``ffffffff81200a2e vfs_open+0x2e`` and ``, R9: 0``; the middle one is its only key.
    """

    text: bytes
    pieces: list[bytes]
    keys: list[Key]
    named: list[Named]
    said: list[Statement]
    told: dict[int, Key]
    contexts: Contexts


class Decoder:
    """A writer of names beside the addresses of one text, block after block.

    Args:
        table: the kernel's symbols.
        boot: the boot that the text is from; None to find it from the text.
        force: continue if the text is from another build.
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
        """The belief of a look ahead while there is one."""
        self.tally = Tally(table, self.names)
        self._ids = table.build_ids
        self._numbers = table.numbers

        self._digits = digits = self.map.digits
        self.pattern = forms.addresses(digits, self.map.first_in_capitals)
        """The pattern of addresses in a text, including those in capital letters."""
        self._patterns: dict[bool, re.Pattern[bytes]] = {}
        self._capitals = self.map.first.upper()
        """The first digits of an address in capital letters."""
        self._stretches = Stretches(digits, not self.map.telling)
        self._before = b""
        """The end of the text before the block."""
        self._tagged = False
        """True if the text so far is a syslog with the kernel's tag."""

        self._answers: dict[Key, bytes] = {}
        """The text to write for keys in this boot."""
        self._agreed = set[int]()
        """The :func:`frame_hash` of each frame that was counted as right in this boot."""
        self._boot: Boot | None = None
        self._modules = 0
        """The number of addresses that got a module's symbol as in the file's own boot."""

        self.unknown: dict[str, set[bytes]] = {}
        """The addresses whose symbol is unknown, by the reason, up to :data:`_LISTED` each."""
        self._decoded = Repeats(self, self._with_names, self._decode_usual)
        self._named_only = Repeats(self, self._with_names_only)
        self.ignored: list[tuple[int, str]] = []
        """Words that would be evidence if no user could write them, with the line's number."""
        self.linked_in: set[str] = set()
        """The modules that the text says were loaded."""

    @property
    def settled(self) -> bool:
        """True if the boot was given, or there is evidence of it, also during a look ahead."""
        return (self._trial or self.belief).settled

    @property
    def assumed(self) -> bool:
        """True if addresses were named as in the file's own boot, without evidence.

        On a machine where the kernel has the same address in all boots, the kernel's addresses
        are no evidence of where the modules are.
        """
        modules = self._modules > 0 and not self.map.moved and not self.belief.modules_told
        return self.belief.assumed or (modules and not self._given)

    @property
    def refusal(self) -> DecodeError | None:
        """The error to raise for a text of another kernel.

        None if it need not be one, or if the file's kernel printed some of the text so far.
        """
        return None if self.belief.names_something else self.belief.refusal

    def decode(self, text: bytes) -> bytes:
        """Return ``text`` with names. It must not end within a frame."""
        return b"\n".join(self._decoded.lines(text))

    def _decode_usual(self, text: bytes) -> LineResults[bytes] | None:
        """Decode lines that do not depend on each other: the usual frames first, all at once.

        The lines with other frames are decoded after them, as one block. Return None if a line
        changes the belief.
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
        return found, block, self.parts_unless_news(block, self._count(text, found, boot))

    def _may_be_usual(self, text: bytes) -> bool:
        """Return True if the usual frames of a block can be found by :mod:`.usual`."""
        return not Pairs(text).any((self._capitals, *NOT_IN))

    def _count(self, text: bytes, found: Usual, boot: Boot) -> _Counts:
        """Return the counts of the usual frames of a block."""
        self._remember(boot)
        inside = int(found.inside.sum())
        told = bool((found.fits & ~found.inside & found.sized).any())
        return _Counts(
            len(found.begins), inside, frame_hashes(text, found) - self._agreed, told
        )

    def _annotated(self, seldom: bool) -> re.Pattern[bytes]:
        """Return the pattern of an address with its annotation.

        ``seldom`` is True to include capital letters and the forms that few texts have. To
        compile a pattern takes a tenth of the time that a command takes to start, so it is done
        when the pattern is needed.
        """
        pattern = self._patterns.get(seldom)
        if pattern is None:
            first = self.map.first_in_capitals if seldom else self.map.first
            pattern = self._patterns[seldom] = forms.annotated(self._digits, first, seldom)
        return pattern

    @cached_property
    def _usual_frames(self) -> UsualFrames:
        """The finder of usual frames."""
        return UsualFrames(self.names, self.map.first)

    def _with_names(self, block: SplitText, parts: Parts) -> list[bytes]:
        """Return the lines of a block with names."""
        out = list(block.pieces)
        for part, found in parts:
            if found is None:
                self._count_unknown(block, part)
            else:
                out[2 * part.first + 1 : 2 * part.end + 1 : 2] = found.words
        return b"".join(out).split(b"\n")

    def name_only(self, text: bytes) -> bytes:
        """Return ``text`` with a name alone instead of each address, without offsets.

        Then all frames of a function are equal, as flame graphs need them. An address whose
        symbol is unknown stays as it is.

            ffffffff81200a2e;vfs_read+0x9a/0x190    becomes vfs_open;vfs_read
        """
        return b"\n".join(self._named_only.lines(text))

    def _with_names_only(self, block: SplitText, parts: Parts) -> list[bytes]:
        """Return the lines of a block with names alone."""
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
        r"""Return the name alone for key ``at`` of ``found``.

        It is b"" if the symbol is unknown, or the text's annotation must stay. Frames are
        separated by semicolons, so a semicolon within a name becomes ``\x3b``.
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
        """Return the text after an address that stays when a name replaces the address."""
        said = self.meant(forms.parse_annotation(key[self._digits :]))
        return said.closed + (said.tail if said.form is forms.NONE else said.after)

    def _without_offsets(self, text: bytes) -> bytes:
        """Return a text without the offsets, sizes and modules after the file's symbols."""
        out, at = [], 0
        for match in frames(text):
            if self.names.called(text_of(match["name"])):
                out += [text[at : match.start()], match["name"]]
                at = match.end()
        return b"".join([*out, text[at:]])

    def look_ahead(self, texts: Iterable[bytes]) -> DecodeError | None:
        """Read the blocks of a text for evidence of its boots, before the text is decoded.

        The result is a :class:`~.belief.Plan`, which the belief that decodes the text starts
        with. Return the error to raise if these blocks are the whole text; None if there is no
        error.
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
            self.keep_context(text)

        self._trial, self._before = None, b""
        self._forget()  # cached frames would not be counted again as evidence
        if trial.several:
            self._find_own(boots)
        plan = Plan(boots, trial.several, trial.foreign, trial.firmware)
        self.belief = self._new_belief(plan)
        self._stretches = Stretches(self._digits, not self.map.telling)
        return None if trial.names_something else trial.refusal

    def _find_own(self, boots: dict[int, Change]) -> None:
        """Mark the one of several boots in ``boots`` that can be the file's own.

        There is one if each boot moves the kernel, and only one of these has it at the file's
        address. A second one at that address shows that the address does not identify a boot.
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
        """Return True if a name without an address fits the file's symbols.

        Names in the parts of another kernel do not count.
        """
        begins = [part.begin for part in parts]
        return any(
            self.tally.judge(match).fits
            for place, match in block.named
            if match["size"] and not parts[bisect_right(begins, place) - 1].alien
        )

    def _is_certain(self, boot: Boot | None) -> bool:
        """Return True if it is certain that ``boot`` is the file's own, or that it is not.

        On a machine where the kernel has the same address in all boots, that address is no
        evidence of where the modules are. So a boot that may be the file's own is certain only
        if the file has no modules.
        """
        return boot is not None and (not boot.own or self.map.moved or not self.map.has_modules)

    def _may_tell(self, trial: Belief, text: bytes, few: bool) -> bool:
        """Return True if a block can have new evidence for a look ahead.

        ``few`` is True if few blocks were read so far: then addresses alone are enough.
        """
        if Pairs(text).any(HINTS):
            return True
        if trial.settled and (self._is_certain(trial.boot) or self.map.is_in_image(text)):
            return False  # only a module's address could still change the plan
        if not trial.names_something and b"+0x" in text:
            return True
        text = text.replace(UNKNOWN + b" (", b"")  # perf script prints it instead of a name
        has_addresses = not self.map.telling or self.map.first in text or self._capitals in text
        return has_addresses and (few or Pairs(text).any(_TELLING))

    def keep_context(self, text: bytes) -> None:
        """Keep the end of a block, which the next block is read with."""
        self._before = (self._before + text[-BEHIND:])[-BEHIND:]

    def read(self, text: bytes, alone: bool = False) -> SplitText:
        """Split a block at its addresses, and find its statements about the kernel.

        ``alone`` is True if its lines do not follow each other in the text.
        """
        pairs = Pairs(text)
        seldom = pairs.any((self._capitals, *forms.LONG))
        pieces = self._annotated(seldom).split(text)
        told: dict[int, Key] = {}
        if len(pieces) > 1 or not self.map.telling:
            if spans := self._stretches.find(text, pairs):
                pieces = _without(spans, pieces)
            if pairs.any(forms.TWICE):
                pieces = self._join_repeated_addresses(pieces)
            if lines := list(forms.pairs(text)) if pairs.any(forms.PAIR_HINTS) else []:
                numbers = {place: number for number, place in enumerate(places_of(pieces))}
                told = {numbers[place]: key for place, key in lines if place in numbers}

        keys = self._keys(pieces)
        # Most texts have names with an offset only beside addresses: then the counts are equal.
        elsewhere = text.count(b"+0x") > b"".join(keys).count(b"+0x")
        named = _named(pieces, keys, self._digits) if elsewhere else []
        said = statements(text) if pairs.any(HINTS) else []
        ignored = list[Statement]()

        # A user's words are no evidence. If there are few places, only those are checked.
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
            kept = statements(hidden(text, spans), contexts.is_continuation)
            ignored += [one for one in said if one not in kept and one not in ignored]
            said = kept
        self._ignore(text, ignored)

        said += [one for one in self._modules_of(keys, pieces) if contexts.is_key(one.place)]
        said += [one for one in self._modules_named(named) if contexts.is_printed(one.place)]
        said.sort(key=lambda statement: statement.place)
        return SplitText(text, pieces, keys, named, said, told, contexts)

    def _ignore(self, text: bytes, said: Iterable[Statement]) -> None:
        """Keep the statements of a block that a user of the machine can have written."""
        for one in said:
            self._ignore_words(text, one.place, one.words)

    def _ignore_words(self, text: bytes, place: int, words: str) -> None:
        """Keep words at an offset of a block for ``--explain``, unless this is a look ahead."""
        line = self.belief.line + text.count(b"\n", 0, place)
        if self._trial is None and len(self.ignored) < _IGNORED:
            self.ignored.append((line, words))

    def _join_repeated_addresses(self, pieces: list[bytes]) -> list[bytes]:
        """Join an address that is repeated with its name to the text around it.

        In ``ffffffff81200a2e>] [<ffffffff81200a2e>] vfs_open+0x2e`` only the second one stays
        an address of its own. Return the pieces.
        """
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
        r"""Return each address with its annotation.

        A name that stands before its address is put after it, and :data:`~.forms.BEFORE` (a
        zero byte) marks that:

            the text    vfs_open+0x2e/0xf0 <ffffffff81200a2e>
            the key     ffffffff81200a2e\0> vfs_open+0x2e/0xf0
        """
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
        """Yield statements for annotations with a module's build-id unlike the file's."""
        places: list[int] = []
        longer = self._digits - _BLANK
        long = [number for number, key in enumerate(keys) if len(key) > longer]
        # The slice is of two bytes: the blank before a build-id, and the bracket after it.
        for number in [n for n in long if keys[n][_BLANK :: -_BLANK - 1] == b" ]"]:
            said = forms.parse_annotation(keys[number][self._digits :])
            places = places or places_of(pieces)
            yield from self._module(places[number], said.module, said.build_id, said.name)

    def _modules_named(self, named: list[Named]) -> Iterator[Statement]:
        """Yield statements for names without addresses, as :meth:`_modules_of` does."""
        for place, match in named:
            if match["build_id"]:
                module, build_id = match["module"].decode(), match["build_id"].decode()
                yield from self._module(place, module, build_id, text_of(match[0]))

    def _module(
        self, place: int, module: str | None, build_id: str | None, words: str
    ) -> Iterator[Statement]:
        """Yield a statement if the file has another build-id for a module than ``build_id``."""
        ours = self._ids.get(module or "kernel")
        if module and build_id and ours is not None and not ours.startswith(build_id):
            yield Statement(Says.MODULE, place, words, build_id=build_id, module=module)

    def has_single_lines(self, text: bytes) -> bool:
        """Return True if the lines of a block can be decoded independently of each other.

        It is False too for a block with few addresses, for which that would not be faster.
        """
        if not self.map.telling or text.count(self.map.first) * _SPARSE < len(text):
            return False
        return not Pairs(text).any(_ACROSS)

    def parts(self, block: SplitText) -> Parts:
        """Divide the addresses of a block by boot, and find the symbols of each part.

        The modules that the block lists are kept, and its names without addresses are counted.
        """
        self.linked_in |= linked_in(block.text)
        return self._counted(block, *self._divide(self.belief, block))

    def parts_unless_news(self, block: SplitText, usual: _Counts = _NO_COUNTS) -> Parts | None:
        """Return the parts of a block that has only some lines of the text.

        Return None if they change the belief. Then the lines around them matter, and all must
        be read as one block for :meth:`parts_by_evidence`. ``usual`` are the counts of the
        usual frames, which are in other lines.
        """
        quiet = self._locate_unless_news(self.belief, block, usual)
        if quiet is None:
            return None
        self._agreed.update(usual.agreed)
        if quiet[1].boot.own:
            self.belief.modules_told |= usual.modules
            self._modules += usual.named - usual.inside
        return self._counted(block, *quiet)

    def parts_by_evidence(self, block: SplitText) -> Parts:
        """Return the parts of a block that changes the belief."""
        return self._counted(block, self._divide_by_evidence(self.belief, block), None)

    def _counted(self, block: SplitText, parts: list[BootRange], found: Found | None) -> Parts:
        """Count the names of a block, and return its parts with their symbols.

        ``found`` has the symbols if there is only one part and they are known already.
        """
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
        if block.contexts.rejected_keys:
            self._keep_unproven_names(block, divided)

        for _, where in divided:
            if where is not None and where.boot.own:
                self.belief.modules_told |= any(key[-1:] == b"]" for key in where.agreed)
                self._modules += where.named - where.inside
        return divided

    def _keep_unproven_names(self, block: SplitText, divided: Parts) -> None:
        """Keep the text's own names where they contradict the boot but are no evidence.

        They stand where a user can write. Unless there is evidence of the boot, either these
        names or the symbols of the boot can be the wrong ones, so no symbol is written.
        """
        said = {key: self.belief.evidence(key) for key in block.contexts.rejected_keys}
        rejected_keys = {key for key, told in said.items() if told not in (NOTHING, ELSEWHERE)}
        for key in rejected_keys:
            words = key.replace(forms.BEFORE, b"").decode("utf-8", "replace")
            self._ignore_words(block.text, block.contexts.rejected_keys[key], words)
        for part, found in divided:
            if found is None or part.state in SURE:
                continue
            for at in found.hard.tolist():
                key = found.keys[at]
                if key in rejected_keys and _differs(said[key], found.boot):
                    found.words[at] = _as_it_was(key, self._digits)
                    found.left.add(at)

    def _locate_unless_news(
        self, belief: Belief, block: SplitText, usual: _Counts = _NO_COUNTS
    ) -> tuple[list[BootRange], Found] | None:
        """Return a block's only part and its symbols; None if the block changes the belief."""
        boot = belief.boot
        # Unknown addresses are counted for the user, which a look ahead must not do. In the
        # file's own boot none is unknown.
        if boot is None or not (belief is self.belief or boot.own) or belief.news(block.said):
            return None
        self._remember(boot)
        found = self._find(block.keys, block.pieces[1::2], boot)
        agreed, is_evidence = len(found.agreed) + len(usual.agreed), block.contexts.is_evidence
        if agreed and not belief.settled:
            if block.contexts.are_alone:
                return None  # the lines before a frame show if it is evidence
            agreed *= any(map(is_evidence, found.agreed))  # one is enough: all show this boot

        if belief.tells([*found.odd, *block.told.values()], agreed > 0, is_evidence):
            return None
        # In another block the same key may be evidence, so it must not be known already.
        for key in block.contexts.rejected_keys:
            self._answers.pop(key, None)
            self._agreed.discard(frame_hash(key, self._digits))

        counts = found.named + usual.named, found.inside + usual.inside, agreed
        part = belief.part(0, len(block.keys) + usual.named, *counts)
        return [part._replace(end=len(block.keys))], found

    def _divide(self, belief: Belief, block: SplitText) -> tuple[list[BootRange], Found | None]:
        """Return the ranges of a block by boot, with its symbols if it keeps the belief."""
        quiet = self._locate_unless_news(belief, block)
        return quiet or (self._divide_by_evidence(belief, block), None)

    def _divide_by_evidence(self, belief: Belief, block: SplitText) -> list[BootRange]:
        """Return the ranges of a block by boot; its evidence changes the belief."""
        said, keys, told = belief.news(block.said), block.keys, block.told
        asked = [told.get(n, key) for n, key in enumerate(keys)] if told else keys
        places = partial(places_of, block.pieces)
        return belief.parts(block.text, said, asked, places, block.contexts.is_evidence)

    def _found_in(self, part: BootRange, block: SplitText) -> Found | None:
        """Return the symbols of a part's addresses; None if its boot is unknown."""
        if part.boot is None:
            return None
        words = block.pieces[2 * part.first + 1 : 2 * part.end : 2]
        return self._find(block.keys[part.first : part.end], words, part.boot)

    def _find(self, keys: list[Key], words: list[bytes], boot: Boot) -> Found:
        """Find the symbols of ``keys`` in ``boot``; ``words`` are the text's words for them."""
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

        # The slide locates the kernel. Only in the file's own boot it locates modules too.
        kernel = self.names.kernel[numbers]
        known = numbers != NOBODY if boot.own else kernel
        hard = np.flatnonzero(~known if bare is None else ~(known & bare))
        counts = int(known.sum()), int(kernel.sum())
        found = Found(keys, boot, words, offsets, numbers, hard, [], [], [], *counts, set())
        self._fill(found, known)
        return found

    def _fill(self, found: Found, known: Bools) -> None:
        """Fill ``words``, ``fits``, ``agreed`` and ``odd`` of ``found``.

        A name is put after each address without an annotation, for all at once. Then the
        ``hard`` ones are processed one by one.
        """
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
        agreed = {frame_hash(key, digits): key for key in set(compress(keys, fits))}
        fresh = agreed.keys() - self._agreed
        self._agreed |= fresh
        found.agreed.extend([agreed[way] for way in fresh])

        for at, key in compress(zip(hard, keys), map(not_, fits)):
            if key[digits:] == UNKNOWN and known[at]:
                found.words[at] = key[:digits] + names[at]
            else:
                if key not in self._answers:
                    number = int(found.numbers[at]) if known[at] else NOBODY
                    self._answers[key] = self._make_answer(found, key, number, offsets[at])
                found.words[at] = self._answers[key]

    def _remember(self, boot: Boot) -> None:
        """Prepare to keep answers of ``boot``: drop those of another boot, or too many."""
        if boot is not self._boot or len(self._answers) + len(self._agreed) > _KEPT:
            self._boot = boot
            self._forget()

    def _forget(self) -> None:
        """Drop the cached answers, and the record of which frames were counted."""
        self._answers, self._agreed = {}, set()

    def _make_answer(self, found: Found, key: Key, number: int, offset: int) -> bytes:
        """Return the text to write for ``key``, and add it to ``agreed`` or ``odd``.

        ``number`` is its symbol's, or NOBODY; ``offset`` is the offset in that symbol.
        """
        digits, head = self._digits, self.names.heads[number]
        named = number != NOBODY
        if not (named and _has_name_quickly(key, head, offset)):
            said = forms.parse_annotation(key[digits:])
            if not (named and self._names_symbol(said, number, offset)):
                if len(key) > digits or not number:
                    found.odd.append(key)
                return self._answer(key, said, found.boot)
        found.agreed.append(key)
        return _as_it_was(key, digits)

    def _names_symbol(self, said: Annotation, number: int, offset: int) -> bool:
        """Return True if an annotation names the symbol of ``number`` with that offset."""
        name = self.names.heads[number][1:-3]
        return (
            said.offset == offset
            and said.form.style is not Style.KEPT
            and _encoded(said.name) == name
        )

    def _answer(self, key: Key, said: Annotation, boot: Boot) -> bytes:
        """Return the text to write for ``key``, whose annotation is ``said``."""
        there, rest = key[: self._digits], key[self._digits :]
        said = self.meant(said)
        place = None
        if said.form.style is not Style.NO_ADDRESS:
            place = self.map.place(int(there, 16), boot)
            if place is None and (why := self.map.why_unknown(int(there, 16), boot)):
                self._record_unknown(why, {there})
        if place is None or self._stays(said, place):
            return _as_it_was(key, self._digits)
        if rest.startswith(forms.BEFORE):
            return there + said.closed + b" " + self._printed(place, True)
        if said.form is forms.NONE:
            return there + said.closed + b" " + self._printed(place, True) + said.tail
        return there + said.closed + said.gap + self._written(said, place) + said.after

    def _stays(self, said: Annotation, place: SymbolOffset) -> bool:
        """Return True if an annotation stays: it is or may be right, or is never changed."""
        if said.form.style is Style.KEPT or said.form.tells is Tells.ANCHOR:
            return True
        if self.agrees(said, place):
            return True
        # Neither the text's name nor the file's own boot has evidence: the text's name stays.
        return said.form.tells is Tells.EXTENT and not self.settled

    def meant(self, said: Annotation) -> Annotation:
        """Return an annotation, or an empty one if it is only a word that names no symbol."""
        if said.form.tells is not Tells.EXTENT or self.names.called(said.name):
            return said
        return Annotation(forms.NONE, said.closed, said.tail)

    def agrees(self, said: Annotation, place: SymbolOffset) -> bool:
        """Return True if the text's name can be right for an address in some boot.

        If the user gave the boot, the name must be right in that one. After a reboot perf
        script prints the names of the symbols that lie at the addresses now.
        """
        offset = place.offset if said.offset is None else said.offset
        there = place.symbol.address + place.offset - offset
        called = self.names.called(said.name)
        if self._given:
            return any(symbol.address == there for symbol in called)
        return any(self.map.lies_as(symbol, there) for symbol in called)

    def _written(self, said: Annotation, place: SymbolOffset) -> bytes:
        """Return a symbol's name and offset, written as the annotation's form has them."""
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
        """Return a name and offset as %pS prints them, with size and module if ``whole``."""
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
            self._record_unknown(part.why, {key[: self._digits] for key in keys})

    def _record_unknown(self, why: str, addresses: set[bytes]) -> None:
        """Keep addresses whose symbol is unknown, with the reason."""
        kept = self.unknown.setdefault(why, set())
        if len(kept) < _LISTED:
            kept |= addresses


def _named(pieces: list[bytes], keys: list[Key], digits: int) -> list[Named]:
    """Return the names with an offset in the text between the addresses.

    Names that stand right before their address are left out: the keys have these.
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
    """Return ``pieces`` with the addresses in ``spans`` joined to the text around them."""
    kept = pieces[:1]
    for place, word, after in zip(places_of(pieces), pieces[1::2], pieces[2::2]):
        at = bisect_right(spans, (place, len(word) + place)) - 1
        if at >= 0 and place < spans[at][1]:
            kept[-1] += word + after
        else:
            kept += [word, after]
    return kept


def _plan(boots: dict[int, Change], changes: list[Change], part: BootRange) -> None:
    """Keep the boot of a part in ``boots``, if it is the first known one of its section.

    ``changes`` are the changes of the belief in that section.
    """
    known, boot = boots.get(part.section), part.boot
    if boot is None or not (part.state in SURE or part.state is State.OTHER):
        return
    sure = known.boot if known is not None and known.state in SURE else None
    # A later part with the same slide replaces it if it shows that the modules lie elsewhere.
    if sure is not None and not (sure.own and not boot.own and boot.slide == sure.slide):
        return
    told = next((change for change in changes if change.state is part.state), None)
    if told is not None:  # a boot that the user gave is no change in a later section
        boots[part.section] = told._replace(boot=boot)


def _differs(told: Evidence, boot: Boot) -> bool:
    """Return True if the evidence of a name beside an address contradicts ``boot``."""
    is_held = told.within is None or told.within.held is not False
    return told.against or not is_held or contradicts(told, boot)


def _has_name_quickly(key: Key, head: bytes, offset: int) -> bool:
    """Return True if the name in ``key`` is that of ``head`` with ``offset``.

    It is a quick check of the usual ways to write a name. If it returns False, only
    :func:`~.forms.parse_annotation` can decide.
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
    """Return a key as it was in the text: without a name that stands before the address."""
    if key[digits : digits + 1] != forms.BEFORE:
        return key
    return key[:digits] + key[digits + 1 : key.index(b" ", digits)]


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
