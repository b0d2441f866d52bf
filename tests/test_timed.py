"""The measure of growth itself: the square of a size is never taken for the size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from timed import growth

FEW, MANY, LIMIT = 60, 960, 80


def linear(count: int) -> None:
    for _ in range(100):
        sum(range(count))


def quadratic(count: int) -> None:
    """As a search of all for each, and quick where there are few."""
    for _ in range(count):
        sum(range(count))


def sorts(count: int) -> None:
    for _ in range(10):
        sorted(range(count), key=lambda n: n * 7919 % count)


@pytest.mark.parametrize("work", [linear, sorts])
def test_what_grows_with_the_size_is_within(work: Callable[[int], None]) -> None:
    assert growth(work, FEW, MANY, LIMIT) <= LIMIT


def test_the_square_is_not_within_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timed.ROUNDS", 3)
    assert min(growth(quadratic, FEW, MANY, LIMIT) for _ in range(6)) > LIMIT
