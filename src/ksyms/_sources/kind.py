"""The base of all kinds of sources."""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._elf import ElfFile
    from .input import Input
    from .source import Source


class SourceKind:
    """A kind of source; ``words`` says which, for the log."""

    words: str

    def recognise(self, given: Input) -> bool:
        """Return True if the input is of this kind.

        Raises:
            SourceError: it cannot be opened.
            ImageError: it cannot be read.
        """
        raise NotImplementedError

    def open(self, given: Input) -> Source[Any]:
        """Return the source, whose readings only it looks into.

        Raises:
            KsymsError: the input is damaged.
        """
        raise NotImplementedError

    def image(self, given: Input) -> ElfFile | None:
        """Return the input if its symbols can be asked as they are; None if not.

        Raises:
            ImageError: a field of it is wrong.
        """
        return None
