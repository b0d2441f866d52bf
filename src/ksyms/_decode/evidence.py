"""What a text says of the boot that it is of, and which of its parts are of which boot.

A name beside an address tells a slide; ``Kernel Offset`` in a panic does; the banner of a boot
ends all that was told before. A log has the boots one after the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from .._errors import DecodeError
from .._symbols import SymbolTable
from . import forms
from .boot import Boot, Layout

Key = tuple[bytes, bytes]
"""An address as it is in a text, and what follows it."""

_ANCHORS: Final = ("_stext", "_text")
"""The lines of a saved kallsyms that are believed; the others are no frames."""
_FEW: Final = 8
"""How many names must fit no slide before the text is taken for another build's."""
_SHORTEST: Final = 5
"""Bytes that what follows an address has at least, if it tells anything."""
_ENOUGH: Final = 1 << 17
"""How much is remembered of a text of any length."""


class Part(NamedTuple):
    """Addresses of one boot: the first, the one after the last, and the boot if it is known.

    ``why`` says in words why it is not.
    """

    first: int
    end: int
    boot: Boot | None
    why: str = ""


class Told(NamedTuple):
    """What one frame tells: the slides that fit it, the moves of modules' sections."""

    slides: frozenset[int] = frozenset()
    moves: Mapping[str, int] = {}

    def __bool__(self) -> bool:
        """Whether it tells anything."""
        return bool(self.slides or self.moves)


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
    """Words in a text that say which kernel runs: its release, or its slide.

    With ``begins`` they are the first of a boot.
    """

    place: int
    release: str | None = None
    slide: int | None = None
    begins: bool = False


NOTHING: Final = Told()


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
        self._expected = given or Boot()
        self.boot: Boot | None = self._expected
        """The boot that is believed in now; None where none is known."""
        self._certain = given is not None
        self._why = ""
        self._foreign = ""
        self._boots = 0
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
        told = [self.told(key) for key in keys]
        self._refuse_misfits()
        parts: list[Part] = []
        first, offsets = 0, list[_Sign]()
        for mark in marks:
            end = bisect_left(places(), mark.place)
            if mark.slide is not None:
                offsets.append(_Sign(end, frozenset([mark.slide])))
                continue
            parts += self._stretch(first, end, told, offsets)
            self._pass(mark)
            first, offsets = end, []
        return parts + self._stretch(first, len(keys), told, offsets)

    @property
    def certain(self) -> bool:
        """Whether anything told the boot that is believed in."""
        return self._certain

    def expect(self, boot: Boot) -> None:
        """Believe in ``boot`` until something is told: what comes later tells of it."""
        self._expected = self.boot = boot

    def part(self, first: int, end: int, agreed: int = 0) -> Part:
        """Addresses of the boot that is believed in; ``agreed`` names in them say so."""
        self._fits += agreed
        self._refuse_misfits()
        why = self._foreign or self._why
        if why:
            return Part(first, end, None, why)
        self._certain |= agreed > 0
        if not self._certain:
            self._assumed += end - first
        return Part(first, end, self.boot)

    def _stretch(
        self, first: int, end: int, told: list[Told], offsets: list[_Sign]
    ) -> list[Part]:
        """The parts of what no words divide."""
        signs = [_Sign(n, told[n].slides) for n in range(first, end) if told[n].slides]
        signs = sorted([*signs, *offsets], key=lambda sign: sign.frame)
        runs = [] if self._given is not None or self._foreign else self._runs(first, signs)
        if not runs:
            self._move(told[first:end])
            return [self.part(first, end)]
        parts: list[Part] = []
        at = first
        for number, run in enumerate(runs):
            if number:
                parts.append(Part(at, run.first, None, "it lies between two boots' frames"))
                at = run.first
            self._believe(_one_of(run.slides))
            stop = end if number == len(runs) - 1 else run.last + 1
            self._move(told[at:stop])
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

    def _believe(self, slide: int | None) -> None:
        """From here on the kernel is moved by ``slide``; by nobody knows what if None."""
        if self._assumed and slide != self._expected.slide:
            self.contradicted = True
        self._certain = True
        if slide is None:
            self.boot, self._why = None, "the text's names fit more than one slide"
        elif self.boot is None or self.boot.slide != slide:
            self.boot, self._why = Boot(slide, own=slide == 0), ""

    def _move(self, told: list[Told]) -> None:
        """Take in what is told of modules' sections."""
        moves = {section: move for t in told for section, move in t.moves.items()}
        if self.boot is None or self._given is not None or not moves:
            return
        moves = {**self.boot.moves, **moves}
        own = self.boot.own and not any(moves.values())
        self.boot = self.boot._replace(own=own, moves={} if own else moves)

    def _pass(self, mark: Mark) -> None:
        """Go past words that say which kernel runs."""
        if mark.begins:
            self._boots += 1
            if self._given is None:
                # Of several boots one at most is the file's own.
                several = self._boots > 1
                self.boot, self._certain = None if several else self._expected, False
                self._assumed = 0
                self._why = "nothing tells which of the boots it is of" if several else ""
        same = self._release is None or mark.release == self._release or self._force
        self._foreign = "" if same else f"it is of {mark.release}, not of {self._release}"

    def marks(self, block: bytes) -> list[Mark]:
        """The words of the block that say which kernel runs, in its order."""
        marks = [
            Mark(match.start(), _text(match[1]), begins=pattern is forms.BANNER)
            for pattern in (forms.BANNER, forms.PERF_RELEASE, forms.HEADER)
            for match in pattern.finditer(block)
        ]
        for match in forms.HEADER.finditer(block):
            if match[2]:
                self._refuse_build("the kernel", _text(match[2]), "kernel")
        for match in forms.OFFSET.finditer(block):
            slide = self._offset(int(match[1], 16) + int(match[2], 16)) if match[1] else None
            if slide is not None:
                marks.append(Mark(match.start(), slide=slide))
        now = self._foreign == ""
        marks = [m for m in marks if m.begins or m.slide is not None or self._turns(m, now)]
        return sorted(marks, key=lambda mark: mark.place)

    def _turns(self, mark: Mark, now: bool) -> bool:
        """Whether words change what is known: most traces say again what the last one did."""
        return not now or (self._release is not None and mark.release != self._release)

    def _offset(self, text: int) -> int | None:
        """The slide where ``_text`` is at ``text``, as a panic says it is."""
        here = next((s.address for s in self._layout.names.called("_text")), None)
        slide = None if here is None else text - here
        return slide if slide is not None and slide % self._layout.step == 0 else None

    def told(self, key: Key) -> Told:
        if len(key[1]) < _SHORTEST:
            return NOTHING
        found = self._told.get(key)
        if found is None:
            if len(self._told) > _ENOUGH:
                self._told.clear()
            found = self._told[key] = self._ask(key)
        return found

    def _ask(self, key: Key) -> Told:
        named = forms.take_apart(key[1])
        address = int(key[0], 16)
        if named.kind == "listed" and named.name in _ANCHORS and named.module is None:
            return Told(self._layout.slides(address, named.name, 0))
        if named.kind != "frame" or named.offset is None:
            return NOTHING
        if named.build_id is not None and named.module is not None:
            self._refuse_build(f"module {named.module}", named.build_id, named.module)
        slides = frozenset[int]()
        if named.module is None:
            slides = self._layout.slides(address, named.name, named.offset)
            if named.size is not None:
                self._count(named.name, bool(slides))
        if slides:
            return Told(slides)
        moves = self._layout.moves(address, named.name, named.offset, named.module)
        return Told(frozenset(), moves) if moves else NOTHING

    def _count(self, name: str, fits: bool) -> None:
        """Count a kernel's name as one that fits, or not; BPF programs are each boot's own."""
        if fits:
            self._fits += 1
        elif not name.startswith("bpf_"):
            self._misfits += 1
            self._misfit = self._misfit or name

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


def _one_of(slides: frozenset[int]) -> int | None:
    """The slide that is meant: the only one, or that of the file's own boot."""
    if len(slides) == 1:
        return next(iter(slides))
    return 0 if 0 in slides else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def places_of(pieces: Sequence[bytes]) -> list[int]:
    """Where each address is in a block that was split at them."""
    lengths = list(accumulate(map(len, pieces)))
    return [lengths[number - 1] for number in range(1, len(lengths), 3)]
