"""What every server has: snapshots, who may see them, and words for what happens."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Final

from .._device import Policy
from .._linker import Linker, Rule
from .._snapshot import Latest, Snapshot
from .._threads import begin
from .._transport import Backing, Channel, Gate, Operations, Readers, serve
from .life import Life

if TYPE_CHECKING:
    from .._transport import Request

DEVICE: Final = "ksyms"
PATIENCE: Final = 2.0
"""Seconds to wait for what may never answer."""


class Server(ABC):
    """A server, from :meth:`run`'s begin to its end.

    Args:
        mode: the files' permissions.
        event: told in words what happens.
        call: told of each call: the request, its errno and how many seconds it took.
    """

    def __init__(
        self,
        *,
        mode: int = 0o400,
        event: Callable[[str], None] = lambda words: None,
        call: Callable[[Request, int, float], None] | None = None,
    ) -> None:
        self.policy = Policy(mode=mode, owner=os.geteuid(), group=os.getegid())
        self.gate = Gate(Rule().shows, event)
        self.readers = Readers()
        self.event = event
        self._call = call
        self._taken = 0.0

    @abstractmethod
    def run(self) -> None:
        """Serve until a signal ends it.

        Raises:
            KsymsError: this process cannot take a snapshot itself, or cannot serve.
        """

    def latest(self, stack: ExitStack) -> Latest[Backing]:
        """Snapshots, as long as ``stack`` lasts; who cannot read says so now."""
        latest = Latest(stack.enter_context(Linker()), self._kept)
        latest.get()
        return latest

    def serve(
        self,
        life: Life,
        channel: Channel,
        operations: Operations,
        ready: AbstractContextManager[None],
    ) -> None:
        """Serve until the end of ``life``; ``ready`` is entered once requests are answered."""

        def dispatch() -> None:
            try:
                serve(channel, operations, self._call)
            finally:
                life.over()

        # Not waited for: where only the end of the process ends the connection, it is that.
        ended = begin(dispatch)
        with ready:
            life.wait(operations)
        ended.acquire(timeout=PATIENCE)
        self.readers.close()

    def facts(self, latest: Latest[Backing]) -> dict[str, Any]:
        """What ``ksyms status`` says of every server."""
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
        backing = Backing(snapshot.image)
        self._taken = time.time()
        self.event(f"snapshot of {backing.size} bytes taken")
        return backing
