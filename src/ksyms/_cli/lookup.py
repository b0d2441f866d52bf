"""``ksyms lookup``: an address to its symbol; names, patterns and ranges to all of theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from .._typing import TYPE_CHECKING, Any, Final
from .question import Question, answers, question
from .source import add_source, load_source

if TYPE_CHECKING:
    import argparse

_EXAMPLES: Final = """\
examples:
  ksyms lookup 0xffffffff81000000
  ksyms lookup --from kernel.elf ffffffff81001234 schedule schedule+0x12
  ksyms lookup --from kernel.elf 0xffffffff81000000-0xffffffff81000100
  ksyms lookup --from kernel.elf 0xffffffff81000000+0x100
  ksyms lookup --from kernel.elf 'vfs_*' '/^nf_.*_hook$/' 'ext4:*_read' '[ext4]'
  ksyms lookup --from kernel.elf --json - < addresses

WHAT is
  an address    0x and hexadecimal digits, or 16 or 8 of them as kallsyms has them
  a range       FIRST-END or FIRST+LENGTH; END is the first address after it
  a name        also NAME+OFFSET, what lies so many bytes behind where it begins
  a pattern     a glob (* ? [...]), or a regular expression between slashes, which is found
                anywhere in a name
  MODULE:NAME, MODULE:PATTERN   of one module only; vmlinux: is the kernel itself
  [MODULE]      all of a module
  -             one of these a line, from standard input

The columns are address, kallsyms' letter, size in bytes (~: inferred), name, section; then,
where there are some, the address at link time, and the other names of the address."""

STDIN: Final = "-"
LONGEST: Final = 1 << 20
"""Bytes that a line from standard input may have."""
_PIECE: Final = 1 << 16


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "lookup",
        help="say what is at an address, or where names are",
        description="Say which symbol an address lies in, or where every symbol of a name, "
        "a pattern or a range is; in the running kernel, or in a file.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("what", metavar="WHAT", nargs="+", type=_argument, help="see below")
    parser.add_argument("--json", action="store_true", help="one JSON object a symbol")
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="of an address that is in no symbol, say what comes before and after",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="file", metavar="FILE", help="a file with symbols")
    add_source(source)
    parser.set_defaults(run=run)


def _argument(text: str) -> Question:
    try:
        return question(text)
    except ValueError as error:
        import argparse

        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> bool:
    """Answer every question; true where each one was found."""
    table = load_source(options)
    from .sheet import Sheet  # not before the kernel's text is read, which takes longest

    sheet = Sheet(table, options.json, options.nearest)
    for asked in _blocks(options.what):
        for each, found in answers(table, asked):
            sheet.add(each, found)
        sheet.flush()
    return sheet.complete


def _blocks(asked: list[Question]) -> Iterator[list[Question]]:
    """The questions, as many at once as are there; those of standard input where ``-`` is."""
    while asked:
        texts = [each.text for each in asked]
        end = texts.index(STDIN) if STDIN in texts else len(asked)
        if end:
            yield asked[:end]
        for lines in _lines() if end < len(asked) else ():
            yield [_understood(line) for line in lines]
        asked = asked[end + 1 :]


def _understood(line: str) -> Question:
    try:
        return question(line)
    except ValueError as error:
        return Question(line, wrong=str(error))


def _lines() -> Iterator[list[str]]:
    """The lines of standard input that are not empty, all that have come at a time."""
    left = b""
    while piece := _read():
        *lines, left = (left + piece).split(b"\n")
        if len(left) > LONGEST:
            from .._errors import SourceError

            raise SourceError(
                f"Standard input has a line of more than {LONGEST >> 20} MiB.",
                "Give it one address, range, name or pattern a line.",
            )
        yield _decoded(lines)
    yield _decoded([left])


def _decoded(lines: list[bytes]) -> list[str]:
    return [text.decode("utf-8", "surrogateescape") for line in lines if (text := line.strip())]


def _read() -> bytes:
    from .._errors import SourceError, reason

    try:
        return os.read(sys.stdin.fileno(), _PIECE)
    except (OSError, AttributeError) as error:  # without standard input it is None
        why = reason(error) if isinstance(error, OSError) else "it is closed"
        raise SourceError(
            f"Standard input cannot be read: {why}.", "Give it a file or a pipe."
        ) from None
