"""The process that reads callers' memory for a server.

It is run by its path (:mod:`.memory`), and so imports nothing of ksyms. Its stdin is a socket
to the server, and the only descriptor that it has of the server. Each request and each answer
is one message. In these requests a blank stands for a NUL byte::

    string 1234 94003 1024     +schedule    the string at an address of thread 1234
    map 1234 00:2f 7 4096      +139872      the address at which it has mapped a file
                               -            nothing was found
                               !14          an error: EFAULT

If a page that it waits for never arrives, the server goes on without it, and may even end.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
from typing import Final

_SOCKET: Final = 0
_LONGEST: Final = 4096  # bytes of a request


def main() -> None:
    """Answer requests until the server closes its end of the socket."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the server gets it too, and ends this process
    fcntl.fcntl(_SOCKET, fcntl.F_SETOWN, os.getpid())
    os.write(_SOCKET, b"ready")
    while request := os.read(_SOCKET, _LONGEST):
        if not _ends_with_server(True):
            return
        answer = _answer(*request.split(b"\0"))
        _ends_with_server(False)
        os.write(_SOCKET, answer)


def _ends_with_server(ends: bool) -> bool:
    """Turn on that SIGIO kills this process when the server ends; turn it off if not ``ends``.

    Return False if the server has ended already. Without this, a process that waits for a
    page would go on waiting after the server's end. It must be on only while a request is
    answered: any message on the socket sends SIGIO too.
    """
    flags = fcntl.fcntl(_SOCKET, fcntl.F_GETFL)
    flags = flags | os.O_ASYNC if ends else flags & ~os.O_ASYNC
    fcntl.fcntl(_SOCKET, fcntl.F_SETFL, flags)
    ended = select.poll()
    ended.register(_SOCKET, 0)
    return not ended.poll(0)


def _answer(call: bytes, task: bytes, *others: bytes) -> bytes:
    """Return ``+`` and the bytes found, ``-`` if nothing was found, or ``!`` and an errno."""
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
    """Return the address at which ``task`` has mapped a file from offset 0, in decimal digits.

    Return None if it has no such mapping of at least ``size`` bytes.
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

    If there is no NUL within ``longest`` bytes, return those bytes.
    """
    found = b""
    while len(found) < longest:
        # Read no further than to the end of the page: the next page may not be mapped.
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

    It uses process_vm_readv(). A read of /proc/PID/mem that waits for a page of a dead file
    system cannot be killed (observed on 6.18, in filemap_fault). process_vm_readv() can be,
    unless that file system was mounted without FUSE_ASYNC_READ.
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
