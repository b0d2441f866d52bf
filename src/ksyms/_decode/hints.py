"""Which words a block of a text can have: those whose pairs of bytes it has.

Most of what is looked for is in few texts, and to look for one word takes longer than to find
out which pairs of bytes there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import numpy as np

_SHORT: Final = 1 << 13
"""Bytes of a text that is so short that it is quicker to look for each word."""


class Pairs:
    """The pairs of bytes that begin at even places of ``text``."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._has: bytes | None = None
        if len(text) >= _SHORT:
            pairs = np.frombuffer(text, "<u2", len(text) // 2)
            self._has = np.bincount(pairs, minlength=1 << 16).astype(np.bool_).tobytes()

    def any(self, words: Iterable[bytes]) -> bool:
        """Return whether one of ``words`` is in the text."""
        return any(word in self._text for word in words if self._can_have(word))

    def _can_have(self, word: bytes) -> bool:
        if self._has is None:
            return True
        # Where the word is at an odd place, its second byte is at an even one.
        has = self._has.__getitem__
        return all(map(has, _pairs(word))) or all(map(has, _pairs(word[1:])))


@cache
def _pairs(word: bytes) -> list[int]:
    """The pairs of bytes at even places of a word."""
    pairs: list[int] = np.frombuffer(word, "<u2", len(word) // 2).tolist()
    return pairs
