"""The source that is a kernel image: it stands for the files that its kernel has in /proc."""

from __future__ import annotations

from .._elf import constants as elf
from .._errors import ImageError
from .._typing import TYPE_CHECKING
from .input import ANY, KERNEL, unread
from .kernel_files import open_kernel_files
from .kind import SourceKind

if TYPE_CHECKING:
    from .._linker import Linker
    from .input import Input


class KernelImage(SourceKind):
    """A kernel image, such as a vmlinuz, or a file that contains one."""

    words = "a kernel image"

    def __init__(self) -> None:
        self._files: dict[str, bytes] | None = None

    def recognise(self, given: Input) -> bool:
        """Return True if a kernel's symbols can be read from it, and it has no ``.symtab``.

        Raises:
            ImageError: it starts like an image, but no symbols can be read from it.
        """
        if given.argument == KERNEL:
            from .._images import files_at

            self._files = files_at(given.path)
        elif given.argument == ANY:
            self._files = _files_in(given)
        return self._files is not None

    def open(self, given: Input) -> Linker:
        """Return the source.

        Raises:
            ImageError: the user named modules too.
        """
        if given.modules:
            raise ImageError(
                f"{given.path} is a kernel's image, of which modules' files say nothing.",
                "Leave out the modules, or name the kernel's ELF file with symbols.",
            )
        return open_kernel_files(
            given.path, None, given.progress, None, given.btf, files=self._files
        )


def _files_in(given: Input) -> dict[str, bytes] | None:
    """Return the files that a kernel image stands for, by name; None if it is no such image.

    Raises:
        ImageError: it is an image, but it is damaged or has no kallsyms.
    """
    data, label = given.contents, given.path
    is_elf = data[: len(elf.ELFMAG)] == elf.ELFMAG
    if is_elf and _has_symtab(given):
        return None
    from .._images import HEADERS, files_of, has_symbols, is_kernel

    if is_elf and has_symbols(data, label):
        return None
    try:
        return files_of(data, label)
    except ImageError:
        if given.followed is not None:
            raise unread(label, given.followed) from None
        if not is_elf and is_kernel(data[:HEADERS]):
            raise
        return None


def _has_symtab(given: Input) -> bool:
    """Return True if an ELF file has a symbol table, or a field of it is wrong."""
    from .._elf import find_symtab, read_image

    try:
        return find_symtab(read_image(memoryview(given.contents), given.path)) is not None
    except ImageError:
        return True  # the code that reads its symbols reports the field
