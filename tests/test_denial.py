"""What somebody without rights, or a machine without room, can take from who uses ksyms."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ksyms
from callers import NOBODY
from ksyms._linker.generation import Generation, inodes
from served import wait_for

SEQNUM = Path("/sys/kernel/uevent_seqnum")
UEVENTS = """\
import ctypes, time
libc = ctypes.CDLL(None)
assert libc.unshare(0x10000000) == 0  # CLONE_NEWUSER
while libc.unshare(0x40000000) == 0:  # CLONE_NEWNET, whose lo makes events
    time.sleep(0.0005)
"""
"""What anybody can do without rights."""


def seqnum() -> int:
    return int(SEQNUM.read_text())


@contextmanager
def uevents() -> Iterator[None]:
    """While nobody makes uevents, as fast as that goes."""
    begun = seqnum()
    with subprocess.Popen([*NOBODY, sys.executable, "-c", UEVENTS]) as attacker:
        try:
            wait_for(lambda: seqnum() > begun + 20)
            yield
            assert attacker.poll() is None
        finally:
            attacker.kill()


def test_uevents_that_are_no_modules_refuse_no_snapshot() -> None:
    with uevents():
        for _ in range(20):
            before = seqnum()
            ksyms.snapshot()
            assert seqnum() > before, "this snapshot was not attacked"


@pytest.fixture
def kernfs() -> Iterator[Path]:
    """A place where a test may make directories that are as sysfs': a control group's."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    place = next(Path(where) for _, where, kind, *_ in mounts if kind in ("cgroup", "cgroup2"))
    directory = place / "ksyms-test"
    directory.mkdir()
    yield directory
    for below in directory.iterdir():
        if below.is_dir():
            below.rmdir()
    directory.rmdir()


def line(state: str) -> bytes:
    """/proc/modules of one module."""
    return b"mod 16384 0 - %s 0xffffffffc0000000\n" % state.encode()


def test_a_module_that_was_loaded_again_is_another_instance(kernfs: Path) -> None:
    """At the address where it was, and though the number of events were the same."""
    place = kernfs / "mod"
    place.mkdir()
    before = Generation(line("Live"), b"7", 0, inodes(str(kernfs)))
    assert inodes(str(kernfs))["mod"] == place.stat().st_ino
    assert before.moved(Generation(line("Live"), b"9", 0, inodes(str(kernfs)))) == []
    place.rmdir()
    gone = Generation(line("Live"), b"7", 0, inodes(str(kernfs)))
    place.mkdir()
    again = Generation(line("Live"), b"7", 0, inodes(str(kernfs)))
    for earlier, later in ((before, again), (before, gone), (gone, again)):
        assert earlier.moved(later) == ["module mod came or went"]


def test_an_event_counts_where_no_inode_tells() -> None:
    """While a module is being unloaded, and where there is no sysfs."""
    told = ["a device or module event came (7 to 8)"]
    for state, instances in (("Unloading", {"mod": 1}), ("Loading", {}), ("Live", None)):
        before = Generation(line(state), b"7", 0, instances)
        assert before.moved(before._replace(events=b"8")) == told
