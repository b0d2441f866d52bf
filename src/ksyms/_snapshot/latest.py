"""One snapshot that all readers share for as long as the kernel's symbols do not move."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .._linker import Generation, Linker
from .._log import decided
from .._typing import TYPE_CHECKING
from .snapshot import Snapshot, take_reading

if TYPE_CHECKING:
    from .._linker.reading import Reading

Kept = TypeVar("Kept")


class Latest(Generic[Kept]):
    """The current snapshot: the last one if nothing has moved since, else a new one.

    NetBSD's ksymsopen shares a snapshot in the same way. If the kernel denies a part of the
    generation (``linker.watched`` is False), a change can be missed, so no snapshot is shared.
    Any thread may call the methods.

    Args:
        linker: the source of the symbols.
        keep: called with each new snapshot; its result is kept and returned.

    Attributes:
        taken: the number of snapshots that were taken.
        shared: True if the last snapshot is shared until something moves.
        generation: the generation of the last snapshot, None before the first.
    """

    def __init__(self, linker: Linker, keep: Callable[[Snapshot], Kept]) -> None:
        self._linker = linker
        self._keep = keep
        self._lock = threading.Lock()
        self._last: tuple[Kept, Reading] | None = None
        self.taken = 0
        self.shared = False
        self.generation: Generation | None = None

    @property
    def missing(self) -> dict[str, str]:
        """The files that could not be read, and the reason of each."""
        return self._linker.root.absent

    def current(self) -> Kept | None:
        """Return the last snapshot if nothing has moved since, else None.

        Return None too, without waiting, while another thread calls a method.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._unmoved()
        finally:
            self._lock.release()

    def get(self) -> Kept:
        """Return the current snapshot; take a new one if something has moved.

        Raises:
            KsymsError: the snapshot cannot be taken.
        """
        with self._lock:
            unmoved = self._unmoved()
            if unmoved is not None:
                return unmoved
            snapshot, reading = take_reading(self._linker)
            kept = self._keep(snapshot)
            self.shared = self._linker.watched
            self._last = (kept, reading) if self.shared else None
            self.generation = snapshot.generation
            self.taken += 1
            return kept

    def _unmoved(self) -> Kept | None:
        """Return the last snapshot if it is shared and nothing has moved since, else None."""
        if self._last is None:
            return None
        if moved := self._linker.moved(self._last[1]):
            decided("the shared snapshot is of the past: %s", ", ".join(moved))
            return None
        return self._last[0]
