"""A thread that reads a text while another parses it, in blocks of whole lines.

A read() of ``/proc/kallsyms`` gives 4 KB at most, and a seek makes the kernel print it anew, so
reading takes most of a snapshot's time. The thread starts before everything else, so that the
kernel prints while numpy is still being imported. Nothing here needs numpy.

Buffers circulate between the two threads, through three queues::

    reader thread                                       parser (blocks())

    _free ---> takes a buffer, all zeros
      ^        _started.put(buffer, generation) ------> _started.get(): knows the buffer
      |        reads into it ...                        _filled(): takes what has come so far
      |        _ended.put(length) --------------------> _ended.get(): takes the rest
      |        takes the next buffer                    writes zeros into it
      +--------------------------------------------------- _free.put(buffer)

While a buffer is being read into, the text in it ends at its first zero byte, since no text has
a zero byte. So the parser sees without a lock how far the reader has come. If the reader had to
report that, it would wait for Python's global lock longer than it reads. This buffer is partly
filled, and the buffer before it ended within the line of ``alpha``::

    |          ...f0 t al | pha NEWLINE ...00 t beta NEWLINE ...10 t ga | 0 0 0 0 0 0 | PAD |
               ^          ^                                  ^          ^
               start      _HEADROOM                          end        _filled()

The rest of the previous buffer, ``...f0 t al``, is copied to the bytes before the text. So the
block from ``start`` to ``end`` has whole lines, in one piece.
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
from .root import unreadable_text

if TYPE_CHECKING:
    from _thread import LockType

LONGEST: Final = 1 << 13
"""The most bytes that a line may have.

KSYM_NAME_LEN is 512 since Linux kernel commit b8a94bfb3395 ("kallsyms: increase maximum kernel
symbol length to 512") (in v6.1).
"""
PAD: Final = 48
"""Readable bytes after a block; their contents are undefined."""
_HEADROOM: Final = 2 * LONGEST
"""Bytes of a buffer before the text that is read, for the rest of the previous buffer."""
_BUFFER: Final = 1 << 18
"""Bytes of text that a buffer holds."""
_PARSED_EARLY: Final = 1 << 17
"""The fewest new bytes of a live text that are parsed before their buffer is full."""
_POLL: Final = 0.0005
"""Seconds between two checks for new bytes of a live text."""
_LIFE_CHECK: Final = 1.0
"""Seconds between two checks that the thread still runs."""
_FEW: Final = 2
"""The number of buffers for a text in a file, which is read as fast as it is parsed."""
_MANY: Final = 24
"""The number of buffers for a text that the kernel prints, which is the slowest step."""
_PFX_LINE: Final = b" " + PFX_PREFIX


class LineBlock(NamedTuple):
    """Whole lines: the bytes from ``start`` to ``end`` of ``buffer``, with PAD bytes after.

    ``generation`` was taken before any of them was read.
    """

    buffer: bytearray | mmap.mmap
    start: int
    end: int
    generation: Generation


class _StartedBuffer(NamedTuple):
    """A buffer that is being read into; ``generation`` was taken before that."""

    buffer: mmap.mmap
    generation: Generation


class _BufferPart(NamedTuple):
    """Text from ``start`` to ``end`` of ``buffer``; ``done`` is True for its last part."""

    buffer: mmap.mmap
    start: int
    end: int
    done: bool
    generation: Generation


class ReaderThread:
    """Reads ``source`` to its end and closes it, in a thread that starts at once.

    If the system cannot start a thread, each buffer is read when the parser asks for it.

    A context manager: on exit the reader stops, and does not read the rest of the text.

    Args:
        source: the text.
        path: the name of the text in errors.
        ask: returns the present generation.
        live: True if the kernel prints the text, False if it is copied from a file.
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
        self._poll = _POLL if live else _LIFE_CHECK
        self._stopped = False
        self._still_to_make = _MANY if live else _FEW
        self._free: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
        self._started: queue.SimpleQueue[_StartedBuffer | Exception] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        try:
            self._thread: LockType | None = begin(self._run)
        except ServeError:
            self._thread = None

    def __enter__(self) -> ReaderThread:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread at the end of its buffer. Not joined: a read can take long."""
        self._stopped = True
        self._free.put(None)
        if self._thread is None:
            self._source.close()

    # -- the parser's side --

    def blocks(self) -> Iterator[LineBlock]:
        """Yield the text in blocks; each is valid until the next one is taken.

        The end of a block depends on how quickly the text comes, but it is never between a
        ``__pfx_`` name and the name after it.

        Raises:
            SourceError: the text cannot be read.
            KallsymsError: it ends within a line, or a line is too long.
        """
        rest, start, generation = b"", _HEADROOM, None
        for buffer, part_start, part_end, done, generation in self._parts():
            if part_start == _HEADROOM:  # a new buffer: the rest of the last one goes before it
                start = _HEADROOM - len(rest)
                buffer[start:_HEADROOM] = rest

            line_end = buffer.rfind(b"\n", start, part_end) + 1
            if part_end - (line_end or start) > LONGEST:
                raise too_long(self.path)
            end = _before_pair(buffer, start, line_end)
            if end > start:
                yield LineBlock(buffer, start, end, generation)
                start = end

            rest = bytes(buffer[start:part_end])
            if done:
                buffer[_HEADROOM:part_end] = bytes(part_end - _HEADROOM)
                self._free.put(buffer)
        if rest and generation is not None:
            yield self._last_block(rest, generation)

    def _last_block(self, rest: bytes, generation: Generation) -> LineBlock:
        """Return the lines that were held back, at the end of the text.

        Raises:
            KallsymsError: the text ends within a line.
        """
        line = rest[rest.rfind(b"\n") + 1 :]
        if line:
            raise KallsymsError(
                f"{self.path} ends within a line: {line[:60]!r}.",
                "The text was cut short: save the whole of /proc/kallsyms again.",
            )
        return LineBlock(bytearray(rest + bytes(PAD)), 0, len(rest), generation)

    def _parts(self) -> Iterator[_BufferPart]:
        """Yield the text of each buffer, whole, or in parts of _PARSED_EARLY bytes and more."""
        length = _BUFFER
        while length == _BUFFER:
            started = self._next_started()
            if isinstance(started, Exception):
                raise self._error(started)
            buffer, generation = started
            start, done = _HEADROOM, False
            while not done:
                try:
                    ended = self._ended.get(timeout=self._poll)
                    if isinstance(ended, Exception):
                        raise self._error(ended)
                    length, end, done = ended, _HEADROOM + ended, True
                except queue.Empty:
                    self._check_alive()
                    end = _filled(buffer, start)
                if done or end - start >= _PARSED_EARLY:
                    yield _BufferPart(buffer, start, end, done, generation)
                    start = end

    def _next_started(self) -> _StartedBuffer | Exception:
        """Return the next buffer, or the error of the reader.

        If there is no thread, the buffer is read here.
        """
        if self._thread is None:
            try:
                if (buffer := self._take_buffer()) is not None:
                    self._fill(buffer)
            except OSError as error:
                return error
        while True:
            try:
                return self._started.get(timeout=_LIFE_CHECK)
            except queue.Empty:
                self._check_alive()

    def _check_alive(self) -> None:
        """Check that the thread still runs, or has put its result or an error into the queues.

        Raises:
            MemoryError: it ended without either, since no memory was left for the error.
        """
        ended = self._thread is not None and not self._thread.locked()
        if ended and self._started.empty() and self._ended.empty():
            raise MemoryError

    def _error(self, error: Exception) -> Exception:
        """Return the error to raise for one of the reader's."""
        return unreadable_text(self.path, error) if isinstance(error, OSError) else error

    # -- the reader's side --

    def _run(self) -> None:
        """Read the text to its end, or until the parser stops; this runs in the thread."""
        with self._source:
            try:
                while (buffer := self._take_buffer()) is not None and self._fill(buffer):
                    pass
            except Exception as error:  # the parser raises it, from the queue that it waits at
                self._started.put(error)
                self._ended.put(error)

    def _take_buffer(self) -> mmap.mmap | None:
        """Return a buffer to read into, all zeros; None once the thread is to stop."""
        if self._stopped:
            return None
        if self._free.empty() and self._still_to_make:
            self._still_to_make -= 1
            # Not by malloc, which keeps freed memory: 24 buffers are as large as an image.
            return anonymous_mmap(_HEADROOM + _BUFFER + PAD)
        return self._free.get()

    def _fill(self, buffer: mmap.mmap) -> bool:
        """Read the next text into ``buffer``; return False at the end of the text."""
        self._started.put(_StartedBuffer(buffer, self._ask()))
        length = more = 0
        with memoryview(buffer)[_HEADROOM : _HEADROOM + _BUFFER] as view:
            while length < _BUFFER and (more := self._source.readinto(view[length:])):
                length += more
        self._ended.put(length)
        return length == _BUFFER


def _filled(buffer: mmap.mmap, start: int) -> int:
    """Return the end of the text that has been read into ``buffer``: its first zero byte."""
    end = buffer.find(b"\0", start, _HEADROOM + _BUFFER)
    return _HEADROOM + _BUFFER if end < 0 else end


def _before_pair(buffer: mmap.mmap, start: int, end: int) -> int:
    r"""Return ``end``, or the start of the line before it if that has a ``__pfx_`` name.

    Such a name shares its string with the next line's, so both belong to one block::

        ...f0 t alpha\n          <- the block ends after this line
        ...00 t __pfx_beta\n
        ...10 t beta\n
    """
    line = max(start, buffer.rfind(b"\n", start, max(start, end - 1)) + 1)
    is_pair = end - line <= LONGEST and buffer.find(_PFX_LINE, line, line + 26) >= 0
    return line if is_pair else end


def too_long(path: str) -> KallsymsError:
    """Return the error for a line of more than :data:`LONGEST` bytes."""
    return KallsymsError(
        f"{path} has a line of more than {LONGEST} bytes, which is not kallsyms.",
        "Name a file that holds the text of /proc/kallsyms.",
    )
