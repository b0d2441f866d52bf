"""Names that are near one that no symbol has: another case, another suffix, a slip."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from .. import _note
from .._typing import Final
from .table import SymbolTable

MOST: Final = 3
"""How many names are given."""
_SHORT: Final = 4
"""Characters that a name must have for one that differs by a character to be like it."""
_COMMON: Final = 3_000
"""How many places of a part of a name are looked at."""
_ALONE: Final = 8
"""Characters of a name whose halves can be too common to find it by."""
_LONGEST: Final = 512
"""Bytes of a name that is looked for."""
_BEFORE: Final = (b"\0", b"_")
_BEHIND: Final = (b"\0", b".", b"$")
"""What a :func:`core` can have before it, and behind it."""
_HIDDEN: Final = (b".l", b"$")
"""How names begin that the kernel gives no address (kernel/module/kallsyms.c)."""


def similar(table: SymbolTable, name: str) -> list[str]:
    """Names of ``table`` that are near ``name``, the nearest first; :data:`MOST` at most.

    Their :func:`core` is the same, or differs by one slip. That takes a few passes over the
    strings, and no index.
    """
    wanted, call = core(name.encode("utf-8", "replace").lower())
    if len(wanted) >= _LONGEST or not wanted.strip(b"_"):
        return []
    strings = bytes(table.strings)
    low = strings.lower()
    found = set()
    for begin, end in _names(low, wanted):
        own, own_call = core(low[begin:end])
        slip = own != wanted
        if slip and (own_call != call or not one_slip(own, wanted)):
            continue
        padding = low.startswith(_note.PFX_PREFIX, begin)
        found.add((slip, padding, abs(end - begin - len(name)), strings[begin:end]))
    names = (each[-1].decode("utf-8", "surrogateescape") for each in sorted(found))
    return list(
        islice((each for each in names if each.isprintable() and table.find(each)), MOST)
    )


def core(name: bytes) -> tuple[bytes, bool]:
    """What of a name in small letters tells it from others, and whether it is a system call's.

    Without what the compiler puts behind it (``.isra.0``, ``.constprop.0``, ``.llvm.123``), the
    underscores before it, and what a system call's function has there: ``sys_``, ``ksys_``,
    ``__x64_sys_`` (arch/x86/include/asm/syscall_wrapper.h) and those of other machines.
    """
    for mark in _BEHIND[1:]:
        end = name.find(mark, 1)
        name = name[:end] if end > 0 else name
    before, call, after = name.partition(b"sys_")
    wraps = before[:2] == b"__" and before[-1:] == b"_"
    if call and after and (wraps or before in (b"", b"k")):
        return after, True
    return name.lstrip(b"_") or name, False


def one_slip(one: bytes, other: bytes) -> bool:
    """Whether one character is another, missing or too many, or two neighbours are swapped.

    Of names too short to tell, never.
    """
    least = min(len(one), len(other))
    if abs(len(one) - len(other)) > 1 or least < _SHORT:
        return False
    first = next((at for at in range(least) if one[at] != other[at]), least)
    last = next((at for at in range(least - first) if one[-1 - at] != other[-1 - at]), least)
    mine = one[first : max(first, len(one) - last)]
    theirs = other[first : max(first, len(other) - last)]
    return max(len(mine), len(theirs)) <= 1 or (len(mine) == 2 and mine == theirs[::-1])


def _names(low: bytes, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Where those names begin and end that have a half of ``wanted`` where it would be.

    A slip leaves one half as it is; only two neighbours may be of both.
    """
    half = len(wanted) // 2
    swapped = wanted[: half - 1] + wanted[half - 1 : half + 1][::-1] + wanted[half + 1 :]
    parts = []
    if len(wanted) < _ALONE:
        parts += [mark + wanted + end for mark in _BEFORE for end in _BEHIND]
    if len(wanted) >= _SHORT:
        parts += [mark + start for start in (swapped, wanted[:half]) for mark in _BEFORE]
        parts += [wanted[half:] + end for end in _BEHIND]
    told = set()
    for part in parts:
        at, left = low.find(part), _COMMON
        while at >= 0 and left:
            start = low.rfind(b"\0", 0, at + 1) + 1
            end = low.find(b"\0", at + 1)
            if start not in told and 0 < end - start < _LONGEST:
                told.add(start)
                yield from ((begin, end) for begin in _begins(low, start, end))
            at, left = low.find(part, at + 1), left - 1


def _begins(low: bytes, start: int, end: int) -> Iterator[int]:
    """Where in a string names may begin: it can have others as its tails."""
    if low.startswith(_HIDDEN, start, end):
        return
    yield start
    for before in _note.SHARING_PREFIXES:
        if low.startswith(before, start, end):
            yield start + len(before)
