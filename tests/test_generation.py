"""The generation on the running kernel: a BPF program comes and goes."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

import ksyms
from bpf import load_bpf_program
from ksyms._linker import Linker
from ksyms._linker.ksymbols import KernelEvents, _records

CAME_OR_WENT = ["a BPF program or a trampoline of ftrace or kprobes came or went"]


def listed() -> list[str]:
    """The BPF programs' lines of kallsyms, by grep."""
    run = subprocess.run(
        ["grep", r"\[bpf\]", "/proc/kallsyms"], capture_output=True, text=True, check=False
    )
    return run.stdout.splitlines()


def test_a_program_is_seen_by_the_next_question() -> None:
    with Linker(debug=None) as linker:
        before = linker.generation()
        assert before.moved(linker.generation()) == []
        program = load_bpf_program()
        loaded = linker.generation()
        assert before.moved(loaded) == CAME_OR_WENT
        os.close(program)
        assert loaded.moved(linker.generation()) == CAME_OR_WENT
        last = linker.generation()
        assert last.moved(linker.generation()) == []


def test_a_program_is_in_the_next_snapshot(tmp_path: Path) -> None:
    """And in none once it is gone: nm's line is kallsyms' own."""
    before = set(listed())
    program = load_bpf_program()
    [line] = set(listed()) - before
    address, _, rest = line.split(" ", 2)
    name = rest.split("\t")[0]
    symbol = ksyms.load(ksyms.snapshot().image).lookup(int(address, 16))
    os.close(program)
    assert symbol is not None
    assert (symbol.name, symbol.module) == (name, "bpf")
    assert symbol.section is not None
    assert symbol.section.startswith("[bpf].text")
    deadline = time.monotonic() + 10  # the kernel frees it after a grace period
    while line in listed():
        assert time.monotonic() < deadline
    found = ksyms.load(ksyms.snapshot().image).find(name)
    assert int(address, 16) not in [symbol.address for symbol in found]


def test_a_program_that_comes_during_the_read_is_not_missed() -> None:
    """The text was read before it came: the reading is of no moment that is now."""
    with Linker(debug=None) as linker:
        reading = linker.read()
        assert linker.moved(reading) == []
        program = load_bpf_program()
        try:
            assert linker.moved(reading) == CAME_OR_WENT
        finally:
            os.close(program)


def test_what_a_full_ring_has_no_room_for_counts() -> None:
    """The kernel drops records, and says so with the next that it has room for: none comes."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    events = KernelEvents()
    try:
        ring = events._rings[cpu]
        for _ in range(ring.size // 64):  # at least 56 bytes each, twice
            os.close(load_bpf_program())
        kinds = [kind for kind, _ in _records(ring)]
        # PERF_RECORD_KSYMBOL and PERF_RECORD_LOST of include/uapi/linux/perf_event.h
        assert (set(kinds[:-1]), kinds[-1]) == ({17}, 2)
        events.drain()
        assert list(_records(ring)) == []
    finally:
        events.close()
        os.sched_setaffinity(0, before)


def test_many_openers_hold_no_rings() -> None:
    """A snapshot gives back what it opened."""
    ksyms.snapshot()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        ksyms.snapshot()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_kernel_that_never_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tries, then the driver's ENXIO and the name of what moved."""
    programs = []
    read = Linker.read

    def read_while_programs_come(self: Linker) -> object:
        reading = read(self)
        programs.append(load_bpf_program())
        return reading

    monkeypatch.setattr(Linker, "read", read_while_programs_come)
    with pytest.raises(ksyms.MovedError, match="BPF program") as caught:
        ksyms.snapshot()
    for program in programs:
        os.close(program)
    assert (caught.value.errno, len(programs)) == (6, 3)


def test_what_moves_comes_with_what_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of few symbols: its generation was asked before what moves, all the same."""
    monkeypatch.setattr("ksyms._linker.reader_thread._BUFFER", 1 << 24)
    program = load_bpf_program()
    with Linker(debug=None) as linker:
        reading = linker.read()
        assert any(name == "bpf" for _, name in reading.text.runs)
        assert linker.moved(reading) == []
        os.close(program)
        assert linker.moved(reading) == [*CAME_OR_WENT, "a BPF program was about to go"]
