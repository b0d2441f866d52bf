"""Runs a Python program of this directory in the VM."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
KERNELS = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
"""The Debian package of each kernel that the tests boot."""


def in_guest(*arguments: str) -> str:
    """The shell's words that run Python in the VM with ksyms and the tests' modules."""
    path = shlex.quote(f"{SRC}:{HERE.parent}")
    command = shlex.join([sys.executable, *arguments])
    return f"PYTHONPATH={path} {command}"


def lab(
    package: str, directory: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What lab.sh gives for its arguments, in a directory that the VM may write to."""
    return subprocess.run(
        [HERE / "lab.sh", *arguments],
        cwd=directory,
        env={**os.environ, "KSYMS_LAB_KERNEL": package, **environment},
        capture_output=True,
        text=True,
    )


def build_modules(package: str, directory: Path) -> None:
    """Build module/ in a directory, for the kernel of a package."""
    shutil.copytree(HERE / "module", directory, dirs_exist_ok=True)
    run = lab(package, directory, "--headers")
    assert run.returncode == 0, run.stderr
    command = ["make", "-s", "-C", run.stdout.strip(), f"M={directory}", "CC=gcc", "modules"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr


# QEMU without KVM can run an int3 that the kernel has patched into its text and taken out
# again (arch/x86/kernel/alternative.c, text_poke_bp_batch): nothing of ours.
_DIED_IN_QEMU = "Oops: int3"


def in_vm(package: str, directory: Path, *command: str) -> Any:
    """What a Python program in this directory prints in the VM, as JSON."""
    python = in_guest(str(HERE / command[0]), *command[1:])
    run = lab(package, directory, python, KSYMS_LAB_TIMEOUT="1200")
    if run.returncode and _DIED_IN_QEMU in run.stdout + run.stderr:
        print(f"the kernel died of an int3 in QEMU and is booted again:\n{run.stderr}")
        run = lab(package, directory, python, KSYMS_LAB_TIMEOUT="1200")
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout)
