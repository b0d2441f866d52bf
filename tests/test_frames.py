"""The texts that are written by hand hold together, by the bisection of frames.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from frames import NAMED, Symbols, frames

TEXTS = Path(__file__).parent / "texts"


@pytest.mark.parametrize("name", ["kasan", "arm64", "riscv", "kernel-5.4"])
def test_frames_of_a_text_are_in_its_kallsyms(name: str) -> None:
    """Each name is a symbol of that size; each address that stands beside it is its own."""
    symbols = Symbols((TEXTS / f"{name}.kallsyms").read_text())
    found = list(frames((TEXTS / f"{name}.txt").read_text(), symbols))
    named = [frame for frame in found if NAMED.fullmatch(frame.text)]
    assert [frame for frame in named if not frame.addresses] == []
    assert len(named) >= 8
    by_line = {frame.line: frame for frame in named}
    for frame in found:
        if (
            f"[<{frame.text}>]"
            in (TEXTS / f"{name}.txt").read_text().splitlines()[frame.line - 1]
        ):
            assert frame.addresses == by_line[frame.line].addresses
