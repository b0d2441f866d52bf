"""Decode repeated lines of a text only once, while the belief about its boot stays the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from .annotate import Decoder, Parts, SplitText
    from .belief import Held

_Made = TypeVar("_Made")

_KEPT: Final = 1 << 16
"""Limit on cached lines."""
_TRIED: Final = 1 << 14
"""The number of lines after which it is decided if they repeat often enough."""
_SELDOM: Final = 8
"""The cache is given up if fewer than one line in ``_SELDOM`` is a repeated one."""


class LineResults(NamedTuple, Generic[_Made]):
    """The results for lines that were decoded independently of the lines around them.

    ``counted`` are the lines that must not be cached: they have names that are counted each
    time they occur.
    """

    lines: list[_Made]
    counted: list[bytes]


class Repeats(Generic[_Made]):
    """A cache of the results for the lines of a text.

    A result is cached only if it depends on nothing but the line and the belief. So lines with
    new evidence are not cached, which are read together with the lines around them, and neither
    are lines with names without addresses, which are counted each time.

    Args:
        decoder: the text's decoder.
        make: returns a result for each line of a block; lines are separated by line feeds.
        make_alone: does the same for lines that do not follow each other; returns None if they
            change the belief.
    """

    def __init__(
        self,
        decoder: Decoder,
        make: Callable[[SplitText, Parts], list[_Made]],
        make_alone: Callable[[bytes], LineResults[_Made] | None] | None = None,
    ) -> None:
        self._decoder = decoder
        self._make = make
        self._make_alone = make_alone or self.make_alone
        self._known: dict[bytes, _Made] = {}
        self._held: Held | None = None
        """The belief for which the lines were cached."""
        self._seen = self._fresh = 0

    def lines(self, text: bytes) -> list[_Made]:
        """Return the result for each line of a block of the text."""
        made = self._lines(text)
        self._decoder.keep_context(text)
        return made

    def _lines(self, text: bytes) -> list[_Made]:
        """Return the result for each line of a block, from the cache if possible.

        The block is decoded as a whole if its lines depend on each other, or if one of them
        changes the belief. If lines seldom repeat, the cache is not used.
        """
        decoder = self._decoder
        if not decoder.has_single_lines(text):
            block = decoder.read(text)
            return self._make(block, decoder.parts(block))

        line = decoder.belief.line
        made = self._by_itself(text) if self._is_varied else self._kept(text)
        if made is None:
            block = decoder.read(text)
            return self._make(block, decoder.parts_by_evidence(block))
        decoder.belief.line = line + len(made) - 1
        return made

    def _kept(self, text: bytes) -> list[_Made] | None:
        """Return the results from the cache, with those of other lines, which are then cached.

        Return None if the other lines change the belief.
        """
        if self._held != self._decoder.belief.held or len(self._known) > _KEPT:
            self._known = {}

        lines = text.split(b"\n")
        made = list(map(self._known.get, lines))
        fresh = [line for line, one in zip(lines, made) if one is None]
        self._seen += len(lines)
        self._fresh += len(fresh)
        if not fresh:
            return [one for one in made if one is not None]

        new = self._make_alone(b"\n".join(fresh))
        if new is None:
            return None
        self._held = self._decoder.belief.held
        self._known.update(zip(fresh, new.lines))
        for one in new.counted:
            self._known.pop(one, None)
        rest = iter(new.lines)
        return [next(rest) if one is None else one for one in made]

    def _by_itself(self, text: bytes) -> list[_Made] | None:
        """Return the results without the cache; None if the lines change the belief."""
        made = self._make_alone(text)
        return made and made.lines

    @property
    def _is_varied(self) -> bool:
        """True if too few lines are repeated for the cache to help."""
        return self._seen > _TRIED and _SELDOM * (self._seen - self._fresh) < self._seen

    def make_alone(self, text: bytes) -> LineResults[_Made] | None:
        """Return the results for lines that do not follow each other, by ``make``.

        Return None if they change the belief.
        """
        block = self._decoder.read(text, alone=True)
        parts = self._decoder.parts_unless_news(block)
        return None if parts is None else LineResults(self._make(block, parts), counted(block))


def counted(block: SplitText) -> list[bytes]:
    """Return the lines of a block that have names without addresses."""
    if not block.named:
        return []
    lines = block.text.split(b"\n")
    ends = list(accumulate([len(line) + 1 for line in lines]))
    return [lines[bisect_right(ends, place)] for place, _ in block.named]
