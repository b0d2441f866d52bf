"""What the linker room hands on: linker files, their symbols, their regions."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from .._typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np
    import numpy.typing as npt

    from .._elf import Format
    from .bpf import Program
    from .generation import Generation
    from .host import Host
    from .link_time import LinkTime
    from .modules import Module

    Kind = Literal["text", "rodata", "data", "bss"]
    Lists = Literal["functions", "all"]

    class Table(Protocol):
        """One linker file's symbol and string tables, as they are whenever they are asked for.

        What the driver calls LINKER_SYMTAB_GET, LINKER_SYMBOL_VALUES and LINKER_STRTAB_GET.
        """

        def sizes(self) -> tuple[int, int]:
            """How many symbols there are, and how many bytes of strings."""

        def blocks(self, count: int) -> Iterator[npt.NDArray[np.void]]:
            """The symbols, ``count`` at a time, of the format's dtype; they may be changed.

            ``st_name`` is an offset into this file's own strings; values are absolute.
            """

        def strings(self) -> Iterator[npt.NDArray[np.uint8]]:
            """The string table, every byte of it, in pieces."""


KERNEL_ID = 1
"""The kernel's id; each module follows (freebsd-ksyms.c, ``lf->id > 1``)."""


class Role(IntEnum):
    """What a listed symbol is to the kernel when it names an address.

    Only ``NAMES`` is a function or an object that the kernel finds for an address, and has a
    size. The others are listed, and the kernel (kernel/kallsyms.c, kallsyms_lookup_buildid)
    never finds them:

    - ``LABEL``: a mapping symbol or a local label of a module (is_mapping_symbol in
      include/linux/module_symbol.h).
    - ``SILENT``: one of the kernel's own at an address for which the kernel has no name
      (is_ksym_addr in include/linux/kallsyms.h).
    - ``ABSOLUTE``: the value is no address: a per-CPU offset, a constant, a file's name.
    - ``UNDEFINED``: the file has nothing at the address: an undefined symbol of a livepatch,
      or a function whose memory is freed and belongs to another.
    """

    NAMES = 0
    LABEL = 1
    SILENT = 2
    ABSOLUTE = 3
    UNDEFINED = 4


def all_name(role: npt.NDArray[np.uint8]) -> bool:
    """Return True where one value stands for all roles, and it is NAMES."""
    return role.strides == (0,) and not role[:1].any()


class Region(NamedTuple):
    """A range of addresses, [start, end), that belongs to one linker file.

    ``inferred`` says that ``end`` is no boundary that the kernel gave but a rule's result;
    ``source`` says where the range comes from. A region of no length marks a place that
    two files claim.
    """

    name: str
    start: int
    end: int
    kind: Kind
    inferred: bool
    source: str


class Symbols(NamedTuple):
    """A linker file's symbol table and its string table.

    One item a symbol, in the order the kernel gives them: ``address`` (uint64), ``name``
    (uint32, an offset into ``strings``), ``info`` (uint8, ELF ``st_info``), ``letter``
    (uint8, kallsyms' own), ``role`` (uint8, a :class:`Role`), ``size`` (uint64, bytes) where
    ``exact`` (bool) says that it is the linker's own. ``strings`` (uint8) is whole: each name
    ends within it.
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
    """The kernel, a module, or what the kernel lists as if it were one.

    ``name`` is ``kernel`` for id 1, otherwise what kallsyms puts in brackets. ``stops``
    (uint64, sorted) are addresses at which some section of the file begins, so that no
    symbol before one reaches past it. ``unplaced`` counts the symbols that no section of
    a module explains; ``debug`` is the file that its exact sizes are from; ``btf`` its BTF;
    ``programs`` what is known of BPF's.
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
    programs: tuple[Program, ...] = ()


class Files(NamedTuple):
    """Every linker file in load order, as one pass over the kernel's text gave them.

    ``generation`` was taken before the first of what can move was read: the files are of
    one moment if it is the generation still when they have been read.

    ``landmarks`` are addresses of the kernel's own symbols by name, ``link_time`` where
    it was linked if that is known, ``absent`` the files that could not be read and why,
    ``refused`` those with exact sizes that could be read and are not trusted. ``lists`` is
    ``functions`` where the kernel lists no data of its own, else ``all``.
    """

    files: tuple[LinkerFile, ...]
    generation: Generation
    host: Host
    landmarks: dict[str, int]
    link_time: LinkTime | None
    absent: dict[str, str]
    refused: dict[str, str]
    lists: Lists = "all"


class Tables(NamedTuple):
    """Every linker file's tables, the kernel's first, then the modules' in load order.

    ``format`` and ``machine`` (``e_machine``) are those of all of them.
    """

    format: Format
    machine: int
    files: tuple[Table, ...]
    generation: Generation
