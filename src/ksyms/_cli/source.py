"""Where a command's symbols come from: the arguments that say so, and the snapshot."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._snapshot import Snapshot
    from .._symbols import SymbolTable

_COMPRESSED: Final = (b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh")
"""What a compressed archive begins with: gzip, xz, bzip2."""
_TAR: Final = b"ustar"
"""What a plain one has at byte 257 (POSIX.1, pax, "ustar Interchange Format")."""


def add_source(group: argparse._MutuallyExclusiveGroup) -> None:
    """The arguments that name a kernel: the running one unless they do."""
    group.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="another machine's saved proc and sys, or an archive",
    )
    group.add_argument("--kallsyms", metavar="FILE", help="a saved /proc/kallsyms by itself")


def open_table(file: str) -> SymbolTable:
    """The symbols in ``file``: an ELF file, or an archive that ``ksyms collect`` wrote."""
    from .._symbols import load

    if os.path.isfile(file):
        with open(file, "rb") as opened:
            head = opened.read(512)
        if head.startswith(_COMPRESSED) or head[257:262] == _TAR:
            from .._linker import Linker
            from .._snapshot import take

            with Linker(file, debug=None) as linker:
                return load(take(linker).image)
    return load(file)


def take_snapshot(
    options: argparse.Namespace, debug: tuple[str, ...] | None = None
) -> Snapshot:
    """The snapshot that the arguments ask for, with progress where it takes long.

    ``debug`` as :class:`Linker` takes it: sizes are inferred where nothing is said.
    """
    from .._linker import Linker
    from .._snapshot import take
    from .progress import Progress

    with (
        Progress("reading symbols") as progress,
        Linker(options.root, options.kallsyms, progress.advance, debug) as linker,
    ):
        return take(linker)
