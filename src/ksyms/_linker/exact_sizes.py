"""Exact sizes, types and bindings of symbols, from debug files.

kallsyms has none of these; ``debug_files.py`` finds the files that have them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._elf import constants as elf
from .._typing import TYPE_CHECKING
from .debug_files import DebugFiles, DebugSymbols, names_of
from .files import Role, Symbols

if TYPE_CHECKING:
    from .raw_files import RawFile
    from .root import Root


class ExactSizes:
    """Gives raw files the exact sizes of their symbols.

    The symbols of a debug file are kept as long as its linker file stays as it is.

    Args:
        root: the kernel's files.
        directories: directories to search for debug files before the usual ones; None to use
            no debug files.
        progress: called with the number of bytes each time some have been read.
    """

    def __init__(
        self,
        root: Root,
        directories: tuple[str, ...] | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.root = root
        self.directories = directories
        self.progress = progress
        self._debug: DebugFiles | None = None
        self._found: dict[str, tuple[object, DebugSymbols | None]] = {}

    @property
    def refused(self) -> dict[str, str]:
        """The debug files that are not trusted, and the reason for each."""
        return self._debug.refused if self._debug else {}

    def apply(
        self, files: list[RawFile], release: str | None, stext: int | None
    ) -> list[RawFile]:
        """Return ``files`` with the exact sizes of those that have a debug file.

        Args:
            files: the linker files.
            release: the kernel's release.
            stext: the address of ``_stext``.
        """
        if self.directories is None:
            return files
        if self._debug is None or self._debug.release != release:
            self._debug = DebugFiles(self.root, release, self.directories, self.progress)
        return [
            _with_debug_symbols(file, self._find(self._debug, file, stext)) for file in files
        ]

    def _find(self, debug: DebugFiles, file: RawFile, stext: int | None) -> DebugSymbols | None:
        """Return the debug symbols of ``file``; None if there is no debug file.

        The earlier result is returned if the build-id, the sections and ``stext`` are the same.
        """
        key = (file.build_id, file.sections, stext)
        kept = self._found.get(file.name)
        if kept is None or kept[0] != key:
            if file.name == "kernel":
                found = debug.find_kernel(file.build_id, stext)
            else:
                found = debug.find_module(file.name, file.build_id, file.sections, file.symbols)
            kept = self._found[file.name] = key, found
        return kept[1]


def _with_debug_symbols(file: RawFile, found: DebugSymbols | None) -> RawFile:
    """Return ``file`` with the sizes of symbols and sections in ``found``, if that is given."""
    if found is None:
        return file
    sizes = [found.sections.get(name, 0) for name in file.sections.names]
    ends = tuple(
        start + size if size else 0 for start, size in zip(file.sections.starts, sizes)
    )
    return file._replace(
        symbols=with_exact_sizes(file.symbols, found),
        sections=file.sections._replace(ends=ends),
        debug=found,
    )


def with_exact_sizes(symbols: Symbols, found: DebugSymbols) -> Symbols:
    """Return ``symbols`` with the size, type and binding of each symbol in ``found``.

    A symbol that has no size in the file (an alias in assembly, a symbol of the linker script)
    gets the size of the longest symbol at its address. An inferred size could be longer.
    """
    size = np.zeros(len(symbols.address), np.uint64)
    known = np.zeros(len(symbols.address), np.bool_)
    info = symbols.info.copy()
    for row, key in enumerate(zip(symbols.address.tolist(), names_of(symbols))):
        exact = found.symbols.get(key)
        if exact is None:
            continue

        # A label, which the kernel ignores, has STT_NOTYPE (0) and keeps it.
        length, own = exact
        if own & 0xF in (elf.STT_FUNC, elf.STT_OBJECT) and info[row] & 0xF:
            info[row] = own
        if length:
            size[row], known[row] = length, True

    longest: dict[int, int] = {}
    for address, length in zip(symbols.address[known].tolist(), size[known].tolist()):
        longest[address] = max(length, longest.get(address, 0))
    for row in np.flatnonzero(~known & (symbols.role == Role.NAMES)).tolist():
        if length := longest.get(int(symbols.address[row]), 0):
            size[row], known[row] = length, True
    return symbols._replace(info=info, size=size, exact=known)
