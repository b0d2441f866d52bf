"""Conversion of the addresses that a program passes, integers of any type, to uint64."""

from __future__ import annotations

from operator import index
from typing import Any, Final

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

_TOP: Final = (1 << 64) - 1


def to_uint64(given: npt.ArrayLike) -> tuple[U64, Bools | None]:
    """Convert ``given`` to uint64 in its shape, and mark the items that cannot be addresses.

    Returns:
        The array, and a mask of the same shape that is True for a negative integer, one of more
        than 64 bits, and an item that a masked array hides. Where the mask is True, the array
        has any number. The mask is None if no item is marked.

    Raises:
        TypeError: the items are not all integers.
    """
    array: npt.NDArray[Any] = np.asarray(given)
    if not array.size:
        return np.zeros(array.shape, np.uint64), None
    if not hasattr(given, "dtype") and _may_be_converted(array):
        # numpy converts Python's integers to doubles if some of them need bit 63. Convert them
        # one by one instead.
        array = np.array(given, dtype=object)
    kind = array.dtype.kind
    if kind == "O":
        array, nowhere = _convert_objects(array)
    elif kind == "i":
        below = array < 0
        nowhere = below if below.any() else None
    elif kind == "u":
        nowhere = None
    else:
        raise _not_integers(str(array.dtype))
    if isinstance(given, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(given)
        nowhere = hidden if nowhere is None else hidden | nowhere
    # A negative integer becomes an address here, but the mask marks it.
    return array.astype(np.uint64, copy=False), nowhere


def _may_be_converted(array: npt.NDArray[Any]) -> bool:
    """Return True if numpy may have converted items of other types in ``array``.

    It converts large integers to doubles, and booleans among integers to 0 and 1.
    """
    return array.dtype.kind == "f" or (array.dtype.kind in "iu" and bool((array <= 1).any()))


def _convert_objects(array: npt.NDArray[Any]) -> tuple[U64, Bools | None]:
    """Convert an array of Python objects as :func:`to_uint64` does."""
    numbers = [_to_int(each) for each in array.ravel().tolist()]
    outside = [not 0 <= number <= _TOP for number in numbers]
    if not any(outside):
        return np.array(numbers, np.uint64).reshape(array.shape), None
    kept = [0 if out else number for number, out in zip(numbers, outside)]
    return (
        np.array(kept, np.uint64).reshape(array.shape),
        np.array(outside, np.bool_).reshape(array.shape),
    )


def _to_int(value: object) -> int:
    """Return ``value`` as an int.

    Raises:
        TypeError: it is no integer; a boolean is none.
    """
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise _not_integers(type(value).__name__)
    return index(value)


def _not_integers(what: str) -> TypeError:
    return TypeError(
        f"addresses are integers, not {what}: a float has too few bits for an address, and a "
        "gap in a column must be removed first"
    )
