"""The device as a true character device, through /dev/cuse and FUSE's protocol.

CUSE differs from FUSE (fs/fuse/cuse.c): every read arrives with offset 0 whatever the file
position is, lseek() has no effect, and mmap() is not supported. So this file keeps the
position of each handle.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from .._device import Device, asks_caller
from .._errors import ServeError, os_error, reason
from . import protocol
from .callers import Gate
from .directory import Snapshots
from .memory import Memory, Readers, lane
from .operations import Answer, Handler, Operations, WaitError
from .protocol import Request

PATH: Final = "/dev/cuse"
_INIT: Final = 4096  # CUSE_INIT
_INIT_IN: Final = struct.Struct("=IIII")
_INIT_OUT: Final = struct.Struct("=IIIIIIII40x")
_MINOR_OF_ANY: Final = 0  # dev_minor; with dev_major 0 the kernel chooses the device number


class _ReadPosition(NamedTuple):
    """A handle's position in the snapshot: where its last read() call began and ended.

    The kernel splits a long read() into several requests, whose offsets count from the first
    byte of the call. A read() at position p that becomes three requests of n bytes:

        offset in the request     0    n        2n
        offset in the snapshot    p    p + n    p + 2n
    """

    begin: int
    end: int


def connect(name: str) -> int:
    """Open /dev/cuse for a device called ``name``; return the descriptor.

    Raises:
        ServeError: /dev/cuse does not exist or may not be opened, or /dev/NAME exists.
    """
    if os.path.lexists(f"/dev/{name}"):
        raise ServeError(
            f"/dev/{name} is there already.",
            "Choose another with --name, or end what serves it.",
            errno=errno.EEXIST,
        )
    try:
        return os.open(PATH, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ServeError(
            f"{PATH} cannot be opened: {reason(error)}.",
            "Load the module as root (modprobe cuse); or serve a directory, which needs none.",
            errno=error.errno,
        ) from None


class CharacterDevice(Operations):
    """The operations of the character device ``/dev/NAME``.

    Args:
        name: the device's name.
        device: the device, with its open handles.
        snapshots: the source of the snapshot for each open.
        gate: the check whether a caller may open the device.
        readers: the processes that read callers' memory.
        ready: called once the kernel has the reply that creates the device.
    """

    def __init__(
        self,
        name: str,
        device: Device,
        snapshots: Snapshots,
        gate: Gate,
        readers: Readers,
        ready: Callable[[], None],
    ) -> None:
        self._name = name
        self._device = device
        self._snapshots = snapshots
        self._gate = gate
        self._readers = readers
        self._ready = ready
        self._lock = threading.Lock()
        self._positions: dict[int, _ReadPosition] = {}

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers; see :class:`Operations`."""
        return {
            _INIT: self._init,
            protocol.OPEN: self._open,
            protocol.READ: self._read,
            protocol.WRITE: self._refuse,
            protocol.IOCTL: self._ioctl,
            protocol.RELEASE: self._release,
        }

    def _init(self, request: Request, wait: bool) -> Answer:
        major, minor, _, _ = _INIT_IN.unpack_from(request.body)
        if major != protocol.VERSION or minor < protocol.OLDEST_MINOR:
            raise os_error(errno.EPROTO)
        # struct cuse_init_out: major, minor, unused, flags; then max_read, max_write,
        # dev_major, dev_minor.
        answer = _INIT_OUT.pack(
            *(protocol.VERSION, min(minor, protocol.MINOR), 0, 0),
            *(protocol.MAX_READ, 4096, 0, _MINOR_OF_ANY),
        )
        return Answer((answer, f"DEVNAME={self._name}\0".encode()), after=self._ready)

    def _open(self, request: Request, wait: bool) -> Answer:
        """Open the device for the caller.

        Raises:
            WaitError: a snapshot has to be taken first, and ``wait`` is False.
        """
        flags, _ = protocol.OPEN_IN.unpack_from(request.body)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        with self._gate.reporting_refusals(self._name, request):
            process = self._gate.authorize(request, self.closing)
            found = self._snapshots.get() if wait else self._snapshots.current()
            if found is None:
                raise WaitError
            handle = self._device.open(process, lambda: found, writing)

        with self._lock:
            self._positions[handle] = _ReadPosition(0, 0)
        answer = protocol.OPEN_OUT.pack(handle, 0, 0)
        return Answer((answer,), lambda: self._close(handle))

    def _read(self, request: Request, wait: bool) -> Answer:
        """Answer READ from the handle's position; see :class:`_ReadPosition`."""
        handle, offset, size, _ = protocol.READ_IN.unpack_from(request.body)
        with self._lock:
            last = self._positions.get(handle, _ReadPosition(0, 0))
            # Offset 0 means a new read() call. It begins where the last one ended.
            begin = last.begin if offset else last.end
            data = self._device.read(handle, begin + offset, size)
            self._positions[handle] = _ReadPosition(begin, begin + offset + len(data))
        return Answer((data,))

    def _refuse(self, request: Request, wait: bool) -> Answer:
        raise os_error(errno.EACCES)

    def _ioctl(self, request: Request, wait: bool) -> Answer:
        """Answer IOCTL; if it needs the caller's memory, in a lane of the caller's user."""
        handle, _, number, _, taken, _ = protocol.IOCTL_IN.unpack_from(request.body)
        if not wait and asks_caller(number):
            raise WaitError(lane(request, handle))
        start = protocol.IOCTL_IN.size
        data = request.body[start : start + taken]
        # A CUSE device cannot be mapped, so no mapping has to be found in the caller's memory.
        memory = Memory(self._readers, request.uid, request.pid)
        answer = self._device.ioctl(handle, number, memory, data)
        return Answer((protocol.IOCTL_OUT.pack(0, 0, 0, 0), answer))

    def _release(self, request: Request, wait: bool) -> Answer:
        self._close(protocol.RELEASE_IN.unpack_from(request.body)[0])
        return Answer()

    def _close(self, handle: int) -> None:
        with self._lock:
            self._positions.pop(handle, None)
        self._device.close(handle)
