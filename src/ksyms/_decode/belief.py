"""The boot that a text is believed to be of, and the events that change that belief.

A log has boots one after the other; each banner begins one. A name beside an address votes for
a slide, ``Kernel Offset`` states it; names without offsets count where many agree. What is
believed is one :class:`State`; each method ``_on_...`` is an event that can change it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._symbols import SymbolTable
from . import forms
from .address_map import AddressMap, Within
from .boot import UNKNOWN, Boot
from .forms import Annotation, Tells
from .statements import Says, Statement

Key = bytes
"""An address as it is in a text, :attr:`~.AddressMap.digits` long, and its annotation."""

_ANCHORS: Final = ("_stext", "_text")
"""The lines of a saved kallsyms that are believed; the others are no frames."""
_FEW: Final = 8
"""Names that must fit no slide before the text is taken for another build's."""
_SOME: Final = 4
"""Names without an offset that must agree on a slide to be believed."""
_ODD: Final = 8
"""One of so many of them may say otherwise: an English word can be a symbol's name."""
_STRAY: Final = 4
"""One of so many addresses may lie where only another boot's kernel can: a number can too."""
_JUDGED: Final = 1 << 12
"""After how many of them that did not agree it is begun anew."""
_SHORTEST: Final = 4
"""Bytes that an annotation has at least, if it tells anything: `` <f>``."""
_ENOUGH: Final = 1 << 17
"""Keys whose evidence is remembered at most, in a text of any length."""
CONFLICT: Final = "the text gives conflicting slides here"
SEVERAL: Final = "nothing tells which of the boots it is of"
FIRMWARE: Final = "it stands before the kernel's first words"


class State(Enum):
    """The beliefs about the boot that a text is of."""

    GIVEN = "somebody said which boot it is"
    ASSUMED = "the symbols' own boot: nothing tells of another"
    TOLD = "names with offsets, or the kernel itself, told the slide"
    AGREED = "names without offsets agree on the slide"
    OTHER = "another boot, and the slide is not told"
    UNKNOWN = "the slide is unknown"
    FOREIGN = "another kernel wrote it"


SURE: Final = (State.GIVEN, State.TOLD, State.AGREED)
"""The states in which it was told which boot it is."""


class BootRange(NamedTuple):
    """Addresses of one boot: the first, the one after the last, and the boot if it is known.

    ``why`` says in words why it is not, ``alien`` whether they are of another kernel's.
    ``begin`` is where in the block the kernel that they are of begins to speak.
    """

    first: int
    end: int
    state: State
    boot: Boot | None
    why: str = ""
    alien: bool = False
    begin: int = 0
    section: int = 0


class Evidence(NamedTuple):
    """The evidence of one frame: the slides that fit it, the moves of modules' sections.

    ``elsewhere`` is whether it lies where only another boot's kernel can be. ``within`` is what
    a name without an offset tells, which one alone is not believed. ``fits`` is whether the
    name is the kernel's at some slide, None where it need not be; ``against`` that it is not.
    """

    slides: frozenset[int] = frozenset()
    moves: Mapping[str, int] = {}
    elsewhere: bool = False
    within: Within | None = None
    fits: bool | None = None
    against: bool = False


class _Sign(NamedTuple):
    """Slides that fit at some frame of a text, the frame's number, and its words.

    ``line`` is where the words are, if they are no frame's.
    """

    frame: int
    slides: frozenset[int]
    words: bytes
    line: int | None = None


class _Run(NamedTuple):
    """Signs that agree: the first and the last frame, and the slides that fit all.

    ``words`` and ``line`` are the first one's.
    """

    first: int
    last: int
    slides: frozenset[int]
    words: bytes = b""
    line: int | None = None


class Change(NamedTuple):
    """A change of what is believed, for who asks why: the line, the event, the new state.

    ``section`` counts the banners before it.
    """

    section: int
    line: int
    event: str
    state: State
    boot: Boot | None
    why: str


class Plan(NamedTuple):
    """The result of a look at the whole text: the first boot of each section between banners.

    ``several`` is whether the text is of more than one boot; ``foreign`` is why the section
    before the first statement is another kernel's, ``firmware`` whether it is none's.
    """

    boots: dict[int, Change]
    several: bool = False
    foreign: str = ""
    firmware: bool = False


IsEvidence = Callable[[Key], bool]
"""Returns True if a frame of a block stands where the kernel prints frames."""
Held = tuple[State, Boot | None, str, bool]
NOTHING: Final = Evidence()
ELSEWHERE: Final = Evidence(elsewhere=True)
_SILENT: Final = Within(None, None)
_NO_PLAN: Final = Plan({})


def contradicts(told: Evidence, boot: Boot) -> bool:
    """Return whether a frame tells of another boot than ``boot``."""
    known = 0 if boot.own else None
    return (bool(told.slides) and boot.slide not in told.slides) or any(
        boot.moves.get(section, known) != move for section, move in told.moves.items()
    )


def _all(_: Key) -> bool:
    return True


class Belief:
    """The belief about the boot, from block to block of one text.

    Args:
        table: the symbols, for the build that they are of.
        address_map: where they are.
        given: the boot, where somebody says it; what the text tells does not count then.
        force: go on where the text is of another build.
        plan: what a look ahead told.
    """

    def __init__(
        self,
        table: SymbolTable,
        address_map: AddressMap,
        given: Boot | None,
        force: bool,
        plan: Plan = _NO_PLAN,
    ) -> None:
        self._map = address_map
        self._given = given
        self._force = force
        self._label = table.label
        self._ours = table.release
        self._ids = table.build_ids
        self._plan = plan
        self._told: dict[Key, Evidence] = {}
        self.several = False
        """True if the text is of more than one boot."""
        self._begun = False
        self._section = 0
        self._release: str | None = None
        self.changes: list[Change] = []
        """Each change of the state, in the text's order."""
        self.votes: Counter[int] = Counter()
        """The number of names beside addresses that fit one slide only, by that slide."""
        self.against = 0
        """The number of such names that fit no slide."""
        self._addresses = 0
        self._only_own = False
        """True if this boot is the only one of several that can be the file's own."""
        self.modules_told = False
        """True if a frame showed a module at the address that it has in the file."""
        self._is_evidence: IsEvidence = _all
        self._counted: set[Key] = set()
        """Names beside addresses that were counted as fitting or not."""
        self._line_of: Callable[[int], int] = lambda _: self.line
        self.line = self._now = 1
        """The line that the block begins with."""
        self.contradicted = False
        """True if addresses were named as of the own boot, and later evidence is of another."""
        self.foreign = ""
        """Why what is before the first statement is another kernel's."""
        self.firmware = False
        """True if the text before the first banner is firmware's."""
        self.names_something = False
        """True if some of the text is of the table's kernel."""
        self.refusal: DecodeError | None = None
        """Why the text is refused if none of it is."""
        self.state = State.ASSUMED
        self.boot: Boot | None = given or Boot()
        """The boot that is believed in; None where none is."""
        self._why = ""
        self._forget()
        self._begin_section()

    def _forget(self) -> None:
        """Forget what was counted: another boot begins."""
        self._fits = self._misfits = 0
        self._misfit = ""
        self._assumed = self._inside = self._elsewhere = 0
        self._within: dict[bytes, Within] = {}
        """The evidence of names without offsets since the last change, each name once."""

    def _enter(
        self, state: State, boot: Boot | None, why: str, event: str, line: int | None = None
    ) -> None:
        """Change what is believed; ``event`` is what does it, in the block or in ``line``."""
        if (self.state, self.boot, self._why) != (state, boot, why):
            line = line or self._now
            self.changes.append(Change(self._section, line, event, state, boot, why))
        self.state, self.boot, self._why = state, boot, why

    def _begin_section(self) -> None:
        """Begin the next boot of the text, or its first."""
        if self._given is not None:
            self._enter(State.GIVEN, self._given, "", "it was given")
            return
        planned = self._plan.boots.get(self._section)
        self._only_own = False
        self.several |= self._plan.several
        if self._section == 0 and self._plan.foreign:
            self._enter(State.FOREIGN, None, self._plan.foreign, "a later line says so")
        elif self._section == 0 and self._plan.firmware:
            self._enter(State.UNKNOWN, None, FIRMWARE, "a banner comes later")
        elif planned is not None:
            self._only_own = planned.boot is not None and planned.boot.own and self.several
            where = f"{planned.event} (line {planned.line})"
            self._enter(planned.state, planned.boot, "", where)
        elif self.several:
            self._enter(State.UNKNOWN, None, SEVERAL, "there are several boots")
        else:
            self._enter(State.ASSUMED, Boot(), "", "nothing was told")

    @property
    def assumed(self) -> bool:
        """True if addresses are taken for the own boot's without evidence."""
        return self._assumed > 0 and self.state is State.ASSUMED

    @property
    def held(self) -> Held:
        """All that names depend on: while it is equal, equal lines get equal names."""
        return self.state, self.boot, self._why, self.is_doubted

    @property
    def is_doubted(self) -> bool:
        """True if more names contradict the file's build than fit it."""
        return self._misfits > self._fits

    @property
    def settled(self) -> bool:
        """True if the boot is given, or there is evidence of it."""
        return self.state in SURE

    def parts(
        self,
        text: bytes,
        said: list[Statement],
        keys: Sequence[Key],
        places: Callable[[], list[int]],
        is_evidence: IsEvidence = _all,
    ) -> list[BootRange]:
        """Divide the addresses ``keys`` of a block by the boots that they are of.

        ``text`` is the block, ``said`` are its statements, and ``places`` gives where in it
        each address is. What is not ``is_evidence`` tells nothing.
        """
        self._is_evidence = is_evidence
        self._now = self.line
        self._line_of = lambda number: self.line + text.count(b"\n", 0, places()[number])
        parts: list[BootRange] = []
        first, begin, offsets = 0, 0, list[_Sign]()
        for statement in said:
            end = bisect_left(places(), statement.place)
            if statement.says is Says.START:
                slides = self._slides(statement)
                if slides is not None:
                    line = self.line + text.count(b"\n", 0, statement.place)
                    offsets.append(_Sign(end, slides, statement.words.encode(), line))
                continue
            stretch = self._stretch(first, keys[first:end], offsets)
            parts += [part._replace(begin=begin, section=self._section) for part in stretch]
            self._now = self.line + text.count(b"\n", 0, statement.place)
            self._on_statement(statement)
            first, begin, offsets = max(first, end), statement.place, []
        stretch = self._stretch(first, keys[first:], offsets)
        return parts + [p._replace(begin=begin, section=self._section) for p in stretch]

    def _slides(self, statement: Statement) -> frozenset[int] | None:
        """Give the slides that a START tells; None if it tells nothing."""
        if self.state is State.FOREIGN:
            return None
        release = self._release
        if statement.start is None:
            return self._map.slides_where_unmoved(release)
        slides = self._map.slides_of_start(statement.start, release)
        return None if statement.vague and not slides else slides

    def _on_statement(self, statement: Statement) -> None:
        """Take in a banner, a header, or a module's build-id."""
        alien = self._alien(statement)
        if alien and not self._force:
            self._on_another_kernel(statement, alien)
        elif statement.says is Says.BOOT or (
            statement.says is Says.KERNEL and self.state is State.FOREIGN
        ):
            self._on_banner(statement)
        if not alien:
            self.names_something |= self._ours is not None or self._force
        self._release = statement.release or self._release

    def _alien(self, statement: Statement) -> str:
        """Say why a statement is not of the file's kernel; "" if it can be."""
        if statement.release not in (None, self._ours) and self._ours is not None:
            return f"it is of {statement.release}, not of {self._ours}"
        ours = self._ids.get(statement.module or "kernel")
        if statement.build_id is None or ours is None or ours.startswith(statement.build_id):
            return ""
        what = f"module {statement.module}" if statement.module else "the kernel"
        return f"there {what} has the build-id {statement.build_id}, and in the file {ours}"

    def _on_another_kernel(self, statement: Statement, why: str) -> None:
        if statement.says is Says.BOOT:
            self._next_section()
        elif self._section == 0 and self._release is None and self.state not in SURE:
            self.foreign = why
        if statement.build_id is None or "build-id" not in why:
            what = f"The text is of {statement.release}, and {self._label} of {self._ours}."
        else:
            name = f"module {statement.module}" if statement.module else "the kernel"
            ours = self._ids[statement.module or "kernel"]
            what = (
                f"In the text {name} has the build-id {statement.build_id}, "
                f"and in {self._label} {ours}."
            )
        self._refuse(what)
        self._enter(State.FOREIGN, None, why, statement.words)

    def _refuse(self, what: str) -> None:
        """Keep why the text is refused, if none of it turns out to be the file's kernel's."""
        remedy = "Name a snapshot of the kernel that wrote the text, or go on with --force."
        self.refusal = self.refusal or DecodeError(what, remedy)

    def _on_banner(self, statement: Statement) -> None:
        self._next_section()
        if statement.says is not Says.BOOT:
            self.several = True  # another kernel ran in between
        self._begin_section()

    def _next_section(self) -> None:
        """Come to another boot: of several one at most is the file's own."""
        self.several |= self._begun
        self.contradicted |= self.assumed
        self.firmware |= self._section == 0 and not self._begun and self._addresses > 0
        self._section += 1
        self._begun = True
        self._forget()

    def part(
        self, first: int, end: int, named: int | None = None, inside: int = 0, agreed: int = 0
    ) -> BootRange:
        """Give addresses of the boot that is believed in.

        ``named`` of them have a symbol (None: perhaps all), ``inside`` lie in the kernel and
        were not counted yet, and ``agreed`` have the name that lies there.
        """
        self._addresses += end - first
        if self.state is State.FOREIGN:
            return BootRange(first, end, self.state, None, self._why, True)
        self._fits += agreed
        if agreed and self.boot is not None:
            self.votes[self.boot.slide] += agreed
        if end > first and (agreed or self._map.telling):
            self._begun = True
        if self._misfits > self._fits and not self._force and self.state is not State.GIVEN:
            why = f"its names fit no slide of {self._label}"
            return BootRange(first, end, State.UNKNOWN, None, why, True)
        if self.boot is None:
            return BootRange(first, end, self.state, None, self._why)
        if agreed and self.state not in (State.GIVEN, State.TOLD):
            self._enter(State.TOLD, self.boot, "", "a name is beside its address")
        if self.state is State.ASSUMED:
            self._assumed += end - first if named is None else named
            self._inside += inside
        self.names_something |= end > first
        return BootRange(first, end, self.state, self.boot)

    def _stretch(
        self, first: int, keys: Sequence[Key], offsets: list[_Sign]
    ) -> list[BootRange]:
        """Divide what no statement divides: ``keys``, of which ``first`` is the first."""
        told = self._heard(keys)
        self._on_misfits()
        signs = [
            _Sign(first + number, evidence.slides, keys[number])
            for number, evidence in enumerate(told)
            if evidence.slides
        ]
        if not signs:
            self._on_bare_names(keys, told)
        # An offset that cannot be added to the file's counts where nothing else does.
        vague = not signs and self.state not in SURE
        offsets = [sign for sign in offsets if sign.slides or vague]
        signs = sorted([*signs, *offsets], key=lambda sign: sign.frame)
        fixed = self.state in (State.GIVEN, State.FOREIGN)
        runs = [] if fixed else self._runs(first, signs)
        end = first + len(keys)
        if not runs:
            self._on_elsewhere(keys, told)
            self._on_modules(told)
            return [self.part(first, end)]
        return self._divided(first, end, told, runs)

    def _heard(self, keys: Sequence[Key]) -> list[Evidence]:
        """Take in what frames tell, of those that stand where the kernel prints frames.

        Where each is costs time. Of frames in a row that tell the same slides only the first
        and the last of these are looked for, and of a module's move one frame.
        """
        told = [self.told(key) for key in keys]
        moved = set[tuple[str, int]]()
        sliding = list[int]()
        for number, (key, one) in enumerate(zip(keys, told)):
            if one is NOTHING:
                continue
            if one.slides:
                sliding.append(number)
            elif not self._is_heard(key, one, moved):
                told[number] = NOTHING
        for _, group in groupby(sliding, key=lambda number: told[number].slides):
            numbers = list(group)
            first, last = self._ends([keys[number] for number in numbers])
            for number in numbers[:first] + numbers[last:]:
                told[number] = NOTHING
        for key, one in zip(keys, told):
            if one is not NOTHING:
                self._count(key, one)
        return told

    def _is_heard(self, key: Key, told: Evidence, moved: set[tuple[str, int]]) -> bool:
        """Return whether a frame that tells no slide counts; ``moved`` are moves that do."""
        if told.moves and moved.issuperset(told.moves.items()):
            return True
        wanted = told.moves or told.against or told.within is not None
        if not wanted and self.state is not State.ASSUMED:
            return False
        if not self._is_evidence(key):
            return False
        moved.update(told.moves.items())
        return True

    def _ends(self, keys: Sequence[Key]) -> tuple[int, int]:
        """Give the number of the first frame that is evidence, and the last one's and 1."""
        is_evidence = self._is_evidence
        first = next((n for n, key in enumerate(keys) if is_evidence(key)), len(keys))
        backwards = range(len(keys) - 1, first, -1)
        return first, next((n + 1 for n in backwards if is_evidence(keys[n])), first + 1)

    def _divided(
        self, first: int, end: int, told: Sequence[Evidence], runs: list[_Run]
    ) -> list[BootRange]:
        """Divide addresses by the runs of signs among them."""
        parts: list[BootRange] = []
        at = first
        self.several |= len(runs) > 1
        for number, run in enumerate(runs):
            if number:
                parts.append(BootRange(at, run.first, State.UNKNOWN, None, CONFLICT))
                at = run.first
            self._on_slides(run)
            stop = end if number == len(runs) - 1 else run.last + 1
            self._on_modules(told[at - first : stop - first])
            parts.append(self.part(at, stop))
            at = stop
        return parts

    def _runs(self, first: int, signs: list[_Sign]) -> list[_Run]:
        """Join signs that follow each other and agree, with what is believed before them."""
        runs: list[_Run] = []
        if self.state is State.TOLD and self.boot is not None:
            runs.append(_Run(first, first - 1, frozenset([self.boot.slide]), line=self._now))
        for sign in signs:
            both = runs[-1].slides & sign.slides if runs else None
            if both:
                runs[-1] = runs[-1]._replace(last=sign.frame, slides=both)
            else:
                runs.append(_Run(sign.frame, sign.frame, *sign[1:]))
        return runs

    def _on_slides(self, run: _Run) -> None:
        """Believe that the kernel is moved by one of a run's slides."""
        slides, words = run.slides, _words(run.words)
        line = run.line or self._line_of(run.first)
        # Where nothing tells them apart, the file's own boot is meant.
        slide = 0 if 0 in slides else min(slides, default=0)
        if not slides:
            self._lose_kernel(f"{words}, which cannot be added to the file's", line)
        elif 0 not in slides and len(slides) != 1:
            self._lose("the text fits more than one slide", words, line)
        else:
            moved = self.boot is None or self.boot.slide != slide
            self.contradicted |= moved and self._assumed > 0
            boot = Boot(slide) if self.boot is None or moved else self.boot
            own = boot.own and slide == 0 and (not self.several or self._only_own)
            self._assumed = 0
            self._enter(State.TOLD, boot._replace(own=own), "", words, line)

    def _lose(self, why: str, event: str, line: int | None = None) -> None:
        """Believe nothing of the boot any more."""
        self.contradicted |= self._assumed > 0
        self._assumed = 0
        self._enter(State.UNKNOWN, None, why, event, line)

    def _lose_kernel(self, event: str, line: int | None = None) -> None:
        """Believe that it is another boot; where its modules are can still be told."""
        self.contradicted |= self._assumed > 0
        self._assumed = 0
        self._enter(State.OTHER, Boot(UNKNOWN, own=False), "", event, line)

    def _on_bare_names(self, keys: Sequence[Key], told: list[Evidence]) -> None:
        """Take in names without an offset, where nothing surer tells of the boot."""
        if self.state in (State.GIVEN, State.FOREIGN, State.TOLD):
            return
        digits = self._map.digits
        found = {key[digits:]: t.within for key, t in zip(keys, told) if t.within is not None}
        if self.state is State.AGREED:
            if not self._contradict(found.values()):
                return
            self._within, self.several = {}, True
            self._lose(CONFLICT, "names without offsets")
        if len(self._within) > _JUDGED:
            self._within = {}
        self._within |= found
        if found:
            self._judge(self._within.values())

    def _judge(self, told: Collection[Within]) -> None:
        """Believe what almost all of some names tell, or nothing if they do not agree."""
        near = [within.near for within in told if within.near is not None]
        missed = sum(within.held is False for within in told)
        held = sum(within.held is True for within in told)
        votes = Counter(slide for slides in near for slide in slides)
        slide, most = max(votes.items(), key=itemgetter(1), default=(0, 0))
        others = max(len(near) - most, 0 if slide else missed)
        if most >= _SOME and others * _ODD <= most:
            words = b"%d names without offsets" % most
            self._on_slides(_Run(0, 0, frozenset([slide]), words, self._now))
            self._enter(State.AGREED, self.boot, self._why, words.decode())
            self._within = {}
        elif len(near) >= 2 * _SOME and not self._force:
            self._lose(f"its names fit no slide of {self._label}", "names without offsets")
        elif missed > max(held, 1):
            self._lose_kernel("names without offsets are not at their addresses")

    def _contradict(self, found: Collection[Within]) -> bool:
        """Return True if most of these names contradict the boot that is believed in."""
        near = [within.near for within in found if within.near is not None]
        against = sum(self.boot is None or self.boot.slide not in slides for slides in near)
        return against >= _SOME and 2 * against > len(near)

    def _on_elsewhere(self, keys: Sequence[Key], told: list[Evidence]) -> None:
        """Do not take for the file's own boot what has its kernel or modules elsewhere.

        One address there is no proof: hashes and other constants look like the kernel's.
        """
        if self.state is not State.ASSUMED:
            return
        digits = self._map.digits
        elsewhere = {key[:digits] for key, t in zip(keys, told) if t.elsewhere}
        others = {key[:digits] for key in keys if self._is_evidence(key)} - elsewhere
        self._elsewhere += len(elsewhere)
        self._inside += sum(self._map.inside(int(address, 16)) for address in others)
        if any(any(t.moves.values()) for t in told) and not self._map.fixed:
            self._lose_kernel("a module lies elsewhere")
        elif _STRAY * self._elsewhere > self._inside:
            self._lose_kernel("addresses lie where only another boot's kernel can")

    def _on_modules(self, told: Iterable[Evidence]) -> None:
        """Take in where modules' sections are."""
        found: dict[str, set[int]] = {}
        for section, move in (item for t in told for item in t.moves.items()):
            found.setdefault(section, set()).add(move)
        if self.boot is None or self.state is State.GIVEN or not found:
            return
        kept = {s: move for s, move in self.boot.moves.items() if s not in found}
        # Unloaded and loaded again: nothing says where it was when.
        moves = kept | {s: next(iter(one)) for s, one in found.items() if len(one) == 1}
        own = self.boot.own and not any(map(any, found.values()))
        self.modules_told |= own
        self.boot = self.boot._replace(own=own, moves={} if own else moves)
        if own and self.state is State.ASSUMED:
            self._enter(State.TOLD, self.boot, "", "a module lies where the file has it")

    def news(self, said: list[Statement]) -> list[Statement]:
        """Leave out statements that change nothing: most traces say again what the last did."""
        self._now = self.line
        release, foreign, kept = self._release, self.state is State.FOREIGN, []
        for statement in said:
            again = (
                statement.says is Says.KERNEL
                and not foreign
                and statement.release == release
                and not self._alien(statement)
            )
            if not again:
                kept.append(statement)
                foreign = bool(self._alien(statement)) and not self._force
                release = statement.release or release
        return kept

    def tells(self, keys: Iterable[Key], certain: bool, is_evidence: IsEvidence) -> bool:
        """Return whether ``keys`` tell what is not known; ``certain`` if others agree."""
        certain |= self.settled
        for key in keys:
            told = self.told(key)
            if told is NOTHING:
                continue
            against = told.fits is False and key not in self._counted
            if against or self._is_news(told, certain):
                if is_evidence(key):
                    return True
            elif told.fits:
                self._count(key, told)
        return self._misfits >= _FEW

    def _is_news(self, told: Evidence, certain: bool) -> bool:
        """Return whether a frame tells of another boot than the one that is believed in."""
        boot, within = self.boot, told.within
        if boot is None or not certain:
            return bool(told.slides or told.moves or told.elsewhere or within)
        agreed = self.state is State.AGREED
        if within is not None and agreed and boot.slide not in (within.near or ()):
            return True
        return contradicts(told, boot)

    def told(self, key: Key) -> Evidence:
        """Return what an address and its name tell of the boot; of a foreign one nothing."""
        if self.state is State.FOREIGN:
            return NOTHING
        if len(key) < self._map.digits + _SHORTEST:
            address = int(key[: self._map.digits], 16)
            return ELSEWHERE if self._map.elsewhere(address) else NOTHING
        found = self._told.get(key)
        if found is None:
            if len(self._told) > _ENOUGH:
                self._told.clear()
            found = self._told[key] = self._ask(key)
        return found

    def _ask(self, key: Key) -> Evidence:
        digits, rest = key[: self._map.digits], key[self._map.digits :]
        address, said = int(digits, 16), forms.parse_annotation(rest)
        if said.form.style is forms.Style.NO_ADDRESS or self._map.areas.is_hypervisor(address):
            return NOTHING
        nothing = ELSEWHERE if self._map.elsewhere(address) else NOTHING
        tells = said.form.tells
        if tells is Tells.ANCHOR and said.name in _ANCHORS and said.module is None:
            return Evidence(self._map.slides(address, said.name, 0))
        if tells is Tells.EXTENT and said.module is None:
            within = self._map.within(address, said.name)
            return nothing if within == _SILENT else nothing._replace(within=within)
        if tells is not Tells.SLIDE or said.offset is None:
            return nothing
        return self._ask_frame(address, said) or nothing

    def _ask_frame(self, address: int, said: Annotation) -> Evidence | None:
        """Return what a name with an offset tells; None where it tells nothing.

        perf prints no size, and no module beside what may be a module's; BPF programs are each
        boot's own.
        """
        offset = said.offset or 0
        slides = frozenset[int]()
        if said.module is None:
            slides = self._map.slides(address, said.name, offset)
        moves: Mapping[str, int] = {}
        if not slides:
            moves = self._map.moves(address, said.name, offset, said.module)
        if said.base is not None and said.module is not None:
            moves = moves or self._map.moves_of_base(said.module, said.base)
        fits: bool | None = True if slides else None
        against = False
        if said.module is None and not moves and not slides:
            against = self._map.can_be_code(address)
            kernels = said.size is not None or self._map.of_kernel(said.name)
            if against and kernels and not said.name.startswith("bpf_"):
                fits = False
        if slides or moves or against:
            return Evidence(slides, moves, fits=fits, against=against)
        return None

    def _count(self, key: Key, told: Evidence) -> None:
        """Count a name as one that fits, or not, once."""
        if key in self._counted:
            return
        if len(self._counted) > _ENOUGH:
            self._counted.clear()
        self._counted.add(key)
        self.votes.update(told.slides if len(told.slides) == 1 else ())
        self._fits += told.fits is True
        self.against += told.against
        if told.fits is False:
            self._misfits += 1
            said = forms.parse_annotation(key[self._map.digits :])
            self._misfit = self._misfit or said.name

    def _on_misfits(self) -> None:
        """Doubt a text whose names lie nowhere at the distances that they have in the file."""
        if self._misfits < max(_FEW, self._fits) or self._force:
            return
        if self.state in (State.GIVEN, State.FOREIGN):
            return
        self._refuse(
            f"The text is of another build than {self._label}: {self._misfits} of its "
            f"names, {self._misfit} the first, fit no slide of the file."
        )


def _words(said: bytes) -> str:
    return said.replace(forms.BEFORE, b"").decode("utf-8", "replace")


def places_of(pieces: Sequence[bytes]) -> list[int]:
    """Give where each address is in a block that was split at them."""
    return list(accumulate(map(len, pieces)))[:-1:2]
