"""Lines that a text has again and again: each is decoded once while one boot is believed in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from .annotate import Block, Decoder, Parts
    from .belief import Held

_Made = TypeVar("_Made")

_KEPT: Final = 1 << 16
"""How many lines are kept."""
_TRIED: Final = 1 << 14
"""After how many lines it is seen whether they repeat."""
_SELDOM: Final = 8
"""If fewer than one line of so many was there before, none is looked for any more."""


class Repeats(Generic[_Made]):
    """What ``make`` makes of the lines of a text, asked once for those that are the same.

    A line is kept if it tells nothing but its addresses: what the text says of its kernel is
    read with what is around it, and names without addresses are counted each time.

    Args:
        decoder: of the text.
        make: makes something of each line of a block; a line is what is between line feeds.
    """

    def __init__(self, decoder: Decoder, make: Callable[[Block, Parts], list[_Made]]) -> None:
        self._decoder = decoder
        self._make = make
        self._known: dict[bytes, _Made] = {}
        self._held: Held | None = None
        """What was believed when the lines were kept."""
        self._seen = self._fresh = 0

    def lines(self, text: bytes) -> list[_Made]:
        """Give what is made of each line of a block of the text."""
        made = self._lines(text)
        self._decoder.pass_by(text)
        return made

    def _lines(self, text: bytes) -> list[_Made]:
        decoder = self._decoder
        if self._is_varied or not decoder.has_single_lines(text):
            block = decoder.read(text)
            return self._make(block, decoder.parts(block))
        if self._held != decoder.belief.held or len(self._known) > _KEPT:
            self._known = {}
        lines = text.split(b"\n")
        made = list(map(self._known.get, lines))
        fresh = [line for line, one in zip(lines, made) if one is None]
        self._seen += len(lines)
        self._fresh += len(fresh)
        new: list[_Made] = []
        if fresh:
            block = decoder.read(b"\n".join(fresh), alone=True)
            parts = decoder.parts_of_some(block)
            if parts is None:
                block = decoder.read(text)
                return self._make(block, decoder.parts_by_news(block))
            new = self._make(block, parts)
            self._keep(block, fresh, new)
        decoder.belief.line += len(lines) - max(len(fresh), 1)
        rest = iter(new)
        return [next(rest) if one is None else one for one in made]

    @property
    def _is_varied(self) -> bool:
        """Whether most lines are there once."""
        return self._seen > _TRIED and _SELDOM * (self._seen - self._fresh) < self._seen

    def _keep(self, block: Block, lines: list[bytes], made: list[_Made]) -> None:
        """Keep what was made of lines, except of those whose names are counted."""
        self._held = self._decoder.belief.held
        self._known.update(zip(lines, made))
        if block.named:
            ends = list(accumulate([len(line) + 1 for line in lines]))
            for place, _ in block.named:
                self._known.pop(lines[bisect_right(ends, place)], None)
