r"""Functions that split, check and convert all lines of a block of kallsyms text at once.

kernel/kallsyms.c, s_show, prints one symbol a line (a tab and a bracket only for a module's)::

    ffffffffc02f82c0 t v9fs_mount\t[9p]\n
    |               | |         |     |
    starts          | names     |     ends
                    letter      name_ends
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import _byte_gather as byte_gather
from .._arrays import U8, U64, Index, Mask
from .._byte_gather import Windows
from .._typing import Final, NamedTuple
from .reader_thread import PAD

NEWLINE: Final = 10
TAB: Final = 9
SPACE: Final = 32
RETURN: Final = 13
OPENING: Final = ord("[")
CLOSING: Final = ord("]")

_IS_LETTER: Final = np.array(
    [(c < 128 and chr(c).isalpha()) or chr(c) in "?-" for c in range(256)]
)
_IS_DIGIT: Final = np.array([chr(c) in "0123456789abcdef" for c in range(256)])

_HEADS: Final = {
    digits: np.dtype(
        {
            "names": ["high", "low", "before", "letter", "after", "name", "first"][narrow:],
            "formats": ["<u8", "<u8", "u1", "u1", "u1", "u1", "<u8"][narrow:],
            "offsets": [0, *(digits + n for n in (-8, 0, 1, 2, 3, 3))][narrow:],
            "itemsize": byte_gather.WINDOW,
        }
    )
    for narrow, digits in enumerate((16, 8))
}
"""The dtype of the first bytes of a line, by the number of digits of its address.

``high`` and ``low`` are eight digits each, ``before`` and ``after`` the spaces around the
letter, ``name`` is the name's first byte and ``first`` its first eight::

    ffffffffc02f82c0 t v9fs_mount
    high    low     |||name
                    ||after
                    |letter
                    before
"""


def _digit_pairs() -> npt.NDArray[np.uint16]:
    """Return the table :data:`PAIRS`."""
    digit = np.full(256, 1 << 8, np.uint16)
    digit[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
    pairs: npt.NDArray[np.uint16] = digit << np.uint16(4) | digit[:, None]
    return pairs.ravel().astype("<u2")


PAIRS: Final = _digit_pairs()
"""The value of two hexadecimal digits, by their two bytes as a little-endian word.

``PAIRS[int.from_bytes(b"1f", "little")]`` is 0x1f. For other bytes the item has a bit set above
the lowest 8.
"""
_NO_PAIRS: Final = np.uint64(0xFF00FF00FF00FF00)
"""The bits that are set for other bytes, in four items of :data:`PAIRS` as one word."""


class Lines(NamedTuple):
    """The lines of a block.

    ``text`` (uint8) has PAD more bytes after the last line; ``windows`` are its windows. The
    other arrays have one item for each line: ``starts`` and ``ends`` are the offsets in
    ``text`` of its first byte and of its newline, ``names`` is the offset of its name, and
    ``heads`` has its first bytes with the dtype of :data:`_HEADS` for ``digits``.
    """

    text: U8
    windows: Windows
    starts: Index
    ends: Index
    names: Index
    heads: npt.NDArray[np.void]
    digits: int


def address_digits(text: U8) -> int:
    """Return the number of digits of the address in the first line: 8 or 16."""
    return 8 if len(text) > 8 and text[8] == SPACE else 16


def line_bounds(text: U8) -> tuple[Index, Index]:
    """Return the offsets of each line's first byte and of its newline."""
    ends = np.flatnonzero(text[:-PAD] == NEWLINE)
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    return starts, ends


def split_lines(text: U8, starts: Index, ends: Index, digits: int) -> Lines:
    """Return the lines of ``text``, whose bounds are those of :func:`line_bounds`."""
    windows = byte_gather.windows_of(text)
    heads = windows[starts].view(_HEADS[digits])
    names = starts + (digits + 3)  # the address, a space, the letter, a space
    return Lines(text, windows, starts, ends, names, heads, digits)


def parse_heads(lines: Lines) -> tuple[U64, Mask]:
    """Return the address of each line, and a mask of the lines with a malformed start."""
    heads = lines.heads
    bad = (lines.ends <= lines.names) | (heads["before"] != SPACE) | (heads["after"] != SPACE)
    bad |= ~_IS_LETTER[heads["letter"]]
    low = _parse_hexadecimal(heads["low"], bad)
    if lines.digits == 8:
        return low, bad

    # Nearly always all addresses of a block have the same upper half; then it is parsed once.
    high = heads["high"]
    upper = _parse_hexadecimal(high[:1] if (high == high[0]).all() else high, bad)
    return upper << np.uint64(32) | low, bad


def _parse_hexadecimal(digits: U64, bad: Mask) -> U64:
    """Return the values of words of eight digits; set ``bad`` for those with other bytes.

    For the digits ``81000010``::

        bytes                "81"     "00"     "00"     "10"
        pairs, lowest first  0x0081   0x0000   0x0000   0x0010
        joined by two        0x00008100        0x00000010
        joined by four       0x81000010
    """
    pairs = PAIRS.take(np.ascontiguousarray(digits).view("<u2"), mode="clip").view("<u8")
    bad |= (pairs & _NO_PAIRS) != 0
    for shift, mask in ((8, 0x0000FFFF0000FFFF), (16, 0xFFFFFFFF)):
        pairs = ((pairs << np.uint64(shift)) | (pairs >> np.uint64(2 * shift))) & np.uint64(
            mask
        )
    return pairs


def find_brackets(lines: Lines) -> tuple[Index, Mask] | None:
    """Return the end of each line's name, and a mask of the lines with a malformed bracket.

    None if no line has a bracket.
    """
    text, starts, ends = lines.text, lines.starts, lines.ends
    body = text[: ends[-1]]
    # Each line has two spaces and a newline, and body ends before the last newline: 3n - 1
    # bytes for n lines. A bracket has a tab before it. More such bytes are parts of names.
    extra = np.count_nonzero(body <= SPACE) - (3 * len(ends) - 1)
    if not extra:
        return None

    tabs = np.flatnonzero(body == TAB)
    rows = np.searchsorted(starts, tabs, "right") - 1
    name_ends = ends.copy()
    name_ends[rows] = tabs

    bad = np.zeros(len(ends), np.bool_)
    if extra != len(tabs):
        bad = _find_damage(lines, body, name_ends)
    bad[rows[1:][rows[1:] == rows[:-1]]] = True  # two tabs in one line
    bad[rows] |= (text[tabs + 1] != OPENING) | (text[ends[rows] - 1] != CLOSING)
    bad |= name_ends - starts <= lines.digits + 3
    bad[rows] |= ends[rows] - tabs < 4
    return name_ends, bad


def _find_damage(lines: Lines, body: U8, name_ends: Index) -> Mask:
    """Return a mask of the damaged lines of a block.

    It is called for a block with blanks or control characters in names. A name may have such
    bytes. These are signs of damage:

    - a NUL;
    - the end of an address (four digits are enough) and a letter within a line, where another
      line was spliced in: ``ffffffff81000000 T _te1000200 T do_one``;
    - a carriage return at the end of a line;
    - a bracket without a tab before it.
    """
    starts, ends = lines.starts, lines.ends
    last = body[ends - 1]
    bad: Mask = (last == RETURN) | ((last == CLOSING) & (name_ends == ends))
    bad[np.searchsorted(ends, np.flatnonzero(body == 0))] = True

    # One byte between two spaces. Each line has one, its letter; a second can be another's.
    space = body == SPACE
    gaps = np.flatnonzero(space[:-2] & space[2:] & ~space[1:-1])
    if len(gaps) > len(ends):
        rows = np.searchsorted(ends, gaps)
        spliced = (gaps - starts[rows] != lines.digits) & _IS_LETTER[body[gaps + 1]]
        for before in range(1, 5):
            spliced &= _IS_DIGIT[body[gaps - before]]
        bad[rows[spliced]] = True
    return bad


def bracket_changes(lines: Lines, name_ends: Index) -> Index:
    """Return the lines whose bracket differs from the line before, the first line included."""
    width = lines.ends - name_ends
    changed = np.ones(len(width), np.bool_)
    changed[1:] = width[1:] != width[:-1]
    same = np.flatnonzero(~changed & (width > 0))
    changed[same] = ~byte_gather.equal_strings(
        lines.windows, name_ends[same - 1], name_ends[same], width[same]
    )
    return np.flatnonzero(changed)


def find_tails(lines: Lines, length: Index, first: U64, prefix: bytes) -> Mask:
    """Return a mask of the names that equal the name before them without its ``prefix``.

    For the prefix ``__pfx_``, ``beta`` after ``__pfx_beta`` is such a name.

    Args:
        lines: the lines of a block.
        length: the length of each name.
        first: the first eight bytes of each name, as a little-endian word.
        prefix: six bytes.
    """
    names = lines.names
    tail = np.zeros(len(names), np.bool_)
    six_bytes = np.uint64((1 << 48) - 1)
    begins = first[:-1] & six_bytes == np.uint64(int.from_bytes(prefix, "little"))
    rows = np.flatnonzero(begins & (length[:-1] == length[1:] + len(prefix)))
    tail[rows + 1] = byte_gather.equal_strings(
        lines.windows, names[rows] + len(prefix), names[rows + 1], length[rows + 1]
    )
    return tail
