"""A symbol table read from an ELF image: mapped, not copied, and nothing built at load.

Nothing here imports numpy: a single answer must not wait for it.
"""

from __future__ import annotations

import operator
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

from .. import _note
from .._elf import Image, Shdr, Sym, find_symtab, is_driver_image
from .._elf import constants as elf
from .._errors import ImageError
from .._typing import TYPE_CHECKING, Any, Final, overload
from .letters import Letters
from .symbol import MARKS, Symbol

if TYPE_CHECKING:
    from typing import SupportsIndex

    import numpy as np
    import numpy.typing as npt

    from .btf import Btf
    from .buckets import Buckets
    from .names import Names
    from .plain import Plain
    from .printed import Rule
    from .programs import Program
    from .spans import Rows, Spans

_BINDINGS: Final = {elf.STB_LOCAL: "local", elf.STB_GLOBAL: "global", elf.STB_WEAK: "weak"}
_RANK: Final = {elf.STB_WEAK: 1, elf.STB_LOCAL: 2}
_KINDS: Final = {elf.STT_FUNC: "function", elf.STT_OBJECT: "object"}
_LETTER: Final = 0xFF & ~_note.EXACT
_UNNAMED: Final = (elf.STT_SECTION, elf.STT_FILE, elf.STT_TLS)
_NOWHERE: Final = (elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON)
_LAST: Final = (1 << 64) - 1
_NESTED: Final = 64
"""How many symbols with a size are looked at for one that encloses others."""
_LONG: Final = 512
"""Bytes that no name of a kernel has (KSYM_NAME_LEN): where one has, all are looked at."""
LOOKUPS: Final = 1_600
"""How many lookups by the symbols around take as long as numpy's import and the spans."""
_MANY: Final = 1 << 16
"""After how many addresses buckets are made: it takes as long as to search for these."""
_COPIED: Final = 1 << 10
"""How many bytes of strings are copied in the time that one name takes without the copy."""
FINDS: Final = 48
"""How many scans for a name take as long as numpy's import and the index of all names."""
_SHORT: Final = 64
"""Bytes that most names have less than."""
_SECTIONS: Final = 64
"""How many sections' names are made one by one, before all are, which has a limit."""
SECTIONS: Final = 1 << 8
"""Of how many sections with symbols each is searched for one address, in an ELF file that is no
snapshot; of more the spans are made.
"""
_SCANS: Final = 4
"""How many single searches of a table are worth one pass over it."""
_MAPPING: Final = tuple(mark.encode() for mark in MARKS)
"""How names of STT_NOTYPE begin that name nothing; in a snapshot none of that type does."""
_new_symbol: Final[Callable[[tuple[Any, ...]], Symbol]] = partial(tuple.__new__, Symbol)
"""A Symbol of its fields in order, in a third of what Symbol() takes."""


class SymbolTable(Sequence[Symbol]):
    """The symbols of an ELF image, by address.

    A sequence of :class:`Symbol`, sorted by address; :meth:`lookup` and :meth:`find`
    answer without building it. A symbol's section and names are looked at when they are asked
    for: an ImageError can come then.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._symtab, self._strtab = _tables(image)
        self._row = image.format.sym
        self._table = image.contents(self._symtab)
        self._strings = image.contents(self._strtab)
        self._driver = is_driver_image(image)
        by_name = {
            name: index
            for index, section in image.stored.items()
            if section.sh_type == elf.SHT_PROGBITS and not section.sh_flags
            for name in (_note.SECTION, _note.LETTERS)
            if image.is_called(section, name)
        }
        self._note = self._contents(by_name.get(_note.SECTION))
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

    def _as_plain(self) -> Plain:
        from .plain import Plain

        return Plain(self._image, self._symtab, self._strtab, self._values)

    def __len__(self) -> int:
        """How many symbols there are, without ELF's symbol 0."""
        return max(0, len(self._values) - 1)

    @overload
    def __getitem__(self, item: SupportsIndex) -> Symbol: ...

    @overload
    def __getitem__(self, item: slice) -> list[Symbol]: ...

    def __getitem__(self, item: SupportsIndex | slice) -> Symbol | list[Symbol]:
        """The symbol at a place in the order of addresses, or a list of them for a slice."""
        order = self._by_address()
        if isinstance(item, slice):
            return list(self._symbols(order[item]))
        return self._symbol(order[operator.index(item)])

    def __iter__(self) -> Iterator[Symbol]:
        """Every symbol, by address."""
        return self._symbols(self._by_address())

    @cached_property
    def _section_names(self) -> list[str]:
        return self._image.section_names()

    @property
    def label(self) -> str:
        """What errors call the image: its path."""
        return self._image.label

    @property
    def relocatable(self) -> bool:
        """Whether it is an object file or a ``.ko``, whose sections have no places yet."""
        return self._image.header.e_type == elf.ET_REL

    @property
    def digits(self) -> int:
        """How many hexadecimal digits an address has: 8 of 32 bits, 16 of 64."""
        return 8 if self._image.format.elf_class == elf.ELFCLASS32 else 16

    @property
    def strings(self) -> memoryview:
        """The names, each with a NUL behind it, as they lie in the file."""
        return self._strings

    @property
    def facts(self) -> dict[str, Any]:
        """What ``.note.ksyms`` says (docs/format.md), or nothing for another ELF file.

        Raises:
            NoteError: the note is not whole.
        """
        if not len(self._note):
            return {}
        return dict(_note.unpack(self._note, self._image.format, self._image.label))

    @cached_property
    def release(self) -> str | None:
        """The kernel's release, as uname -r; None where the file does not tell it.

        Raises:
            NoteError: the note is not whole.
        """
        if len(self._note):
            return self._fact("release")
        from .identity import release_of

        return release_of(self._image, self._places_of)

    @cached_property
    def machine(self) -> str | None:
        """The machine, as uname -m; None where the file does not tell it.

        Raises:
            NoteError: the note is not whole.
        """
        if len(self._note):
            return self._fact("machine")
        from .identity import machine_of

        return machine_of(self._image)

    @cached_property
    def build_id(self) -> str | None:
        """The build-id of the kernel, or of a module's file; None where the file has none.

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
        """``st_shndx`` and ``st_value`` of the symbols of a name."""
        return [(sym.st_shndx, sym.st_value) for _, sym in self._called(_encoded(name))]

    @property
    def linked(self) -> bool:
        """Whether its addresses are those that it was linked to: it is no snapshot."""
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
        """The symbol that ``address`` lies in, or None where the image knows of none.

        An address lies in a symbol from its first to its last byte; one without a size
        answers for its own address. Of several of one file at one address, the first in
        kallsyms is given, as the kernel prints it (kernel/kallsyms.c, get_symbol_pos); of
        two files', that of the one loaded first. Absolute symbols never answer. Of an object
        file, whose sections all begin at 0, code answers before data.
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
        """Have the spans at hand for single addresses, and room for who answers in each."""
        self._owners = self.spans.owners.data
        self._found: list[Symbol | None] = [None] * len(self._owners)
        # Last, for other threads look whether it is there.
        self._place_of = (self._buckets or self.spans).one

    def _search(self, address: int) -> int:
        """The number of what :meth:`lookup` finds, by the symbols around alone; 0 of none."""
        best: tuple[int, int, int] | None = None
        if address > _LAST:
            return 0
        if self._plain is not None:
            return self._search_plain(self._plain, address)
        for half in self._runs():
            for index in self._nearest(half, address):
                sym = self._sym(index)
                # The larger address is nearer; the smaller st_name came first in kallsyms.
                key = (-sym.st_value, sym.st_name, index)
                if best is None or key < best:
                    best = key
        return best[2] if best is not None else 0

    def _search_plain(self, plain: Plain, address: int) -> int:
        if len(plain.runs) > SECTIONS:
            return self.spans.number.data[self.spans.one(address)]
        return plain.search(address, self._answers)

    def locate(self, addresses: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """For each of ``addresses``, what :meth:`lookup` finds, as its place in here.

        The answers have their shape. ``table[place]`` is the symbol. Where the image knows of
        none the place is ``len(table)``, the first that there is not: ``table[place]`` raises
        IndexError then, as an array of as many items does. So it is of a negative integer, one
        of more than 64 bits, and one that a masked array hides. The first call works out who
        answers where, once.

        Args:
            addresses: integers, one or an array or nested lists of them.

        Raises:
            TypeError: they are not all integers. A double has 53 bits of the 64 that an
                address has, and so names another symbol; a column of pandas that has a gap
                is one of doubles.
        """
        from .addresses import unsigned

        wanted, nowhere = unsigned(addresses)
        places = self._answers_at.take(self._span_places(wanted))
        if nowhere is not None:
            import numpy as np

            places = np.where(nowhere, len(self), places)
        return places

    def numbers(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """For each of ``addresses``, what :meth:`lookup` finds, as its number in ``.symtab``.

        The number is :data:`~.spans.NOBODY` where the image knows of none.
        """
        return self.spans.number.take(self._span_places(addresses))

    def numbers_of(self, addresses: Sequence[int]) -> list[int]:
        """The same of integers of 64 bits, of which a few do not wait for numpy."""
        self._looked_up += len(addresses)
        if self._looked_up <= LOOKUPS:
            return [self._search(address) for address in addresses]
        import numpy as np

        found: list[int] = self.numbers(np.array(addresses, np.uint64)).tolist()
        return found

    def _span_places(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The place in :attr:`spans` of each; by buckets once enough were asked for."""
        self._located += wanted.size
        spans = self._buckets if self._located >= _MANY else None
        return (spans or self.spans).places(wanted)

    @cached_property
    def _buckets(self) -> Buckets | None:
        """The spans by address; None where the symbols reach too far."""
        from .buckets import Buckets

        try:
            return Buckets(self.spans)
        except ValueError:
            return None

    @cached_property
    def _answers_at(self) -> npt.NDArray[np.int64]:
        """The place by address of who answers in each span; how many there are, of nobody."""
        import numpy as np

        order = np.fromiter(self._by_address(), np.int64)
        places = np.full(len(order) + 1, len(order), np.int64)
        places[order] = np.arange(len(order))
        return places[self.spans.number]

    @cached_property
    def spans(self) -> Spans:
        """Who answers where, for all addresses: of numbers that :meth:`numbered` takes."""
        from .spans import spans

        return spans(self._answering())

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """The rows of ``.symtab``, by number, as they lie in the file."""
        import numpy as np

        return np.frombuffer(self._table, self._row.dtype)

    def briefly(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[list[bytes], list[int], list[str | None]]:
        """Names, sizes in bytes and modules of the symbols of ``numbers``, in their order.

        Raises:
            ImageError: a symbol's name has no end, or its section is none.
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
        """The section and the module of each ``st_shndx`` and ``st_name``."""
        known = self._in.get
        return [known(place) or self._where(place, at) for place, at in zip(places, starts)]

    def _names_at(self, starts: list[int]) -> list[bytes]:
        """The name at each of ``starts``; of many, from a copy of all strings."""
        if len(starts) * _COPIED > len(self._strings):
            strings = bytes(self._strings)
            find = strings.find
            ends = [find(b"\0", start) for start in starts]
            if all(0 <= end - start < _LONG for start, end in zip(starts, ends)):
                return [strings[start:end] for start, end in zip(starts, ends)]
            return [self._string(strings, start) for start in starts]
        return [self._name_at(start) for start in starts]

    def numbered(self, number: int) -> Symbol:
        """The symbol that is the ``number``-th of ``.symtab``."""
        return self._symbol(number)

    def several(self, numbers: Sequence[int]) -> Iterable[Symbol]:
        """The symbols that are these ``numbers`` of ``.symtab``, in their order.

        Raises:
            ImageError: a symbol's name has no end, or its section is none.
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
        """Every symbol that begins at ``address`` and answers for it, as kallsyms has them."""
        return [self._symbol(number) for number in self.numbers_at(address)]

    def beside(self, symbol: Symbol) -> list[Symbol]:
        """What else begins at the address of ``symbol`` and answers for it, with it.

        Of an object file, where each section begins at 0, only what is in its section.
        Nothing where it is alone.
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
        """The same as their numbers, which :meth:`numbered` takes."""
        if self._plain is not None:
            return self._plain.at(address, self._answers)
        found = [number for run in self._runs() for number in self._same(run, address)]
        if len(found) > 1:
            found.sort(key=lambda number: self._sym(number).st_name)
        return found

    def following(self, address: int) -> int | None:
        """The next address above at which a symbol begins that answers; None if none does."""
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
        """Every symbol called ``name`` that has a place, by address; [] where there is none.

        Where the file has no such name, those that clang's LTO made a longer one of:
        ``foo.llvm.123`` for ``foo``, and ``foo.HASH`` before its entry in CFI's jump table,
        ``foo.HASH.cfi_jt``.
        """
        wanted = _encoded(name)
        found = self._called(wanted)
        if len(found) == 1:  # almost always, and in half a microsecond less
            number, sym = found[0]
            return [self._made(number, sym, wanted)]
        if not found:
            return self._longer(wanted) if self._scans() or self._is_lto else []
        found.sort(key=lambda row: (row[1].st_value, row[0]))
        return [self._made(number, sym, wanted) for number, sym in found]

    @cached_property
    def names(self) -> dict[str, list[int]]:
        """Each name that :meth:`find` knows, to the numbers of its symbols in ``.symtab``.

        Raises:
            ImageError: a name has no end, or they overlap so that they are much more than
                their table.
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
        """The symbols that are these ``numbers`` of ``.symtab``, by address."""
        numbers = sorted(sorted(numbers), key=self._values.__getitem__)
        return self._symbols(numbers) if len(numbers) > _SCANS else map(self._symbol, numbers)

    def find_best(self, name: str) -> Sym | None:
        """The row of the one symbol called ``name`` that a linker takes.

        A global one before a weak one before a local one; then the kernel's before a
        module's, and of those the one at the lowest address. In the driver's layout, which
        does not tell whose they are, the one whose name comes first. None where there is none.
        """
        found = self._called(_encoded(name))
        rows = [sym for _, sym in found if sym.st_shndx != elf.SHN_COMMON]
        rows = [sym for sym in rows if sym.st_info & 0xF not in _UNNAMED]
        if not rows:
            return None
        return min(rows, key=self._preference)

    def _preference(self, sym: Sym) -> tuple[int, bool, int, int]:
        rank, name = _RANK.get(sym.st_info >> 4, 0), sym.st_name
        if not len(self._note):
            return rank, False, name, 0
        module = self._where(sym.st_shndx, sym.st_name)[1]
        return rank, module is not None, sym.st_value, name

    def prototypes(self, symbol: Symbol) -> list[str]:
        """The C prototypes that the file's BTF has for functions of that name, none twice.

        For a module's symbol in the module's BTF. Nothing where the file has none, where
        BTF has no such function, or where the symbol is no function. Where there are
        several, nothing tells which is this symbol's. A BTF that cannot be read has none: the
        symbols are good without it.
        """
        types = self._btf(symbol.module) if symbol.kind == "function" else None
        try:
            return types.prototypes(symbol.name) if types else []
        except ImageError:
            return []

    def prototype(self, symbol: Symbol) -> str | None:
        """The C prototype of a function; None where it is not known.

        It is not where functions of one name lie in several places: BTF has names and no
        addresses.
        """
        found = self.prototypes(symbol)
        return found[0] if len(found) == 1 and not self._repeated(symbol) else None

    @property
    def has_prototypes(self) -> bool:
        """Whether the file has the kernel's BTF; a module's file has what goes on from it."""
        types = self._btf(None)
        return types is not None and types.whole

    def _btf(self, module: str | None) -> Btf | None:
        """The BTF of ``module``, or of the kernel; what there is of it is found once."""
        if module not in self._types:
            name = _note.btf_section(module)
            # A snapshot of ELF files has sections without bytes that are called as theirs.
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
        """Whether functions of the symbol's name lie in several places of its linker file."""
        return any(
            other.address != symbol.address
            for other in self.find(symbol.name)
            if (other.module, other.kind) == (symbol.module, "function")
        )

    def _called(self, wanted: bytes) -> list[tuple[int, Sym]]:
        """Number and row of the symbols called ``wanted`` that are not SHN_UNDEF."""
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
        """Whether a scan for a name is quicker than an index of all."""
        return self._asked <= FINDS and "numpy" not in sys.modules

    @cached_property
    def _by_name(self) -> Names:
        """The index of all names, by :meth:`_sym`'s numbers."""
        from .names import names

        _ = self._is_lto  # not to be waited for by the first name that is not there
        return names(self._strings, self.rows["st_name"])

    def _starts(self, wanted: bytes, end: bytes = b"\0") -> list[int]:
        """Where in the strings a name that is ``wanted`` and ``end`` can begin."""
        strings = bytes(self._strings)
        return [
            start
            for start in _occurrences(strings, wanted + end)
            # In a snapshot a name is a string of its own, or the tail of a longer one.
            if not len(self._note)
            or strings[start - 1] == 0
            or strings.endswith(_note.SHARING_PREFIXES, 0, start)
        ]

    def _named(self, starts: list[int]) -> list[int]:
        """The symbols whose ``st_name`` is one of ``starts``."""
        size, order = self._row.size, self._image.format.byteorder
        if len(starts) > _SCANS:
            wanted = set(starts)
            rows = enumerate(self._row.unpack_all(self._table))
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
        return self._row.unpack(self._table, index * self._row.size)

    def _by_address(self) -> Sequence[int]:
        if self._order is None:
            self._order = sorted(range(1, len(self._values)), key=self._values.__getitem__)
        return self._order

    def _runs(self) -> Sequence[Sequence[int]]:
        return self._halves if len(self._note) else (self._by_address(),)

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
            # Where somebody else's file is not in order, address can be the smaller one.
            if sym.st_value == address or 0 <= address - sym.st_value < sym.st_size:
                found = sym.st_value
                yield index
            elif sym.st_size:
                passed += 1

    def _same(self, run: Sequence[int], address: int) -> Iterator[int]:
        """Those symbols of ``run`` that begin at ``address`` and can answer."""
        if isinstance(run, range):
            at = bisect_left(self._values, address, run.start, run.stop) - run.start
        else:
            at = bisect_left(run, address, key=self._values.__getitem__)
        while at < len(run) and self._values[run[at]] == address:
            if self._answers(self._sym(run[at])):
                yield run[at]
            at += 1

    def _answering(self) -> Rows:
        """The rows of all symbols that name an address, for :func:`spans`."""
        import numpy as np

        rows = self.rows[1:]
        kind = rows["st_info"] & 0xF
        good = ~np.isin(rows["st_shndx"], _NOWHERE) & ~np.isin(kind, _UNNAMED)
        if self._plain is not None:
            good &= np.isin(np.arange(1, len(rows) + 1), self._plain.numbers())
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
        from .spans import Rows

        return Rows(number + 1, value, size, rows["st_name"][number].astype(np.uint32))

    def _answers(self, sym: Sym) -> bool:
        """Whether a symbol names an address at all."""
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
        # string() has the longer ones, and the words for one without an end.
        return name if end else self._apart(self._image.string(self._strtab, start))

    def _symbol(self, index: int) -> Symbol:
        sym = self._sym(index)
        return self._made(index, sym, self._name(sym))

    def _symbols(self, numbers: Iterable[int]) -> Iterator[Symbol]:
        """Many symbols, in the order of their ``numbers``."""
        strings = bytes(self._strings)
        for index in numbers:
            sym = self._sym(index)
            yield self._made(index, sym, self._string(strings, sym.st_name))

    def _string(self, strings: bytes, start: int) -> bytes:
        """The name at ``start`` of a copy of all of them: for many."""
        end = strings.find(b"\0", start)
        if 0 <= end - start < _LONG:
            return strings[start:end]
        # string() has the words for one without an end.
        return self._apart(self._image.string(self._strtab, start))

    def _apart(self, name: bytes) -> bytes:
        """Refuse a long name in a file whose names are one in the other by the thousand.

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

    def _made_plain(self, plain: Plain, sym: Sym, name: bytes) -> Symbol:
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
        """The section of an ``st_shndx``, and the module.

        That is in the section's name. Of what is in none it is the one among whose names
        ``st_name`` is.
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
        """Where the names of each linker file begin, and the modules: one more, the first."""
        files = [file for file in self.facts["files"] if "names" in file]
        modules = [None if file["kind"] == "kernel" else file["name"] for file in files]
        return [file["names"] for file in files], [None, *modules]

    def _section(self, index: int) -> str | None:
        # In the driver's image they are numbers of the sections of files that are not here.
        if self._driver or not elf.SHN_UNDEF < index < elf.SHN_LORESERVE:
            return None
        if index >= len(self._image.sections):
            raise self._image.wrong(f"a symbol's st_shndx is {index}")
        if len(self._in) < _SECTIONS:
            return self._image.section_name(index)
        return self._section_names[index]

    def program(self, symbol: Symbol) -> Program | None:
        """The BPF program that ``symbol`` is a function of; None where none is known.

        Raises:
            NoteError: the note is not whole.
        """
        return self._programs.get(symbol.address) if symbol.module == "bpf" else None

    def source_line(self, address: int) -> tuple[str, int] | None:
        """Source and line of the BPF program's code at ``address``; None where not known.

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
        """What the kernel that the table is of prints for ``symbol``, as by ``%pS``.

        Its name, without what clang's LTO added to it where the release is known to print it
        so (docs/format.md, "Names that clang's LTO made longer").
        """
        name = symbol.name
        if "." not in name and "$" not in name:
            return name
        return self.printed_name(_encoded(name)).decode("utf-8", "surrogateescape")

    def printed_name(self, name: bytes) -> bytes:
        """The same of a name as the file has it."""
        if b"." not in name and b"$" not in name:
            return name
        from .printed import printed

        word = printed(name, self._rules)
        # Of gcc's names with a dot an old release may have cut some, had it been clang's.
        return word if word == name or self._is_lto else name

    def said(self, name: str) -> list[Symbol]:
        """Every symbol that a text of the kernel can mean by ``name``, by address.

        More than :meth:`find` has where clang's LTO made names longer: with ``foo`` also each
        ``foo.llvm.123`` and each entry of a jump table that the kernel prints as ``foo``.
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
        """How the kernel cuts what it prints, if it is one with CONFIG_LTO_CLANG."""
        from .printed import rules

        return rules(self.release)

    @cached_property
    def _is_lto(self) -> bool:
        from .printed import is_lto

        return is_lto(bytes(self._strings))

    def _longer(self, wanted: bytes) -> list[Symbol]:
        """What LTO made a longer name of than ``wanted``, by address, for the best reason."""
        reasons = self._reasons(wanted)
        best = min(reasons.values(), default=None)
        return list(self.ordered(number for number, why in reasons.items() if why == best))

    def _reasons(self, wanted: bytes) -> dict[int, int]:
        """The number of each symbol whose name the kernel may print as ``wanted``, and why."""
        if not wanted.translate(None, b"_.$").isalnum():
            return {}
        if not self._scans():
            return dict(self._words.get(wanted, ())) if self._is_lto else {}
        starts = self._starts(wanted, b".")
        if b"$" in bytes(self._strings):  # it seldom is, and this is a quick look
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
        """Each word that the kernel may print for longer names: their numbers, and why."""
        import numpy as np

        from .printed import LONGEST, words

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
    """The module in a section's name, which begins with it in brackets."""
    if section is None or section[:1] != "[" or "]" not in section:
        return None
    return section[1 : section.index("]")]


def _encoded(name: str) -> bytes:
    """``name`` as a file has it; nothing where no file can have it."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


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
    table = image.contents(symtab)
    if _own(image):
        return table.cast("Q")[1::3]
    return [sym.st_value for sym in image.format.sym.unpack_all(table)]


def _names(image: Image, symtab: Shdr) -> Iterable[tuple[int, int]]:
    """``st_name`` and ``st_shndx`` of each symbol."""
    table = image.contents(symtab)
    if _own(image):
        return zip(table.cast("I")[::6].tolist(), table.cast("H")[3::12].tolist())
    return ((sym.st_name, sym.st_shndx) for sym in image.format.sym.unpack_all(table))


def _own(image: Image) -> bool:
    """Whether the machine can read the symbols of ``image`` as they lie."""
    fmt = image.format
    return fmt.elf_class == elf.ELFCLASS64 and fmt.byteorder == sys.byteorder
