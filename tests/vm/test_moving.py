"""What moves while ksyms looks: every kind of change, and snapshots under churn.

All of it is of one boot of each kernel, with the paths that root writes to beside an attacker.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from guests import KERNELS, in_vm

pytestmark = pytest.mark.vm

GIVEN = 200
REFUSED = 5
SECONDS = 150
"""For snapshots with pauses; test_devices.py holds more images against the same lists."""
WITHOUT_A_PAUSE = 300
"""Seconds at most, till five were refused."""


@pytest.fixture(scope="module", params=KERNELS)
def said(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What each program found in a boot of a kernel, by the test that asks for it."""
    commands = {
        "protected": ["protected.py"],
        "paused": ["churn.py", str(GIVEN), str(SECONDS), "8"],
        "without a pause": ["churn.py", str(REFUSED), str(WITHOUT_A_PAUSE), "0"],
        "sizes": ["sizes.py"],
        "changes": ["generation.py"],  # last, for it leaves a tracer and a page of kprobes
    }
    place = tmp_path_factory.mktemp("moving")
    asked = json.dumps(list(commands.values()))
    return dict(zip(commands, in_vm(KERNELS[request.param], place, "in_turn.py", asked)))


def test_every_kind_of_change_is_seen(said: dict[str, Any]) -> None:
    """By the very next question, or by the one after the kernel did it; and where nothing
    changed, nothing is said."""
    changes = said["changes"]
    silent = {name for name, words in changes.items() if not words}
    assert silent == {"nothing", "nothing again", "uevents of no module"}, changes
    assert "module dummy came" in changes["module loaded"]
    assert "module dummy went" in changes["module unloaded"]
    # /proc/modules is as before, where the address is: the kernel's events tell.
    assert changes["module reloaded"][0].startswith("module dummy ")
    assert changes["module loaded and unloaded"] == ["module dummy came and went"]


def test_nothing_torn_is_given_out(said: dict[str, Any]) -> None:
    """Four processes load and unload modules, pausing for up to 8 snapshots' time; each
    snapshot is whole, and there are many: of those that there were time for a quarter."""
    result = said["paused"]
    assert result["torn"] == []
    assert result["given"] >= min(GIVEN, SECONDS / result["quiet"] / 4), result
    assert len(result["with"]) > 1, "the set of modules never changed"


def test_without_a_pause(said: dict[str, Any]) -> None:
    """Refusals are correct and quick; what is given out all the same is whole."""
    result = said["without a pause"]
    assert result["torn"] == []
    assert max(result["refused"], result["given"]) >= REFUSED, result
    assert result["slowest"] < 30 * result["quiet"]  # three tries, beside four busy processes


def test_sizes_and_places(said: dict[str, Any]) -> None:
    """Every symbol in its module and a known section; sizes against the modules' files."""
    result = said["sizes"]
    assert result["symbols"] == result["in their module"] == result["of /proc/kallsyms"]
    assert result["in a known section"] >= 0.99 * result["symbols"]
    assert result["refused"] == {}
    assert result["exact"] > 0.5 * result["symbols"]
    assert result["equal"] + result["longer by padding"] > 0.98 * result["exact"], result


def test_where_root_writes(said: dict[str, Any]) -> None:
    """With ``fs.protected_symlinks`` off and on; the kernel's own refusals are errors too."""
    found = said["protected"]
    assert {value: one["wrong"] for value, one in found.items()} == {"0": [], "1": []}
    assert found["0"]["held"] == found["1"]["held"] > 70
