"""The parser of all commands' arguments, with its help and its messages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from importlib import import_module

from .._printable import printable
from .._typing import TYPE_CHECKING, Any, Final
from .._version import __version__

if TYPE_CHECKING:
    from typing import NoReturn

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


_DIGITS: Final = 6
"""Number of digits of the variable COLUMNS that are read; no terminal is wider."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """A help formatter that is as wide as the terminal, and keeps the lines of the examples.

    argparse makes a formatter for each argument that is added. Without a width it would import
    shutil to find the terminal's, and so five compression modules.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_width() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap a description, but not the examples, which have several lines."""
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class _ArgumentParser(argparse.ArgumentParser):
    """A parser of ksyms' arguments, or of one command's, whose help _Help formats."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        """Print the message and exit. It may quote the arguments, so it is made printable."""
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print as argparse does, but let a failed write to stdout raise its error."""
        if file is not None and file is sys.stdout:
            file.write(message)
            file.flush()
        else:
            super()._print_message(message, file)


class _Verbose(argparse.Action):
    """The action of an option that logs all decisions, beginning when it is parsed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Log to stderr. The module logging is imported only here, if it is needed."""
        from .render import complain
        from .verbose import log_to

        log_to(complain)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add ``--verbose`` to a command's arguments."""
    parser.add_argument(
        "--verbose",
        action=_Verbose,
        nargs=0,
        default=argparse.SUPPRESS,
        help="say on stderr what was chosen or refused, and why",
    )


def make_parser(files: Iterable[str], defaults: dict[str, object]) -> argparse.ArgumentParser:
    """Return the parser of the commands that the modules ``files`` of this package add.

    ``defaults`` are the values of options that a command may set to other ones.
    """
    parser = _ArgumentParser(
        prog="ksyms",
        description="The kernel's symbols as one consistent ELF file.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"ksyms {__version__}")
    parser.set_defaults(**defaults)
    # Without prog, argparse would format its usage to find it, and import more for that.
    commands = parser.add_subparsers(
        title="commands", prog=parser.prog, metavar="COMMAND", required=True
    )
    for file in files:
        import_module(f".{file}", __package__).add(commands)
    return parser


def _terminal_width() -> int:
    """Return the terminal's width in characters, as shutil.get_terminal_size does."""
    asked = os.environ.get("COLUMNS", "")[:_DIGITS]
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80
