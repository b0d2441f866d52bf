"""Many strings of a text copied or compared at once, in windows of 48 bytes.

numpy takes as long to copy eight bytes at an odd address as to copy sixty-four. So a string of
up to 48 bytes is copied with a whole window, whatever its length, and a longer one with
several. For example, with windows of 8 bytes, ``ab`` and ``wxyz`` are copied next to each other
like this::

    text:    a b NUL . . . . . .     w x y z NUL . . .
    first:   [a b NUL . . . . .]                             window of the first string
    second:          [w x y z NUL . . .]                     overwrites the surplus
    out:      a b NUL w x y z NUL . . .
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np
import numpy.typing as npt

from ._arrays import U8, Index, Mask
from ._typing import Final

Windows = npt.NDArray[np.void]

WINDOW: Final = 48
"""The bytes of a window: 99 of 100 names have fewer."""
_MASKS: Final = np.tri(WINDOW + 1, WINDOW, -1, np.uint8).view("<u8") * np.uint64(0xFF)
"""``_MASKS[n]`` keeps the first n bytes of a window, as six words: for n = 3 it is
``0x0000000000ffffff 0 0 0 0 0``."""


def windows_of(text: U8) -> Windows:
    """Return the window that starts at each byte of ``text``, except at the last 47 bytes."""
    return np.ndarray((len(text) - WINDOW + 1,), f"V{WINDOW}", text, strides=(1,))


def joined(text: Windows, starts: Index, length: Index) -> U8:
    """Return the ``length`` bytes at each of ``starts``, one string after the other."""
    # ``windows`` is the number of windows of each string. ``within`` has for each window its
    # offset in its string.
    windows = -(-length // WINDOW)
    first = np.cumsum(windows) - windows
    within = (np.arange(int(windows.sum())) - first.repeat(windows)) * WINDOW
    # Copy the windows in order, each over the surplus of the one before.
    begins = np.cumsum(length) - length
    out = np.empty(int(length.sum()) + WINDOW, np.uint8)
    windows_of(out)[begins.repeat(windows) + within] = text[starts.repeat(windows) + within]
    return out[:-WINDOW]


def equal_strings(text: Windows, a: Index, b: Index, length: Index) -> Mask:
    """Return a mask of the rows in which the ``length`` bytes at ``a`` equal those at ``b``."""
    same = _equal_windows(text[a], text[b], length)
    for rows, offset in _later_windows(length):
        same[rows] &= _equal_windows(
            text[a[rows] + offset], text[b[rows] + offset], length[rows]
        )
    return same


def _equal_windows(one: Windows, other: Windows, length: Index) -> Mask:
    """Return a mask of the pairs of windows whose first ``length`` bytes are equal."""
    difference = one.view("<u8") ^ other.view("<u8")
    words = difference.reshape(-1, WINDOW // 8) & _MASKS.take(length, axis=0, mode="clip")
    equal: Mask = reduce(np.bitwise_or, words.T) == 0
    return equal


def gather_strings(
    text: Windows, starts: Index, length: Index, out: Windows, offsets: Index
) -> None:
    """Copy the ``length`` bytes at each of ``starts`` to the offset of its row in ``out``.

    The offsets ascend, without gaps between the strings. Each row overwrites the surplus bytes
    of the window of the row before, since numpy assigns in the order of the indices.
    """
    out[offsets] = text[starts]
    for rows, offset in _later_windows(length):
        out[offsets[rows] + offset] = text[starts[rows] + offset]


def _later_windows(length: Index) -> Iterator[tuple[Index, Index]]:
    """Yield the windows after the first that are needed to cover each row's ``length`` bytes.

    Each item is an array of rows, and the offset of a window in each of them. The last window
    of a row ends where the row ends, so that it overwrites nothing: for 100 bytes the windows
    start at 0, 48 and 52.
    """
    step = WINDOW
    rows = np.flatnonzero(length > step)
    while len(rows):
        yield rows, np.minimum(step, length[rows] - WINDOW)
        step += WINDOW
        rows = rows[length[rows] > step]
