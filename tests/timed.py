"""What work takes beside other work, on a machine that others use too: no limit in seconds.

Times are of CPUs (``tasks.cpu``), which other processes change less than what passes on the
clock. What disturbs makes work longer and never shorter, so the least of several runs counts:
a limit that holds once holds, and what takes the square of its size never comes within one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import tasks

ROUNDS: Final = 20
LONGEST: Final = 20
"""Seconds after which no other round begins."""
FIRST: Final = 3
"""How often what is small is run before what is large: the least of these is near the truth."""


def spent(work: Callable[[], object]) -> float:
    """The seconds of CPUs that a call takes."""
    return tasks.seconds(work, tasks.cpu)


def ratio(pair: tasks.Pair, limit: float) -> float:
    """The least ratio of work to yardstick in as many rounds as it takes to be within
    ``limit``, or in the most."""
    ratios, end = [], time.monotonic() + LONGEST
    for work, yardstick in tasks.rounds(pair, ROUNDS, tasks.cpu):
        ratios.append(work / yardstick)
        if ratios[-1] <= limit or time.monotonic() > end:
            break
    return min(ratios)


def growth(work: Callable[[int], object], few: int, many: int, limit: float) -> float:
    """How many times what ``work(few)`` takes ``work(many)`` does, the least of either.

    They take turns until the ratio is within ``limit``, for which a good choice is some way
    between ``many / few`` and the square of that.
    """
    work(few)  # which imports what it needs
    small = min(spent(lambda: work(few)) for _ in range(FIRST))
    large, end = spent(lambda: work(many)), time.monotonic() + LONGEST
    for _ in range(ROUNDS):
        if large <= limit * small or time.monotonic() > end:
            break
        small = min(small, spent(lambda: work(few)))
        large = min(large, spent(lambda: work(many)))
    return large / small


def least(work: Callable[[], object], limit: float) -> float:
    """The least that a call takes, in as many calls as it takes to be within ``limit``."""
    found, end = spent(work), time.monotonic() + LONGEST
    for _ in range(ROUNDS):
        if found <= limit or time.monotonic() > end:
            break
        found = min(found, spent(work))
    return found
