"""Extracts of what machines of other kinds printed, of their own boot and of another.

Each frame is called what oracle.py finds in the boot's symbols; see extract.py, and consoles.py
for whole texts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import ksyms
from consoles import KINDS, Tally, check, judge, texts
from moved import machine
from oracle import Oracle

FIXTURES = Path(__file__).parent / "fixtures/consoles"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.txt"))
ARCHES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "armhf": "armv7l",
    "i386": "i686",
    "loongarch": "loongarch64",
    "ppc64el": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
"""What each machine calls itself (/proc/sys/kernel/arch)."""


@cache
def oracle(name: str) -> Oracle:
    return Oracle((FIXTURES / f"{name}.kallsyms").read_text(), {}, {})


@cache
def alone(name: str) -> ksyms.SymbolTable:
    """The symbols of a saved kallsyms, which does not tell everything of its machine."""
    return ksyms.load(FIXTURES / f"{name}.kallsyms")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roots")


def whole(name: str, root: Path) -> ksyms.SymbolTable:
    """The symbols of a machine whose release is known too."""
    path = root / name
    if not path.exists():
        kernel = path / "proc/sys/kernel"
        kernel.mkdir(parents=True)
        text = (FIXTURES / f"{name}.txt").read_text()
        banner = text[text.rindex("] Linux version ") + 2 :].partition("\n")[0]
        (path / "proc/kallsyms").write_text((FIXTURES / f"{name}.kallsyms").read_text())
        (path / "proc/version").write_text(f"{banner}\n")
        (kernel / "osrelease").write_text(f"{banner.split()[2]}\n")
        (kernel / "arch").write_text(f"{ARCHES[name.split('-', maxsplit=1)[0]]}\n")
        ksyms.snapshot(path).write(path / "kernel.elf")
    return ksyms.load(path / "kernel.elf")


@pytest.mark.parametrize("name", NAMES)
def test_oracle(name: str) -> None:
    """It says what the kernel printed beside addresses."""
    tally = Tally()
    check(oracle(name), (FIXTURES / f"{name}.txt").read_text(), tally)
    assert tally.bad == []
    assert tally.counts["oracle: agrees"] > 3


def judged(table: ksyms.SymbolTable, name: str, kind: str) -> Tally:
    """What decode makes of an extract, in one of the kinds that it can have."""
    found = oracle(name)
    text = {name: (FIXTURES / f"{name}.txt").read_text()}
    tally = Tally()
    for _, each in texts(found, machine(name, found.base), text, 1, [kind]):
        judge(table, each, tally)
    return tally


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_of_kallsyms(name: str, kind: str) -> None:
    """No frame has another's name."""
    assert judged(alone(name), name, kind).bad == []


@pytest.mark.parametrize("kind", ["own", "moved", "bare"])
@pytest.mark.parametrize("name", NAMES)
def test_of_machine(name: str, kind: str, root: Path) -> None:
    """No frame has another's name, and where it is told what lies there each has one."""
    tally = judged(whole(name, root), name, kind)
    assert tally.bad == []
    assert tally.missing == []
