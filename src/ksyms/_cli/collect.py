"""``ksyms collect``: save this machine's files, for a snapshot on another machine."""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any, Final
from . import render
from .arguments import add_verbose

if TYPE_CHECKING:
    import argparse

_EXAMPLES: Final = """\
examples:
  ksyms collect -o host.tar.gz             on the machine that is asked about
  ksyms snapshot --root host.tar.gz -o host.elf    on another
  ksyms lookup --from host.tar.gz schedule"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "collect",
        help="save this machine's files for another to read",
        description="Save what a snapshot reads of this machine, of one moment, into an "
        "archive that --root, info and lookup take on another machine.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to write it, - for stdout"
    )
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="another machine's saved proc and sys"
    )
    parser.add_argument("--btf", action="store_true", help="include the kernel's types (BTF)")
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Collect the files and write the archive; return True."""
    from .._linker.collect import collect
    from .._sources.kernel_files import open_kernel_files

    with open_kernel_files(options.root, debug=None, btf=options.btf) as linker:
        data = collect(linker)
    if render.write(options.output, memoryview(data)):
        render.line(f"{options.output}: {len(data)} bytes")
    return True
