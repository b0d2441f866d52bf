"""Run a test while the kernel's symbols do not move, on a machine that others use too.

The kernel's state is compared before and after the test. If anybody else's module, BPF program,
kprobe or trampoline came or went meanwhile, the test does not count and is run again.
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
"""Lines of kallsyms that belong to no module and no BPF program."""


class Seen(NamedTuple):
    """The state of the kernel: another one after anything came or went.

    ``programs`` is the number of BPF programs that were ever loaded, without those of this
    process: the ids are given in order (kernel/bpf/syscall.c, bpf_prog_alloc_id). ``theirs``
    has the ids of others' programs that are loaded now.
    """

    programs: int
    theirs: frozenset[int]
    modules: tuple[tuple[str, ...], ...]
    uevents: str
    lines: frozenset[tuple[str, str]]


def seen(uevents: bool = True) -> Seen:
    """Return the kernel's state now.

    ``uevents`` is False for a test that makes uevents itself: then they are left out.
    """
    modules = Path("/proc/modules")  # a kernel that can load no modules does not have it
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
    """Run ``test`` again and again until nothing came or went meanwhile; then it must pass.

    Raises:
        AssertionError: the test failed in that run, or there was no such run.
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
