"""Copy one text for ``ksyms decode`` to stdout, and print the messages about it on stderr."""

from __future__ import annotations

import os
import sys
from errno import EINVAL

from .._errors import DecodeError, KsymsError, SourceError, reason
from .._typing import TYPE_CHECKING, Final
from .render import complain

if TYPE_CHECKING:
    import argparse

    from .._decode import Block, Boot, Frames, Incoming
    from .._symbols import SymbolTable

_SHOWN: Final = 3
"""Largest number of reasons that are listed why frames do not fit."""


class Copy:
    """The work on one text: copy it with names, or with ``--json`` print its frames' records.

    Args:
        path: the text's path; ``-`` is stdin.
        table: the symbols.
        boot: the boot that the text is of, if the arguments give it; else None.
        options: the options of the command.
    """

    def __init__(
        self, path: str, table: SymbolTable, boot: Boot | None, options: argparse.Namespace
    ) -> None:
        from .._decode import Decoder

        self.name = "stdin" if path == "-" else path
        self._path = path
        # Symbols of a file can be of another boot than the text, without anybody's knowing it.
        self._elsewhere: bool = options.file is not None
        self._decoder = Decoder(table, boot, force=options.force)
        self._decode = self._decoder.name_only if options.no_offset else self._decoder.decode
        self._frames: Frames | None = None
        if options.json:
            from .._decode import Frames

            self._frames = Frames(self._decoder, table)
        self._kept = not (options.json or options.no_offset)
        self._file = table.label
        self._check: bool = options.check
        self._explain: bool = options.explain
        self._started = self._warned = False

    def run(self) -> bool:
        """Copy the text; return False if it has a fault (see :meth:`_report`).

        A file is read twice: first for the evidence of its boot, then for the copy. A pipe can
        be read only once.

        Raises:
            SourceError: the text cannot be read, or not to its end.
            DecodeError: the text is of another build than the symbols.
        """
        from .._decode import Incoming, blocks, seekable

        fd = self._open()
        try:
            if not seekable(fd):
                return self._follow(fd)
            start = os.lseek(fd, 0, os.SEEK_CUR)
            ahead = blocks(Incoming(fd), self._decoder.pattern)
            refusal = self._decoder.look_ahead(block for block, plain in ahead if plain)
            if refusal is not None:
                raise refusal
            os.lseek(fd, start, os.SEEK_SET)
            return self._copy(Incoming(fd), ahead=False)
        finally:
            if self._path != "-":
                os.close(fd)

    def _follow(self, fd: int) -> bool:
        """Copy a text that can be read only once. A signal ends it after what has come."""
        from .._decode import Incoming
        from .stopping import Stop

        with Stop() as stop:
            return self._copy(Incoming(fd, stop.fd), ahead=True)

    def _open(self) -> int:
        """Return a descriptor of the text.

        Raises:
            SourceError: it cannot be opened, or stdin is closed.
        """
        try:
            if self._path != "-":
                return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
            if sys.stdin is None:
                raise ValueError("it is closed")
            return sys.stdin.fileno()
        except (OSError, ValueError) as error:
            raise self._describe_unread(error) from None

    def _copy(self, text: Incoming, ahead: bool) -> bool:
        """Write the decoded text, or its records, to stdout; then print the messages about it.

        If ``ahead`` is True, the text can be read only once: then search it for evidence of its
        boot while it is copied. Return False if the text has a fault.
        """
        from .._decode import Follower

        work = self._records if self._frames else self._text
        follower = Follower(text, self._decoder, work, _write, self._warn_late, self._kept)
        follower.run(ahead)
        good = self._report()
        if text.failure is not None:
            raise self._describe_unread(text.failure)
        return good

    def _text(self, block: Block) -> bytes:
        """Return a block of the text with names; count the text as begun."""
        data, plain = block
        self._started = True
        return self._decode(data) if plain else data

    def _records(self, block: Block) -> bytes:
        """Return a line of JSON for each frame of a block of the text."""
        data, plain = block
        self._started = True
        if not plain or self._frames is None:
            return b""
        return "".join([f"{line}\n" for line in self._frames.lines(data)]).encode()

    def _warn_late(self) -> None:
        """Warn that addresses get names although there is no evidence of their boot yet."""
        self._warned = True
        self._say(
            "In a second nothing came that tells which boot it is of; it is taken for the "
            "symbols' own.",
            "If it is of another, decode it with --slide, or --boot and its symbols.",
        )

    def _report(self) -> bool:
        """Print the messages about the text; return False if the text has a fault.

        It has one if it was refused, or if addresses got names of a wrong boot, or if it does
        not pass ``--check``. A text without evidence of its boot is taken to be of the symbols'
        own boot. If the symbols are of a file, a message says so.
        """
        decoder = self._decoder
        if self._explain:
            self._report_belief()

        refusal = decoder.refusal
        if refusal is not None:
            self._say(refusal.what, refusal.remedy)
        self._report_unknown()

        fits = self._report_frames()
        if decoder.assumed and self._elsewhere and not self._warned:
            self._say(
                "Nothing in it tells which boot it is of; it was taken for the symbols' own.",
                "If it is of another, decode it with --slide, or --boot and its symbols.",
            )
        if decoder.belief.contradicted:
            self._say(
                "Addresses were named as of the symbols' own boot, and a later part of the "
                "text tells of another.",
                "Decode it again with --slide, or --boot and symbols of that boot.",
            )

        good = refusal is None and not decoder.belief.contradicted
        return good and (fits or not self._check)

    def _report_unknown(self) -> None:
        """Print how many addresses have no name, and why."""
        from .._decode import MODULES

        for why, addresses in self._decoder.unknown.items():
            listed = " ".join(sorted(self._decoder.linked_in)) if why == MODULES else ""
            several = "addresses stay" if len(addresses) > 1 else "address stays"
            self._say(
                f"{len(addresses)} {several} without a name: {why}"
                + (f" (linked in: {listed})." if listed else ".")
            )

    def _report_frames(self) -> bool:
        """Print how many frames without an address fit the symbols.

        Return True if there are some and all of them fit.
        """
        tally = self._decoder.tally
        misfits = tally.misfits.total()
        if tally.count:
            words = f"{tally.fit} of {tally.count} frames without an address fit {self._file}"
            if misfits:
                shown = tally.misfits.most_common(_SHOWN)
                reasons = [
                    _describe_misfits(tally.examples[why], why, count) for why, count in shown
                ]
                reasons += ["..."] if len(tally.misfits) > len(shown) else []
                words += f"; {misfits} do not: {', '.join(reasons)}"
            self._say(f"{words}.")
        if tally.foreign:
            several = "frames are" if tally.foreign > 1 else "frame is"
            self._say(f"{tally.foreign} {several} without an address and of another kernel.")
        if self._check and not tally.count and not tally.foreign:
            self._say("It has no frames without an address to hold against the symbols.")
        return not misfits and not tally.foreign and tally.count > 0

    def _report_belief(self) -> None:
        """Print each belief about the boot: from which line on, and by which evidence."""
        for change in self._decoder.belief.changes:
            boot = change.boot
            moved = "" if boot is None else f", slide {boot.slide:#x}"
            own = ", perhaps the file's own" if boot is not None and boot.own else ""
            why = f" ({change.why})" if change.why else ""
            what = f"{change.state.value}{moved}{own}{why}"
            self._say(f"line {change.line}: {what}; by: {change.event}.")
        for line, words in self._decoder.ignored:
            self._say(f"line {line}: a user can write {words!r} there; it tells nothing.")
        belief = self._decoder.belief
        for slide, votes in belief.votes.most_common():
            several = "names fit" if votes > 1 else "name fits"
            self._say(f"slide {slide:#x}: {votes} {several} it alone beside an address.")
        if belief.against:
            several = "names fit" if belief.against > 1 else "name fits"
            self._say(f"{belief.against} {several} no slide beside an address.")

    def say(self, error: KsymsError) -> None:
        """Print why the text was not copied, or not to its end."""
        if isinstance(error, DecodeError):  # the other errors name the text in their words
            self._say(error.what, error.remedy)
        else:
            complain(error.what, error.remedy)

    def _say(self, what: str, remedy: str = "") -> None:
        complain(f"{self.name}: {what}", remedy)

    def _describe_unread(self, error: OSError | ValueError) -> SourceError:
        """Return the error for the user: the text, or the rest of it, could not be read."""
        from .._decode import PerfDataError

        if isinstance(error, PerfDataError):
            path = "FILE" if self._path == "-" else self._path
            return SourceError(
                f"{self.name} is what perf record writes, which is no text.",
                f"Decode what perf makes of it: perf script -i {path} | ksyms decode.",
                errno=EINVAL,
            )
        end, remedy = "", "Name a file that holds a text."
        if self._started:
            end, remedy = " to its end", "What came before is decoded; get the text anew."
        return SourceError(
            f"{self.name} cannot be read{end}: {reason(error)}.",
            remedy,
            errno=getattr(error, "errno", EINVAL),
        )


def _describe_misfits(frame: str, why: str, count: int) -> str:
    return f"{frame} ({why})" if count == 1 else f"{count} as {frame} ({why})"


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
