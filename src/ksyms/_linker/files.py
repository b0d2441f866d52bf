"""The types that this package hands on: linker files, their symbols, their regions."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from .._typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np
    import numpy.typing as npt

    from .._elf import Format
    from .bpf_programs import BpfFunction
    from .generation import Generation
    from .host import Host
    from .link_time import LinkTime
    from .modules import Module

    Kind = Literal["text", "rodata", "data", "bss"]
    Lists = Literal["functions", "all"]

    class Table(Protocol):
        """The symbol table and the string table of one linker file, read anew by each call.

        The driver's calls for them are LINKER_SYMTAB_GET, LINKER_SYMBOL_VALUES and
        LINKER_STRTAB_GET.
        """

        def sizes(self) -> tuple[int, int]:
            """Return the number of symbols, and the size of the string table in bytes."""

        def blocks(self, count: int) -> Iterator[npt.NDArray[np.void]]:
            """Yield the symbols, ``count`` at a time, as arrays of the ELF format's dtype.

            ``st_name`` is an offset into this file's own strings; values are absolute. The
            caller may change the arrays.
            """

        def strings(self) -> Iterator[npt.NDArray[np.uint8]]:
            """Yield the whole string table, in pieces."""


KERNEL_ID = 1
"""The kernel's id; each module follows (freebsd-ksyms.c, ``lf->id > 1``)."""


class Role(IntEnum):
    """The role of a listed symbol in the kernel's own lookup of the name of an address.

    Only a symbol in the role ``NAMES`` is a function or an object that the kernel can find for
    an address, and only such a symbol has a size. kallsyms lists the others too, but the lookup
    (kernel/kallsyms.c, kallsyms_lookup_buildid) never returns them:

    - ``LABEL``: a mapping symbol or a local label (is_mapping_symbol in
      include/linux/module_symbol.h).
    - ``SILENT``: one of the kernel's own symbols, at an address outside the ranges that the
      kernel names by its own symbols (is_ksym_addr in include/linux/kallsyms.h).
    - ``ABSOLUTE``: the value is not an address but a per-CPU offset, a constant, or the value
      of a file's name.
    - ``UNDEFINED``: the linker file has nothing at the address. It is an undefined symbol of a
      livepatch, or a function whose memory was freed and is used by another file now.
    """

    NAMES = 0
    LABEL = 1
    SILENT = 2
    ABSOLUTE = 3
    UNDEFINED = 4


def all_name(role: npt.NDArray[np.uint8]) -> bool:
    """Return True if the array is the one value NAMES, broadcast to all symbols.

    An array of its own that has only NAMES gives False: its items are not compared.
    """
    return role.strides == (0,) and not role[:1].any()


class Region(NamedTuple):
    """A range of addresses, [start, end), that belongs to one linker file.

    ``inferred`` is True if ``end`` was inferred, and False if the kernel or a file gives it.
    ``source`` names the evidence for the range. A region of length 0 marks an address that two
    linker files claim.
    """

    name: str
    start: int
    end: int
    kind: Kind
    inferred: bool
    source: str


class Symbols(NamedTuple):
    """A linker file's symbol table and its string table.

    Each array but ``strings`` has one item for each symbol, in the kernel's order:

    - ``address`` (uint64)
    - ``name`` (uint32): an offset into ``strings``
    - ``info`` (uint8): ELF ``st_info``
    - ``letter`` (uint8): the symbol's letter in kallsyms
    - ``role`` (uint8): a :class:`Role`
    - ``size`` (uint64, bytes): valid only where ``exact`` is True
    - ``exact`` (bool): True if the size is known from the symbol's own file

    ``strings`` (uint8) has the names, each with its terminating NUL.
    """

    address: npt.NDArray[np.uint64]
    name: npt.NDArray[np.uint32]
    info: npt.NDArray[np.uint8]
    letter: npt.NDArray[np.uint8]
    role: npt.NDArray[np.uint8]
    size: npt.NDArray[np.uint64]
    exact: npt.NDArray[np.bool_]
    strings: npt.NDArray[np.uint8]


class LinkerFile(NamedTuple):
    """The kernel, a module, or a group of symbols that the kernel lists like a module's.

    ``name`` is ``kernel`` for id 1, and the name in kallsyms' brackets for the others.
    ``stops`` (uint64, sorted) are addresses at which a section or the memory of a symbol ends:
    the inferred size of a symbol before a stop does not reach past it. ``unplaced`` is the
    number of a module's symbols that lie in none of its sections. ``debug`` is the path of the
    debug file that gives its exact sizes, and ``btf`` its BTF. ``programs`` are the functions
    of the BPF programs if ``name`` is ``bpf``.
    """

    id: int
    name: str
    symbols: Symbols
    regions: tuple[Region, ...]
    stops: npt.NDArray[np.uint64]
    build_id: bytes | None = None
    module: Module | None = None
    unplaced: int = 0
    debug: str | None = None
    btf: bytes | None = None
    programs: tuple[BpfFunction, ...] = ()


class Files(NamedTuple):
    """All linker files in load order, from one pass over the kernel's text.

    ``generation`` was taken before the first line that can change was read. The files are of
    one moment if the generation is still the same after they have been read.

    - ``landmarks``: addresses of some of the kernel's own symbols, by name
    - ``link_time``: the kernel's link addresses, if known
    - ``absent``: the files that could not be read, and the reason for each
    - ``refused``: the files with exact sizes that are not trusted, and the reason for each
    - ``lists``: ``functions`` if the kernel lists no data of its own, else ``all``
    """

    files: tuple[LinkerFile, ...]
    generation: Generation
    host: Host
    landmarks: dict[str, int]
    link_time: LinkTime | None
    absent: dict[str, str]
    refused: dict[str, str]
    lists: Lists = "all"


class FileTables(NamedTuple):
    """The tables of all linker files, the kernel's first, then the modules' in load order.

    All of them have the same ``format`` and ``machine`` (``e_machine``).
    """

    format: Format
    machine: int
    files: tuple[Table, ...]
    generation: Generation
