"""What a text says of the boot that it is of, and which of its parts are of which boot.

A name beside an address tells a slide; ``Kernel Offset`` in a panic does; the banner of a boot
ends all that was told before. A log has the boots one after the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._symbols import SymbolTable, link_slide
from . import forms
from .boot import UNKNOWN, UNTOLD, Boot, Layout, Within

Key = bytes
"""An address as it is in a text, :attr:`~.boot.Layout.digits` long, and what follows it."""

_ANCHORS: Final = ("_stext", "_text")
"""The lines of a saved kallsyms that are believed; the others are no frames."""
_FEW: Final = 8
"""How many names must fit no slide before the text is taken for another build's."""
_SOME: Final = 4
"""How many names without an offset must agree on a slide to be believed."""
_ODD: Final = 8
"""One of so many of them may say otherwise: an English word can be a symbol's name."""
_JUDGED: Final = 1 << 12
"""After how many of them that did not agree it is begun anew."""
_SHORTEST: Final = 5
"""Bytes that what follows an address has at least, if it tells anything."""
_ENOUGH: Final = 1 << 17
"""How much is remembered of a text of any length."""


class Part(NamedTuple):
    """Addresses of one boot: the first, the one after the last, and the boot if it is known.

    ``why`` says in words why it is not, ``alien`` whether they are of another build's.
    ``begin`` is where in the block the kernel that they are of begins to speak.
    """

    first: int
    end: int
    boot: Boot | None
    why: str = ""
    alien: bool = False
    begin: int = 0


class Told(NamedTuple):
    """What one frame tells: the slides that fit it, the moves of modules' sections.

    ``elsewhere`` is whether it lies where only another boot's kernel can be. ``within`` is what
    a name without an offset tells, which one alone is not believed.
    """

    slides: frozenset[int] = frozenset()
    moves: Mapping[str, int] = {}
    elsewhere: bool = False
    within: Within | None = None


class _Sign(NamedTuple):
    """Slides that fit at some frame of a text, and the frame's number."""

    frame: int
    slides: frozenset[int]


class _Run(NamedTuple):
    """Signs that agree: the first and the last frame, and the slides that fit all."""

    first: int
    last: int
    slides: frozenset[int]


class Mark(NamedTuple):
    """Words in a text that say which kernel runs: its release, or the slides that fit.

    With ``begins`` they are the first of a boot.
    """

    place: int
    release: str | None = None
    slides: frozenset[int] | None = None
    begins: bool = False


NOTHING: Final = Told()
ELSEWHERE: Final = Told(elsewhere=True)
_SILENT: Final = Within(None, None)


class Evidence:
    """What was told so far.

    Args:
        table: the symbols, for the build that they are of.
        layout: where they are.
        given: the boot, where somebody says it; what the text tells does not count then.
        force: go on where the text is of another build.
    """

    def __init__(
        self, table: SymbolTable, layout: Layout, given: Boot | None, force: bool
    ) -> None:
        self._layout = layout
        self._given = given
        self._force = force
        self._label = table.label
        facts = table.facts
        self._release: str | None = facts.get("release")
        self._ids = {file["name"]: file["build_id"] for file in facts.get("files", ())}
        self._expected: Boot | None = None
        self.boot: Boot | None = given or Boot()
        """The boot that is believed in now; None where none is known."""
        self._certain = given is not None
        self._by_names = False
        """Whether it is believed in because of names without an offset, and nothing else."""
        self._within: dict[bytes, Within] = {}
        """What such names told since the last belief, each once."""
        self._why = ""
        self._foreign = ""
        self._begun = self._several = False
        self._disabled = frozenset(() if (linked := link_slide(table)) is None else (-linked,))
        self._told: dict[Key, Told] = {}
        self._fits = self._misfits = 0
        self._misfit = ""
        self._assumed = 0
        self.contradicted = False
        """Whether addresses were taken for the file's own boot's, and the text told later
        that they were not.
        """

    def parts(
        self, marks: list[Mark], keys: Sequence[Key], places: Callable[[], list[int]]
    ) -> list[Part]:
        """Which boot the addresses ``keys`` of a block are of; the parts cover all of them.

        ``marks`` are the block's, ``places`` gives where in it each address is.

        Raises:
            DecodeError: the text is of another build than the file.
        """
        parts: list[Part] = []
        first, begin, offsets = 0, 0, list[_Sign]()
        ends = [bisect_left(places(), mark.place) for mark in marks]
        banners = [end for mark, end in zip(marks, ends) if mark.begins]
        if len(banners) + (self._begun or any(banners[:1])) > 1:
            self._more()
        for mark, end in zip(marks, ends):
            if mark.slides is not None:
                offsets.append(_Sign(end, mark.slides))
                continue
            stretch = self._stretch(first, keys[first:end], offsets)
            parts += [part._replace(begin=begin) for part in stretch]
            self._pass(mark)
            first, begin, offsets = end, mark.place, []
        stretch = self._stretch(first, keys[first:], offsets)
        return parts + [part._replace(begin=begin) for part in stretch]

    @property
    def settled(self) -> bool:
        """Whether it is told which boot the text begins in, or that it is of several."""
        return self._certain or self._several

    @property
    def assumed(self) -> bool:
        """Whether addresses are taken for the own boot's with nothing that says so."""
        return self._assumed > 0 and not self._certain

    def foresee(self, trial: Evidence, first: Boot | None) -> None:
        """Know from the beginning what a ``trial`` found out later: in ``first`` it begins."""
        if trial._several:
            self._more()
        if first is not None:
            self._expected = self.boot = first
            self._why, self._certain, self._by_names = "", True, trial._by_names

    def part(self, first: int, end: int, agreed: int = 0) -> Part:
        """Addresses of the boot that is believed in; ``agreed`` is how many names say so."""
        self._fits += agreed
        self._begun |= end > first
        alien = self._foreign or self._another_build()
        if alien or self._why:
            return Part(first, end, None, alien or self._why, bool(alien))
        self._certain |= agreed > 0
        self._by_names &= agreed == 0
        if not self._certain and self.boot and self.boot.own:
            self._assumed += end - first
        return Part(first, end, self.boot)

    def _stretch(self, first: int, keys: Sequence[Key], offsets: list[_Sign]) -> list[Part]:
        """The parts of what no words divide: ``keys``, of which ``first`` is the first."""
        told = [self.told(key) for key in keys]
        self._refuse_misfits()
        signs = [_Sign(n, t.slides) for n, t in enumerate(told, first) if t.slides]
        if signs:
            self._by_names = False
        else:
            self._weigh(keys, told)
        # An offset that cannot be added to the file's counts where nothing else does.
        vague = not signs and not self._certain
        offsets = [sign for sign in offsets if sign.slides or vague]
        signs = sorted([*signs, *offsets], key=lambda sign: sign.frame)
        runs = [] if self._given is not None or self._foreign else self._runs(first, signs)
        end = first + len(keys)
        if not runs:
            self._doubt(told)
            self._move(told)
            return [self.part(first, end)]
        parts: list[Part] = []
        at = first
        self._several |= len(runs) > 1
        for number, run in enumerate(runs):
            if number:
                parts.append(Part(at, run.first, None, "it lies between two boots' frames"))
                at = run.first
            self._believe(run.slides)
            stop = end if number == len(runs) - 1 else run.last + 1
            self._move(told[at - first : stop - first])
            parts.append(self.part(at, stop))
            at = stop
        return parts

    def _runs(self, first: int, signs: list[_Sign]) -> list[_Run]:
        runs: list[_Run] = []
        if self._certain and self.boot is not None:
            runs.append(_Run(first, first - 1, frozenset([self.boot.slide])))
        for sign in signs:
            both = runs[-1].slides & sign.slides if runs else None
            if both:
                runs[-1] = _Run(runs[-1].first, sign.frame, both)
            else:
                runs.append(_Run(sign.frame, sign.frame, sign.slides))
        return runs

    def _believe(self, slides: frozenset[int]) -> None:
        """From here on the kernel is moved by one of ``slides``."""
        # Where nothing tells them apart, the file's own boot is meant.
        slide = 0 if 0 in slides else min(slides, default=0)
        if 0 not in slides and len(slides) != 1:
            self._lose("the text fits more than one slide" if slides else UNTOLD)
        elif self.boot is None or self.boot.slide != slide:
            self.contradicted |= self._assumed > 0
            self.boot, self._why = Boot(slide, own=slide == 0 and not self._several), ""
        elif self._several and self.boot.own:
            self.boot = self.boot._replace(own=False)
        self._certain = True

    def _lose(self, why: str) -> None:
        """From here on nobody knows where the kernel is."""
        self.contradicted |= self._assumed > 0
        self._assumed = 0
        self.boot, self._why = None, why

    def _more(self) -> None:
        """The text is of several boots: of those one at most is the file's own."""
        self._several = True
        if self._given is None and not self._certain:
            self._lose("nothing tells which of the boots it is of")

    def _weigh(self, keys: Sequence[Key], told: list[Told]) -> None:
        """Take in names without an offset, where nothing surer tells of the boot."""
        if self._given is not None or self._foreign or (self._certain and not self._by_names):
            return
        digits = self._layout.digits
        found = {key[digits:]: t.within for key, t in zip(keys, told) if t.within is not None}
        if self._certain:
            if not self._gainsaid(found.values()):
                return
            self._within, self._several, self._certain = {}, True, False
            self._lose("it lies between two boots' frames")
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
            self._believe(frozenset([slide]))
            self._by_names, self._within = True, {}
        elif len(near) >= 2 * _SOME and not self._force:
            self._lose(f"its names fit no slide of {self._label}")
        elif missed > max(held, 1):
            self._lose_all()

    def _gainsaid(self, found: Collection[Within]) -> bool:
        """Whether most of some names are not where the boot that they told of has them."""
        near = [within.near for within in found if within.near is not None]
        against = sum(self.boot is None or self.boot.slide not in slides for slides in near)
        return against >= _SOME and 2 * against > len(near)

    def _doubt(self, told: list[Told]) -> None:
        """Do not take for the file's own boot what has its kernel or modules elsewhere."""
        if self._certain or self.boot is None:
            return
        if any(t.elsewhere or any(t.moves.values()) for t in told):
            self._lose_all()

    def _lose_all(self) -> None:
        """From here on no address is the kernel's, and all can be another boot's."""
        self._lose(UNTOLD)
        self.boot, self._why = Boot(UNKNOWN, own=False), ""

    def _move(self, told: list[Told]) -> None:
        """Take in what is told of modules' sections."""
        found: dict[str, set[int]] = {}
        for section, move in (item for t in told for item in t.moves.items()):
            found.setdefault(section, set()).add(move)
        if self.boot is None or self._given is not None or not found:
            return
        kept = {s: move for s, move in self.boot.moves.items() if s not in found}
        # Unloaded and loaded again: nothing says where it was when.
        moves = kept | {s: next(iter(one)) for s, one in found.items() if len(one) == 1}
        own = self.boot.own and not any(map(any, found.values()))
        self.boot = self.boot._replace(own=own, moves={} if own else moves)

    def _pass(self, mark: Mark) -> None:
        """Go past words that say which kernel runs."""
        if mark.begins:
            self._begun = True
            self._assumed, self._by_names, self._within = 0, False, {}
            if self._given is None:
                self.boot, self._why = self._expected or Boot(), ""
                self._certain = self._expected is not None and not self._several
                if self._several:
                    self._more()
        same = self._release is None or mark.release == self._release or self._force
        self._foreign = "" if same else f"it is of {mark.release}, not of {self._release}"

    def marks(self, block: bytes) -> list[Mark]:
        """The words of the block that say which kernel runs, in its order."""
        if not any(word in block for word in forms.SAYS):
            return []
        marks = [
            Mark(match.start(), _text(match[1]), begins=pattern is forms.BANNER)
            for pattern in (forms.BANNER, forms.PERF_RELEASE, forms.HEADER)
            for match in pattern.finditer(block)
        ]
        for match in forms.HEADER.finditer(block):
            if match[2]:
                self._refuse_build("the kernel", _text(match[2]), "kernel")
        for match in forms.OFFSET.finditer(block):
            slides = self._disabled
            if match[1]:
                slides = self._offset(int(match[1], 16) + int(match[2], 16))
            marks.append(Mark(match.start(), slides=slides))
        now = self._foreign == ""
        marks = [m for m in marks if m.begins or m.slides is not None or self._turns(m, now)]
        return sorted(marks, key=lambda mark: mark.place)

    def _turns(self, mark: Mark, now: bool) -> bool:
        """Whether words change what is known: most traces say again what the last one did."""
        return not now or (self._release is not None and mark.release != self._release)

    def _offset(self, text: int) -> frozenset[int]:
        """The slide where ``_text`` is at ``text``, as a panic says it is; empty if unknown."""
        return self._layout.slides(text, "_text", 0)

    def tells(self, keys: Iterable[Key], certain: bool) -> bool:
        """Whether any of ``keys`` tells what is not known; ``certain`` if others agree."""
        told = [self.told(key) for key in keys]
        self._refuse_misfits()
        certain |= self._certain
        return any(self._is_news(t, certain) for t in told if t is not NOTHING)

    def _is_news(self, told: Told, certain: bool) -> bool:
        """Whether a frame tells of another boot than the one that is believed in."""
        boot, within = self.boot, told.within
        if boot is None or not certain:
            return bool(told.slides or told.moves or told.elsewhere or within)
        if within is not None and self._by_names and boot.slide not in (within.near or ()):
            return True
        known = 0 if boot.own else None
        return (bool(told.slides) and boot.slide not in told.slides) or any(
            boot.moves.get(section, known) != move for section, move in told.moves.items()
        )

    def told(self, key: Key) -> Told:
        """What an address and its name tell of the boot; what is foreign tells nothing."""
        if self._foreign:
            return NOTHING
        if len(key) < self._layout.digits + _SHORTEST:
            address = int(key[: self._layout.digits], 16)
            return ELSEWHERE if self._layout.elsewhere(address) else NOTHING
        found = self._told.get(key)
        if found is None:
            if len(self._told) > _ENOUGH:
                self._told.clear()
            found = self._told[key] = self._ask(key)
        return found

    def _ask(self, key: Key) -> Told:
        digits, rest = key[: self._layout.digits], key[self._layout.digits :]
        address, named = int(digits, 16), forms.take_apart(rest)
        nothing = ELSEWHERE if self._layout.elsewhere(address) else NOTHING
        if named.kind == "listed" and named.name in _ANCHORS and named.module is None:
            return Told(self._layout.slides(address, named.name, 0))
        if named.kind == "bare" and named.module is None:
            within = self._layout.within(address, named.name)
            return nothing if within == _SILENT else nothing._replace(within=within)
        if named.kind != "frame" or named.offset is None:
            return nothing
        if named.build_id is not None and named.module is not None:
            self._refuse_build(f"module {named.module}", named.build_id, named.module)
        slides = frozenset[int]()
        if named.module is None:
            slides = self._layout.slides(address, named.name, named.offset)
        moves: Mapping[str, int] = {}
        if not slides:
            moves = self._layout.moves(address, named.name, named.offset, named.module)
        if named.module is None and not moves:
            self._count(named, bool(slides))
        return Told(slides, moves) if slides or moves else nothing

    def _count(self, named: forms.Named, fits: bool) -> None:
        """Count a kernel's name as one that fits, or not; BPF programs are each boot's own.

        perf prints no size, and no module beside what may be a module's.
        """
        if fits:
            self._fits += 1
            return
        kernels = named.size is not None or self._layout.of_kernel(named.name)
        if kernels and not named.name.startswith("bpf_"):
            self._misfits += 1
            self._misfit = self._misfit or named.name

    def _another_build(self) -> str:
        """Why no address can be named, where most names of the text fit no slide."""
        if self._misfits <= self._fits or self._force or self._given is not None:
            return ""
        return f"its names fit no slide of {self._label}"

    def _refuse_misfits(self) -> None:
        """Refuse a text whose names lie nowhere at the distances that they have in the file."""
        if self._misfits < max(_FEW, self._fits) or self._force or self._given is not None:
            return
        raise DecodeError(
            f"The text is of another build than {self._label}: {self._misfits} of its "
            f"names, {self._misfit} the first, fit no slide of the file.",
            "Name a snapshot of the kernel that wrote the text, or go on with --force.",
        )

    def _refuse_build(self, what: str, there: str, name: str) -> None:
        ours = self._ids.get(name)
        if ours is None or self._force or ours.startswith(there):
            return
        raise DecodeError(
            f"In the text {what} has the build-id {there}, and in {self._label} {ours}.",
            "Name a snapshot of the kernel that wrote the text, or go on with --force.",
        )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def places_of(pieces: Sequence[bytes]) -> list[int]:
    """Where each address is in a block that was split at them."""
    return list(accumulate(map(len, pieces)))[:-1:2]
