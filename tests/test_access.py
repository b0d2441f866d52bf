"""Who is shown addresses: processes with less than root has, on the running kernel.

What such a process should see is what ``cat`` sees with the same rights. tests/vm has the
kernel's settings that a test must not change on the machine it runs on.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

import callers
import ksyms as package
from command import COMMAND, TEXT, nm, refused

ROOT = os.geteuid() == 0
# A test run as another user than root has no rights to give up.
NO_SYSLOG = callers.WITHOUT_SYSLOG if ROOT else ()
NO_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if ROOT else ()
# Another user, who may still search the directories that the checkout is in.
NOBODY = (
    (
        *callers.NOBODY,
        *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
    )
    if ROOT
    else ()
)
WHO = {
    "no-syslog": (NO_SYSLOG, "CAP_SYSLOG", "Run this as root"),
    "no-rights": (NO_RIGHTS, "CAP_SYSLOG", "Run this as root"),
    "nobody": (NOBODY, "CAP_SYSLOG", "Run this as root"),
    "user-namespace": (
        callers.USER_NAMESPACE,
        "initial user namespace",
        "outside of the container",
    ),
}


def run(who: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WHO[who][0], COMMAND, *arguments], capture_output=True, text=True, **options
    )


def is_shown(who: str) -> bool:
    """Whether such a process reads any address but zero, without ksyms."""
    text = subprocess.check_output([*WHO[who][0], "cat", "/proc/kallsyms"], text=True)
    return re.search(r"^0*[1-9a-f]", text, re.M) is not None


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory that anyone may write in."""
    path = tmp_path / "work"
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.mark.parametrize("who", WHO)
def test_snapshot(who: str, work: Path) -> None:
    """What the kernel shows, or a refusal that names what hides it; never zeros."""
    done = run(who, "snapshot", cwd=work)
    if is_shown(who):
        assert (done.returncode, done.stderr) == (0, "")
        assert any(symbol.address for symbol in package.load(work / "kernel.elf"))
        return
    refused(done, why(who), WHO[who][2] if restricted() < 2 else "sysctl kernel.kptr_restrict")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("command", ["snapshot -o -", "lookup _stext", "lookup --json _stext"])
def test_every_command(command: str, work: Path) -> None:
    """No image of zeros, and no answer from one, on stdout."""
    done = run("no-syslog", *command.split(), cwd=work)
    if is_shown("no-syslog"):
        assert (done.returncode, done.stderr) == (0, "")
    else:
        refused(done, why("no-syslog"))


def test_the_file_that_was_there_stays(work: Path) -> None:
    (work / "kernel.elf").write_bytes(b"precious")
    done = run("no-syslog", "snapshot", cwd=work)
    kept = (work / "kernel.elf").read_bytes() == b"precious"
    assert kept is not is_shown("no-syslog")
    assert kept is (done.returncode == 1)
    assert len(list(work.iterdir())) == 1


@pytest.mark.parametrize("who", WHO)
def test_info(who: str) -> None:
    """The rule's parts as they are for this process, by /proc and by name."""
    done = run(who, "info", "--json")
    facts = json.loads(done.stdout)
    shown = is_shown(who)
    assert (done.returncode, facts["possible"], done.stderr) == (0 if shown else 1, shown, "")
    assert facts["access"] == {
        "kptr_restrict": restricted(),
        "perf_event_paranoid": setting("perf_event_paranoid"),
        "cap_syslog": who == "user-namespace",
        "initial_user_namespace": who != "user-namespace",
    }
    if not shown:
        assert why(who) in facts["why"]
        assert facts["remedy"].endswith(".")


def test_info_for_people() -> None:
    done = run("no-syslog", "info")
    possible = is_shown("no-syslog")
    assert re.search(rf"^snapshot +{'' if possible else 'not '}possible$", done.stdout, re.M)
    assert re.search(r"^cap_syslog +False$", done.stdout, re.M)
    assert bool(re.search(r"^what to do +\S", done.stdout, re.M)) is not possible


@pytest.mark.parametrize("who", WHO)
def test_a_file_needs_no_rights(who: str, tmp_path: Path, work: Path) -> None:
    """A saved text is made a snapshot of, and read again, by anyone who can read it."""
    source = tmp_path / "kallsyms"
    source.write_text(TEXT)
    source.chmod(0o644)
    done = run(who, "snapshot", "--kallsyms", source, cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(who, "lookup", "--from", work / "kernel.elf", "alpha")
    assert done.stdout == "ffffffff81000010  T  ~48  alpha  .text\n"


def test_zeros_that_were_saved(tmp_path: Path, work: Path) -> None:
    """``cat /proc/kallsyms`` without rights: refused wherever it is read, even by root."""
    source = tmp_path / "root/proc/kallsyms"
    source.parent.mkdir(parents=True)
    text = subprocess.check_output([*NO_SYSLOG, "cat", "/proc/kallsyms"], text=True)
    source.write_text(re.sub(r"^[0-9a-f]+", lambda m: "0" * len(m[0]), text, flags=re.M))
    for arguments in (("--kallsyms", source), ("--root", tmp_path / "root")):
        done = subprocess.run(
            [COMMAND, "snapshot", *arguments], capture_output=True, text=True, cwd=work
        )
        refused(done, "it was saved where the kernel hid them", "Save it again as root")
        assert list(work.iterdir()) == []


def test_a_zero_among_addresses_is_an_address(tmp_path: Path, work: Path) -> None:
    """Only a text of nothing but zeros is a hidden one."""
    source = tmp_path / "kallsyms"
    source.write_text("0000000000000000 A __per_cpu_start\n" + TEXT)
    done = subprocess.run(
        [COMMAND, "snapshot", "--kallsyms", source], capture_output=True, text=True, cwd=work
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0000000000000000 __per_cpu_start" in nm(work / "kernel.elf")


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_new_file_is_its_owners_only(umask: int, tmp_path: Path, work: Path) -> None:
    source = tmp_path / "kallsyms"
    source.write_text(TEXT)
    subprocess.run(
        [COMMAND, "snapshot", "--kallsyms", source], cwd=work, umask=umask, check=True
    )
    mode = stat.S_IMODE((work / "kernel.elf").stat().st_mode)
    assert mode & 0o077 == 0


def why(who: str) -> str:
    return f"kptr_restrict is {restricted()}" if restricted() >= 2 else WHO[who][1]


def restricted() -> int:
    return setting("kptr_restrict")


def setting(name: str) -> int:
    return int(Path("/proc/sys/kernel", name).read_text())
