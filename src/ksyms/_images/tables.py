"""The kallsyms tables inside a kernel, as scripts/kallsyms.c lays them out.

Nothing says where one lies. They are found by what holds of them and of nothing else, the one
by the other:

- ``kallsyms_token_table``: 256 strings, among them the digits one after the other; and
  ``kallsyms_token_index`` behind it, which has where each begins (16 bits each).
- ``kallsyms_markers`` before the tokens: where each 256th name begins; 32 bits each, and the
  machine's word before 4.20 (80ffbaa5b1bd, "kallsyms: reduce size a little on 64-bit"). Between
  the two 6.2 and 6.3 have ``kallsyms_seqs_of_names``.
- ``kallsyms_names`` before the markers, and their count before the names. A name has its
  length, one byte or since 6.1 (73bbb94466fd, "kallsyms: support "big" kernel symbols") a
  ULEB128 of two, and so many tokens; the first byte of what they stand for is the letter.
- The addresses: before the count until 6.3, behind the index since 6.4 (404bad70fcf7,
  "scripts/kallsyms: change the output order"). They are words, or since 4.6 (2213e9a66bb8,
  "kallsyms: add support for relative offsets in kallsyms address table") 32 bits each with a
  base behind them, or since 7.0 (a081b5789255, "kallsyms: Get rid of kallsyms relative base")
  32 bits each, the distance from its own place, or of 32-bit kernels that are not relocatable
  the address.

What is found is believed when every name begins where the markers say, the names end where the
markers begin, and the addresses ascend from the base on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .memory import address_of, moved_to, place_of, segments

if TYPE_CHECKING:
    from typing import Literal

    Order = Literal["little", "big"]

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_DIGITS: Final = b"".join(bytes((digit, 0)) for digit in b"0123456789")
"""Digits are in names, so they stand for themselves."""
_ZERO: Final = ord("0")
_TOKENS: Final = 256
_BLOCK: Final = 256
"""Names a marker."""
_FEWEST: Final = 16
"""Names that are believed where one marker has to do."""
_PADDING: Final = 16
"""Bytes that a table's alignment adds at most."""
_LONGEST: Final = 514
"""Bytes of the longest name: KSYM_NAME_LEN is 512 since 6.1, and its length two."""
_MOST: Final = 1 << 21
"""Names that are believed: kernels have up to 300,000."""
_WINDOW: Final = 1 << 23
"""Bytes before the tokens in which the markers begin: seqs_of_names has three a name."""
_PART: Final = 1 << 16
"""Names that are spelled at a time: their bytes take many times their room meanwhile."""
_FARTHEST: Final = 1 << 29
"""Bytes that lie between two of a kernel's addresses at most."""
_FEW_TRIES: Final = 1 << 16
_TABLE: Final = 64
"""Places that take as long as what lies before one table of tokens."""
_TRIES: Final = 4096
"""Places that are looked at more than once, so that what is made to mislead takes no longer."""


class KallsymsTables(NamedTuple):
    """The symbols in the tables: of each its address, and its letter and name in one.

    ``order`` is the machine's byte order, ``bits`` those of its words.
    """

    address: U64
    bits: int
    names: list[bytes]
    order: Order


class MissingError(Exception):
    """There are no such tables; in words what was found and what was not."""


class _Tokens(NamedTuple):
    """The token table from ``start``, and its index to ``end``."""

    start: int
    end: int
    strings: list[bytes]
    order: Order

    def aligned(self, at: int, size: int) -> int:
        """The first place from ``at`` on that is aligned as this table is."""
        return at + (self.start - at) % size

    def words(self, data: bytes, start: int, count: int, size: int) -> U64:
        """Return ``count`` unsigned words of ``size`` bytes."""
        kind = f"{'<' if self.order == 'little' else '>'}u{size}"
        return np.frombuffer(data, kind, count, start).astype(np.uint64)


class _Names(NamedTuple):
    """The names from ``start``; of each where its tokens are, and how many.

    ``counted`` is where the table with their count begins; ``bits`` are those of a word, by
    how the two are aligned where that tells.
    """

    start: int
    at: I64
    length: I64
    counted: int
    bits: int


class _Budget:
    """The number of places that may still be looked at."""

    def __init__(self) -> None:
        self.left = _TRIES
        self.few = _FEW_TRIES
        """The same of kernels of few names, of which more looks like one."""

    def allows(self, places: int = 1) -> bool:
        """Return True, and look at them, if so many are left of kernels of few names."""
        self.few -= places
        return self.few >= 0

    def spend(self, places: int = 1) -> None:
        """Look at one, or at what takes as long as so many.

        Raises:
            MissingError: there were too many.
        """
        self.left -= places
        if self.left < 0:
            raise MissingError(f"{_TRIES} places in it look like kallsyms' tables and are none")


def find_tables(data: bytes) -> KallsymsTables:
    """Find the tables in a kernel's ``data``.

    Args:
        data: the kernel as it lies in memory, or as an ELF file.

    Raises:
        MissingError: there are none, or none that hold.
    """
    budget, found = _Budget(), list[str]()
    for tokens in _tokens(data, budget):
        budget.spend(_TABLE)
        where = f"kallsyms' tokens at byte {tokens.start:#x}"
        names = _names(data, tokens, budget)
        if names is None:
            found.append(f"it has {where} and no names before them that its markers agree with")
            continue
        where += f" and {len(names.at)} names at {names.start:#x}"
        address = _addresses(data, tokens, names)
        if address is None:
            found.append(f"it has {where}, and no addresses that ascend")
            continue
        spelled = _spelled(data, tokens, names)
        if not _are_symbols(spelled):
            found.append(f"it has {where}, and not all of them are symbols")
            continue
        return KallsymsTables(*address, spelled, tokens.order)
    raise MissingError(found[0] if found else "it has no kallsyms tokens")


def _are_symbols(names: list[bytes]) -> bool:
    """Return True if each is a letter of nm's and a name that a line of text can have."""
    letters = {name[:1] for name in names}
    whole = all(letter.isalpha() or letter in (b"?", b"-") for letter in letters)
    return whole and min(map(len, names)) > 1 and not _BREAKS.search(b"".join(names))


_BREAKS: Final = re.compile(rb"[\0\t\n]")


def _tokens(data: bytes, budget: _Budget) -> Iterator[_Tokens]:
    """The token tables of ``data`` whose index has where each token begins."""
    at = -1
    while (at := data.find(_DIGITS, at + 1)) >= 0:
        budget.spend()
        begins, end = list[int](), at
        while end and len(begins) < _TOKENS - _ZERO:
            begins.append(end)
            end = data.find(b"\0", end, end + _LONGEST) + 1
        for place in range(end, min(end + _PADDING, len(data) - 2 * _TOKENS + 1) if end else 0):
            for order in ("little", "big"):
                found = _indexed(data, begins, end, place, order)
                if found is not None:
                    yield found


def _indexed(data: bytes, begins: list[int], end: int, at: int, order: Order) -> _Tokens | None:
    """The tokens from "0" on begin at ``begins``; all of them, if the index is at ``at``."""
    kind = "<u2" if order == "little" else ">u2"
    index = np.frombuffer(data, kind, _TOKENS, at).astype(np.int64)
    start = begins[0] - int(index[_ZERO])
    if index[0] or start < 0 or (index[_ZERO:] + start != begins).any():
        return None
    strings = data[start : end - 1].split(b"\0")
    lengths = np.fromiter(map(len, strings), np.int64, len(strings)) + 1
    if len(strings) != _TOKENS or (np.cumsum(lengths)[:-1] != index[1:]).any():
        return None
    return _Tokens(start, at + 2 * _TOKENS, strings, order)


def _names(data: bytes, tokens: _Tokens, budget: _Budget) -> _Names | None:
    """The names whose markers lie before ``tokens``; None where there are none."""
    for at, markers, size in chain(_markers(data, tokens), _only_marker(data, tokens, budget)):
        blocks, last = len(markers), int(markers[-1])
        low = tokens.aligned(max(at - last - _BLOCK * _LONGEST - 2 * _PADDING, 0), 4)
        counts = tokens.words(data, low, max((at - last - low) // 4, 0), 4)
        fits = (counts > (blocks - 1) * _BLOCK) & (counts <= blocks * _BLOCK)
        if blocks == 1:
            room = at - low - 4 * np.arange(len(counts))
            fits &= (counts >= _FEWEST) & (room > 2 * counts) & (room < _LONGEST * counts)
        for place in np.flatnonzero(fits)[::-1].tolist():
            if blocks > 1:
                budget.spend()
            elif not budget.allows():
                break
            count, here = int(counts[place]), low + 4 * place
            for start, counted, bits in _arrangements(here, size, tokens.order):
                if counted < 0 or (size == 8 and tokens.words(data, counted, 1, 8)[0] != count):
                    continue
                if data[here + 4 : start].strip(b"\0"):  # padding, or the upper half of a word
                    continue
                for big in (True, False):
                    walked = _walked(data, start, markers, count, at, big)
                    if walked is not None:
                        return _Names(start, *walked, counted, bits)
    return None


def _only_marker(
    data: bytes, tokens: _Tokens, budget: _Budget
) -> Iterator[tuple[int, I64, int]]:
    """Yield the places of the one marker of a kernel of 256 names or fewer, a zero.

    That says little, so all that lies between the count and it must be names. It lies before
    the tokens, or in 6.2 and 6.3 before kallsyms_seqs_of_names, of three bytes a name.
    """
    for seqs in (0, *range(_FEWEST, _BLOCK + 1)):
        for align, size in ((4, 4), (8, 4), (8, 8)):
            at = tokens.start - 3 * seqs - -3 * seqs % align - align
            if at > 0 and data[at : at + align] == bytes(align) and budget.allows(_TABLE):
                yield at, np.zeros(1, np.int64), size


def _arrangements(count: int, marker: int, order: Order) -> tuple[tuple[int, int, int], ...]:
    """Return the beginnings of the names, and of the table with their number at ``count``.

    Before 4.20 it is a word, as the markers of ``marker`` bytes are; since it has 32 bits.
    Tables are aligned to a word; since 7.0 to 32 bits on all machines (a081b5789255).
    """
    if marker == 8:
        begin = count if order == "little" else count - 4
        return ((begin + 8, begin, 64),)
    return ((count + 4, count, 32), (count + 8, count, 64))


def _markers(data: bytes, tokens: _Tokens) -> Iterator[tuple[int, I64, int]]:
    """Yield candidates for markers: place, values, bytes of each; the longest first."""
    for size in (4, 8):
        low = tokens.aligned(max(tokens.start - _WINDOW, 0), size)
        words = tokens.words(data, low, max((tokens.start - low) // size, 0), size)
        if len(words) < 2:
            return
        step = words[1:] - words[:-1]
        ends = (step < 2 * _BLOCK) | (step > _LONGEST * _BLOCK)
        first = np.flatnonzero((words[:-1] == 0) & ~ends)
        stops = np.append(np.flatnonzero(ends), len(ends))
        stop = stops[np.searchsorted(stops, first)] + 1
        length = stop - first
        for one in np.argsort(-length, kind="stable")[:_FEW].tolist():
            found = words[first[one] : stop[one]].astype(np.int64)
            at = low + size * int(first[one])
            for count in (len(found), len(found) - 1):  # what follows can look like one more
                if 2 <= count <= _MOST // _BLOCK:
                    yield at, found[:count], size


_FEW: Final = 16
"""Runs of words that ascend as markers do, and may be none."""


def _walked(
    data: bytes, start: int, markers: I64, count: int, end: int, big: bool
) -> tuple[I64, I64] | None:
    """Return the place and number of each name's tokens; None if the markers disagree.

    Args:
        data: where the names are.
        start: where the first one is.
        markers: where each 256th is from there.
        count: how many they are.
        end: where the markers are, which is where the names end.
        big: whether a length can have two bytes.
    """
    if start + int(markers[-1]) >= end:
        return None
    first = int(markers[1]) if len(markers) > 1 else end - start
    found = _length(data, start, min(count, _BLOCK), first, big)
    if found != first and (len(markers) > 1 or not 0 <= first - found < _PADDING):
        return None
    source = np.frombuffer(data, np.uint8)
    blocks, last = len(markers), (count - 1) % _BLOCK
    at = np.empty((blocks, _BLOCK), np.int64)
    length = np.empty((blocks, _BLOCK), np.int64)
    place = start + markers
    for name in range(_BLOCK):
        place = np.minimum(place, len(source) - 2)
        size = source[place].astype(np.int64)
        two = (size > 127) & big
        size = np.where(two, (size & 127) | (source[place + 1].astype(np.int64) << 7), size)
        at[:, name] = place + 1 + two
        length[:, name] = size
        place = at[:, name] + size
        if name == last:
            stop = int(place[-1])
    if (place[:-1] != start + markers[1:]).any() or not 0 <= end - stop < _PADDING:
        return None
    lengths = length.ravel()[:count]
    if data[stop:end].strip(b"\0") or not lengths.all():
        return None
    return at.ravel()[:count], lengths


def _length(data: bytes, start: int, count: int, most: int, big: bool) -> int:
    """The bytes of ``count`` names from ``start`` on; more than ``most`` if they have more."""
    at, stop = start, start + most
    for _ in range(count):
        if at + 1 >= stop or not data[at]:
            return most + 1
        size = data[at]
        at += 1
        if big and size > 127:
            size = (size & 127) | data[at] << 7
            at += 1
        at += size
    return at - start


def _addresses(data: bytes, tokens: _Tokens, names: _Names) -> tuple[U64, int] | None:
    """The addresses, and their bits; they lie before the names' count or behind the tokens.

    Since 7.0 what aligns the tables is the same on all machines, and tells no bits.
    """
    count = len(names.at)
    word = names.bits // 8
    before, behind = names.counted - word, tokens.aligned(tokens.end, word)
    room = 4 * count + -4 * count % word
    for start in (before - room, behind):
        if start >= 0 and start + room + word <= len(data):
            found = _based(data, tokens, start, start + room, count, word)
            if found is not None:
                return found, names.bits
    for start in (names.counted - word * count, behind):
        if start >= 0 and start + word * count <= len(data):
            found = tokens.words(data, start, count, word)
            if _ascends(found) and _are_addresses(data, tokens, found, 8 * word):
                return found, names.bits
    start = tokens.aligned(tokens.end, 4)
    if start + 4 * count <= len(data):
        return _from_places(data, tokens, start, count)
    return None


def _are_addresses(data: bytes, tokens: _Tokens, found: U64, bits: int) -> bool:
    """Return True if the middle one is in the kernel, and so no distance from something.

    Where nothing says where the kernel lies, no kernel of 32 bits is believed to be as near to
    zero, or below it, as distances are.
    """
    middle = int(found[len(found) // 2])
    if parts := segments(data, tokens.order, bits):
        return place_of(parts, middle) is not None
    return bits == 64 or _FARTHEST <= middle < (1 << 32) - _FARTHEST


def _based(
    data: bytes, tokens: _Tokens, offsets: int, base: int, count: int, word: int
) -> U64 | None:
    """The addresses of 32 bits each at ``offsets``, from what is at ``base``; None if not so.

    With KALLSYMS_ABSOLUTE_PERCPU, which 6.15 has no more (01157ddc58dc), those that are not
    negative are the addresses themselves, and -1 is the base; else 0 is the base.
    """
    signed = _signed(data, tokens, offsets, count)
    absolute = signed >= 0
    if absolute.all():
        absolute, distance = np.zeros(count, np.bool_), signed
    else:
        distance = np.where(absolute, 0, -1 - signed)
    if distance[~absolute].min():
        return None
    start = int(tokens.words(data, base, 1, word)[0])
    if not start and word == 8:
        start = moved_to(data, tokens.order, base) or 0
    if not start or start + int(distance.max()) >= 1 << 8 * word:
        return None
    away = np.uint64(start) + distance.astype(np.uint64)
    found = np.where(absolute, signed.astype(np.uint64), away)
    return found if _ascends(found) else None


def _from_places(
    data: bytes, tokens: _Tokens, start: int, count: int
) -> tuple[U64, int] | None:
    """The addresses of 32 bits each from ``start`` on, each from its own place.

    The first is in the kernel, before this table. What is one number over and over, such as
    zeros, ascends too, and is no table.
    """
    words = _signed(data, tokens, start, count)
    if words[0] >= 0 or np.count_nonzero(words[1:] != words[:-1]) <= count // 4:
        return None
    signed = words + 4 * np.arange(count)
    if not _ascends((signed - signed[0]).astype(np.uint64)) or signed[0] > signed[-1]:
        return None
    for bits in (64, 32):
        parts = segments(data, tokens.order, bits)
        at = address_of(parts, start)
        if at is None or place_of(parts, at + int(signed[0])) is None:
            continue
        if at + int(signed[-1]) < 1 << bits:
            return np.uint64(at) + signed.astype(np.uint64), bits
    return None


def _signed(data: bytes, tokens: _Tokens, start: int, count: int) -> I64:
    """Return ``count`` signed words of 32 bits."""
    return tokens.words(data, start, count, 4).astype(np.uint32).view(np.int32).astype(np.int64)


def _ascends(address: U64) -> bool:
    """Return True if they are sorted, and not all of a few."""
    if (address[1:] < address[:-1]).any():
        return False
    return int(np.count_nonzero(address[1:] != address[:-1])) > len(address) // 4


def _spelled(data: bytes, tokens: _Tokens, names: _Names) -> list[bytes]:
    """The letter and name of each symbol."""
    source = np.frombuffer(data, np.uint8)
    size = np.fromiter(map(len, tokens.strings), np.int64, _TOKENS)
    begin = np.cumsum(size) - size
    letters = np.frombuffer(b"".join(tokens.strings), np.uint8)
    found: list[bytes] = []
    for part in range(0, len(names.at), _PART):
        at, length = names.at[part : part + _PART], names.length[part : part + _PART]
        token = source[_runs(at, length)]
        text = letters[_runs(begin[token], size[token])].tobytes()
        many = np.add.reduceat(size[token], np.cumsum(length) - length)
        stops = np.cumsum(many).tolist()
        found.extend(text[a:z] for a, z in zip([0, *stops], stops))
    return found


def _runs(start: I64, length: I64) -> I64:
    """The numbers from each of ``start`` on, ``length`` of them."""
    before = np.cumsum(length) - length
    return np.repeat(start - before, length) + np.arange(int(length.sum()))
