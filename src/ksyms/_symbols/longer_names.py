"""Lookup by the word that a kernel prints for a symbol whose name clang's LTO made longer.

``printed.py`` has the rules for one name. This module applies them to all names of a file.
"""

from __future__ import annotations

from functools import cached_property

from .._elf import constants as elf
from .._typing import TYPE_CHECKING
from .by_name import NameSearch
from .kernel_identity import KernelIdentity
from .printed import LONGEST, PERHAPS, other_words, printed, rules_of
from .symbol_file import SymbolFile

if TYPE_CHECKING:
    from .printed import Rule


class LongerNames:
    """The names of ``file`` that its kernel may shorten when it prints them.

    ``names`` searches the file's names. ``identity`` has the kernel's release, which decides by
    which rule the kernel shortens them.
    """

    def __init__(self, file: SymbolFile, names: NameSearch, identity: KernelIdentity) -> None:
        self._file = file
        self._names = names
        self._identity = identity

    def printed(self, name: bytes) -> bytes:
        """Return the word that the kernel prints for ``name``."""
        word = printed(name, self._rules)
        # Some rules cut a name at any dot, but a kernel without LTO does not shorten names.
        return word if word == name or self._names.is_lto else name

    def numbers_meant(self, word: bytes) -> set[int]:
        """Return the numbers of the symbols that a text of the kernel can mean by ``word``.

        If several rules are possible, a symbol that only some of them shorten to ``word`` is
        included only if there is no other symbol.
        """
        found = {number for number, _ in self._names.find(word)}
        reasons = self._reasons(word)
        sure = {number for number, why in reasons.items() if why < PERHAPS}
        return found | sure or set(reasons)

    def numbers_made_of(self, word: bytes) -> list[int]:
        """Return the numbers of the symbols whose longer names LTO made of ``word``.

        Of several symbols, only those with the best reason (``printed.py``) are returned.
        """
        reasons = self._reasons(word)
        best = min(reasons.values(), default=None)
        return [number for number, why in reasons.items() if why == best]

    @cached_property
    def _rules(self) -> tuple[Rule, ...]:
        """The rules by which the kernel may shorten a name, if it has CONFIG_LTO_CLANG."""
        return rules_of(self._identity.release)

    def _reasons(self, wanted: bytes) -> dict[int, int]:
        """Return the reason of each symbol that may be printed as ``wanted``, by number."""
        if not wanted.translate(None, b"_.$").isalnum():
            return {}
        if not self._names.scans:
            return dict(self._words.get(wanted, ())) if self._names.is_lto else {}

        # Scan the strings for longer names: they have a dot or a dollar sign after the word.
        strings = self._file.strings
        starts = self._names.starts_of(wanted, b".")
        if b"$" in bytes(strings):  # seldom true, and faster than a scan
            starts += self._names.starts_of(wanted, b"$")
        if not starts or not self._names.is_lto:
            return {}

        reasons: dict[int, int] = {}
        for start in starts:
            name = bytes(strings[start : start + LONGEST]).partition(b"\0")[0]
            why = other_words(name, self._rules).get(wanted)
            if why is not None:
                reasons[start] = why

        numbers = self._names.numbers_named(list(reasons))
        rows = ((number, self._file.row(number)) for number in numbers)
        return {
            number: reasons[sym.st_name]
            for number, sym in rows
            if sym.st_shndx != elf.SHN_UNDEF
        }

    @cached_property
    def _words(self) -> dict[bytes, list[tuple[int, int]]]:
        """The symbols, as numbers and reasons, for which the kernel may print each word."""
        import numpy as np

        # Find the first dot or dollar sign, and the first NUL, after the start of each name.
        strings = bytes(self._file.strings)
        text = np.frombuffer(strings, np.uint8)
        signs = np.flatnonzero((text == ord(".")) | (text == ord("$")))
        nuls = np.flatnonzero(text == 0)
        start = self._file.array["st_name"].astype(np.int64)
        sign, end = (
            np.append(offsets, len(text))[np.searchsorted(offsets, start)]
            for offsets in (signs, nuls)
        )

        # A name can be shortened if a dot or a dollar sign comes before its NUL.
        longer = (sign < end) & (end - start < LONGEST)
        longer &= self._file.array["st_shndx"] != elf.SHN_UNDEF

        numbers = np.flatnonzero(longer)
        found: dict[bytes, list[tuple[int, int]]] = {}
        columns = (numbers, start[numbers], end[numbers])
        for number, first, last in zip(*(column.tolist() for column in columns)):
            for word, why in other_words(strings[first:last], self._rules).items():
                found.setdefault(word, []).append((number, why))
        return found
