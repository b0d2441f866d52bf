"""``ksyms decode``: copy a text, and put names beside the kernel addresses in it."""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any, Final
from .arguments import add_verbose
from .source import add_source, load_file, load_named

if TYPE_CHECKING:
    import argparse

    from .._decode import Boot
    from .._symbols import SymbolTable

_EXAMPLES: Final = """\
examples:
  dmesg | ksyms decode                          what this kernel wrote
  ksyms decode --from kernel.elf oops.txt       what another did, in another boot of it
  ksyms decode --from kernel.elf --json oops.txt   one JSON object a frame
  perf script | ksyms decode --from kernel.elf --slide 0
  dmesg --follow | ksyms decode                 each line when it has come
  ksyms decode --from kernel.elf --no-offset stacks.folded   for a flame graph
"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "decode",
        help="name the kernel addresses in a text",
        description="Copy a text, such as an oops, a log or the output of perf script, and "
        "name the kernel addresses in it; everything else stays as it is, byte for byte. A "
        "text of another boot of the same kernel is recognised by the names beside its "
        "addresses, or by its Kernel Offset; otherwise it is taken for a text of the symbols' "
        "own boot.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "text", metavar="TEXT", nargs="*", help="a file; stdin if it is - or missing"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a frame, instead")
    shape.add_argument(
        "--no-offset",
        action="store_true",
        help="replace each address by a name without an offset, for flame graphs",
    )
    boot = parser.add_mutually_exclusive_group()
    boot.add_argument(
        "--slide",
        metavar="N",
        type=_parse_number,
        help="the kernel's addresses in the text are N bytes above the symbols'",
    )
    boot.add_argument(
        "--boot",
        metavar="FILE",
        help="symbols of the boot that wrote the text, if it is another one",
    )
    parser.add_argument(
        "--force", action="store_true", help="decode a text of another build too"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if a frame without an address does not fit the symbols",
    )
    parser.add_argument(
        "--explain", action="store_true", help="explain on stderr which boot the text is of"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="file", metavar="FILE", help="a file with symbols")
    add_source(source)
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Copy each text; return False if one of them has a fault (see :meth:`Copy.run`)."""
    from .._errors import DecodeError, SourceError
    from .copying import Copy

    table = load_named(options, lasts=True)
    boot = _find_boot(table, options)
    good = True
    paths = options.text or ["-"]
    for path in paths:
        copy = Copy(path, table, boot, options)
        try:
            good &= copy.run()
        except (DecodeError, SourceError) as error:
            if len(paths) == 1:
                raise
            copy.say(error)
            good = False
    return good


def _find_boot(table: SymbolTable, options: argparse.Namespace) -> Boot | None:
    """Return the boot that the arguments ``--slide`` or ``--boot`` give; None without them.

    Raises:
        DecodeError: the symbols of ``--boot`` are of another build, or moved by several
            distances.
    """
    from .._decode import boot_of, slid

    if options.slide is not None:
        return slid(table, options.slide)
    if options.boot is None:
        return None
    other = load_file(options.boot)
    _require_same_build(table, other, options.force)
    boot = boot_of(table, other, options.force)
    if boot is None:
        from .._errors import DecodeError

        raise DecodeError(
            f"{other.label} does not have the symbols of {table.label} at one distance.",
            "Name symbols of two boots of one build, or give the slide with --slide.",
        )
    return boot


def _require_same_build(table: SymbolTable, other: SymbolTable, force: bool) -> None:
    """Check that two files are of one build, as far as both have a build-id.

    Raises:
        DecodeError: their build-ids differ, and ``force`` is False.
    """
    from .._errors import DecodeError

    ours, theirs = table.build_id, other.build_id
    if ours and theirs and ours != theirs and not force:
        raise DecodeError(
            f"{other.label} has the build-id {theirs}, and {table.label} {ours}.",
            "Name symbols of two boots of one build, or go on with --force.",
        )


def _parse_number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        import argparse

        raise argparse.ArgumentTypeError(
            f"{text!r} is no number; give it as 0x1e000000, -0x200000 or 0"
        ) from None
