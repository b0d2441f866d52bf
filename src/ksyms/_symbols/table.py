"""A symbol table read from an ELF image: mapped, not copied, and nothing built at load.

Nothing here imports numpy: a single answer must not wait for it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

from .. import _note
from .._elf import Image, Shdr, Sym, find_symtab, is_driver_image
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Any, Final
from .letters import Letters
from .symbol import Symbol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .btf import Btf
    from .buckets import Buckets
    from .names import Names
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
_SHARED: Final = 16
"""How many times its size a table of names is believed to be worth: names can share bytes."""
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
_SCANS: Final = 4
"""How many single searches of a table are worth one pass over it."""
# st_info's type is STT_NOTYPE and the name begins with this: see the linker room.
_MAPPING: Final = b"$"
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
            return list(self._symbols(order[item]))
        return self._symbol(order[item])

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
        if self._place_of is None:
            self._looked_up += 1
            if self._looked_up <= LOOKUPS:
                return self._search(address)
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

    def _search(self, address: int) -> Symbol | None:
        """What :meth:`lookup` finds, by the symbols around ``address`` alone."""
        best: tuple[int, int, int] | None = None
        if address > _LAST:
            return None
        for half in self._runs():
            for index in self._nearest(half, address):
                sym = self._sym(index)
                # The larger address is nearer; the smaller st_name came first in kallsyms.
                key = (-sym.st_value, sym.st_name, index)
                if best is None or key < best:
                    best = key
        return self._symbol(best[2]) if best is not None else None

    def locate(self, addresses: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """For each of ``addresses`` (uint64), what :meth:`lookup` finds, as its place in here.

        The answers have their shape. ``table[place]`` is the symbol; the place is -1 where the
        image knows of none. The first call works out who answers where, once.
        """
        import numpy as np

        return self._answers_at.take(self._span_places(np.asarray(addresses, np.uint64)))

    def numbers(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """For each of ``addresses``, what :meth:`lookup` finds, as its number in ``.symtab``.

        The number is :data:`~.spans.NOBODY` where the image knows of none.
        """
        return self.spans.number.take(self._span_places(addresses))

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
        """The place in the order of addresses of who answers in each span; -1 of nobody."""
        import numpy as np

        order = np.fromiter(self._by_address(), np.int64)
        places = np.full(len(order) + 1, -1, np.int64)
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
    ) -> Iterator[tuple[bytes, int, str | None]]:
        """Name, size in bytes and module of each symbol of ``numbers``, in their order.

        Raises:
            ImageError: a symbol's name has no end, or its section is none.
        """
        rows = self.rows[numbers]
        starts, sizes, places = (
            rows[name].tolist() for name in ("st_name", "st_size", "st_shndx")
        )
        modules = {place: self._place(place)[1] for place in set(places)}
        if len(starts) * _COPIED > len(self._strings):
            strings = bytes(self._strings)
            names = [self._string(strings, start) for start in starts]
        else:
            names = [self._name_at(start) for start in starts]
        return zip(names, sizes, [modules[place] for place in places])

    def numbered(self, number: int) -> Symbol:
        """The symbol that is the ``number``-th of ``.symtab``."""
        return self._symbol(number)

    def at(self, address: int) -> list[Symbol]:
        """Every symbol that begins at ``address`` and answers for it, as kallsyms has them."""
        return [self._symbol(number) for number in self.numbers_at(address)]

    def numbers_at(self, address: int) -> list[int]:
        """The same as their numbers, which :meth:`numbered` takes."""
        found = [number for run in self._runs() for number in self._same(run, address)]
        if len(found) > 1:
            found.sort(key=lambda number: self._sym(number).st_name)
        return found

    def find(self, name: str) -> list[Symbol]:
        """Every symbol called ``name`` that has a place, by address; [] where there is none."""
        wanted = _encoded(name)
        found = self._called(wanted)
        if len(found) == 1:  # almost always, and in half a microsecond less
            number, sym = found[0]
            return [self._made(number, sym, wanted)]
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
        strings = bytes(self._strings)
        left = _SHARED * (len(strings) + 4096)
        names: dict[str, list[int]] = {}
        for start, indices in by_start.items():
            name = self._string(strings, start)
            left -= len(name)
            if left < 0:
                raise self._image.wrong("its symbols' names overlap")
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
        return rank, self._place(sym.st_shndx)[1] is not None, sym.st_value, name

    def prototypes(self, symbol: Symbol) -> list[str]:
        """The C prototypes that the file's BTF has for functions of that name, none twice.

        For a module's symbol in the module's BTF. Nothing where the file has none, where
        BTF has no such function, or where the symbol is no function. Where there are
        several, nothing tells which is this symbol's.

        Raises:
            ImageError: a field of the BTF is wrong.
        """
        types = self._btf(symbol.module) if symbol.kind == "function" else None
        return types.prototypes(symbol.name) if types else []

    def prototype(self, symbol: Symbol) -> str | None:
        """The C prototype of a function; None where it is not known.

        It is not where functions of one name lie in several places: BTF has names and no
        addresses.

        Raises:
            ImageError: a field of the BTF is wrong.
        """
        found = self.prototypes(symbol)
        return found[0] if len(found) == 1 and not self._repeated(symbol) else None

    @property
    def has_prototypes(self) -> bool:
        """Whether the file has the kernel's BTF."""
        return self._btf(None) is not None

    def _btf(self, module: str | None) -> Btf | None:
        """The BTF of ``module``, or of the kernel; what there is of it is found once."""
        if module not in self._types:
            name = _note.btf_section(module)
            found = self._section_names.index(name) if name in self._section_names else None
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
        if self._asked <= FINDS and "numpy" not in sys.modules:
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

    @cached_property
    def _by_name(self) -> Names:
        """The index of all names, by :meth:`_sym`'s numbers."""
        from .names import names

        return names(self._strings, self.rows["st_name"])

    def _starts(self, wanted: bytes) -> list[int]:
        """Where in the strings a symbol called ``wanted`` can have its name."""
        strings = bytes(self._strings)
        return [
            start
            for start in _occurrences(strings, wanted + b"\0")
            # In a snapshot a name is a string of its own, or the tail of a longer one.
            if not len(self._note)
            or strings[start - 1] == 0
            or strings.endswith(_note.BEFORE, 0, start)
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
        number = np.flatnonzero(good)
        untyped = number[kind[number] == elf.STT_NOTYPE] + 1
        mapping = [i for i in untyped.tolist() if not self._answers(self._sym(i))]
        good[np.array(mapping, np.intp) - 1] = False
        number = np.flatnonzero(good)
        columns = (rows[name][number] for name in ("st_value", "st_size"))
        value, size = (column.astype(np.uint64) for column in columns)
        from .spans import Rows

        return Rows(number + 1, value, size, rows["st_name"][number].astype(np.uint32))

    def _answers(self, sym: Sym) -> bool:
        """Whether a symbol names an address at all."""
        kind = sym.st_info & 0xF
        if sym.st_shndx in _NOWHERE or kind in _UNNAMED:
            return False
        return kind != elf.STT_NOTYPE or not self._name(sym).startswith(_MAPPING)

    def _name(self, sym: Sym) -> bytes:
        return self._name_at(sym.st_name)

    def _name_at(self, start: int) -> bytes:
        name, end, _ = bytes(self._strings[start : start + _SHORT]).partition(b"\0")
        # string() has the longer ones, and the words for one without an end.
        return name if end else self._image.string(self._strtab, start)

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
        # string() has the words for one without an end.
        return strings[start:end] if end >= 0 else self._image.string(self._strtab, start)

    def _made(self, index: int, sym: Sym, name: bytes) -> Symbol:
        _, info, _, place, value, size = sym
        section, module = self._in.get(place) or self._place(place)
        letter = self._letters.of(index) if self._letters else 0
        return _new_symbol(
            (
                name.decode("utf-8", "surrogateescape"),
                value,
                size,
                bool(letter & _note.EXACT) if letter else bool(size),
                module,
                section,
                _BINDINGS.get(info >> 4, "global"),
                _KINDS.get(info & 0xF, "none"),
                chr(letter & _LETTER) if letter else None,
            )
        )

    def _place(self, index: int) -> tuple[str | None, str | None]:
        """The section of an ``st_shndx``, and the module in that one's name."""
        if index not in self._in:
            section = self._section(index)
            self._in[index] = section, _module(section)
        return self._in[index]

    def _section(self, index: int) -> str | None:
        # In the driver's image they are numbers of the sections of files that are not here.
        if self._driver or not elf.SHN_UNDEF < index < elf.SHN_LORESERVE:
            return None
        if index >= len(self._image.sections):
            raise self._image.wrong(f"a symbol's st_shndx is {index}")
        if len(self._in) < _SECTIONS:
            return self._image.section_name(index)
        return self._section_names[index]


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
