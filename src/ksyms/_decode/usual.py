r"""Decode the usual frames of a block all at once, with numpy.

A frame is usual if its address stands alone, or beside the right name in a common form:

    RBX: ffffffff81200a2e RCX: 0000000000000001           alone
     [<ffffffff81200a2e>] ? 0xffffffff81200a2e            alone, both
    ffffffff81200a2e [unknown] ([kernel.kallsyms])        alone: perf script found no name
    [<ffffffff81200a2e>] ? vfs_open+0x2e/0xf0             the name is after it
    ffffffff81200a2e vfs_open+0x2e ([kernel.kallsyms])    the name is after it, without a size
     => vfs_open+0x2e/0xf0 <ffffffff81200a2e>             the name is before it

The result is the same as by the table of forms (:mod:`.forms`), which is slower. A line with
any other frame is left to that table: with a wrong name, another form, a name without an
address, or an address in no symbol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from . import forms
from .words import Labels, Words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._arrays import U8, Index, Mask
    from .._symbols.spans import U64
    from .belief import Key
    from .boot import Boot
    from .names import SymbolNames

_DIGITS: Final = 16
UNKNOWN: Final = b" [unknown]"
"""The annotation of perf script for an unknown name."""
NOT_IN: Final = (*forms.LONG, *forms.TWICE, b"\\")
"""A block with one of these has no usual frames: it can have a form that depends on the frames
around it, or escapes.
"""
_LOWER: Final = b"0123456789abcdef"
_WORD: Final = _LOWER + b"ghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"


def _is_one_of(characters: bytes) -> Mask:
    """Return a table by byte that is True for these characters."""
    found = np.zeros(256, np.bool_)
    found[np.frombuffer(characters, np.uint8)] = True
    return found


_IS_WORD: Final = _is_one_of(_WORD)
_IS_LOWER: Final = _is_one_of(_LOWER)
_VALUES: Final = np.full(256, 0x80, np.uint8)
"""The values of lower-case digits; 0x10 for those in capitals, more for other characters."""
_VALUES[np.frombuffer(b"ABCDEF", np.uint8)] = 0x10
_VALUES[np.frombuffer(_LOWER, np.uint8)] = np.arange(16)
_CLOSING: Final = frozenset((b">", b"]", b")"))
_CLOSES: Final = _is_one_of(b"".join(_CLOSING)).astype(np.int64)
_ENDS_ALONE: Final = ~_is_one_of(_WORD + forms.BEHIND)
"""True for the characters after an address that show that it stands alone."""
_OPENS: Final = np.zeros((256, 256), np.bool_)
"""True for the pairs of characters between a name and an address after it."""
for _opener in forms.OPENED - {b"0x"}:
    _OPENS[_opener[0], _opener[1]] = True
_REGISTER: Final = 6
"""Limit on the length of a register's name."""
_BLANK, _QUESTION, _SLASH, _PLUS, _LESS, _MORE, _BRACKET, _OPENED, _FEED = b" ?/+<>](\n"
_ENDS_NAME: Final = _is_one_of(b"\r\n\0")
"""True for the characters that show, after a name with its size, that it ends there."""


class Usual(NamedTuple):
    """The usual frames of a block, in columns with an item for each frame.

    Offsets in the block (intp):

    - ``begins``: the start of the address
    - ``ends``: the end of the address and its closing bracket
    - ``names``: the end of the right name after the address, or the start of that before it

    The symbol at the address:

    - ``addresses`` (uint64): the address as the text has it
    - ``numbers`` (int64): the symbol's number
    - ``offsets`` (uint64): the offset in the symbol in bytes

    Masks:

    - ``fits``: True if the right name is beside the address
    - ``before``: True if that name is before the address
    - ``sized``: True if that name has the size
    - ``unknown``: True if perf script's ``[unknown]`` is beside the address
    - ``inside``: True if the symbol is the kernel's own and not a module's

    ``left`` has the start and end of each line that is left to the table of forms.
    """

    begins: Index
    ends: Index
    names: Index
    addresses: U64
    offsets: U64
    numbers: Index
    fits: Mask
    before: Mask
    sized: Mask
    unknown: Mask
    inside: Mask
    left: list[tuple[int, int]]

    def of(self, rows: Mask) -> Usual:
        """Return only the frames for which ``rows`` is True."""
        columns: dict[str, Any] = self._asdict()
        del columns["left"]
        return self._replace(**{name: column[rows] for name, column in columns.items()})


class _AddressColumns(NamedTuple):
    """The addresses of a block: their offsets, True for a 0x before them, and their values.

    ``strange`` are the offsets of words that can be addresses but are not written as usual.
    """

    begins: Index
    prefixed: Mask
    values: U64
    strange: Index


class UsualFrames:
    """A finder of the usual frames in the blocks of a text.

    Args:
        names: the symbols, of a 64-bit kernel.
        first: the first digits of all its addresses.
    """

    def __init__(self, names: SymbolNames, first: bytes) -> None:
        self._first = first
        self._words = Words(names)

    def find(self, text: bytes, boot: Boot) -> Usual:
        """Find the usual frames of a block, which is from ``boot``.

        The block must have none of :data:`NOT_IN`.
        """
        # Look up all addresses.
        data = self._words.take_in(text)
        begins, prefixed, values, strange = self._addresses(data, len(text))
        numbers, offsets = self._words.locate(values - np.uint64(boot.slide % (1 << 64)))
        known = self._words.usual[numbers]
        if not boot.own:
            known &= self._words.kernel[numbers]

        # Find what is around each address:
        #   behind, ends    the offset after its digits, and that after its closing bracket
        #   asks, twice     True if " ? " follows, and if after that an address with 0x follows
        #   alone           True if no name can follow it
        #   opened          True if a name can be before it, by the two bytes before it
        behind = begins + _DIGITS
        ends = behind + _CLOSES[data[behind]]
        ends += (data[behind] == _MORE) & (data[behind + 1] == _BRACKET)
        asks = data[ends] == _BLANK
        asks &= (data[ends + 1] == _QUESTION) & (data[ends + 2] == _BLANK)
        twice = asks & np.append(prefixed[1:], False) & (np.append(begins[1:], 0) == ends + 5)
        alone = _ENDS_ALONE[data[ends]] | twice | _before_register(data, behind)
        unknown = _windows(data, len(UNKNOWN))[behind] == UNKNOWN
        opens = begins - 2 * prefixed
        opened = _OPENS[data[opens - 2], data[opens - 1]]

        # Compare the text after an address, or before it, with the name that belongs there.
        # ``signs`` are the offsets of the + in the right names, -1 without one.
        labels = self._words.labels(numbers, offsets)
        names, signs = ends.copy(), np.full(len(ends), -1)
        rows = np.flatnonzero(known & ~alone & ~unknown & (data[ends] == _BLANK))
        places = ends[rows] + 1 + 2 * asks[rows]
        names[rows], signs[rows] = self._behind(data, places, labels.of(rows))
        before = known & opened & alone & (data[behind] == _MORE) & (ends == behind + 1)
        rows = np.flatnonzero(before)
        names[rows], signs[rows] = self._before(data, begins[rows], labels.of(rows))

        fits = signs >= 0
        before &= fits
        sized = fits & (before | (names > signs + labels.hex_length))

        # Leave the lines with anything else: strange addresses, frames that are not usual, and
        # each + that is not in a right name.
        usual = known & (fits | unknown | (alone & ~opened))
        pluses = np.flatnonzero(data[: len(text)] == _PLUS)
        others = np.setdiff1d(pluses, signs[fits], assume_unique=True)
        left, is_left = _lines(data[: len(text)], [strange, begins[~usual], others], begins)
        masks = (fits, before, sized, unknown, self._words.kernel[numbers])
        whole = Usual(begins, ends, names, values, offsets, numbers, *masks, left)
        return whole.of(usual & ~is_left)

    def _addresses(self, data: U8, size: int) -> _AddressColumns:
        """Find the addresses in a text of ``size`` bytes, which zeros follow.

        No letter or digit may stand right before an address, except for 0x. If the byte before
        it can be the end of an escape, it is strange; so it is with capital digits.
        """
        stop = max(size - _DIGITS + 1, 0)
        found = data[:stop] == self._first[0]
        for number, digit in enumerate(self._first[1:], 1):
            found &= data[number : number + stop] == digit
        begins = np.flatnonzero(found)

        before = data[begins - 1]  # before the first byte this is a zero from the array's end
        alone = ~_IS_WORD[before] & (before != ord("@"))
        prefixed = (before == ord("x")) & (data[begins - 2] == ord("0"))
        prefixed &= ~_IS_WORD[data[begins - 3]]
        escaped = ~(alone | prefixed | _IS_LOWER[before]) | (data[begins - 4] == ord("#"))
        strange = begins[escaped]
        good = (alone | prefixed) & ~escaped
        begins, prefixed = begins[good], prefixed[good]

        # The highest value of the digits shows if there are capitals, or other characters.
        digits = _VALUES[_windows(data, _DIGITS)[begins].view(np.uint8).reshape(-1, _DIGITS)]
        worst, after = digits.max(axis=1, initial=0), data[begins + _DIGITS]
        odd = (worst < 0x80) & ((worst >= 0x10) | (after == ord("_")))
        strange = np.append(strange, begins[odd])

        good = (worst < 0x10) & ~_IS_WORD[after]
        digits = digits[good]
        values = (digits[:, ::2] << np.uint8(4) | digits[:, 1::2]).view(">u8").ravel()
        return _AddressColumns(begins[good], prefixed[good], values.astype(np.uint64), strange)

    def _behind(self, data: U8, places: Index, labels: Labels) -> tuple[Index, Index]:
        """Return the offsets of the ends of the names at ``places``, and of the + in them.

        If the text has another name than the label there, they are the place itself and -1.
        """
        words = self._words
        signs = places + labels.name_length
        stops = signs + labels.hex_length
        fits = words.equal(places, labels.name, labels.name_length)
        fits &= words.equal(signs, labels.hex, labels.hex_length)

        # If a size follows, it must be right too.
        sized = fits & (data[stops] == _SLASH)
        stops += np.where(sized, labels.tail_length, 0)
        rows = np.flatnonzero(sized)
        tail = labels.of(rows)
        fits[rows] = words.equal(stops[rows] - tail.tail_length, tail.tail, tail.tail_length)

        # The name must end there: with its line, or without a size before " (".
        ended = _ENDS_NAME[data[stops]]
        ended |= ~sized & (data[stops] == _BLANK) & (data[stops + 1] == _OPENED)
        fits &= ended
        return np.where(fits, stops, places), np.where(fits, signs, -1)

    def _before(self, data: U8, begins: Index, labels: Labels) -> tuple[Index, Index]:
        """Return the offsets at which the names before addresses begin, and of the + in them.

        The names must have their sizes. If the text has another name there, the latter is -1.
        """
        words = self._words
        tails = begins - len(" <") - labels.tail_length
        signs = tails - labels.hex_length
        names = signs - labels.name_length
        names[names < 0] = 0

        fits = (data[begins - 2] == _BLANK) & (data[begins - 1] == _LESS)
        fits &= data[names - 1] == _BLANK
        fits &= words.equal(names, labels.name, labels.name_length)
        fits &= words.equal(names + labels.name_length, labels.hex, labels.hex_length)
        ends = names + labels.name_length + labels.hex_length
        fits &= words.equal(ends, labels.tail, labels.tail_length)
        fits &= ends + labels.tail_length + len(" <") == begins  # False if ``names`` became 0
        return names, np.where(fits, signs, -1)

    def with_names(self, text: bytes, found: Usual) -> tuple[bytes, list[tuple[int, int]]]:
        """Return a block with names, and the start and end in it of each line that is left.

        ``found`` must be the result of the last call of :meth:`find`, for this block. Names
        that the block has already stay.
        """
        added = np.flatnonzero(~found.fits)
        if not len(added):
            return text, found.left
        unknown = found.unknown[added]
        labels = self._words.labels(found.numbers[added], found.offsets[added])
        labels = labels._replace(tail_length=labels.tail_length * ~unknown)
        places, cut = found.ends[added], unknown * len(UNKNOWN)
        out = self._words.inserted(text, places, cut, labels)

        # Each line that is left moves by the bytes that were inserted before it.
        longer = labels.name_length + labels.hex_length + labels.tail_length + 1 - cut
        moved = np.append(0, np.cumsum(longer))
        lines = np.array(found.left, np.int64).reshape(-1, 2)
        lines += moved[np.searchsorted(places, lines)]
        return out, [(begin, end) for begin, end in lines.tolist()]


def frame_hash(key: Key, digits: int) -> int:
    """Return a number for an address and the way in which its right name is written beside it.

    It is the address, combined with the character that closes it and the length of the
    annotation, which is negative for a name before the address.
    """
    rest = key[digits:]
    if rest.startswith(forms.BEFORE):
        rest = rest[len(forms.BEFORE) :]
        length = -len(rest)
    else:
        length = len(rest)
    sign = rest[0] if rest[:1] in _CLOSING else 0
    return (int(key[:digits], 16) << 24 ^ sign << 16 ^ length & 0xFFFF) % (1 << 64)


def frame_hashes(text: bytes, found: Usual) -> set[int]:
    """Return :func:`frame_hash` of all frames of a block that have the right name."""
    data = np.frombuffer(text, np.uint8)
    fits, before = found.fits, found.before[found.fits]
    begins, names = found.begins[fits], found.names[fits]
    behind = begins + _DIGITS
    sign = data[behind]
    ways = found.addresses[fits] << np.uint64(24)
    ways ^= (sign * _CLOSES[sign].astype(np.uint8)).astype(np.uint64) << np.uint64(16)
    # A key has "> NAME" for the text's "NAME <ADDRESS": both have two bytes besides the name.
    length = np.where(before, names - begins, names - behind)
    return set((ways ^ (length & 0xFFFF).astype(np.uint64)).tolist())


def _windows(data: U8, size: int) -> npt.NDArray[np.bytes_]:
    """Return a view with the ``size`` bytes that start at each byte of ``data``."""
    return np.ndarray((len(data) - size + 1,), f"S{size}", data, strides=(1,))


def _before_register(data: U8, places: Index) -> Mask:
    """Return True for the offsets that a blank, a register's name and ``: `` follow."""
    found: Mask = data[places] == _BLANK
    rows = np.flatnonzero(found)
    ahead = data[places[rows, None] + np.arange(1, _REGISTER + 3)]
    length = np.logical_and.accumulate(_IS_WORD[ahead], axis=1).sum(axis=1)
    known = (length > 0) & (length <= _REGISTER)
    length[~known] = 0
    each = np.arange(len(rows))
    known &= (ahead[each, length] == ord(":")) & (ahead[each, length + 1] == _BLANK)
    found[rows] = known
    return found


def _lines(data: U8, odd: Sequence[Index], places: Index) -> tuple[list[tuple[int, int]], Mask]:
    """Return the start and end of each line with an odd offset.

    Return also a mask of ``places``: True for those in such a line.
    """
    there = np.concatenate(odd)
    if not len(there):
        return [], np.zeros(len(places), np.bool_)
    feeds = np.flatnonzero(data == _FEED)
    numbers = np.unique(np.searchsorted(feeds, there))
    begins, ends = np.append(-1, feeds)[numbers] + 1, np.append(feeds, len(data))[numbers]
    is_odd = np.zeros(len(feeds) + 1, np.bool_)
    is_odd[numbers] = True
    lines = list(zip(begins.tolist(), ends.tolist()))
    return lines, is_odd[np.searchsorted(feeds, places)]
