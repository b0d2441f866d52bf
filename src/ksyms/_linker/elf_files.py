"""Linker files from ELF files on disk: a kernel, and modules where they were loaded to.

Any class and byte order; ET_EXEC, ET_DYN and ET_REL. Every table is read anew whenever it
is asked for, as the driver asks the linker: what is written meanwhile is seen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import pairwise

from .._errors import LayoutError
from .._typing import Final, NamedTuple
from .elf_regions import placed_file
from .elf_table import ElfTable, ModuleFile, State, Target
from .files import KERNEL_ID, Files, LinkerFile, Tables
from .generation import Generation
from .host import Host
from .link_time import LinkTime

_NO_GENERATION: Final = Generation(None, None, None)
"""Files on disk have none; :meth:`ElfLinker.moved` tells."""


class ElfReading(NamedTuple):
    """The state of each file, by path, when it was first looked at."""

    states: dict[str, State]


class ElfLinker:
    """Linker files from ``kernel``, an ELF file, and ``modules``, in the order given.

    Args:
        kernel: the path of the kernel's file; its symbols are taken as they are.
        modules: the modules' files.
        progress: called with the number of bytes each time some have been read.
    """

    remedy: Final = "Try again when nobody writes to the files."
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
        """Nothing stays open between two reads."""

    def read(self) -> ElfReading:
        """Note what state the files are in.

        Raises:
            SourceError: one cannot be looked at.
        """
        return ElfReading({table.path: table.state() for table in self._tables})

    def moved(self, reading: ElfReading) -> list[str]:
        """Which files were written to since ``reading``, in words."""
        return [
            f"{table.path} was written to"
            for table in self._tables
            if table.state() != reading.states[table.path]
        ]

    def tables(self, reading: ElfReading) -> Tables:
        """The tables of every file, none of them read yet.

        Raises:
            ImageError: the kernel's file is no ELF file, or a field of it is wrong.
            SourceError: it cannot be read.
        """
        self._tables[0].target = None
        with self._tables[0].opened() as kernel:
            target = Target(kernel.format, kernel.header.e_machine)
        for table in self._tables:
            table.target = target
        return Tables(*target, tuple(self._tables), _NO_GENERATION)

    def files(self, reading: ElfReading) -> Files:
        """The linker files with their regions: the sections that are in memory.

        Raises:
            ImageError: a file is no ELF file, a field of it is wrong, or it is of another
                class, byte order or machine than the kernel.
            LayoutError: they are not of 64 bit and little-endian, or two lie at one place.
            SourceError: a file cannot be read.
        """
        tables = self.tables(reading)
        placed = [placed_file(id_, t) for id_, t in enumerate(self._tables, KERNEL_ID)]
        _no_overlap([file for file, _, _ in placed])
        _, notes, marks = placed[0]
        linked = None
        if {"_text", "_stext"} <= marks.keys():
            linked = LinkTime(marks["_text"], marks["_stext"], self._tables[0].path)
        return Files(
            files=tuple(file for file, _, _ in placed),
            generation=_NO_GENERATION,
            host=Host.of_notes(tables.machine, notes),
            landmarks=marks,
            link_time=linked,
            absent={},
            refused={},
        )


def _no_overlap(files: list[LinkerFile]) -> None:
    regions = sorted((r.start, r.end, r.name) for file in files for r in file.regions)
    for (_, end, before), (start, _, after) in pairwise(regions):
        if start < end:
            raise LayoutError(
                f"{before} and {after} both claim the address {start:#x}.",
                "Give each module the address that it was loaded to.",
                errno=errno.EINVAL,
            )
