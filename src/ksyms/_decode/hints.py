"""A quick test for words that are not in a block of a text, by the block's pairs of bytes.

Most words that are looked for occur in few texts. To find all pairs of bytes of a block takes
less time than to search it for one word. Only pairs at even offsets are collected:

    the block "Call Trace:" has the pairs "Ca", "ll", " T", "ra" and "ce"
    "race" can be in it, at an even offset: the block has "ra" and "ce"
    "Trac" can be in it, at an odd offset: the block has "ra", which begins at an even one
    "Code" is not in it: the block has neither "Co" nor, for an odd offset, "od"
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import numpy as np

_SHORT: Final = 1 << 13
"""Length in bytes of a text below which it is quicker to search for each word."""


class Pairs:
    """The pairs of bytes at even offsets of ``text``."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._has: bytes | None = None
        if len(text) >= _SHORT:
            pairs = np.frombuffer(text, "<u2", len(text) // 2)
            self._has = np.bincount(pairs, minlength=1 << 16).astype(np.bool_).tobytes()

    def any(self, words: Iterable[bytes]) -> bool:
        """Return True if one of ``words`` is in the text."""
        return any(word in self._text for word in words if self._can_have(word))

    def _can_have(self, word: bytes) -> bool:
        """Return True if the text has the pairs of ``word``; it need not have the word."""
        if self._has is None:
            return True
        # If the word is at an odd offset, its second byte is at an even one.
        has = self._has.__getitem__
        return all(map(has, _pairs(word))) or all(map(has, _pairs(word[1:])))


@cache
def _pairs(word: bytes) -> list[int]:
    """Return the pairs of bytes at even offsets of a word."""
    pairs: list[int] = np.frombuffer(word, "<u2", len(word) // 2).tolist()
    return pairs
