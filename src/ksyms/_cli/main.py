"""The process ``ksyms``: it runs one command, prints errors, and has an exit status."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from .._errors import KsymsError, reason
from .._typing import TYPE_CHECKING, Any, Final
from .render import complain

if TYPE_CHECKING:
    from typing import NoReturn

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 1
EXIT_TROUBLE: Final = 2
EXIT_INTERRUPTED: Final = 130

TRACEBACK: Final = "KSYMS_TRACEBACK"
"""The environment variable that shows tracebacks of unforeseen errors, as the tests do."""
_LONGEST: Final = 300
"""Largest length of the description of an unforeseen error, in characters."""

COMMANDS: Final = {
    "snapshot": "snapshot",
    "info": "info",
    "lookup": "lookup",
    "decode": "decode",
    "diff": "diff",
    "map": "mapping",
    "collect": "collect",
    "serve": "serve",
    "status": "serve",
    "exec": "execute",
}
"""The module in this package that has each command, in the order of the help."""

_NO_MEMORY: Final = KsymsError(
    "There is not enough memory for this.", "Free some, or allow this process more."
)


def program() -> NoReturn:
    """Run one command, and end the process.

    Once its output is flushed, the process ends by _exit(). Python's own end clears one module
    after another, and takes longer than a lookup.
    """
    # Imports make many objects and no garbage, so collect garbage rarely. Do not turn it off:
    # ``ksyms decode`` can run as a filter for months.
    gc.set_threshold(1 << 17)
    if sys.argv[1:2] != ["exec"]:  # exec's program inherits the environment
        # When numpy is imported, OpenBLAS starts a thread for each processor, and ends the
        # process if it cannot. ksyms does not use OpenBLAS.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        status = main()
    except SystemExit as end:  # raised by argparse, or by the handler of a signal
        status = end.code if isinstance(end.code, int) else EXIT_REFUSED
    os._exit(_flush_streams(status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status.

    argparse itself exits, with 0 for --help and --version, and with 2 for wrong arguments.

    Raises:
        Exception: an unforeseen error, if KSYMS_TRACEBACK is set; else a message is printed.
    """
    writable = _prepare_streams()
    handle_signals()
    refused: int = EXIT_TROUBLE

    try:
        options = _parse_arguments(sys.argv[1:] if arguments is None else arguments)
        run: Callable[[Any], bool] = options.run
        refused = options.refused
        if not writable:
            return refused
        report_thread_errors()
        status = EXIT_OK if run(options) else EXIT_REFUSED
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed the pipe. Discard what is left to be written.
        _discard_stdout()
    except Exception as error:
        described = _describe(error)
        complain(described.what, described.remedy)
        if _is_of_output(error):
            _discard_stdout()
    return refused


def _describe(error: Exception) -> KsymsError:
    """Return the error with a sentence on what is wrong and one on what to do.

    Raises:
        Exception: an unforeseen error, if KSYMS_TRACEBACK is set.
    """
    if isinstance(error, KsymsError):
        return error
    if isinstance(error, OSError) and _is_of_output(error):
        return _unwritable(reason(error))
    return _unforeseen(error)


def _is_of_output(error: Exception) -> bool:
    """Return True if a write to stdout may have raised the error: then it names no file."""
    return isinstance(error, OSError) and error.filename is None


def _unforeseen(error: Exception) -> KsymsError:
    """Return the description of an unforeseen error, with the advice to report it.

    Raises:
        Exception: the error itself, if KSYMS_TRACEBACK is set.
    """
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    if os.environ.get(TRACEBACK):
        raise error
    what = f"This is a fault in ksyms: {type(error).__name__}: {error}"[:_LONGEST]
    return KsymsError(
        what.rstrip(".") + ".",
        f"Report it as an issue of ksyms, with the input and what {TRACEBACK}=1 adds.",
    )


def _unwritable(why: str) -> KsymsError:
    what = f"The output cannot be written: {why}."
    return KsymsError(what, "Give it a place that has room.")


def report_thread_errors(tell: Callable[[str, str], None] = complain) -> None:
    """Have unforeseen errors in threads and destructors described by ``tell`` too.

    ``tell`` gets what is wrong and what to do. Without this Python prints a traceback.
    """

    def say(failure: Any) -> None:
        if isinstance(failure.exc_value, Exception):
            described = _unforeseen(failure.exc_value)
            tell(described.what, described.remedy)

    if not os.environ.get(TRACEBACK):
        sys.unraisablehook = say
        if "threading" in sys.modules:  # else the command starts no threads
            sys.modules["threading"].__dict__["excepthook"] = say


def _flush_streams(status: int) -> int:
    """Flush stdout and stderr; return ``status``, or 1 if that is 0 and a write fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            status = status or EXIT_REFUSED
        except (OSError, ValueError) as error:
            status = status or EXIT_REFUSED
            if stream is sys.stdout:
                described = _unwritable(reason(error))
                complain(described.what, described.remedy)
    return status


def _prepare_streams() -> bool:
    """Make the standard streams able to write any name; return False if stdout is closed."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 # open until the process ends
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    if sys.stdout is None:
        described = _unwritable("stdout is closed")
        complain(described.what, described.remedy)
        return False
    # A name is written as the bytes that were read, whatever the locale.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    return True


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def handle_signals() -> None:
    """Let SIGTERM and SIGHUP raise SystemExit, so that what was begun is undone."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _parse_arguments(arguments: Sequence[str]) -> Any:
    """Return the parsed arguments.

    Only the command that they name is imported; all commands for the help.
    """
    from .arguments import make_parser

    command = COMMANDS.get(arguments[0]) if arguments else None
    files = [command] if command else dict.fromkeys(COMMANDS.values())
    return make_parser(files, {"refused": EXIT_REFUSED}).parse_args(arguments)
