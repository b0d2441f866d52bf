"""The section and the module of a symbol, by its ``st_shndx``."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from .._elf import constants as elf
from .._typing import Final
from .symbol_file import SymbolFile

_FEW: Final = 64
"""Number of section names that are read one by one; then all are, which has a limit."""

SectionAndModule = tuple[str | None, str | None]
"""A section's name (None: in no section), and the module's (None: the kernel)."""


class SymbolSections:
    """The sections and modules of the symbols of ``file``, kept once they are found.

    ``known`` has what was found, by ``st_shndx``.
    """

    def __init__(self, file: SymbolFile) -> None:
        self._file = file
        self.known: dict[int, SectionAndModule] = {}

    @cached_property
    def names(self) -> list[str]:
        """The name of each of the file's sections.

        Raises:
            ImageError: a name of a section is wrong.
        """
        return self._file.image.section_names()

    def find(self, index: int, name: int) -> SectionAndModule:
        """Return the section of an ``st_shndx``, and the module.

        A section's name has the module's. For a symbol in no section, it is the module whose
        range of names contains ``name``, the symbol's ``st_name``.

        Raises:
            ImageError: there is no such section, or its name is wrong.
        """
        if index in self.known:
            return self.known[index]
        section = self._section(index)
        if section is None and self._file.is_snapshot:
            starts, modules = self._name_ranges
            return None, modules[bisect_right(starts, name)]
        self.known[index] = section, module_of_section(section)
        return self.known[index]

    def find_all(self, indices: list[int], names: list[int]) -> list[SectionAndModule]:
        """Return :meth:`find` of each pair of ``st_shndx`` and ``st_name``."""
        known = self.known.get
        return [known(index) or self.find(index, at) for index, at in zip(indices, names)]

    @cached_property
    def _name_ranges(self) -> tuple[list[int], list[str | None]]:
        """The offset of each linker file's first name; and the modules, None before them."""
        files = [file for file in self._file.facts["files"] if "names" in file]
        modules = [None if file["kind"] == "kernel" else file["name"] for file in files]
        return [file["names"] for file in files], [None, *modules]

    def _section(self, index: int) -> str | None:
        """Return the name of the section of an ``st_shndx``, None for no section."""
        # In the driver's layout the indices are of sections of the original files.
        if self._file.is_driver or not elf.SHN_UNDEF < index < elf.SHN_LORESERVE:
            return None
        image = self._file.image
        if index >= len(image.sections):
            raise image.wrong(f"a symbol's st_shndx is {index}")
        if len(self.known) < _FEW:
            return image.section_name(index)
        return self.names[index]


def module_of_section(section: str | None) -> str | None:
    """Return the module in a section's name, which has it in brackets at its start."""
    if section is None or section[:1] != "[" or "]" not in section:
        return None
    return section[1 : section.index("]")]
