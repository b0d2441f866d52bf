"""The section and the module of a symbol, by its ``st_shndx``."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from .._elf import constants as elf
from .._typing import Final
from .symbol_file import SymbolFile

_FEW: Final = 64
"""Read this many names of sections one by one; for more, read all names, within a limit."""

SectionAndModule = tuple[str | None, str | None]
"""The name of a section (None: in no section), and that of its module (None: the kernel)."""


class SymbolSections:
    """The sections and the modules of the symbols of ``file``.

    ``known`` has those that were found already, by ``st_shndx``.
    """

    def __init__(self, file: SymbolFile) -> None:
        self._file = file
        self.known: dict[int, SectionAndModule] = {}

    @cached_property
    def names(self) -> list[str]:
        """The name of each of the file's sections.

        Raises:
            ImageError: the name of a section is wrong.
        """
        return self._file.image.section_names()

    def find(self, index: int, name: int) -> SectionAndModule:
        """Return the section and the module of a symbol.

        ``index`` is its ``st_shndx``, and ``name`` its ``st_name``. The name of a section has
        the name of its module. The module of a symbol in no section is known in a snapshot
        only, by ``name``: the names of a linker file are next to each other in the strings.

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
        """Return :meth:`find` of each pair of an ``st_shndx`` and an ``st_name``."""
        known = self.known.get
        return [known(index) or self.find(index, at) for index, at in zip(indices, names)]

    @cached_property
    def _name_ranges(self) -> tuple[list[int], list[str | None]]:
        """The offset of the first name of each linker file; and the modules.

        The second list is one longer: its first item is for a name before all offsets.
        """
        files = [file for file in self._file.facts["files"] if "names" in file]
        modules = [None if file["kind"] == "kernel" else file["name"] for file in files]
        return [file["names"] for file in files], [None, *modules]

    def _section(self, index: int) -> str | None:
        """Return the name of the section with the index ``index``, None for no section."""
        # In the driver's layout an index is that of a section of another file.
        if self._file.is_driver or not elf.SHN_UNDEF < index < elf.SHN_LORESERVE:
            return None
        image = self._file.image
        if index >= len(image.sections):
            raise image.wrong(f"a symbol's st_shndx is {index}")
        if len(self.known) < _FEW:
            return image.section_name(index)
        return self.names[index]


def module_of_section(section: str | None) -> str | None:
    """Return the module in a section's name: ``ext4`` for ``[ext4].text``; None for others."""
    if section is None or section[:1] != "[" or "]" not in section:
        return None
    return section[1 : section.index("]")]
