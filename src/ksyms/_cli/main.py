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
from .plain import Plain

if TYPE_CHECKING:
    from typing import NoReturn

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 1
EXIT_INTERRUPTED: Final = 130

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
    status = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)  # where Python says what it could not write
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status.

    argparse exits by itself with 0 for --help and --version, 2 for wrong arguments.
    """
    writable = _streams()
    hear_signals()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _options(arguments)
    run: Callable[[Any], bool] = options.run
    refused: int = options.refused
    if not writable:
        return refused
    try:
        status = EXIT_OK if run(options) else EXIT_REFUSED
        sys.stdout.flush()
        return status
    except (KsymsError, MemoryError) as error:
        told = error if isinstance(error, KsymsError) else _NO_MEMORY
        print(f"ksyms: {told.what}\n       {told.remedy}", file=sys.stderr)
        return refused
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; nothing more may be written at exit.
        _silence()
        return refused
    except OSError as error:
        print(f"ksyms: The output cannot be written: {reason(error)}.", file=sys.stderr)
        print("       Give it a place that has room.", file=sys.stderr)
        _silence()
        return refused


def _streams() -> bool:
    """Make the standard streams fit to be written to; false where stdout is closed."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 # open until the process ends
    if sys.stdout is None:
        print("ksyms: The output cannot be written: stdout is closed.", file=sys.stderr)
        print("       Give it a place that has room.", file=sys.stderr)
        return False
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that is not UTF-8 goes out as the bytes that it came in as.
        sys.stdout.reconfigure(errors="surrogateescape")
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
