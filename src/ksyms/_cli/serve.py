"""``ksyms serve`` serves the device; ``ksyms status`` shows its users."""

from __future__ import annotations

import errno
import io
import os
import queue
import re
import sys
import time
from contextlib import suppress

from .._threads import begin
from .._typing import TYPE_CHECKING, Any, Final
from . import render
from .stopping import killable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .._transport import Request

_WAITING: Final = 10_000
"""Largest number of lines that wait to be printed."""
_AGAIN: Final = 0.1  # seconds to wait if there is no memory to print a line

_EXAMPLES: Final = """\
examples:
  ksyms serve /run/ksyms                          ksyms and vmlinux, for root
  ksyms serve /run/ksyms --link /dev/ksyms        where programs look for it
  ksyms serve /run/ksyms --mode 0444 --allow-other    for everyone who may see addresses
  ksyms serve --cuse                              /dev/ksyms, a true character device
  gdb -batch -ex 'info address schedule' /run/ksyms/vmlinux

Whoever opens a file here gets what /proc/kallsyms would show them, or EACCES. SIGTERM
unmounts; while something is open, at the last close; a second SIGTERM at once."""


def add(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    parser = commands.add_parser(
        "serve",
        help="serve the device in a directory, through FUSE",
        description="Mount a directory that holds ksyms, the device with the driver's rules, "
        "and vmlinux, the same snapshot as a plain file.",
        epilog=_EXAMPLES,
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "directory",
        metavar="DIRECTORY",
        nargs="?",
        help="where to mount; made if it does not exist",
    )
    place.add_argument(
        "--cuse", action="store_true", help="a character device in /dev instead (CUSE)"
    )
    parser.add_argument(
        "--name",
        type=_parse_name,
        default="ksyms",
        help="with --cuse: its name (default: ksyms)",
    )
    parser.add_argument("--link", metavar="PATH", help="make a symlink to the device here")
    parser.add_argument(
        "--mode", type=_parse_mode, default=0o400, help="the files' permissions (default: 0400)"
    )
    parser.add_argument("--allow-other", action="store_true", help="let other users in too")
    parser.add_argument(
        "--verbose", action="store_true", help="a line for each call and each decision"
    )
    parser.set_defaults(run=run, wrong=parser.error)

    parser = commands.add_parser(
        "status",
        help="say who has the device open, and what its server holds",
        description="Say who has the device open, and what its server holds.",
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="what ksyms serve mounted")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(run=run_status)


def run(options: argparse.Namespace) -> bool:
    """Serve until a signal ends the server; return True."""
    from .._server import CharacterServer, DirectoryServer, Server

    lines = _StderrLines()
    common: dict[str, Any] = {"mode": options.mode, "event": lines.say}
    if options.verbose:
        from .verbose import log_to

        log_to(lines.say)
        common["call"] = lambda *call: lines.say(_describe_call(*call))

    if options.cuse:
        if options.link or options.allow_other:
            options.wrong("--link and --allow-other are for a directory, not for --cuse")
        server: Server = CharacterServer(options.name, **common)
    else:
        more = {"link": options.link, "allow_other": options.allow_other}
        server = DirectoryServer(options.directory, **more, **common)

    try:
        _run_alone(lines, server.run)
    finally:
        lines.close()
    return True


def run_status(options: argparse.Namespace) -> bool:
    """Print what the server reports of itself; return True."""
    from .._server import status

    facts = killable(lambda: status(options.directory))
    render.show(facts, options.json, _print_status)
    return True


def _print_status(facts: dict[str, Any]) -> None:
    moved = ", ".join(f"{k} {v}" for k, v in facts["generation"].items() if v is not None)
    shared = "while nothing moves" if facts["shared"] else "no: not every change is told"
    rows = [
        ["server", f"process {facts['pid']}"],
        ["generation", moved or "unknown"],
        ["snapshot", f"{facts['age']} s old, {facts['taken']} taken"],
        ["held", f"{facts['snapshots']} snapshots, {facts['bytes']} bytes"],
        ["shared", shared],
        ["reads", facts["why_no_passthrough"] or "pass the server by"],
    ]
    rows += [[f"no {name}", why] for name, why in facts["sources_missing"].items()]
    render.table(rows, ["dim", "name"])

    opens = [[o["file"], f"process {o['pid']}"] for o in facts["openers"]]
    if facts["more_openers"]:
        opens.append(["more", str(facts["more_openers"])])
    render.line("")
    render.table([["open"]], ["name"])
    render.table(opens, indent=2)


def _run_alone(lines: _StderrLines, serve: Callable[[], None]) -> None:
    """Call ``serve``; meanwhile only ``lines`` writes to stderr.

    Else Python would write to stderr when it has no memory to report an error as usual
    ("Exception ignored in", Python/errors.c). After an error stderr is restored, so that the
    message about the error can be printed.
    """
    from .main import TRACEBACK, report_thread_errors

    if os.environ.get(TRACEBACK):
        serve()
        return
    before, sys.stderr = sys.stderr, _Nowhere()
    report_thread_errors(lambda what, remedy: lines.say(f"{what} {remedy}"))
    try:
        serve()
    except BaseException:
        sys.stderr = before
        raise


class _Nowhere(io.TextIOBase):
    """A stream that discards all that is written to it."""

    def write(self, text: str) -> int:
        """Discard ``text``."""
        return len(text)


def _parse_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) or text in (".", ".."):
        import argparse

        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a device: 64 letters, digits, and _ . - at most"
        )
    return text


def _parse_mode(text: str) -> int:
    if not re.fullmatch("[0-7]{3}|0[0-7]{3}", text):
        import argparse

        raise argparse.ArgumentTypeError(
            f"{text!r} is no file mode: three octal digits, such as 0444"
        )
    return int(text, 8)


class _StderrLines:
    """Lines on stderr, which a thread of its own writes.

    So the server does not wait for a slow or stopped reader of stderr. If more than
    :data:`_WAITING` lines wait, further ones are dropped.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._queue: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._ended = begin(self._write)

    def say(self, words: str) -> None:
        """Queue a line, with the time, to be printed soon."""
        with suppress(queue.Full):
            self._queue.put_nowait(f"{time.strftime('%H:%M:%S')} {words}\n")

    def close(self) -> None:
        """Wait until the queued lines are printed, but at most a second."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._ended.acquire(timeout=1)

    def _write(self) -> None:
        """Write the queued lines, one after the other, until None comes."""
        while True:
            try:
                if (line := self._queue.get()) is None:
                    return
                with suppress(OSError, ValueError):
                    self._stream.write(line)
                    self._stream.flush()
            except MemoryError:  # drop this line; there may be memory for the next one
                time.sleep(_AGAIN)


def _describe_call(request: Request, number: int, seconds: float) -> str:
    """Return the log's line about an answered request; ``number`` is its errno, or 0."""
    from .._transport.protocol import NAMES

    told = errno.errorcode.get(number, str(number)) if number else "ok"
    name = NAMES.get(request.opcode, f"call {request.opcode}")
    return f"{name} by {request.pid} on node {request.node}: {told}, {seconds * 1e6:.0f} us"
