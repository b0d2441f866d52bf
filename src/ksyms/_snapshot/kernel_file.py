"""Snapshots of a kernel's own file: an ELF file with symbols, or a kernel image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._errors import ImageError
from .._images import files_at
from .._linker import Linker
from .._linker.elf_files import ElfLinker
from .._linker.elf_table import ModuleFile
from .snapshot import Snapshot, take


def take_kernel(
    path: str,
    modules: Sequence[ModuleFile],
    layout: str = "linux",
    progress: Callable[[int], None] | None = None,
) -> Snapshot:
    """Take a snapshot of the kernel's file at ``path`` and, of an ELF file, of ``modules``.

    Raises:
        ImageError: it is an image that cannot be read, or there are modules with one.
        SourceError: it cannot be opened.
    """
    files = files_at(path)
    if files is None:
        with ElfLinker(path, modules, progress) as elf:
            return take(elf, layout)
    if modules:
        raise ImageError(
            f"{path} is a kernel's image, of which modules' files say nothing.",
            "Leave out the modules, or name the kernel's ELF file with symbols.",
        )
    with Linker(path, None, progress, debug=None, data=files) as linker:
        return take(linker, layout)
