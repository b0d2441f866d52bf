"""The kallsyms tables inside a kernel, as scripts/kallsyms.c writes them.

No header gives their offsets. Each table is found by a property that other data does not have,
and by the tables next to it. They lie in this order::

    up to Linux 6.3   addresses   count   names   markers   tokens   index
    since 6.4                     count   names   markers   tokens   index   addresses

1. The tokens (``kallsyms_token_table``) are 256 strings, among them the ten digits in order.
   The index after them (``kallsyms_token_index``) has the offset of each string, 16 bits each.
2. The markers (``kallsyms_markers``) are the offsets of every 256th name. Each has 32 bits;
   before Linux kernel commit 80ffbaa5b1bd ("kallsyms: reduce size a little on 64-bit") (in
   v4.20) it has the size of a machine word. Linux 6.2 and 6.3 have another table,
   ``kallsyms_seqs_of_names``, between the markers and the tokens.
3. The names (``kallsyms_names``) end where the markers start, and the count of the names
   (``kallsyms_num_syms``) is before them. A name is its length and that many tokens. The length
   is one byte; since Linux kernel commit 73bbb94466fd ("kallsyms: support "big" kernel
   symbols") (in v6.1) it can be a ULEB128 of two bytes. The tokens' strings together are the
   letter and the name::

       names    03 54 d1 e9                   a length of 3, and three tokens
       tokens   0x54 T   0xd1 do_   0xe9 one  so this is T do_one

4. The addresses lie before the count, and after the index since Linux kernel commit
   404bad70fcf7 ("scripts/kallsyms: change the output order") (in v6.4). They are

   - machine words;
   - or 32-bit offsets with the base after them, since Linux kernel commit 2213e9a66bb8
     ("kallsyms: add support for relative offsets in kallsyms address table") (in v4.6);
   - or 32-bit distances, each from its own entry in the table, since Linux kernel commit
     a081b5789255 ("kallsyms: Get rid of kallsyms relative base") (in v7.0). 32-bit kernels that
     are not relocatable have the addresses themselves.

The tables are accepted if every 256th name starts where its marker says, the names end where
the markers start, and the addresses ascend from the base.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np

from .._arrays import I64, U64
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .memory import address_of, moved_to, place_of, segments

if TYPE_CHECKING:
    from typing import Literal

    Order = Literal["little", "big"]


_DIGITS: Final = b"".join(bytes((digit, 0)) for digit in b"0123456789")
"""The ten digits as they are in the tokens.

Names have digits in them, so each digit is a token that stands for itself.
"""
_ZERO: Final = ord("0")
_TOKENS: Final = 256
_BLOCK: Final = 256
"""The number of names from one marker to the next."""
_FEWEST: Final = 16
"""The fewest names that are accepted if there is only one marker."""
_PADDING: Final = 16
"""The most bytes between two tables, for the alignment of the second one."""
_LONGEST: Final = 514
"""The most bytes of a name: KSYM_NAME_LEN, 512 since Linux 6.1, and two for its length."""
_MOST: Final = 1 << 21
"""The most names that are accepted; kernels have up to 300,000."""
_WINDOW: Final = 1 << 23
"""The most bytes from the start of the markers to the tokens.

kallsyms_seqs_of_names, which can lie between them, has three bytes for each name.
"""
_PART: Final = 1 << 16
"""The number of names that are spelled at once, since that takes many times their size."""
_FARTHEST: Final = 1 << 29
"""The most bytes from one address of a kernel to another."""
_FEW_TRIES: Final = 1 << 16
"""The most candidates that are examined for tables with only one marker."""
_TABLE: Final = 64
"""The number of candidates that takes as long as the search before one table of tokens."""
_TRIES: Final = 4096
"""The most candidates that are examined; a file made to mislead could have millions."""


class KallsymsTables(NamedTuple):
    """The symbols in the tables, in their order.

    ``names`` has each symbol's letter and name in one string (``Tdo_one``). ``order`` is the
    machine's byte order, ``bits`` the number of bits of its words.
    """

    address: U64
    bits: int
    names: list[bytes]
    order: Order


class MissingError(Exception):
    """A kernel without kallsyms tables. The message says what was found and what is missing."""


class _Tokens(NamedTuple):
    """The token table and its index.

    ``start`` is the offset of the table, ``end`` the end of the index. ``strings`` are the
    tokens, ``order`` is the byte order of the index.
    """

    start: int
    end: int
    strings: list[bytes]
    order: Order

    def aligned(self, at: int, size: int) -> int:
        """Return the first offset from ``at`` on that is a multiple of ``size`` from ``start``.

        The tables are aligned in memory. Their offsets in the file need not be, but their
        distances from each other are.
        """
        return at + (self.start - at) % size

    def words(self, data: bytes, start: int, count: int, size: int) -> U64:
        """Return the ``count`` unsigned words of ``size`` bytes at ``start``."""
        kind = f"{'<' if self.order == 'little' else '>'}u{size}"
        return np.frombuffer(data, kind, count, start).astype(np.uint64)


class _Names(NamedTuple):
    """The table of names, at the offset ``start``.

    ``at`` has for each name the offset of its first token, ``length`` the number of its tokens.
    ``counted`` is the offset of the count. ``bits`` is the number of bits of a word, by the
    distance between the count and the names; since Linux 7.0 that is no evidence.
    """

    start: int
    at: I64
    length: I64
    counted: int
    bits: int


class _Budget:
    """The number of candidates that may still be examined."""

    def __init__(self) -> None:
        self.left = _TRIES
        self.few = _FEW_TRIES
        """The same for tables with only one marker, for which there are more candidates."""

    def allows(self, places: int = 1) -> bool:
        """Count ``places`` candidates with one marker; return False if there were too many."""
        self.few -= places
        return self.few >= 0

    def spend(self, places: int = 1) -> None:
        """Count one candidate, or work that takes as long as ``places`` of them.

        Raises:
            MissingError: there were too many.
        """
        self.left -= places
        if self.left < 0:
            raise MissingError(f"{_TRIES} places in it look like kallsyms' tables and are none")


def find_tables(data: bytes) -> KallsymsTables:
    """Return the symbols in the kallsyms tables of a kernel.

    Args:
        data: the kernel as it lies in memory, or as an ELF file.

    Raises:
        MissingError: there are no tables, or none that are consistent.
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
    """Return True if each of ``names`` is a letter of nm, and a name that fits into a line."""
    letters = {name[:1] for name in names}
    whole = all(letter.isalpha() or letter in (b"?", b"-") for letter in letters)
    return whole and min(map(len, names)) > 1 and not _BREAKS.search(b"".join(names))


_BREAKS: Final = re.compile(rb"[\0\t\n]")
"""The bytes that end a name in a kallsyms text."""


def _tokens(data: bytes, budget: _Budget) -> Iterator[_Tokens]:
    """Yield the token tables of ``data``: those with a valid index after them.

    The search is for the ten digits, which start with the token 0x30. From there to the end of
    the table are 208 strings, whose offsets must be in the index (:func:`_indexed`).
    """
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
    """Return the token table whose index is at ``at``; None if no valid index is there.

    ``begins`` has the offsets of the tokens from "0" on, and ``end`` is the table's end. The
    index is valid if it has these offsets, counted from the table's start, and if the tokens
    before "0" are where it says::

        index[0x30]   0x16c            "0" is at byte 0x5316c of the file,
        start         0x53000          so the table starts here
    """
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
    """Return the names before ``tokens``, found by their markers; None if there are none.

    For each candidate for markers, all words before it are tried as the count that could be the
    right one for so many markers, the last word first.
    """
    for at, markers, size in chain(_markers(data, tokens), _only_marker(data, tokens, budget)):
        blocks, last = len(markers), int(markers[-1])
        low = tokens.aligned(max(at - last - _BLOCK * _LONGEST - 2 * _PADDING, 0), 4)
        counts = tokens.words(data, low, max((at - last - low) // 4, 0), 4)
        fits = (counts > (blocks - 1) * _BLOCK) & (counts <= blocks * _BLOCK)
        # One marker says little, so the number of bytes up to it must fit the count too.
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
                # Between them is padding, or the upper half of a word: zeros.
                if data[here + 4 : start].strip(b"\0"):
                    continue
                for big in (True, False):
                    walked = _walked(data, start, markers, count, at, big)
                    if walked is not None:
                        return _Names(start, *walked, counted, bits)
    return None


def _only_marker(
    data: bytes, tokens: _Tokens, budget: _Budget
) -> Iterator[tuple[int, I64, int]]:
    """Yield the candidates for the only marker of a kernel with at most 256 names.

    This marker is a zero, which says little, so everything between the count and it must be
    names. It lies before the tokens; in Linux 6.2 and 6.3 kallsyms_seqs_of_names, with three
    bytes for each name, is in between. The items are as in :func:`_markers`.
    """
    for seqs in (0, *range(_FEWEST, _BLOCK + 1)):
        for align, size in ((4, 4), (8, 4), (8, 8)):
            at = tokens.start - 3 * seqs - -3 * seqs % align - align
            if at > 0 and data[at : at + align] == bytes(align) and budget.allows(_TABLE):
                yield at, np.zeros(1, np.int64), size


def _arrangements(count: int, marker: int, order: Order) -> tuple[tuple[int, int, int], ...]:
    """Return the possible layouts of the count and the names after it.

    Tables are aligned to machine words. The count has 32 bits; before Linux 4.20 it is a word,
    as the markers are. Since 7.0 tables are aligned to 32 bits on all machines (a081b5789255)::

        32-bit machine, or since 7.0   | count | names ...
        64-bit machine                 | count | padding | names ...
        the same before 4.20           |      count      | names ...

    Args:
        count: the offset of the lower 32 bits of the count.
        marker: the size of a marker in bytes, 4 or 8.
        order: the machine's byte order.

    Returns:
        For each layout: the offset of the names, the offset of the count, the bits of a word.
    """
    if marker == 8:
        begin = count if order == "little" else count - 4
        return ((begin + 8, begin, 64),)
    return ((count + 4, count, 32), (count + 8, count, 64))


def _markers(data: bytes, tokens: _Tokens) -> Iterator[tuple[int, I64, int]]:
    """Yield candidates for markers: the offset, the values, and the size of each in bytes.

    Markers start with a zero, and ascend by the size of 256 names each. The longest runs of
    such words come first.
    """
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
            # The word after the markers can look like one more marker.
            for count in (len(found), len(found) - 1):
                if 2 <= count <= _MOST // _BLOCK:
                    yield at, found[:count], size


_FEW: Final = 16
"""The most runs of words of one size that are tried as markers."""


def _walked(
    data: bytes, start: int, markers: I64, count: int, end: int, big: bool
) -> tuple[I64, I64] | None:
    """Return the offset and the number of each name's tokens; None if the markers disagree.

    All blocks of 256 names are read at once: each step reads one name of each block. At the end
    each block must have come to the start of the next one::

        step 0     name 0      name 256    name 512
        step 1     name 1      name 257    name 513, the last: here the names end
        ...
        step 255   name 255    name 511    (not a name)

    Args:
        data: the kernel.
        start: the offset of the first name.
        markers: the offset of every 256th name, from ``start``.
        count: the number of names.
        end: the offset of the markers, up to which the names reach.
        big: True if a length can have two bytes.
    """
    if start + int(markers[-1]) >= end:
        return None

    # The first block alone, which refuses most wrong starts in a short time.
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
    """Return the size in bytes of the ``count`` names at ``start``.

    If one of them has no length, or all have more than ``most`` bytes, the result is more than
    ``most``. ``big`` is True if a length can have two bytes.
    """
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
    """Return the address of each name and its number of bits; None if none are found.

    The addresses are before the count of the names, or after the index of the tokens. All three
    forms are tried in turn. For the last, since Linux 7.0, ``names.bits`` is no evidence of the
    machine's word.
    """
    count = len(names.at)
    word = names.bits // 8

    # Offsets of 32 bits, and the base after them.
    before, behind = names.counted - word, tokens.aligned(tokens.end, word)
    room = 4 * count + -4 * count % word
    for start in (before - room, behind):
        if start >= 0 and start + room + word <= len(data):
            found = _based(data, tokens, start, start + room, count, word)
            if found is not None:
                return found, names.bits

    # Words.
    for start in (names.counted - word * count, behind):
        if start >= 0 and start + word * count <= len(data):
            found = tokens.words(data, start, count, word)
            if _ascends(found) and _are_addresses(data, tokens, found, 8 * word):
                return found, names.bits

    # Distances of 32 bits.
    start = tokens.aligned(tokens.end, 4)
    if start + 4 * count <= len(data):
        return _from_places(data, tokens, start, count)
    return None


def _are_addresses(data: bytes, tokens: _Tokens, found: U64, bits: int) -> bool:
    """Return True if the words ``found`` are addresses, and not distances that ascend too.

    They are if the middle one is in the kernel. If the kernel's segments are not known, 32-bit
    words that are near to 0, from above or below, are taken to be distances.
    """
    middle = int(found[len(found) // 2])
    if parts := segments(data, tokens.order, bits):
        return place_of(parts, middle) is not None
    return bits == 64 or _FARTHEST <= middle < (1 << 32) - _FARTHEST


def _based(
    data: bytes, tokens: _Tokens, offsets: int, base: int, count: int, word: int
) -> U64 | None:
    """Return the addresses for a table of 32-bit offsets; None if it is not such a table.

    Without KALLSYMS_ABSOLUTE_PERCPU an address is the base and the offset. With it, which no
    kernel since 6.15 has (01157ddc58dc), an offset of 0 or more is the address itself, and a
    negative one counts down from -1, which is the base::

        offset            0x4000         -1      -0x1001
        address           0x4000         base    base + 0x1000

    Args:
        data: the kernel.
        tokens: the tokens, for the byte order.
        offsets: the offset of the table in ``data``.
        base: the offset of the base in ``data``.
        count: the number of addresses.
        word: the size of the base in bytes.
    """
    signed = _signed(data, tokens, offsets, count)
    absolute = signed >= 0
    if absolute.all():
        absolute, distance = np.zeros(count, np.bool_), signed
    else:
        distance = np.where(absolute, 0, -1 - signed)
    if distance[~absolute].min():  # the base is the lowest address
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
    """Return the addresses for a table of 32-bit distances, and their number of bits.

    Each distance is counted from the address of its own entry::

        entry at   0x82000000      0x82000004      0x82000008
        distance   -0x1000000      -0xffff04       -0xfffee8
        address    0x81000000      0x81000100      0x81000120

    None if it is not such a table. The first symbol must be in the kernel, before the table.
    One number over and over, such as zero, would give ascending addresses too, so it is
    refused.
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
    """Return the ``count`` signed 32-bit words at ``start``."""
    return tokens.words(data, start, count, 4).astype(np.uint32).view(np.int32).astype(np.int64)


def _ascends(address: U64) -> bool:
    """Return True if the addresses ascend, and more than a quarter of them are different."""
    if (address[1:] < address[:-1]).any():
        return False
    return int(np.count_nonzero(address[1:] != address[:-1])) > len(address) // 4


def _spelled(data: bytes, tokens: _Tokens, names: _Names) -> list[bytes]:
    """Return the letter and name of each symbol, in one string."""
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
    """Return the numbers from each of ``start`` on, as many as ``length`` says, in one array.

    For starts 5 and 20, and lengths 2 and 3, they are 5, 6, 20, 21, 22.
    """
    before = np.cumsum(length) - length
    return np.repeat(start - before, length) + np.arange(int(length.sum()))
