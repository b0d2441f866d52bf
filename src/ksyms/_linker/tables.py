"""The lines of a kallsyms text as the symbol tables of linker files."""

from __future__ import annotations

import re

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
from .files import Symbols
from .kallsyms import Kallsyms


def _infos() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for letter in range(256):
        char = chr(letter)
        binding = STB_GLOBAL if "A" <= char <= "Z" else STB_LOCAL
        if char in "wWvV":
            binding = STB_WEAK
        kind = STT_FUNC if char in "tTwWi" else STT_OBJECT
        table[letter] = st_info(binding, kind)
    return table


LETTER_INFO: Final = _infos()
"""``st_info`` by kallsyms' letter (uint8, 256)."""


_TRANSLATED: Final = LETTER_INFO.tobytes()


def lines_of(text: Kallsyms) -> dict[str | None, list[slice]]:
    """The lines of each bracket, None for the kernel's; a bracket can come again."""
    lines: dict[str | None, list[slice]] = {}
    ends = [start for start, _ in text.runs[1:]] + [len(text.address)]
    for (start, name), end in zip(text.runs, ends):
        lines.setdefault(name, []).append(slice(start, end))
    return lines


def symbol_table(text: Kallsyms, lines: list[slice]) -> Symbols:
    tables = [_slice(text, part) for part in lines]
    if len(tables) == 1:
        return tables[0]
    shift, names = 0, []
    for table in tables:
        names.append(table.name + np.uint32(shift))
        shift += len(table.strings)
    empty = Symbols(*(np.zeros(0, t) for t in ("u8", "u4", "u1", "u1", "?", "u8", "?", "u1")))
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
    if text.dollars:
        info[mapping_symbols(strings, name)] = st_info(STB_LOCAL, STT_NOTYPE)
    count = len(name)
    return Symbols(
        address=text.address[lines],
        name=name,
        info=info,
        letter=letter,
        absolute=np.broadcast_to(np.False_, count),
        size=np.broadcast_to(np.uint64(0), count),
        exact=np.broadcast_to(np.False_, count),
        strings=strings,
    )


_DOLLAR: Final = ord("$")
# RISC-V's $x can have the name of the instruction set behind it.
_MAPPING: Final = re.compile(rb"\$[adtx][.\0]|\$xrv")


def mapping_symbols(
    strings: npt.NDArray[np.uint8], name: npt.NDArray[np.uint32]
) -> npt.NDArray[np.intp]:
    """Which symbols mark a change between code and data and name nothing: ``$x``, ``$d.1``.

    Source: ELF for the Arm 64-bit Architecture, "Mapping symbols"; RISC-V ELF psABI, the
    same. arm64 and riscv kernels list them for modules (before Linux 6.3, 5ec4a4e25ae5).
    """
    dollar = np.flatnonzero(strings[name] == _DOLLAR)
    found = [
        row
        for row, start in zip(dollar.tolist(), name[dollar].tolist())
        if _MAPPING.match(strings[start : start + 4].tobytes())
    ]
    return np.array(found, np.intp)
