"""The arguments that name the source of a command's symbols, and how symbols are loaded."""

from __future__ import annotations

import os

from .._sources import KALLSYMS, KERNEL, ROOT, Input
from .._typing import TYPE_CHECKING, Final
from .stopping import killable

if TYPE_CHECKING:
    import argparse

    from .._linker.elf_table import ModuleFile
    from .._snapshot import Snapshot
    from .._symbols import SymbolTable

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_MALLOC_TOLD: Final = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}
"""Environment variables that tune malloc (mallopt(3)); if one is set, the user decides."""
_COPIED: Final = 32 << 20
"""Largest size in bytes of a file that is copied: that of snapshots, in some milliseconds."""
_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def is_address(text: str) -> bool:
    """Return True if ``text`` can be an address in hexadecimal.

    That is 0x and digits, or 8 or 16 digits without 0x, as kallsyms prints them. Eight digits
    can be a name too.
    """
    if text[:2] in ("0x", "0X"):
        return len(text) > 2 and _DIGITS.issuperset(text[2:])
    return len(text) in (8, 16) and _DIGITS.issuperset(text)


def add_source(group: argparse._MutuallyExclusiveGroup) -> None:
    """Add the arguments that name a kernel; without them it is the running kernel."""
    group.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="another machine's saved proc and sys, or an archive",
    )
    group.add_argument("--kallsyms", metavar="FILE", help="a saved /proc/kallsyms by itself")


def add_elf_source(
    parser: argparse.ArgumentParser, group: argparse._MutuallyExclusiveGroup
) -> None:
    """Add the arguments that name the ELF files of a kernel and of its modules."""
    group.add_argument("--kernel", metavar="FILE", help="the kernel's own file")
    parser.add_argument(
        "--module",
        metavar="FILE@ADDRESS",
        action="append",
        default=[],
        type=parse_module_file,
        help="with --kernel: a module's ELF file and where it was loaded to; or, of an "
        "object file, FILE@.text=ADDRESS,.data=ADDRESS...",
    )


def parse_module_file(text: str) -> ModuleFile:
    """Return the file and the addresses of FILE@ADDRESS or FILE@SECTION=ADDRESS,...

    Raises:
        argparse.ArgumentTypeError: ``text`` is not of that form.
    """
    from .._linker.elf_table import ModuleFile

    path, at, place = text.rpartition("@")
    if at and path and is_address(place):
        return ModuleFile(path, int(place, 16))
    parts = [part.partition("=") for part in place.split(",")]
    sections = {name: int(address, 16) for name, _, address in parts if is_address(address)}
    if not at or not path or len(sections) != len(parts) or "" in sections:
        import argparse

        raise argparse.ArgumentTypeError(
            f"{text!r} is neither FILE@ADDRESS nor FILE@SECTION=ADDRESS,..."
        )
    return ModuleFile(path, None, sections)


def load_named(options: argparse.Namespace, lasts: bool = False) -> SymbolTable:
    """Return the table of the file that ``--from`` names, or of a snapshot of the kernel.

    ``lasts`` is passed to :func:`load_file`.
    """
    from .._symbols import load

    if options.file is not None:
        return load_file(options.file, lasts)
    return load(take_snapshot(options).image)


def load_file(path: str, lasts: bool = False) -> SymbolTable:
    """Return the table of the file at ``path``.

    While this waits for a stopped FUSE server, a signal kills the process. ``lasts`` is True
    if the command runs as long as its input comes. Then a file of at most :data:`_COPIED` bytes
    is copied and not mapped: SIGBUS would end the process if somebody truncated a mapped file.
    """
    from .._symbols import load

    return killable(lambda: load(path, copy=lasts and _file_size(path) <= _COPIED))


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0  # load() then tells why it cannot be opened


def take_snapshot(
    options: argparse.Namespace,
    debug: tuple[str, ...] | None = None,
    layout: str = "linux",
) -> Snapshot:
    """Return a snapshot of the source that the arguments name; show progress if it takes long.

    ``debug`` has directories with debug files; with None all sizes are inferred.
    """
    _keep_memory()
    from .._snapshot import take_chosen
    from .progress import Progress

    with Progress("reading symbols") as progress:
        path, argument = _named_source(options)
        given = Input(
            path,
            argument,
            modules=getattr(options, "module", ()),
            debug=debug,
            btf=getattr(options, "btf", False),
            progress=progress.advance,
        )
        return take_chosen(given, layout)


def _named_source(options: argparse.Namespace) -> tuple[str, str]:
    """Return the path of the source that the user named, and which argument named it."""
    if getattr(options, "kernel", None) is not None:
        return options.kernel, KERNEL
    if options.kallsyms is not None:
        return options.kallsyms, KALLSYMS
    return options.root, ROOT


def _keep_memory() -> None:
    """Let glibc keep the memory of freed arrays and use it for the next ones.

    By default glibc returns blocks of more than 128 KB to the kernel. Then the next array takes
    a page fault for each page: 4,400 of the 5,600 faults while a kallsyms text is parsed.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and not _MALLOC_TOLD & os.environ.keys():  # musl has none
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 16 << 20)
