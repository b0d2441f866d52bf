"""The facts in ``.note.ksyms``: the members of version 1, and their types.

mypy checks the facts that are written against these classes; :mod:`.schema` checks those that
are read. docs/format.md has the source of each member.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Final, NotRequired, TypedDict

if TYPE_CHECKING:
    from .schema import Address, Count, RefCount

NO_MODULES: Final = "a kernel image has no modules"
"""The reason in ``absent`` why a kernel image has no ``/proc/modules``."""


class Addresses(TypedDict):
    """The addresses of two symbols of the kernel in this boot."""

    _text: Address | None
    _stext: Address | None


class LinkTimeFacts(Addresses):
    """The link addresses of the same symbols, and the file that they are from."""

    source: str | None


class RangeFacts(TypedDict):
    """A region of a linker file, from ``start`` to before ``end``."""

    section: str
    start: Address
    end: Address
    end_inferred: NotRequired[bool]
    source: NotRequired[str]


class ModuleFacts(TypedDict):
    """A module's line of /proc/modules and its files in sysfs."""

    size: NotRequired[Count]
    address: NotRequired[Address | None]
    refcount: RefCount | None
    dependants: list[str]
    state: NotRequired[str]
    taint: str
    srcversion: str | None
    version: NotRequired[str | None]


class ProgramFacts(TypedDict):
    """A function of a BPF program; ``ksyms collect`` writes the same members.

    ``lines`` has for each source file an offset into the function in bytes, the line number,
    the next offset, and so on.
    """

    address: Address
    size: Count
    id: Count
    type: str
    tag: str
    name: str
    subprogram: Count
    lines: dict[str, list[Count]]


class FileFacts(TypedDict):
    """A linker file; ``names`` is the offset in ``.strtab`` of its first name."""

    id: Count
    name: str
    kind: str
    symbols: Count
    names: NotRequired[Count]
    absolute: Count
    build_id: str | None
    unplaced: NotRequired[Count]
    debug: NotRequired[str | None]
    ranges: list[RangeFacts]
    btf: NotRequired[Count]
    programs: NotRequired[list[ProgramFacts]]
    module: NotRequired[ModuleFacts]


class SizeFacts(TypedDict):
    """The number of symbols with an exact size, and the rule for all other sizes in words."""

    exact: Count
    inferred: str


class WriterFacts(TypedDict):
    """The version of ksyms that wrote the file, and the time at which it did.

    ``saved`` is there only if the symbols are not those of the running kernel. It is the time
    at which their files were saved, or None if that is unknown.
    """

    ksyms: str
    time: str
    saved: NotRequired[str | None]


class NoteFacts(WriterFacts):
    """All the facts in ``.note.ksyms``."""

    release: str | None
    version: str | None
    machine: str | None
    build_id: str | None
    boot_id: str | None
    addresses: Addresses
    link_time: LinkTimeFacts
    lists: NotRequired[str]
    files: list[FileFacts]
    sizes: SizeFacts
    absent: dict[str, str]
    refused: dict[str, str]
