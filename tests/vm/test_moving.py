"""What moves while ksyms looks: every kind of change, and snapshots under churn."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
KERNELS = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
GIVEN = 200
SECONDS = 280


@pytest.fixture(scope="module", params=KERNELS)
def package(request: pytest.FixtureRequest) -> str:
    """The Debian package of each kernel in turn."""
    return KERNELS[request.param]


def in_vm(package: str, directory: Path, *command: str) -> dict[str, Any]:
    """The JSON object that a Python program in this directory prints in the VM."""
    python = f"PYTHONPATH={shlex.quote(str(SRC))} PYTHONDONTWRITEBYTECODE=1 " + shlex.join(
        [sys.executable, str(HERE / command[0]), *command[1:]]
    )
    run = subprocess.run(
        [HERE / "lab.sh", python],
        cwd=directory,
        env={**os.environ, "KSYMS_LAB_KERNEL": package, "KSYMS_LAB_TIMEOUT": "600"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_every_kind_of_change_is_seen(package: str, tmp_path: Path) -> None:
    """By the very next question; and where nothing changed, nothing is said."""
    said = in_vm(package, tmp_path, "generation.py")
    silent = {name for name, words in said.items() if not words}
    assert silent == {"nothing", "nothing again"}
    assert said["module loaded"] == ["module dummy came"]
    assert said["module unloaded"] == ["module dummy went"]
    # At the address where it was: /proc/modules is as before, and the event tells.
    assert said["module reloaded"][0].startswith(("a device or module event", "module dummy"))


def test_nothing_torn_is_given_out(package: str, tmp_path: Path) -> None:
    """Four processes load and unload modules, pausing up to 3 s; each snapshot is whole."""
    result = in_vm(package, tmp_path, "churn.py", str(GIVEN), str(SECONDS), "3")
    assert result["torn"] == []
    assert result["given"] >= GIVEN, result
    assert len(result["with"]) > 1, "the set of modules never changed"


def test_without_a_pause(package: str, tmp_path: Path) -> None:
    """Refusals are correct and quick; what is given out all the same is whole."""
    result = in_vm(package, tmp_path, "churn.py", str(GIVEN), "30", "0")
    assert result["torn"] == []
    assert result["refused"] + result["given"] > 3
    assert result["slowest"] < 15
