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
    text = (TEXTS / f"{name}.txt").read_text()
    found = list(frames(text, symbols))
    named = {frame.line: frame for frame in found if NAMED.fullmatch(frame.text)}
    assert len(named) >= 8
    assert [frame for frame in named.values() if not frame.addresses] == []
    for frame in found:
        if f"[<{frame.text}>]" in text.splitlines()[frame.line - 1]:
            assert frame.addresses == named[frame.line].addresses
