"""The boot that a text is assumed to be from, and the events that change this assumption.

A log can have several boots; each starts with a banner. Three things show the slide of a boot:
a name beside an address, the line ``Kernel Offset``, and names without offsets if many agree.
The assumption is one :class:`State`. Each method ``_on_...`` is an event that can change it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._log import decided
from .._symbols import SymbolTable
from . import forms
from .address_map import AddressMap, Within
from .boot import UNKNOWN, Boot
from .forms import Annotation, Tells
from .statements import Says, Statement

Key = bytes
"""An address as a text has it, with :attr:`~.AddressMap.digits` digits, and its annotation."""

_ANCHORS: Final = ("_stext", "_text")
"""The symbols whose lines in a saved kallsyms show the slide; other lines are not frames."""
_MISFITS: Final = 8
"""Number of names that fit no slide at which the text is refused as another build's."""
_AGREEING: Final = 4
"""Least number of names without an offset that must agree on a slide before it is assumed."""
_DISSENT: Final = 8
"""One disagreeing name for 8 that agree is ignored: an English word can be a symbol's name."""
_STRAYS: Final = 4
"""Another boot is assumed if more than one address shows it for 4 in the file's own kernel.
Fewer can be other numbers that look like addresses.
"""
_FORGET_AFTER: Final = 1 << 12
"""Number of kept names without an offset after which counting starts again."""
_SHORTEST: Final = 4
"""Least length in bytes of an annotation that can be evidence: `` <f>``."""
_KEPT: Final = 1 << 17
"""Limit on the keys whose evidence is cached."""
CONFLICT: Final = "the text gives conflicting slides here"
SEVERAL: Final = "the text has several boots, and no evidence which one this is"
FIRMWARE: Final = "it comes before the kernel's first message"


class State(Enum):
    """What is known about the boot that a text is from."""

    GIVEN = "the user gave the boot"
    ASSUMED = "assumed to be the symbols' own boot"
    TOLD = "names with offsets, or a line on the kernel's start, show the slide"
    AGREED = "names without offsets agree on the slide"
    OTHER = "another boot with an unknown slide"
    UNKNOWN = "the slide is unknown"
    FOREIGN = "another kernel printed it"


SURE: Final = (State.GIVEN, State.TOLD, State.AGREED)
"""The states with evidence of the boot."""


class BootRange(NamedTuple):
    """The addresses of a block with the numbers from ``first`` up to ``end``, all of one boot.

    - ``state``: what was known about the boot
    - ``boot``: the boot; None if it is unknown, and ``why`` is the reason
    - ``alien``: True if another kernel printed them
    - ``begin``: the offset in the block at which that boot's text starts
    - ``section``: the number of banners before them
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
    """The evidence of one frame.

    - ``slides``: the slides of the kernel that fit the frame
    - ``moves``: the moves of modules' sections that fit it
    - ``elsewhere``: True if only another boot's kernel can have the address
    - ``within``: for a name without an offset, which is weak evidence: many must agree
    - ``fits``: True if the name fits at some slide; False if it is the kernel's and fits at
      none; None if it need not be the kernel's
    - ``against``: True if the name fits at no slide, whether it is the kernel's or not
    """

    slides: frozenset[int] = frozenset()
    moves: Mapping[str, int] = {}
    elsewhere: bool = False
    within: Within | None = None
    fits: bool | None = None
    against: bool = False


class _SlideSign(NamedTuple):
    """A frame or a statement that shows the slide: ``slides`` are those that fit it.

    ``frame`` is the number of the frame, or of the first frame after the statement. ``words``
    are its words. ``line`` is the line of a statement, None for a frame.
    """

    frame: int
    slides: frozenset[int]
    words: bytes
    line: int | None = None


class _Run(NamedTuple):
    """Successive signs that agree.

    ``first`` and ``last`` are the numbers of the first and last frame, ``slides`` those that
    fit all signs. ``words`` and ``line`` are those of the first sign.
    """

    first: int
    last: int
    slides: frozenset[int]
    words: bytes = b""
    line: int | None = None


class Change(NamedTuple):
    """A change of the state, for ``--explain``: the line, the event, and the new state.

    ``section`` is the number of banners before it.
    """

    section: int
    line: int
    event: str
    state: State
    boot: Boot | None
    why: str


class Plan(NamedTuple):
    """The result of a first pass over the whole text.

    - ``boots``: the first known boot of each section between banners, by the section's number
    - ``several``: True if the text has more than one boot
    - ``foreign``: the reason if another kernel printed the text before the first statement
    - ``firmware``: True if firmware printed it
    """

    boots: dict[int, Change]
    several: bool = False
    foreign: str = ""
    firmware: bool = False


_FEED: Final = re.compile(rb"\n")
IsEvidence = Callable[[Key], bool]
"""A function that returns True if the kernel or a tool prints the words before a frame."""
Held = tuple[State, Boot | None, str, bool]
"""The parts of a belief on which names depend (:attr:`Belief.held`)."""
NOTHING: Final = Evidence()
ELSEWHERE: Final = Evidence(elsewhere=True)
_SILENT: Final = Within(None, None)
_NO_PLAN: Final = Plan({})


def contradicts(evidence: Evidence, boot: Boot) -> bool:
    """Return True if the evidence of a frame contradicts ``boot``."""
    known = 0 if boot.own else None
    return (bool(evidence.slides) and boot.slide not in evidence.slides) or any(
        boot.moves.get(section, known) != move for section, move in evidence.moves.items()
    )


def _all(_: Key) -> bool:
    """Return True: every frame is evidence."""
    return True


class Belief:
    """The assumption about the boot of one text, from block to block.

    Args:
        table: the symbols; their release and build-ids are compared with the text's.
        address_map: the symbols' addresses in any boot.
        given: the boot, if the user gave it; the text's evidence is then ignored.
        force: continue if the text is from another build.
        plan: the result of a first pass over the text, if there was one.
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

        self._evidence: dict[Key, Evidence] = {}
        self.several = False
        """True if the text has more than one boot."""
        self._begun = False  # True if there was a banner or a certain address of a kernel
        self._section = 0  # the number of banners so far
        self._release: str | None = None  # of the last statement that has one
        self.changes: list[Change] = []
        """Each change of the state, in the text's order."""
        self.votes: Counter[int] = Counter()
        """The number of names that fit exactly one slide, by that slide."""
        self.against = 0
        """The number of such names that fit no slide."""
        self._addresses = 0  # the number of addresses so far
        self._only_own = False
        """True if this is the only one of several boots that can be the file's own."""
        self.modules_told = False
        """True if a frame showed a module at its address in the file."""
        self._is_evidence: IsEvidence = _all
        self._counted: set[Key] = set()
        """The keys that were counted as fitting or not."""

        # Returns the line of an address of the block, by the address's number.
        self._line_of: Callable[[int], int] = lambda _: self.line
        self.line = self._now = 1
        """The number of the block's first line; ``_now`` is that of the last statement."""

        self.contradicted = False
        """True if addresses were named as in the own boot, and later evidence denied that."""
        self.foreign = ""
        """The reason if another kernel printed the text before the first statement."""
        self.firmware = False
        """True if firmware printed the text before the first banner."""
        self.names_something = False
        """True if the table's kernel printed some of the text."""
        self.refusal: DecodeError | None = None
        """The error to raise if it printed none."""

        self.state = State.ASSUMED
        self.boot: Boot | None = given or Boot()
        """The boot in which addresses are looked up; None if it is unknown."""
        self._why = ""

        self._forget()
        self._begin_section()

    def _forget(self) -> None:
        """Reset the counts, at the start of another boot."""
        self._fits = self._misfits = 0
        self._misfit = ""
        self._assumed = self._inside = self._elsewhere = 0
        self._within: dict[bytes, Within] = {}
        """The evidence of names without offsets since the last change, by annotation."""

    def _enter(
        self, state: State, boot: Boot | None, why: str, event: str, line: int | None = None
    ) -> None:
        """Change the state because of ``event`` in ``line`` (default: the current line)."""
        if (self.state, self.boot, self._why) != (state, boot, why):
            line = line or self._now
            self.changes.append(Change(self._section, line, event, state, boot, why))
            decided("line %d: %s", line, state.value)  # the event can quote an address
        self.state, self.boot, self._why = state, boot, why

    def _begin_section(self) -> None:
        """Start with the first or next boot of the text."""
        if self._given is not None:
            self._enter(State.GIVEN, self._given, "", "the user gave it")
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
            self._enter(State.ASSUMED, Boot(), "", "no evidence")

    @property
    def assumed(self) -> bool:
        """True if addresses were named as in the file's own boot, without evidence."""
        return self._assumed > 0 and self.state is State.ASSUMED

    @property
    def held(self) -> Held:
        """All that names depend on. While it stays the same, equal lines get equal names."""
        return self.state, self.boot, self._why, self.is_doubted

    @property
    def is_doubted(self) -> bool:
        """True if more names contradict the file's build than fit it."""
        return self._misfits > self._fits

    @property
    def settled(self) -> bool:
        """True if the boot was given, or there is evidence of it."""
        return self.state in SURE

    def parts(
        self,
        text: bytes,
        said: list[Statement],
        keys: Sequence[Key],
        places: Callable[[], list[int]],
        is_evidence: IsEvidence = _all,
    ) -> list[BootRange]:
        """Divide the addresses of a block by boot, and return the parts in order.

        Statements divide the block first. The frames between two of them are divided again if
        their evidence shows different slides.

        Args:
            text: the block.
            said: its statements, in order.
            keys: its addresses with their annotations.
            places: returns the offset of each address in the block.
            is_evidence: returns True for the keys that may be evidence.
        """
        self._is_evidence = is_evidence
        self._now = self.line
        places = cache(places)
        feeds = cache(lambda: [match.start() for match in _FEED.finditer(text)])

        def line_at(place: int) -> int:
            return self.line + bisect_left(feeds(), place)

        self._line_of = lambda number: line_at(places()[number])

        parts: list[BootRange] = []
        first, begin, offsets = 0, 0, list[_SlideSign]()
        for statement in said:
            end = bisect_left(places(), statement.place)
            if statement.says is Says.START:
                slides = self._slides(statement)
                if slides is not None:
                    line = line_at(statement.place)
                    offsets.append(_SlideSign(end, slides, statement.words.encode(), line))
                continue

            stretch = self._divide_frames(first, keys[first:end], offsets)
            parts += [part._replace(begin=begin, section=self._section) for part in stretch]
            self._now = line_at(statement.place)
            self._on_statement(statement)
            first, begin, offsets = max(first, end), statement.place, []

        stretch = self._divide_frames(first, keys[first:], offsets)
        return parts + [p._replace(begin=begin, section=self._section) for p in stretch]

    def _slides(self, statement: Statement) -> frozenset[int] | None:
        """Return the slides that fit a statement START; None if it is not evidence."""
        if self.state is State.FOREIGN:
            return None
        release = self._release
        if statement.start is None:
            return self._map.slides_where_unmoved(release)
        slides = self._map.slides_of_start(statement.start, release)
        return None if statement.vague and not slides else slides

    def _on_statement(self, statement: Statement) -> None:
        """Process a banner, a header, or a module's build-id."""
        alien = self._why_another_kernel(statement)
        if alien and not self._force:
            self._on_another_kernel(statement, alien)
        elif statement.says is Says.BOOT or (
            statement.says is Says.KERNEL and self.state is State.FOREIGN
        ):
            self._on_banner(statement)
        if not alien:
            self.names_something |= self._ours is not None or self._force
        self._release = statement.release or self._release

    def _why_another_kernel(self, statement: Statement) -> str:
        """Return why a statement is another kernel's than the file's; "" if it need not be."""
        if statement.release not in (None, self._ours) and self._ours is not None:
            return f"the text is of {statement.release}, and the symbols of {self._ours}"
        ours = self._ids.get(statement.module or "kernel")
        if statement.build_id is None or ours is None or ours.startswith(statement.build_id):
            return ""
        what = f"module {statement.module}" if statement.module else "the kernel"
        return (
            f"{what} has the build-id {statement.build_id} in the text, and {ours} in the file"
        )

    def _on_another_kernel(self, statement: Statement, why: str) -> None:
        """Process a statement of another kernel: ignore all until the file's kernel follows."""
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
        """Keep the error to raise if the file's kernel printed none of the text."""
        remedy = "Name a snapshot of the kernel that wrote the text, or go on with --force."
        self.refusal = self.refusal or DecodeError(what, remedy)

    def _on_banner(self, statement: Statement) -> None:
        """Process the start of another boot of the file's kernel."""
        self._next_section()
        if statement.says is not Says.BOOT:
            self.several = True  # another kernel ran before
        self._begin_section()

    def _next_section(self) -> None:
        """Start the next section, which is from another boot."""
        self.several |= self._begun
        self.contradicted |= self.assumed
        self.firmware |= self._section == 0 and not self._begun and self._addresses > 0
        self._section += 1
        self._begun = True
        self._forget()

    def part(
        self, first: int, end: int, named: int | None = None, inside: int = 0, agreed: int = 0
    ) -> BootRange:
        """Return the range of addresses from ``first`` to ``end``, in the current boot.

        Of these addresses ``named`` have a symbol (None: unknown), ``inside`` lie in the kernel
        and were not counted before, and ``agreed`` have the right name beside them.
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

    def _divide_frames(
        self, first: int, keys: Sequence[Key], offsets: list[_SlideSign]
    ) -> list[BootRange]:
        """Divide the frames between two statements by boot; ``first`` is the first's number."""
        evidence = self._take_evidence(keys)
        self._on_misfits()

        signs = [
            _SlideSign(first + number, one.slides, keys[number])
            for number, one in enumerate(evidence)
            if one.slides
        ]
        if not signs:
            self._on_bare_names(keys, evidence)

        # A Kernel Offset that does not fit the file counts only if there is no other evidence.
        vague = not signs and self.state not in SURE
        offsets = [sign for sign in offsets if sign.slides or vague]
        signs = sorted([*signs, *offsets], key=lambda sign: sign.frame)

        fixed = self.state in (State.GIVEN, State.FOREIGN)
        runs = [] if fixed else self._runs(first, signs)
        end = first + len(keys)
        if not runs:
            self._on_impossible_addresses(keys, evidence)
            self._on_modules(evidence)
            return [self.part(first, end)]
        return self._divide_by_runs(first, end, evidence, runs)

    def _take_evidence(self, keys: Sequence[Key]) -> list[Evidence]:
        """Return the evidence of each frame: NOTHING if a user can have written it.

        It takes time to find the words before a frame, which show that. Of successive frames
        that show the same slides only those at both ends are checked, and of frames that show
        the same move of a module only one.
        """
        evidence = [self.evidence(key) for key in keys]
        moved = set[tuple[str, int]]()
        sliding = list[int]()
        for number, (key, one) in enumerate(zip(keys, evidence)):
            if one is NOTHING:
                continue
            if one.slides:
                sliding.append(number)
            elif not self._counts(key, one, moved):
                evidence[number] = NOTHING

        for _, group in groupby(sliding, key=lambda number: evidence[number].slides):
            numbers = list(group)
            first, last = self._first_and_last([keys[number] for number in numbers])
            for number in numbers[:first] + numbers[last:]:
                evidence[number] = NOTHING

        for key, one in zip(keys, evidence):
            if one is not NOTHING:
                self._count(key, one)
        return evidence

    def _counts(self, key: Key, evidence: Evidence, moved: set[tuple[str, int]]) -> bool:
        """Return True if a frame that shows no slide is evidence.

        ``moved`` are the moves of modules' sections that frames before it showed.
        """
        if evidence.moves and moved.issuperset(evidence.moves.items()):
            return True
        wanted = evidence.moves or evidence.against or evidence.within is not None
        if not wanted and self.state is not State.ASSUMED:
            return False
        if not self._is_evidence(key):
            return False
        moved.update(evidence.moves.items())
        return True

    def _first_and_last(self, keys: Sequence[Key]) -> tuple[int, int]:
        """Return the number of the first frame that is evidence, and that after the last."""
        is_evidence = self._is_evidence
        first = next((n for n, key in enumerate(keys) if is_evidence(key)), len(keys))
        backwards = range(len(keys) - 1, first, -1)
        return first, next((n + 1 for n in backwards if is_evidence(keys[n])), first + 1)

    def _divide_by_runs(
        self, first: int, end: int, evidence: Sequence[Evidence], runs: list[_Run]
    ) -> list[BootRange]:
        """Divide addresses by the runs of agreeing signs among them.

        The boot of the addresses between two runs is unknown, since either can be right:

            frames      1  2  3    4  5    6  7
            slides      A     A            B  B
            boots       A  A  A    unknown B  B
        """
        parts: list[BootRange] = []
        at = first
        self.several |= len(runs) > 1
        for number, run in enumerate(runs):
            if number:
                parts.append(BootRange(at, run.first, State.UNKNOWN, None, CONFLICT))
                at = run.first
            self._on_slides(run)
            stop = end if number == len(runs) - 1 else run.last + 1
            self._on_modules(evidence[at - first : stop - first])
            parts.append(self.part(at, stop))
            at = stop
        return parts

    def _runs(self, first: int, signs: list[_SlideSign]) -> list[_Run]:
        """Join successive signs that agree, and the first ones to the boot before them.

        Return the runs; the one of the boot before has no frames of its own.
        """
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
        """Assume one of a run's slides."""
        slides, words = run.slides, _words(run.words)
        line = run.line or self._line_of(run.first)
        # If several fit, the file's own boot is the likeliest.
        slide = 0 if 0 in slides else min(slides, default=0)
        if not slides:
            self._on_another_boot(f"{words}, which does not fit the file's start", line)
        elif 0 not in slides and len(slides) != 1:
            self._on_conflict("the text fits more than one slide", words, line)
        else:
            moved = self.boot is None or self.boot.slide != slide
            self.contradicted |= moved and self._assumed > 0
            boot = Boot(slide) if self.boot is None or moved else self.boot
            own = boot.own and slide == 0 and (not self.several or self._only_own)
            self._assumed = 0
            self._enter(State.TOLD, boot._replace(own=own), "", words, line)

    def _on_conflict(self, why: str, event: str, line: int | None = None) -> None:
        """Make the boot unknown, for the reason ``why``."""
        self.contradicted |= self._assumed > 0
        self._assumed = 0
        self._enter(State.UNKNOWN, None, why, event, line)

    def _on_another_boot(self, event: str, line: int | None = None) -> None:
        """Assume another boot with an unknown slide; modules can still be located."""
        self.contradicted |= self._assumed > 0
        self._assumed = 0
        self._enter(State.OTHER, Boot(UNKNOWN, own=False), "", event, line)

    def _on_bare_names(self, keys: Sequence[Key], evidence: list[Evidence]) -> None:
        """Process names without an offset, if there is no better evidence."""
        if self.state in (State.GIVEN, State.FOREIGN, State.TOLD):
            return

        digits = self._map.digits
        found = {
            key[digits:]: t.within for key, t in zip(keys, evidence) if t.within is not None
        }
        if self.state is State.AGREED:
            if not self._most_contradict(found.values()):
                return
            self._within, self.several = {}, True
            self._on_conflict(CONFLICT, "names without offsets")

        if len(self._within) > _FORGET_AFTER:
            self._within = {}
        self._within |= found
        if found:
            self._weigh_names(self._within.values())

    def _weigh_names(self, evidence: Collection[Within]) -> None:
        """Assume the slide that almost all of these names show; if they disagree, none."""
        near = [within.near for within in evidence if within.near is not None]
        missed = sum(within.held is False for within in evidence)
        held = sum(within.held is True for within in evidence)
        votes = Counter(slide for slides in near for slide in slides)
        slide, most = max(votes.items(), key=itemgetter(1), default=(0, 0))
        others = max(len(near) - most, 0 if slide else missed)

        if most >= _AGREEING and others * _DISSENT <= most:
            words = b"%d names without offsets" % most
            self._on_slides(_Run(0, 0, frozenset([slide]), words, self._now))
            self._enter(State.AGREED, self.boot, self._why, words.decode())
            self._within = {}
        elif len(near) >= 2 * _AGREEING and not self._force:
            self._on_conflict(
                f"its names fit no slide of {self._label}", "names without offsets"
            )
        elif missed > max(held, 1):
            self._on_another_boot("names without offsets are not at their addresses")

    def _most_contradict(self, found: Collection[Within]) -> bool:
        """Return True if most of these names contradict the assumed boot."""
        near = [within.near for within in found if within.near is not None]
        against = sum(self.boot is None or self.boot.slide not in slides for slides in near)
        return against >= _AGREEING and 2 * against > len(near)

    def _on_impossible_addresses(self, keys: Sequence[Key], evidence: list[Evidence]) -> None:
        """Assume another boot if addresses lie where the file's own has no kernel or module.

        One such address proves nothing: hashes and other constants look like addresses.
        """
        if self.state is not State.ASSUMED:
            return
        digits = self._map.digits
        elsewhere = {key[:digits] for key, t in zip(keys, evidence) if t.elsewhere}
        others = {key[:digits] for key in keys if self._is_evidence(key)} - elsewhere
        self._elsewhere += len(elsewhere)
        self._inside += sum(self._map.inside(int(address, 16)) for address in others)
        if any(any(t.moves.values()) for t in evidence) and not self._map.fixed:
            self._on_another_boot("a module lies elsewhere")
        elif _STRAYS * self._elsewhere > self._inside:
            self._on_another_boot("addresses lie where only another boot's kernel can")

    def _on_modules(self, evidence: Iterable[Evidence]) -> None:
        """Process evidence of the moves of modules' sections."""
        found: dict[str, set[int]] = {}
        for section, move in (item for t in evidence for item in t.moves.items()):
            found.setdefault(section, set()).add(move)
        if self.boot is None or self.state is State.GIVEN or not found:
            return
        kept = {s: move for s, move in self.boot.moves.items() if s not in found}
        # A section with several moves was unloaded and loaded again in between: which frame has
        # which move is unknown, so it has none.
        moves = kept | {s: next(iter(one)) for s, one in found.items() if len(one) == 1}
        own = self.boot.own and not any(map(any, found.values()))
        self.modules_told |= own
        self.boot = self.boot._replace(own=own, moves={} if own else moves)
        if own and self.state is State.ASSUMED:
            self._enter(State.TOLD, self.boot, "", "a module lies where the file has it")

    def news(self, said: list[Statement]) -> list[Statement]:
        """Return the statements that can change the state: most only repeat the release."""
        self._now = self.line
        release, foreign, kept = self._release, self.state is State.FOREIGN, []
        for statement in said:
            again = (
                statement.says is Says.KERNEL
                and not foreign
                and statement.release == release
                and not self._why_another_kernel(statement)
            )
            if not again:
                kept.append(statement)
                foreign = bool(self._why_another_kernel(statement)) and not self._force
                release = statement.release or release
        return kept

    def tells(self, keys: Iterable[Key], certain: bool, is_evidence: IsEvidence) -> bool:
        """Return True if ``keys`` have evidence that can change the state.

        ``certain`` is True if other frames of the block have the right name in this boot.
        """
        certain |= self.settled
        for key in keys:
            evidence = self.evidence(key)
            if evidence is NOTHING:
                continue
            against = evidence.fits is False and key not in self._counted
            if against or self._is_news(evidence, certain):
                if is_evidence(key):
                    return True
            elif evidence.fits:
                self._count(key, evidence)
        return self._misfits >= _MISFITS

    def _is_news(self, evidence: Evidence, certain: bool) -> bool:
        """Return True if evidence contradicts the boot, or is the first for any boot."""
        boot, within = self.boot, evidence.within
        if boot is None or not certain:
            return bool(evidence.slides or evidence.moves or evidence.elsewhere or within)
        agreed = self.state is State.AGREED
        if within is not None and agreed and boot.slide not in (within.near or ()):
            return True
        return contradicts(evidence, boot)

    def evidence(self, key: Key) -> Evidence:
        """Return the evidence of an address and its name; none in another kernel's text."""
        if self.state is State.FOREIGN:
            return NOTHING
        if len(key) < self._map.digits + _SHORTEST:
            address = int(key[: self._map.digits], 16)
            return ELSEWHERE if self._map.elsewhere(address) else NOTHING
        found = self._evidence.get(key)
        if found is None:
            if len(self._evidence) > _KEPT:
                self._evidence.clear()
            found = self._evidence[key] = self._read_evidence(key)
        return found

    def _read_evidence(self, key: Key) -> Evidence:
        """Find the evidence of an address and its name, which :meth:`evidence` caches."""
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
        return self._evidence_of_frame(address, said) or nothing

    def _evidence_of_frame(self, address: int, annotation: Annotation) -> Evidence | None:
        """Return the evidence of a name with an offset; None if there is none.

        perf prints no size, and can print a module's symbol without the module: such a name is
        no misfit if a module has it. Nor is the name of a BPF program: each boot has its own.
        """
        offset = annotation.offset or 0
        if annotation.size is not None and offset > annotation.size:
            return None

        slides = frozenset[int]()
        if annotation.module is None:
            slides = self._map.slides(address, annotation.name, offset)
        moves: Mapping[str, int] = {}
        if not slides:
            moves = self._map.moves(address, annotation.name, offset, annotation.module)
        if annotation.base is not None and annotation.module is not None:
            moves = moves or self._map.moves_of_base(annotation.module, annotation.base)

        fits: bool | None = True if slides else None
        against = False
        if annotation.module is None and not moves and not slides:
            against = self._map.can_be_code(address)
            kernels = annotation.size is not None or self._map.of_kernel(annotation.name)
            if against and kernels and not annotation.name.startswith("bpf_"):
                fits = False

        if slides or moves or against:
            return Evidence(slides, moves, fits=fits, against=against)
        return None

    def _count(self, key: Key, evidence: Evidence) -> None:
        """Count a name once, as one that fits or not."""
        if key in self._counted:
            return
        if len(self._counted) > _KEPT:
            self._counted.clear()
        self._counted.add(key)
        self.votes.update(evidence.slides if len(evidence.slides) == 1 else ())
        self._fits += evidence.fits is True
        self.against += evidence.against
        if evidence.fits is False:
            self._misfits += 1
            said = forms.parse_annotation(key[self._map.digits :])
            self._misfit = self._misfit or said.name

    def _on_misfits(self) -> None:
        """Refuse a text if its names fit no slide: their distances differ from the file's."""
        if self._misfits < max(_MISFITS, self._fits) or self._force:
            return
        if self.state in (State.GIVEN, State.FOREIGN):
            return
        self._refuse(
            f"The text is of another build than {self._label}: {self._misfits} of its "
            f"names, {self._misfit} the first, fit no slide of the file."
        )


def _words(said: bytes) -> str:
    """Return the words of a sign as a string for ``--explain``."""
    return said.replace(forms.BEFORE, b"").decode("utf-8", "replace")


def places_of(pieces: Sequence[bytes]) -> list[int]:
    """Return the offset of each address in a block that was split at its addresses."""
    return list(accumulate(map(len, pieces)))[:-1:2]
