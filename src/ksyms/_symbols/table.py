"""A symbol table read from an ELF image: mapped, not copied, with no index built at load.

This module imports no numpy at its top: a single answer must not wait for that.
"""

from __future__ import annotations

import operator
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

from .. import _note
from .._elf import ElfFile, Shdr, Sym, find_symtab, is_driver_image
from .._elf import constants as elf
from .._errors import ImageError
from .._typing import TYPE_CHECKING, Any, Final, overload
from .letters import Letters
from .symbol import MARKS, Symbol

if TYPE_CHECKING:
    from typing import SupportsIndex

    import numpy as np
    import numpy.typing as npt

    from .._note.facts import NoteFacts
    from .btf import Btf
    from .buckets import Buckets
    from .names import NameHashes
    from .plain import SectionedSymbols
    from .printed import Rule
    from .programs import Program
    from .spans import Spans, SymbolSpans

_BINDINGS: Final = {elf.STB_LOCAL: "local", elf.STB_GLOBAL: "global", elf.STB_WEAK: "weak"}
_RANK: Final = {elf.STB_WEAK: 1, elf.STB_LOCAL: 2}
_KINDS: Final = {elf.STT_FUNC: "function", elf.STT_OBJECT: "object"}
_LETTER: Final = 0xFF & ~_note.EXACT
_UNNAMED: Final = (elf.STT_SECTION, elf.STT_FILE, elf.STT_TLS)
_NOWHERE: Final = (elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON)
_LAST: Final = (1 << 64) - 1
_NESTED: Final = 64
"""Largest number of symbols with a size that are examined for one that encloses others."""
_LONG: Final = 512
"""Bytes that kernels' names are shorter than (KSYM_NAME_LEN); a longer one has all checked."""
LOOKUPS: Final = 1_600
"""The number of lookups by bisection that take as long as numpy's import and the spans."""
_MANY: Final = 1 << 16
"""The number of addresses after which buckets are made, which takes as long as their search."""
_COPIED: Final = 1 << 10
"""Bytes of strings that are copied in the time that one name takes without the copy."""
FINDS: Final = 48
"""The number of scans for a name that take as long as numpy's import and the index of names."""
_SHORT: Final = 64
"""Bytes that most names are shorter than."""
_SECTIONS: Final = 64
"""Number of section names that are read one by one; then all are, which has a limit."""
SECTIONS: Final = 1 << 8
"""Largest number of sections with symbols that are each searched for a single address.

This is of an ELF file that is no snapshot. For more sections the spans are made.
"""
_FACTS_KEPT: Final = 1 << 20
"""Bytes of a note whose facts are kept: a thousand modules have less. Read, they take ten times
as many, so those of a large one are read anew each time."""
_SCANS: Final = 4
"""The number of single searches of a table that take as long as one pass over it."""
_MAPPING: Final = tuple(mark.encode() for mark in MARKS)
"""Prefixes of STT_NOTYPE symbols that name nothing; in a snapshot none of them names one."""
_new_symbol: Final[Callable[[tuple[Any, ...]], Symbol]] = partial(tuple.__new__, Symbol)
"""Make a Symbol of its fields in order, in a third of the time of Symbol()."""


class SymbolTable(Sequence[Symbol]):
    """The symbols of an ELF image, by address.

    A sequence of :class:`Symbol`, sorted by address. :meth:`lookup` and :meth:`find` answer
    without building it. Sections and names of symbols are read when they are needed, and can
    raise an ImageError then. For example::

        table = ksyms.load("kernel.elf")
        len(table), table[0]
        [symbol for symbol in table if symbol.module == "ext4"]

    The number of a symbol is its index in ``.symtab``, from 1 on; 0 stands for no symbol.
    """

    def __init__(self, image: ElfFile) -> None:
        self._image = image
        self._symtab, self._strtab = _tables(image)
        self._row = image.format.sym
        self._table = image.contents(self._symtab)
        self._strings = image.contents(self._strtab)
        self._driver = is_driver_image(image)

        # A snapshot has a note, and the letters of its symbols.
        by_name = {
            name: index
            for index, section in image.stored.items()
            if section.sh_type == elf.SHT_PROGBITS and not section.sh_flags
            for name in (_note.SECTION, _note.LETTERS)
            if image.is_called(section, name)
        }
        self._note = self._contents(by_name.get(_note.SECTION))
        self._facts: NoteFacts | None = None
        count = self._symtab.sh_size // self._row.size
        if len(self._note):
            _note.check(self._note, image.format, image.label)
        letters, order = self._contents(by_name.get(_note.LETTERS)), image.format.byteorder
        self._letters = (
            Letters(letters, order, count, image.wrong)
            if len(letters) or len(self._note)
            else None
        )

        self._in: dict[int, tuple[str | None, str | None]] = {}
        self._types: dict[str | None, Btf | None] = {}
        self._values = _values(image, self._symtab)
        self._order: Sequence[int] | None = None
        self._asked = self._looked_up = self._located = 0
        self._place_of: Callable[[int], int] | None = None
        self._halves = (range(1, self._symtab.sh_info), range(self._symtab.sh_info, count))
        self._plain = None if len(self._note) or self._driver else self._as_plain()
        self._nm: dict[tuple[int, int], str] = {}
        self._looked_at = False
        self._groups: dict[int, dict[str | None, list[Symbol]]] = {}

    def _as_plain(self) -> SectionedSymbols:
        from .plain import SectionedSymbols

        return SectionedSymbols(self._image, self._symtab, self._strtab, self._values)

    def __len__(self) -> int:
        """Return the number of symbols, without ELF's symbol 0."""
        return max(0, len(self._values) - 1)

    @overload
    def __getitem__(self, item: SupportsIndex) -> Symbol: ...

    @overload
    def __getitem__(self, item: slice) -> list[Symbol]: ...

    def __getitem__(self, item: SupportsIndex | slice) -> Symbol | list[Symbol]:
        """Return the symbol at an index in address order, or a list of symbols for a slice."""
        order = self._by_address()
        if isinstance(item, slice):
            return list(self._symbols(order[item]))
        return self._symbol(order[operator.index(item)])

    def __iter__(self) -> Iterator[Symbol]:
        """Yield every symbol, by address."""
        return self._symbols(self._by_address())

    @cached_property
    def _section_names(self) -> list[str]:
        return self._image.section_names()

    @property
    def label(self) -> str:
        """The name of the image in error messages: its path."""
        return self._image.label

    @property
    def relocatable(self) -> bool:
        """True for an object file or a ``.ko``, whose sections have no addresses yet."""
        return self._image.header.e_type == elf.ET_REL

    @property
    def digits(self) -> int:
        """The number of hexadecimal digits of an address: 8 for 32 bits, 16 for 64."""
        return 8 if self._image.format.elf_class == elf.ELFCLASS32 else 16

    @property
    def strings(self) -> memoryview:
        """The names as they are in the file, each with a NUL behind it."""
        return self._strings

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of ``.note.ksyms`` (docs/format.md); {} for any other ELF file.

        Those of a usual size are read once, so what is in them is not to be changed.

        Raises:
            NoteError: the note is not whole.
        """
        if not len(self._note):
            return {}
        facts = self._facts or _note.unpack(self._note, self._image.format, self._image.label)
        if len(self._note) <= _FACTS_KEPT:
            self._facts = facts
        return dict(facts)

    @cached_property
    def release(self) -> str | None:
        """The kernel's release, as in uname -r; None if the file does not contain it.

        Raises:
            NoteError: the note is not whole.
        """
        if len(self._note):
            return self._fact("release")
        from .identity import release_of

        return release_of(self._image, self._places_of)

    @cached_property
    def machine(self) -> str | None:
        """The machine, as in uname -m; None if it is unknown.

        Raises:
            NoteError: the note is not whole.
        """
        if len(self._note):
            return self._fact("machine")
        from .identity import machine_of

        return machine_of(self._image)

    @cached_property
    def build_id(self) -> str | None:
        """The build-id of the kernel, or of a module's file; None if the file has none.

        Raises:
            NoteError: the note is not whole.
        """
        if len(self._note):
            return self._fact("build_id")
        from .identity import build_id_of

        return build_id_of(self._image)

    @cached_property
    def build_ids(self) -> dict[str, str | None]:
        """The build-id of each linker file by its name, which is ``kernel`` for the kernel.

        Raises:
            NoteError: the note is not whole.
        """
        if len(self._note):
            return {file["name"]: file["build_id"] for file in self.facts["files"]}
        from .identity import module_of

        return {module_of(self._image) or "kernel": self.build_id}

    def _fact(self, name: str) -> str | None:
        found: str | None = self.facts[name]
        return found

    def _places_of(self, name: str) -> list[tuple[int, int]]:
        """Return ``st_shndx`` and ``st_value`` of the symbols called ``name``."""
        return [(sym.st_shndx, sym.st_value) for _, sym in self._called(_encoded(name))]

    @property
    def linked(self) -> bool:
        """True for an ELF file that is no snapshot and has link addresses."""
        return self._plain is not None and not self.relocatable

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
        """Return the symbol that ``address`` lies in, None if the image has none.

        An address lies in a symbol from its first to its last byte. A symbol without a size has
        its own address only. For example, in a kernel that has ``schedule`` at
        0xffffffff81e00040::

            symbol = table.lookup(0xFFFFFFFF81E00052)
            f"{symbol.name}+{0xFFFFFFFF81E00052 - symbol.address:#x}"  # schedule+0x12

        Of several symbols of one linker file at one address, the first in kallsyms is returned,
        as the kernel prints it (kernel/kallsyms.c, get_symbol_pos); of two linker files, that
        of the file that was loaded first. Absolute symbols are never returned. In an object
        file, whose sections all start at 0, code comes before data.
        """
        if self._place_of is None:
            self._looked_up += 1
            if self._looked_up <= LOOKUPS:
                number = self._search(address)
                return self._symbol(number) if number else None
            self._prepare()
            return self.lookup(address)
        place = self._place_of(address)
        symbol = self._found[place]
        if symbol is None and (number := self._owners[place]):
            symbol = self._found[place] = self._symbol(number)
        return symbol

    def _prepare(self) -> None:
        """Prepare the spans for single addresses, with room for the symbol of each."""
        self._owners = self.spans.owners.data
        self._found: list[Symbol | None] = [None] * len(self._owners)
        # Set this last: other threads test it.
        self._place_of = (self._buckets or self.spans).one

    def _search(self, address: int) -> int:
        """Return the number of the symbol that :meth:`lookup` finds, by bisection, or 0."""
        best: tuple[int, int, int] | None = None
        if address > _LAST:
            return 0
        if self._plain is not None:
            return self._search_plain(self._plain, address)
        for half in self._runs():
            for index in self._nearest(half, address):
                sym = self._sym(index)
                # The largest address is the nearest; the smallest st_name is kallsyms' first.
                key = (-sym.st_value, sym.st_name, index)
                if best is None or key < best:
                    best = key
        return best[2] if best is not None else 0

    def _search_plain(self, plain: SectionedSymbols, address: int) -> int:
        if len(plain.runs) > SECTIONS:
            return self.spans.number.data[self.spans.one(address)]
        return plain.search(address, self._answers)

    def locate(self, addresses: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return for each of ``addresses`` the index in here of what :meth:`lookup` finds.

        The result has the shape of ``addresses``. If the image has no symbol for an address,
        the index is ``len(table)``, which is one past the last: ``table[index]`` raises
        IndexError then. The same holds for a negative integer, one of more than 64 bits, and
        one that a masked array hides. For example, with ``schedule`` at 0xffffffff81e00040::

            indices = table.locate([0xFFFFFFFF81E00052, 0x28])
            table[indices[0]].name     # schedule
            indices[1] == len(table)   # True

        The first call works out the symbols of all addresses, once.

        Args:
            addresses: integers, one or an array or nested lists of them.

        Raises:
            TypeError: they are not all integers. A double has 53 bits of the 64 that an address
                has, and so names another symbol; a column of pandas that has a gap is one of
                doubles.
        """
        from .addresses import unsigned

        wanted, nowhere = unsigned(addresses)
        places = self._answers_at.take(self._span_places(wanted))
        if nowhere is not None:
            import numpy as np

            places = np.where(nowhere, len(self), places)
        return places

    def numbers(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return for each of ``addresses`` the number of the symbol that :meth:`lookup` finds.

        The number is :data:`~.spans.NOBODY` if there is none.
        """
        return self.spans.number.take(self._span_places(addresses))

    def numbers_of(self, addresses: Sequence[int]) -> list[int]:
        """Return the number of the symbol of each address; without numpy for a few of them."""
        self._looked_up += len(addresses)
        if self._looked_up <= LOOKUPS:
            return [self._search(address) for address in addresses]
        import numpy as np

        found: list[int] = self.numbers(np.array(addresses, np.uint64)).tolist()
        return found

    def _span_places(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the index of each in :attr:`spans`; by buckets once enough were looked up."""
        self._located += wanted.size
        spans = self._buckets if self._located >= _MANY else None
        return (spans or self.spans).places(wanted)

    @cached_property
    def _buckets(self) -> Buckets | None:
        """The spans by parts of the address; None if the symbols reach too far for that."""
        from .buckets import Buckets

        try:
            return Buckets(self.spans)
        except ValueError:
            return None

    @cached_property
    def _answers_at(self) -> npt.NDArray[np.int64]:
        """The index by address of each span's symbol; ``len(self)`` for a span without one."""
        import numpy as np

        order = np.fromiter(self._by_address(), np.int64)
        places = np.full(len(order) + 1, len(order), np.int64)
        places[order] = np.arange(len(order))
        return places[self.spans.number]

    @cached_property
    def spans(self) -> Spans:
        """The number of the symbol of each address, as spans."""
        from .spans import spans

        return spans(self._answering())

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """The rows of ``.symtab``, by number, as they are in the file."""
        import numpy as np

        return np.frombuffer(self._table, self._row.dtype)

    def briefly(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[list[bytes], list[int], list[str | None]]:
        """Return names, sizes in bytes and modules of the symbols with these ``numbers``.

        They are in the order of the numbers.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        rows = self.rows[numbers]
        starts, sizes, places = (
            rows[name].tolist() for name in ("st_name", "st_size", "st_shndx")
        )
        within = self._within(places, starts)
        if self._plain is not None:
            syms = [self._sym(number) for number in numbers.tolist()]
            sizes = [self._plain.size(sym, self._answers) for sym in syms]
        return self._names_at(starts), sizes, [module for _, module in within]

    def _within(
        self, places: list[int], starts: list[int]
    ) -> list[tuple[str | None, str | None]]:
        """Return the section and the module for each pair of ``st_shndx`` and ``st_name``."""
        known = self._in.get
        return [known(place) or self._where(place, at) for place, at in zip(places, starts)]

    def _names_at(self, starts: list[int]) -> list[bytes]:
        """Return the name at each of ``starts``; for many, from a copy of all strings."""
        if len(starts) * _COPIED > len(self._strings):
            strings = bytes(self._strings)
            find = strings.find
            ends = [find(b"\0", start) for start in starts]
            if all(0 <= end - start < _LONG for start, end in zip(starts, ends)):
                return [strings[start:end] for start, end in zip(starts, ends)]
            return [self._string(strings, start) for start in starts]
        return [self._name_at(start) for start in starts]

    def numbered(self, number: int) -> Symbol:
        """Return the symbol with the index ``number`` in ``.symtab``."""
        return self._symbol(number)

    def several(self, numbers: Sequence[int]) -> Iterable[Symbol]:
        """Return the symbols with these ``numbers``, in the order of the numbers.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        if self._plain is not None or len(numbers) <= _SCANS:
            return map(self._symbol, numbers)
        import numpy as np

        rows = self.rows[np.array(numbers)]
        starts, values, sizes, places, infos = (
            rows[name].tolist()
            for name in ("st_name", "st_value", "st_size", "st_shndx", "st_info")
        )
        within = self._within(places, starts)
        letters = [self._letters.of(n) if self._letters else 0 for n in numbers]
        fields = (
            [name.decode("utf-8", "surrogateescape") for name in self._names_at(starts)],
            values,
            sizes,
            [_exact(letter, size) for letter, size in zip(letters, sizes)],
            [module for _, module in within],
            [section for section, _ in within],
            [_BINDINGS.get(info >> 4, "global") for info in infos],
            [_KINDS.get(info & 0xF, "none") for info in infos],
            [chr(letter & _LETTER) if letter else None for letter in letters],
        )
        return map(_new_symbol, zip(*fields))

    def at(self, address: int) -> list[Symbol]:
        """Return the symbols that start at ``address``, in the order of kallsyms.

        Symbols that can name no address are left out.
        """
        return [self._symbol(number) for number in self.numbers_at(address)]

    def beside(self, symbol: Symbol) -> list[Symbol]:
        """Return all symbols at the address of ``symbol``, with itself; [] if it is alone.

        In an object file, where each section starts at 0, only those in its section are
        returned.
        """
        groups = self._groups.get(symbol.address)
        if groups is None:
            numbers = self.numbers_at(symbol.address)
            if len(numbers) < 2:
                return []
            groups = self._groups[symbol.address] = {}
            for other in map(self._symbol, numbers):
                groups.setdefault(other.section if self.relocatable else None, []).append(other)
        return groups.get(symbol.section if self.relocatable else None, [])

    def numbers_at(self, address: int) -> list[int]:
        """Return the numbers of the symbols that :meth:`at` returns."""
        if self._plain is not None:
            return self._plain.at(address, self._answers)
        found = [number for run in self._runs() for number in self._same(run, address)]
        if len(found) > 1:
            found.sort(key=lambda number: self._sym(number).st_name)
        return found

    def following(self, address: int) -> int | None:
        """Return the next address above ``address`` at which a symbol starts, or None.

        Symbols that can name no address are left out.
        """
        found = []
        for run in self._runs():
            if isinstance(run, range):
                at = bisect_right(self._values, address, run.start, run.stop) - run.start
            else:
                at = bisect_right(run, address, key=self._values.__getitem__)
            while at < len(run) and not self._answers(self._sym(run[at])):
                at += 1
            if at < len(run):
                found.append(self._values[run[at]])
        return min(found, default=None)

    def find(self, name: str) -> list[Symbol]:
        """Return the symbols called ``name``, by address; [] if there is none.

        Undefined symbols are left out. For example, the addresses of all that are called so::

            [hex(symbol.address) for symbol in table.find("schedule")]

        If the file has no such name, the result is the symbols whose longer names clang's LTO
        made of it: ``foo.llvm.123`` for ``foo``, and ``foo.HASH`` before its entry in CFI's
        jump table, ``foo.HASH.cfi_jt``.
        """
        wanted = _encoded(name)
        found = self._called(wanted)
        if len(found) == 1:  # the usual case, which saves half a microsecond
            number, sym = found[0]
            return [self._made(number, sym, wanted)]
        if not found:
            return self._longer(wanted) if self._scans() or self._is_lto else []
        found.sort(key=lambda row: (row[1].st_value, row[0]))
        return [self._made(number, sym, wanted) for number, sym in found]

    @cached_property
    def names(self) -> dict[str, list[int]]:
        """The numbers of the symbols of each name that :meth:`find` knows.

        Raises:
            ImageError: a name has no end, or names overlap so much that together they are far
                larger than their table.
        """
        by_start: dict[int, list[int]] = {}
        for index, (start, section) in enumerate(_names(self._image, self._symtab)):
            if index and section != elf.SHN_UNDEF:
                by_start.setdefault(start, []).append(index)
        names: dict[str, list[int]] = {}
        found = self._image.names_at(self._strtab, by_start)
        for name, indices in zip(found.values(), by_start.values()):
            if name:
                known = names.setdefault(name.decode("utf-8", "surrogateescape"), indices)
                if known is not indices:
                    known += indices
        return names

    def ordered(self, numbers: Iterable[int]) -> Iterator[Symbol]:
        """Return the symbols with these ``numbers``, by address."""
        numbers = sorted(sorted(numbers), key=self._values.__getitem__)
        return self._symbols(numbers) if len(numbers) > _SCANS else map(self._symbol, numbers)

    def find_best(self, name: str) -> Sym | None:
        """Return the row of the symbol called ``name`` that a linker takes; None if none is.

        A global symbol comes before a weak one before a local one; then the kernel's before a
        module's, and of those the one at the lowest address. A file without a note, such as one
        in the driver's layout, does not say whose they are: there it is the one whose name
        comes first in the strings.
        """
        found = self._called(_encoded(name))
        rows = [sym for _, sym in found if sym.st_shndx != elf.SHN_COMMON]
        rows = [sym for sym in rows if sym.st_info & 0xF not in _UNNAMED]
        if not rows:
            return None
        return min(rows, key=self._preference)

    def _preference(self, sym: Sym) -> tuple[int, bool, int, int]:
        """Return the sort key of :meth:`find_best`."""
        rank, name = _RANK.get(sym.st_info >> 4, 0), sym.st_name
        if not len(self._note):
            return rank, False, name, 0
        module = self._where(sym.st_shndx, sym.st_name)[1]
        return rank, module is not None, sym.st_value, name

    def prototypes(self, symbol: Symbol) -> list[str]:
        """Return the different C prototypes in BTF of functions with the symbol's name.

        A module's symbol is looked up in the module's BTF. If there are several prototypes, BTF
        does not say which is this symbol's. [] if the symbol is no function, or the file has no
        BTF, or a BTF that cannot be read, since symbols are good without it.
        """
        types = self._btf(symbol.module) if symbol.kind == "function" else None
        try:
            return types.prototypes(symbol.name) if types else []
        except ImageError:
            return []

    def prototype(self, symbol: Symbol) -> str | None:
        """Return the C prototype of a function; None if it is unknown.

        It is unknown too if functions of that name are at several addresses: BTF has no
        addresses.
        """
        found = self.prototypes(symbol)
        return found[0] if len(found) == 1 and not self._repeated(symbol) else None

    @property
    def has_prototypes(self) -> bool:
        """True if the file has the kernel's BTF; a module's file only has an extension."""
        types = self._btf(None)
        return types is not None and types.whole

    def _btf(self, module: str | None) -> Btf | None:
        """Return the BTF of ``module``, or of the kernel; None if there is none. Keep it."""
        if module not in self._types:
            name = _note.btf_section(module)
            # A snapshot of ELF files also has the kernel's own section, without its bytes.
            found = next(
                (
                    number
                    for number, section in self._image.stored.items()
                    if section.sh_type == elf.SHT_PROGBITS and section.sh_size
                    if not (len(self._note) and section.sh_flags & elf.SHF_ALLOC)
                    if self._image.is_called(section, name)
                ),
                None,
            )
            base = None if module is None else self._btf(None)
            if found is None or (module is not None and base is None):
                self._types[module] = None
            else:
                from .btf import Btf

                self._types[module] = Btf(self._contents(found), self._image.wrong, base)
        return self._types[module]

    def _repeated(self, symbol: Symbol) -> bool:
        """Return True if functions of that name are at several addresses of the linker file."""
        return any(
            other.address != symbol.address
            for other in self.find(symbol.name)
            if (other.module, other.kind) == (symbol.module, "function")
        )

    def _called(self, wanted: bytes) -> list[tuple[int, Sym]]:
        """Return number and row of the symbols called ``wanted`` that are not SHN_UNDEF."""
        if not wanted or 0 in wanted:
            return []
        self._asked += 1
        if self._scans():
            found = [(index, self._sym(index)) for index in self._named(self._starts(wanted))]
            return [row for row in found if row[1].st_shndx != elf.SHN_UNDEF]

        found = []
        string = wanted + b"\0"
        for index in self._by_name.find(wanted):
            sym = self._sym(index)
            start, _, _, section, _, _ = sym
            same = self._strings[start : start + len(string)] == string
            if same and index and section != elf.SHN_UNDEF:
                found.append((index, sym))
        return found

    def _scans(self) -> bool:
        """Return True if a scan for a name is quicker than an index of all."""
        return self._asked <= FINDS and "numpy" not in sys.modules

    @cached_property
    def _by_name(self) -> NameHashes:
        """The index of all names, by number."""
        from .names import names

        _ = self._is_lto  # now, so that the first name that is not found need not wait
        return names(self._strings, self.rows["st_name"])

    def _starts(self, wanted: bytes, end: bytes = b"\0") -> list[int]:
        """Return the offsets in the strings at which ``wanted + end`` can start a name."""
        strings = bytes(self._strings)
        return [
            start
            for start in _occurrences(strings, wanted + end)
            # In a snapshot a name is a whole string, or all of one behind a known prefix.
            if not len(self._note)
            or strings[start - 1] == 0
            or strings.endswith(_note.SHARING_PREFIXES, 0, start)
        ]

    def _named(self, starts: list[int]) -> list[int]:
        """Return the numbers of the symbols whose ``st_name`` is one of ``starts``."""
        size, order = self._row.size, self._image.format.byteorder
        if len(starts) > _SCANS:
            wanted = set(starts)
            rows = enumerate(self._row.unpack_all(self._table))
            return [index for index, sym in rows if sym.st_name in wanted and index]

        # Find the bytes of each st_name, which is the first field of a row.
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
        """Return the row with the index ``index`` of ``.symtab``."""
        return self._row.unpack(self._table, index * self._row.size)

    def _by_address(self) -> Sequence[int]:
        """Return the numbers of all symbols, by address; they are sorted once."""
        if self._order is None:
            self._order = sorted(range(1, len(self._values)), key=self._values.__getitem__)
        return self._order

    def _runs(self) -> Sequence[Sequence[int]]:
        """Return the numbers of all symbols, in one or two sequences sorted by address.

        A snapshot has two, its local symbols and the others, which need no sorting.
        """
        return self._halves if len(self._note) else (self._by_address(),)

    def _nearest(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Yield those symbols of ``run``, at the nearest address, that ``address`` lies in."""
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
            # In a file whose symbols are not sorted, the address can be the smaller one.
            if sym.st_value == address or 0 <= address - sym.st_value < sym.st_size:
                found = sym.st_value
                yield index
            elif sym.st_size:
                passed += 1

    def _same(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Yield those symbols of ``run`` that start at ``address`` and can name it."""
        if isinstance(run, range):
            at = bisect_left(self._values, address, run.start, run.stop) - run.start
        else:
            at = bisect_left(run, address, key=self._values.__getitem__)
        while at < len(run) and self._values[run[at]] == address:
            if self._answers(self._sym(run[at])):
                yield run[at]
            at += 1

    def _answering(self) -> SymbolSpans:
        """Return the rows of all symbols that can name an address."""
        import numpy as np

        # Keep symbols with an address and a type that can have one.
        rows = self.rows[1:]
        kind = rows["st_info"] & 0xF
        good = ~np.isin(rows["st_shndx"], _NOWHERE) & ~np.isin(kind, _UNNAMED)
        if self._plain is not None:
            good &= np.isin(np.arange(1, len(rows) + 1), self._plain.numbers())

        # Drop symbols without a type: all of a snapshot's, and those with a mark's name.
        number = np.flatnonzero(good)
        untyped = number[kind[number] == elf.STT_NOTYPE]
        if not len(self._note):
            strings = np.frombuffer(self._strings, np.uint8)
            mark = np.zeros(len(untyped), np.bool_)
            for begin in _MAPPING if len(strings) else ():
                same = np.ones(len(untyped), np.bool_)
                for place, byte in enumerate(begin):
                    at = rows["st_name"][untyped].astype(np.int64) + place
                    same &= strings.take(at, mode="clip") == byte
                mark |= same
            untyped = untyped[mark]
        good[untyped] = False

        number = np.flatnonzero(good)
        if self._plain is not None:
            return self._plain.rows(self.rows, number + 1)
        columns = (rows[name][number] for name in ("st_value", "st_size"))
        value, size = (column.astype(np.uint64) for column in columns)
        from .spans import SymbolSpans

        return SymbolSpans(number + 1, value, size, rows["st_name"][number].astype(np.uint32))

    def _answers(self, sym: Sym) -> bool:
        """Return True if a symbol can name an address."""
        kind = sym.st_info & 0xF
        if sym.st_shndx in _NOWHERE or kind in _UNNAMED:
            return False
        if kind != elf.STT_NOTYPE:
            return True
        return not len(self._note) and not self._name(sym).startswith(_MAPPING)

    def _name(self, sym: Sym) -> bytes:
        return self._name_at(sym.st_name)

    def _name_at(self, start: int) -> bytes:
        name, end, _ = bytes(self._strings[start : start + _SHORT]).partition(b"\0")
        # string() reads longer names, and has the error for one without an end.
        return name if end else self._apart(self._image.string(self._strtab, start))

    def _symbol(self, index: int) -> Symbol:
        sym = self._sym(index)
        return self._made(index, sym, self._name(sym))

    def _symbols(self, numbers: Iterable[int]) -> Iterator[Symbol]:
        """Yield many symbols, in the order of their ``numbers``."""
        strings = bytes(self._strings)
        for index in numbers:
            sym = self._sym(index)
            yield self._made(index, sym, self._string(strings, sym.st_name))

    def _string(self, strings: bytes, start: int) -> bytes:
        """Return the name at ``start`` in a copy of all ``strings``: for many names."""
        end = strings.find(b"\0", start)
        if 0 <= end - start < _LONG:
            return strings[start:end]
        # string() has the error for a name without an end.
        return self._apart(self._image.string(self._strtab, start))

    def _apart(self, name: bytes) -> bytes:
        """Refuse a long name in a file with thousands of names that contain each other.

        Raises:
            ImageError: it is such a file.
        """
        if len(name) >= _LONG and not self._looked_at:
            starts = (start for start, _ in _names(self._image, self._symtab))
            self._image.names_at(self._strtab, starts)
            self._looked_at = True
        return name

    def _made(self, index: int, sym: Sym, name: bytes) -> Symbol:
        start, info, _, place, value, size = sym
        section, module = self._in.get(place) or self._where(place, start)
        if self._plain is not None:
            return self._made_plain(self._plain, sym, name)
        letter = self._letters.of(index) if self._letters else 0
        return _new_symbol(
            (
                name.decode("utf-8", "surrogateescape"),
                value,
                size,
                _exact(letter, size),
                module,
                section,
                _BINDINGS.get(info >> 4, "global"),
                _KINDS.get(info & 0xF, "none"),
                chr(letter & _LETTER) if letter else None,
            )
        )

    def _made_plain(self, plain: SectionedSymbols, sym: Sym, name: bytes) -> Symbol:
        _, info, _, place, value, size = sym
        section, module = self._in[place]
        if (place, info) not in self._nm:
            from .nm import letter

            header = None if section is None else self._image.sections[place]
            self._nm[place, info] = letter(sym, header, section or "")
        return _new_symbol(
            (
                name.decode("utf-8", "surrogateescape"),
                value,
                size or plain.size(sym, self._answers),
                bool(size),
                module,
                section,
                _BINDINGS.get(info >> 4, "global"),
                _KINDS.get(info & 0xF, "none"),
                self._nm[place, info],
            )
        )

    def _where(self, index: int, name: int) -> tuple[str | None, str | None]:
        """Return the section of an ``st_shndx``, and the module.

        A section's name has the module's. For a symbol in no section, it is the module whose
        range of names contains ``name``, the symbol's ``st_name``.
        """
        if index in self._in:
            return self._in[index]
        section = self._section(index)
        if section is None and len(self._note):
            starts, modules = self._names_of
            return None, modules[bisect_right(starts, name)]
        self._in[index] = section, _module(section)
        return self._in[index]

    @cached_property
    def _names_of(self) -> tuple[list[int], list[str | None]]:
        """The offset of each linker file's first name; and the modules, None before them."""
        files = [file for file in self.facts["files"] if "names" in file]
        modules = [None if file["kind"] == "kernel" else file["name"] for file in files]
        return [file["names"] for file in files], [None, *modules]

    def _section(self, index: int) -> str | None:
        # In the driver's layout they index sections of the original files.
        if self._driver or not elf.SHN_UNDEF < index < elf.SHN_LORESERVE:
            return None
        if index >= len(self._image.sections):
            raise self._image.wrong(f"a symbol's st_shndx is {index}")
        if len(self._in) < _SECTIONS:
            return self._image.section_name(index)
        return self._section_names[index]

    def program(self, symbol: Symbol) -> Program | None:
        """Return the BPF program that has ``symbol`` as a function; None if none is known.

        Raises:
            NoteError: the note is not whole.
        """
        return self._programs.get(symbol.address) if symbol.module == "bpf" else None

    def source_line(self, address: int) -> tuple[str, int] | None:
        """Return source and line of the BPF program's code at ``address``; None if unknown.

        Raises:
            NoteError: the note is not whole.
        """
        symbol = self.lookup(address)
        program = None if symbol is None else self.program(symbol)
        return program.line(address - symbol.address) if symbol and program else None

    @cached_property
    def _programs(self) -> dict[int, Program]:
        from .programs import programs

        return programs(self.facts)

    def printed(self, symbol: Symbol) -> str:
        """Return the word that the table's kernel prints for ``symbol``, as by ``%pS``.

        It is the name, without the suffixes of clang's LTO if the release is known to cut them
        (docs/format.md, "Names that clang's LTO made longer").
        """
        name = symbol.name
        if "." not in name and "$" not in name:
            return name
        return self.printed_name(_encoded(name)).decode("utf-8", "surrogateescape")

    def printed_name(self, name: bytes) -> bytes:
        """Return the word that the kernel prints for a ``name`` as it is in the file."""
        if b"." not in name and b"$" not in name:
            return name
        from .printed import printed

        word = printed(name, self._rules)
        # Some rules cut at any dot, but a kernel without LTO prints names with a dot whole.
        return word if word == name or self._is_lto else name

    def said(self, name: str) -> list[Symbol]:
        """Return the symbols that a text of the kernel can mean by ``name``, by address.

        They are those of :meth:`find`, and more if clang's LTO made names longer: for ``foo``
        also each ``foo.llvm.123`` and each entry of a jump table that the kernel prints as
        ``foo``.
        """
        if not self._is_lto:
            return self.find(name)
        from .printed import PERHAPS

        wanted = _encoded(name)
        found = {number for number, _ in self._called(wanted)}
        reasons = self._reasons(wanted)
        sure = {number for number, why in reasons.items() if why < PERHAPS}
        return list(self.ordered(found | sure or reasons))

    @cached_property
    def _rules(self) -> tuple[Rule, ...]:
        """The rules by which the kernel shortens a name, if it has CONFIG_LTO_CLANG."""
        from .printed import rules

        return rules(self.release)

    @cached_property
    def _is_lto(self) -> bool:
        from .printed import is_lto

        return is_lto(bytes(self._strings))

    def _longer(self, wanted: bytes) -> list[Symbol]:
        """Return the symbols whose longer names LTO made of ``wanted``, by address.

        They are those with the best reason only.
        """
        reasons = self._reasons(wanted)
        best = min(reasons.values(), default=None)
        return list(self.ordered(number for number, why in reasons.items() if why == best))

    def _reasons(self, wanted: bytes) -> dict[int, int]:
        """Return the numbers of symbols that may be printed as ``wanted``, with the reason."""
        if not wanted.translate(None, b"_.$").isalnum():
            return {}
        if not self._scans():
            return dict(self._words.get(wanted, ())) if self._is_lto else {}

        # Scan the strings for longer names: those with a dot or a dollar sign behind the word.
        starts = self._starts(wanted, b".")
        if b"$" in bytes(self._strings):  # seldom true, and quick to test
            starts += self._starts(wanted, b"$")
        if not starts or not self._is_lto:
            return {}
        from .printed import LONGEST, words

        reasons: dict[int, int] = {}
        for start in starts:
            name = bytes(self._strings[start : start + LONGEST]).partition(b"\0")[0]
            why = words(name, self._rules).get(wanted)
            if why is not None:
                reasons[start] = why

        named = ((number, self._sym(number)) for number in self._named(list(reasons)))
        return {
            number: reasons[sym.st_name]
            for number, sym in named
            if sym.st_shndx != elf.SHN_UNDEF
        }

    @cached_property
    def _words(self) -> dict[bytes, list[tuple[int, int]]]:
        """The numbers and reasons for each word that the kernel may print for a longer name."""
        import numpy as np

        from .printed import LONGEST, words

        # A name can be a longer one if a dot or a dollar sign comes before its NUL.
        strings = bytes(self._strings)
        text = np.frombuffer(strings, np.uint8)
        signs = np.flatnonzero((text == ord(".")) | (text == ord("$")))
        nuls = np.flatnonzero(text == 0)
        start = self.rows["st_name"].astype(np.int64)
        sign, end = (
            np.append(places, len(text))[np.searchsorted(places, start)]
            for places in (signs, nuls)
        )
        longer = (sign < end) & (end - start < LONGEST)
        longer &= self.rows["st_shndx"] != elf.SHN_UNDEF

        numbers = np.flatnonzero(longer)
        found: dict[bytes, list[tuple[int, int]]] = {}
        columns = (numbers, start[numbers], end[numbers])
        for number, first, last in zip(*(column.tolist() for column in columns)):
            for word, why in words(strings[first:last], self._rules).items():
                found.setdefault(word, []).append((number, why))
        return found


def _exact(letter: int, size: int) -> bool:
    return bool(letter & _note.EXACT) if letter else bool(size)


def _module(section: str | None) -> str | None:
    """Return the module in a section's name, which has it in brackets at its start."""
    if section is None or section[:1] != "[" or "]" not in section:
        return None
    return section[1 : section.index("]")]


def _encoded(name: str) -> bytes:
    """Return ``name`` as bytes of a file; b"" if no file can have it."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


def _occurrences(text: bytes, part: bytes) -> Iterator[int]:
    """Yield each offset in ``text`` at which ``part`` starts."""
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _tables(image: ElfFile) -> tuple[Shdr, Shdr]:
    """Return the headers of ``.symtab`` and of its string table."""
    found = find_symtab(image)
    if found is None:
        raise image.wrong("it has no .symtab")
    count = found.symtab.sh_size // image.format.sym.size
    if not min(1, count) <= found.symtab.sh_info <= count:
        raise image.wrong(f".symtab's sh_info is {found.symtab.sh_info}")
    return found.symtab, found.strtab


def _values(image: ElfFile, symtab: Shdr) -> Sequence[int]:
    """Return ``st_value`` of each symbol; without a copy if :func:`_own` allows it."""
    table = image.contents(symtab)
    if _own(image):
        return table.cast("Q")[1::3]
    return [sym.st_value for sym in image.format.sym.unpack_all(table)]


def _names(image: ElfFile, symtab: Shdr) -> Iterable[tuple[int, int]]:
    """Return ``st_name`` and ``st_shndx`` of each symbol."""
    table = image.contents(symtab)
    if _own(image):
        return zip(table.cast("I")[::6].tolist(), table.cast("H")[3::12].tolist())
    return ((sym.st_name, sym.st_shndx) for sym in image.format.sym.unpack_all(table))


def _own(image: ElfFile) -> bool:
    """Return True if the file has this machine's format: ELF64, in its byte order."""
    fmt = image.format
    return fmt.elf_class == elf.ELFCLASS64 and fmt.byteorder == sys.byteorder
