"""The served directory: the device ``ksyms``, and the same snapshot as a file ``vmlinux``.

In the kernel the page cache and the mappings belong to an inode. So there is a node for each
snapshot and name, which all opens share while the snapshot is current. The kernel is not
allowed to cache names: every open() looks the name up, and gets the node of the current
snapshot. The attributes of a node with a snapshot never change.

A LOOKUP may also come from stat() or a path walk. So if there is a snapshot, however old,
LOOKUP takes no new one. OPEN checks the node's snapshot. If it is not known to be current, OPEN
answers ESTALE, and the kernel starts the open() again, but only once (fs/namei.c,
do_filp_open). In this drawing A is the old node, and B the node of the current snapshot:

    kernel                                      server
      |                                           |
      |--- LOOKUP "vmlinux" --------------------->|  _node_for_lookup: the last node
      |<-- A -------------------------------------|
      |--- OPEN A ------------------------------->|  _current_or_stale: A is not known to be
      |<-- ESTALE --------------------------------|     current; _stale_opens[task] is set
      |                                           |
      |--- LOOKUP "vmlinux": still A? ----------->|  _node_for_lookup: takes the snapshot,
      |<-- B -------------------------------------|     makes B; _stale_opens[task].found = B
      |--- LOOKUP "vmlinux": which node, then? -->|  _node_for_lookup: the same B, and found
      |<-- B -------------------------------------|     is None again
      |--- OPEN B ------------------------------->|  _current_or_stale: the task is in
      |<-- handle --------------------------------|     _stale_opens, so B was found during
      |                                           |     this open(); the task is removed

If A is current after all, the second LOOKUP answers A, the third does not come, and OPEN A
succeeds. An open of /proc/self/fd/N has no name to look up: OPEN A comes twice, and the second
succeeds with the old snapshot.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from .._device import Device, Process, asks_caller
from .._errors import os_error
from . import protocol
from .backing import Backing
from .callers import Gate
from .memory import Memory, Readers, lane
from .operations import Answer, Handler, Operations, WaitError
from .protocol import Attributes, Channel, Request

STATUS: Final = ".status"
_MOST_STALE_OPENS: Final = 4096
"""Largest number of threads that got ESTALE and have not opened again.

When there are more, all of them are forgotten.
"""
_MOST_LISTED: Final = 1000
"""Largest number of openers that ``.status`` lists; the others are only counted."""
_FOREVER: Final = 1 << 30  # seconds
_DIRECT_IO: Final = 1 << 0  # FOPEN_DIRECT_IO: reads reach the server although the size is 0
_WANTED: Final = (
    protocol.ASYNC_READ
    | protocol.BIG_WRITES
    | protocol.PARALLEL_DIROPS
    | protocol.MAX_PAGES
    | protocol.NO_OPENDIR_SUPPORT
    | protocol.INIT_EXT
    | protocol.PASSTHROUGH
)
"""INIT's flags: what is used if the kernel offers it."""


class Snapshots(Protocol):
    """The source of snapshots: it returns the same object until the generation moves."""

    def current(self) -> Backing | None:
        """Return the snapshot that was taken last if it is known to be current; else None.

        This never waits.
        """

    def get(self) -> Backing:
        """Return the current snapshot; take a new one if needed, however long that takes."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Node:
    """An inode: one name with one snapshot's bytes; an empty file if it has no snapshot.

    ``attributes`` is the packed ``struct fuse_attr``. ``lookups`` is the kernel's lookup
    count: each LOOKUP that is answered with the node adds 1, and FORGET subtracts. ``handles``
    has the open handles. ``passthrough`` is None until the first open decides it.
    """

    number: int
    name: str
    attributes: bytes
    backing: Backing | None = None
    lookups: int = 0
    handles: set[int] = field(default_factory=set)
    passthrough: bool | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class _StaleOpen:
    """An open that was answered with ESTALE, so that the kernel starts it again.

    ``found`` is the node that answered the first LOOKUP after the ESTALE. It is None before
    that LOOKUP, and again after the second LOOKUP, which gets the same node.
    """

    process: Process
    found: _Node | None = None


class Directory(Operations):
    """The operations of the mounted directory.

    Args:
        channel: the connection.
        device: the number of the mounted file system, as /proc/PID/maps prints it.
        files: a device for each name.
        snapshots: the source of the snapshot for each open.
        gate: the check whether a caller may open a file.
        readers: the processes that read callers' memory.
        facts: returns the server's own facts for ``.status``.
        event: called with one sentence about each event.
    """

    def __init__(
        self,
        channel: Channel,
        device: bytes,
        files: dict[str, Device],
        snapshots: Snapshots,
        gate: Gate,
        readers: Readers,
        facts: Callable[[], dict[str, Any]],
        event: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._device = device
        self._files = files
        self._snapshots = snapshots
        self._gate = gate
        self._readers = readers
        self._facts = facts
        self._event = event
        self._lock = threading.Lock()
        self._nodes: dict[int, _Node] = {}
        """All nodes by number, without those that were forgotten."""
        self._next_number = protocol.ROOT_NODE + 1
        """The next node's number, and the next handle's of ``.status``."""
        self._empty = {name: self._make_node(name, None) for name in (*files, STATUS)}
        """A node without a snapshot for each name, for callers that may not see one."""
        self._current: dict[str, _Node] = {}
        """The nodes of the snapshot that was taken last, by name; all have the same one."""
        self._stale_opens: dict[int, _StaleOpen] = {}
        """The opens that got ESTALE, by thread id."""
        self._texts: dict[int, bytes] = {}
        """The text of each open ``.status``, by handle."""
        self._started = time.time_ns()
        self.passthrough: str | None = "the kernel has none before Linux 6.9"
        """The reason why reads go through the server; None if the kernel serves them itself."""

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers; see :class:`Operations`."""
        return {
            protocol.INIT: self._init,
            protocol.DESTROY: lambda request, wait: Answer(),
            protocol.LOOKUP: self._lookup,
            protocol.FORGET: self._forget,
            protocol.BATCH_FORGET: self._batch_forget,
            protocol.GETATTR: self._getattr,
            **dict.fromkeys(protocol.CHANGES, self._refuse),
            protocol.READDIR: self._readdir,
            protocol.STATFS: self._statfs,
            protocol.OPEN: self._open,
            protocol.READ: self._read,
            protocol.IOCTL: self._ioctl,
            protocol.RELEASE: self._release,
        }

    def counts(self) -> dict[str, int]:
        """Return how many nodes, snapshots, bytes of snapshots and open handles there are."""
        with self._lock:
            held = {node.backing for node in self._nodes.values() if node.backing is not None}
            return {
                "nodes": len(self._nodes) - len(self._empty),
                "snapshots": len(held),
                "bytes": sum(backing.size for backing in held),
                "handles": sum(len(node.handles) for node in self._nodes.values()),
            }

    def _init(self, request: Request, wait: bool) -> Answer:
        """Answer INIT: agree on the protocol's version and flags."""
        agreed = protocol.negotiated(request.body, _WANTED)
        if agreed is None:
            raise os_error(errno.EPROTO)
        flags, answer = agreed
        if flags & protocol.PASSTHROUGH:
            self.passthrough = None
        else:
            self._event(f"reads go through the server: {self.passthrough}")
        return Answer((answer,))

    def _lookup(self, request: Request, wait: bool) -> Answer:
        """Answer LOOKUP with a node, which the kernel may not keep for the next lookup."""
        name = request.body.rstrip(b"\0").decode("utf-8", "surrogateescape")
        if request.node != protocol.ROOT_NODE or name not in self._empty:
            raise os_error(errno.ENOENT)
        node = self._empty[name]
        if name in self._files:
            with self._gate.reporting_refusals(name, request):
                node = self._node_for_lookup(name, request.pid, wait)

        with self._lock:
            # Put it back: another thread may have forgotten it since it was found.
            self._nodes[node.number] = node
            node.lookups += 1
        attributes, valid = self._attributes(node)
        entry = protocol.ENTRY_OUT.pack(node.number, 0, 0, valid, 0, 0) + attributes
        return Answer((entry,), lambda: self._subtract_lookups(node.number, 1))

    def _node_for_lookup(self, name: str, task: int, wait: bool) -> _Node:
        """Return the node that answers a LOOKUP; see the drawing at the top of this file.

        - Without an ESTALE before: the node of the last snapshot, current or not.
        - After an ESTALE: the node of the current snapshot. The kernel sends two LOOKUPs: is
          the name still the old node, and if not, which node is it (fs/fuse/dir.c,
          fuse_dentry_revalidate and fuse_lookup)? Both get the same answer.

        If a process may not see snapshots, none is taken for it.

        Raises:
            WaitError: a snapshot has to be taken first, and ``wait`` is False.
        """
        last = self._last_node(name)
        with self._lock:
            sent = self._stale_opens.get(task)
        if last is not None and sent is None:
            return last

        process = self._gate.process_that_may_see(task)
        if process is None:
            return last or self._empty[name]

        if sent is not None and sent.found is not None:
            found, sent.found = sent.found, None
            if found.name == name and sent.process == process:
                return found

        backing = self._snapshots.get() if wait else self._snapshots.current()
        if backing is None:
            raise WaitError
        node = self._current_node(name, backing)
        if sent is not None:
            sent.found = node
        return node

    def _forget(self, request: Request, wait: bool) -> Answer:
        self._subtract_lookups(request.node, protocol.FORGET_IN.unpack_from(request.body)[0])
        return Answer()

    def _batch_forget(self, request: Request, wait: bool) -> Answer:
        count, _ = protocol.BATCH_FORGET_IN.unpack_from(request.body)
        start, size = protocol.BATCH_FORGET_IN.size, protocol.FORGET_ONE.size
        for at in range(start, start + count * size, size):
            self._subtract_lookups(*protocol.FORGET_ONE.unpack_from(request.body, at))
        return Answer()

    def _getattr(self, request: Request, wait: bool) -> Answer:
        """Answer GETATTR with the attributes of the directory or of a node."""
        if request.node == protocol.ROOT_NODE:
            # Only the owner may list the directory (0o511 is r-x--x--x). A process that may
            # list it can hold the directory's lock for ever: by getdents(2) into a page that
            # never arrives (fs/readdir.c, filldir64). That blocks all lookups of new names.
            mode = stat.S_IFDIR | 0o511
            attributes = Attributes(1, mode, links=2, time=self._started).pack()
            valid = _FOREVER
        else:
            attributes, valid = self._attributes(self._node(request.node))
        return Answer((protocol.ATTR_OUT.pack(valid, 0, 0) + attributes,))

    def _refuse(self, request: Request, wait: bool) -> Answer:
        """Answer EACCES to a request that would change the directory."""
        raise os_error(errno.EACCES)

    def _readdir(self, request: Request, wait: bool) -> Answer:
        _, offset, size, _ = protocol.READ_IN.unpack_from(request.body)
        entries = [(1, ".", stat.S_IFDIR >> 12), (1, "..", stat.S_IFDIR >> 12)]
        entries += [
            (self._empty[name].number, name, stat.S_IFREG >> 12) for name in self._files
        ]
        return Answer((protocol.directory(entries, offset, size),))

    def _statfs(self, request: Request, wait: bool) -> Answer:
        return Answer(
            (protocol.STATFS_OUT.pack(0, 0, 0, len(self._files), 0, 4096, 255, 4096),)
        )

    def _open(self, request: Request, wait: bool) -> Answer:
        """Answer OPEN: open the node's file for the caller, or answer ESTALE."""
        flags, _ = protocol.OPEN_IN.unpack_from(request.body)
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)

        node = self._node(request.node)
        if node.name == STATUS:
            return self._open_status(writing)

        with self._gate.reporting_refusals(node.name, request):
            process = self._gate.authorize(request, self.closing)
            backing = self._current_or_stale(request.pid, process, node)
            handle = self._files[node.name].open(process, lambda: backing, writing)

        with self._lock:
            node.handles.add(handle)
            opened, number = self._open_flags(node, backing)
        answer = protocol.OPEN_OUT.pack(handle, opened, number)
        return Answer((answer,), lambda: self._close(node, handle))

    def _open_status(self, writing: bool) -> Answer:
        """Open ``.status``: make its text now, and keep it until the handle is closed."""
        if writing:
            raise os_error(errno.EACCES)
        passthrough = {
            "passthrough": self.passthrough is None,
            "why_no_passthrough": self.passthrough,
        }
        facts = {**self._facts(), **passthrough, **self.counts(), **self._openers()}
        text = json.dumps(facts)

        with self._lock:
            handle = self._next_number
            self._next_number += 1
            self._texts[handle] = text.encode() + b"\n"
        answer = protocol.OPEN_OUT.pack(handle, _DIRECT_IO, 0)
        return Answer((answer,), lambda: self._forget_text(handle))

    def _forget_text(self, handle: int) -> None:
        self._texts.pop(handle, None)

    def _openers(self) -> dict[str, Any]:
        """Return the first openers, each with its file and pid, and how many more there are."""
        opens = [
            (name, process)
            for name, device in self._files.items()
            for process in device.openers().values()
        ]
        named = [{"file": name, "pid": process.pid} for name, process in opens[:_MOST_LISTED]]
        return {"openers": named, "more_openers": len(opens) - len(named)}

    def _read(self, request: Request, wait: bool) -> Answer:
        """Answer READ; with passthrough the kernel reads snapshots itself, and sends none."""
        handle, offset, size, _ = protocol.READ_IN.unpack_from(request.body)
        node = self._node(request.node)
        if node.name == STATUS:
            text = self._texts.get(handle)
            if text is None:
                raise os_error(errno.EBADF)
            return Answer((text[offset : offset + size],))
        return Answer((self._files[node.name].read(handle, offset, size),))

    def _ioctl(self, request: Request, wait: bool) -> Answer:
        """Answer IOCTL; if it needs the caller's memory, in a lane of the caller's user."""
        handle, _, number, _, taken, _ = protocol.IOCTL_IN.unpack_from(request.body)
        if not wait and asks_caller(number):
            raise WaitError(lane(request, handle))
        node = self._node(request.node)
        if node.name == STATUS:
            raise os_error(errno.ENOTTY)
        start = protocol.IOCTL_IN.size
        data = request.body[start : start + taken]
        size = node.backing.size if node.backing else 0
        who = self._readers, request.uid, request.pid
        memory = Memory(*who, self._device, node.number, size)
        answer = self._files[node.name].ioctl(handle, number, memory, data)
        return Answer((protocol.IOCTL_OUT.pack(0, 0, 0, 0), answer))

    def _release(self, request: Request, wait: bool) -> Answer:
        handle = protocol.RELEASE_IN.unpack_from(request.body)[0]
        node = self._node(request.node)
        if node.name == STATUS:
            self._forget_text(handle)
        else:
            self._close(node, handle)
        return Answer()

    def _current_or_stale(self, task: int, process: Process, node: _Node) -> Backing:
        """Return the node's snapshot if it is current, or if this thread got ESTALE before.

        An OPEN that follows an ESTALE of the same thread is not refused again. Its node was
        found within the same open(), or there was no name to look up (/proc/self/fd).

        Raises:
            OSError: ESTALE, if the snapshot is not known to be current.
        """
        backing = node.backing
        with self._lock:
            sent = self._stale_opens.pop(task, None)
        if backing is not None and sent is not None and sent.process == process:
            return backing

        if backing is not None and self._snapshots.current() is backing:
            return backing
        with self._lock:
            if len(self._stale_opens) > _MOST_STALE_OPENS:
                self._stale_opens.clear()
            self._stale_opens[task] = _StaleOpen(process=process)
        raise os_error(errno.ESTALE)

    def _open_flags(self, node: _Node, backing: Backing) -> tuple[int, int]:
        """Return OPEN's flags and backing id (0: none).

        The first open of a node decides for all: the kernel does not allow some opens with
        passthrough and some without.
        """
        if node.passthrough is None:
            node.passthrough = self._try_passthrough(backing)
        if node.passthrough:
            number = backing.register(self._channel.fd)
            return protocol.FOPEN_PASSTHROUGH | protocol.FOPEN_NOFLUSH, number
        return protocol.FOPEN_KEEP_CACHE | protocol.FOPEN_NOFLUSH, 0

    def _try_passthrough(self, backing: Backing) -> bool:
        """Return True if passthrough works; report it if the kernel refuses it now."""
        if self.passthrough is None:
            try:
                backing.register(self._channel.fd)
            except OSError as error:
                self.passthrough = f"the kernel refused it: {os.strerror(error.errno or 0)}"
                self._event(f"reads go through the server: {self.passthrough}")
        return self.passthrough is None

    def _close(self, node: _Node, handle: int) -> None:
        self._files[node.name].close(handle)
        with self._lock:
            node.handles.discard(handle)
            self._forget_unused(node)

    def _node(self, number: int) -> _Node:
        """Return the node with a number; ESTALE if it was forgotten."""
        with self._lock:
            node = self._nodes.get(number)
        if node is None:
            raise os_error(errno.ESTALE)
        return node

    def _attributes(self, node: _Node) -> tuple[bytes, int]:
        """Return a node's attributes, and for how many seconds the kernel may keep them."""
        if node.name == STATUS:
            return self._pack_attributes(node.number, STATUS, 0), 0
        return node.attributes, _FOREVER if node.backing else 0

    def _pack_attributes(self, number: int, name: str, size: int) -> bytes:
        """Return packed attributes with the current time; ``.status`` has the same owner."""
        policy = self._files.get(name, next(iter(self._files.values()))).policy
        return Attributes(
            number,
            stat.S_IFREG | (0o400 if name == STATUS else policy.mode),
            size,
            owner=policy.owner,
            group=policy.group,
            time=time.time_ns(),
        ).pack()

    def _last_node(self, name: str) -> _Node | None:
        """Return the node of ``name`` with the last snapshot; None if none was taken yet.

        If the snapshot was taken for another name, the node is made now.
        """
        with self._lock:
            if name not in self._current and self._current:
                backing = next(iter(self._current.values())).backing
                self._current[name] = self._make_node(name, backing)
            return self._current.get(name)

    def _current_node(self, name: str, backing: Backing) -> _Node:
        """Return the node of ``name`` with the snapshot ``backing``; make it if needed.

        ``backing`` is the current snapshot: nodes of older ones are no longer handed out.
        """
        with self._lock:
            for other in [n for n in self._current.values() if n.backing is not backing]:
                del self._current[other.name]
                self._forget_unused(other)
            if name not in self._current:
                self._current[name] = self._make_node(name, backing)
            return self._current[name]

    def _make_node(self, name: str, backing: Backing | None) -> _Node:
        """Return a new node of ``name``; the lock must be held."""
        attributes = self._pack_attributes(
            self._next_number, name, backing.size if backing else 0
        )
        node = _Node(
            number=self._next_number, name=name, attributes=attributes, backing=backing
        )
        self._next_number += 1
        self._nodes[node.number] = node
        return node

    def _subtract_lookups(self, number: int, lookups: int) -> None:
        """Subtract from a node's lookup count; forget the node if nothing uses it any more."""
        with self._lock:
            node = self._nodes.get(number)
            if node is not None:
                node.lookups -= lookups
                self._forget_unused(node)

    def _forget_unused(self, node: _Node) -> None:
        """Forget ``node``, and so its snapshot, if it is old and nothing uses it.

        Its users are open handles and the kernel's lookups. The lock must be held.
        """
        standing = self._current.get(node.name) is node or self._empty.get(node.name) is node
        if not standing and not node.handles and node.lookups <= 0:
            self._nodes.pop(node.number, None)
