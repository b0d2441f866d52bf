"""Which of perf's records count, in a ring as the kernel writes it.

include/uapi/linux/perf_event.h: a header of type, misc and size; PERF_RECORD_TEXT_POKE has an
address, the lengths of the old and the new code, and both, padded to eight bytes.
"""

from __future__ import annotations

import mmap
import struct

import pytest

from ksyms._linker.perf_events import KernelEvents, _Ring

LOST, KSYMBOL, POKE = 2, 17, 20
DATA = 8 * mmap.PAGESIZE
NEWS = 0xFFFFFFFFC0400000


def record(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 8)
    return struct.pack("=IHH", kind, 0, 8 + len(body)) + body


def poke(old: bytes, new: bytes) -> bytes:
    return record(POKE, struct.pack("=QHH", NEWS, len(old), len(new)) + old + new)


def ksymbol(flags: int, kind: int = 1) -> bytes:
    name = b"bpf_prog_6deef7357e7b4530\0"
    return record(KSYMBOL, struct.pack("=QIHH", NEWS, 64, kind, flags) + name)


def events_of(records: bytes, position: int = 0) -> KernelEvents:
    """One CPU's ring with these records in it, the first at ``position`` of its data."""
    pages = mmap.mmap(-1, mmap.PAGESIZE + DATA)
    for at, byte in enumerate(records, position):
        pages[mmap.PAGESIZE + at % DATA] = byte
    # struct perf_event_mmap_page: data_head and data_tail count on, whatever the size.
    struct.pack_into("=QQ", pages, 1024, position + len(records), position)
    events = KernelEvents.__new__(KernelEvents)
    events.seen, events.leaving = 0, set()
    events._rings = {0: _Ring(-1, pages, mmap.PAGESIZE, DATA)}
    return events


JUMP, NOP = b"\xe9\x10\x00\x00\x00", b"\x0f\x1f\x44\x00\x00"


@pytest.mark.parametrize(
    ("records", "seen"),
    [
        (b"", 0),
        # A jump label or a call of the tracer is patched: the code stays.
        (poke(NOP, JUMP), 0),
        (poke(JUMP, NOP) * 100, 0),
        # Code is made, or unmade, where there was none: a trampoline of kprobes.
        (poke(b"", JUMP), 1),
        (poke(b"\xcc" * 35, b""), 1),
        (poke(NOP, JUMP) + poke(b"", JUMP) + poke(JUMP, NOP), 1),
        # A BPF program comes, goes; a trampoline of ftrace's (kind 2).
        (ksymbol(0), 1),
        (ksymbol(1), 1),
        (ksymbol(0, 2) + ksymbol(1, 2), 2),
        # The kernel dropped some: anything can have happened.
        (record(LOST, struct.pack("=QQ", 1, 3)), 1),
    ],
)
@pytest.mark.parametrize("position", [0, DATA - 8, DATA - 24])
def test_what_counts(records: bytes, seen: int, position: int) -> None:
    """Wherever in the ring it is, and once."""
    events = events_of(records, position)
    assert events.drain() == seen
    assert events.drain() == seen


def test_a_program_is_about_to_go_until_another_has_its_place() -> None:
    assert events_of(ksymbol(0)).leaving == set()
    events = events_of(ksymbol(0) + ksymbol(1))
    events.drain()
    assert events.leaving == {NEWS}
    events = events_of(ksymbol(1) + ksymbol(0))
    events.drain()
    assert events.leaving == set()
