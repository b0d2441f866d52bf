"""The protocol that every source of linker files has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from typing import Self

    from .._linker import Files, FileTables

Reading = TypeVar("Reading")


class Source(Protocol[Reading]):
    """A source of linker files: a kernel's text files, or ELF files on disk.

    A ``Reading`` is what the source read when a try started: the text of kallsyms, or the times
    and sizes of ELF files. Only the source itself uses its contents. A source is a context
    manager, which closes the files that it has open.
    """

    @property
    def remedy(self) -> str:
        """Advice to a user whose files keep moving, in one sentence."""

    @property
    def reads_late(self) -> bool:
        """True if tables are read during the copy pass, and not all of them before it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read(self) -> Reading:
        """Read what must be of one generation; each try starts with this call."""

    def moved(self, reading: Reading, /) -> list[str]:
        """Return the changes since ``reading``, each in words; [] if there are none."""

    def files(self, reading: Reading, /) -> Files:
        """Return the linker files, each with its regions."""

    def tables(self, reading: Reading, /) -> FileTables | None:
        """Return the symbol tables in the files; None if the source is a text and has none."""
