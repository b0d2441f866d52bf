"""``ksyms decode``: a text with kernel addresses, and their names in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from .._typing import TYPE_CHECKING, Any, Final
from .source import add_source, load_source

if TYPE_CHECKING:
    import argparse

    from .._decode import Boot, Decoder
    from .._symbols import SymbolTable

_EXAMPLES: Final = """\
examples:
  dmesg | ksyms decode                          what this kernel wrote
  ksyms decode --from kernel.elf oops.txt       what another did, in another boot of it
  ksyms decode --from kernel.elf --json oops.txt   one JSON object a frame
  perf script | ksyms decode --from kernel.elf --slide 0
"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "decode",
        help="name the kernel addresses in a text",
        description="Copy a text, an oops, a log or what perf script prints, and name the "
        "kernel addresses in it; all else stays as it is, byte for byte. Where the text is of "
        "another boot of the same kernel, it tells by names beside addresses or by its Kernel "
        "Offset; else it is taken for the symbols' own boot.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("text", metavar="TEXT", nargs="*", help="a file; - or none is stdin")
    parser.add_argument("--json", action="store_true", help="one JSON object a frame, instead")
    boot = parser.add_mutually_exclusive_group()
    boot.add_argument(
        "--slide",
        metavar="N",
        type=_number,
        help="an address in the text is the symbols' plus N, for the kernel's own",
    )
    boot.add_argument(
        "--boot",
        metavar="FILE",
        help="symbols of the boot that the text is of, if not the same",
    )
    parser.add_argument(
        "--force", action="store_true", help="go on where the text is of another build"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="file", metavar="FILE", help="a file with symbols")
    add_source(source)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Copy each text; true where nothing in them was named that should not have been."""
    from .._decode import boot_of, slid
    from .._symbols import load

    table = load_source(options)
    boot = None
    if options.slide is not None:
        boot = slid(table, options.slide)
    elif options.boot is not None:
        other = load(options.boot)
        _same_build(table, other, options.force)
        boot = boot_of(table, other, options.force)
        if boot is None:
            from .._errors import DecodeError

            raise DecodeError(
                f"{other.label} does not have the symbols of {table.label} at one distance.",
                "Name symbols of two boots of one build, or give the slide with --slide.",
            )
    texts = options.text or ["-"]
    good = [_copy(text, table, boot, options) for text in texts]
    return all(good)


def _copy(
    text: str, table: SymbolTable, boot: Boot | None, options: argparse.Namespace
) -> bool:
    """Copy one text to stdout, and say on stderr what of it cannot be known."""
    from .._decode import Decoder, Frames
    from .._errors import reason

    decoder = Decoder(table, boot, force=options.force)
    frames = Frames(decoder, table)
    out = sys.stdout.buffer
    try:
        if text == "-" and sys.stdin is None:
            raise ValueError("it is closed")
        fd = sys.stdin.fileno() if text == "-" else os.open(text, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unread(text, reason(error), getattr(error, "errno", None)) from None
    try:
        for block, plain in _blocks(text, fd, decoder):
            if not options.json:
                out.write(decoder.decode(block) if plain else block)
            elif plain:
                for record in frames.of(block):
                    out.write(json.dumps(record).encode() + b"\n")
            out.flush()
    finally:
        if text != "-":
            os.close(fd)
    return _report(text, decoder, options.file is not None)


def _blocks(text: str, fd: int, decoder: Decoder) -> Iterator[tuple[bytes, bool]]:
    """The blocks of a text, once ``decoder`` has looked ahead in it."""
    from .._decode import beginning, blocks, cut, pieces, seekable
    from .._errors import reason

    try:
        start = os.lseek(fd, 0, os.SEEK_CUR) if seekable(fd) else None
        begun = beginning(fd) if start is None else b""
        lines = begun[: begun.rfind(b"\n") + 1] or begun
        ahead = blocks(pieces(fd) if start is not None else cut(lines), decoder.pattern)
        decoder.look_ahead(block for block, plain in ahead if plain)
        if start is not None:
            os.lseek(fd, start, os.SEEK_SET)
        yield from blocks(pieces(fd, begun), decoder.pattern)
    except OSError as error:
        raise _unread(text, reason(error), error.errno) from None


def _report(text: str, decoder: Decoder, elsewhere: bool) -> bool:
    """Say what is not known; false where names were given that should not have been.

    A text that nothing is known of is this boot's, unless symbols of ``elsewhere`` are asked.
    """
    from .._decode import MODULES

    name = "stdin" if text == "-" else text
    for why, addresses in decoder.unknown.items():
        listed = " ".join(sorted(decoder.linked_in)) if why == MODULES else ""
        several = "addresses stay" if len(addresses) > 1 else "address stays"
        print(
            f"ksyms: {name}: {len(addresses)} {several} without a name: {why}"
            + (f" (linked in: {listed})." if listed else "."),
            file=sys.stderr,
        )
    if decoder.evidence.assumed and elsewhere:
        print(
            f"ksyms: {name}: Nothing in it tells which boot it is of; it was taken for the "
            "symbols' own.\n"
            "       If it is of another, decode it with --slide, or --boot and its symbols.",
            file=sys.stderr,
        )
    if decoder.evidence.contradicted:
        print(
            f"ksyms: {name}: Addresses were named as of the symbols' own boot, and a later "
            "part of the text tells of another.\n"
            "       Decode it again with --slide, or --boot and symbols of that boot.",
            file=sys.stderr,
        )
    return not decoder.evidence.contradicted


def _same_build(table: SymbolTable, other: SymbolTable, force: bool) -> None:
    from .._errors import DecodeError

    ours, theirs = (t.facts.get("build_id") for t in (table, other))
    if ours and theirs and ours != theirs and not force:
        raise DecodeError(
            f"{other.label} has the build-id {theirs}, and {table.label} {ours}.",
            "Name symbols of two boots of one build, or go on with --force.",
        )


def _unread(text: str, why: str, errno: int | None) -> Exception:
    from .._errors import SourceError

    return SourceError(
        f"{text} cannot be read: {why}.", "Name a file that holds a text.", errno=errno
    )


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        import argparse

        raise argparse.ArgumentTypeError(
            f"{text!r} is no number; give it as 0x1e000000, -0x200000 or 0"
        ) from None
