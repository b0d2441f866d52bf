r"""The text of ``/proc/kallsyms`` as columns.

numpy parses all the lines of a block at once (``kallsyms_lines.py``). A name may have any bytes
but NUL, line feed and tab: the assembler makes labels such as ``.L0 `` and ``.L1`` 0x02 ``5``.
Some kernels print lines in another spelling. ``respelled.py`` rewrites a block in the usual
spelling, but only after the block was refused as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _byte_gather as byte_gather
from .._arrays import U8, U32, U64, Index, Mask
from .._errors import KallsymsError
from .._note import PFX_PREFIX
from .._typing import Final, NamedTuple
from .generation import Generation
from .kallsyms_lines import (
    NEWLINE,
    Lines,
    address_digits,
    bracket_changes,
    find_brackets,
    find_tails,
    line_bounds,
    parse_heads,
    split_lines,
)
from .labels import find_labels, may_be_labels
from .reader_thread import LONGEST, PAD, LineBlock, ReaderThread, too_long
from .respelled import has_crlf, respelled

Item = TypeVar("Item", np.uint8, np.uint32, np.uint64)

_LINES: Final = 1 << 17
"""The number of lines for which the columns have room at first."""
_NOT_A_MODULE: Final = re.compile(rb"[\0-\x20\[\]]")
"""The bytes that the name in a bracket never has."""
_HASHES: Final = 1 << 16
"""The number of different hashes of names."""


class Kallsyms(NamedTuple):
    """The lines of one kallsyms text, in its order.

    - ``address`` (uint64), ``letter`` (uint8): one item for each line
    - ``name`` (uint32): the offset of each line's name in ``strings``
    - ``strings`` (uint8): the names in the text's order, each with its terminating NUL. If the
      name ``foo`` comes right after ``__pfx_foo``, it is the tail of that string
    - ``ignored``: the numbers of the lines, ascending, that the kernel's lookup ignores
      (``labels.py``)
    - ``runs``: the first line of each run of lines with one bracket, and the name in the
      bracket, None for the kernel's own
    - ``digits``: the number of digits of an address, 8 or 16
    - ``landmarks``: the addresses of the kernel's own symbols that the caller asked for, by
      name
    - ``generation``: the generation before the first bracket was printed
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
    reader: ReaderThread,
    landmarks: frozenset[str] = frozenset(),
    progress: Callable[[int], None] | None = None,
) -> Kallsyms:
    """Read and parse a kallsyms text to its end.

    Args:
        reader: the thread that reads the text. The kernel's own symbols never move, so the
            text is of the moment at which the first bracket is printed.
        landmarks: the names of the kernel's own symbols whose addresses are returned too.
        progress: called with the number of bytes each time some have been parsed.

    Raises:
        SourceError: the text cannot be read.
        KallsymsError: a line is not kallsyms, or the text ends within a line.
    """
    text = _KallsymsParser(reader.path, landmarks).parse(reader.blocks(), progress)
    if text is None:
        raise _empty(reader)
    return text


class _Column(Generic[Item]):
    """An array that grows at its end.

    ``filled`` are the items that :meth:`extend` has returned so far. After them the array has
    at least ``spare`` more, whose contents are undefined.
    """

    def __init__(self, dtype: type[Item], capacity: int, spare: int = 0) -> None:
        self.items: npt.NDArray[Item] = np.empty(capacity, dtype)
        self.length = 0
        self.spare = spare

    def extend(self, count: int) -> npt.NDArray[Item]:
        """Append ``count`` items; return them and the spare ones, for the caller to fill in."""
        if self.length + count + self.spare > len(self.items):
            grown = np.empty(2 * (self.length + count) + self.spare, self.items.dtype)
            grown[: self.length] = self.filled
            self.items = grown
        self.length += count
        return self.items[self.length - count : self.length + self.spare]

    @property
    def filled(self) -> npt.NDArray[Item]:
        """All items that :meth:`extend` has returned."""
        return self.items[: self.length]


class _KallsymsParser:
    """The columns of a text so far; one parser for each text."""

    def __init__(self, path: str, landmarks: frozenset[str]) -> None:
        self.path = path
        self.landmarks: dict[str, int] = {}
        self.wanted = {name.encode() for name in landmarks}
        self.may_be_wanted = np.zeros(_HASHES, np.bool_)
        """For each hash, True if a name in ``wanted`` has it."""
        for name in self.wanted:
            first = np.frombuffer(name[:4] + bytes(4), "<u8")
            self.may_be_wanted[_hash(first, np.array([len(name)]))] = True
        self.digits = 0
        self.crlf = False
        self.labels = [np.zeros(0, np.intp)]
        """The numbers of the lines whose names may be labels, one array for each block."""
        self.runs: list[tuple[int, str | None]] = []
        self.address = _Column(np.uint64, _LINES)
        self.letter = _Column(np.uint8, _LINES)
        self.name = _Column(np.uint32, _LINES)
        self.strings = _Column(np.uint8, 24 * _LINES, byte_gather.WINDOW)

    @property
    def lines(self) -> int:
        """The number of lines so far."""
        return self.address.length

    def parse(
        self, blocks: Iterator[LineBlock], progress: Callable[[int], None] | None
    ) -> Kallsyms | None:
        """Parse all ``blocks``; return None if there are none."""
        generation: Generation | None = None
        for buffer, start, end, present in blocks:
            self._take_block(np.frombuffer(buffer, np.uint8, end - start + PAD, start))
            if progress is not None:
                progress(end - start)
            if generation is None or self._has_only_kernel:
                # The kernel prints up to a page more than has been read. So it may have printed
                # the first bracket before the generation of that bracket's block was taken.
                # The generation of the block before it is the right one.
                generation = present
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

    @property
    def _has_only_kernel(self) -> bool:
        """True if all lines so far are the kernel's own."""
        return len(self.runs) == 1 and self.runs[0][1] is None

    def _ignored(self) -> Index:
        """Return the numbers of the lines that the kernel's lookup ignores.

        The rule for the kernel's own names differs from that for modules' names.
        """
        lines = np.concatenate(self.labels)
        first = np.array([start for start, _ in self.runs], np.intp)
        kernels = np.array([module is None for _, module in self.runs], np.bool_)
        is_kernel = kernels[np.searchsorted(first, lines, "right") - 1]
        name, strings = self.name.filled[lines], self.strings.filled
        ignored = np.zeros(len(lines), np.bool_)
        # The kernel's own lines, then the modules'.
        for kernel, chosen in ((True, is_kernel), (False, ~is_kernel)):
            ignored[chosen] = find_labels(strings, name[chosen], kernel)
        return lines[ignored]

    def _take_block(self, text: U8) -> None:
        """Parse a block; if it is refused, rewrite it in the usual spelling and parse that.

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
        usual = respelled(plain, self.crlf)
        if refused is not None and usual == plain:
            raise refused
        self._take(np.frombuffer(bytearray(usual) + bytes(PAD), np.uint8))

    def _take(self, text: U8) -> None:
        """Parse whole lines and append them to the columns.

        ``text`` has PAD more bytes after the last line.

        Raises:
            KallsymsError: a line is not kallsyms; then no line has been appended.
        """
        starts, ends = line_bounds(text)
        if (ends - starts).max() > LONGEST:
            raise too_long(self.path)
        if not self.digits or not self.lines:
            self.digits = address_digits(text)

        lines = split_lines(text, starts, ends, self.digits)
        address, bad = parse_heads(lines)
        self._refuse(bad, lines)
        name_ends, changed = self._find_modules(lines)

        first = lines.heads["first"]
        length = name_ends - lines.names
        if len(labels := may_be_labels(lines.heads["name"], first)):
            self.labels.append(labels + self.lines)
        self._note_landmarks(lines, first, length, address)

        tail = find_tails(lines, length, first, PFX_PREFIX)
        tail[changed] = False  # the names of a linker file lie in its own part of the strings
        tail[1:] &= ~tail[:-1]  # no tail of a tail, as in __pfx___pfx_a, __pfx_a, a
        self._store(lines, name_ends, tail, address)

    def _store(self, lines: Lines, name_ends: Index, tail: Mask, address: U64) -> None:
        """Append the lines to the columns.

        A name that is a ``tail`` has no string of its own. It is the end of the string of the
        name before::

            strings:   ... _ _ p f x _ b e t a NUL g a m m a NUL
            offsets:       ^ __pfx_beta            ^ gamma
                                       ^ beta
        """
        lines.text[name_ends] = 0

        # Where each name goes: the tails take no room.
        room = name_ends - lines.names + 1
        offsets = np.cumsum(np.where(tail, 0, room))
        added = int(offsets[-1])
        offsets -= room

        own = np.flatnonzero(~tail)
        out = byte_gather.windows_of(self.strings.extend(added))
        byte_gather.gather_strings(
            lines.windows, lines.names[own], room[own], out, offsets[own]
        )

        offsets += self.strings.length - added
        count = len(lines.ends)
        self.letter.extend(count)[:] = lines.heads["letter"]
        self.name.extend(count)[:] = offsets
        self.address.extend(count)[:] = address

    def _note_landmarks(self, lines: Lines, first: U64, length: Index, address: U64) -> None:
        """Keep the addresses of the landmarks in these lines; the first of each name counts.

        Only the few names whose hash is that of a landmark are compared.

        Args:
            lines: the lines of a block.
            first: the first eight bytes of each name.
            length: the length of each name.
            address: the address in each line.
        """
        maybe = self.may_be_wanted[_hash(first, length)]
        for line in np.flatnonzero(maybe).tolist():
            start, end = int(lines.names[line]), int(lines.names[line] + length[line])
            name = lines.text[start:end].tobytes()
            if name in self.wanted and lines.text[end] == NEWLINE:  # no bracket
                self.landmarks.setdefault(name.decode(), int(address[line]))

    def _find_modules(self, lines: Lines) -> tuple[Index, Index]:
        """Append the runs of lines with one bracket to ``runs``.

        Returns:
            The end of each line's name, and the lines whose bracket is another one than that of
            the line before; the first line is one of them.

        Raises:
            KallsymsError: a bracket is malformed.
        """
        found = find_brackets(lines)
        if found is None:
            self._add_run(0, None)
            return lines.ends, np.zeros(1, np.intp)
        name_ends, bad = found
        self._refuse(bad, lines)

        changed = bracket_changes(lines, name_ends)
        modules: dict[int, str | None] = {}
        for line in changed.tolist():
            name = lines.text[name_ends[line] + 2 : max(lines.ends[line] - 1, 0)].tobytes()
            if _NOT_A_MODULE.search(name):
                self._refuse(np.arange(len(lines.ends)) == line, lines)
            has_bracket = name_ends[line] < lines.ends[line]
            modules[line] = name.decode("utf-8", "surrogateescape") if has_bracket else None
        for line, module in modules.items():
            self._add_run(line, module)
        return name_ends, changed

    def _add_run(self, line: int, module: str | None) -> None:
        """Start a run at ``line`` of the block, unless the last run has the same bracket."""
        if not self.runs or self.runs[-1][1] != module:
            self.runs.append((self.lines + line, module))

    def _refuse(self, bad: Mask, lines: Lines) -> None:
        """Raise a KallsymsError for the first bad line, if there is one."""
        if not bad.any():
            return
        line = int(np.argmax(bad))
        start, end = lines.starts[line], lines.ends[line]
        shown = lines.text[start : min(end, start + 60)].tobytes()
        raise KallsymsError(
            f"Line {self.lines + line + 1} of {self.path} is not kallsyms: {shown!r}.",
            "Save the whole of /proc/kallsyms with cat, and change nothing in it.",
        )


def _empty(reader: ReaderThread) -> KallsymsError:
    """Return the error for a text of no bytes."""
    if reader.live:
        return KallsymsError(
            f"{reader.path} holds no symbols.", "Run a kernel that has CONFIG_KALLSYMS."
        )
    return KallsymsError(
        f"{reader.path} holds no symbols: it was saved as an empty file.",
        "Save it with cat, or use ksyms collect: tar and copies by size store a file of /proc "
        "as empty, since its size there is 0.",
    )


def _hash(first: U64, length: Index) -> U64:
    """Return a hash below _HASHES for each name, from its length and its first four bytes."""
    key = (first << np.uint64(32)) + length.view(np.uint64)
    return (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)
