"""The ELF structures of both classes (32 and 64 bits) and both byte orders.

Each structure is a named tuple. The :class:`Format` of one class and byte order packs these
tuples into bytes and unpacks them with :mod:`struct`, and has a numpy dtype for whole tables.

Source: System V ABI, "ELF Header", "Sections", "Symbol Table", "Program Header".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from struct import Struct, calcsize

from .._typing import TYPE_CHECKING, Any, Literal, NamedTuple
from .constants import ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB

if TYPE_CHECKING:
    from typing import Generic, TypeVar

    import numpy as np

    T = TypeVar("T", bound=tuple[Any, ...])

    class _Of(Generic[T]):
        """A base class for mypy: ``Structure[Shdr]`` packs and unpacks Shdr."""

else:
    # The import of typing takes as long as Python's start. Without it, ``_Of[T]`` must still be
    # a class when Structure is defined. So ``_Of`` is a list and T is 0: ``_Of[T]`` is object.
    T, _Of = 0, [object]

Buffer = bytes | bytearray | memoryview


class Ehdr(NamedTuple):
    """The file header."""

    e_ident: bytes
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int


class Phdr(NamedTuple):
    """A program header, which describes a segment."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


class Shdr(NamedTuple):
    """A section header."""

    sh_name: int = 0
    sh_type: int = 0
    sh_flags: int = 0
    sh_addr: int = 0
    sh_offset: int = 0
    sh_size: int = 0
    sh_link: int = 0
    sh_info: int = 0
    sh_addralign: int = 0
    sh_entsize: int = 0


class Sym(NamedTuple):
    """A row of ``.symtab``: a symbol."""

    st_name: int
    st_info: int
    st_other: int
    st_shndx: int
    st_value: int
    st_size: int


class Nhdr(NamedTuple):
    """The header of one note; three words of 32 bits in both classes."""

    n_namesz: int
    n_descsz: int
    n_type: int


_Fields = tuple[tuple[str, str], ...]

# The names and struct codes of fields. "N" stands for an address or offset of the class: 4 or 8
# bytes.
_EHDR: _Fields = (
    ("e_ident", "16s"),
    ("e_type", "H"),
    ("e_machine", "H"),
    ("e_version", "I"),
    ("e_entry", "N"),
    ("e_phoff", "N"),
    ("e_shoff", "N"),
    ("e_flags", "I"),
    ("e_ehsize", "H"),
    ("e_phentsize", "H"),
    ("e_phnum", "H"),
    ("e_shentsize", "H"),
    ("e_shnum", "H"),
    ("e_shstrndx", "H"),
)
_SHDR: _Fields = (
    ("sh_name", "I"),
    ("sh_type", "I"),
    ("sh_flags", "N"),
    ("sh_addr", "N"),
    ("sh_offset", "N"),
    ("sh_size", "N"),
    ("sh_link", "I"),
    ("sh_info", "I"),
    ("sh_addralign", "N"),
    ("sh_entsize", "N"),
)
# The fields of these two structures have another order in each class (gABI figures 4-16, 5-1).
_PHDR: dict[int, _Fields] = {
    ELFCLASS32: (
        ("p_type", "I"),
        ("p_offset", "N"),
        ("p_vaddr", "N"),
        ("p_paddr", "N"),
        ("p_filesz", "N"),
        ("p_memsz", "N"),
        ("p_flags", "I"),
        ("p_align", "N"),
    ),
    ELFCLASS64: (
        ("p_type", "I"),
        ("p_flags", "I"),
        ("p_offset", "N"),
        ("p_vaddr", "N"),
        ("p_paddr", "N"),
        ("p_filesz", "N"),
        ("p_memsz", "N"),
        ("p_align", "N"),
    ),
}
_SYM: dict[int, _Fields] = {
    ELFCLASS32: (
        ("st_name", "I"),
        ("st_value", "N"),
        ("st_size", "N"),
        ("st_info", "B"),
        ("st_other", "B"),
        ("st_shndx", "H"),
    ),
    ELFCLASS64: (
        ("st_name", "I"),
        ("st_info", "B"),
        ("st_other", "B"),
        ("st_shndx", "H"),
        ("st_value", "N"),
        ("st_size", "N"),
    ),
}
_NHDR: _Fields = (("n_namesz", "I"), ("n_descsz", "I"), ("n_type", "I"))


class Structure(_Of[T]):
    """A structure of one class and byte order: packs its tuple into bytes and unpacks it."""

    def __init__(self, make: type[T], fields: _Fields, order: str, wide: bool) -> None:
        self.names = tuple(name for name, _ in fields)
        self.codes = tuple(code.replace("N", "Q" if wide else "I") for _, code in fields)
        self.order = order
        self._struct = Struct(order + "".join(self.codes))
        self.size = self._struct.size
        self._columns: dict[str, Struct] = {}
        # T is a NamedTuple, which no bound of a type variable can express.
        self._tuple: Callable[[tuple[Any, ...]], T] = partial(tuple.__new__, make)
        # Find the position in the file of each field of the tuple: in one of the classes Phdr
        # and Sym have their fields in another order.
        in_tuple = make._fields  # type: ignore[attr-defined] # which a NamedTuple has
        positions = [self.names.index(name) for name in in_tuple]
        if positions != sorted(positions):
            self._tuple = lambda row: make(*(row[position] for position in positions))

    def pack(self, value: T) -> bytes:
        """Return the bytes of ``value``."""
        return self._struct.pack(*(getattr(value, name) for name in self.names))

    def unpack(self, data: Buffer, offset: int = 0) -> T:
        """Return the structure at ``offset``; the caller has checked that it is whole."""
        return self._tuple(self._struct.unpack_from(data, offset))

    def unpack_all(self, data: Buffer) -> Iterator[T]:
        """Yield every structure in ``data``, whose length is a multiple of :attr:`size`."""
        return map(self._tuple, self._struct.iter_unpack(data))

    def column(self, name: str) -> Struct:
        """Return a struct of the same size that unpacks one field and skips the others.

        For example, it is ``<4xI56x`` for ``sh_type`` of a 64-bit section header.
        """
        if name not in self._columns:
            at = self.names.index(name)
            before, code, after = self.codes[:at], self.codes[at], self.codes[at + 1 :]
            skipped = [f"{calcsize(self.order + ''.join(part))}x" for part in (before, after)]
            self._columns[name] = Struct(f"{self.order}{skipped[0]}{code}{skipped[1]}")
        return self._columns[name]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The structure as a numpy dtype with fields, without padding, for whole tables."""
        import numpy as np

        kinds = {"B": "u1", "H": "u2", "I": "u4", "Q": "u8", "16s": "S16"}
        return np.dtype(
            [(name, self.order + kinds[code]) for name, code in zip(self.names, self.codes)]
        )


class StructTable(Sequence[T]):
    """A table of structures, each of which is unpacked when it is read.

    The length of ``data`` is a multiple of the structure's size.
    """

    def __init__(self, structure: Structure[T], data: Buffer) -> None:
        self._structure = structure
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data) // self._structure.size

    def __getitem__(self, index: Any) -> Any:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return self._structure.unpack(self._data, numbers * self._structure.size)

    def __iter__(self) -> Iterator[T]:
        return self._structure.unpack_all(self._data)


class Format(NamedTuple):
    """The structures of one class (ELFCLASS*) and byte order (``data``, ELFDATA2*)."""

    elf_class: int
    data: int
    ehdr: Structure[Ehdr]
    phdr: Structure[Phdr]
    shdr: Structure[Shdr]
    sym: Structure[Sym]
    nhdr: Structure[Nhdr]

    @property
    def byteorder(self) -> Literal["little", "big"]:
        """The byte order, "little" or "big", as :func:`int.from_bytes` takes it."""
        return "little" if self.data == ELFDATA2LSB else "big"


@cache
def elf_format(elf_class: int, data: int) -> Format:
    """Return the structures of a class (ELFCLASS*) and byte order (ELFDATA2*).

    Raises:
        ValueError: there is no such class or byte order.
    """
    if elf_class not in (ELFCLASS32, ELFCLASS64) or data not in (ELFDATA2LSB, ELFDATA2MSB):
        raise ValueError(f"no ELF format has class {elf_class} and data {data}")
    order = "<" if data == ELFDATA2LSB else ">"
    wide = elf_class == ELFCLASS64
    return Format(
        elf_class,
        data,
        Structure(Ehdr, _EHDR, order, wide),
        Structure(Phdr, _PHDR[elf_class], order, wide),
        Structure(Shdr, _SHDR, order, wide),
        Structure(Sym, _SYM[elf_class], order, wide),
        Structure(Nhdr, _NHDR, order, wide),
    )
