"""Linker files from ELF files on disk: a kernel, and modules with their load addresses.

The files can have any class and byte order, and be ET_EXEC, ET_DYN or ET_REL. Each call reads
the tables anew, as the driver's calls of the linker do, so that changes to the files are
noticed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import pairwise

from .._errors import LayoutError
from .._typing import Final, NamedTuple
from .elf_regions import elf_to_linker_file
from .elf_table import ElfTable, ModuleFile, State, Target
from .files import KERNEL_ID, Files, FileTables, LinkerFile
from .generation import Generation
from .host import Host
from .link_time import LinkTime

_NO_GENERATION: Final = Generation(None, None, None)
"""The generation of files on disk, which have none; :meth:`ElfLinker.moved` finds changes."""


class ElfReading(NamedTuple):
    """The state of each file when the reading began, by path."""

    states: dict[str, State]


class ElfLinker:
    """Reads the linker files from ELF files on disk: the kernel's, then the modules'.

    A context manager, as :class:`~.linker.Linker` is.

    Args:
        kernel: the path of the kernel's file; the values of its symbols are used unchanged.
        modules: the files of the modules, in load order.
        progress: called with the number of bytes each time some have been read.
    """

    remedy: Final = "Try again when no program writes to the files."
    reads_late: Final = True

    def __init__(
        self,
        kernel: str,
        modules: Sequence[ModuleFile] = (),
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._tables = [
            ElfTable(kernel, None, progress),
            *(ElfTable(module.path, module, progress) for module in modules),
        ]

    def __enter__(self) -> ElfLinker:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no file stays open between two reads."""

    def read(self) -> ElfReading:
        """Return the present state of each file.

        Raises:
            SourceError: a file does not exist.
        """
        return ElfReading({table.path: table.state() for table in self._tables})

    def moved(self, reading: ElfReading) -> list[str]:
        """Return the changes to the files since ``reading``, in words; empty if none."""
        return [
            f"{table.path} was written to"
            for table in self._tables
            if table.state() != reading.states[table.path]
        ]

    def tables(self, reading: ElfReading) -> FileTables:
        """Return the tables of all files, whose contents are read only when they are used.

        Raises:
            ImageError: the kernel's file is not an ELF file, or a field of it is wrong.
            SourceError: it cannot be read.
        """
        self._tables[0].target = None
        with self._tables[0].opened() as kernel:
            target = Target(kernel.format, kernel.header.e_machine)
        for table in self._tables:
            table.target = target
        return FileTables(*target, tuple(self._tables), _NO_GENERATION)

    def files(self, reading: ElfReading) -> Files:
        """Return the linker files; their regions are the sections that are in memory.

        Raises:
            ImageError: a file is not an ELF file, a field of it is wrong, or it is of another
                class, byte order or machine than the kernel.
            LayoutError: they are not 64-bit little-endian, or two claim the same addresses.
            SourceError: a file cannot be read.
        """
        tables = self.tables(reading)
        found = [elf_to_linker_file(id_, t) for id_, t in enumerate(self._tables, KERNEL_ID)]
        _check_no_overlap([file for file, _, _ in found])
        _, notes, landmarks = found[0]
        linked = None
        if {"_text", "_stext"} <= landmarks.keys():
            linked = LinkTime(landmarks["_text"], landmarks["_stext"], self._tables[0].path)
        return Files(
            files=tuple(file for file, _, _ in found),
            generation=_NO_GENERATION,
            host=Host.of_notes(tables.machine, notes),
            landmarks=landmarks,
            link_time=linked,
            absent={},
            refused={},
        )


def _check_no_overlap(files: list[LinkerFile]) -> None:
    """Check that no two regions overlap.

    Raises:
        LayoutError: two regions claim the same address.
    """
    regions = sorted((r.start, r.end, r.name) for file in files for r in file.regions)
    for (_, end, before), (start, _, after) in pairwise(regions):
        if start < end:
            raise LayoutError(
                f"{before} and {after} both claim the address {start:#x}.",
                "Give each module the address that it was loaded to.",
                errno=errno.EINVAL,
            )
