r"""The text of ``/proc/kallsyms`` as columns.

A line is ``ADDRESS LETTER NAME[\t[MODULE]]`` (kernel/kallsyms.c, s_show): the address in
8 or 16 lower-case hexadecimal digits, the letter that nm would print. numpy takes apart all
the lines of a block at once. A name may have any bytes but NUL, line feed and tab: gas calls
labels ``.L0 `` and ``.L1`` 0x02 ``5``. What is said otherwise and has one meaning
(respelled.py) is spelled anew, a block at a time, and only where a block is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .._errors import KallsymsError
from .._note import PFX_PREFIX
from .._typing import Final, NamedTuple
from . import windows as win
from .ahead import LONGEST, PAD, Block, ReadAhead, too_long
from .generation import Generation
from .marks import mapping_symbols
from .respelled import has_crlf, respelled
from .windows import U8, U64, Index, Mask, Windows

U32 = npt.NDArray[np.uint32]
D = TypeVar("D", np.uint8, np.uint32, np.uint64)

_LINES: Final = 1 << 17  # what there is room for at first

_NEWLINE: Final = 10
_TAB: Final = 9
_SPACE: Final = 32
_RETURN: Final = 13
_CLOSED: Final = ord("]")
_BEGINS_MARK: Final = np.array([chr(c) in "$.L" for c in range(256)])
"""By a name's first byte, whether it can be one that the kernel ignores (marks.py)."""
_IS_LETTER: Final = np.array(
    [(c < 128 and chr(c).isalpha()) or chr(c) in "?-" for c in range(256)]
)
_IS_DIGIT: Final = np.array([chr(c) in "0123456789abcdef" for c in range(256)])
_NO_OWNER: Final = re.compile(rb"[\0-\x20\[\]]")
"""What the name in a bracket never has."""
_HASHES: Final = 1 << 16
_NO_PAIRS: Final = np.uint64(0xFF00FF00FF00FF00)
"""The bits that are set where two bytes are no two digits, four times two bytes together."""

_LINE: Final = {
    digits: np.dtype(
        {
            "names": ["high", "low", "before", "letter", "behind", "name", "first"][narrow:],
            "formats": ["<u8", "<u8", "u1", "u1", "u1", "u1", "<u8"][narrow:],
            "offsets": [0, *(digits + n for n in (-8, 0, 1, 2, 3, 3))][narrow:],
            "itemsize": win.SIZE,
        }
    )
    for narrow, digits in enumerate((16, 8))
}
"""How a line begins, by its address' digits; ``first`` are the name's first eight bytes."""


def _pairs() -> npt.NDArray[np.uint16]:
    digit = np.full(256, 1 << 8, np.uint16)
    digit[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
    pairs: npt.NDArray[np.uint16] = digit << np.uint16(4) | digit[:, None]
    return pairs.ravel().astype("<u2")


_PAIRS: Final = _pairs()
"""The value of each two bytes that are digits (little-endian, as the words made of four)."""


class Kallsyms(NamedTuple):
    """The lines of one kallsyms text, in its order.

    ``address`` (uint64), ``letter`` (uint8) and ``name`` (uint32) have one item a line;
    ``name`` is an offset into ``strings`` (uint8), the names in the text's order, each with
    a NUL behind it; ``foo`` is the tail of ``__pfx_foo`` where the text has one right after
    the other. ``ignored`` are the lines
    that the kernel lists and that name nothing (marks.py), ascending.
    ``runs`` says which lines are whose: the first line of each run, and
    its bracketed name or None for the kernel's own. ``digits`` is the number of digits of an
    address, 8 or 16. ``landmarks`` has the addresses of those of the kernel's own symbols that
    the reader asked for by name.
    ``generation`` was taken before the first bracket was printed.
    """

    address: U64
    letter: U8
    name: U32
    strings: U8
    ignored: Index
    runs: tuple[tuple[int, str | None], ...]
    digits: int
    landmarks: dict[str, int]
    generation: Generation


def read_kallsyms(
    ahead: ReadAhead,
    landmarks: frozenset[str] = frozenset(),
    progress: Callable[[int], None] | None = None,
) -> Kallsyms:
    """Take a kallsyms text apart, to its end.

    Args:
        ahead: the text. The kernel's own symbols never move, so the moment that counts is
            when the first bracket is printed.
        landmarks: names to note the addresses of while the text passes.
        progress: called with the number of bytes each time some have been taken apart.

    Raises:
        SourceError: it cannot be read.
        KallsymsError: a line is not kallsyms, or the text ends within a line.
    """
    text = _Parser(ahead.path, landmarks).parse(ahead.blocks(), progress)
    if text is None:
        raise _empty(ahead)
    return text


class _Column(Generic[D]):
    """An array that grows at its end; ``room`` gives what to fill, ``filled`` what is.

    There are ``spare`` items more behind what is to be filled, which may be anything.
    """

    def __init__(self, dtype: type[D], capacity: int, spare: int = 0) -> None:
        self.items: npt.NDArray[D] = np.empty(capacity, dtype)
        self.length = 0
        self.spare = spare

    def room(self, count: int) -> npt.NDArray[D]:
        if self.length + count + self.spare > len(self.items):
            grown = np.empty(2 * (self.length + count) + self.spare, self.items.dtype)
            grown[: self.length] = self.filled
            self.items = grown
        self.length += count
        return self.items[self.length - count : self.length + self.spare]

    @property
    def filled(self) -> npt.NDArray[D]:
        return self.items[: self.length]


class _Parser:
    """What is known of a text so far; one for each text."""

    def __init__(self, path: str, landmarks: frozenset[str]) -> None:
        self.path = path
        self.landmarks: dict[str, int] = {}
        self.wanted = {name.encode() for name in landmarks}
        self.maybe = np.zeros(_HASHES, np.bool_)
        """Whether a name of that hash may be one of them."""
        for name in self.wanted:
            self.maybe[
                _hash(np.frombuffer(name[:4] + bytes(4), "<u8"), np.array([len(name)]))
            ] = True
        self.digits = 0
        self.crlf = False
        self.marks = [np.zeros(0, np.intp)]
        self.runs: list[tuple[int, str | None]] = []
        self.address = _Column(np.uint64, _LINES)
        self.letter = _Column(np.uint8, _LINES)
        self.name = _Column(np.uint32, _LINES)
        self.strings = _Column(np.uint8, 24 * _LINES, win.SIZE)

    @property
    def _own(self) -> bool:
        """Whether all lines so far are the kernel's own."""
        return len(self.runs) == 1 and self.runs[0][1] is None

    @property
    def lines(self) -> int:
        return self.address.length

    def parse(
        self, blocks: Iterator[Block], progress: Callable[[int], None] | None
    ) -> Kallsyms | None:
        """The text of these blocks; None where there are none."""
        generation: Generation | None = None
        for buffer, start, end, asked in blocks:
            self._take_block(np.frombuffer(buffer, np.uint8, end - start + PAD, start))
            if progress is not None:
                progress(end - start)
            if generation is None or self._own:
                # The kernel prints up to a page ahead of a block, and so of its answer: of
                # the block with the first bracket, the answer before is the good one.
                generation = asked
        if generation is None:
            return None
        return Kallsyms(
            self.address.filled,
            self.letter.filled,
            self.name.filled,
            self.strings.filled,
            self._ignored(),
            tuple(self.runs),
            self.digits,
            self.landmarks,
            generation,
        )

    def _ignored(self) -> Index:
        """The lines that name nothing, by their names and whose they are."""
        lines = np.concatenate(self.marks)
        first = np.array([start for start, _ in self.runs], np.intp)
        owned = np.array([owner is None for _, owner in self.runs], np.bool_)
        own = owned[np.searchsorted(first, lines, "right") - 1]
        name, strings = self.name.filled[lines], self.strings.filled
        ignored = np.zeros(len(lines), np.bool_)
        for kernel, some in ((True, own), (False, ~own)):
            ignored[some] = mapping_symbols(strings, name[some], kernel)
        return lines[ignored]

    def _take_block(self, text: U8) -> None:
        """Take a block apart; one that is refused a second time, as it is meant.

        Raises:
            KallsymsError: it has a line that is not kallsyms.
        """
        if not self.lines:
            self.crlf = has_crlf(text[:LONGEST].tobytes())
        refused: KallsymsError | None = None
        if not self.crlf:
            try:
                self._take(text)
                return
            except KallsymsError as error:
                refused = error
        plain = text[:-PAD].tobytes()
        meant = respelled(plain, self.crlf)
        if refused is not None and meant == plain:
            raise refused
        self._take(np.frombuffer(bytearray(meant) + bytes(PAD), np.uint8))

    def _take(self, text: U8) -> None:
        """Take apart whole lines; ``text`` has PAD bytes of anything after the last.

        Raises:
            KallsymsError: as :meth:`_take_block`; nothing has been taken then.
        """
        windows = win.windows(text)
        body = text[:-PAD]
        ends = np.flatnonzero(body == _NEWLINE)
        starts = np.empty_like(ends)
        starts[0] = 0
        np.add(ends[:-1], 1, out=starts[1:])
        if (ends - starts).max() > LONGEST:
            raise too_long(self.path)
        if not self.digits or not self.lines:
            self.digits = 8 if len(text) > 8 and text[8] == _SPACE else 16
        lines = windows[starts].view(_LINE[self.digits])
        names = starts + (self.digits + 3)  # the address, a space, the letter, a space
        letter = lines["letter"]
        bad = (ends <= names) | (lines["before"] != _SPACE) | (lines["behind"] != _SPACE)
        bad |= ~_IS_LETTER[letter]
        address = _addresses(lines, self.digits, bad)
        self._refuse(bad, text, starts, ends)

        name_ends, fresh = self._brackets(text, windows, starts, ends)
        length = name_ends - names
        first = lines["first"]
        if (maybe := _BEGINS_MARK.take(lines["name"])).any():
            self.marks.append(_marks(first, maybe) + self.lines)
        self._note(text, first, names, length, address)
        tail = _prefixed(windows, first, names, length)
        tail[fresh] = False  # a file's names lie in its own part of the strings
        tail[1:] &= ~tail[:-1]  # the tail of a tail is a string of its own
        text[name_ends] = 0
        room = length + 1
        offsets = np.cumsum(np.where(tail, 0, room))
        new = int(offsets[-1])
        offsets -= room  # of a tail too: it ends where the name before it does
        own = np.flatnonzero(~tail)
        there = win.windows(self.strings.room(new))
        win.copy(windows, names[own], room[own], there, offsets[own])
        offsets += self.strings.length - new
        self.letter.room(len(ends))[:] = letter
        self.name.room(len(ends))[:] = offsets
        self.address.room(len(ends))[:] = address

    def _note(self, text: U8, first: U64, names: Index, length: Index, address: U64) -> None:
        """Note the addresses of the landmarks among these lines; the first of a name counts."""
        maybe = self.maybe[_hash(first, length)]
        for line in np.flatnonzero(maybe).tolist():
            start, end = int(names[line]), int(names[line] + length[line])
            name = text[start:end].tobytes()
            if name in self.wanted and text[end] == _NEWLINE:
                self.landmarks.setdefault(name.decode(), int(address[line]))

    def _brackets(
        self, text: U8, windows: Windows, starts: Index, ends: Index
    ) -> tuple[Index, Index]:
        """Note the runs of lines of one bracket.

        Gives where each line's name ends, and which lines have another bracket than the
        line before; the first line has.
        """
        # A line's white space is two spaces, its newline, and a tab before a bracket.
        body = text[: ends[-1]]
        more = np.count_nonzero(body <= _SPACE) - (3 * len(ends) - 1)
        if not more:
            self._run(0, None)
            return ends, np.zeros(1, np.intp)
        tabs = np.flatnonzero(body == _TAB)
        lines = np.searchsorted(starts, tabs, "right") - 1
        name_ends = ends.copy()
        name_ends[lines] = tabs
        bad = np.zeros(len(ends), np.bool_)
        if more != len(tabs):
            bad = self._odd(body, starts, ends, name_ends)
        bad[lines[1:][lines[1:] == lines[:-1]]] = True  # two tabs in one line
        bad[lines] |= (text[tabs + 1] != ord("[")) | (text[ends[lines] - 1] != _CLOSED)
        bad |= name_ends - starts <= self.digits + 3
        bad[lines] |= ends[lines] - tabs < 4
        self._refuse(bad, text, starts, ends)

        width = ends - name_ends
        new = np.ones(len(ends), np.bool_)
        new[1:] = width[1:] != width[:-1]
        same = np.flatnonzero(~new & (width > 0))
        new[same] = ~win.equal(windows, name_ends[same - 1], name_ends[same], width[same])
        fresh = np.flatnonzero(new)
        owners = {}
        for line in fresh.tolist():
            raw = text[name_ends[line] + 2 : max(ends[line] - 1, 0)].tobytes()
            if _NO_OWNER.search(raw):
                self._refuse(np.arange(len(ends)) == line, text, starts, ends)
            owners[line] = raw.decode("utf-8", "surrogateescape") if width[line] else None
        for line, owner in owners.items():
            self._run(line, owner)
        return name_ends, fresh

    def _odd(self, body: U8, starts: Index, ends: Index, name_ends: Index) -> Mask:
        """Which lines are no lines of the kernel's, of a block with odd bytes in its names.

        Bytes that are odd are no reason. But these are what is left of a damaged text: a NUL;
        the end of an address (four digits are enough) and a letter, for a name of another line
        follows; a carriage return at the end; a bracket without a tab before it.
        """
        last = body[ends - 1]
        bad: Mask = (last == _RETURN) | ((last == _CLOSED) & (name_ends == ends))
        bad[np.searchsorted(ends, np.flatnonzero(body == 0))] = True
        space = body == _SPACE
        apart = np.flatnonzero(space[:-2] & space[2:] & ~space[1:-1])
        if len(apart) > len(ends):  # each line has one before its name
            lines = np.searchsorted(ends, apart)
            spliced = (apart - starts[lines] != self.digits) & _IS_LETTER[body[apart + 1]]
            for before in range(1, 5):
                spliced &= _IS_DIGIT[body[apart - before]]
            bad[lines[spliced]] = True
        return bad

    def _run(self, line: int, owner: str | None) -> None:
        if not self.runs or self.runs[-1][1] != owner:
            self.runs.append((self.lines + line, owner))

    def _refuse(self, bad: Mask, text: U8, starts: Index, ends: Index) -> None:
        if not bad.any():
            return
        line = int(np.argmax(bad))
        shown = text[starts[line] : min(ends[line], starts[line] + 60)].tobytes()
        raise KallsymsError(
            f"Line {self.lines + line + 1} of {self.path} is not kallsyms: {shown!r}.",
            "Save the whole of /proc/kallsyms with cat, and change nothing in it.",
        )


def _empty(ahead: ReadAhead) -> KallsymsError:
    """The error for a text of no bytes."""
    if ahead.live:
        return KallsymsError(
            f"{ahead.path} holds no symbols.", "Run a kernel that has CONFIG_KALLSYMS."
        )
    return KallsymsError(
        f"{ahead.path} holds no symbols: it was saved as an empty file.",
        "Save it with cat, or use ksyms collect: tar and copies by size store a file of /proc "
        "as empty, since its size there is 0.",
    )


def _addresses(lines: npt.NDArray[np.void], digits: int, bad: Mask) -> U64:
    """The address that each line begins with; marks in ``bad`` lines without one."""
    low = _hexadecimal(lines["low"], bad)
    if digits == 8:
        return low
    # Almost always all of a block begin alike.
    high = lines["high"]
    upper = _hexadecimal(high[:1] if (high == high[0]).all() else high, bad)
    return upper << np.uint64(32) | low


def _hexadecimal(digits: U64, bad: Mask) -> U64:
    """The values of words of eight digits each; marks in ``bad`` what are none."""
    pairs = _PAIRS.take(np.ascontiguousarray(digits).view("<u2"), mode="clip").view("<u8")
    bad |= (pairs & _NO_PAIRS) != 0
    for shift, mask in ((8, 0x0000FFFF0000FFFF), (16, 0xFFFFFFFF)):
        pairs = ((pairs << np.uint64(shift)) | (pairs >> np.uint64(2 * shift))) & np.uint64(
            mask
        )
    return pairs


def _prefixed(windows: Windows, first: U64, names: Index, length: Index) -> Mask:
    """Which names are the tail of a ``__pfx_`` name in the line before."""
    tail = np.zeros(len(names), np.bool_)
    six = np.uint64((1 << 48) - 1)
    prefix = np.uint64(int.from_bytes(PFX_PREFIX, "little"))
    at = np.flatnonzero(
        ((first[:-1] & six) == prefix) & (length[:-1] == length[1:] + len(PFX_PREFIX))
    )
    tail[at + 1] = win.equal(
        windows, names[at] + len(PFX_PREFIX), names[at + 1], length[at + 1]
    )
    return tail


def _marks(first: U64, maybe: Mask) -> Index:
    """Which of the names begin with ``$``, ``.L`` or ``L0``, of those that ``maybe`` do."""
    rows = np.flatnonzero(maybe)
    two = (first[rows] & np.uint64(0xFFFF)).astype("<u2").view("S2")
    found: Index = rows[(two == b".L") | (two == b"L0") | (two.astype("S1") == b"$")]
    return found


def _hash(first: U64, length: Index) -> U64:
    """A number below _HASHES for each name, by its length and its first four bytes."""
    key = (first << np.uint64(32)) + length.view(np.uint64)
    return (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)
