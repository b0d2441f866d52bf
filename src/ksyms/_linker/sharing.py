"""Names of the kernel's data that have no string of their own: another's has them in it.

A kernel has many of them again and again (Debian's 6.12 ``__func__.0`` 463 times), an exported
one behind ``__ksymtab_`` too, and one that a table of pointers is made of behind ``__``. Names
of code are not looked at: few are repeated, and ``__pfx_`` twins are found as they pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import _hashes
from .._memory import mapped
from .._note import BEFORE, TWIN
from .._typing import Final, NamedTuple
from . import windows as win
from .windows import U8, U64, Index, Mask

U32 = npt.NDArray[np.uint32]

_BLOCK: Final = 1 << 13
"""Lines that are looked at together: few enough to stay in a cache."""
_IS_DATA: Final = bytes(letter not in b"tTwWiaA" for letter in range(256))
"""By letter, whether it is not of code, nor absolute: of these none is repeated."""
_PREFIXES: Final = tuple(before for before in BEFORE if before != TWIN)
"""What a name can have before another's in its string; the first that does counts."""
_WITHIN: Final = np.array([*map(len, _PREFIXES), 0, 0])
"""By a key's kind: how far from the begin of its line's string the key's name begins."""
_ALONE: Final = len(_PREFIXES)
"""The kind of a line's own name where no other line has its address; the next kind, else.

Of several names at one address, the one whose string comes first is kallsyms' first.
"""
_LINE: Final = 28
"""Bits of a line's number in a key; two more are of the kind, all above of the hash."""
_BITS: Final = np.uint64(_LINE + 2)


class _Guests(NamedTuple):
    """The name of ``line`` lies ``within`` bytes behind the begin of ``host``'s string."""

    line: Index
    host: Index
    within: Index


class Sharing:
    """Looks at names as they come, and has those that can lie in others' strings.

    In all calls ``address`` and ``letter`` are of the kernel's own lines so far, which are a
    text's first, ``name`` is where in ``strings`` the name of each line so far starts, and
    behind the names are ``win.SIZE`` bytes of anything.
    """

    def __init__(self) -> None:
        self._keys = [np.zeros(0, np.uint64)]
        # The first line's name tells where the file's strings begin.
        self._next = 1

    def look(
        self, address: U64, letter: U8, name: U32, strings: U8, least: int = _BLOCK
    ) -> None:
        """Look at lines that were not looked at, where there are at ``least`` so many."""
        # A line's address and name are told from those of the line behind.
        while (count := len(address) - 1 - self._next) >= least:
            lines = slice(self._next, self._next + min(count, _BLOCK))
            self._next = lines.stop
            self._keys += _keys(lines, address, letter, name, strings)

    def share(self, address: U64, letter: U8, name: U32, strings: U8) -> int:
        """Change ``name`` and ``strings``, with no gaps; gives the bytes of names left."""
        self.look(address, letter, name, strings, 1)
        if len(address) < 1 << _LINE and (address[1:] >= address[:-1]).all():
            guests = _guests(self._sorted(), name, strings)
            if len(guests.line):
                return _close(guests, name, strings)
        return len(strings) - win.SIZE

    def _sorted(self) -> U64:
        """All keys, ascending; of malloc's memory they would stay."""
        count = sum(map(len, self._keys))
        keys = np.frombuffer(mapped(8 * count or 1), np.uint64, count)
        np.concatenate(self._keys, out=keys)
        self._keys.clear()
        keys.sort()
        return keys


def _keys(lines: slice, address: U64, letter: U8, name: U32, strings: U8) -> list[U64]:
    """A key for each name that a string of data among ``lines`` has in it."""
    data = np.frombuffer(letter[lines].tobytes().translate(_IS_DATA), np.bool_)
    line = np.flatnonzero(data) + lines.start
    if not len(line):
        return []
    start, behind = name[line].astype(np.intp), name[line + 1].astype(np.intp)
    # Of a pair the second starts in the first one's string.
    own = (strings[start - 1] == 0) & (strings[behind - 1] == 0) & (behind > _hashes.SIZE)
    line, start, length = line[own], start[own], (behind - start - 1)[own]
    around = address[lines.start - 1 : lines.stop + 1]
    same = around[1:] == around[:-1]
    kind = np.where(same[:-1] | same[1:], _ALONE + 1, _ALONE)[line - lines.start]
    tail = _hashes.tails(strings)[start + length - _hashes.SIZE]
    keys = [_key(tail, length, kind, line)]
    words = np.ndarray(len(strings) - 7, "<u8", strings, 0, (1,))
    begin = words[start]
    for number, prefix in enumerate(_PREFIXES):
        some = np.flatnonzero(_same(begin, prefix[:8]))
        some = some[_same(words[start[some] + max(len(prefix) - 8, 0)], prefix[-8:])]
        begin[some] = 0  # a name has one prefix at most
        keys.append(_key(tail[some], length[some] - len(prefix), number, line[some]))
    return keys


def _key(tail: _hashes.Tails, length: Index, kind: Index | int, line: Index) -> U64:
    hashes = _hashes.hashes(tail, length) >> _BITS << _BITS
    hashes |= np.asarray(kind << _LINE | line).view(np.uint64)
    return hashes


def _same(words: U64, part: bytes) -> Mask:
    """Which begin with ``part``, of eight bytes at most."""
    mask = np.uint64((1 << 8 * len(part)) - 1)
    found: Mask = words & mask == np.uint64(int.from_bytes(part, "little"))
    return found


def _guests(keys: U64, name: U32, strings: U8) -> _Guests:
    """Which names lie in which others' strings; ``keys`` ascend."""
    firsts = range(0, max(len(keys) - 1, 1), _BLOCK)
    parts = [_same_names(keys, first, name, strings) for first in firsts]
    guests = _Guests(*map(np.concatenate, zip(*parts)))
    # No tails of tails: one string would be hundreds of names.
    is_guest = np.zeros(len(name), np.bool_)
    is_guest[guests.line] = True
    kept = ~is_guest[guests.host]
    return _Guests(*(column[kept] for column in guests))


def _same_names(keys: U64, first: int, name: U32, strings: U8) -> _Guests:
    """The guests among a block's keys behind the ``first``."""
    block = keys[first : first + _BLOCK + 1]
    same = block[1:][(block[1:] ^ block[:-1]) >> _BITS == 0]
    same = same[_place(same) >> _LINE == _ALONE]
    # The first key of a name is of the string that all are found in.
    best = keys[np.searchsorted(keys, same >> _BITS << _BITS)]
    line, host = (_place(which) & ((1 << _LINE) - 1) for which in (same, best))
    within = _WITHIN[_place(best) >> _LINE]
    start = name[line].astype(np.intp)
    alike = win.equal(
        win.windows(strings), name[host] + within, start, name[line + 1] - start
    )  # with the NUL: a host can begin with another name
    return _Guests(line[alike], host[alike], within[alike])


def _place(keys: U64) -> Index:
    """The kinds and lines in keys."""
    return (keys & ((np.uint64(1) << _BITS) - np.uint64(1))).view(np.intp)


def _close(guests: _Guests, name: U32, strings: U8) -> int:
    """Take the strings of guests out; gives how many bytes are left."""
    gone = np.zeros(len(name), np.bool_)
    gone[guests.line] = True
    first = int(guests.line.min())
    left = int(name[first])
    while first < len(name):
        last = min(first + _BLOCK, len(name))
        while last < len(name) and strings[name[last] - 1]:
            last += 1  # the second of a pair has no string of its own
        end = int(name[last]) if last < len(name) else len(strings) - win.SIZE
        start = name[first:last].astype(np.intp)
        own = strings[start - 1] == 0
        room = np.zeros_like(start)
        room[own] = np.diff(start[own], append=end)
        kept = np.flatnonzero(own & ~gone[first:last])
        closed = np.cumsum(np.where(gone[first:last], room, 0))
        name[first:last] = start - closed - (start[0] - left)
        size = end - int(start[0]) - int(closed[-1])
        # Not where they are to be at once: a long name is copied in several pieces.
        moved = np.empty(size + win.SIZE, np.uint8)
        offsets = (start - start[0] - closed)[kept]
        win.copy(win.windows(strings), start[kept], room[kept], win.windows(moved), offsets)
        strings[left : left + size] = moved[:size]
        first, left = last, left + size
    name[guests.line] = name[guests.host] + guests.within
    return left
