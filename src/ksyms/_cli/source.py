"""Where a command's symbols come from: the arguments that say so, and the snapshot."""

from __future__ import annotations

import os

from .._typing import TYPE_CHECKING, Final
from .stopping import mortal

if TYPE_CHECKING:
    import argparse

    from .._linker.elf_files import ElfLinker
    from .._linker.elf_table import ModuleFile
    from .._snapshot import Snapshot
    from .._symbols import SymbolTable

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_MALLOC_TOLD: Final = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}
"""The variables by which who calls has said it otherwise (mallopt(3))."""
_COPIED: Final = 32 << 20
"""Bytes of a file that is copied at most: snapshots are smaller, and take some milliseconds."""
_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def is_address(text: str) -> bool:
    """Whether it is 0x and digits, or without 0x 8 or 16 digits as kallsyms prints them.

    Eight can be a name too.
    """
    if text[:2] in ("0x", "0X"):
        return len(text) > 2 and _DIGITS.issuperset(text[2:])
    return len(text) in (8, 16) and _DIGITS.issuperset(text)


def add_source(group: argparse._MutuallyExclusiveGroup) -> None:
    """The arguments that name a kernel: the running one unless they do."""
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
    """The arguments that name ELF files to take the kernel's and modules' symbols from."""
    group.add_argument("--kernel", metavar="FILE", help="the kernel's own file")
    parser.add_argument(
        "--module",
        metavar="FILE@ADDRESS",
        action="append",
        default=[],
        type=module_file,
        help="with --kernel: a module's ELF file and where it was loaded to; or, of an "
        "object file, FILE@.text=ADDRESS,.data=ADDRESS...",
    )


def module_file(text: str) -> ModuleFile:
    """The module that ``text`` names.

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


def load_source(options: argparse.Namespace, lasts: bool = False) -> SymbolTable:
    """The symbols that ``--from`` names, or those of the kernel that the arguments name.

    ``lasts`` as :func:`loaded` takes it.
    """
    from .._symbols import load

    if options.file is not None:
        return loaded(options.file, lasts)
    return load(take_snapshot(options).image)


def loaded(path: str, lasts: bool = False) -> SymbolTable:
    """The symbols in the file at ``path``; a signal ends it while its server is stopped.

    Where the command ``lasts`` as long as its input does, a file that is no larger than
    :data:`_COPIED` is copied: whoever makes it shorter meanwhile cannot end the process.
    """
    from .._symbols import load

    return mortal(lambda: load(path, copy=lasts and _size(path) <= _COPIED))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0  # who opens it says why


def take_snapshot(
    options: argparse.Namespace,
    debug: tuple[str, ...] | None = None,
    layout: str = "linux",
) -> Snapshot:
    """The snapshot that the arguments ask for, with progress where it takes long.

    ``debug`` as :class:`Linker` takes it: sizes are inferred where nothing is said.
    """
    _keep_memory()
    from .._linker import Linker
    from .._snapshot import take
    from .progress import Progress

    linker: Linker | ElfLinker
    with Progress("reading symbols") as progress:
        if getattr(options, "kernel", None) is not None:
            from .._images import kernel_linker

            linker = kernel_linker(options.kernel, options.module, progress.advance)
        else:
            btf = getattr(options, "btf", False)
            linker = Linker(options.root, options.kallsyms, progress.advance, debug, btf)
        with linker:
            return take(linker, layout)


def _keep_memory() -> None:
    """Have glibc keep the memory of arrays that are gone, for the next ones.

    It begins with giving back all that is larger than 128 KB, and the kernel takes a fault a
    page to hand it out again: 4,400 of the 5,600 that taking a text apart took.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and not _MALLOC_TOLD & os.environ.keys():  # musl has none
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 16 << 20)
