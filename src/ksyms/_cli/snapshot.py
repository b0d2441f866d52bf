"""``ksyms snapshot``: write the kernel's symbols to one ELF file."""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any, Final, TypedDict
from . import render
from .arguments import add_verbose
from .source import add_elf_source, add_source, take_snapshot

if TYPE_CHECKING:
    import argparse

    from .._snapshot import Snapshot

DEFAULT_OUTPUT: Final = "kernel.elf"
PORTABLE_OUTPUT: Final = "kernel.elf.zst"

_EXAMPLES: Final = """\
examples:
  ksyms snapshot                          into kernel.elf
  ksyms snapshot -o vmlinux && perf report --vmlinux vmlinux
  ksyms snapshot -o - | ssh host 'cat > kernel.elf'
  ksyms snapshot --root saved -o other.elf    from another machine's proc and sys
  ksyms snapshot --kallsyms kallsyms.txt      from a saved /proc/kallsyms alone
  ksyms snapshot --portable --btf             to send: small, with prototypes
  ksyms snapshot --kernel vmlinux --module dummy.ko@0xffffffffc0100000
  ksyms snapshot --layout freebsd --kernel kernel --module if_em.ko@0xffffffff82a00000"""


class SnapshotRecord(TypedDict):
    """The record of a written snapshot.

    Three members come from its note, and are None for the driver's layout, which has no note.
    """

    file: str
    symbols: int
    modules: int | None
    release: str | None
    build_id: str | None
    bytes: int


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "snapshot",
        help="write the kernel's symbols to an ELF file",
        description="Write the kernel's symbols, of one moment, to an ELF file that nm, gdb, "
        "addr2line, perf and elfutils open.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"where to write it, - for stdout (default: {DEFAULT_OUTPUT}, {PORTABLE_OUTPUT})",
    )
    parser.add_argument("--json", action="store_true", help="describe what was written as JSON")
    parser.add_argument(
        "--debug-dir",
        metavar="DIR",
        action="append",
        default=[],
        help="a further directory with a vmlinux or .ko files, which have exact sizes",
    )
    parser.add_argument(
        "--layout",
        choices=("linux", "freebsd"),
        default="linux",
        help="linux: for this system's tools; freebsd: what FreeBSD's /dev/ksyms gives",
    )
    parser.add_argument(
        "--btf",
        action="store_true",
        help="include the kernel's types (BTF), for prototypes of functions",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="packed by zstd, to send; info, lookup and zstd -d take it",
    )
    source = parser.add_mutually_exclusive_group()
    add_source(source)
    add_elf_source(parser, source)
    add_verbose(parser)
    parser.set_defaults(run=run, wrong=parser.error)


def run(options: argparse.Namespace) -> bool:
    """Take the snapshot and write it; return True."""
    if options.module and options.kernel is None:
        options.wrong("argument --module: not allowed without argument --kernel")
    if options.debug_dir and options.kernel is not None:
        options.wrong("argument --debug-dir: not allowed with argument --kernel")
    if options.btf and (options.kernel is not None or options.layout != "linux"):
        options.wrong("argument --btf: not allowed with arguments --kernel, --layout freebsd")
    if options.portable and options.layout != "linux":
        options.wrong("argument --portable: not allowed with --layout freebsd")

    if options.output is None:
        options.output = PORTABLE_OUTPUT if options.portable else DEFAULT_OUTPUT

    snapshot = take_snapshot(options, tuple(options.debug_dir), options.layout)
    data = _packed(snapshot) if options.portable else snapshot.image
    if not render.write(options.output, data):
        return True
    facts = record(snapshot, options.output, len(data))
    render.show(facts, options.json, _print)
    return True


def _packed(snapshot: Snapshot) -> memoryview:
    from .progress import Progress

    with Progress("packing") as progress:
        return memoryview(snapshot.portable(progress.advance))


def record(snapshot: Snapshot, file: str, length: int) -> SnapshotRecord:
    """Return the record of a snapshot that was written to ``file``, in ``length`` bytes."""
    note = snapshot.facts
    return {
        "file": file,
        "symbols": snapshot.symbols,
        "modules": sum(f["kind"] == "module" for f in note["files"]) if note else None,
        "release": note["release"] if note else None,
        "build_id": note["build_id"] if note else None,
        "bytes": length,
    }


def _print(facts: SnapshotRecord) -> None:
    counts = [f"{facts['symbols']} symbols", f"{facts['bytes']} bytes"]
    if facts["modules"] is None:
        counts.append("as FreeBSD's driver lays them out")
    else:
        counts.insert(1, f"{facts['modules']} modules")
        counts.append(f"of {facts['release'] or 'an unknown release'}")
    render.line(f"{facts['file']}: {', '.join(counts)}")
