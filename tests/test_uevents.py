"""What counts as a module's coming or going, by messages that the kernel sends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uevents
from ksyms._linker.uevents import ModuleEvents

MESSAGES = {
    b"add@/module/dummy\0ACTION=add\0": {"module dummy": 1},
    b"remove@/module/dummy\0ACTION=remove\0": {"module dummy": 1},
    b"add@/module/nf_tables\0": {"module nf_tables": 1},
    b"add@/module/x\0": {"module x": 1},
    b"change@/module/dummy\0": {},
    b"bind@/module/dummy\0": {},
    b"add@/modules/dummy\0": {},
    b"add@/module\0dummy\0": {},
    b"add@/devices/virtual/net/module/add@/module/dummy\0": {},
    b"add@/devices/module/dummy\0": {},
    b"remove@/devices/virtual/net/lo\0": {},
    b"Remove@/module/dummy\0": {},
    b"add": {},
    b"remove@/modu\0": {},
    b"libudev\0\xfe\xed\xca\xfe": {},
}


@pytest.fixture
def events() -> Iterator[ModuleEvents]:
    events = ModuleEvents()
    yield events
    events.close()


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_which_messages_count(message: bytes, events: ModuleEvents) -> None:
    ears = uevents.hearing()
    uevents.broadcast(message)
    assert any(told.startswith(message.partition(b"\0")[0]) for told in uevents.heard(ears))
    assert events.drain() == MESSAGES[message]
    ears.close()


def test_events_add_up(events: ModuleEvents) -> None:
    for action in ("add", "remove"):
        uevents.broadcast(f"{action}@/module/dummy\0".encode())
    before = events.drain()
    assert before == {"module dummy": 2}
    uevents.broadcast(b"add@/module/dummy\0")
    assert events.drain() == {"module dummy": 3}
    assert before == {"module dummy": 2}


def test_devices_that_come_are_not_modules(events: ModuleEvents) -> None:
    """The kernel's own events, of a device and of a network namespace's lo."""
    ears = uevents.hearing()
    uevents.NULL.write_text("add")
    subprocess.run(["unshare", "--net", "true"], check=True)
    assert b"add@/devices/virtual/mem/null" in uevents.heard(ears)
    assert events.drain() == {}
    ears.close()


def test_what_another_process_sends_does_not_count(events: ModuleEvents) -> None:
    """Root may send to the group too; the kernel has port 0, and nobody else."""
    ears = uevents.hearing()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uevents.PROTOCOL) as forger:
        forger.sendto(b"add@/module/forged\0", (0, 1))
    assert b"add@/module/forged" in uevents.heard(ears)
    assert events.drain() == {}
    ears.close()


def test_others_events_leave_no_less_room(events: ModuleEvents) -> None:
    """However many there are."""
    for _ in range(2000):
        uevents.broadcast(b"change@/devices/virtual/mem/null\0" + bytes(500))
    uevents.broadcast(b"add@/module/dummy\0")
    assert events.drain() == {"module dummy": 1}


def test_more_than_there_is_room_for(events: ModuleEvents) -> None:
    """What the kernel had to drop counts, once in a go."""
    for _ in range(3000):
        uevents.broadcast(b"add@/module/dummy\0")
    seen = events.drain()
    assert seen["a module"] == 1
    assert 0 < seen["module dummy"] < 3000
    assert events.drain() == seen
    uevents.broadcast(b"add@/module/dummy\0")
    assert events.drain() == {**seen, "module dummy": seen["module dummy"] + 1}


# -- network namespaces ----------------------------------------------------------------------

LISTENS = """\
import sys
import uevents
from ksyms._linker.generation import Watch
from ksyms._linker.root import Root
watch = Watch(Root("/"))
before, ears = watch.generation(), uevents.hearing()
print(flush=True)
sys.stdin.readline()
print("NETLINK_KOBJECT_UEVENT" in watch.root.absent)
print(bool(uevents.heard(ears)))
print(*before.moved(watch.generation()), sep=", ")
"""


@pytest.mark.parametrize(
    ("place", "told"),
    [("", True), ("unshare --net", True), ("unshare --map-root-user --net", False)],
    ids=["here", "another", "a user's own"],
)
def test_where_the_kernel_tells(place: str, told: bool) -> None:
    """Where a device's event is heard the modules' are; elsewhere every event counts."""
    with subprocess.Popen(
        [*place.split(), sys.executable, "-c", LISTENS],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as listener:
        assert listener.stdout
        listener.stdout.readline()
        uevents.NULL.write_text("change")
        absent, heard, moved = listener.communicate("\n")[0].splitlines()
    assert (absent, heard) == (str(not told), str(told))
    assert moved == "" if told else moved.startswith("a device or a module came ")
