"""The generation on the running kernel: a BPF program comes and goes."""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

import ksyms
import uevents
from bpf import load_bpf_program
from bpf import name as bpf_name
from conftest import FIXTURES, SAVED
from ksyms._linker import Generation, Linker
from ksyms._linker.perf_events import KernelEvents, _records
from ksyms._linker.reading import Reading, find_newcomers
from served import wait_for
from undisturbed import undisturbed

CAME_OR_WENT = ["a BPF program or a trampoline of ftrace or kprobes came or went"]


def listed() -> list[str]:
    """The BPF programs' lines of kallsyms, by grep."""
    run = subprocess.run(
        ["grep", r"\[bpf\]", "/proc/kallsyms"], capture_output=True, text=True, check=False
    )
    return run.stdout.splitlines()


LOADED = "foo 16384 {} - {} 0xffffffffc0000000\nbar 4096 0 - Live 0xffffffffc0100000\n"


@pytest.mark.parametrize(
    ("before", "after", "moved", "released"),
    [
        (LOADED.format(1, "Live"), LOADED.format(1, "Live"), [], []),
        # do_init_module drops its reference as it frees the init symbols, after the state.
        (LOADED.format(1, "Live"), LOADED.format(0, "Live"), [], ["foo"]),
        (
            LOADED.format(1, "Loading"),
            LOADED.format(0, "Live"),
            ["module foo is Live"],
            ["foo"],
        ),
        # A kernel that cannot unload counts none.
        (LOADED.format("-", "Live"), LOADED.format("-", "Live"), [], []),
        # One that came or went has let go of nothing.
        ("", LOADED.format(1, "Live"), ["module bar came", "module foo came"], []),
        (LOADED.format(1, "Live"), "", ["module bar went", "module foo went"], []),
    ],
)
def test_what_the_modules_tell(
    before: str, after: str, moved: list[str], released: list[str]
) -> None:
    """By two texts of /proc/modules, as the kernel prints them while a module is loaded."""
    first, second = (Generation(text.encode(), {}, 0) for text in (before, after))
    assert first.moved(second) == moved
    assert first.released(second) == released


def test_a_program_is_seen_by_the_next_question() -> None:
    undisturbed(_a_program_comes_and_goes)


def _a_program_comes_and_goes() -> None:
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
    program = load_bpf_program()
    [line] = [line for line in listed() if line.endswith(f"_{bpf_name()}\t[bpf]")]
    address, _, rest = line.split(" ", 2)
    name = rest.split("\t")[0]
    symbol = ksyms.load(ksyms.snapshot().image).lookup(int(address, 16))
    os.close(program)
    assert symbol is not None
    assert (symbol.name, symbol.module) == (name, "bpf")
    assert symbol.section is not None
    assert symbol.section.startswith("[bpf].text")
    wait_for(lambda: line not in listed())  # the kernel frees it after a grace period
    found = ksyms.load(ksyms.snapshot().image).find(name)
    assert int(address, 16) not in [symbol.address for symbol in found]


def test_a_program_that_comes_during_the_read_is_not_missed() -> None:
    """The text was read before it came: the reading is of no moment that is now."""
    undisturbed(_a_program_comes_during_the_read)


def _a_program_comes_during_the_read() -> None:
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
        # PERF_RECORD_KSYMBOL and PERF_RECORD_LOST of include/uapi/linux/perf_event.h; others'
        # jump labels are PERF_RECORD_TEXT_POKE.
        assert (set(kinds[:-1]) - {20}, kinds[-1]) == ({17}, 2)
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


def test_modules_that_come_and_go_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their events alone: here /proc/modules is not even there."""
    read = Linker.read

    def read_while_a_module_moves(self: Linker) -> object:
        reading = read(self)
        for action in ("add", "remove"):
            uevents.broadcast(f"{action}@/module/dummy\0ACTION={action}\0".encode())
        uevents.broadcast(b"add@/module/veth\0ACTION=add\0")
        return reading

    monkeypatch.setattr(Linker, "read", read_while_a_module_moves)
    with pytest.raises(ksyms.MovedError) as caught:
        ksyms.snapshot()
    assert "at last: module dummy came and went, module veth came or went." in caught.value.what


def printed(lines: list[str], comes: list[str], at: int, until: int) -> list[str]:
    """Modules' ``lines`` by position, as kernel/kallsyms.c has them: while a module is there,
    from position ``at`` until another, its lines are before all others."""
    longer = [*comes, *lines]
    return [*lines[:at], *longer[at:until], *lines[until:]]


def reading_of(kernel: str, modules: list[str], path: Path) -> Reading:
    path.write_text(kernel + "".join(modules))
    with Linker(kallsyms=str(path), debug=None) as linker:
        return linker.read()


def test_a_module_that_came_and_went_unheard_shows(tmp_path: Path) -> None:
    """Its own lines are in the text, or those of others are there twice."""
    with tarfile.open(FIXTURES / f"{SAVED[1]}.tar.gz") as archive:
        texts = [archive.extractfile(f"proc/{name}") for name in ("kallsyms", "modules")]
        kallsyms, modules = (text.read().decode() for text in texts if text)
    rows = [line for line in kallsyms.splitlines(True) if "\t[" in line]
    own = [row for row in rows if "\t[9p]" in row]
    others = [row for row in rows if "\t[9p]" not in row]
    kernel = "ffffffff81000000 T _stext\nffffffff82000000 T _etext\n"
    place = tmp_path / "kallsyms"
    known = "".join(x for x in modules.splitlines(True) if not x.startswith("9p ")).encode()

    def told(lines: list[str], text: bytes = known) -> tuple[str, ...]:
        reading = reading_of(kernel, lines, place)
        generation = reading.text.generation._replace(text=text)
        return find_newcomers(reading.text._replace(generation=generation), reading.lines)

    assert told(others) == ()
    assert told(rows) == ("module 9p",)
    assert told(rows, modules.encode()) == ()
    pseudo = ["bpf", "__builtin__ftrace", "__builtin__kprobes"]  # kernel/kallsyms.c
    again = [f"ffffffffc0000000 t x\t[{name}]\n" for name in pseudo]
    assert told(others + again + again) == ()
    chance = random.Random(1)
    for _ in range(40):
        at = chance.randrange(len(others) - len(own))
        until = at + chance.randint(2, len(own))
        shown = printed(others, own, at, until)
        assert told(shown) == (("module 9p",) if at < len(own) else ("a module",)), (at, until)


def test_labels_and_what_has_no_size_are_no_repeats(tmp_path: Path) -> None:
    """As RISC-V lists them, whose assembler calls many ``.L0 ``; and locks without lockdep."""
    kernel = "ffffffff80000000 T _stext\nffffffff81000000 T _etext\n"
    pair = "ffffffff01a3e000 t .L0 \t[m]\nffffffff01a3e00c t .L0 \t[m]\n"
    keys = "ffffffff01a40000 b __key.0\t[m]\nffffffff01a40000 b __key.1\t[m]\n"
    rest = "ffffffff01a3e010 t f\t[m]\n"
    generation = Generation(b"m 16384 0 - Live 0xffffffff01a3e000\n", {}, 0)
    for lines, told in (
        ([pair, rest, pair, keys, keys], ()),
        ([rest, keys, rest, keys], ("a module",)),
    ):
        reading = reading_of(kernel, lines, tmp_path / "kallsyms")
        text = reading.text._replace(generation=generation)
        assert find_newcomers(text, reading.lines) == told


def test_what_moves_comes_with_what_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of few symbols: its generation was asked before what moves, all the same."""
    monkeypatch.setattr("ksyms._linker.reader_thread._BUFFER", 1 << 24)
    undisturbed(_a_program_goes_after_the_read)


def _a_program_goes_after_the_read() -> None:
    program = load_bpf_program()
    with Linker(debug=None) as linker:
        reading = linker.read()
        assert any(name == "bpf" for _, name in reading.text.runs)
        assert linker.moved(reading) == []
        os.close(program)
        assert linker.moved(reading) == [*CAME_OR_WENT, "a BPF program was about to go"]
