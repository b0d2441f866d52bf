"""The softc table and the calls of the driver, independent of the transport.

Source: FreeBSD's ksyms.c of 2009; the line numbers below are of that file. Nothing here
depends on how calls arrive, on the operating system, or on the source of snapshots. The calls
may come from any thread.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Protocol

from .._elf import elf_format
from .._elf.constants import ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB
from .._errors import DeviceError
from .._symbols import SymbolTable, load
from .requests import GSYMBOL, GVALUE, requests

PAGE: Final = 4096
PROT_WRITE: Final = 2
_ELF64_SYM: Final = elf_format(
    ELFCLASS64, ELFDATA2LSB if sys.byteorder == "little" else ELFDATA2MSB
).sym
LONGEST_NAME: Final = 1024
"""Largest length of a name to look up, in bytes with its NUL.

NetBSD's limit is the length of its longest symbol's name.
"""


class Process(NamedTuple):
    """A process that opens the device.

    ``pid`` is its thread group's id, ``started`` its start time in any unit. The start time
    distinguishes it from a later process with the same pid.
    """

    pid: int
    started: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The device's mode and owner, and how often one process may have it open.

    The driver has ``mode=0o444``, root, wheel and one open for each process (lines 378 and
    594). With that mode every user can read every address. ``opens_per_process`` is None for
    no limit, for the plain file: libraries and debuggers open a file twice.
    """

    mode: int = 0o400
    owner: int = 0
    group: int = 0
    opens_per_process: int | None = 1


class Event(Enum):
    """The events of the driver's module (ksyms_modevent, line 589)."""

    LOAD = "load"
    UNLOAD = "unload"
    SHUTDOWN = "shutdown"
    QUIESCE = "quiesce"


class OpenImage(Protocol):
    """A snapshot that an open gets: bytes that never change."""

    @property
    def image(self) -> memoryview: ...


class CallerMemory(Protocol):
    """The memory of the process that calls, as far as a request needs it."""

    def mapped_at(self) -> int | None:
        """Return the address at which the process has mapped the handle's snapshot.

        Return None if it has not mapped it.
        """

    def string_at(self, address: int, longest: int) -> bytes | None:
        """Return the string at ``address`` without its NUL; None if it cannot be read.

        If there is no NUL within ``longest`` bytes, return those bytes.
        """


class Pages(NamedTuple):
    """The contents of a mapping: bytes of the snapshot, then ``zeros`` zero bytes."""

    data: memoryview
    zeros: int


@dataclass(kw_only=True, slots=True, eq=False)
class _Softc:
    """One open of the device (struct ksyms_softc, line 92).

    ``image`` is None until its snapshot is taken. ``table`` is made from it by the first lookup
    of a name.
    """

    process: Process
    image: memoryview | None = None
    table: SymbolTable | None = field(default=None, repr=False)


class Device:
    """The device ``/dev/ksyms``: each open has its own snapshot.

    Args:
        policy: the mode, the owner, and how often one process may have it open.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self._lock = threading.Lock()
        self._loaded = False
        self._softcs: dict[int, _Softc] = {}
        """The opens, by handle."""
        self._next = 1
        """The next handle."""

    def openers(self) -> dict[int, Process]:
        """Return the processes that have the device open, by handle."""
        with self._lock:
            return {handle: softc.process for handle, softc in self._softcs.items()}

    def modevent(self, event: Event) -> None:
        """Load, unload or shut down (line 589).

        Raises:
            DeviceError: EBUSY, if the device is to be unloaded and is open; EEXIST, if it is
                to be loaded and is loaded already; EOPNOTSUPP, for any other event.
        """
        with self._lock:
            if event is Event.LOAD:
                if self._loaded:
                    raise _error(errno.EEXIST, "The device is loaded already.", "Unload it.")
                self._loaded = True
            elif event is Event.UNLOAD:
                if self._softcs:
                    raise _error(
                        errno.EBUSY,
                        f"The device is open {len(self._softcs)} times.",
                        "Close it everywhere, then unload it.",
                    )
                self._loaded = False
            elif event is not Event.SHUTDOWN:
                raise _error(
                    errno.EOPNOTSUPP,
                    f"The device does not know the event {event.value}.",
                    "Load it, unload it, or shut it down.",
                )

    def open(
        self, process: Process, take: Callable[[], OpenImage], writing: bool = False
    ) -> int:
        """Open the device for ``process`` and return the handle (line 378).

        ``take`` is called for the snapshot, which other opens may share. After any error no
        handle is left.

        Raises:
            DeviceError: EBUSY, if the process has it open; ENXIO, if the device is not
                loaded; EACCES, if it is opened for ``writing``; ENOMEM; EINTR, if the process
                exits meanwhile.
            KsymsError: the snapshot cannot be taken; its errno says why.
        """
        if writing:
            raise _error(errno.EACCES, "The device cannot be written to.", "Open it to read.")

        with self._lock:
            handle = self._admit(process)

        try:
            image = take().image
        except MemoryError:
            self._forget(handle)
            raise _error(
                errno.ENOMEM, "There is no memory for a snapshot.", "Free some, and try again."
            ) from None
        except BaseException:
            self._forget(handle)
            raise

        with self._lock:
            softc = self._softcs.get(handle)
            if softc is not None:  # else exited() has removed it meanwhile
                softc.image = image
                return handle
        raise _error(
            errno.EINTR, "The process exited while its snapshot was taken.", "Open it again."
        )

    def _admit(self, process: Process) -> int:
        """Return a new handle for ``process``, without a snapshot yet; the lock must be held.

        Raises:
            DeviceError: as of :meth:`open`.
        """
        if not self._loaded:
            raise _error(errno.ENXIO, "The device is not loaded.", "Load it.")
        limit = self.policy.opens_per_process
        if limit is not None and self._opens_of(process) >= limit:
            raise _error(
                errno.EBUSY,
                f"Process {process.pid} has the device open already.",
                "Close it before it is opened again.",
            )

        handle = self._next
        self._next += 1
        self._softcs[handle] = _Softc(process=process)
        return handle

    def _opens_of(self, process: Process) -> int:
        return sum(softc.process == process for softc in self._softcs.values())

    def _forget(self, handle: int) -> _Softc | None:
        with self._lock:
            return self._softcs.pop(handle, None)

    def _image(self, handle: int) -> tuple[_Softc, memoryview]:
        """Return the softc and the snapshot of a handle; EBADF if it is not open."""
        with self._lock:
            softc = self._softcs.get(handle)
        if softc is None or softc.image is None:
            raise _error(errno.EBADF, f"Handle {handle} is not open.", "Open the device.")
        return softc, softc.image

    def size(self, handle: int) -> int:
        """Return the snapshot's size in bytes.

        Raises:
            DeviceError: EBADF, if ``handle`` is not open; the same holds for all calls below.
        """
        return len(self._image(handle)[1])

    def read(self, handle: int, offset: int, length: int) -> memoryview:
        """Return a view of ``length`` bytes from ``offset`` on; fewer at the end (line 454).

        Raises:
            DeviceError: EFAULT, if ``offset`` is negative or past the end; EINVAL, if
                ``length`` is negative.
        """
        image = self._image(handle)[1]
        if offset < 0 or offset > len(image):
            raise _error(
                errno.EFAULT,
                f"Offset {offset} is outside of the snapshot's {len(image)} bytes.",
                "Read within them.",
            )
        if length < 0:
            raise _error(errno.EINVAL, f"{length} bytes cannot be read.", "Ask for 0 or more.")
        return image[offset : offset + length]

    def ioctl(
        self, handle: int, request: int, caller: CallerMemory, data: bytes = b""
    ) -> bytes:
        """Answer a request (line 508); return the bytes to copy into the caller's structure.

        Args:
            handle: the open handle.
            request: the request's number, which C's macros give on this machine.
            caller: the memory of the process that asks.
            data: the caller's structure, for the requests that read one.

        Raises:
            DeviceError: ENOTTY, if the device does not have the request; ENXIO, if the caller
                has not mapped the snapshot; ENOENT, if no symbol has the name; EFAULT, if the
                name or the structure cannot be read; ENAMETOOLONG; EOVERFLOW, if the answer
                does not fit.
            OSError: the caller's memory could not be asked; see ``caller``.
        """
        softc, image = self._image(handle)
        known = requests().get(request)
        if known is None:
            raise _error(
                errno.ENOTTY,
                f"This device does not have the request {request:#x}.",
                "Ask KIOCGSIZE or KIOCGADDR.",
            )

        if known.call == "size":
            return _word(len(image), known.word, known.signed)
        if known.call == "address":
            address = caller.mapped_at()
            if address is None:
                raise _error(
                    errno.ENXIO, "The caller has not mapped the snapshot.", "Map it first."
                )
            return _word(address, known.word)
        return _named(softc, image, known.call, caller, data)

    def mmap(
        self, handle: int, offset: int, length: int, protection: int = 1, shared: bool = True
    ) -> Pages:
        """Return the contents of a mapping of the pages from ``offset`` on (line 545).

        After the snapshot's end the last page is filled with zeros. For example, a snapshot of
        5000 bytes has two pages:

            mmap(handle, 0, 8192)      data: bytes 0 to 4999, zeros: 3192
            mmap(handle, 4096, 100)    data: bytes 4096 to 4999, zeros: 3192
            mmap(handle, 4096, 8192)   EINVAL: there is no third page

        Raises:
            DeviceError: EACCES, for a writable shared mapping; EINVAL, if the snapshot does
                not have all of the pages, or ``offset`` is not the start of a page.
        """
        image = self._image(handle)[1]
        if shared and protection & PROT_WRITE:
            raise _error(
                errno.EACCES, "The snapshot cannot be mapped to write.", "Map it read-only."
            )

        end = offset + length + -length % PAGE
        if offset < 0 or offset % PAGE or length <= 0 or end > len(image) + -len(image) % PAGE:
            raise _error(
                errno.EINVAL,
                f"{length} bytes from {offset} are not all pages of a snapshot of "
                f"{len(image)} bytes.",
                "Map pages within it.",
            )

        data = image[offset:end]
        return Pages(data, end - offset - len(data))

    def close(self, handle: int) -> None:
        """Close the handle and forget its snapshot (line 569).

        Raises:
            DeviceError: EBADF, if the handle is not open.
        """
        if self._forget(handle) is None:
            raise _error(errno.EBADF, f"Handle {handle} is not open.", "Close it once.")

    def exited(self, process: Process) -> int:
        """Close all handles of ``process``, which has exited; return how many they were."""
        with self._lock:
            own = [h for h, softc in self._softcs.items() if softc.process == process]
            for handle in own:
                del self._softcs[handle]
        return len(own)


def _named(
    softc: _Softc, image: memoryview, call: str, caller: CallerMemory, data: bytes
) -> bytes:
    """Return the answer to KIOCGVALUE or KIOCGSYMBOL, NetBSD's lookups by name.

    ``data`` is the caller's structure, and ``call`` is "value" or "symbol". Several symbols may
    have the name. A global one is preferred, then a weak one, then a local one; among those
    the kernel's, and then the one with the lowest address. NetBSD's ksyms_getval finds global
    symbols only.
    """
    form = GVALUE if call == "value" else GSYMBOL
    if len(data) != form.size:
        raise _error(errno.EFAULT, "The request's structure is not whole.", "Give it whole.")

    pointer = form.unpack(data)[0]
    name = caller.string_at(pointer, LONGEST_NAME)
    if name is None:
        raise _error(errno.EFAULT, f"No name can be read at {pointer:#x}.", "Point to one.")
    if len(name) >= LONGEST_NAME:
        raise _error(errno.ENAMETOOLONG, "The name is too long.", "Ask for another.")

    if softc.table is None:
        softc.table = load(image)
    found = softc.table.find_best(name.decode("utf-8", "surrogateescape"))
    if found is None:
        raise _error(
            errno.ENOENT,
            f"No symbol has the name {name.decode('utf-8', 'replace')!r}.",
            "Ask for another.",
        )

    if call == "value":
        return form.pack(pointer, found.st_value)
    return form.pack(pointer, _ELF64_SYM.pack(found))


def _word(value: int, width: int, signed: bool = False) -> bytes:
    """Return ``value`` as ``width`` bytes in this machine's byte order.

    Raises:
        DeviceError: EOVERFLOW, if it does not fit.
    """
    try:
        return value.to_bytes(width, sys.byteorder, signed=signed)
    except OverflowError:
        raise _error(
            errno.EOVERFLOW,
            f"{value:#x} does not fit {8 * width} bits.",
            "Ask from a 64-bit program.",
        ) from None


def _error(number: int, what: str, remedy: str) -> DeviceError:
    return DeviceError(what, remedy, errno=number)
