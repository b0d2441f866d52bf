"""A text that one thread reads while another takes it apart, in blocks of whole lines.

The text of ``/proc/kallsyms`` comes 4 KB a read() at most, and a seek prints it anew: reading
is most of what a snapshot costs. The thread begins before all else, so that the kernel prints
while numpy is still being imported; nothing here needs it.
"""

from __future__ import annotations

import io
import mmap
import queue
from collections.abc import Callable, Iterator

from .._errors import KallsymsError, ServeError
from .._memory import anonymous_mmap
from .._note import PFX_PREFIX
from .._threads import begin
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .generation import Generation
from .root import unreadable

if TYPE_CHECKING:
    from _thread import LockType

LONGEST: Final = 1 << 13
"""The most bytes that a line may have: KSYM_NAME_LEN is 512 since Linux 6.1."""
PAD: Final = 48
"""Bytes that may be looked at behind a block, and are anything."""
_ROOM: Final = 2 * LONGEST  # before what is read, for what is left of the buffer before
_BUFFER: Final = 1 << 18  # bytes of text that are read in one go
_ENOUGH: Final = 1 << 17  # bytes that are taken apart while more are read behind them
_LOOK: Final = 0.0005  # seconds until it is looked again whether a live text has as many
_PATIENCE: Final = 1.0  # seconds until it is looked whether the thread died without a word
_FEW: Final = 2  # buffers that the reader may be ahead
_MANY: Final = 24  # the same where the kernel prints the text, which takes longer than all else
_PREFIX: Final = b" " + PFX_PREFIX


class Block(NamedTuple):
    """Whole lines: the bytes from ``start`` to ``end`` of ``buffer``, which goes on for PAD.

    ``asked`` is the generation before any of them was read.
    """

    buffer: bytearray | mmap.mmap
    start: int
    end: int
    asked: Generation


class _Begun(NamedTuple):
    """A buffer that is read into, all zeros before, and the generation before that."""

    buffer: mmap.mmap
    asked: Generation


class _Part(NamedTuple):
    """What was read into ``buffer`` from ``start`` to ``end``; whether that is its end."""

    buffer: mmap.mmap
    start: int
    end: int
    done: bool
    asked: Generation


class ReadAhead:
    """Reads ``source`` to its end and closes it, in a thread that begins at once.

    Where there is no thread to be had, each buffer is read when it is asked for.

    A context manager: what is not read by its end is not wanted.

    Args:
        source: the text.
        path: what errors call it.
        ask: gives the generation now.
        live: whether the kernel prints the text, and does not just copy it.
    """

    def __init__(
        self,
        source: io.BufferedIOBase,
        path: str,
        ask: Callable[[], Generation],
        live: bool = False,
    ) -> None:
        self.path = path
        self.live = live
        self._source = source
        self._ask = ask
        self._look = _LOOK if live else _PATIENCE
        self._stopped = False
        # Buffers go round: the thread puts one into _begun, fills it and puts its length into
        # _ended; who has taken it apart puts it into _free, all zeros again. Until there are
        # enough, the thread makes new ones.
        self._still_to_make = _MANY if live else _FEW
        self._free: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
        self._begun: queue.SimpleQueue[_Begun | Exception] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        try:
            self._thread: LockType | None = begin(self._run)
        except ServeError:
            self._thread = None

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        """Have the thread end when it has filled its buffer; not waited for: that can last."""
        self._stopped = True
        self._free.put(None)
        if self._thread is None:
            self._source.close()

    def blocks(self) -> Iterator[Block]:
        """The text; a block is good until the next is asked for.

        Where a block ends depends on how quickly the text comes, but it is never between a
        ``__pfx_`` name and the one behind it.

        Raises:
            SourceError: the text cannot be read.
            KallsymsError: it ends within a line, or one is too long.
        """
        rest, begin, asked = b"", _ROOM, None
        for buffer, start, stop, done, asked in self._parts():
            if start == _ROOM:
                begin = _ROOM - len(rest)
                buffer[begin:_ROOM] = rest
            last = buffer.rfind(b"\n", begin, stop) + 1  # of a line kept back, it may be
            if stop - (last or begin) > LONGEST:
                raise too_long(self.path)
            end = _before_pair(buffer, begin, last)
            if end > begin:
                yield Block(buffer, begin, end, asked)
                begin = end
            rest = bytes(buffer[begin:stop])
            if done:
                buffer[_ROOM:stop] = bytes(stop - _ROOM)
                self._free.put(buffer)
        if rest and asked is not None:
            yield self._end(rest, asked)

    def _end(self, rest: bytes, asked: Generation) -> Block:
        """What was kept back of a text's end."""
        line = rest[rest.rfind(b"\n") + 1 :]
        if line:
            raise KallsymsError(
                f"{self.path} ends within a line: {line[:60]!r}.",
                "The text was cut short: save the whole of /proc/kallsyms again.",
            )
        return Block(bytearray(rest + bytes(PAD)), 0, len(rest), asked)

    def _parts(self) -> Iterator[_Part]:
        """What the thread has read: of each buffer, and of a live text as it fills."""
        length = _BUFFER
        while length == _BUFFER:
            begun = self._next()
            if isinstance(begun, Exception):
                raise self._error(begun)
            buffer, asked = begun
            start, done = _ROOM, False
            while not done:
                try:
                    ended = self._ended.get(timeout=self._look)
                    if isinstance(ended, Exception):
                        raise self._error(ended)
                    length, end, done = ended, _ROOM + ended, True
                except queue.Empty:
                    self._check()
                    end = _filled(buffer, start)
                if done or end - start >= _ENOUGH:
                    yield _Part(buffer, start, end, done, asked)
                    start = end

    def _next(self) -> _Begun | Exception:
        """The next buffer, which is read into, or has been where there is no thread."""
        if self._thread is None:
            try:
                if (buffer := self._buffer()) is not None:
                    self._fill(buffer)
            except OSError as error:
                return error
        while True:
            try:
                return self._begun.get(timeout=_PATIENCE)
            except queue.Empty:
                self._check()

    def _check(self) -> None:
        """Whether more can come: a thread that has no memory to say so ends without a word.

        Raises:
            MemoryError: it has ended so.
        """
        ended = self._thread is not None and not self._thread.locked()
        if ended and self._begun.empty() and self._ended.empty():
            raise MemoryError

    def _error(self, error: Exception) -> Exception:
        """What is raised for an error of the thread's."""
        return unreadable(self.path, error) if isinstance(error, OSError) else error

    def _run(self) -> None:
        """What the thread does."""
        with self._source:
            try:
                while (buffer := self._buffer()) is not None and self._fill(buffer):
                    pass
            except Exception as error:  # who waits for the text is to raise it
                self._begun.put(error)
                self._ended.put(error)

    def _buffer(self) -> mmap.mmap | None:
        """Where to read into; None if nobody wants more."""
        if self._stopped:
            return None
        if self._free.empty() and self._still_to_make:
            self._still_to_make -= 1
            # Of malloc's memory it would stay: 24 are an image more at a process' start.
            return anonymous_mmap(_ROOM + _BUFFER + PAD)
        return self._free.get()

    def _fill(self, buffer: mmap.mmap) -> bool:
        """Read on into a buffer; false at the end of the text."""
        self._begun.put(_Begun(buffer, self._ask()))
        length = more = 0
        with memoryview(buffer)[_ROOM : _ROOM + _BUFFER] as view:
            while length < _BUFFER and (more := self._source.readinto(view[length:])):
                length += more
        self._ended.put(length)
        return length == _BUFFER


def _filled(buffer: mmap.mmap, start: int) -> int:
    """Where what has been read into ``buffer`` ends: at the first zero, which no text has.

    The thread needs no lock of Python's to tell, for which it would wait longer than it reads.
    """
    end = buffer.find(b"\0", start, _ROOM + _BUFFER)
    return _ROOM + _BUFFER if end < 0 else end


def _before_pair(buffer: mmap.mmap, begin: int, end: int) -> int:
    """``end``, or where the line before it begins, if that has the first name of a pair."""
    line = max(begin, buffer.rfind(b"\n", begin, max(begin, end - 1)) + 1)
    pair = end - line <= LONGEST and buffer.find(_PREFIX, line, line + 26) >= 0
    return line if pair else end


def too_long(path: str) -> KallsymsError:
    """The error for a line of more than :data:`LONGEST` bytes."""
    return KallsymsError(
        f"{path} has a line of more than {LONGEST} bytes, which is not kallsyms.",
        "Name a file that holds the text of /proc/kallsyms.",
    )
