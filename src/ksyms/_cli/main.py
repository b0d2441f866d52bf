"""Arguments, exit statuses, and what an error looks like."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

from .._errors import KsymsError, reason
from .._version import __version__
from . import collect, execute, info, lookup, mapping, serve, snapshot

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 1
EXIT_INTERRUPTED: Final = 130

_EXAMPLES: Final = """\
examples:
  ksyms snapshot -o kernel.elf           the running kernel's symbols as one ELF file
  ksyms snapshot --root saved -o -       another machine's saved files, to stdout
  ksyms info                             what this machine would show, and why not
  ksyms info kernel.elf                  which kernel the file is of, and what is in it
  ksyms lookup 0xffffffff81000000        what is at an address, in the running kernel
  ksyms lookup --from kernel.elf schedule   where a name is, in a file
  ksyms map kernel.elf -o map.html       its address space as a page to explore
  ksyms collect -o host.tar.gz           this machine's files, for another to read

exit status: 0 done, 1 refused or not found, 2 wrong arguments, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status.

    argparse exits by itself with 0 for --help and --version, 2 for wrong arguments.
    """
    if not _streams():
        return EXIT_REFUSED
    signal.signal(signal.SIGTERM, _terminate)
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], bool] = options.run
    try:
        status = EXIT_OK if run(options) else EXIT_REFUSED
        sys.stdout.flush()
        return status
    except KsymsError as error:
        print(f"ksyms: {error.what}\n       {error.remedy}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; nothing more may be written at exit.
        _silence()
        return EXIT_REFUSED
    except OSError as error:
        print(f"ksyms: The output cannot be written: {reason(error)}.", file=sys.stderr)
        print("       Give it a place that has room.", file=sys.stderr)
        _silence()
        return EXIT_REFUSED


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


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that what was begun is taken back


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ksyms",
        description="The kernel's symbols as one consistent ELF file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ksyms {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (snapshot, info, lookup, mapping, collect, serve, execute):
        command.add(commands)
    return parser
