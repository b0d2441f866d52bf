"""Hashes of names, from their last 16 bytes and their length.

The last bytes are taken since many names of a kernel start alike. Hashes can collide, so the
caller must compare the names.

The last 16 bytes are two words. For a name of 11 bytes, ``late`` has the last 8, and ``early``
has the 3 before them in its highest bytes. The other bytes of ``early`` belong to the string
before, and are masked out::

    text:    . . . s t r i n g NUL v f s _ f s y n c i t NUL
                         |   early    |     late     |
    early & _LAST_BYTES[3] = "_____vfs"      late & _LAST_BYTES[8] = "_fsyncit"
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

_WORDS: Final = Struct("<2Q")
SIZE: Final = _WORDS.size
"""Bytes of a tail, which ends where a name ends. A short name's starts in the string before."""
_EARLY: Final = 0x9E3779B97F4A7C15
_LATE: Final = 0xC2B2AE3D27D4EB4F
_LENGTH: Final = 0xD6E8FEB86659FD93
"""Odd constants with well mixed bits, one for each part of the hash."""
_ALL: Final = (1 << 64) - 1
_LAST_BYTES: Final = np.array([_ALL << 64 - 8 * own & _ALL for own in range(9)], np.uint64)
"""``_LAST_BYTES[n]`` keeps the last n bytes of a little-endian word."""


def tails_of(text: U8) -> Tails:
    """Return the 16 bytes that start at each byte of ``text``, except at the last 15."""
    return np.ndarray((len(text) - SIZE + 1,), f"V{SIZE}", text, 0, (1,))


def hash_of(name: bytes) -> int:
    """Return the hash of one name, below 2^64."""
    early, late = _WORDS.unpack_from(bytes(SIZE) + name, len(name))
    mixed: int = early * _EARLY + late * _LATE + len(name) * _LENGTH
    return mixed & _ALL


def hashes_of(tail: Tails, length: Index) -> U64:
    """Return :func:`hash_of` for each name, from its tail and its length in bytes."""
    early, late = tail.view("<u8").reshape(-1, 2).T
    found = length.astype(np.uint64) * np.uint64(_LENGTH)
    found += (early & _LAST_BYTES.take(length - 8, mode="clip")) * np.uint64(_EARLY)
    found += (late & _LAST_BYTES.take(length, mode="clip")) * np.uint64(_LATE)
    return found
