"""What /proc tells of the process that makes a call."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from .._device import Process

_TGID: Final = re.compile(rb"^Tgid:\s*(\d+)", re.M)
_START: Final = 19
"""Where ``starttime`` is among the fields of /proc/PID/stat after the name (proc(5): 22)."""


def status_of(task: int) -> bytes:
    """What /proc says of the thread ``task``; nothing where it has gone."""
    return _read(f"/proc/{task}/status")


def process_of(status: bytes) -> Process | None:
    """The process of the thread that ``status`` is of; None where it has gone."""
    match = _TGID.search(status)
    if match is None:
        return None
    pid = int(match[1])
    # The name, in brackets, can have brackets and blanks in it.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return Process(pid, int(fields[_START])) if len(fields) > _START else None


class Memory(NamedTuple):
    """The memory of the process with thread ``task``, and which file's mapping counts.

    A file is told by its device (``major:minor`` in hexadecimal, as maps prints it) and its
    inode: its path can be any, and "(deleted)".
    """

    task: int
    device: bytes
    inode: int

    def mapped_at(self) -> int | None:
        """Where it has the file mapped from its first byte; None where it has not."""
        for line in _read(f"/proc/{self.task}/maps").splitlines():
            place, _, offset, device, inode = line.split(None, 5)[:5]
            if inode == b"%d" % self.inode and device == self.device and not int(offset, 16):
                return int(place.partition(b"-")[0], 16)
        return None

    def string_at(self, address: int, longest: int) -> bytes | None:
        """The string at ``address``, without its NUL; None where that cannot be read."""
        found = b""
        try:
            with open(f"/proc/{self.task}/mem", "rb", buffering=0) as memory:
                while len(found) < longest:
                    # Up to the end of a page: the next one may not be there.
                    at = address + len(found)
                    memory.seek(at)
                    part = memory.read(min(longest - len(found), -at % 4096 or 4096))
                    text, end, _ = part.partition(b"\0")
                    found += text
                    if end or not part:
                        return found if end else None
        except (OSError, ValueError, OverflowError):
            return None
        return found


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # it went meanwhile
        return b""
    finally:
        os.close(fd)
