"""``ksyms lookup``: print the symbols of addresses, names, patterns and ranges."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from .._typing import TYPE_CHECKING, Any, Final
from .arguments import add_verbose
from .question import Question, parse_question
from .source import add_source, load_named

if TYPE_CHECKING:
    import argparse

_EXAMPLES: Final = r"""examples:
  ksyms lookup 0xffffffff81000000
  ksyms lookup --from kernel.elf ffffffff81001234 schedule schedule+0x12
  ksyms lookup --from kernel.elf 0xffffffff81000000-0xffffffff81000100
  ksyms lookup --from kernel.elf 0xffffffff81000000+0x100
  ksyms lookup --from kernel.elf 'vfs_*' '/^nf_.*_hook$/' 'ext4:*_read_piece' '[ext4]'
  ksyms lookup --from kernel.elf --json - < addresses

WHAT is
  an address    0x and hexadecimal digits, or 16 or 8 of them as kallsyms has them
  a range       FIRST-END or FIRST+LENGTH; END is the first address after it
  a name        also NAME+OFFSET, in all that are so long, and NAME+OFFSET/SIZE, in all of
                that size; [MODULE] may stand behind it
  a pattern     a glob (* ? [...]), or a regular expression between slashes, which is found
                anywhere in a name
  MODULE:NAME, MODULE:PATTERN   of one module only; vmlinux: is the kernel itself
  [MODULE]      all of a module
  a frame       as the kernel prints it: RIP: 0010:NAME+OFFSET/SIZE [MODULE], [<ADDRESS>] NAME
  -             one of these a line, from standard input; each line has an answer

The columns are address, kallsyms' letter, size in bytes (~: inferred), name, section; then,
where there are some, the address at link time, the other names of the address, and of BPF
the program's id and type, source and line. A line of standard input that has no answer has a
row with ?? for the address. Control characters in names are ^[, others that a terminal
obeys or hides \u202e, other bytes \xff, blanks \x20; JSON has names as they are."""

STDIN: Final = "-"
LONGEST: Final = 1 << 20
"""Largest length of a line of standard input, in bytes."""
_PIECE: Final = 1 << 16  # bytes of standard input that are read together


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "lookup",
        help="say what is at an address, or where names are",
        description="Say which symbol an address lies in, or where every symbol of a name, "
        "a pattern or a range is; in the running kernel, or in a file.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "what", metavar="WHAT", nargs="+", type=_parse_argument, help="see below"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a symbol")
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="of an address that is in no symbol, say what comes before and after",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="file", metavar="FILE", help="a file with symbols")
    add_source(source)
    add_verbose(parser)
    parser.set_defaults(run=run)


def _parse_argument(text: str) -> Question:
    """Return the question that an argument asks; ArgumentTypeError if it has no meaning."""
    try:
        # Decode it as the names in a file are decoded, whatever the locale.
        return parse_question(os.fsencode(text).decode("utf-8", "surrogateescape"))
    except ValueError as error:
        import argparse

        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> bool:
    """Print the answers to all questions; return True if each has one."""
    table = load_named(options, lasts=any(asked.text == STDIN for asked in options.what))
    # Imported only now: reading the kernel's text takes longest, and so comes first.
    from .sheet import AnswerRows, Records

    sheet = (Records if options.json else AnswerRows)(table, options.nearest)

    line = 1
    for asked in options.what:
        if asked.text != STDIN:
            sheet.add(asked)
            continue
        sheet.flush()
        for texts in _read_lines():
            sheet.add_lines(texts, line)
            sheet.flush()
            line += len(texts)
    sheet.flush()
    return sheet.complete


def _read_lines() -> Iterator[list[str]]:
    """Yield the lines of standard input in lists: all whole lines that have come by then.

    Raises:
        SourceError: standard input cannot be read, or a line is too long.
    """
    left = b""
    while piece := _read_piece():
        *lines, left = (left + piece).split(b"\n")
        yield _decode_lines(lines)
        if len(left) > LONGEST:
            from .._errors import SourceError

            raise SourceError(
                f"Standard input has a line of more than {LONGEST >> 20} MiB.",
                "Give it one address, range, name or pattern a line.",
            )
    if left:
        yield _decode_lines([left])


def _decode_lines(lines: list[bytes]) -> list[str]:
    return [line.strip().decode("utf-8", "surrogateescape") for line in lines]


def _read_piece() -> bytes:
    """Return what has come of standard input, at most :data:`_PIECE` bytes; b"" at its end."""
    from .._errors import SourceError, reason

    try:
        return os.read(sys.stdin.fileno(), _PIECE)
    except (OSError, AttributeError) as error:  # sys.stdin is None if it is closed
        why = reason(error) if isinstance(error, OSError) else "it is closed"
        raise SourceError(
            f"Standard input cannot be read: {why}.", "Give it a file or a pipe."
        ) from None
