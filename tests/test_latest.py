"""One snapshot for all, where everything that moves is told; else a new one each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conftest import Kernel
from ksyms._linker import Linker
from ksyms._snapshot import Latest, Snapshot


@contextmanager
def latest(kernel: Kernel) -> Iterator[tuple[Latest[Snapshot], Linker]]:
    with Linker(str(kernel.root), debug=None) as linker:
        yield Latest(linker, lambda snapshot: snapshot), linker


def test_a_source_that_cannot_move_is_taken_once(saved: dict[str, Kernel]) -> None:
    for kernel in saved.values():
        with latest(kernel) as (snapshots, _):
            assert snapshots.current() is None
            first = snapshots.get()
            assert snapshots.get() is snapshots.current() is first
            assert (snapshots.taken, snapshots.shared) == (1, True)


def test_a_kernel_that_does_not_tell_what_moves(
    live: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose number of perf_event_open is not known: nothing says that no
    program came."""
    monkeypatch.setattr("ksyms._linker.perf_events._PERF_EVENT_OPEN", {})
    with latest(live) as (snapshots, linker):
        first = snapshots.get()
        assert "perf_event_open" in linker.root.absent
        assert not linker.watched
        assert snapshots.current() is None
        assert snapshots.get() is not first
        assert (snapshots.taken, snapshots.shared) == (2, False)
