"""Who is let in by the number that the kernel gives of a caller, which another can have later.

Requests are put to the served directory as the kernel puts them; the callers are processes of
this machine.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ksyms._device import Device, Event, Policy
from ksyms._transport import Backing, Channel, Directory, Gate, Readers, Request, protocol
from started import start_as

ROOT_NODE = 1
SLEEP = ("sleep", "1000")


def request(opcode: int, task: int, node: int, body: bytes) -> Request:
    return Request(opcode, unique=1, node=node, uid=0, gid=0, pid=task, body=body)


class Snapshots:
    """Where snapshots come from: each of ``moments`` until :meth:`move` is called."""

    def __init__(self, *moments: bytes) -> None:
        self._backings = [Backing(memoryview(moment)) for moment in moments]

    def move(self) -> None:
        self._backings.pop(0)

    def current(self) -> Backing:
        return self._backings[0]

    get = current


class Kernel:
    """The kernel's side of a directory: what a thread's open(2) of ``vmlinux`` asks."""

    def __init__(self, snapshots: Snapshots, gate: Gate) -> None:
        device = Device(Policy(opens_per_process=None))
        device.modevent(Event.LOAD)
        channel = Channel(-1)  # which is asked for passthrough alone
        directory = Directory(
            *(channel, b"00:2a", {"vmlinux": device}, snapshots, gate, Readers()),
            *(lambda: {}, lambda words: None),
        )
        self._handlers = directory.handlers()

    def look_up(self, task: int) -> int:
        """LOOKUP; the node's number."""
        answer = self._handlers[protocol.LOOKUP](
            request(protocol.LOOKUP, task, ROOT_NODE, b"vmlinux\0"), True
        )
        number: int = struct.unpack_from("=Q", bytes(answer.parts[0]))[0]
        return number

    def open(self, task: int, node: int) -> bytes:
        """OPEN, and all that a READ of it gives."""
        body = struct.pack("=II", os.O_RDONLY, 0)
        answer = self._handlers[protocol.OPEN](request(protocol.OPEN, task, node, body), True)
        (handle,) = struct.unpack_from("=Q", bytes(answer.parts[0]))
        body = struct.pack("=QQIIQII", handle, 0, 4096, 0, 0, 0, 0)
        answer = self._handlers[protocol.READ](request(protocol.READ, task, node, body), True)
        return bytes(answer.parts[0])

    def sent_back(self, task: int, node: int) -> None:
        """OPEN, which is answered ESTALE."""
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)) as caught:
            self.open(task, node)
        assert caught.value.errno == errno.ESTALE


@pytest.fixture
def everybody() -> Gate:
    return Gate(lambda task, status: True, lambda words: None)


@pytest.fixture
def opener() -> Iterator[int]:
    """A process that another one gets the number of, with :func:`replaced`."""
    with subprocess.Popen(SLEEP) as process:
        yield process.pid
        process.kill()


def replaced(number: int) -> None:
    """End that process, and begin another one of its number.

    Not in the same tick: /proc has no other start of two that begin in one.
    """
    started = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19])
    os.kill(number, 9)
    os.waitpid(number, 0)
    while int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) <= started:
        time.sleep(0.001)
    start_as(number, SLEEP)


def sent_back(gate: Gate, opener: int) -> tuple[Snapshots, Kernel, int]:
    """Three moments, of which the first has gone, and the node that the opener found of it."""
    snapshots = Snapshots(b"first", b"second", b"third")
    kernel = Kernel(snapshots, gate)
    node = kernel.look_up(opener)
    snapshots.move()
    kernel.sent_back(opener, node)
    return snapshots, kernel, node


@contextmanager
def ended(opener: int) -> Iterator[None]:
    """End what has the opener's number by now."""
    try:
        yield
    finally:
        os.kill(opener, 9)
        os.waitpid(opener, 0)


def test_an_opener_that_was_sent_back_is_given_what_it_finds(
    everybody: Gate, opener: int
) -> None:
    """Also where all has moved again since it found it: that was within its open()."""
    snapshots, kernel, node = sent_back(everybody, opener)
    found = kernel.look_up(opener)
    assert found != node
    snapshots.move()
    assert kernel.open(opener, found) == b"second"
    kernel.sent_back(opener, found)  # the next open() is another matter


def test_a_process_with_the_number_of_one_that_was_sent_back(
    everybody: Gate, opener: int
) -> None:
    """It is given no snapshot of a moment before its open."""
    snapshots, kernel, node = sent_back(everybody, opener)
    with ended(opener):
        replaced(opener)
        snapshots.move()
        kernel.sent_back(opener, node)
        assert kernel.open(opener, kernel.look_up(opener)) == b"third"


def test_a_process_with_the_number_of_one_that_looked_again(
    everybody: Gate, opener: int
) -> None:
    """What the other found for its open is not what this one finds."""
    snapshots, kernel, node = sent_back(everybody, opener)
    second = kernel.look_up(opener)
    with ended(opener):
        replaced(opener)
        snapshots.move()
        third = kernel.look_up(opener)
        assert third not in (node, second)
        assert kernel.open(opener, third) == b"third"


def kernel_threads() -> list[int]:
    """The kernel's threads, by PF_KTHREAD of /proc/PID/stat: none in a container."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[6]) & 0x200000:  # include/linux/sched.h
            found.append(int(status.parent.name))
    return found


def test_a_thread_of_the_kernels(everybody: Gate) -> None:
    """It opens for somebody else, whose rights /proc does not show of it."""
    threads = kernel_threads()
    if not threads:
        # A container shows none of them, and no program can begin one.
        pytest.skip("no thread of the kernel's is in this pid namespace")
    for task in threads[:4]:
        assert everybody.process_that_may_see(task) is None
        with pytest.raises(OSError, match=os.strerror(errno.EACCES)):
            everybody.authorize(request(protocol.OPEN, task, 5, b""), closing=False)
    own = everybody.authorize(request(protocol.OPEN, os.getpid(), 5, b""), closing=False)
    assert own.pid == os.getpid()


@pytest.mark.parametrize(
    ("task", "uid", "gid", "number"),
    [
        (0, 0, 0, errno.EACCES),  # of a pid namespace that is not seen into
        (1 << 30, 0, 0, errno.EACCES),  # no such thread: it has gone
        (os.getpid(), 65534, 0, errno.EACCES),  # rights that are not the ones /proc shows
        (os.getpid(), 0, 65534, errno.EACCES),
    ],
)
def test_who_cannot_be_told(
    everybody: Gate, task: int, uid: int, gid: int, number: int
) -> None:
    asked = request(protocol.OPEN, task, 5, b"")._replace(uid=uid, gid=gid)
    with pytest.raises(OSError, match=os.strerror(number)):
        everybody.authorize(asked, closing=False)
