"""The arguments of every command, by argparse: what it reads, its help, what it refuses."""

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
"""How many of a terminal's width are looked at."""


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

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, which is in their words, and end."""
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's, which does not say that it could not write to stdout."""
        if file is not None and file is sys.stdout:
            file.write(message)
            file.flush()
        else:
            super()._print_message(message, file)


def parser_of(files: Iterable[str], defaults: dict[str, object]) -> argparse.ArgumentParser:
    """The parser of the commands in ``files`` here; ``defaults`` where they set none."""
    parser = _Parser(
        prog="ksyms",
        description="The kernel's symbols as one consistent ELF file.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"ksyms {__version__}")
    parser.set_defaults(**defaults)
    # With prog, argparse does not format its usage to find that out, for which it imports more.
    commands = parser.add_subparsers(
        title="commands", prog=parser.prog, metavar="COMMAND", required=True
    )
    for file in files:
        import_module(f".{file}", __package__).add(commands)
    return parser


def _columns() -> int:
    """As shutil.get_terminal_size has them."""
    asked = os.environ.get("COLUMNS", "")[:_DIGITS]
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80
