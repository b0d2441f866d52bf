"""The source that is an ELF file with symbols, maybe together with modules' ELF files."""

from __future__ import annotations

from .._elf import constants as elf
from .._elf import read_image
from .._typing import TYPE_CHECKING
from .input import ANY, KERNEL
from .kind import SourceKind

if TYPE_CHECKING:
    from .._elf import ElfFile
    from .._linker.elf_files import ElfLinker
    from .input import Input


class ElfFileOnDisk(SourceKind):
    """A kernel's ELF file with its modules' files; or any ELF file, for lookups in it."""

    words = "an ELF file"

    def recognise(self, given: Input) -> bool:
        """Return True for what ``--kernel`` names, and for an ELF file."""
        if given.argument == KERNEL:
            return True
        return given.argument == ANY and given.plain[: len(elf.ELFMAG)] == elf.ELFMAG

    def open(self, given: Input) -> ElfLinker:
        """Return the source."""
        from .._linker.elf_files import ElfLinker

        return ElfLinker(given.path, given.modules, given.progress)

    def image(self, given: Input) -> ElfFile:
        """Return the file itself: its symbols need no snapshot.

        Raises:
            ImageError: a field of the file is wrong.
        """
        return read_image(memoryview(given.contents), given.path)
