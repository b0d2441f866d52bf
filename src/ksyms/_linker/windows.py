"""Bytes of a text compared and copied by windows, many at a time.

numpy takes as long for eight bytes at an odd address as for sixty-four, so each name is moved
in one window, and the few that are longer in several.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np
import numpy.typing as npt

from .._typing import Final
from .ahead import PAD

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Windows = npt.NDArray[np.void]

SIZE: Final = PAD
"""Bytes of a window: of 100 names 99 have fewer."""
_MASKS: Final = np.tri(SIZE + 1, SIZE, -1, np.uint8).view("<u8") * np.uint64(0xFF)
"""What keeps the first so many bytes of a window."""


def windows(text: U8) -> Windows:
    """A window from each byte of ``text`` that has so many behind it."""
    return np.ndarray((len(text) - SIZE + 1,), f"V{SIZE}", text, strides=(1,))


def equal(text: Windows, a: Index, b: Index, length: Index) -> Mask:
    """Whether the ``length`` bytes at ``a`` are those at ``b``, one answer a row."""
    same = _alike(text[a], text[b], length)
    for rows, at in _further(length):
        same[rows] &= _alike(text[a[rows] + at], text[b[rows] + at], length[rows])
    return same


def _alike(one: Windows, other: Windows, length: Index) -> Mask:
    """Which windows are the same, as far as ``length`` bytes."""
    differ = one.view("<u8") ^ other.view("<u8")
    words = differ.reshape(-1, SIZE // 8) & _MASKS.take(length, axis=0, mode="clip")
    alike: Mask = reduce(np.bitwise_or, words.T) == 0
    return alike


def copy(text: Windows, starts: Index, length: Index, out: Windows, offsets: Index) -> None:
    """Copy the ``length`` bytes at each of ``starts`` to its offset in ``out``.

    Offsets ascend, and there is nothing between. What is copied behind a row's end the next
    row is written over: numpy assigns in the order of the indices.
    """
    out[offsets] = text[starts]
    for rows, at in _further(length):
        out[offsets[rows] + at] = text[starts[rows] + at]


def _further(length: Index) -> Iterator[tuple[Index, Index]]:
    """The windows behind the first that together cover each row's ``length`` bytes.

    Gives rows, and how far from its row's start each window is: the last ends where the row
    does.
    """
    step = SIZE
    rows = np.flatnonzero(length > step)
    while len(rows):
        yield rows, np.minimum(step, length[rows] - SIZE)
        step += SIZE
        rows = rows[length[rows] > step]
