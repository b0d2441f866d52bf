"""Where a command's symbols come from: the arguments that say so, and the snapshot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._snapshot import Snapshot


def add_source(group: argparse._MutuallyExclusiveGroup) -> None:
    """The arguments that name a kernel: the running one unless they do."""
    group.add_argument(
        "--root", metavar="DIR", default="/", help="another machine's saved proc and sys"
    )
    group.add_argument("--kallsyms", metavar="FILE", help="a saved /proc/kallsyms by itself")


def take_snapshot(options: argparse.Namespace, layout: str = "linux") -> Snapshot:
    """The snapshot that the arguments ask for, with progress where it takes long."""
    from .._linker import Linker
    from .._snapshot import take
    from .progress import Progress

    with Progress("reading symbols") as progress:
        return take(Linker(options.root, options.kallsyms, progress.advance), layout)
