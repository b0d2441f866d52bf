"""The symbol tables of linker files, from the columns of a kallsyms text."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

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


def _letters_to_info() -> npt.NDArray[np.uint8]:
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
_TRANSLATED: Final = LETTER_INFO.tobytes()


def lines_of(text: Kallsyms) -> dict[str | None, list[slice]]:
    """Return the runs of lines of each bracket, None for the kernel's own."""
    lines: dict[str | None, list[slice]] = {}
    ends = [start for start, _ in text.runs[1:]] + [len(text.address)]
    for (start, name), end in zip(text.runs, ends):
        lines.setdefault(name, []).append(slice(start, end))
    return lines


def with_role(symbols: Symbols, role: npt.NDArray[np.uint8]) -> Symbols:
    """Return ``symbols`` in the given roles (uint8, one a symbol).

    ELF has no type for a symbol that is listed and names no address. Such symbols, but for the
    absolute ones, are STT_NOTYPE, which readers of ELF files do not take for a function.
    """
    if all_name(role):
        return symbols._replace(role=role)
    info = symbols.info.copy()
    info[role == Role.LABEL] = st_info(STB_LOCAL, STT_NOTYPE)
    info[role == Role.UNDEFINED] = st_info(STB_LOCAL, STT_NOTYPE)
    silent = role == Role.SILENT
    info[silent] &= 0xF0  # STT_NOTYPE is 0
    exact = symbols.exact
    if exact.any():  # a silent symbol has size 1 or 0, also if a file has another
        exact = exact & ~silent
    return symbols._replace(info=info, role=role, exact=exact)


def symbol_table(text: Kallsyms, lines: list[slice]) -> Symbols:
    tables = [_slice(text, part) for part in lines]
    if len(tables) == 1:
        return tables[0]
    shift, names = 0, []
    for table in tables:
        names.append(table.name + np.uint32(shift))
        shift += len(table.strings)
    empty = Symbols(*(np.zeros(0, t) for t in ("u8", "u4", "u1", "u1", "u1", "u8", "?", "u1")))
    columns = [np.concatenate(column) for column in zip(empty, *tables)]
    if names:
        columns[1] = np.concatenate(names)
    return Symbols(*columns)


def _slice(text: Kallsyms, lines: slice) -> Symbols:
    start = int(text.name[lines.start])
    last = lines.stop == len(text.address)
    end = len(text.strings) if last else int(text.name[lines.stop])
    strings = text.strings[start:end]
    name = text.name[lines] - np.uint32(start) if start else text.name[lines]
    letter = text.letter[lines]
    # The same as LETTER_INFO[letter], in a third of the time.
    info = np.frombuffer(bytearray(letter.tobytes().translate(_TRANSLATED)), np.uint8)
    count = len(name)
    role = np.broadcast_to(np.uint8(Role.NAMES), count)
    low, high = (bisect_left(text.ignored, line) for line in (lines.start, lines.stop))
    if low < high:
        role = role.copy()
        role[text.ignored[low:high] - lines.start] = Role.LABEL
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
