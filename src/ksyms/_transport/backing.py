"""A snapshot's bytes in a sealed memory file, which the kernel can read without the server.

Since Linux kernel commit 44350256ab94 ("fuse: implement ioctls to manage backing files") (in
v6.9) the kernel can serve reads and mappings of a FUSE file from a backing file
(FUSE_PASSTHROUGH). To register a backing file takes CAP_SYS_ADMIN.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from contextlib import suppress
from typing import Final

# FUSE_DEV_IOC_BACKING_OPEN and _CLOSE: _IOW(229, 1, struct fuse_backing_map), _IOW(229, 2, u32)
_BACKING_OPEN: Final = 0x4010E501
_BACKING_CLOSE: Final = 0x4004E502
_MAP: Final = struct.Struct("=iIQ")
"""``struct fuse_backing_map``: the file's descriptor, flags and padding, both 0."""
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Backing:
    """A copy of ``content`` in a sealed memory file, which nobody can change any more.

    ``image`` is a view of the file, and ``size`` its length in bytes. The file is closed when
    the last reference to this object goes. Views of it stay valid.
    """

    def __init__(self, content: memoryview) -> None:
        self._registered: tuple[int, int] | None = None
        """The descriptor of the connection, and the kernel's number for the file there."""
        self._fd = os.memfd_create("ksyms", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        written = 0
        while written < len(content):
            written += os.write(self._fd, content[written:])
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        self.size = len(content)
        self.image = memoryview(b"")
        if content:
            self.image = memoryview(mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ))

    def register(self, channel: int) -> int:
        """Return the kernel's number (backing_id) for the file, to be used in OPEN's answer.

        ``channel`` is the descriptor of the connection to /dev/fuse. The file is registered
        by the first call.

        Raises:
            OSError: the kernel does not accept the file: EPERM without CAP_SYS_ADMIN.
        """
        if self._registered is None:
            # fcntl.ioctl() returns the call's result only if the argument is a bytearray;
            # for bytes it returns the argument's bytes.
            request = bytearray(_MAP.pack(self._fd, 0, 0))
            self._registered = channel, fcntl.ioctl(channel, _BACKING_OPEN, request)
        return self._registered[1]

    def __del__(self) -> None:
        if self._registered is not None:
            channel, number = self._registered
            with suppress(OSError):  # the connection has ended: the kernel closed the file
                fcntl.ioctl(channel, _BACKING_CLOSE, struct.pack("=I", number))
        os.close(self._fd)
