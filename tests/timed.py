"""Compare the CPU time of one work with that of another, on a machine that others use too.

No test has a limit in seconds. CPU times (``tasks.cpu``) are measured, because other processes
change them less than elapsed times. Disturbances only make work longer, never shorter. So the
least of several runs counts, and a limit that was met once is met. Work that takes the square
of its size never meets the limit for linear work, however often it is run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import tasks

ROUNDS: Final = 20
LONGEST: Final = 20
"""Seconds after which no further round begins."""
FIRST: Final = 3
"""Number of runs of the small work before the large one; the least time is near the truth."""


def spent(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    return tasks.seconds(work, tasks.cpu)


def ratio(pair: tasks.Pair, limit: float) -> float:
    """Return the least ratio of the work's time to the yardstick's.

    Rounds are run until a ratio is within ``limit``, but at most :data:`ROUNDS` of them.
    """
    ratios, end = [], time.monotonic() + LONGEST
    for work, yardstick in tasks.rounds(pair, ROUNDS, tasks.cpu):
        ratios.append(work / yardstick)
        if ratios[-1] <= limit or time.monotonic() > end:
            break
    return min(ratios)


def growth(work: Callable[[int], object], few: int, many: int, limit: float) -> float:
    """Return the time of ``work(many)`` divided by that of ``work(few)``.

    Each is the least time of several runs. The two take turns until the ratio is within
    ``limit``. A good limit is between the ratio for linear work and that for quadratic work:
    for ``few=1000, many=4000`` between 4 and 16, for example 8.
    """
    work(few)  # not measured: it imports what it needs
    small = min(spent(lambda: work(few)) for _ in range(FIRST))
    large, end = spent(lambda: work(many)), time.monotonic() + LONGEST
    for _ in range(ROUNDS):
        if large <= limit * small or time.monotonic() > end:
            break
        small = min(small, spent(lambda: work(few)))
        large = min(large, spent(lambda: work(many)))
    return large / small


def least(work: Callable[[], object], limit: float) -> float:
    """Return the least CPU seconds of a call; call again until they are within ``limit``."""
    found, end = spent(work), time.monotonic() + LONGEST
    for _ in range(ROUNDS):
        if found <= limit or time.monotonic() > end:
            break
        found = min(found, spent(work))
    return found
