"""The choice of a source, and a kind of source that is added."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ksyms
from ksyms._sources import choose
from ksyms._sources.choose import KINDS

DESIGN = Path(__file__).parent.parent / "docs" / "design.md"

TOY = '''
from ksyms._sources.kernel_files import open_kernel_files
from ksyms._sources.kind import SourceKind


class ToySource(SourceKind):
    """A text of names with their addresses in decimal."""

    words = "a toy"

    def recognise(self, given):
        return given.argument in ("--from", "--kernel") and given.plain[:4] == b"toy:"

    def open(self, given):
        pairs = [line.split() for line in bytes(given.contents).decode().splitlines()[1:]]
        text = "".join(f"{int(address):016x} T {name}\\n" for name, address in pairs)
        files = {"proc/kallsyms": text.encode()}
        return open_kernel_files(given.path, debug=None, files=files)
'''
"""The one new file."""
ROW = ("toy_source", "ToySource")
"""The one line of the chooser."""

ADDRESSES = {"_stext": 0xFFFFFFFF81000000, "toy_call": 0xFFFFFFFF81000400}
END = 0xFFFFFFFF81001000


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy_source.py").write_text(TOY)
    path = tmp_path / "symbols.toy"
    rows = [*ADDRESSES.items(), ("_etext", END)]
    path.write_text("toy:\n" + "".join(f"{name} {address}\n" for name, address in rows))
    return path


@pytest.fixture
def added(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(toy.parent))
    monkeypatch.setattr(choose, "KINDS", [ROW, *KINDS])
    return toy


def test_load_of_an_added_kind(added: Path) -> None:
    table = ksyms.load(added)
    assert {s.name: s.address for s in table if s.name in ADDRESSES} == ADDRESSES
    found = table.lookup(ADDRESSES["toy_call"] + 4)
    assert found is not None
    assert found.name == "toy_call"


def test_snapshot_of_an_added_kind(added: Path) -> None:
    table = ksyms.load(ksyms.snapshot(kernel=added).image)
    assert {s.name: s.address for s in table if s.name in ADDRESSES} == ADDRESSES


def test_commands_with_an_added_kind(toy: Path) -> None:
    """Every command that takes a file has the new kind by the same line."""
    address = ADDRESSES["toy_call"]
    runs: list[tuple[list[str | Path], str]] = [
        (["lookup", "--from", toy, f"{address + 4:#x}"], "toy_call+0x4/"),
        (["info", toy], f"{address & ~0xFFF:016x}"[:8]),
        (["diff", toy, toy], "no difference"),
        (["map", toy], "toy_call"),
        (["snapshot", "--kernel", toy, "-o", toy.with_suffix(".elf")], "symbols"),
    ]
    for arguments, said in runs:
        program = (
            f"import sys; sys.path.insert(0, {str(toy.parent)!r})\n"
            f"from ksyms._sources.choose import KINDS; KINDS.insert(0, {ROW!r})\n"
            "from ksyms._cli import main; sys.exit(main())"
        )
        run = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        assert (run.returncode, run.stderr) == (0, ""), arguments
        assert said in run.stdout, arguments


def test_a_file_of_no_kind(toy: Path) -> None:
    """Without its line, the toy is what it was: nothing that has symbols."""
    with pytest.raises(ksyms.ImageError, match="is neither an ELF file, nor kallsyms"):
        ksyms.load(toy)


def test_the_page_has_every_kind() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `--", DESIGN.read_text(), re.M)
    assert rows == [name for _, name in KINDS]
