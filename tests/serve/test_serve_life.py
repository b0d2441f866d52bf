"""A server's life: signals, dead mounts, links; and death of either side at any moment."""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import ksyms
from bpf import load_bpf_program
from callers import NOBODY, NOBODY_WITH_SYSLOG
from command import COMMAND, refused
from command import ksyms as ksyms_command
from served import Served, answers, inodes, wait_for

SECONDS = int(os.environ.get("KSYMS_STRESS", "60"))
KILLS = 200


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "mount"
    subprocess.run(["umount", "-l", tmp_path / "mount"], stderr=subprocess.DEVNULL)


def is_mounted(directory: Path) -> bool:
    return str(directory) in Path("/proc/self/mountinfo").read_text()


def test_sigterm_unmounts_what_is_not_open(directory: Path) -> None:
    server = Served(directory)
    assert is_mounted(directory)
    assert server.end() == 0
    assert not is_mounted(directory)
    assert not directory.exists()  # it was made by the server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_busy_server_ends_at_the_last_close(
    directory: Path, client: Path, number: int
) -> None:
    """The driver's EBUSY: it goes on serving who has it open, and takes no more."""
    server = Served(directory)
    child = subprocess.Popen(
        [client, f"open={server.device}", "wait", "sum"], stdin=-1, stdout=-1, text=True
    )
    wait_for(lambda: server.status()["openers"])
    server.process.send_signal(number)
    wait_for(lambda: "busy (ksyms open 1 times)" in server.words())
    assert answers(client, f"open={server.file}") == ["ENXIO"]
    out, _ = child.communicate("\n")
    assert out.split()[:2] == ["0", "0"]
    assert int(out.split()[2]) > 0
    assert server.process.wait(20) == 0
    assert not is_mounted(directory)


def test_a_second_signal_forces_it(directory: Path, client: Path) -> None:
    """What is open gets ENOTCONN, never stale data."""
    server = Served(directory)
    child = subprocess.Popen(
        [client, f"open={server.device}", "wait", "read=10"], stdin=-1, stdout=-1, text=True
    )
    wait_for(lambda: server.status()["openers"])
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "busy" in server.words())
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert not is_mounted(directory)
    out, _ = child.communicate("\n")
    assert out.split()[2] in ("ENOTCONN", "ECONNABORTED", "10")


def test_a_server_that_can_open_no_more_files(directory: Path, client: Path) -> None:
    """The caller and the log are told so, at LOOKUP and at OPEN. It ends all the same."""
    server = Served(directory)
    usual = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    for number in (1, 2):
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (0, usual[1]))
        assert answers(client, f"open={server.device}") == ["EMFILE"]
        line = "ksyms refused to process [0-9]+: Too many open files\n"
        wait_for(lambda n=number, line=line: len(re.findall(line, server.words())) == n)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, usual)
        assert answers(client, f"open={server.device}") == ["0"]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (0, usual[1]))
    assert server.end() == 0
    assert not is_mounted(directory)


@pytest.mark.parametrize("asking", [8, 300])
def test_a_caller_whose_page_never_comes(directory: Path, client: Path, asking: int) -> None:
    """It holds up no opens, no snapshots and not the end; its own user's lookups it may."""
    server = Served(directory)
    calls = [f"stuck={asking},{server.file}", "wait"]
    child = subprocess.Popen([client, *calls], stdin=-1, stdout=-1, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "4\n"
    taken = server.status()["taken"]
    program = load_bpf_program()
    got = answers(client, f"open={server.device}", "symbol=ksyms_no", "read=4", timeout=20)
    os.close(program)
    assert got in (["0", "ENOENT", "4"], ["0", "EAGAIN", "4"])
    assert server.status()["taken"] > taken
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "busy" in server.words())
    assert server.end() == 0
    child.communicate("\n", timeout=20)


def test_a_killed_server_leaves_enotconn_and_the_next_recovers(
    directory: Path, client: Path
) -> None:
    server = Served(directory)
    server.process.kill()
    server.process.wait()
    with pytest.raises(OSError, match="not connected") as caught:
        os.listdir(directory)
    assert caught.value.errno == errno.ENOTCONN
    assert ksyms_command("status", directory).returncode == 1
    again = Served(directory)
    assert "removed the dead mount" in again.words()
    assert answers(client, f"open={again.device}", "read=4") == ["0", "4"]
    assert again.end() == 0


def test_two_servers_of_one_directory(directory: Path) -> None:
    server = Served(directory)
    refused(ksyms_command("serve", directory), "is served already")
    assert server.end() == 0


def test_places_that_do_not_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    refused(ksyms_command("serve", file), "is not a directory")
    refused(ksyms_command("serve", file / "below"), "cannot be made")
    refused(ksyms_command("serve", "/proc"), "Something else (proc) is mounted")
    refused(ksyms_command("serve", ""), "has no name")
    refused(ksyms_command("serve", tmp_path), "is not empty")
    (tmp_path / ".status").write_text("[]")
    refused(ksyms_command("status", tmp_path), "is not served")


@pytest.mark.parametrize("mode", ["999", "-1", "0o444", "rw", "04444", "4", ""])
def test_a_mode_that_is_none(directory: Path, mode: str) -> None:
    """The message says what is wanted; nothing is served."""
    run = ksyms_command("serve", directory, f"--mode={mode}")
    assert (run.returncode, run.stdout) == (2, "")
    assert f"--mode: {mode!r} is no file mode: three octal digits" in run.stderr
    assert not directory.exists()
    run = ksyms_command("serve", "--cuse", "--name", f"a/{mode}")
    assert "is no name for a device: 64 letters" in run.stderr


def test_unmounted_by_somebody(directory: Path) -> None:
    server = Served(directory)
    subprocess.run(["umount", directory], check=True)
    assert server.process.wait(20) == 0


def test_unmounted_by_somebody_and_bound_elsewhere(directory: Path, tmp_path: Path) -> None:
    """It serves on there, and one signal ends it, for nothing of its own is left to unmount."""
    server = Served(directory)
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", directory, other], check=True)
    try:
        subprocess.run(["umount", directory], check=True)
        assert (other / "ksyms").stat().st_size > 0
        assert server.end() == 0
    finally:
        subprocess.run(["umount", "-l", other], check=True)


def test_the_link(directory: Path, tmp_path: Path, client: Path) -> None:
    """Made, found again after a kill, removed; what is not ours is left alone."""
    link = tmp_path / "link"
    server = Served(directory, "--link", str(link))
    wait_for(link.exists)
    assert answers(client, f"open={link}", "read=4") == ["0", "4"]
    server.process.kill()
    server.process.wait()
    again = Served(directory, "--link", str(link))
    assert answers(client, f"open={link}", "read=4") == ["0", "4"]
    assert again.end() == 0
    assert not link.is_symlink()
    link.write_text("mine")
    third = Served(directory, "--link", str(link))
    assert "cannot be made: File exists" in third.words()
    assert third.end() == 0
    assert link.read_text() == "mine"


def test_a_path_with_dots_is_the_kernels(tmp_path: Path, client: Path) -> None:
    """``..`` after a symlink is what is above its target, for the directory and the link."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "near").symlink_to("far/deep")
    command: list[str | Path] = [COMMAND, "serve", "near/../mount", "--link", "near/../link"]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: sorted(os.listdir(tmp_path / "far")) == ["deep", "link", "mount"])
        assert answers(client, f"open={tmp_path}/far/link", "read=4") == ["0", "4"]
        assert is_mounted(tmp_path / "far" / "mount")
    finally:
        server.terminate()
        assert server.wait(20) == 0
    assert os.listdir(tmp_path / "far") == ["deep"]
    refused(ksyms_command("serve", tmp_path / "no" / ".." / "mount"), "cannot be made: No such")
    refused(ksyms_command("serve", tmp_path / "near" / ".."), f"{tmp_path}/far is not empty")


def test_a_link_inside_the_directory(directory: Path) -> None:
    """Nothing can be made there, and nothing hangs."""
    server = Served(directory, "--link", str(directory / "link"))
    assert "cannot be made: Permission denied" in server.words()
    assert server.end() == 0


def test_it_unmounts_its_own_only(directory: Path, client: Path) -> None:
    """One that lost its place to another server leaves that alone."""
    first = Served(directory)
    child = subprocess.Popen(
        [client, f"open={first.file}", "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    wait_for(lambda: first.status()["openers"])
    subprocess.run(["umount", "-l", directory], check=True)
    second = Served(directory)
    first.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    first.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert answers(client, f"open={second.device}") == ["0"]
    child.communicate(b"\n")
    assert first.process.wait(20) == 0
    assert second.end() == 0


def test_ended_before_it_serves(directory: Path) -> None:
    """At any moment of its start: no mount is left."""
    for wait in range(12):
        process = subprocess.Popen([COMMAND, "serve", directory], stderr=subprocess.DEVNULL)
        time.sleep(0.25 + wait * 0.05)
        process.terminate()
        process.wait(20)
        assert not is_mounted(directory), wait


def test_who_does_not_read_its_lines(directory: Path, client: Path) -> None:
    """A pipe that nobody reads, or that is closed, holds up nobody."""
    read, write = os.pipe()
    process = subprocess.Popen([COMMAND, "serve", directory, "--verbose"], stderr=write)
    os.close(write)
    wait_for(lambda: is_mounted(directory))
    assert answers(client, f"loop=3000,{directory}/ksyms") == ["0"]
    os.close(read)
    assert answers(client, f"loop=100,{directory}/ksyms", f"open={directory}/ksyms") == [
        "0",
        "0",
    ]
    process.terminate()
    assert process.wait(20) == 0


def test_systemd_is_told(directory: Path, tmp_path: Path) -> None:
    """READY=1 on the socket that a Type=notify unit names."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        os.environ["NOTIFY_SOCKET"] = str(path)
        try:
            server = Served(directory)
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert notify.recv(100) == b"READY=1"
    assert server.end() == 0


def test_without_fuse(directory: Path) -> None:
    """A sentence, and the way that needs none."""
    hide = f"mount --bind /dev/null /dev/fuse && exec {COMMAND} serve {directory}"
    run = subprocess.run(["unshare", "-m", "sh", "-c", hide], capture_output=True, text=True)
    assert run.returncode == 1
    assert "ksyms snapshot" in run.stderr or "cannot be mounted" in run.stderr
    gone = f"mount -t tmpfs none /dev && exec {COMMAND} serve {directory}"
    run = subprocess.run(["unshare", "-m", "sh", "-c", gone], capture_output=True, text=True)
    refused(run, "/dev/fuse cannot be opened: No such file", "ksyms snapshot")


def test_status_is_for_who_serves() -> None:
    """Where everybody may open the device, not everybody is told who has."""
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        server = Served(Path(place, "mount"), "--mode", "0444", "--allow-other")
        try:
            status: list[str | Path] = [COMMAND, "status", server.directory]
            assert "generation" in subprocess.run(status, capture_output=True, text=True).stdout
            run = subprocess.run([*nobody, *status], capture_output=True, text=True)
            refused(run, "does not say who uses it: Permission denied", "as the user that")
            files = str(server.device), f"{server.directory}/.status"
            stat = [*nobody, "stat", "-c", "%a", *files]
            assert subprocess.check_output(stat) == b"444\n400\n"
        finally:
            server.end()
            server.clean_up()


def test_without_root(client: Path) -> None:
    """fusermount3 mounts for a user; whoever sees no addresses can serve none."""
    run = subprocess.run(
        [*NOBODY, COMMAND, "serve", "/tmp/none"], capture_output=True, text=True
    )
    refused(run, "without CAP_SYSLOG")
    allowed = NOBODY_WITH_SYSLOG
    place = Path("/tmp") / f"ksyms-{os.getpid()}"
    place.mkdir()
    os.chown(place, 65534, 65534)
    shutil.copy(client, place / "client")  # which lies where nobody may not go
    mode = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)  # as it is on most machines
    try:
        server = Served(place / "mount", before=allowed)
        try:
            found = subprocess.run([*allowed, "cat", server.file], capture_output=True).stdout
            told = [*allowed, "stat", "-c", "%s", str(server.file)]
            assert len(found) == int(subprocess.check_output(told))
            assert len(ksyms.load(memoryview(found))) > 1000
            status = subprocess.run([*allowed, COMMAND, "status", server.directory])
            assert status.returncode == 0
            asked = [*allowed, str(place / "client"), f"open={server.file}", "symbol=schedule"]
            opened, size = subprocess.check_output(asked, text=True).split()
            table = ksyms.load(memoryview(found))
            assert opened == "0"
            assert int(size) in [s.size for s in table.find("schedule") if s.module is None]
            assert server.words().count("reads go through the server") == 1
        finally:
            server.end()
            server.clean_up()
    finally:
        os.chmod("/dev/fuse", mode & 0o777)
        subprocess.run(["rm", "-r", place])


def test_a_hundred_processes(directory: Path, client: Path) -> None:
    """Opening, reading, mapping and closing while the kernel changes: nothing torn, nothing
    left: no softc, no node, no memory file, no mapping."""
    server = Served(directory)
    before = memory_files(server)
    calls = [f"use={SECONDS},{server.device}"]
    clients = [
        subprocess.Popen([client, *calls], stdout=subprocess.PIPE, text=True)
        for _ in range(100)
    ]
    end = time.monotonic() + SECONDS
    changes = 0
    while time.monotonic() < end:
        program = load_bpf_program()
        time.sleep(0.5)
        os.close(program)
        time.sleep(0.5)
        changes += 2
    said = [child.communicate()[0].split() for child in clients]
    assert all(child.returncode == 0 for child in clients)
    assert [words for words in said if len(words) != 1] == []
    assert sum(int(words[0]) for words in said) > 100
    wait_for(lambda: server.status()["handles"] == 0)
    found = server.status()
    assert found["openers"] == []
    assert found["snapshots"] <= 1
    assert found["nodes"] <= 2
    assert found["taken"] >= min(changes, 4)
    wait_for(lambda: memory_files(server) <= before)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert maps.count("memfd:ksyms") <= 1
    assert server.end() == 0


def memory_files(server: Served) -> int:
    return sum("memfd:ksyms" in name for name in inodes(server.process.pid))


def test_death_at_any_moment(directory: Path, client: Path) -> None:
    """Clients, and now and then the server, are killed at random points, 200 times."""
    chance = random.Random(6)
    server = Served(directory)
    one = memory_files(server)
    for number in range(KILLS):
        calls = [f"use=5,{chance.choice([server.device, server.file])}"]
        child = subprocess.Popen(
            [client, *calls], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.random() * 0.05)
        if number % 8 == 7:
            server.process.kill()
            server.process.wait()
            child.kill()
            child.wait()
            server = Served(directory)
        else:
            child.kill()
            child.wait()
        if number % 20 == 0:
            assert answers(client, f"open={server.device}", "read=4") == ["0", "4"]
    wait_for(lambda: server.status()["handles"] == 0)
    assert server.status()["openers"] == []
    assert memory_files(server) <= one
    assert server.end() == 0


def test_slow_work_holds_up_nobody(directory: Path, client: Path) -> None:
    """While snapshots are taken all the time, all other requests are answered at once."""
    server = Served(directory)
    stop = threading.Event()

    opens: list[float] = []

    def churn() -> None:
        while not stop.is_set():
            program = load_bpf_program()
            begun = time.monotonic()
            server.file.read_bytes()
            opens.append(time.monotonic() - begun)
            os.close(program)
            server.file.read_bytes()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        stats = []
        for _ in range(200):
            begun = time.monotonic()
            os.stat(directory / ".status")  # a name is asked for each time
            stats.append(time.monotonic() - begun)
            time.sleep(0.005)
        wait_for(lambda: len(opens) > 3)
    finally:
        stop.set()
        thread.join()
    assert server.status()["taken"] > 5
    # Who waited for a snapshot would wait for half of one, as often as not.
    assert 10 * median(stats) < median(opens)
    assert server.end() == 0
