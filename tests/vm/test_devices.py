"""The device through CUSE and FUSE on kernels with modules: calls, who may see, churn, ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from guests import HERE, KERNELS, in_vm

from callers import CALLERS
from command import names, nm

pytestmark = pytest.mark.vm

OPENS = int(os.environ.get("KSYMS_OPENS", "67"))
"""Of each of three files: 201 a kernel."""
SECURITY = HERE.parents[1] / "docs/security.md"


@pytest.fixture(scope="module", params=KERNELS)
def said(
    request: pytest.FixtureRequest, client: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What devices.py found on each kernel, and the place where it ran; all in one boot."""
    place = tmp_path_factory.mktemp("devices")
    shutil.copy(client, place / "client")
    found = in_vm(KERNELS[request.param], place, "devices.py", "./client", str(OPENS))
    print(request.param, found["seconds"], found["churn"])
    return {**found, "place": place}


def test_calls(said: dict[str, Any]) -> None:
    """Every row that a character device of CUSE's has. What the kernel answers itself:
    fstat's size is 0, mmap of it is refused, lseek changes nothing, a read goes on."""
    words = dict(enumerate(word.split()[1] for word in said["calls"]))
    size, value, content = words[2], words[13], words[22]
    assert int(size) == (said["place"] / "copy").stat().st_size
    assert int(value) > 0
    assert said["calls"] == [
        *("open 0", "fstat 0", f"size {size}", f"size32 {size}", "addr ENXIO"),
        *("mmap EINVAL", "mmappart ENODEV"),
        *("read 100", "lseek 0", "read 100", "pread 16", "ioctl ENOTTY", "write EBADF"),
        *(f"value {value}", f"kallsyms {value}", "value ENOENT", "badname EFAULT"),
        *("open EBUSY", "threadopen EBUSY", "childopen 0"),
        *("close 0", "open 0", f"copy {content}", "read 0", "dup 0", "close 0"),
        *("open EBUSY", "close 0", "open 0", f"mode {0o444}"),
        *("close 0", "openw EACCES", "openrw EACCES", "loop 0"),
    ]


def test_tools_of_what_was_read(said: dict[str, Any]) -> None:
    """What the C program read to the end has kallsyms' symbols, by nm, readelf and gdb."""
    copy, text = said["place"] / "copy", (said["place"] / "kallsyms").read_text()
    assert nm(copy) == names(text)
    readelf = ["readelf", "-s", "-W", copy]
    run = subprocess.run(readelf, capture_output=True, text=True, check=True)
    assert (run.stderr, run.stdout.count("\n") > text.count("\n")) == ("", True)
    [(address, place)] = re.findall(r"^([0-9a-f]{16}) T (schedule)$", text, re.M)
    gdb = ["gdb", "-batch", "-ex", f"info symbol 0x{address}", copy]
    assert f"{place} in section" in subprocess.check_output(gdb, text=True)


def test_tools_of_the_device_itself(said: dict[str, Any]) -> None:
    """docs/driver.md says that none of those that were tried opens it."""
    assert said["tools"] == []


def test_a_server_without_root(said: dict[str, Any]) -> None:
    """Its opener is judged at each open, whatever snapshot it has from before; nobody else,
    root included, gets into its mount (fs/fuse/dir.c, fuse_allow_current_process)."""
    found = said["without root"]
    for restrict in (0, 1, 2):
        for address, *answers in found[f"nobody, {restrict}"]:
            assert answers == ([address] * 2 if restrict == 0 else ["EACCES"] * 2)
            assert (address == "0") == (restrict > 0)
        assert {tuple(row[1:]) for row in found[f"root, {restrict}"]} == {("EACCES",) * 2}
    status, words = found["root's command"]
    assert status == 1
    assert "Permission denied" in words
    assert found["ended"] == 0


def test_who_may_see(said: dict[str, Any]) -> None:
    """In each cell all three files show what /proc/kallsyms shows to the same process; and
    docs/security.md has that table."""
    measured: dict[str, list[str]] = {caller: [] for caller in CALLERS}
    for restrict, paranoid, caller, (address, *answers) in said["seen"]:
        expected = "EACCES" if address == "0" else address
        assert answers == [expected] * 3, (restrict, paranoid, caller)
        measured[caller].append("EACCES" if address == "0" else "sees")
    assert len(said["seen"]) == 63
    assert measured == documented()


def documented() -> dict[str, list[str]]:
    """The table's cells, by caller, in the order of its head: which is devices.py's."""
    lines = re.findall(r"^\| (.+) \|$", SECURITY.read_text(), re.M)
    rows = [line.split(" | ") for line in lines]
    [head] = [cells[1:] for cells in rows if cells[0] == "caller"]
    assert head == [
        f"{restrict}, {paranoid}" for restrict in range(3) for paranoid in (1, 2, 3)
    ]
    return {cells[0]: cells[1:] for cells in rows if cells[0] in CALLERS}


def test_an_open_descriptor_stays_good(said: dict[str, Any]) -> None:
    """Handed over a socket, and after privileges were dropped: the opener was judged."""
    assert len(said["after the open"]) == 3
    for file, found in said["after the open"].items():
        address, value, content, again = found["opener"]
        assert (value, again) == (address, "0" if file.endswith("vmlinux") else "EBUSY")
        assert found["handed"] == found["dropped"] == ["0", address, content, "EACCES"]


def test_who_was_let_in_is_judged_again(said: dict[str, Any]) -> None:
    """A thread that opened it twice, or was busy with it, and then has less than it had."""
    assert len(said["judged again"]) == 3
    for file, found in said["judged again"].items():
        again = "0" if file.endswith("vmlinux") else "EBUSY"
        expected = ["0", again, "0", "0", "EACCES"]
        assert found == {"userns": expected, "nobody": expected}, file


def test_a_process_that_has_the_number_of_one_that_was_let_in(said: dict[str, Any]) -> None:
    assert list(said["by one number"].values()) == [["0", "EACCES", "0"]] * 3


@pytest.mark.parametrize("kind", ["--cuse", "/run/blind"])
def test_a_server_that_cannot_read_says_so(said: dict[str, Any], kind: str) -> None:
    """At its start, and makes nothing."""
    status, words, left = said[f"blind {kind}"]
    assert (status, left) == (1, False)
    assert "without CAP_SYSLOG" in words


def test_a_pid_namespace_that_the_server_does_not_see_into(said: dict[str, Any]) -> None:
    assert said["apart"] == ["EACCES"]


def test_churn(said: dict[str, Any]) -> None:
    """No open is given a torn snapshot, nor one of a moment before it."""
    churn = said["churn"]
    assert churn["torn"] == []
    assert churn["of another moment"] == []
    assert list(churn["given"].values()) == [OPENS] * 3
    # Of twelve modules: most are left alone during an open.
    assert churn["judged"] > 3 * sum(churn["given"].values())
    assert min(churn["images"], churn["changes"]) > OPENS // 8


def test_a_busy_device_is_not_unloaded(said: dict[str, Any]) -> None:
    """CUSE cannot be taken from under it; a SIGTERM waits for the last close, and takes no
    more; a second one forces it, and what is open has nothing behind it any more."""
    life = said["life"]
    for when in ("served", "open"):
        assert life[f"rmmod while {when}"] == "rmmod: ERROR: Module cuse is in use\n"
    assert life["open while it ends"] == ["ENXIO"]
    assert life["read while it ends"] == ["0", "4"]
    assert life["a second SIGTERM"] == [0, False]
    assert life["opener after it"] == ["0", "ENOTCONN", "ENOTCONN", "EINVAL", "0"]
    assert life["last close"] == ["0", "0", 0, False]
    assert life["rmmod after the end"] == ""


def test_death_of_either_side(said: dict[str, Any]) -> None:
    """A killed server: its node goes, its openers have an errno, and the next one can begin
    while they have it open still. Killed openers leave nothing that is busy."""
    life = said["life"]
    assert life["SIGKILL"] == [-9, False]
    assert life["open that waited"] == ["ECONNABORTED"]
    assert life["opener after the next began"] == ["0", "ENOTCONN", "ENOTCONN", "0", "0", "4"]
    assert life["after openers were killed"] == ["0", "4"]


def test_the_end(said: dict[str, Any]) -> None:
    assert said["directory"] == [0, False]
