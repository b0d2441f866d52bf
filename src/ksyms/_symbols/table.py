"""A symbol table read from an ELF image: mapped, not copied, and nothing built at load.

Nothing here imports numpy: a single answer must not wait for it.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .. import _note
from .._elf import Image, Shdr, Sym, find_symtab, is_driver_image, read_image
from .._elf import constants as elf
from .._errors import ImageError, SourceError, reason
from .symbol import Symbol

_BINDINGS: Final = {elf.STB_LOCAL: "local", elf.STB_GLOBAL: "global", elf.STB_WEAK: "weak"}
_RANK: Final = {elf.STB_WEAK: 1, elf.STB_LOCAL: 2}
_KINDS: Final = {elf.STT_FUNC: "function", elf.STT_OBJECT: "object"}
_UNNAMED: Final = (elf.STT_SECTION, elf.STT_FILE, elf.STT_TLS)
_NOWHERE: Final = (elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON)
_NESTED: Final = 64
"""How many symbols with a size are looked at for one that encloses others."""
_SCANS: Final = 4
"""How many single searches of a table are worth one pass over it."""
# st_info's type is STT_NOTYPE and the name begins with this: see the linker room.
_MAPPING: Final = b"$"
_TWIN: Final = b"__pfx_"


def load(source: str | os.PathLike[str] | memoryview) -> SymbolTable:
    """The symbol table of an ELF image.

    Args:
        source: a file, which is mapped and stays so while the table is in use, or a
            snapshot's ``image``.

    Raises:
        SourceError: the file cannot be opened.
        ImageError: it is no ELF file with a ``.symtab``, or a field of it is wrong.
        NoteError: its ``.note.ksyms`` is of a version that this ksyms does not know.
    """
    if isinstance(source, memoryview):
        return SymbolTable(read_image(source.cast("B"), "the image"))
    label = os.fspath(source)
    try:
        with open(label, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(
                    f"{label} is not a regular file.", "Name a file that holds a snapshot."
                )
            data = (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b""
            )
    except OSError as error:
        raise SourceError(
            f"{label} cannot be opened: {reason(error)}.",
            "Name a file that ksyms snapshot wrote.",
            errno=error.errno,
        ) from None
    return SymbolTable(read_image(memoryview(data), label))


class SymbolTable(Sequence[Symbol]):
    """The symbols of an ELF image, by address.

    A sequence of :class:`Symbol`, sorted by address; :meth:`lookup` and :meth:`find`
    answer without building it.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._symtab, self._strtab = _tables(image)
        self._table = image.contents(self._symtab)
        self._driver = is_driver_image(image)
        self._section_names = image.section_names()
        by_name = {
            name: index
            for index, name in enumerate(self._section_names)
            if image.sections[index].sh_type == elf.SHT_PROGBITS
            and not image.sections[index].sh_flags
        }
        self._letters = self._contents(by_name.get(_note.LETTERS))
        self._note = self._contents(by_name.get(_note.SECTION))
        count = self._symtab.sh_size // image.format.sym.size
        if len(self._note):
            _note.check(self._note, image.format, image.label)
            if len(self._letters) != count:
                raise image.wrong(
                    f"{_note.LETTERS} has {len(self._letters)} bytes, not {count}"
                )
        self._values = _values(image, self._symtab)
        self._order: Sequence[int] | None = None
        self._halves = (range(1, self._symtab.sh_info), range(self._symtab.sh_info, count))
        if not len(self._note):
            # Not a snapshot: its halves are not sorted, so an index is made of all of it.
            self._index = sorted(range(1, count), key=self._values.__getitem__)

    def __len__(self) -> int:
        """How many symbols there are, without ELF's symbol 0."""
        return max(0, len(self._values) - 1)

    def __getitem__(self, item: Any) -> Any:
        """The symbol at a place in the order of addresses, or a list of them for a slice."""
        order = self._by_address()
        if isinstance(item, slice):
            return [self._symbol(index) for index in order[item]]
        return self._symbol(order[item])

    def __iter__(self) -> Iterator[Symbol]:
        """Every symbol, by address."""
        return (self._symbol(index) for index in self._by_address())

    @property
    def label(self) -> str:
        """What errors call the image: its path."""
        return self._image.label

    @property
    def facts(self) -> dict[str, Any]:
        """What ``.note.ksyms`` says (docs/format.md), or nothing for another ELF file.

        Raises:
            NoteError: the note is not whole.
        """
        if not len(self._note):
            return {}
        return _note.unpack(self._note, self._image.format, self._image.label)

    @property
    def sections(self) -> list[tuple[str, int, int]]:
        """Name, address and size in bytes of each section that is in the kernel's memory."""
        return [
            (name, section.sh_addr, section.sh_size)
            for name, section in zip(self._section_names, self._image.sections)
            if section.sh_flags & elf.SHF_ALLOC
        ]

    @property
    def section_flags(self) -> list[int]:
        """``sh_flags`` of each of :attr:`sections`."""
        flags = [section.sh_flags for section in self._image.sections]
        return [value for value in flags if value & elf.SHF_ALLOC]

    def lookup(self, address: int) -> Symbol | None:
        """The symbol that ``address`` lies in, or None where the image knows of none.

        An address lies in a symbol from its first to its last byte; one without a size
        answers for its own address. Of several of one file at one address, the first in
        kallsyms is given, as the kernel prints it (kernel/kallsyms.c, get_symbol_pos); of
        two files', that of the one loaded first. Absolute symbols never answer.
        """
        best: tuple[int, int] | None = None
        chosen = 0
        for half in self._runs():
            for index in self._nearest(half, address):
                sym = self._sym(index)
                # The larger address is nearer; the smaller st_name came first in kallsyms.
                key = (-sym.st_value, sym.st_name)
                if best is None or key < best:
                    best, chosen = key, index
        return self._symbol(chosen) if best is not None else None

    def find(self, name: str) -> list[Symbol]:
        """Every symbol called ``name`` that has a place, by address; [] where there is none."""
        found = (self._symbol(index) for index in self._defined(name))
        return sorted(found, key=lambda symbol: symbol.address)

    def find_best(self, name: str) -> Sym | None:
        """The row of the one symbol called ``name`` that a linker takes.

        A global one before a weak one before a local one; then the kernel's before a
        module's, for its names come first; None where there is none.
        """
        rows = [self._sym(index) for index in self._defined(name)]
        rows = [sym for sym in rows if sym.st_shndx != elf.SHN_COMMON]
        rows = [sym for sym in rows if sym.st_info & 0xF not in _UNNAMED]
        if not rows:
            return None
        return min(rows, key=lambda sym: (_RANK.get(sym.st_info >> 4, 0), sym.st_name))

    def _defined(self, name: str) -> list[int]:
        """The symbols called ``name`` that are not SHN_UNDEF."""
        try:
            wanted = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return []
        if not wanted or b"\0" in wanted:
            return []
        strings = bytes(self._image.contents(self._strtab))
        starts = [
            start
            for start in _occurrences(strings, wanted + b"\0")
            # In a snapshot a name is a string of its own, or the tail of its __pfx_ twin.
            if not len(self._note)
            or strings[start - 1] == 0
            or strings.endswith(_TWIN, 0, start)
        ]
        found = self._named(starts)
        return [index for index in found if self._sym(index).st_shndx != elf.SHN_UNDEF]

    def _named(self, starts: list[int]) -> list[int]:
        """The symbols whose ``st_name`` is one of ``starts``."""
        size, order = self._image.format.sym.size, self._image.format.byteorder
        if len(starts) > _SCANS:
            wanted = set(starts)
            rows = enumerate(self._image.format.sym.unpack_all(self._table))
            return [index for index, sym in rows if sym.st_name in wanted and index]
        table = bytes(self._table)
        found = []
        for start in starts:
            places = _occurrences(table, start.to_bytes(4, order))
            found += [place // size for place in places if place % size == 0 and place]
        return found

    def _contents(self, index: int | None) -> memoryview:
        if index is None:
            return memoryview(b"")
        return self._image.contents(self._image.sections[index])

    def _sym(self, index: int) -> Sym:
        size = self._image.format.sym.size
        return self._image.format.sym.unpack(self._table, index * size)

    def _by_address(self) -> Sequence[int]:
        if self._order is None:
            self._order = sorted(range(1, len(self._values)), key=self._values.__getitem__)
        return self._order

    def _runs(self) -> Sequence[Sequence[int]]:
        return self._halves if len(self._note) else (self._index,)

    def _nearest(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Those symbols of ``run`` at the nearest address that ``address`` lies in."""
        values = self._values
        if isinstance(run, range):
            at = bisect_right(values, address, run.start, run.stop) - run.start
        else:
            at = bisect_right(run, address, key=values.__getitem__)
        found, passed = None, 0
        while at > 0 and passed < _NESTED:
            at -= 1
            index = run[at]
            sym = self._sym(index)
            if found is not None and sym.st_value != found:
                return
            if not self._answers(sym):
                continue
            if sym.st_value == address or address - sym.st_value < sym.st_size:
                found = sym.st_value
                yield index
            elif sym.st_size:
                passed += 1

    def _answers(self, sym: Sym) -> bool:
        """Whether a symbol names an address at all."""
        kind = sym.st_info & 0xF
        if sym.st_shndx in _NOWHERE or kind in _UNNAMED:
            return False
        return kind != elf.STT_NOTYPE or not self._name(sym).startswith(_MAPPING)

    def _name(self, sym: Sym) -> bytes:
        return self._image.string(self._strtab, sym.st_name)

    def _symbol(self, index: int) -> Symbol:
        sym = self._sym(index)
        section = self._section(sym.st_shndx)
        letter = self._letters[index] if len(self._letters) else 0
        return Symbol(
            name=self._name(sym).decode("utf-8", "surrogateescape"),
            address=sym.st_value,
            size=sym.st_size,
            exact=bool(letter & _note.EXACT) if letter else bool(sym.st_size),
            module=section[1 : section.index("]")]
            if section and section.startswith("[") and "]" in section
            else None,
            section=section,
            binding=_BINDINGS.get(sym.st_info >> 4, "global"),
            kind=_KINDS.get(sym.st_info & 0xF, "none"),
            letter=chr(letter & ~_note.EXACT) if letter else None,
        )

    def _section(self, index: int) -> str | None:
        # In the driver's image they are numbers of the sections of files that are not here.
        if self._driver or not elf.SHN_UNDEF < index < elf.SHN_LORESERVE:
            return None
        if index >= len(self._section_names):
            raise self._image.wrong(f"a symbol's st_shndx is {index}")
        return self._section_names[index]


def _occurrences(text: bytes, part: bytes) -> Iterator[int]:
    """Every place in ``text`` at which ``part`` begins."""
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _tables(image: Image) -> tuple[Shdr, Shdr]:
    """The headers of ``.symtab`` and of its string table."""
    found = find_symtab(image)
    if found is None:
        raise image.wrong("it has no .symtab")
    count = found.symtab.sh_size // image.format.sym.size
    if not min(1, count) <= found.symtab.sh_info <= count:
        raise image.wrong(f".symtab's sh_info is {found.symtab.sh_info}")
    return found.symtab, found.strtab


def _values(image: Image, symtab: Shdr) -> Sequence[int]:
    """``st_value`` of each symbol, without a copy where the machine can read it as it lies."""
    table, fmt = image.contents(symtab), image.format
    if fmt.elf_class == elf.ELFCLASS64 and fmt.byteorder == sys.byteorder:
        return table.cast("Q")[1::3]
    return [sym.st_value for sym in fmt.sym.unpack_all(table)]
