"""Tests of a kernel that stands still, on a machine where others load what they like.

What the kernel itself says of the time that a test took decides whether it counts: where
somebody else's module, BPF program, kprobe or trampoline came or went it is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from os import close
from pathlib import Path
from typing import NamedTuple

import bpf

TRIES = 20
_PSEUDO = re.compile(
    r"^(\S+) . (bpf_(?:trampoline|dispatcher)_\S+\t\[bpf\]|\S+\t\[__builtin__\w+\])$", re.M
)
"""Lines of kallsyms that are no module's and no program's."""


class Seen(NamedTuple):
    """What is another where others came or went.

    ``programs`` counts the BPF programs that were ever loaded, but for those of this process:
    each has the number after the last one's (kernel/bpf/syscall.c, bpf_prog_alloc_id).
    ``theirs`` are the numbers of those that are there.
    """

    programs: int
    theirs: frozenset[int]
    modules: tuple[tuple[str, ...], ...]
    uevents: str
    lines: frozenset[tuple[str, str]]


def seen(uevents: bool = True) -> Seen:
    """What there is now; with no ``uevents``, where the test itself makes some."""
    modules = Path("/proc/modules")  # none where the kernel loads no modules
    lines = modules.read_text().splitlines() if modules.exists() else []
    program = bpf.load_bpf_program()
    try:
        number = bpf.id_of(program)
        theirs = frozenset(set(bpf.ids()) - bpf.own - {number})
    finally:
        close(program)
    return Seen(
        programs=number - len(bpf.own),
        theirs=theirs,
        modules=tuple((*line.split()[:2], *line.split()[4:]) for line in lines),
        uevents=Path("/sys/kernel/uevent_seqnum").read_text() if uevents else "",
        lines=frozenset(_PSEUDO.findall(Path("/proc/kallsyms").read_text())),
    )


def undisturbed(test: Callable[[], None], uevents: bool = True) -> None:
    """Run ``test`` until nobody else made the kernel move meanwhile; that time it must hold.

    Raises:
        AssertionError: it did not, or others never stood still.
    """
    for _ in range(TRIES):
        before = seen(uevents)
        failed: AssertionError | None = None
        try:
            test()
        except AssertionError as error:
            failed = error
        if seen(uevents) == before:
            if failed is not None:
                raise failed
            return
    raise AssertionError(f"others made the kernel move during each of {TRIES} tries")
