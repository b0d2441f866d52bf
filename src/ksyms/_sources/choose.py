"""The choice of a source: the first kind in a table that recognises an input."""

from __future__ import annotations

from importlib import import_module

from .._errors import ImageError
from .._log import decided
from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .input import Input
    from .kind import SourceKind

KINDS = [
    ("ksyms._sources.kernel_files", "RunningKernel"),
    ("ksyms._sources.kernel_files", "SavedRoot"),
    ("ksyms._sources.kernel_files", "KallsymsText"),
    ("ksyms._sources.kernel_image", "KernelImage"),
    ("ksyms._sources.elf_file", "ElfFileOnDisk"),
]
"""The module and the class of each kind; an input is of the first kind that recognises it.

A module is imported when the search comes to its row.
"""


def choose_source(given: Input) -> SourceKind:
    """Return the kind of source that the input is.

    Raises:
        SourceError: the input cannot be opened.
        ImageError: the input is of no kind, or cannot be read.
    """
    for module, name in KINDS:
        kind: SourceKind = getattr(import_module(module), name)()
        if kind.recognise(given):
            decided("the source is %s: %s (%s)", kind.words, given.path, given.argument)
            return kind
    raise ImageError(
        f"{given.path} is neither an ELF file, nor kallsyms or a System.map, nor an archive, "
        "nor a kernel's image.",
        "Name a file that ksyms snapshot or ksyms collect wrote, a vmlinux, a vmlinuz or a "
        "module.",
    )
