"""The identity of a file: the release of its kernel, its machine, its build-ids.

The note of a snapshot has them. In any other file, identity.py looks for them.
"""

from __future__ import annotations

from functools import cached_property

from .by_name import NameSearch
from .symbol import encode_name
from .symbol_file import SymbolFile


class KernelIdentity:
    """The release, the machine and the build-ids of ``file``, each read when it is first used.

    ``names`` searches the file's names, for a vmlinux has its release in two variables.

    Each attribute raises a NoteError if the file's note is not whole.
    """

    def __init__(self, file: SymbolFile, names: NameSearch) -> None:
        self._file = file
        self._names = names

    @cached_property
    def release(self) -> str | None:
        """The kernel's release, as in uname -r; None if the file does not contain it."""
        if self._file.is_snapshot:
            return self._fact("release")
        from .identity import release_of

        return release_of(self._file.image, self._sections_and_values)

    @cached_property
    def machine(self) -> str | None:
        """The machine, as in uname -m; None if it is unknown."""
        if self._file.is_snapshot:
            return self._fact("machine")
        from .identity import machine_of

        return machine_of(self._file.image)

    @cached_property
    def build_id(self) -> str | None:
        """The build-id of the kernel, or of a module's file; None if the file has none."""
        if self._file.is_snapshot:
            return self._fact("build_id")
        from .identity import build_id_of

        return build_id_of(self._file.image)

    @cached_property
    def build_ids(self) -> dict[str, str | None]:
        """The build-id of each linker file by its name; the kernel's name is ``kernel``."""
        if self._file.is_snapshot:
            return {file["name"]: file["build_id"] for file in self._file.facts["files"]}
        from .identity import module_of

        return {module_of(self._file.image) or "kernel": self.build_id}

    def _fact(self, name: str) -> str | None:
        found: str | None = self._file.facts[name]
        return found

    def _sections_and_values(self, name: str) -> list[tuple[int, int]]:
        """Return ``st_shndx`` and ``st_value`` of the symbols called ``name``."""
        found = self._names.find(encode_name(name))
        return [(sym.st_shndx, sym.st_value) for _, sym in found]
