"""Every tool names the same symbol for an address as kallsyms does, and none in a gap."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from oracles import EDGE, INSIDE, NOWHERE, TOOLS, Tool, questions, subject

if TYPE_CHECKING:
    from conftest import Kernel


@pytest.mark.parametrize("tool", TOOLS, ids=[tool.name for tool in TOOLS])
def test_answers(kernel: Kernel, tool: Tool) -> None:
    assert tool.wrong(subject(kernel)) == []


def test_questions_are_of_every_place(kernel: Kernel) -> None:
    held = subject(kernel)
    asked = questions(held)
    places = Counter(q.place for q in asked)
    assert places[INSIDE] >= 2000
    assert places[EDGE] >= 2  # _end, or _etext and _einittext, at least
    assert places[NOWHERE] >= 20  # at least the first and last byte of each of some gaps
    data = {False} if held.lists_all else set()
    assert {q.code for q in asked if q.place == INSIDE} == {True} | data
