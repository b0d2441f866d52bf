"""perf's events of symbols outside modules: BPF programs, ftrace and kprobe trampolines.

The kernel writes a record of each event into the ring of the CPU on which it happens
(include/uapi/linux/perf_event.h). Two types of records are read:

- PERF_RECORD_KSYMBOL: a symbol came or went. The kernel writes it since Linux kernel commit
  76193a94522f ("perf, bpf: Introduce PERF_RECORD_KSYMBOL") (in v5.1), for trampolines since
  5.9. When a BPF program goes, it is written before the symbols are removed from kallsyms.
- PERF_RECORD_TEXT_POKE: code was written. The kernel writes it since Linux kernel commit
  e17d43b93e54 ("perf: Add perf text poke event") (in v5.9). It is needed for kprobes: when one
  goes there is no PERF_RECORD_KSYMBOL, but its code is erased.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator

from .._proc_file import ProcFile
from .._typing import Final, NamedTuple
from .syscall import system_call

# asm/unistd.h of each machine.
_PERF_EVENT_OPEN: Final = {
    "x86_64": 298,
    "aarch64": 241,
    "riscv64": 241,
    "loongarch64": 241,
    "ppc64": 319,
    "ppc64le": 319,
    "s390x": 331,
}
_ATTR_SIZE: Final = 112  # PERF_ATTR_SIZE_VER5, which has every field that is used here
_PERF_TYPE_SOFTWARE: Final = 1
_PERF_COUNT_SW_DUMMY: Final = 9
_KSYMBOL: Final = 1 << 29
_TEXT_POKE: Final = 1 << 33
_FLAG_FD_CLOEXEC: Final = 8
_RECORD_LOST: Final = 2
_RECORD_KSYMBOL: Final = 17
_RECORD_TEXT_POKE: Final = 20
_UNREGISTER: Final = 1
_DATA_PAGES: Final = 8
_ONLINE: Final = "/sys/devices/system/cpu/online"
# struct perf_event_mmap_page: data_head, data_tail, data_offset, data_size.
_HEAD: Final = 1024
_HEADER: Final = struct.Struct("=IHH")
_KSYMBOL_BODY: Final = struct.Struct("=QIHH")
_POKE_BODY: Final = struct.Struct("=QHH")
_POSITION: Final = struct.Struct("=Q")
_POSITIONS: Final = struct.Struct("=QQ")
_LARGEST: Final = mmap.PAGESIZE + 64
"""The most bytes of a record that matters: the record of a trampoline has a page of code."""


class _Ring(NamedTuple):
    """The ring buffer of one CPU.

    ``pages`` is the mapping, whose first page has the positions. The records are in the
    ``size`` bytes at ``offset``.
    """

    fd: int
    pages: mmap.mmap
    offset: int
    size: int


class KernelEvents:
    """The events of all CPUs, from construction until :meth:`close`.

    ``seen`` is the number of events so far that concern symbols. Events that the kernel had to
    drop count as one, since any change can be among them. ``leaving`` are the addresses of the
    BPF programs that are about to go: kallsyms may still list them.

    Raises:
        OSError: the kernel has no such events, or this process lacks the privilege.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.leaving: set[int] = set()
        self._online = b""
        self._cpus = ProcFile(_ONLINE)
        self._rings: dict[int, _Ring] = {}
        try:
            self.follow()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the rings."""
        for ring in self._rings.values():
            ring.pages.close()
            os.close(ring.fd)
        self._rings.clear()
        self._cpus.close()

    def drain(self) -> int:
        """Read the new records of all rings; return the number of events so far."""
        for ring in self._rings.values():
            for kind, body in _records(ring):
                if kind != _RECORD_TEXT_POKE or _is_whole(body):
                    self.seen += 1
                if kind == _RECORD_KSYMBOL:
                    self._note(*_KSYMBOL_BODY.unpack_from(body))
        return self.seen

    def _note(self, address: int, length: int, kind: int, flags: int) -> None:
        """Record in ``leaving`` that the symbol at ``address`` came or went."""
        if flags & _UNREGISTER:
            self.leaving.add(address)
        else:
            self.leaving.discard(address)

    def follow(self) -> None:
        """Open rings for CPUs that have come online.

        A CPU that has come counts as an event, since its events up to now are lost.
        """
        online = self._cpus.value()
        if online == self._online:
            return
        for cpu in _cpus(online.decode().strip()):
            if cpu not in self._rings:
                self._rings[cpu] = _open(cpu)
        self._online = online
        self.seen += 1


def _records(ring: _Ring) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each record in a ring, and remove them from it.

    If the ring has no room for a record, the kernel drops it. It writes PERF_RECORD_LOST only
    before the next record that fits (kernel/events/ring_buffer.c, __perf_output_begin), which
    may never come. So an empty PERF_RECORD_LOST is yielded here if the free room may have been
    too small for a record::

        |....[ record ][ record ][ record ]....|
             ^begin                       ^head    room = size - (head - begin)
    """
    head, begin = _POSITIONS.unpack_from(ring.pages, _HEAD)

    tail = begin
    while tail < head:
        kind, _, size = _HEADER.unpack(_bytes(ring, tail, _HEADER.size))
        if size < _HEADER.size:
            break  # the kernel writes no such record; without this the loop might not end
        yield kind, _bytes(ring, tail + _HEADER.size, size - _HEADER.size)
        tail += size

    _POSITION.pack_into(ring.pages, _HEAD + 8, head)
    # Until the new tail was written the kernel had only the room up to the old one. So the room
    # is computed from the old tail, and from the head as it is now.
    (latest,) = _POSITION.unpack_from(ring.pages, _HEAD)
    if ring.size - (latest - begin) <= _LARGEST:
        yield _RECORD_LOST, b""


def _is_whole(body: bytes) -> bool:
    """Return True if a text poke created or erased code, False if it changed existing code.

    Code is created if its old length is 0, and erased if its new length is 0. Jump labels and
    the calls of the tracer are changed in code that stays, hundreds of times for each module
    that is loaded.
    """
    _, before, after = _POKE_BODY.unpack_from(body)
    return not before or not after


def _bytes(ring: _Ring, position: int, length: int) -> bytes:
    """Return ``length`` bytes of a ring, which can go on at its start."""
    start = position % ring.size
    first = ring.pages[ring.offset + start : ring.offset + min(start + length, ring.size)]
    return first + ring.pages[ring.offset : ring.offset + length - len(first)]


def _cpus(text: str) -> list[int]:
    """Return the CPUs in a list such as ``0-3,8`` (lib/bitmap.c, bitmap_print_to_pagebuf)."""
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _open(cpu: int) -> _Ring:
    """Open the ring of a CPU.

    Raises:
        OSError: the kernel has no such events, or this process lacks the privilege.
    """
    perf_event_open = system_call(_PERF_EVENT_OPEN)
    # struct perf_event_attr: type, size and config, and the flags at 40.
    attr = bytearray(_ATTR_SIZE)
    struct.pack_into("=IIQ", attr, 0, _PERF_TYPE_SOFTWARE, _ATTR_SIZE, _PERF_COUNT_SW_DUMMY)
    struct.pack_into("=Q", attr, 40, _KSYMBOL | _TEXT_POKE)

    buffer = (ctypes.c_char * _ATTR_SIZE).from_buffer(attr)
    fd = perf_event_open(buffer, -1, cpu, -1, _FLAG_FD_CLOEXEC)
    try:
        pages = mmap.mmap(fd, (1 + _DATA_PAGES) * mmap.PAGESIZE)
    except OSError:
        os.close(fd)
        raise
    offset, size = _POSITIONS.unpack_from(pages, _HEAD + 16)
    return _Ring(fd, pages, offset, size)
