"""``ksyms exec``: run a program that was written for FreeBSD's driver."""

from __future__ import annotations

import os
import signal

from .._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse

_EXAMPLES: Final = """\
examples:
  ksyms exec -- lockstat sleep 1
  ksyms exec --device /run/ksyms/ksyms -- ./program

The program's open() of the device maps the snapshot as well, as FreeBSD's driver does, so
that KIOCGADDR has an answer without an mmap(); close() unmaps it. It is done by a few lines
of C in front of its C library (LD_PRELOAD), built once with this machine's compiler, into
/var/cache/ksyms as root and below XDG_CACHE_HOME or ~/.cache as another user; a static
program, or one with more rights than its user, does without."""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "exec",
        help="run a program that expects the device mapped at its open",
        description="Run a program that expects the device mapped at its open.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "--device", metavar="PATH", help="what the program opens, if it is not called ksyms"
    )
    parser.add_argument("program", metavar="PROGRAM", nargs="+", help="and its arguments")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Replace this process by the program.

    Raises:
        ServeError: the shared object cannot be built, or the program cannot be run.
    """
    from .._errors import ServeError, reason
    from .._preload import preloaded

    environment = preloaded(dict(os.environ), options.device)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; a program may not
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(options.program[0], options.program, environment)
    except (OSError, ValueError) as error:
        raise ServeError(
            f"{options.program[0]} cannot be run: {reason(error)}.",
            "Name a program, after --.",
            errno=getattr(error, "errno", None),
        ) from None
