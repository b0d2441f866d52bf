"""A symbol table read from an ELF image: mapped, not copied, with nothing built at load.

:class:`SymbolTable` is what programs use. Its parts have the work, each in a file of its own::

    symbol_file.py      the rows and names as they are in the file
    by_address.py       one address; by_spans.py many of them
    by_name.py          names; longer_names.py those that clang's LTO made longer
    symbol_maker.py     Symbols of rows, with section_of_symbol.py and letters.py
    sectioned.py        sizes and precedence, which a file that is not a snapshot leaves open
    kernel_identity.py  the kernel that the file is of
    prototypes.py       a function's C prototype; programs.py BPF programs

What a single lookup does not need is imported when it is first used.
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
"""The number of lookups by bisection that take as long as numpy's import and the spans."""
SECTIONS: Final = 1 << 8
"""Largest number of sections with symbols that are each searched for a single address.

This is of an ELF file that is not a snapshot. For more sections the spans are made.
"""


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

    # -- the file, and what it is of ----------------------------------------------------------

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

        They are read once, so what is in them is not to be changed.

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
        """The build-id of each linker file by its name, which is ``kernel`` for the kernel.

        Raises:
            NoteError: the note is not whole.
        """
        return self._identity.build_ids

    @property
    def sections(self) -> list[tuple[str, int, int]]:
        """Name, address and size in bytes of each section that is in the kernel's memory."""
        return [
            (name, section.sh_addr, section.sh_size)
            for name, section in zip(self._sections.names, self._file.image.sections)
            if section.sh_flags & elf.SHF_ALLOC
        ]

    @property
    def section_flags(self) -> list[int]:
        """``sh_flags`` of each of :attr:`sections`."""
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

        Of several symbols of one linker file at one address, the first in kallsyms is returned,
        as the kernel prints it (kernel/kallsyms.c, get_symbol_pos); of two linker files, that
        of the file that was loaded first. Absolute symbols are never returned. In an object
        file, whose sections all start at 0, code comes before data.
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
        """Return the number of the symbol that :meth:`lookup` finds; 0 if there is none."""
        if self._sectioned is not None and len(self._sectioned.runs) > SECTIONS:
            if not 0 <= address <= LAST:
                return 0
            return self.spans.number.data[self.spans.find_one(address)]
        return self._by_address.find(address)

    def _prepare_spans(self) -> None:
        """Prepare the spans for single addresses, with room for the symbol of each."""
        self._span_owners = self.spans.owners.data
        self._span_symbols = [None] * len(self._span_owners)
        # Set this last: other threads test it.
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
        """Return all symbols at the address of ``symbol``, with itself; [] if it is alone.

        In an object file, where each section starts at 0, only those in its section are
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
        """Return the next address above ``address`` at which a symbol starts, or None.

        Symbols that can name no address are left out.
        """
        return self._by_address.following(address)

    # -- lookup of many addresses -------------------------------------------------------------

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
        from .address_arguments import to_uint64

        wanted, nowhere = to_uint64(addresses)
        indices = self._by_spans.find_positions(wanted)
        if nowhere is not None:
            import numpy as np

            indices = np.where(nowhere, len(self), indices)
        return indices

    def numbers(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return for each of ``addresses`` the number of the symbol that :meth:`lookup` finds.

        The number is :data:`~.spans.NOBODY` if there is none.
        """
        return self._by_spans.find(addresses)

    def numbers_of(self, addresses: Sequence[int]) -> list[int]:
        """Return the number of the symbol of each address; without numpy for a few of them."""
        self._looked_up += len(addresses)
        if self._looked_up <= LOOKUPS:
            return [self._find_number(address) for address in addresses]
        import numpy as np

        found: list[int] = self.numbers(np.array(addresses, np.uint64)).tolist()
        return found

    @property
    def spans(self) -> Spans:
        """The number of the symbol of each address, as spans."""
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
        """Return the symbols with these ``numbers``, by address."""
        order = self._by_address.ordered(numbers)
        return self._maker.symbols(order) if len(order) > FEW else map(self.numbered, order)

    def briefly(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[list[bytes], list[int], list[str | None]]:
        """Return names, sizes in bytes and modules of the symbols with these ``numbers``.

        They are in the order of the numbers.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        return self._maker.columns(numbers)

    # -- lookup by name -----------------------------------------------------------------------

    def find(self, name: str) -> list[Symbol]:
        """Return the symbols called ``name``, by address; [] if there is none.

        Undefined symbols are left out. For example, the addresses of all that are called so::

            [hex(symbol.address) for symbol in table.find("schedule")]

        If the file has no such name, the result is the symbols whose longer names clang's LTO
        made of it: ``foo.llvm.123`` for ``foo``, and ``foo.HASH`` before its entry in CFI's
        jump table, ``foo.HASH.cfi_jt``.
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
        """The numbers of the symbols of each name that :meth:`find` knows.

        Raises:
            ImageError: a name has no end, or names overlap so much that together they are far
                larger than their table.
        """
        return self._by_name.numbers

    def find_best(self, name: str) -> Sym | None:
        """Return the row of the symbol called ``name`` that a linker takes, or None.

        A global symbol comes before a weak one before a local one; then the kernel's before a
        module's, and of those the one at the lowest address. A file without a note, such as one
        in the driver's layout, does not have the symbols' modules: there the one whose name
        comes first in the strings is taken.
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
        """Return the symbols that a text of the kernel can mean by ``name``, by address.

        They are those of :meth:`find`, and more if clang's LTO made names longer: for ``foo``
        also each ``foo.llvm.123`` and each entry of a jump table that the kernel prints as
        ``foo``.
        """
        if not self._by_name.is_lto:
            return self.find(name)
        return list(self.ordered(self._longer_names.numbers_meant(encode_name(name))))

    # -- what else the file has of a symbol ---------------------------------------------------

    def prototypes(self, symbol: Symbol) -> list[str]:
        """Return the different C prototypes in BTF of functions with the symbol's name.

        A module's symbol is looked up in the module's BTF. If there are several prototypes, BTF
        does not say which is this symbol's. [] if the symbol is not a function, or the file has
        no BTF, or one that cannot be read, since symbols are good without it.
        """
        return self._prototypes.of(symbol)

    def prototype(self, symbol: Symbol) -> str | None:
        """Return the C prototype of a function; None if it is unknown.

        It is unknown too if functions of that name are at several addresses: BTF has no
        addresses.
        """
        found = self.prototypes(symbol)
        return found[0] if len(found) == 1 and not self._is_repeated(symbol) else None

    def _is_repeated(self, symbol: Symbol) -> bool:
        """Return True if functions of that name are at several addresses of the linker file."""
        return any(
            other.address != symbol.address
            for other in self.find(symbol.name)
            if (other.module, other.kind) == (symbol.module, "function")
        )

    @property
    def has_prototypes(self) -> bool:
        """True if the file has the kernel's BTF; a module's file only has an extension."""
        return self._prototypes.whole

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
        from .programs import read_programs

        return read_programs(self._file.facts)

    @property
    def shortens_names(self) -> bool:
        """True if the kernel prints some names without their ends (:meth:`printed`)."""
        return self._by_name.is_lto
