"""``ksyms snapshot``: the kernel's symbols into one ELF file."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Final

from . import output
from .source import add_source, take_snapshot

if TYPE_CHECKING:
    from .._snapshot import Snapshot

DEFAULT_OUTPUT: Final = "kernel.elf"

_EXAMPLES: Final = """\
examples:
  ksyms snapshot                          into kernel.elf
  ksyms snapshot -o vmlinux && perf report --vmlinux vmlinux
  ksyms snapshot -o - | ssh host 'cat > kernel.elf'
  ksyms snapshot --root saved -o other.elf    from another machine's proc and sys
  ksyms snapshot --kallsyms kallsyms.txt      from a saved /proc/kallsyms alone"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "snapshot",
        help="write the kernel's symbols to an ELF file",
        description="Write the kernel's symbols, of one moment, to an ELF file that nm, gdb, "
        "addr2line, perf and elfutils open.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=DEFAULT_OUTPUT,
        help=f"where to write it, - for stdout (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument("--json", action="store_true", help="say what was written as JSON")
    parser.add_argument(
        "--debug-dir",
        metavar="DIR",
        action="append",
        default=[],
        help="look here too for a vmlinux and .ko files, which have exact sizes",
    )
    add_source(parser.add_mutually_exclusive_group())
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Take the snapshot and write it."""
    snapshot = take_snapshot(options, tuple(options.debug_dir))
    if not output.write(options.output, snapshot.image):
        return True
    facts = _facts(snapshot, options.output)
    if options.json:
        print(json.dumps(facts))
    else:
        print(
            f"{options.output}: {facts['symbols']} symbols, {facts['modules']} modules, "
            f"{facts['bytes']} bytes, of {facts['release'] or 'an unknown release'}"
        )
    return True


def _facts(snapshot: Snapshot, file: str) -> dict[str, Any]:
    from .._symbols import load

    table = load(snapshot.image)
    note = table.facts
    return {
        "file": file,
        "bytes": len(snapshot.image),
        "symbols": len(table),
        "modules": sum(file["kind"] == "module" for file in note["files"]),
        "release": note["release"],
        "build_id": note["build_id"],
    }
