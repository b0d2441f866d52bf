"""Arguments, exit statuses, and what an error looks like."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType

from .._errors import KsymsError, reason
from .._typing import TYPE_CHECKING, Any, Final
from .output import complain
from .plain import Plain

if TYPE_CHECKING:
    from typing import NoReturn

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 1
EXIT_TROUBLE: Final = 2
EXIT_INTERRUPTED: Final = 130

TRACEBACK: Final = "KSYMS_TRACEBACK"
"""Set in the environment to see the traceback of what nobody foresaw, as the tests do."""
_LONGEST: Final = 300
"""Characters of what is said of it."""

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
"""Each command's file here, in the order of the help."""

_NO_MEMORY: Final = KsymsError(
    "There is not enough memory for this.", "Free some, or allow this process more."
)


def program() -> NoReturn:
    """The process ksyms: one command, and its end.

    Nothing is left to be done at the end but to hand on what was said: to take the process
    apart in order, module by module, lasts longer than a lookup.
    """
    # Imports make many objects and no garbage; a filter that runs for months is cleaned up.
    gc.set_threshold(1 << 17)
    if sys.argv[1:2] != ["exec"]:  # whose program has the environment too
        # Before numpy: OpenBLAS, which nothing here calculates with, would begin a thread for
        # each processor, and it ends the process where no thread may begin.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        status = main()
    except SystemExit as end:  # argparse's, or a signal's: what was begun is taken back
        status = end.code if isinstance(end.code, int) else EXIT_REFUSED
    os._exit(_handed_on(status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status.

    argparse exits by itself with 0 for --help and --version, 2 for wrong arguments.

    Raises:
        Exception: what nobody foresaw, if KSYMS_TRACEBACK is set; else a sentence says it.
    """
    writable = _streams()
    hear_signals()
    refused: int = EXIT_TROUBLE
    try:
        options = _options(sys.argv[1:] if arguments is None else arguments)
        run: Callable[[Any], bool] = options.run
        refused = options.refused
        if not writable:
            return refused
        watch_threads()
        status = EXIT_OK if run(options) else EXIT_REFUSED
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; nothing more may be written at exit.
        _silence()
    except Exception as error:
        told = _told(error)
        complain(told.what, told.remedy)
        if _is_of_output(error):
            _silence()
    return refused


def _told(error: Exception) -> KsymsError:
    """What ended a command, in words.

    Raises:
        Exception: what nobody foresaw, where KSYMS_TRACEBACK is set.
    """
    if isinstance(error, KsymsError):
        return error
    if isinstance(error, OSError) and _is_of_output(error):
        return _unwritable(reason(error))
    return _unforeseen(error)


def _is_of_output(error: Exception) -> bool:
    """Whether it can be of a write to stdout, which names no file."""
    return isinstance(error, OSError) and error.filename is None


def _unforeseen(error: Exception) -> KsymsError:
    """What nobody foresaw in words, and how to report it.

    Raises:
        Exception: the error itself, where KSYMS_TRACEBACK is set.
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


def watch_threads(tell: Callable[[str, str], None] = complain) -> None:
    """Have what nobody foresaw in a thread, or while an object goes, told in words too."""

    def say(failure: Any) -> None:
        if isinstance(failure.exc_value, Exception):
            told = _unforeseen(failure.exc_value)
            tell(told.what, told.remedy)

    if not os.environ.get(TRACEBACK):
        sys.unraisablehook = say
        if "threading" in sys.modules:  # else the command begins none that can fail so
            sys.modules["threading"].__dict__["excepthook"] = say


def _handed_on(status: int) -> int:
    """Put out what is left of both streams; gives the exit status then."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            status = status or EXIT_REFUSED
        except (OSError, ValueError) as error:
            status = status or EXIT_REFUSED
            if stream is sys.stdout:
                told = _unwritable(reason(error))
                complain(told.what, told.remedy)
    return status


def _streams() -> bool:
    """Make the standard streams fit to be written to; false where stdout is closed."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 # open until the process ends
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    if sys.stdout is None:
        told = _unwritable("stdout is closed")
        complain(told.what, told.remedy)
        return False
    # A name goes out as the bytes that it came in as, whatever the locale says of these.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    return True


def _silence() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def hear_signals() -> None:
    """Have the signals that ask for an end unwind this process, so that it leaves nothing."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _options(arguments: Sequence[str]) -> Any:
    """What the arguments say; of all commands only the one that is asked for is imported."""
    file = COMMANDS.get(arguments[0]) if arguments else None
    defaults: dict[str, object] = {"refused": EXIT_REFUSED}

    def parsed() -> Any:
        from .arguments import parser_of

        files = [file] if file else dict.fromkeys(COMMANDS.values())
        return parser_of(files, defaults).parse_args(arguments)

    if file is None:
        return parsed()
    plain = Plain(arguments[0], lambda what: parsed().wrong(what))
    plain.set_defaults(**defaults)
    import_module(f".{file}", __package__).add(plain)
    return plain.read(arguments[1:]) or parsed()
