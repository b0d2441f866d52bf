"""The process that reads callers' memory for a server, and has no other descriptor of it.

It is run by its path (:mod:`.memory`), and so imports nothing of ksyms. Its stdin is a socket
of messages: each request is one, and each answer. The page that it waits for may never arrive;
the server then goes on, and may end, without it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
from typing import Final

_SOCKET: Final = 0
_LONGEST: Final = 4096


def main() -> None:
    """Answer requests until the server closes its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # for the server, which ends this process
    fcntl.fcntl(_SOCKET, fcntl.F_SETOWN, os.getpid())
    os.write(_SOCKET, b"ready")
    while request := os.read(_SOCKET, _LONGEST):
        if not _ends_with_server(True):
            return
        answer = _answer(*request.split(b"\0"))
        _ends_with_server(False)
        os.write(_SOCKET, answer)


def _ends_with_server(ends: bool) -> bool:
    """Have SIGIO kill this process when the server ends, or no longer.

    Returns False if the server has ended already. Without this, a process that waits for a
    page would go on waiting after the server's end. It must be on only during the work: any
    message on the socket sends SIGIO too.
    """
    flags = fcntl.fcntl(_SOCKET, fcntl.F_GETFL)
    flags = flags | os.O_ASYNC if ends else flags & ~os.O_ASYNC
    fcntl.fcntl(_SOCKET, fcntl.F_SETFL, flags)
    ended = select.poll()
    ended.register(_SOCKET, 0)
    return not ended.poll(0)


def _answer(call: bytes, task: bytes, *others: bytes) -> bytes:
    """Return ``+`` and the bytes found, ``-`` if there are none, or ``!`` and an errno."""
    try:
        if call == b"string":
            address, longest = map(int, others)
            found = _string_at(int(task), address, longest)
        else:
            device, inode, size = others
            found = _mapped_at(int(task), device, inode, int(size))
    except OSError as error:
        return b"!%d" % (error.errno or 0)
    return b"-" if found is None else b"+" + found


def _mapped_at(task: int, device: bytes, inode: bytes, size: int) -> bytes | None:
    """Return the address of ``task``'s mapping of a file from offset 0, in decimal digits.

    None if it has no such mapping of at least ``size`` bytes.
    """
    with open(f"/proc/{task}/maps", "rb") as file:
        for line in file:
            addresses, _, offset, its_device, its_inode = line.split(None, 5)[:5]
            if its_inode != inode or its_device != device or int(offset, 16):
                continue
            start, end = (int(word, 16) for word in addresses.split(b"-"))
            if end - start >= size:
                return b"%d" % start
    return None


def _string_at(task: int, address: int, longest: int) -> bytes | None:
    """Return the string at ``address`` without its NUL; None if it cannot be read.

    If no NUL is found within ``longest`` bytes, those bytes are returned.
    """
    found = b""
    while len(found) < longest:
        # Read up to the end of a page: the next page may not be mapped.
        at = address + len(found)
        part = _copied(task, at, min(longest - len(found), -at % 4096 or 4096))
        text, end, _ = part.partition(b"\0")
        found += text
        if end or not part:
            return found if end else None
    return found


class _Iovec(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _copied(task: int, address: int, length: int) -> bytes:
    """Return ``length`` bytes of the memory of thread ``task``; b"" if they cannot be read.

    It uses process_vm_readv(), because a read of /proc/PID/mem that waits for a page of a dead
    file system cannot be killed (seen on 6.18, in filemap_fault). Nor can process_vm_readv()
    be killed if that file system was mounted without FUSE_ASYNC_READ.
    """
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(length)
    ours = _Iovec(ctypes.addressof(buffer), length)
    theirs = _Iovec(address, length)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    got = libc.process_vm_readv(task, ctypes.byref(ours), one, ctypes.byref(theirs), one, none)
    return buffer.raw[: max(got, 0)]


if __name__ == "__main__":
    main()
