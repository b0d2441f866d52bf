"""The base class of all kinds of sources."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._elf import ElfFile
    from .input import Input
    from .source import Source


class SourceKind(ABC):
    """A kind of source; ``words`` is its name in the log."""

    words: str

    @abstractmethod
    def recognise(self, given: Input) -> bool:
        """Return True if the input is of this kind.

        Raises:
            SourceError: the input cannot be opened.
            ImageError: the input cannot be read.
        """

    @abstractmethod
    def open(self, given: Input) -> Source[Any]:
        """Return the source that the input is.

        Raises:
            KsymsError: the input is damaged.
        """

    def image(self, given: Input) -> ElfFile | None:
        """Return the input as an ELF file if its symbols need no snapshot; None if they do.

        Raises:
            ImageError: a field of the file is wrong.
        """
        return None
