"""Symbols made from the rows of a file, one at a time or many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from .. import _note
from .._elf import Sym
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Any, Final
from .letters import Letters
from .section_of_symbol import SymbolSections
from .symbol import Symbol
from .symbol_file import SymbolFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .sectioned import SectionedSymbols

_BINDINGS: Final = {elf.STB_LOCAL: "local", elf.STB_GLOBAL: "global", elf.STB_WEAK: "weak"}
_KINDS: Final = {elf.STT_FUNC: "function", elf.STT_OBJECT: "object"}
_LETTER: Final = 0xFF & ~_note.EXACT
FEW: Final = 4
"""Up to this many symbols are made one by one: a pass over the whole table costs more."""
_new_symbol: Final[Callable[[tuple[Any, ...]], Symbol]] = partial(tuple.__new__, Symbol)
"""Make a Symbol from a tuple of its fields, in a third of the time of Symbol()."""


class SymbolMaker:
    """A maker of :class:`Symbol` tuples from the rows of ``file``.

    Args:
        file: the symbols' file.
        sections: the sections and the modules of its symbols.
        sectioned: its symbols by section, with their inferred sizes; None for a snapshot, and
            for an image in the driver's layout.

    Raises:
        ImageError: a snapshot's letters are not whole.
    """

    def __init__(
        self, file: SymbolFile, sections: SymbolSections, sectioned: SectionedSymbols | None
    ) -> None:
        self._file = file
        self._sections = sections
        self._sectioned = sectioned
        self._nm: dict[tuple[int, int], str] = {}
        self._letters: Letters | None = None
        if file.is_snapshot or len(file.letters):
            image = file.image
            self._letters = Letters(
                file.letters, image.format.byteorder, file.count, image.wrong
            )

    def symbol(self, number: int) -> Symbol:
        """Return the symbol with the number ``number``.

        Raises:
            ImageError: its name has no end, or its section does not exist.
        """
        sym = self._file.row(number)
        return self.make(number, sym, self._file.name_at(sym.st_name))

    def symbols(self, numbers: Iterable[int]) -> Iterator[Symbol]:
        """Yield many symbols, in the order of their ``numbers``.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        strings = bytes(self._file.strings)
        row, name = self._file.row, self._file.name_in_copy
        for number in numbers:
            sym = row(number)
            yield self.make(number, sym, name(strings, sym.st_name))

    def make(self, number: int, sym: Sym, name: bytes) -> Symbol:
        """Return the symbol with the number, the row and the name that are given."""
        start, info, _, index, value, size = sym
        section, module = self._sections.known.get(index) or self._sections.find(index, start)
        if self._sectioned is not None:
            return self._make_sectioned(self._sectioned, sym, name)
        letter = self._letters.of(number) if self._letters else 0
        return _new_symbol(
            (
                name.decode("utf-8", "surrogateescape"),
                value,
                size,
                _is_exact(letter, size),
                module,
                section,
                _BINDINGS.get(info >> 4, "global"),
                _KINDS.get(info & 0xF, "none"),
                chr(letter & _LETTER) if letter else None,
            )
        )

    def _make_sectioned(self, sectioned: SectionedSymbols, sym: Sym, name: bytes) -> Symbol:
        """Return the symbol of a row of a file that is not a snapshot.

        Its letter is the one that nm prints.
        """
        _, info, _, index, value, size = sym
        section, module = self._sections.known[index]
        if (index, info) not in self._nm:
            from .nm import letter

            header = None if section is None else self._file.image.sections[index]
            self._nm[index, info] = letter(sym, header, section or "")
        return _new_symbol(
            (
                name.decode("utf-8", "surrogateescape"),
                value,
                size or sectioned.size(sym),
                bool(size),
                module,
                section,
                _BINDINGS.get(info >> 4, "global"),
                _KINDS.get(info & 0xF, "none"),
                self._nm[index, info],
            )
        )

    def several(self, numbers: Sequence[int]) -> Iterable[Symbol]:
        """Return the symbols with these ``numbers``, in the order of the numbers.

        Many symbols of a snapshot are made at once, field by field.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        if self._sectioned is not None or len(numbers) <= FEW:
            return map(self.symbol, numbers)
        import numpy as np

        rows = self._file.array[np.array(numbers)]
        starts, values, sizes, indices, infos = (
            rows[name].tolist()
            for name in ("st_name", "st_value", "st_size", "st_shndx", "st_info")
        )
        within = self._sections.find_all(indices, starts)
        letters = [self._letters.of(n) if self._letters else 0 for n in numbers]
        fields = (
            [name.decode("utf-8", "surrogateescape") for name in self._file.names_at(starts)],
            values,
            sizes,
            [_is_exact(letter, size) for letter, size in zip(letters, sizes)],
            [module for _, module in within],
            [section for section, _ in within],
            [_BINDINGS.get(info >> 4, "global") for info in infos],
            [_KINDS.get(info & 0xF, "none") for info in infos],
            [chr(letter & _LETTER) if letter else None for letter in letters],
        )
        return map(_new_symbol, zip(*fields))

    def columns(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[list[bytes], list[int], list[str | None]]:
        """Return the names, sizes in bytes and modules of the symbols with these ``numbers``.

        Raises:
            ImageError: a symbol's name has no end, or its section does not exist.
        """
        rows = self._file.array[numbers]
        starts, sizes, indices = (
            rows[name].tolist() for name in ("st_name", "st_size", "st_shndx")
        )
        within = self._sections.find_all(indices, starts)
        if self._sectioned is not None:
            syms = [self._file.row(number) for number in numbers.tolist()]
            sizes = [self._sectioned.size(sym) for sym in syms]
        return self._file.names_at(starts), sizes, [module for _, module in within]


def _is_exact(letter: int, size: int) -> bool:
    """Return True if a snapshot's letter marks ``size`` as exact.

    In a file without letters (0) every size but 0 is exact.
    """
    return bool(letter & _note.EXACT) if letter else bool(size)
