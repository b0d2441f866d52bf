"""The C prototypes of functions, from the BTF sections of a file."""

from __future__ import annotations

from .. import _note
from .._elf import constants as elf
from .._errors import ImageError
from .._typing import TYPE_CHECKING
from .symbol import Symbol
from .symbol_file import SymbolFile

if TYPE_CHECKING:
    from .btf import Btf


class Prototypes:
    """The BTF of the kernel and of modules in ``file``, each read when it is first needed."""

    def __init__(self, file: SymbolFile) -> None:
        self._file = file
        self._types: dict[str | None, Btf | None] = {}

    def of(self, symbol: Symbol) -> list[str]:
        """Return the different prototypes of functions with the symbol's name.

        The result is [] if the symbol is not a function, or the file has no BTF of its module,
        or that BTF cannot be read: symbols are useful without it.
        """
        types = self._types_of(symbol.module) if symbol.kind == "function" else None
        try:
            return types.prototypes(symbol.name) if types else []
        except ImageError:
            return []

    @property
    def whole(self) -> bool:
        """True if the file has the kernel's BTF; a module's file has only an addition to it."""
        types = self._types_of(None)
        return types is not None and types.whole

    def _types_of(self, module: str | None) -> Btf | None:
        """Return the BTF of ``module``, or of the kernel; None if the file has none."""
        if module not in self._types:
            number = self._find_section(_note.btf_section(module))
            base = None if module is None else self._types_of(None)
            if number is None or (module is not None and base is None):
                self._types[module] = None
            else:
                from .btf import Btf

                image = self._file.image
                data = image.contents(image.sections[number])
                self._types[module] = Btf(data, image.wrong, base)
        return self._types[module]

    def _find_section(self, name: str) -> int | None:
        """Return the index of the BTF section called ``name``, None if there is none."""
        image = self._file.image
        for number, section in image.stored.items():
            # A snapshot of ELF files also has the kernel's section of that name as a region,
            # whose bytes are not in the file.
            placeholder = self._file.is_snapshot and section.sh_flags & elf.SHF_ALLOC
            if section.sh_type != elf.SHT_PROGBITS or not section.sh_size or placeholder:
                continue
            if image.is_called(section, name):
                return number
        return None
