"""Hashes of names, by their last bytes and their length: kernels' names begin alike.

What has the hash of another name can still be called otherwise, and is compared by who asks.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]
Tails = npt.NDArray[np.void]

_TAIL: Final = Struct("<2Q")
SIZE: Final = _TAIL.size
"""Bytes of a tail: the last ones of a name, which can be of what is before a shorter one."""
_EARLY: Final = 0x9E3779B97F4A7C15
_LATE: Final = 0xC2B2AE3D27D4EB4F
_LENGTH: Final = 0xD6E8FEB86659FD93
_ALL: Final = (1 << 64) - 1
_OWN: Final = np.array([_ALL << 64 - 8 * own & _ALL for own in range(9)], np.uint64)
"""By how many of a word's bytes are a name's, which: the last ones."""


def tails(text: U8) -> Tails:
    """The tail that begins at each byte of ``text`` that has so many behind it."""
    return np.ndarray((len(text) - SIZE + 1,), f"V{SIZE}", text, 0, (1,))


def hash_of(name: bytes) -> int:
    """The hash of one name, below 2^64."""
    early, late = _TAIL.unpack_from(bytes(SIZE) + name, len(name))
    mixed: int = early * _EARLY + late * _LATE + len(name) * _LENGTH
    return mixed & _ALL


def hashes(tail: Tails, length: Index) -> U64:
    """:func:`hash_of` each name, of its tail and its length in bytes."""
    early, late = tail.view("<u8").reshape(-1, 2).T
    found = length.astype(np.uint64) * np.uint64(_LENGTH)
    found += (early & _OWN.take(length - 8, mode="clip")) * np.uint64(_EARLY)
    found += (late & _OWN.take(length, mode="clip")) * np.uint64(_LATE)
    return found
