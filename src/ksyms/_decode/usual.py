r"""The usual frames of a block: numpy finds, locates and compares all of them at once.

A frame is usual if its address stands alone, or beside the right name in a form of many texts:

    RBX: ffffffff81200a2e RCX: 0000000000000001           alone
     [<ffffffff81200a2e>] ? 0xffffffff81200a2e            alone, both
    ffffffff81200a2e [unknown] ([kernel.kallsyms])        alone, for perf script knows no name
    [<ffffffff81200a2e>] ? vfs_open+0x2e/0xf0             the name is behind it
    ffffffff81200a2e vfs_open+0x2e ([kernel.kallsyms])    the name is behind it, without a size
     => vfs_open+0x2e/0xf0 <ffffffff81200a2e>             the name is before it

The table of forms would read these lines in the same way. All other lines are left to it: those
with a wrong name, another form, a name without an address, an address that is in no symbol.
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
"""A text with one of these has forms in which neighbouring frames, or escapes, count."""
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
"""True for characters behind an address that stands alone."""
_OPENS: Final = np.zeros((256, 256), np.bool_)
"""True for the two characters before an address that a name may stand before."""
for _opener in forms.OPENED - {b"0x"}:
    _OPENS[_opener[0], _opener[1]] = True
_REGISTER: Final = 6
"""Limit on the length of a register's name."""
_BLANK, _QUESTION, _SLASH, _PLUS, _LESS, _MORE, _BRACKET, _OPENED, _FEED = b" ?/+<>](\n"
_ENDS_NAME: Final = _is_one_of(b"\r\n\0")
"""True for characters behind which a name with its size ends for sure."""


class Usual(NamedTuple):
    """The usual frames of a block; each column has an item for each of them.

    ``begins`` (intp) are where the addresses begin in the block, ``ends`` where they and their
    closing brackets end, and ``names`` where a right name behind them ends, or one before them
    begins. ``addresses`` are
    the text's (uint64), ``offsets`` (uint64) are in bytes from the symbols of ``numbers``.
    ``fits`` is True if the right name is there, ``before`` if that is before the address, and
    ``sized`` if it has the size. ``unknown`` is True if perf script has ``[unknown]`` there.
    ``inside`` is True if the symbol is the kernel's, and not a module's.

    ``left`` are the start and the end of each line that is left to the table of forms.
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
        """Return the frames of these rows alone."""
        columns: dict[str, Any] = self._asdict()
        del columns["left"]
        return self._replace(**{name: column[rows] for name, column in columns.items()})


class _AddressColumns(NamedTuple):
    """The addresses of a block: where they begin, 0x before them, and their values.

    ``strange`` are the places of what may be addresses in another way.
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
        """Find the usual frames of a block without :data:`NOT_IN`, which is of ``boot``."""
        data = self._words.take_in(text)
        begins, prefixed, values, strange = self._addresses(data, len(text))
        numbers, offsets = self._words.locate(values - np.uint64(boot.slide % (1 << 64)))
        known = self._words.usual[numbers]
        if not boot.own:
            known &= self._words.kernel[numbers]

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
        usual = known & (fits | unknown | (alone & ~opened))
        pluses = np.flatnonzero(data[: len(text)] == _PLUS)
        others = np.setdiff1d(pluses, signs[fits], assume_unique=True)
        left, is_left = _lines(data[: len(text)], [strange, begins[~usual], others], begins)
        masks = (fits, before, sized, unknown, self._words.kernel[numbers])
        whole = Usual(begins, ends, names, values, offsets, numbers, *masks, left)
        return whole.of(usual & ~is_left)

    def _addresses(self, data: U8, size: int) -> _AddressColumns:
        """Find the addresses in a text of ``size`` bytes, which zeros follow.

        Right before one there is no letter or digit, but for 0x and escapes. What may end an
        escape makes it strange, as do capitals.
        """
        stop = max(size - _DIGITS + 1, 0)
        found = data[:stop] == self._first[0]
        for number, digit in enumerate(self._first[1:], 1):
            found &= data[number : number + stop] == digit
        begins = np.flatnonzero(found)

        before = data[begins - 1]  # before the first byte, it is a zero from the end
        alone = ~_IS_WORD[before] & (before != ord("@"))
        prefixed = (before == ord("x")) & (data[begins - 2] == ord("0"))
        prefixed &= ~_IS_WORD[data[begins - 3]]
        escaped = ~(alone | prefixed | _IS_LOWER[before]) | (data[begins - 4] == ord("#"))
        strange = begins[escaped]
        good = (alone | prefixed) & ~escaped
        begins, prefixed = begins[good], prefixed[good]

        digits = _VALUES[_windows(data, _DIGITS)[begins].view(np.uint8).reshape(-1, _DIGITS)]
        worst, after = digits.max(axis=1, initial=0), data[begins + _DIGITS]
        odd = (worst < 0x80) & ((worst >= 0x10) | (after == ord("_")))
        strange = np.append(strange, begins[odd])
        good = (worst < 0x10) & ~_IS_WORD[after]
        digits = digits[good]
        values = (digits[:, ::2] << np.uint8(4) | digits[:, 1::2]).view(">u8").ravel()
        return _AddressColumns(begins[good], prefixed[good], values.astype(np.uint64), strange)

    def _behind(self, data: U8, places: Index, labels: Labels) -> tuple[Index, Index]:
        """Return where the right names at ``places`` end, and where their + is.

        Where another name is, they are the place and -1.
        """
        words = self._words
        signs = places + labels.name_length
        stops = signs + labels.hex_length
        fits = words.equal(places, labels.name, labels.name_length)
        fits &= words.equal(signs, labels.hex, labels.hex_length)
        sized = fits & (data[stops] == _SLASH)
        stops += np.where(sized, labels.tail_length, 0)
        rows = np.flatnonzero(sized)
        tail = labels.of(rows)
        fits[rows] = words.equal(stops[rows] - tail.tail_length, tail.tail, tail.tail_length)
        ended = _ENDS_NAME[data[stops]]
        ended |= ~sized & (data[stops] == _BLANK) & (data[stops + 1] == _OPENED)
        fits &= ended
        return np.where(fits, stops, places), np.where(fits, signs, -1)

    def _before(self, data: U8, begins: Index, labels: Labels) -> tuple[Index, Index]:
        """Return where the right names with their sizes before addresses begin, and their +.

        Where another name is, the latter is -1.
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
        fits &= ends + labels.tail_length + len(" <") == begins
        return names, np.where(fits, signs, -1)

    def with_names(self, text: bytes, found: Usual) -> tuple[bytes, list[tuple[int, int]]]:
        """Return the block that was found last with names; those that it has already stay.

        And where the lines are in it that are left.
        """
        added = np.flatnonzero(~found.fits)
        if not len(added):
            return text, found.left
        unknown = found.unknown[added]
        labels = self._words.labels(found.numbers[added], found.offsets[added])
        labels = labels._replace(tail_length=labels.tail_length * ~unknown)
        places, cut = found.ends[added], unknown * len(UNKNOWN)
        out = self._words.inserted(text, places, cut, labels)
        longer = labels.name_length + labels.hex_length + labels.tail_length + 1 - cut
        moved = np.append(0, np.cumsum(longer))
        lines = np.array(found.left, np.int64).reshape(-1, 2)
        lines += moved[np.searchsorted(places, lines)]
        return out, [(begin, end) for begin, end in lines.tolist()]


def way_of(key: Key, digits: int) -> int:
    """Return a number for an address and the way in which its name is written beside it.

    It is of the address, what closes that, and the length of the name and what is before it.
    """
    rest = key[digits:]
    if rest.startswith(forms.BEFORE):
        rest = rest[len(forms.BEFORE) :]
        length = -len(rest)
    else:
        length = len(rest)
    sign = rest[0] if rest[:1] in _CLOSING else 0
    return (int(key[:digits], 16) << 24 ^ sign << 16 ^ length & 0xFFFF) % (1 << 64)


def ways_of(text: bytes, found: Usual) -> set[int]:
    """Return :func:`way_of` of all frames of a block that have the right name."""
    data = np.frombuffer(text, np.uint8)
    fits, before = found.fits, found.before[found.fits]
    begins, names = found.begins[fits], found.names[fits]
    behind = begins + _DIGITS
    sign = data[behind]
    ways = found.addresses[fits] << np.uint64(24)
    ways ^= (sign * _CLOSES[sign].astype(np.uint8)).astype(np.uint64) << np.uint64(16)
    # A name before its address has a blank and < behind it, and in a key > and a blank before.
    length = np.where(before, names - begins, names - behind)
    return set((ways ^ (length & 0xFFFF).astype(np.uint64)).tolist())


def _windows(data: U8, size: int) -> npt.NDArray[np.bytes_]:
    """Return the ``size`` bytes from each byte of ``data`` on."""
    return np.ndarray((len(data) - size + 1,), f"S{size}", data, strides=(1,))


def _before_register(data: U8, places: Index) -> Mask:
    """Return True for the places at which there are a blank, a register's name and ``: ``."""
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
    """Return the start and the end of the lines that have an odd place.

    And of ``places``, which are those in such lines.
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
