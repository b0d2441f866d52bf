"""``ksyms decode`` of several texts, of which some are refused, and of another kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command import ksyms, refused
from conftest import Kernel

OTHERS = "Linux version 5.10.0-1-amd64 (somewhere)\n"


@pytest.fixture(scope="module")
def kernel(saved: dict[str, Kernel]) -> Kernel:
    return saved["6.12.117+deb12-amd64-few"]


@pytest.fixture(scope="module")
def address(kernel: Kernel) -> str:
    [place] = {line[0] for line in kernel.lines if line[2] == "vfs_write"}
    return f"{place + 4:016x}"


def misfits(address: str) -> str:
    start = int(address, 16)
    return "".join(f"[<{start + n:016x}>] kfree+{n:#x}/0x999\n" for n in range(20))


def test_one_that_is_refused_does_not_end_it(
    kernel: Kernel, address: str, tmp_path: Path
) -> None:
    good, other, missing = (tmp_path / name for name in ("good", "other", "missing"))
    good.write_text(f"{address} vfs_write+0x4/0x450\n{address}\n")
    other.write_text(misfits(address))
    run = ksyms("decode", "--from", kernel.elf, good, other, missing, good)
    assert run.returncode == 1
    assert run.stdout.count(f"{address} vfs_write+0x4/") == 4
    assert run.stdout.count("\n") == 4
    said = run.stderr.splitlines()
    assert said[0].startswith(f"ksyms: {other}: The text is of another build")
    assert "--force" in said[1]
    assert said[2] == f"ksyms: {missing} cannot be read: No such file or directory."
    assert len(said) == 4
    assert ksyms("decode", "--from", kernel.elf, good, good).returncode == 0
    forced = ksyms("decode", "--from", kernel.elf, "--force", good, other)
    assert forced.returncode == 0
    assert forced.stdout.count("\n") == 22


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_text_of_another_kernel(options: list[str], kernel: Kernel, address: str) -> None:
    """By its release alone: all of it stays as it is, and the status says so."""
    run = ksyms("decode", "--from", kernel.elf, *options, input=f"{OTHERS}{address}\n")
    assert run.returncode == 1
    assert "vfs_write" not in run.stdout
    first, second = run.stderr.splitlines()
    assert first.startswith("ksyms: The text is of 5.10.0-1-amd64, and ")
    assert first.endswith(" of 6.12.117+deb12-amd64.")
    assert "--force" in second


def test_a_part_of_another_kernel_is_none(kernel: Kernel, address: str) -> None:
    """A log of two kernels, of which one is the file's, is decoded in that part."""
    own = f"Linux version 6.12.117+deb12-amd64 (x)\n{address} vfs_write+0x4/0x450\n{address}\n"
    run = ksyms("decode", "--from", kernel.elf, input=f"{OTHERS}{address}\n{own}")
    assert run.returncode == 0, run.stderr
    assert f"\n{address} vfs_write+0x4/" in run.stdout


def test_the_running_kernel_is_not_another(address: str) -> None:
    """Without --from: what another kernel wrote is exit 1, what this one did is not."""
    release = os.uname().release
    run = ksyms("decode", input=f"{OTHERS}{address}\n")
    assert run.returncode == 1, run.stderr
    assert "The text is of 5.10.0-1-amd64, and " in run.stderr
    assert f" of {release}.\n" in run.stderr
    run = ksyms("decode", input=f"Linux version {release} (somewhere)\nno address\n")
    assert (run.returncode, run.stderr) == (0, "")


def test_names_that_fit_nowhere(kernel: Kernel, address: str) -> None:
    refused(ksyms("decode", "--from", kernel.elf, input=misfits(address)), "of another build")
