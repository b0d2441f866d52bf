"""Compare names without addresses, as today's traces print them, with the file's symbols.

``vfs_open+0x2e/0xf0 [xfs]`` says three things, of which most differ in another build: that
there is a symbol vfs_open, that its size is 0xf0, and that it is of the module xfs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from .._symbols import Symbol, SymbolTable
from .._symbols.search import prints_size
from .forms import FRAMES, LONGEST, NAME_END, text_of
from .names import SymbolNames

_KEPT: Final = 1 << 16
"""Limit on cached verdicts."""
_NEGATIVE: Final = 1 << 63
"""Printed sizes from here on are negative numbers, and no evidence: until Linux 6.12.35 (and
6.16) the kernel took the end of a module's code for that of its data
(kernel/module/kallsyms.c, find_kallsyms_symbol).
"""


class Verdict(NamedTuple):
    """The file's symbol for a name that stands without an address.

    ``symbol`` is None if no symbol fits, or several do; then ``why`` is the reason. ``fits``
    is True if at least one symbol fits.
    """

    symbol: Symbol | None
    fits: bool
    why: str = ""


def frames(text: bytes) -> Iterator[re.Match[bytes]]:
    """Yield ``NAME+0x12`` and ``NAME+0x12/0x34 [MODULE]`` of a text, in its order.

    It searches for ``+0x``, which is quick, and then back for the start of the name.
    """
    at, end = text.find(b"+0x"), 0
    while at >= 0:
        lowest = end if at - end < LONGEST else at - LONGEST
        begin = text.rfind(b" ", lowest, at) + 1 or lowest

        match = FRAMES.match(text, begin)
        if match is None or match.end() <= at:
            name = NAME_END.search(text, begin, at)
            match = name and FRAMES.match(text, name.start())

        end = at + 3
        if match is not None:
            yield match
            end = match.end()
        at = text.find(b"+0x", end)


class Tally:
    """The counts of a text's names that fit the file's symbols, and that do not.

    Args:
        table: the file's symbols.
        names: the symbols by name.
    """

    def __init__(self, table: SymbolTable, names: SymbolNames) -> None:
        self._table = table
        self._names = names
        self._modules = {file["name"] for file in table.facts.get("files", ())}
        self._verdicts: dict[bytes, Verdict] = {}
        self.fit = 0
        """The number of frames that fit."""
        self.misfits: Counter[str] = Counter()
        """The number of frames that do not, by the reason."""
        self.examples: dict[str, str] = {}
        """The first of those frames for each reason."""
        self.foreign = 0
        """The number of frames in parts of the text that are another kernel's."""

    @property
    def count(self) -> int:
        """The number of frames that were compared with the file."""
        return self.fit + self.misfits.total()

    def add(self, matches: list[re.Match[bytes]], foreign: bool) -> bool:
        """Count the frames that have a size; return True if one of them fits.

        A name with an offset but without a size can be a sum and not a frame. ``foreign`` is
        True if another kernel printed the frames: then they count as neither.
        """
        words = [match[0] for match in matches]
        fit = self.fit
        first = dict(zip(words, matches))

        for word, count in Counter(words).items():
            if first[word]["size"] is None:
                continue
            verdict = self.judge(first[word])
            if foreign:
                self.foreign += count
            elif verdict.fits:
                self.fit += count
            else:
                self.misfits[verdict.why] += count
                self.examples.setdefault(verdict.why, text_of(word))

        return self.fit > fit

    def judge(self, match: re.Match[bytes]) -> Verdict:
        """Return the verdict on a match of :func:`frames`."""
        known = self._verdicts.get(match[0])
        if known is None:
            if len(self._verdicts) > _KEPT:
                self._verdicts = {}
            said = {key: text_of(value) for key, value in match.groupdict().items() if value}
            size = int(said["size"], 16) if "size" in said else None
            size = None if size is not None and size >= _NEGATIVE else size
            known = self.find(said["name"], int(said["offset"], 16), size, said.get("module"))
            self._verdicts[match[0]] = known
        return known

    def find(self, name: str, offset: int, size: int | None, module: str | None) -> Verdict:
        """Find the one symbol that a name with an offset, a size and a module can mean.

        ``size`` is None if it is not given; ``module`` is None for the kernel.
        """
        called = self._names.called(name)
        same = [s for s in called if self._names.module(s) == module]
        if not same:
            return Verdict(None, False, self._missing(called, name, module))

        if size is None:
            fits = [s for s in same if offset <= max(s.size, 1)]
            why = f"{name} is shorter than {offset:#x} bytes"
        else:
            fits = [s for s in same if prints_size(self._table, s, size)]
            why = f"the symbol of that name has {same[0].size:#x} bytes, not {size:#x}"

        # An offset beyond the printed size is no frame's, whatever symbols there are.
        if offset > (offset if size is None else size):
            return Verdict(None, False, f"{name} is shorter than {offset:#x} bytes")

        if len(fits) == 1:
            return Verdict(fits[0], True)
        if fits:
            what = "have that name" if size is None else "have that name and size"
            return Verdict(None, True, f"{len(fits)} symbols {what}")
        return Verdict(None, False, why)

    def _missing(self, called: list[Symbol], name: str, module: str | None) -> str:
        """Return the reason why ``name`` is not of ``module`` in the file."""
        if module is not None and module not in self._modules:
            return f"the file has no module {module}"
        if called:
            owner = self._names.module(called[0]) or "the kernel"
            return f"in the file {name} belongs to {owner}"
        return "no symbol has that name"
