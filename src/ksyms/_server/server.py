"""The base class of servers: their snapshots, who may see these, and the server's messages."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Final

from .._device import Policy
from .._linker import AccessRule
from .._snapshot import Latest, Snapshot
from .._sources.kernel_files import open_kernel_files
from .._threads import begin
from .._transport import Backing, Channel, Gate, Operations, Readers, serve
from .lifecycle import Lifecycle

if TYPE_CHECKING:
    from .._transport import Request

DEVICE: Final = "ksyms"
PATIENCE: Final = 2.0
"""Seconds to wait for a server or connection that may never answer."""


class Server(ABC):
    """A server of the device; :meth:`run` lasts from its start to its end.

    Args:
        mode: the permissions of the served files.
        event: called with one sentence about each event.
        call: called after each request with the request, its errno (0 for success) and the
            seconds that it took.
    """

    def __init__(
        self,
        *,
        mode: int = 0o400,
        event: Callable[[str], None] = lambda words: None,
        call: Callable[[Request, int, float], None] | None = None,
    ) -> None:
        self.policy = Policy(mode=mode, owner=os.geteuid(), group=os.getegid())
        self.gate = Gate(AccessRule().shows, event)
        self.readers = Readers()
        self.event = event
        self._call = call
        self._taken = 0.0
        """The time of the last snapshot, in seconds since 1970."""

    @abstractmethod
    def run(self) -> None:
        """Serve until a signal ends it.

        Raises:
            KsymsError: this process cannot take a snapshot, or cannot serve.
        """

    def latest(self, stack: ExitStack) -> Latest[Backing]:
        """Return the source of snapshots, open until ``stack`` is closed.

        The first snapshot is taken now, so that a missing permission is reported at once.
        """
        latest = Latest(stack.enter_context(open_kernel_files()), self._kept)
        latest.get()
        return latest

    def serve(
        self,
        lifecycle: Lifecycle,
        channel: Channel,
        operations: Operations,
        ready: AbstractContextManager[None],
    ) -> None:
        """Serve until ``lifecycle`` ends.

        ``ready`` is entered once requests are answered, and left at the end.
        """

        def dispatch() -> None:
            try:
                serve(channel, operations, self._call)
            finally:
                lifecycle.connection_closed()

        ended = begin(dispatch)
        with ready:
            lifecycle.wait(operations)
        # Not for ever: the connection to /dev/cuse ends only with the process.
        ended.acquire(timeout=PATIENCE)
        self.readers.close()

    def facts(self, latest: Latest[Backing]) -> dict[str, Any]:
        """Return the facts that ``ksyms status`` shows of every server."""
        generation = latest.generation
        assert generation is not None
        events = generation.events
        return {
            "pid": os.getpid(),
            "generation": {
                "modules": None if generation.text is None else len(generation.modules),
                "uevents": None if events is None else sum(events.values()),
                "perf_events": generation.symbols,
            },
            "sources_missing": dict(latest.missing),
            "shared": latest.shared,
            "taken": latest.taken,
            "age": round(time.time() - self._taken, 3),
        }

    def _kept(self, snapshot: Snapshot) -> Backing:
        """Return a snapshot as a file for its opens, and report that it was taken."""
        backing = Backing(snapshot.image)
        self._taken = time.time()
        self.event(f"snapshot of {backing.size} bytes taken")
        return backing
