"""The symbol table of an ELF image, which is mapped and not copied; loading it builds nothing.

:class:`SymbolTable` is what programs use. Its parts do the work, each in a file of its own::

    symbol_file.py      the rows and names as they are in the file
    by_address.py       lookup of one address; by_spans.py of many addresses
    by_name.py          lookup of names; longer_names.py of those that clang's LTO made longer
    symbol_maker.py     makes Symbols from rows, with section_of_symbol.py and letters.py
    sectioned.py        sizes and precedence in a file that is not a snapshot
    kernel_identity.py  the identity of the file's kernel
    prototypes.py       a function's C prototype; programs.py has BPF programs

A module that a single lookup does not need is imported when it is first used.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from .._elf import ElfFile, Sym
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Any, Final, overload
from .by_address import LAST, AddressSearch
from .section_of_symbol import SymbolSections
from .symbol import Symbol, encode_name
from .symbol_file import SymbolFile
from .symbol_maker import FEW, SymbolMaker

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex

    import numpy as np
    import numpy.typing as npt

    from .by_name import NameSearch
    from .by_spans import SpanSearch
    from .kernel_identity import KernelIdentity
    from .longer_names import LongerNames
    from .programs import Program
    from .prototypes import Prototypes
    from .sectioned import SectionedSymbols
    from .spans import Spans

LOOKUPS: Final = 1_600
"""The number of bisections that take as long as importing numpy and making the spans."""
SECTIONS: Final = 1 << 8
"""Limit on the sections of an ELF file in each of which a single address is searched.

If an ELF file that is not a snapshot has symbols in more sections, the spans are made instead.
"""


class SymbolTable(Sequence[Symbol]):
    """The symbols of an ELF image, by address.

    A sequence of :class:`Symbol`, sorted by address. :meth:`lookup` and :meth:`find` do not
    need the sequence. The names and sections of symbols are read when they are needed, so an
    ImageError for them is raised then. For example::

        table = ksyms.load("kernel.elf")
        len(table), table[0]
        [symbol for symbol in table if symbol.module == "ext4"]

    The number of a symbol is its index in ``.symtab``, from 1 on; 0 stands for no symbol.
    """

    def __init__(self, image: ElfFile) -> None:
        self._file = file = SymbolFile(image)
        self._sectioned: SectionedSymbols | None = None
        if not file.is_snapshot and not file.is_driver:
            from .sectioned import SectionedSymbols

            self._sectioned = SectionedSymbols(file)
        self._sections = SymbolSections(file)
        self._maker = SymbolMaker(file, self._sections, self._sectioned)
        self._by_address = AddressSearch(file, self._sectioned)

        self._looked_up = 0
        self._find_span: Callable[[int], int] | None = None
        self._span_owners: memoryview
        self._span_symbols: list[Symbol | None]
        self._beside: dict[int, dict[str | None, list[Symbol]]] = {}

    @cached_property
    def _by_spans(self) -> SpanSearch:
        from .by_spans import SpanSearch

        return SpanSearch(self._file, self._sectioned, self._by_address)

    @cached_property
    def _by_name(self) -> NameSearch:
        from .by_name import NameSearch

        return NameSearch(self._file)

    @cached_property
    def _identity(self) -> KernelIdentity:
        from .kernel_identity import KernelIdentity

        return KernelIdentity(self._file, self._by_name)

    @cached_property
    def _longer_names(self) -> LongerNames:
        from .longer_names import LongerNames

        return LongerNames(self._file, self._by_name, self._identity)

    @cached_property
    def _prototypes(self) -> Prototypes:
        from .prototypes import Prototypes

        return Prototypes(self._file)

    # -- the table as a sequence --------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of symbols, without ELF's symbol 0."""
        return max(0, len(self._file.values) - 1)

    @overload
    def __getitem__(self, item: SupportsIndex) -> Symbol: ...

    @overload
    def __getitem__(self, item: slice) -> list[Symbol]: ...

    def __getitem__(self, item: SupportsIndex | slice) -> Symbol | list[Symbol]:
        """Return the symbol at an index in address order, or a list of symbols for a slice."""
        order = self._by_address.order
        if isinstance(item, slice):
            return list(self._maker.symbols(order[item]))
        return self._maker.symbol(order[operator.index(item)])

    def __iter__(self) -> Iterator[Symbol]:
        """Yield every symbol, by address."""
        return self._maker.symbols(self._by_address.order)

    # -- the file and its kernel --------------------------------------------------------------

    @property
    def label(self) -> str:
        """The name of the image in error messages: its path."""
        return self._file.image.label

    @property
    def relocatable(self) -> bool:
        """True for an object file or a ``.ko``, whose sections have no addresses yet."""
        return self._file.is_relocatable

    @property
    def linked(self) -> bool:
        """True for an ELF file that is not a snapshot and has link addresses."""
        return self._sectioned is not None and not self.relocatable

    @property
    def digits(self) -> int:
        """The number of hexadecimal digits of an address: 8 for 32 bits, 16 for 64."""
        return 8 if self._file.image.format.elf_class == elf.ELFCLASS32 else 16

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of ``.note.ksyms`` (docs/format.md); {} for any other ELF file.

        They are read once, so a caller must not change what is in them.

        Raises:
            NoteError: the note is not whole.
        """
        return dict(self._file.facts)

    @property
    def release(self) -> str | None:
        """The kernel's release, as in uname -r; None if the file does not contain it.

        Raises:
            NoteError: the note is not whole.
        """
        return self._identity.release

    @property
    def machine(self) -> str | None:
        """The machine, as in uname -m; None if it is unknown.

        Raises:
            NoteError: the note is not whole.
        """
        return self._identity.machine

    @property
    def build_id(self) -> str | None:
        """The build-id of the kernel, or of a module's file; None if the file has none.

        Raises:
            NoteError: the note is not whole.
        """
        return self._identity.build_id

    @property
    def build_ids(self) -> dict[str, str | None]:
        """The build-id of each linker file by its name; the kernel's name is ``kernel``.

        Raises:
            NoteError: the note is not whole.
        """
        return self._identity.build_ids

    @property
    def sections(self) -> list[tuple[str, int, int]]:
        """The name, address and size in bytes of each section in the kernel's memory."""
        return [
            (name, section.sh_addr, section.sh_size)
            for name, section in zip(self._sections.names, self._file.image.sections)
            if section.sh_flags & elf.SHF_ALLOC
        ]

    @property
    def section_flags(self) -> list[int]:
        """The ``sh_flags`` of each of :attr:`sections`."""
        flags = [section.sh_flags for section in self._file.image.sections]
        return [value for value in flags if value & elf.SHF_ALLOC]

    # -- lookup of one address ----------------------------------------------------------------

    def lookup(self, address: int) -> Symbol | None:
        """Return the symbol that ``address`` lies in, None if the image has none.

        An address lies in a symbol from its first to its last byte. A symbol without a size has
        its own address only. For example, in a kernel that has ``schedule`` at
        0xffffffff81e00040::

            symbol = table.lookup(0xFFFFFFFF81E00052)
            f"{symbol.name}+{0xFFFFFFFF81E00052 - symbol.address:#x}"  # schedule+0x12

        If several symbols of one linker file start at one address, the first of them in
        kallsyms is returned, which is the one that the kernel prints (kernel/kallsyms.c,
        get_symbol_pos). If they are of two linker files, the symbol of the file that was loaded
        first is returned. Absolute symbols are never returned. In an object file, whose
        sections all start at 0, code comes before data.
        """
        if self._find_span is None:
            self._looked_up += 1
            if self._looked_up <= LOOKUPS:
                number = self._find_number(address)
                return self._maker.symbol(number) if number else None
            self._prepare_spans()
            return self.lookup(address)
        span = self._find_span(address)
        symbol = self._span_symbols[span]
        if symbol is None and (number := self._span_owners[span]):
            symbol = self._span_symbols[span] = self._maker.symbol(number)
        return symbol

    def _find_number(self, address: int) -> int:
        """Return the number of the symbol that ``address`` lies in; 0 if there is none."""
        if self._sectioned is not None and len(self._sectioned.runs) > SECTIONS:
            if not 0 <= address <= LAST:
                return 0
            return self.spans.number.data[self.spans.find_one(address)]
        return self._by_address.find(address)

    def _prepare_spans(self) -> None:
        """Make the spans for lookups of single addresses, with room for the Symbol of each."""
        self._span_owners = self.spans.owners.data
        self._span_symbols = [None] * len(self._span_owners)
        # Set this last: lookup() tests it, maybe in another thread.
        self._find_span = self._by_spans.find_span

    def at(self, address: int) -> list[Symbol]:
        """Return the symbols that start at ``address``, in the order of kallsyms.

        Symbols that can name no address are left out.
        """
        return [self._maker.symbol(number) for number in self.numbers_at(address)]

    def numbers_at(self, address: int) -> list[int]:
        """Return the numbers of the symbols that :meth:`at` returns."""
        return self._by_address.numbers_at(address)

    def beside(self, symbol: Symbol) -> list[Symbol]:
        """Return all symbols at the address of ``symbol``, with ``symbol``; [] if it is alone.

        In an object file, where all sections start at 0, only symbols in its section are
        returned.
        """
        groups = self._beside.get(symbol.address)
        if groups is None:
            numbers = self.numbers_at(symbol.address)
            if len(numbers) < 2:
                return []
            groups = self._beside[symbol.address] = {}
            for other in map(self._maker.symbol, numbers):
                groups.setdefault(other.section if self.relocatable else None, []).append(other)
        return groups.get(symbol.section if self.relocatable else None, [])

    def following(self, address: int) -> int | None:
        """Return the lowest address above ``address`` at which a symbol starts, or None.

        Symbols that can name no address are left out.
        """
        return self._by_address.following(address)

    # -- lookup of many addresses -------------------------------------------------------------

    def locate(self, addresses: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return for each address the index in this table of the symbol that it lies in.

        The result (``int64``) has the shape of ``addresses``. If the image has no symbol for an
        address, the index is ``len(table)``, one past the last, so that ``table[index]`` raises
        IndexError. The same holds for a negative integer, one of more than 64 bits, and one
        that a masked array hides. For example, with ``schedule`` at 0xffffffff81e00040::

            indices = table.locate([0xFFFFFFFF81E00052, 0x28])
            table[indices[0]].name     # schedule
            indices[1] == len(table)   # True

        The first call works out the symbols of all addresses, once.

        Args:
            addresses: integers, one or an array or nested lists of them.

        Raises:
            TypeError: they are not all integers. A double keeps 53 of the 64 bits of an
                address, and so can name another symbol. A column of pandas with a gap has
                doubles.
        """
        from .address_arguments import to_uint64

        wanted, nowhere = to_uint64(addresses)
        indices = self._by_spans.find_positions(wanted)
        if nowhere is not None:
            import numpy as np

            indices = np.where(nowhere, len(self), indices)
        return indices

    def numbers(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return for each address the number of the symbol that it lies in.

        The number is :data:`~.spans.NOBODY` if there is none.
        """
        return self._by_spans.find(addresses)

    def numbers_of(self, addresses: Sequence[int]) -> list[int]:
        """Return for each address the number of its symbol, 0 if there is none.

        A few addresses are looked up without numpy.
        """
        self._looked_up += len(addresses)
        if self._looked_up <= LOOKUPS:
            return [self._find_number(address) for address in addresses]
        import numpy as np

        found: list[int] = self.numbers(np.array(addresses, np.uint64)).tolist()
        return found

    @property
    def spans(self) -> Spans:
        """The spans: the number of the symbol of each address."""
        return self._by_spans.spans

    # -- symbols by their numbers -------------------------------------------------------------

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """The rows of ``.symtab``, by number, as they are in the file."""
        return self._file.array

    @property
    def strings(self) -> memoryview:
        """The names as they are in the file, each followed by a NUL."""
        return self._file.strings

    def numbered(self, number: int) -> Symbol:
        """Return the symbol with the index ``number`` in ``.symtab``."""
        return self._maker.symbol(number)

    def several(self, numbers: Sequence[int]) -> Iterable[Symbol]:
        """Return the symbols with these ``numbers``, in the order of the numbers.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        return self._maker.several(numbers)

    def ordered(self, numbers: Iterable[int]) -> Iterator[Symbol]:
        """Return the symbols with these ``numbers``, in order of address."""
        order = self._by_address.ordered(numbers)
        return self._maker.symbols(order) if len(order) > FEW else map(self.numbered, order)

    def briefly(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[list[bytes], list[int], list[str | None]]:
        """Return the names, sizes in bytes and modules of the symbols with these ``numbers``.

        They are in the order of the numbers.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        return self._maker.columns(numbers)

    # -- lookup by name -----------------------------------------------------------------------

    def find(self, name: str) -> list[Symbol]:
        """Return the symbols called ``name``, in order of address; [] if there is none.

        Undefined symbols are left out. For example, the addresses of all symbols of one name::

            [hex(symbol.address) for symbol in table.find("schedule")]

        If the file does not have the name, the result is the symbols whose longer names clang's
        LTO made of it: ``foo.llvm.123`` for ``foo``, or ``foo.HASH``. An entry of CFI's jump
        table, ``foo.HASH.cfi_jt``, is returned only if there is no such function.
        """
        wanted = encode_name(name)
        found = self._by_name.find(wanted)
        if len(found) == 1:  # the usual case, which saves half a microsecond
            number, sym = found[0]
            return [self._maker.make(number, sym, wanted)]
        if not found:
            names = self._by_name
            if not names.scans and not names.is_lto:
                return []
            return list(self.ordered(self._longer_names.numbers_made_of(wanted)))
        found.sort(key=lambda row: (row[1].st_value, row[0]))
        return [self._maker.make(number, sym, wanted) for number, sym in found]

    @property
    def names(self) -> dict[str, list[int]]:
        """The numbers of the symbols of each name, without undefined symbols.

        Raises:
            ImageError: a name has no end, or names overlap so much that together they are far
                larger than their table.
        """
        return self._by_name.numbers

    def find_best(self, name: str) -> Sym | None:
        """Return the row of the symbol called ``name`` that a linker would choose, or None.

        A linker prefers a global symbol to a weak one, and a weak one to a local one. Of
        several symbols of one binding, the kernel's are preferred to a module's, and of these
        the one at the lowest address. A file without a note, such as one in the driver's
        layout, does not have the modules of symbols: there the symbol whose name comes first in
        the strings is preferred.
        """
        from .by_name import choose_like_linker

        found = self._by_name.find(encode_name(name))
        return choose_like_linker(found, self._file, self._sections)

    def printed(self, symbol: Symbol) -> str:
        """Return the word that the table's kernel prints for ``symbol``, as by ``%pS``.

        It is the name, without the suffixes of clang's LTO if the release is known to cut them
        (docs/format.md, "Names that clang's LTO made longer").
        """
        name = symbol.name
        if "." not in name and "$" not in name:
            return name
        word = self._longer_names.printed(encode_name(name))
        return word.decode("utf-8", "surrogateescape")

    def printed_name(self, name: bytes) -> bytes:
        """Return the word that the kernel prints for a ``name`` as it is in the file."""
        if b"." not in name and b"$" not in name:
            return name
        return self._longer_names.printed(name)

    def said(self, name: str) -> list[Symbol]:
        """Return the symbols that a text of the kernel can mean by ``name``.

        They are those of :meth:`find`, in order of address, and more if clang's LTO made names
        longer: for ``foo`` also each ``foo.llvm.123``, and each entry of a jump table that the
        kernel prints as ``foo``.
        """
        if not self._by_name.is_lto:
            return self.find(name)
        return list(self.ordered(self._longer_names.numbers_meant(encode_name(name))))

    # -- prototypes and BPF programs ----------------------------------------------------------

    def prototypes(self, symbol: Symbol) -> list[str]:
        """Return the different C prototypes that BTF has for functions of the symbol's name.

        A module's symbol is looked up in the module's BTF. If there are several prototypes, BTF
        does not say which is this symbol's. The result is [] if the symbol is not a function,
        or the file has no BTF. It is [] too, and no error is raised, if the BTF cannot be read,
        since symbols are useful without it.
        """
        return self._prototypes.of(symbol)

    def prototype(self, symbol: Symbol) -> str | None:
        """Return the C prototype of a function; None if it is unknown.

        If functions of that name are at several addresses, the prototype is unknown, since BTF
        has no addresses.
        """
        found = self.prototypes(symbol)
        return found[0] if len(found) == 1 and not self._is_repeated(symbol) else None

    def _is_repeated(self, symbol: Symbol) -> bool:
        """Return True if its linker file has functions of that name at several addresses."""
        return any(
            other.address != symbol.address
            for other in self.find(symbol.name)
            if (other.module, other.kind) == (symbol.module, "function")
        )

    @property
    def has_prototypes(self) -> bool:
        """True if the file has the kernel's BTF; a module's file has only an addition to it."""
        return self._prototypes.whole

    def program(self, symbol: Symbol) -> Program | None:
        """Return the BPF program of which ``symbol`` is a function; None if none is known.

        Raises:
            NoteError: the note is not whole.
        """
        return self._programs.get(symbol.address) if symbol.module == "bpf" else None

    def source_line(self, address: int) -> tuple[str, int] | None:
        """Return source file and line of the BPF code at ``address``; None if unknown.

        Raises:
            NoteError: the note is not whole.
        """
        symbol = self.lookup(address)
        program = None if symbol is None else self.program(symbol)
        return program.line(address - symbol.address) if symbol and program else None

    @cached_property
    def _programs(self) -> dict[int, Program]:
        from .programs import read_programs

        return read_programs(self._file.facts)

    @property
    def shortens_names(self) -> bool:
        """True if the kernel may print some names without their suffixes (:meth:`printed`)."""
        return self._by_name.is_lto
