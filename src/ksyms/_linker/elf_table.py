"""The symbol table of an ELF file on disk, which is read anew by each call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from .._arrays import I64, U8, U32, U64, Mask
from .._compressed import COMPRESSED, contents
from .._elf import ElfFile, FileData, Format, Shdr, find_symtab, read_image
from .._elf import constants as elf
from .._errors import ImageError, SourceError, unreadable
from .._typing import Final, NamedTuple

Rows = npt.NDArray[np.void]
State = tuple[int, ...]

_PIECE: Final = 1 << 20
"""The most bytes of the string table in one piece."""
_TYPES: Final = (elf.ET_REL, elf.ET_EXEC, elf.ET_DYN)


class ModuleFile(NamedTuple):
    """A module's file, and the address that it was loaded to.

    In an ET_EXEC or ET_DYN file, ``base`` is added to each value. In an ET_REL file, it is the
    address of the first section in memory; the others follow in the file's order, each at the
    next multiple of its alignment. Instead of ``base``, ``sections`` can give the address of
    each section of an ET_REL file, by name.
    """

    path: str
    base: int | None = None
    sections: Mapping[str, int] = MappingProxyType({})


class Target(NamedTuple):
    """The ELF structures and the ``e_machine`` that all files of one kernel share."""

    format: Format
    machine: int

    def __str__(self) -> str:
        bits = 64 if self.format.elf_class == elf.ELFCLASS64 else 32
        return f"{bits}-bit {self.format.byteorder}-endian of machine {self.machine}"


class Bases(NamedTuple):
    """The bases of a file's sections, by section number.

    ``add`` (uint64) is the number to add to the values of the section's symbols. It is valid
    only where ``known`` is True.
    """

    add: U64
    known: Mask


class ElfTable:
    """The symbol table and the string table of an ELF file (:class:`~.files.Table`).

    Once ``target`` has been set, a file of another class, byte order or machine is refused.

    Args:
        path: the path of the file.
        module: the module's file and its address; None for the kernel.
        progress: called with the number of bytes each time some have been read.
    """

    def __init__(
        self,
        path: str,
        module: ModuleFile | None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.path = path
        self.module = module
        self.progress = progress
        self.target: Target | None = None
        self._unpacked: tuple[State, memoryview] | None = None

    def state(self) -> State:
        """Return a value that changes when the file is written to or replaced.

        Raises:
            SourceError: there is no such file.
        """
        try:
            found = os.stat(self.path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise _unreadable(self.path, error) from None
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return (found.st_dev, found.st_ino, found.st_size, *times)

    @contextmanager
    def opened(self) -> Iterator[ElfFile]:
        """Open the file as an ELF image, which is read from the disk within the context.

        Raises:
            ImageError: it is not an ELF file, a field is wrong, or it is not of ``target``.
            SourceError: the file cannot be read.
        """
        if self.path.endswith(COMPRESSED):
            yield self._checked(read_image(self._unpack(), self.path))
            return
        data = FileData(self.path)
        try:
            yield self._checked(read_image(data, self.path))
        finally:
            data.close()

    def sizes(self) -> tuple[int, int]:
        """Return the number of symbols, and the string table's size in bytes."""
        with self.opened() as image:
            found = find_symtab(image)
            if found is None:
                return 0, 0
            return found.symtab.sh_size // image.format.sym.size, found.strtab.sh_size

    def blocks(self, count: int) -> Iterator[Rows]:
        """Yield the symbols, ``count`` at a time, with the addresses of a module's symbols.

        Symbols of SHN_UNDEF, SHN_ABS and SHN_COMMON, and symbols in sections that are not in
        memory, keep their values. Values have the width of the file's class, and wrap.

        Raises:
            ImageError: the name of a symbol is outside of the string table, or its section does
                not exist, or has no known address.
        """
        with self.opened() as image:
            yield from self.blocks_of(image, count)

    def blocks_of(self, image: ElfFile, count: int) -> Iterator[Rows]:
        """Yield the same as :meth:`blocks`, from an image that has been opened already."""
        found = find_symtab(image)
        if found is None:
            return
        last = _last_name(image, found.strtab)
        bases = None if self.module is None else section_bases(image, self.module)
        extended = extended_numbers(image, found.number)
        size = image.format.sym.size

        for first in range(0, found.symtab.sh_size // size, count):
            start = found.symtab.sh_offset + first * size
            stop = min(start + count * size, found.symtab.sh_offset + found.symtab.sh_size)
            rows = np.frombuffer(image.data[start:stop], image.format.sym.dtype).copy()

            wrong = np.flatnonzero(rows["st_name"] > last)
            if len(wrong):
                row = int(wrong[0])
                raise image.wrong(
                    f"symbol {first + row}'s st_name is {rows['st_name'][row]}, and no "
                    "name that begins there ends within the string table"
                )

            if bases is not None:
                section = sections_of(image, rows, first, extended)
                _make_absolute(image, rows, section, bases, first)
            if self.progress is not None:
                self.progress(stop - start)
            yield rows

    def strings(self) -> Iterator[U8]:
        """Yield the bytes of the string table, in pieces."""
        with self.opened() as image:
            found = find_symtab(image)
            if found is None:
                return
            end = found.strtab.sh_offset + found.strtab.sh_size
            for start in range(found.strtab.sh_offset, end, _PIECE):
                piece = image.data[start : min(start + _PIECE, end)]
                yield np.frombuffer(piece, np.uint8)

    def _checked(self, image: ElfFile) -> ElfFile:
        """Return ``image``, after a check of its type, class, byte order and machine.

        Raises:
            ImageError: it is not of ``target``, or of an unknown type.
        """
        header = image.header
        if header.e_type not in _TYPES:
            raise image.wrong(f"e_type is {header.e_type}")
        target = Target(image.format, header.e_machine)
        if self.target is not None and self.target != target:
            raise ImageError(
                f"{self.path} is {target}, and the kernel's file is {self.target}.",
                "Name files that were built for one machine.",
            )
        return image

    def _unpack(self) -> memoryview:
        """Return the contents of a compressed file, which are kept until the file changes.

        Raises:
            ImageError: it cannot be unpacked.
            SourceError: it cannot be read.
        """
        state = self.state()
        if self._unpacked is None or self._unpacked[0] != state:
            try:
                self._unpacked = state, memoryview(contents(self.path))
            except OSError as error:
                raise _unreadable(self.path, error) from None
            except ValueError as error:
                raise ImageError(
                    f"{self.path} cannot be unpacked: {error}.", "Copy the file again."
                ) from None
        return self._unpacked[1]


def section_bases(image: ElfFile, module: ModuleFile) -> Bases:
    """Return the numbers to add to the values of a module's symbols, by their sections.

    Raises:
        ImageError: an address that was given for the module is not possible.
    """
    count = len(image.sections)
    bits = 64 if image.format.elf_class == elf.ELFCLASS64 else 32
    for address in (module.base or 0, *module.sections.values()):
        if not 0 <= address < 1 << bits:
            raise _misplaced(module, f"{address:#x} is no address of {bits} bits")

    if image.header.e_type == elf.ET_REL:
        if module.base is None:
            return _at_given_addresses(image, module, bits)
        return _laid_out(image, module, bits)
    if module.base is None:
        raise _misplaced(module, "its sections cannot be moved one by one: it is linked")
    return Bases(np.full(count, module.base, np.uint64), np.ones(count, np.bool_))


def _laid_out(image: ElfFile, module: ModuleFile, bits: int) -> Bases:
    """Return the bases of sections that lie one after the other from ``module.base``."""
    bases = _no_bases(image)
    at = module.base or 0
    for number, section in enumerate(image.sections):
        if not section.sh_flags & elf.SHF_ALLOC:
            continue
        align = max(section.sh_addralign, 1)
        if align & (align - 1):
            raise image.wrong(f"section {number}'s sh_addralign is {align}")
        at += -at % align  # up to the next multiple
        if at >= 1 << bits or at + section.sh_size > 1 << bits:
            raise _misplaced(module, f"section {number} would end past the last address")
        bases.add[number], bases.known[number] = at, True
        at += section.sh_size
    return bases


def _at_given_addresses(image: ElfFile, module: ModuleFile, bits: int) -> Bases:
    """Return the bases of sections that lie at the addresses of ``module.sections``."""
    bases = _no_bases(image)
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(image.section_names()):
        if image.sections[number].sh_flags & elf.SHF_ALLOC:
            numbers.setdefault(name, []).append(number)
    for name, address in module.sections.items():
        own = numbers.get(name, [])
        if len(own) != 1:
            many = f"{len(own)} sections" if own else "no section in memory"
            raise _misplaced(module, f"it has {many} called {name}")
        if address + image.sections[own[0]].sh_size > 1 << bits:
            raise _misplaced(module, f"{name} would end past the last address")
        bases.add[own[0]], bases.known[own[0]] = address, True
    return bases


def _no_bases(image: ElfFile) -> Bases:
    """Return bases for the sections of ``image`` of which none is known yet."""
    count = len(image.sections)
    return Bases(np.zeros(count, np.uint64), np.zeros(count, np.bool_))


def sections_of(image: ElfFile, rows: Rows, first: int, extended: U32 | None) -> I64:
    """Return the section number of each of ``rows``, or -1 if the symbol is in no section.

    Args:
        image: the ELF file.
        rows: some of its symbols, in order.
        first: the number of the symbol in the first row.
        extended: the result of :func:`extended_numbers`.

    Raises:
        ImageError: the image has no section with such a number.
    """
    section = rows["st_shndx"].astype(np.int64)
    beyond = np.flatnonzero(section == elf.SHN_XINDEX)
    section[section >= elf.SHN_LORESERVE] = -1
    section[section == elf.SHN_UNDEF] = -1

    if len(beyond):
        if extended is None:
            raise image.wrong(
                "a symbol's st_shndx is SHN_XINDEX, and there is no SHT_SYMTAB_SHNDX"
            )
        if first + int(beyond[-1]) >= len(extended):
            raise image.wrong("its table of section numbers (SHT_SYMTAB_SHNDX) is too short")
        section[beyond] = extended[first + beyond]

    wrong = np.flatnonzero(section >= len(image.sections))
    if len(wrong):
        raise image.wrong(
            f"symbol {first + int(wrong[0])}'s st_shndx is {section[wrong[0]]} of "
            f"{len(image.sections)} sections"
        )
    return section


def extended_numbers(image: ElfFile, symtab: int) -> U32 | None:
    """Return the section numbers in SHT_SYMTAB_SHNDX, by symbol number; None if there are none.

    A symbol's own field has only 16 bits, and this table has the numbers that do not fit (gABI,
    SHT_SYMTAB_SHNDX). ``symtab`` is the section number of the symbol table.
    """
    for section in image.sections:
        if section.sh_type == elf.SHT_SYMTAB_SHNDX and section.sh_link == symtab:
            order = "<" if image.format.byteorder == "little" else ">"
            data = image.contents(section)
            return np.frombuffer(data[: len(data) & ~3], f"{order}u4")
    return None


def _make_absolute(image: ElfFile, rows: Rows, section: I64, bases: Bases, first: int) -> None:
    """Change the values of defined symbols in ``rows`` to addresses.

    Args:
        image: the ELF file of a module.
        rows: some of its symbols, in order.
        section: the section number of each, -1 for a symbol in no section.
        bases: the bases of the sections.
        first: the number of the symbol in the first row.

    Raises:
        ImageError: a symbol is in a section in memory, for which no address was given.
    """
    inside = np.flatnonzero(section >= 0)
    placed = bases.known[section[inside]]
    for row in inside[~placed].tolist():
        header = image.sections[section[row]]
        named = rows["st_info"][row] & 0xF != elf.STT_SECTION
        if named and header.sh_flags & elf.SHF_ALLOC:
            name = image.section_names()[section[row]]
            raise ImageError(
                f"{image.label} has symbol {first + row} in {name}, for which no address was "
                "given.",
                f"Give its address too: {name}=0x...",
            )

    moved = inside[placed]
    value = rows["st_value"][moved].astype(np.uint64) + bases.add[section[moved]]
    rows["st_value"][moved] = value.astype(rows.dtype["st_value"])


def _last_name(image: ElfFile, strtab: Shdr) -> int:
    """Return the offset of the last NUL, at or before which each name must start."""
    if not strtab.sh_size:
        return 0
    start = strtab.sh_offset
    if bytes(image.data[start : start + 1]) != b"\0":
        raise image.wrong("its string table does not begin with a NUL")
    found, at = -1, strtab.sh_size
    while found < 0:
        low = max(0, at - 4096)
        found = bytes(image.data[start + low : start + at]).rfind(b"\0")
        at = low
    return at + found


def _misplaced(module: ModuleFile, why: str) -> ImageError:
    """Return the error for an address that is not possible for a module."""
    return ImageError(
        f"{module.path} cannot lie at the address given for it: {why}.",
        "Name it as FILE@ADDRESS, or an ET_REL file as FILE@.text=ADDRESS,.data=ADDRESS.",
    )


def _unreadable(path: str, error: OSError | ValueError) -> SourceError:
    """Return the error for an ELF file that cannot be read."""
    return unreadable(path, error, "Name an ELF file that you may read.")
