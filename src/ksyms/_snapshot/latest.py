"""One snapshot for all who ask while the generation stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .._linker import Generation, Linker
from .._typing import Any
from .snapshot import Snapshot, take_reading

T = TypeVar("T")


class Latest(Generic[T]):
    """Gives the snapshot of now: the last one as long as nothing has moved, else a new one.

    ``keep`` makes of a snapshot what is given and kept in its place.

    NetBSD's ksymsopen shares its snapshot so. Where a source of the generation is denied,
    nothing tells that nothing moved, and every snapshot is a new one. Any thread may ask.
    """

    def __init__(self, linker: Linker, keep: Callable[[Snapshot], T]) -> None:
        self._linker = linker
        self._keep = keep
        self._lock = threading.Lock()
        self._last: tuple[T, Any] | None = None
        self.taken = 0
        self.shared = False
        self.generation: Generation | None = None

    @property
    def missing(self) -> dict[str, str]:
        """What could not be read, and why."""
        return self._linker.root.absent

    def current(self) -> T | None:
        """The last snapshot if it is the one of now; None, and at once, where it is not."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._standing()
        finally:
            self._lock.release()

    def get(self) -> T:
        """The snapshot of now.

        Raises:
            KsymsError: it cannot be taken.
        """
        with self._lock:
            standing = self._standing()
            if standing is not None:
                return standing
            snapshot, reading = take_reading(self._linker)
            kept = self._keep(snapshot)
            self.shared = self._linker.watched
            self._last = (kept, reading) if self.shared else None
            self.generation = snapshot.generation
            self.taken += 1
            return kept

    def _standing(self) -> T | None:
        if self._last is None or self._linker.moved(self._last[1]):
            return None
        return self._last[0]
