"""Decode a text while it arrives: read it, hold it until its boot is known, and write it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from .annotate import Decoder
from .incoming import Incoming
from .stream import Block, Cutter

AHEAD: Final = 1 << 22
"""Bytes that are searched first for evidence of the boot: it can stand at an oops's end."""
_PATIENCE: Final = 1.0
"""Seconds to wait for input with evidence of the boot; the time of work does not count."""
_PART: Final = 0.1
"""Seconds after which the finished part of an incomplete line is written."""
_HEX: Final = b"0123456789abcdefABCDEF"


class _Held(NamedTuple):
    """A block, and the number of its bytes that were written already."""

    block: Block
    out: int


class Follower:
    """A writer of a text with names, which writes each line as soon as it can.

    Before the boot is known, lines up to the first address are written, and the text from
    there on is held. It is held for at most :data:`_PATIENCE`, or up to :data:`AHEAD` bytes
    while they arrive without a pause. Then each line is written when it is complete.

    Only whole lines are decoded, so that evidence, and a name with its address, are never cut.
    If a line stays incomplete for longer than :data:`_PART`, as a prompt does, its first part
    is written unchanged: up to the first address, or up to the start of one that may follow.
    Such a start is any hexadecimal digits at the end, with 0x before them:

        login: fa     "login: " is written, since "fa" can be the start of an address
        login: fast   all of it is written, since no address has a "t"

    Names are only added after an address, so the part that is written stays right whatever
    follows. The rest of the line is written when it is complete.

    Args:
        text: the text that arrives.
        decoder: the decoder, which collects the evidence and has the pattern of addresses.
        work: returns the output for a block.
        write: writes output.
        late: called if addresses are decoded before there was evidence of the boot.
        kept: True if text without addresses is written unchanged.
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
        self._out = 0  # bytes of the incomplete line that were written already
        self._due: float | None = None
        self._left: float | None = None
        self._ended = False

    def run(self, ahead: bool = True) -> None:
        """Decode the text to its end; if ``ahead``, search for evidence of its boot first.

        Raises:
            DecodeError: the text is of another build than the symbols.
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
        """Yield the blocks to search for evidence, and hold them, until a limit is reached."""
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
        """Return the input that arrives before the next time limit; None if none does.

        Only the time spent here is subtracted from the patience that is left.
        """
        begin = time.monotonic()
        late = None if self._left is None else begin + self._left
        soonest = min((at for at in (self._due, late) if at is not None), default=None)
        data = self._text.read(soonest)
        if self._left is not None:
            self._left -= time.monotonic() - begin
        return data

    def _pass(self) -> None:
        """Write the held lines before the first address; with that address patience begins."""
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
        """Return the number of bytes in the lines before the first address."""
        if not self._kept:
            return 0
        found = self._decoder.pattern.search(data)
        return data.rfind(b"\n", 0, found.start()) + 1 if found else len(data)

    def _next(self) -> bytes:
        """Return the next input; while it does not arrive, show the incomplete line."""
        while (data := self._text.read(self._due)) is None:
            self._show()
        return data

    def _take(self, data: bytes, found: list[Block] | None = None) -> list[_Held]:
        """Return the blocks that ``data`` completes, each with its bytes already written.

        ``found`` has the blocks if they are known already.
        """
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
        """Write the certain part of the incomplete line, if nothing before it is held."""
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
    """Return how many bytes of an incomplete line stay unchanged, whatever follows."""
    found = pattern.search(line)
    before = line[: found.start()] if found else line.rstrip(_HEX)
    return len(before) - 2 if before.endswith((b"0x", b"0X")) else len(before)
