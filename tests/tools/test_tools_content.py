"""The tools that judge a file, or print all of it, find nothing wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oracles import output, subject

if TYPE_CHECKING:
    from conftest import Kernel

PRINTERS = {
    "readelf": ("readelf", "-aW"),
    "llvm-readelf": ("llvm-readelf", "-a"),
    "eu-readelf": ("eu-readelf", "-a"),
    "objdump": ("objdump", "-h", "-t", "-p"),
    "llvm-objdump": ("llvm-objdump", "-h", "-t", "-p"),
    "size": ("size", "-A"),
}


@pytest.mark.parametrize("tool", PRINTERS)
def test_prints_all_and_warns_of_nothing(kernel: Kernel, tool: str) -> None:
    text = output(*PRINTERS[tool], subject(kernel).elf)
    complaints = re.compile(r"\bWarning\b|\bwarning:|\berror:")
    assert [line for line in text.splitlines() if complaints.search(line)] == []


def test_elflint_finds_no_errors(kernel: Kernel) -> None:
    assert output("eu-elflint", "-d", subject(kernel).elf) == "No errors\n"


def test_elflint_finds_no_errors_after_objcopy(kernel: Kernel, tmp_path: Path) -> None:
    """What BFD reads it writes again: nothing of it is there by chance of its place."""
    copy = tmp_path / "copy"
    assert output("objcopy", subject(kernel).elf, copy) == ""
    assert output("eu-elflint", "-d", copy) == "No errors\n"
    assert _names(copy) == _names(subject(kernel).elf)


def _names(elf: Path) -> list[str]:
    return sorted(output("nm", "--no-demangle", "-a", elf).splitlines())
