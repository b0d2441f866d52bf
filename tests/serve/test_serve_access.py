"""Who may read: whoever /proc/kallsyms shows its addresses to, and nobody else."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf import load_bpf_program
from callers import (
    CALLERS,
    NOBODY,
    WITHOUT_SYSLOG,
    after_the_open,
    by_one_number,
    judged_again,
    shown,
)
from command import COMMAND, refused
from served import CLIENT, Served, inodes


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that everybody may look into."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def open_to_all(place: Path, client: Path) -> Iterator[Served]:
    """The driver's own policy: 0444, and other users let in."""
    (place / "client").write_bytes(client.read_bytes())
    (place / "client").chmod(0o755)
    server = Served(place / "mount", "--mode", "0444", "--allow-other")
    yield server
    server.clean_up()


@pytest.fixture
def hidden(place: Path, open_to_all: Served) -> None:
    """This machine's settings hide addresses from nobody."""
    if shown(place / "client", "nobody", [])[0] != "0":
        # No test changes a machine's settings; tests/vm/devices.py goes through all of them.
        pytest.skip("kptr_restrict and perf_event_paranoid show addresses to everybody here")


def test_the_device_shows_what_kallsyms_shows(open_to_all: Served, place: Path) -> None:
    """The same process asked for all, under the settings that this machine has."""
    files = [open_to_all.device, open_to_all.file]
    for caller in CALLERS:
        address, *answers = shown(place / "client", caller, files)
        expected = "EACCES" if address == "0" else address
        assert answers == [expected] * 2, caller


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("name", ["ksyms", "vmlinux"])
def test_an_open_descriptor_stays_good(open_to_all: Served, place: Path, name: str) -> None:
    """Handed over a socket, and after privileges were dropped: the opener was judged."""
    found = after_the_open(place / "client", open_to_all.directory / name)
    address, value, content, again = found["opener"]
    assert (value, again) == (address, "EBUSY" if name == "ksyms" else "0")
    assert found["handed"] == found["dropped"] == ["0", address, content, "EACCES"]


@pytest.mark.usefixtures("hidden")
def test_who_was_let_in_is_judged_again(open_to_all: Served, place: Path) -> None:
    """A thread that opened it, and then is root of a user namespace, or nobody."""
    answers = judged_again(place / "client", open_to_all.file)
    expected = ["0", "0", "0", "0", "EACCES"]
    assert answers == {"userns": expected, "nobody": expected}


@pytest.mark.usefixtures("hidden")
def test_a_process_that_has_the_number_of_one_that_was_let_in(
    open_to_all: Served, place: Path
) -> None:
    assert by_one_number(place / "client", open_to_all.file) == ["0", "EACCES", "0"]


def test_more_callers_than_files_are_kept_of(open_to_all: Served, place: Path) -> None:
    """Of each a file is kept, of no more than some; the first are let in again."""
    again = f"open={open_to_all.file}"
    asked: list[str | Path] = [place / "client", again, "wait", again]
    callers = [
        subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(100)
    ]
    for caller in callers:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "0\n"
    kept = [name for name in inodes(open_to_all.process.pid) if name.endswith("/status")]
    assert len(kept) == 32
    for caller in callers:
        out, _ = caller.communicate("\n")
        assert out.split() == ["0", "0"]


def test_a_pid_namespace_that_the_server_does_not_see_into(
    tmp_path: Path, client: Path
) -> None:
    """A server in a pid namespace of its own is told pid 0 by all others: refused."""
    apart = ["unshare", "-pf", "--mount-proc", "--kill-child"]
    server = Served(tmp_path / "apart", "--mode", "0444", before=apart)
    try:
        parent = server.process.pid
        child = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0]
        path = f"/proc/{child}/root{server.device}"
        run = subprocess.run([client, f"open={path}"], capture_output=True, text=True)
        assert run.stdout.split() == ["EACCES"]
    finally:
        server.clean_up()


def test_a_proc_of_another_pid_namespace(place: Path) -> None:
    """There the numbers are other processes': nothing is served."""
    command: list[str | Path] = ["unshare", "-pf", COMMAND, "serve", place / "blind"]
    run = subprocess.run(command, capture_output=True, text=True)
    refused(run, "/proc is of another pid namespace", "--mount-proc")
    assert not (place / "blind").exists()


def test_a_worker_of_io_urings(open_to_all: Served, place: Path) -> None:
    """It has what /proc shows of root, and opens for who asked: refused, both times."""
    program = place / "io_uring"
    source = CLIENT.with_name("io_uring.c")
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", source, "-o", program], check=True)
    for path in (open_to_all.device, open_to_all.file):
        for more in ([], ["drop"]):
            run = subprocess.run([program, path, *more], capture_output=True, text=True)
            assert (run.returncode, run.stdout) == (0, "EACCES\n"), more
    run = subprocess.run([program, "/dev/null", "drop"], capture_output=True, text=True)
    assert run.stdout == "0\n"


def test_by_default_the_mode_and_the_mount_keep_others_out(place: Path, client: Path) -> None:
    server = Served(place / "default")
    try:
        for caller in ("nobody", "nobody with CAP_SYSLOG"):
            asked = [*CALLERS[caller], f"{place}/client", f"open={server.device}"]
            answer = subprocess.run(asked, capture_output=True, text=True).stdout.split()
            assert answer == ["EACCES"], caller
    finally:
        server.clean_up()


@pytest.mark.usefixtures("hidden")
def test_a_stat_by_who_may_not_read_takes_no_snapshot(open_to_all: Served, place: Path) -> None:
    """Nobody can make the server work: its size is the last one that somebody was given."""
    program = load_bpf_program()
    try:
        taken = open_to_all.status()["taken"]
        asked: list[str | Path] = [*NOBODY, place / "client", f"stat={open_to_all.file}"]
        assert subprocess.run(asked, capture_output=True).returncode == 0
        asked[-1] = f"open={open_to_all.file}"
        answer = subprocess.run(asked, capture_output=True, text=True).stdout.split()
        assert answer == ["EACCES"]
        assert open_to_all.status()["taken"] == taken
        assert len(open_to_all.file.read_bytes()) > 1 << 20
        assert open_to_all.status()["taken"] == taken + 1
    finally:
        os.close(program)


def test_a_server_that_cannot_read_says_so(place: Path) -> None:
    """At its start, and mounts nothing."""
    command: list[str | Path] = [*WITHOUT_SYSLOG, COMMAND, "serve", place / "blind"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert "without CAP_SYSLOG" in run.stderr
    assert not (place / "blind").exists()
