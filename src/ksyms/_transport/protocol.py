"""The kernel's FUSE protocol, as /dev/fuse and /dev/cuse speak it.

Source: include/uapi/linux/fuse.h, protocol 7.31 to 7.45. Its structures are aligned to 64 bits
in every ABI. One thread reads requests; any thread may reply.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

Buffer = bytes | bytearray | memoryview

VERSION: Final = 7
MINOR: Final = 40
"""The newest minor version that this code uses: 7.40 brought passthrough (Linux 6.9)."""
OLDEST_MINOR: Final = 31

LOOKUP: Final = 1
FORGET: Final = 2
GETATTR: Final = 3
SETATTR: Final = 4
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
STATFS: Final = 17
RELEASE: Final = 18
INIT: Final = 26
READDIR: Final = 28
INTERRUPT: Final = 36
DESTROY: Final = 38
IOCTL: Final = 39
BATCH_FORGET: Final = 42

NAMES: Final = {
    LOOKUP: "LOOKUP",
    FORGET: "FORGET",
    GETATTR: "GETATTR",
    OPEN: "OPEN",
    READ: "READ",
    RELEASE: "RELEASE",
    READDIR: "READDIR",
    IOCTL: "IOCTL",
    BATCH_FORGET: "BATCH_FORGET",
}
"""The names of opcodes in the log of calls; other opcodes are logged as numbers."""
CHANGES: Final = (SETATTR, *range(6, 14), WRITE, 21, 24, 35, 43, 45)
"""Opcodes that change a file or directory.

6 to 13 are SYMLINK to LINK; then come SETXATTR, REMOVEXATTR, CREATE, FALLOCATE and RENAME2.
"""
NO_REPLY: Final = frozenset({FORGET, BATCH_FORGET, INTERRUPT})
"""Opcodes to which the kernel expects no reply."""

ROOT_NODE: Final = 1

# INIT's flags. Bits 32 to 63 are sent in the field flags2.
ASYNC_READ: Final = 1 << 0
BIG_WRITES: Final = 1 << 5
PARALLEL_DIROPS: Final = 1 << 18
MAX_PAGES: Final = 1 << 22
NO_OPENDIR_SUPPORT: Final = 1 << 24
INIT_EXT: Final = 1 << 30
PASSTHROUGH: Final = 1 << 37

FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_NOFLUSH: Final = 1 << 5
FOPEN_PASSTHROUGH: Final = 1 << 7

IN_HEADER: Final = struct.Struct("=IIQQIIIHH")
OUT_HEADER: Final = struct.Struct("=IiQ")
INIT_IN: Final = struct.Struct("=IIII")
INIT_OUT: Final = struct.Struct("=IIIIHHIIHHII24x")
ENTRY_OUT: Final = struct.Struct("=QQQQII")
ATTR_OUT: Final = struct.Struct("=QII")
ATTR: Final = struct.Struct("=QQQQQQIIIIIIIIII")
OPEN_IN: Final = struct.Struct("=II")
OPEN_OUT: Final = struct.Struct("=QIi")
READ_IN: Final = struct.Struct("=QQII")
RELEASE_IN: Final = struct.Struct("=QIIQ")
FORGET_IN: Final = struct.Struct("=Q")
BATCH_FORGET_IN: Final = struct.Struct("=II")
FORGET_ONE: Final = struct.Struct("=QQ")
IOCTL_IN: Final = struct.Struct("=QIIQII")
IOCTL_OUT: Final = struct.Struct("=iIII")
STATFS_OUT: Final = struct.Struct("=QQQQQIII28x")
DIRENT: Final = struct.Struct("=QQII")

MAX_READ: Final = 1 << 20
BUFFER: Final = MAX_READ + (1 << 16)
"""Bytes of the buffer that requests are read into; no request is larger."""


class Request(NamedTuple):
    """A request: fields of its header, and the ``body`` after the header.

    ``unique`` is the request's number, which its reply repeats. ``pid`` is the calling thread's
    id in this process's pid namespace; 0 if it has none there.
    """

    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    body: bytes


class Attributes(NamedTuple):
    """The attributes of a node, as stat() shows them.

    ``size`` is in bytes, ``time`` in nanoseconds since 1970. The file was accessed, modified
    and changed at that time.
    """

    node: int
    mode: int
    size: int = 0
    links: int = 1
    owner: int = 0
    group: int = 0
    time: int = 0

    def pack(self) -> bytes:
        """Return the attributes as a ``struct fuse_attr``."""
        seconds, rest = divmod(self.time, 10**9)
        # ino, size, blocks; three times; mode, nlink, uid, gid; rdev, blksize, flags
        return ATTR.pack(
            self.node,
            self.size,
            (self.size + 511) // 512,
            *(seconds, seconds, seconds, rest, rest, rest),
            *(self.mode, self.links, self.owner, self.group),
            *(0, 4096, 0),
        )


class Channel:
    """A connection to the kernel on the descriptor ``fd``: requests in, replies out."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray(BUFFER)

    def receive(self) -> Request | None:
        """Return the next request; None if the connection has ended.

        Raises:
            OSError: a request cannot be read for another reason.
        """
        while True:
            try:
                length = os.readv(self.fd, [self._buffer])
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return None
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue  # ENOENT: the request was interrupted before it was read
                raise
            if length < IN_HEADER.size:
                return None

            header = IN_HEADER.unpack_from(self._buffer)
            _, opcode, unique, node, uid, gid, pid, _, _ = header
            body = bytes(memoryview(self._buffer)[IN_HEADER.size : length])
            return Request(opcode, unique, node, uid, gid, pid, body)

    def reply(self, request: Request, *parts: Buffer) -> bool:
        """Send ``parts``, joined, as the answer.

        Return False if the kernel takes no answer any more.

        Raises:
            MemoryError: this process or the kernel has no memory; nothing was sent.
        """
        length = OUT_HEADER.size + sum(memoryview(part).nbytes for part in parts)
        return self._send([OUT_HEADER.pack(length, 0, request.unique), *parts])

    def fail(self, request: Request, number: int) -> bool:
        """Send an errno as the answer; return as :meth:`reply` does.

        Raises:
            MemoryError: as of :meth:`reply`.
        """
        return self._send([OUT_HEADER.pack(OUT_HEADER.size, -number, request.unique)])

    def _send(self, parts: Sequence[Buffer]) -> bool:
        """Write a reply; return False if the kernel takes none any more."""
        try:
            os.writev(self.fd, parts)
        except OSError as error:
            # ENOENT: the request was interrupted. ENODEV: the directory was unmounted.
            # EBADF: this thread waited for a caller's memory, and the server has closed the
            # connection meanwhile.
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EBADF):
                return False
            if error.errno == errno.ENOMEM:
                raise MemoryError from None
            raise
        return True


def negotiated(body: bytes, wanted: int) -> tuple[int, bytes] | None:
    """Return those flags of ``wanted`` that the kernel offers, and the body of INIT's answer.

    ``body`` is INIT's. Return None if the kernel's protocol is older than 7.31 (Linux 5.4).
    """
    major, minor, readahead, low = INIT_IN.unpack_from(body)
    if major != VERSION or minor < OLDEST_MINOR:
        return None
    high = struct.unpack_from("=I", body, INIT_IN.size)[0] if low & INIT_EXT else 0
    flags = wanted & (low | high << 32)
    # struct fuse_init_out: major, minor, max_readahead, flags; then max_background,
    # congestion_threshold, max_write, time_gran, max_pages, map_alignment; then flags2,
    # max_stack_depth.
    answer = INIT_OUT.pack(
        *(VERSION, min(minor, MINOR), readahead, flags & 0xFFFFFFFF),
        *(64, 48, 4096, 1, MAX_READ // 4096, 0),
        *(flags >> 32, 1 if flags & PASSTHROUGH else 0),
    )
    return flags, answer


def directory(entries: Sequence[tuple[int, str, int]], offset: int, size: int) -> bytes:
    """Return READDIR's answer: the entries from ``offset`` on that fit into ``size`` bytes.

    An entry has a node number, a name and a type (DT_*). ``offset`` is a number of entries.
    """
    out = b""
    for following, (node, name, kind) in enumerate(entries[offset:], offset + 1):
        raw = name.encode()
        entry = DIRENT.pack(node, following, len(raw), kind) + raw
        entry += bytes(-len(entry) % 8)
        if len(out) + len(entry) > size:
            break
        out += entry
    return out
