"""A System.map is trusted where all of it that can be compared agrees with the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksyms._linker import LinkTime, Root, read_link_time

RELEASE = "6.12.9-test"
MAP = """\
0000000000000000 D __per_cpu_start
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81e00000 T _etext
ffffffff82c00000 T _sinittext
ffffffff82c80000 T _einittext
ffffffff83600000 B _end
"""
SLIDE = 0x14000000
NOW = {
    "_text": 0xFFFFFFFF81000000 + SLIDE,
    "_stext": 0xFFFFFFFF81000000 + SLIDE,
    "_etext": 0xFFFFFFFF81E00000 + SLIDE,
    "_sinittext": 0xFFFFFFFF82C00000 + SLIDE,
    "_einittext": 0xFFFFFFFF82C80000 + SLIDE,
}
LINKED = LinkTime(0xFFFFFFFF81000000, 0xFFFFFFFF81000000, f"/boot/System.map-{RELEASE}")


def read(
    root: Path, text: str, now: dict[str, int] = NOW, name: str = f"boot/System.map-{RELEASE}"
) -> LinkTime | None:
    path = root / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return read_link_time(Root(str(root)), RELEASE, now)


def without(*names: str) -> str:
    lines = (line for line in MAP.splitlines(True) if line.split()[2] not in names)
    return "".join(lines)


def changed(**moves: int) -> dict[str, int]:
    """Where the kernel is, but for some boundaries that are moved further."""
    return {name: address + moves.get(name, 0) for name, address in NOW.items()}


@pytest.mark.parametrize(
    "where", [f"boot/System.map-{RELEASE}", f"lib/modules/{RELEASE}/System.map"]
)
def test_one_that_agrees(tmp_path: Path, where: str) -> None:
    assert read(tmp_path, MAP, name=where) == LINKED._replace(source=f"/{where}")


def test_boundaries_that_the_kernel_lists_no_more(tmp_path: Path) -> None:
    """Those of init code are none where it is not in kallsyms: three are enough."""
    now = {name: NOW[name] for name in ("_text", "_stext", "_etext")}
    assert read(tmp_path / "kernel", MAP, now) == LINKED
    assert read(tmp_path / "map", without("_sinittext", "_einittext")) == LINKED


@pytest.mark.parametrize("name", NOW)
def test_one_boundary_elsewhere(tmp_path: Path, name: str) -> None:
    """Another build of the release: one of its boundaries lies elsewhere."""
    assert read(tmp_path, MAP, changed(**{name: 0x1000})) is None


@pytest.mark.parametrize("name", ["_text", "_stext", "_etext"])
def test_one_boundary_missing(tmp_path: Path, name: str) -> None:
    """What is left would agree with itself alone."""
    assert read(tmp_path / "map", without(name)) is None
    now = {other: address for other, address in NOW.items() if other != name}
    assert read(tmp_path / "kernel", MAP, now) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        # What Debian's has instead of symbols.
        "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n",
        "ffffffff81000000 T _text\n",
    ],
)
def test_one_without_symbols(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) is None


def test_one_of_another_release(tmp_path: Path) -> None:
    assert read(tmp_path, MAP, name="boot/System.map-6.12.8-test") is None
    assert read_link_time(Root(str(tmp_path)), None, NOW) is None
