"""Suggestions for a name that no symbol has: another case, another suffix, a typo."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from .. import _note
from .._typing import Final
from .table import SymbolTable

MOST: Final = 3
"""Limit on the number of suggestions."""
_SHORT: Final = 4
"""The length of the shortest name for which typos are considered."""
_COMMON: Final = 3_000
"""Limit on the occurrences of one part of a name that are examined."""
_ALONE: Final = 8
"""Shorter names are also searched for as a whole, since their halves can be too common."""
_LONGEST: Final = 512
"""Names of this many bytes or more get no suggestions."""
_BEFORE: Final = (b"\0", b"_")
_AFTER: Final = (b"\0", b".", b"$")
"""Bytes that can stand before a :func:`core`, and after it."""
_HIDDEN: Final = (b".l", b"$")
"""Prefixes of names that the kernel ignores (kernel/module/kallsyms.c, is_mapping_symbol)."""


def similar(table: SymbolTable, name: str) -> list[str]:
    """Return at most :data:`MOST` names of ``table`` that resemble ``name``, the best first.

    Their :func:`core` is that of ``name``, or differs by one typo. The search takes a few
    passes over the strings, and needs no index.
    """
    wanted, is_call = core(name.encode("utf-8", "replace").lower())
    if len(wanted) >= _LONGEST or not wanted.strip(b"_"):
        return []
    strings = bytes(table.strings)
    low = strings.lower()
    found = set()
    for begin, end in _candidates(low, wanted):
        other, other_is_call = core(low[begin:end])
        typo = other != wanted
        if typo and (other_is_call != is_call or not one_slip(other, wanted)):
            continue
        # The best names have no typo, are not those of padding, and are as long as ``name``.
        padding = low.startswith(_note.PFX_PREFIX, begin)
        found.add((typo, padding, abs(end - begin - len(name)), strings[begin:end]))
    names = (each[-1].decode("utf-8", "surrogateescape") for each in sorted(found))
    return list(
        islice((each for each in names if each.isprintable() and table.find(each)), MOST)
    )


def core(name: bytes) -> tuple[bytes, bool]:
    """Return the distinctive part of a lower-case name, and True if it is a system call's.

    That is the name without the compiler's suffixes (``.isra.0``, ``.constprop.0``,
    ``.llvm.123``), without leading underscores, and without a system call's prefix: ``sys_``,
    ``ksys_``, ``__x64_sys_`` (arch/x86/include/asm/syscall_wrapper.h), or that of another
    machine. For example, it is ``openat`` for ``__x64_sys_openat``.
    """
    for mark in _AFTER[1:]:
        end = name.find(mark, 1)
        name = name[:end] if end > 0 else name
    before, call, after = name.partition(b"sys_")
    wraps = before[:2] == b"__" and before[-1:] == b"_"
    if call and after and (wraps or before in (b"", b"k")):
        return after, True
    return name.lstrip(b"_") or name, False


def one_slip(one: bytes, other: bytes) -> bool:
    """Return True if two names differ by one typo at most.

    A typo is one character more, less or changed, or two neighbours swapped. Names shorter than
    :data:`_SHORT` are never taken for typos. For example, these two have three characters in
    common at the start and three at the end, and the two between are swapped::

        sch ed ule
        sch de ule
    """
    # Count the common characters at the start and at the end, and compare what is between.

    least = min(len(one), len(other))
    if abs(len(one) - len(other)) > 1 or least < _SHORT:
        return False
    first = next((at for at in range(least) if one[at] != other[at]), least)
    last = next((at for at in range(least - first) if one[-1 - at] != other[-1 - at]), least)
    mine = one[first : max(first, len(one) - last)]
    theirs = other[first : max(first, len(other) - last)]
    return max(len(mine), len(theirs)) <= 1 or (len(mine) == 2 and mine == theirs[::-1])


def _candidates(low: bytes, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end, in ``low``, of each name that shares a half with ``wanted``.

    One typo leaves one half as it is, unless it swaps the two characters in the middle. So the
    strings are scanned for three parts; for ``schedule`` these are::

        sche        at the start of a name
        schdeule    at the start of a name
        dule        at the end of a name, or before a suffix
    """
    half = len(wanted) // 2
    swapped = wanted[: half - 1] + wanted[half - 1 : half + 1][::-1] + wanted[half + 1 :]
    parts = []
    if len(wanted) < _ALONE:
        parts += [mark + wanted + end for mark in _BEFORE for end in _AFTER]
    if len(wanted) >= _SHORT:
        parts += [mark + start for start in (swapped, wanted[:half]) for mark in _BEFORE]
        parts += [wanted[half:] + end for end in _AFTER]

    # Find the string around each occurrence of a part.
    seen = set()
    for part in parts:
        at, left = low.find(part), _COMMON
        while at >= 0 and left:
            start = low.rfind(b"\0", 0, at + 1) + 1
            end = low.find(b"\0", at + 1)
            if start not in seen and 0 < end - start < _LONGEST:
                seen.add(start)
                yield from ((begin, end) for begin in _name_starts(low, start, end))
            at, left = low.find(part, at + 1), left - 1


def _name_starts(low: bytes, start: int, end: int) -> Iterator[int]:
    """Yield each offset in the string from ``start`` to ``end`` at which a name may start.

    A name can be the rest of another one's string after a prefix.
    """
    if low.startswith(_HIDDEN, start, end):
        return
    yield start
    for before in _note.SHARING_PREFIXES:
        if low.startswith(before, start, end):
            yield start + len(before)
