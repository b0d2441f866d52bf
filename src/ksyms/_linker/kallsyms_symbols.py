"""The symbol tables of linker files, made from the columns of a kallsyms text."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from .._arrays import I64, U8, U32, Index
from .._elf.constants import (
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    st_info,
)
from .._typing import Final
from .files import Role, Symbols, all_name
from .kallsyms import Kallsyms


def _letters_to_info() -> U8:
    """Return the table :data:`LETTER_INFO`."""
    table = np.zeros(256, np.uint8)
    for letter in range(256):
        char = chr(letter)
        binding = STB_GLOBAL if "A" <= char <= "Z" else STB_LOCAL
        if char in "wWvV":
            binding = STB_WEAK
        kind = STT_FUNC if char in "tTwWi" else STT_OBJECT
        table[letter] = st_info(binding, kind)
    return table


LETTER_INFO: Final = _letters_to_info()
"""``st_info`` by kallsyms' letter (uint8, 256)."""
_LETTER_INFO_BYTES: Final = LETTER_INFO.tobytes()


def lines_of(text: Kallsyms) -> dict[str | None, list[slice]]:
    """Return the runs of lines by the name in the bracket, None for the kernel's own."""
    lines: dict[str | None, list[slice]] = {}
    ends = [start for start, _ in text.runs[1:]] + [len(text.address)]
    for (start, name), end in zip(text.runs, ends):
        lines.setdefault(name, []).append(slice(start, end))
    return lines


def with_role(symbols: Symbols, role: U8) -> Symbols:
    """Return ``symbols`` with the given roles (uint8, one for each symbol).

    ELF has no type for a symbol that is listed but names no address. Such symbols, except the
    absolute ones, get STT_NOTYPE, so that readers of ELF files do not take them for functions.
    """
    if all_name(role):
        return symbols._replace(role=role)
    info = symbols.info.copy()
    info[role == Role.LABEL] = st_info(STB_LOCAL, STT_NOTYPE)
    info[role == Role.UNDEFINED] = st_info(STB_LOCAL, STT_NOTYPE)
    silent = role == Role.SILENT
    info[silent] &= 0xF0  # STT_NOTYPE is 0
    exact = symbols.exact
    if exact.any():  # a debug file's size is not used for a silent symbol, which has 1 or 0
        exact = exact & ~silent
    return symbols._replace(info=info, role=role, exact=exact)


def symbol_table(text: Kallsyms, lines: list[slice]) -> Symbols:
    """Return the symbols of several runs of lines, as one table with its own strings.

    The offsets of the names are changed to offsets into these strings::

        runs       lines 0-1           lines 5-6
        strings    a NUL bc NUL        d NUL e NUL     of the text: at 0 and 20
        result     a NUL bc NUL d NUL e NUL
        name       0 2                 20 22           -> 0 2 5 7
    """
    if len(lines) == 1:
        return _table(text, lines[0], *_run(text, lines[0]))

    # No loop over the runs: a text edited by hand can have as many runs as lines.
    starts = np.array([part.start for part in lines], np.int64)
    count = np.array([part.stop for part in lines], np.int64) - starts
    total = np.cumsum(count)
    rows = np.arange(total[-1] if len(lines) else 0) + np.repeat(starts - total + count, count)

    ends = np.append(text.name, np.uint32(len(text.strings)))[starts + count].astype(np.int64)
    begins = text.name[starts].astype(np.int64)
    parts = [text.strings[a:b] for a, b in zip(begins.tolist(), ends.tolist())]
    strings = np.concatenate([np.zeros(0, np.uint8), *parts])
    length = ends - begins
    # The distance by which the strings of each run are moved.
    moved = np.repeat(np.cumsum(length) - length - begins, count)
    name = (text.name[rows] + moved).astype(np.uint32)

    ignored = np.flatnonzero(np.isin(rows, text.ignored))
    return _table(text, rows, name, strings, ignored)


def _run(text: Kallsyms, lines: slice) -> tuple[U32, U8, Index]:
    """Return the name offsets of a run, its strings, and the numbers of its ignored lines.

    The strings of a run are one piece of the text's strings. The offsets and the numbers are
    counted from the start of the run.
    """
    start = int(text.name[lines.start])
    last = lines.stop == len(text.address)
    end = len(text.strings) if last else int(text.name[lines.stop])
    name = text.name[lines] - np.uint32(start) if start else text.name[lines]
    low, high = (bisect_left(text.ignored, line) for line in (lines.start, lines.stop))
    return name, text.strings[start:end], text.ignored[low:high] - lines.start


def _table(
    text: Kallsyms,
    lines: slice | I64,
    name: U32,
    strings: U8,
    ignored: Index,
) -> Symbols:
    """Return the symbols of ``lines``, whose names are at the offsets ``name`` of ``strings``.

    ``ignored`` are the positions in ``lines`` of those that the kernel's lookup ignores.
    """
    letter = text.letter[lines]
    # The same as LETTER_INFO[letter], in a third of the time.
    info = np.frombuffer(bytearray(letter.tobytes().translate(_LETTER_INFO_BYTES)), np.uint8)

    count = len(name)
    role = np.broadcast_to(np.uint8(Role.NAMES), count)
    if len(ignored):
        role = role.copy()
        role[ignored] = Role.LABEL

    symbols = Symbols(
        address=text.address[lines],
        name=name,
        info=info,
        letter=letter,
        role=role,
        size=np.broadcast_to(np.uint64(0), count),
        exact=np.broadcast_to(np.False_, count),
        strings=strings,
    )
    return with_role(symbols, role)
