"""What moves while ksyms looks: every kind of change, and snapshots under churn."""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import KERNELS, in_vm

pytestmark = pytest.mark.vm

GIVEN = 200
REFUSED = 5
SECONDS = 300


@pytest.fixture(scope="module", params=KERNELS)
def package(request: pytest.FixtureRequest) -> str:
    return KERNELS[request.param]


def test_every_kind_of_change_is_seen(package: str, tmp_path: Path) -> None:
    """By the very next question, or by the one after the kernel did it; and where nothing
    changed, nothing is said."""
    said = in_vm(package, tmp_path, "generation.py")
    silent = {name for name, words in said.items() if not words}
    assert silent == {"nothing", "nothing again"}, said
    assert "module dummy came" in said["module loaded"]
    assert "module dummy went" in said["module unloaded"]
    # At the address where it was: /proc/modules is as before, and the event tells.
    assert said["module reloaded"][0].startswith(("a device or module event", "module dummy"))


def test_nothing_torn_is_given_out(package: str, tmp_path: Path) -> None:
    """Four processes load and unload modules, pausing for up to 8 snapshots' time; each
    snapshot is whole, and there are many: of those that there were time for a quarter."""
    result = in_vm(package, tmp_path, "churn.py", str(GIVEN), str(SECONDS), "8")
    assert result["torn"] == []
    assert result["given"] >= min(GIVEN, SECONDS / result["quiet"] / 4), result
    assert len(result["with"]) > 1, "the set of modules never changed"


def test_without_a_pause(package: str, tmp_path: Path) -> None:
    """Refusals are correct and quick; what is given out all the same is whole."""
    result = in_vm(package, tmp_path, "churn.py", str(REFUSED), str(SECONDS), "0")
    assert result["torn"] == []
    assert max(result["refused"], result["given"]) >= REFUSED, result
    assert result["slowest"] < 30 * result["quiet"]  # three tries, beside four busy processes


def test_sizes_and_places(package: str, tmp_path: Path) -> None:
    """Every symbol in its module and a known section; sizes against the modules' files."""
    result = in_vm(package, tmp_path, "sizes.py")
    assert result["symbols"] == result["in their module"] == result["of /proc/kallsyms"]
    assert result["in a known section"] >= 0.99 * result["symbols"]
    assert result["refused"] == {}
    assert result["exact"] > 0.5 * result["symbols"]
    assert result["equal"] + result["longer by padding"] > 0.98 * result["exact"], result
