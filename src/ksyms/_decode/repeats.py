"""Repeated lines of a text: each is decoded once while the belief in a boot stays the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from .annotate import Decoder, Parts, SplitText
    from .belief import Held

_Made = TypeVar("_Made")

_KEPT: Final = 1 << 16
"""Limit on cached lines."""
_TRIED: Final = 1 << 14
"""The number of lines after which it is decided if they repeat often enough."""
_SELDOM: Final = 8
"""The cache is used no longer if fewer than one line in ``_SELDOM`` is a repeated one."""


class Repeats(Generic[_Made]):
    """A cache of the results of ``make`` for the lines of a text.

    A line is kept only if its result depends on nothing but the line and the belief. Lines with
    evidence are read together with the lines around them, and names without addresses are
    counted each time, so these are not kept.

    Args:
        decoder: the text's decoder.
        make: returns a result for each line of a block; lines are separated by line feeds.
    """

    def __init__(
        self, decoder: Decoder, make: Callable[[SplitText, Parts], list[_Made]]
    ) -> None:
        self._decoder = decoder
        self._make = make
        self._known: dict[bytes, _Made] = {}
        self._held: Held | None = None
        """The belief for which the lines were kept."""
        self._seen = self._fresh = 0

    def lines(self, text: bytes) -> list[_Made]:
        """Return the result for each line of a block of the text."""
        made = self._lines(text)
        self._decoder.pass_by(text)
        return made

    def _lines(self, text: bytes) -> list[_Made]:
        """Return the results from the cache, and decode the other lines as one block.

        The whole block is decoded, without the cache, if lines seldom repeat, or if its lines
        cannot be decoded one by one.
        """
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
        """True if too few lines are repeated for the cache to help."""
        return self._seen > _TRIED and _SELDOM * (self._seen - self._fresh) < self._seen

    def _keep(self, block: SplitText, lines: list[bytes], made: list[_Made]) -> None:
        """Keep the results of lines, except of those whose names are counted each time."""
        self._held = self._decoder.belief.held
        self._known.update(zip(lines, made))
        if block.named:
            ends = list(accumulate([len(line) + 1 for line in lines]))
            for place, _ in block.named:
                self._known.pop(lines[bisect_right(ends, place)], None)
