"""A file system with a file whose pages never arrive, and the processes that wait for them."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ksyms._transport import protocol
from ksyms._transport.protocol import Attributes, Channel

_FILE = Attributes(2, stat.S_IFREG | 0o444, 64 * 4096)
_ROOT = Attributes(protocol.ROOT_NODE, stat.S_IFDIR | 0o755)


@contextmanager
def unanswered(place: Path) -> Iterator[Path]:
    """Mount the file system at ``place``; yield the path of its file, which anybody may map.

    It is mounted without FUSE_ASYNC_READ. So a process that waits for a page of the file cannot
    be killed (fs/fuse/dev.c, request_wait_answer). At the end of this context it gets an error.
    """
    place.mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    assert ctypes.CDLL(None).mount(b"none", bytes(place), b"fuse.never", 0, options) == 0
    thread = threading.Thread(target=_answer, args=(Channel(fd),))
    thread.start()
    try:
        yield place / "file"
    finally:
        subprocess.run(["umount", "-f", place], stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "-l", place], stderr=subprocess.DEVNULL)
        thread.join()
        os.close(fd)


def _answer(channel: Channel) -> None:
    """Answer all requests but READ."""
    while (request := channel.receive()) is not None:
        if request.opcode == protocol.INIT:
            agreed = protocol.negotiated(request.body, 0)
            assert agreed
            channel.reply(request, agreed[1])
        elif request.opcode == protocol.LOOKUP:
            channel.reply(request, protocol.ENTRY_OUT.pack(2, 0, 60, 60, 0, 0), _FILE.pack())
        elif request.opcode == protocol.GETATTR:
            node = _ROOT if request.node == protocol.ROOT_NODE else _FILE
            channel.reply(request, protocol.ATTR_OUT.pack(60, 0, 0), node.pack())
        elif request.opcode == protocol.OPEN:
            # Else a second open would drop the file's pages, and wait for them before.
            keep = protocol.FOPEN_KEEP_CACHE
            channel.reply(request, protocol.OPEN_OUT.pack(1, keep, 0))
        elif request.opcode == protocol.RELEASE:
            channel.reply(request)
        elif request.opcode not in (protocol.READ, *protocol.NO_REPLY):
            channel.fail(request, 38)  # ENOSYS


def readers(server: int) -> list[int]:
    """Return the pids of the processes that a server has started."""
    tasks = Path(f"/proc/{server}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def waiting(server: int) -> int:
    """Return how many of them wait for the answer of a FUSE file system."""
    return sum("request_wait" in waits(reader) for reader in readers(server))


def waits(pid: int) -> str:
    """Return the kernel's functions in which a process waits; "" if it has exited."""
    try:
        return Path(f"/proc/{pid}/stack").read_text()
    except OSError:
        return ""
