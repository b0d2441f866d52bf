"""A text on its way through: what is read of it, held for what it may tell, and written."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from .annotate import Decoder
from .incoming import Incoming
from .stream import Block, Cutter

AHEAD: Final = 1 << 22
"""Bytes that are looked at first: what tells the boot can come at an oops's end."""
_PATIENCE: Final = 1.0
"""Seconds of waiting for what tells which boot addresses are of; not of working at it."""
_PART: Final = 0.1
"""Seconds after which a line that has begun is shown, as far as that can be."""
_HEX: Final = b"0123456789abcdefABCDEF"


class _Held(NamedTuple):
    """A block, and how many of its bytes were written already."""

    block: Block
    out: int


class Follower:
    """Hands a text on as it comes, with names.

    Until the boot is given or told, the text is held from the first line with an address on,
    for :data:`_PATIENCE` at most, or for :data:`AHEAD` bytes while they come without a pause.
    From then on each line is written when it has come.

    A line is worked on once its end has come, and as one: what tells of the boot, and a name
    with its address, are never cut. Of one that takes longer than :data:`_PART`, as a prompt
    does, the beginning is written as it is: all that is before the first address, and before
    what may become one, which is any hexadecimal digits, and 0x, that the line ends with so
    far. Names are only added behind an address, so this stays right whatever follows; the
    rest is written with the line's end.

    Args:
        text: what is read.
        decoder: what is told of the boot, and where addresses are.
        work: what a block becomes.
        write: where it goes.
        late: called where addresses are named without having been told of the boot.
        kept: whether what has no address is written as it is.
    """

    def __init__(
        self,
        text: Incoming,
        decoder: Decoder,
        work: Callable[[Block], bytes],
        write: Callable[[bytes], object],
        late: Callable[[], object],
        kept: bool = True,
    ) -> None:
        self._text = text
        self._decoder = decoder
        self._work, self._write, self._late = work, write, late
        self._kept = kept
        self._cutter = Cutter(decoder.pattern)
        self._held: list[_Held] = []
        self._seen = 0
        self._out = 0  # of the line that has begun
        self._due: float | None = None
        self._left: float | None = None
        self._ended = False

    def run(self, ahead: bool = True) -> None:
        """Hand on the text to its end; ``ahead`` is whether to look for its boot first.

        Raises:
            DecodeError: it is of another build than the symbols.
        """
        if ahead and not self._decoder.settled:
            refusal = self._decoder.look_ahead(self._ahead())
            if refusal is not None and self._ended:
                raise refusal
        held, self._held = self._held, []
        for each in held:
            self._put(each)
        self._due = time.monotonic() if self._kept and self._cutter.begun else None
        while data := self._next():
            for each in self._take(data):
                self._put(each)
        for each in self._take(b"", self._cutter.end()):
            self._put(each)

    def _ahead(self) -> Iterator[bytes]:
        """The blocks that may tell of the boot, which are held; until they are late."""
        size = 0
        while size < AHEAD:
            data = self._text.read(0)
            if data is None:
                if self._decoder.settled:
                    return
                self._pass()
                data = self._wait()
            if data is None:
                if self._left is not None and self._left <= 0:
                    self._late()
                    return
                self._show()
                continue
            found = self._take(data) if data else self._take(b"", self._cutter.end())
            self._held += found
            yield from [block for (block, plain), _ in found if plain]
            if not data:
                self._ended = True
                return
            size += len(data)

    def _wait(self) -> bytes | None:
        """What comes before something is to be done; of patience only waiting takes."""
        begin = time.monotonic()
        late = None if self._left is None else begin + self._left
        soonest = min((at for at in (self._due, late) if at is not None), default=None)
        data = self._text.read(soonest)
        if self._left is not None:
            self._left -= time.monotonic() - begin
        return data

    def _pass(self) -> None:
        """Write the lines before the first address; the others wait from now on."""
        while self._left is None and self._seen < len(self._held):
            block, out = self._held[self._seen]
            data, _ = block
            end = self._before(data)
            if end < len(data):
                self._left = _PATIENCE
            if end > out:
                self._write(data[out:end])
                self._held[self._seen] = _Held(block, end)
            self._seen += 1

    def _before(self, data: bytes) -> int:
        """How many bytes the lines before the first address have."""
        if not self._kept:
            return 0
        found = self._decoder.pattern.search(data)
        return data.rfind(b"\n", 0, found.start()) + 1 if found else len(data)

    def _next(self) -> bytes:
        """What comes next; while it does not, the line that has begun is shown."""
        while (data := self._text.read(self._due)) is None:
            self._show()
        return data

    def _take(self, data: bytes, found: list[Block] | None = None) -> list[_Held]:
        """The blocks that end in ``data``, each with how much of it was written."""
        held = []
        for block in self._cutter.feed(data) if found is None else found:
            out = min(self._out, len(block[0]))
            self._out -= out
            held.append(_Held(block, out))
        if held or self._due is None:
            wanted = self._kept and len(self._cutter.begun) > self._out
            self._due = time.monotonic() + _PART if wanted else None
        return held

    def _show(self) -> None:
        """Write what can be of the line that has begun, if nothing before it is held."""
        self._due = None
        if self._left is not None and self._held:
            return
        line = self._cutter.begun
        end = _certain(line, self._decoder.pattern)
        if end > self._out:
            self._write(line[self._out : end])
            self._out = end

    def _put(self, held: _Held) -> None:
        self._write(self._work(held.block)[held.out :])


def _certain(line: bytes, pattern: re.Pattern[bytes]) -> int:
    """How much of a line that has begun stays as it is, whatever comes behind it."""
    found = pattern.search(line)
    before = line[: found.start()] if found else line.rstrip(_HEX)
    return len(before) - 2 if before.endswith((b"0x", b"0X")) else len(before)
