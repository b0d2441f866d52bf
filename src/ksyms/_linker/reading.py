"""A reading: the result of one pass over kallsyms, with the modules that came during it."""

from __future__ import annotations

import numpy as np

from .._typing import Final, NamedTuple
from .bpf_programs import BpfPrograms
from .kallsyms import Kallsyms
from .modules import PSEUDO
from .reader_thread import LONGEST

_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio; odd
"""The factor in the hash of two addresses."""


class Reading(NamedTuple):
    """The text of kallsyms, read from start to end; it is of one moment if nothing moved.

    ``lines`` has the runs of lines by the name in the bracket, None for the kernel's own.
    ``programs`` are the BPF programs, read after the text; None if the text lists none, or they
    could not be read. ``newcomers`` is the result of :func:`find_newcomers`.
    """

    text: Kallsyms
    lines: dict[str | None, list[slice]]
    programs: BpfPrograms | None = None
    newcomers: tuple[str, ...] = ()


def find_newcomers(text: Kallsyms, lines: dict[str | None, list[slice]]) -> tuple[str, ...]:
    """Return the modules that came while a running kernel's text was printed, in words.

    The evidence is in the text itself: a module in it was not in /proc/modules, or other
    modules' lines are repeated. This evidence is needed for a module whose init fails: kallsyms
    lists its symbols for a moment, but it has gone by the time /proc/modules is read again, and
    the kernel sends no event (kernel/module/main.c, do_init_module).
    """
    known = {*PSEUDO, *text.generation.modules}
    strays = [f"module {name}" for name in lines if name is not None and name not in known]
    return tuple(strays or (["a module"] if _has_repeats(text) else []))


def _has_repeats(text: Kallsyms) -> bool:
    """Return True if two adjacent lines of modules occur a second time in the text.

    The kernel prints one position of its list after the other, and the newest module is first
    in the list (kernel/kallsyms.c, s_next). If a module with two symbols comes while it prints,
    all other lines move by two positions, and two lines are printed again::

        position   0    1    2    3    4    5    6
        before     a1   a2   a3   a4   a5
        printed    a1   a2   a3                      then module n comes
        after      n1   n2   a1   a2   a3   a4   a5
        printed                   a2   a3   a4   a5  a2 and a3 are repeated

    Labels do not count, and neither do two lines with one address: symbols without a size can
    share both name and address.
    """
    count = len(text.address)
    first = next((start for start, name in text.runs if name is not None), count)
    end = next((start for start, name in text.runs if name in PSEUDO), count)

    # The lines of modules, without labels.
    low, high = np.searchsorted(text.ignored, (first, end))
    lines = np.delete(np.arange(first, end), text.ignored[low:high] - first)

    # The pairs of lines that may occur twice: those with the same hash of both addresses.
    address = text.address[lines]
    pairs = address[:-1] * _SPREAD ^ address[1:]
    order = np.argsort(pairs)
    same = np.flatnonzero(pairs[order[1:]] == pairs[order[:-1]])

    # Of these, compare the addresses and the names.
    seen = set()
    for at in {*order[same].tolist(), *order[same + 1].tolist()}:
        one, two = ((int(address[n]), _name_at(text, lines[n])) for n in (at, at + 1))
        if one[0] != two[0] and (one, two) in seen:
            return True
        seen.add((one, two))
    return False


def _name_at(text: Kallsyms, line: int) -> bytes:
    """Return the name in a line of the text."""
    begin = text.name[line]
    return text.strings[begin : begin + LONGEST].tobytes().partition(b"\0")[0]
