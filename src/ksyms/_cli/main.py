"""Arguments, exit statuses, and what an error looks like."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType

from .._errors import KsymsError, reason
from .._typing import Any, Final
from .._version import __version__

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 1
EXIT_INTERRUPTED: Final = 130

_COMMANDS: Final = {
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

_EXAMPLES: Final = """\
examples:
  ksyms snapshot -o kernel.elf           the running kernel's symbols as one ELF file
  ksyms snapshot --root saved -o -       another machine's saved files, to stdout
  ksyms info                             what this machine would show, and why not
  ksyms info kernel.elf                  which kernel the file is of, and what is in it
  ksyms lookup 0xffffffff81000000        what is at an address, in the running kernel
  ksyms lookup --from kernel.elf schedule   where a name is, in a file
  ksyms lookup 'vfs_*' '[ext4]' - < list    patterns, a module, and what a list asks
  dmesg | ksyms decode                   a text, with the names of its addresses
  ksyms diff old.elf new.elf             what appeared, went, grew, moved
  ksyms map kernel.elf -o map.html       its address space as a page to explore
  ksyms collect -o host.tar.gz           this machine's files, for another to read

exit status: 0 done, 1 refused or not found, 2 wrong arguments, 130 interrupted;
ksyms diff: 0 no difference, 1 some, 2 trouble"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help with the lines of its examples as they are, as wide as the terminal.

    argparse makes one for every argument that is added, and would import shutil, which
    unpacks archives, to ask for the width.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class _Parser(argparse.ArgumentParser):
    """A parser, of the whole or of a command, with such help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status.

    argparse exits by itself with 0 for --help and --version, 2 for wrong arguments.
    """
    writable = _streams()
    signal.signal(signal.SIGTERM, _terminate)
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    run: Callable[[argparse.Namespace], bool] = options.run
    refused: int = options.refused
    if not writable:
        return refused
    try:
        status = EXIT_OK if run(options) else EXIT_REFUSED
        sys.stdout.flush()
        return status
    except KsymsError as error:
        print(f"ksyms: {error.what}\n       {error.remedy}", file=sys.stderr)
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


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that what was begun is taken back


def _columns() -> int:
    """As shutil.get_terminal_size has them."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; of all commands only the one that is asked for is imported."""
    parser = _Parser(
        prog="ksyms",
        description="The kernel's symbols as one consistent ELF file.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"ksyms {__version__}")
    parser.set_defaults(refused=EXIT_REFUSED)
    # With prog, argparse does not format its usage to find that out, for which it imports more.
    commands = parser.add_subparsers(
        title="commands", prog=parser.prog, metavar="COMMAND", required=True
    )
    named = _COMMANDS.get(arguments[0]) if arguments else None
    for command in [named] if named else dict.fromkeys(_COMMANDS.values()):
        import_module(f".{command}", __package__).add(commands)
    return parser
