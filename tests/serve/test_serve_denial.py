"""What somebody without rights, or a machine without room, can take from a server's users."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf import load_bpf_program
from callers import NOBODY
from command import COMMAND, refused
from served import Served, wait_for
from test_denial import seqnum, uevents
from undisturbed import undisturbed

PATIENCE = 60
"""Seconds that nothing here takes unless it hangs."""
SUMMARY = re.compile(r"refused: ksyms ([0-9]+) times \(Permission denied\), the last to ")
STACK = resource.getrlimit(resource.RLIMIT_STACK)[0] >> 10
"""KiB of address space that a new thread takes."""


@pytest.fixture
def server() -> Iterator[Served]:
    """One whose directory anybody may look into."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        server = Served(Path(place, "mount"), "--mode", "0444", "--allow-other")
        yield server
        server.clean_up()


def opened(client: Path, server: Served, times: int = 1) -> list[str]:
    """What opens gave; who hangs is let go by the end of the server, and by nothing else."""
    calls = [f"open={server.device}"] * times
    with subprocess.Popen([client, *calls], stdout=subprocess.PIPE, text=True) as asked:
        try:
            return asked.communicate(timeout=PATIENCE)[0].split()
        except subprocess.TimeoutExpired:
            server.process.kill()
            raise


# -- who has no rights ----------------------------------------------------------------------


def test_refusals_are_counted_and_said_once_a_second(client: Path) -> None:
    """Each is in one of the lines, and there are no more lines than seconds."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        program = Path(place, "client")
        program.write_bytes(client.read_bytes())
        program.chmod(0o755)
        # To write: refused to nobody whatever the sysctls say who may see.
        server = Served(Path(place, "mount"), "--mode", "0666", "--allow-other")
        try:
            asked: list[str | Path] = [*NOBODY, program, *[f"openw={server.device}"] * 3000]
            begun = time.monotonic()
            for _ in range(2):
                run = subprocess.run(asked, capture_output=True, text=True, check=True)
                assert set(run.stdout.split()) == {"EACCES"}
            wait_for(lambda: said(server) == 6000, PATIENCE)
            lines = [line for line in server.words().splitlines() if "refused" in line]
            assert len(lines) <= 2 + time.monotonic() - begun
            assert said(server) == 6000
        finally:
            server.clean_up()


def said(server: Served) -> int:
    """How many refusals the lines tell of."""
    words = server.words()
    alone = words.count("ksyms refused to process")
    return alone + sum(int(count) for count in SUMMARY.findall(words))


def test_uevents_that_are_no_modules_make_no_new_snapshot(server: Served, client: Path) -> None:
    def fifty_opens() -> None:
        opened(client, server)  # the snapshot of now, if others made the kernel move
        taken = server.status()["taken"]
        for _ in range(50):
            before = seqnum()
            assert opened(client, server) == ["0"]
            wait_for(lambda n=before: seqnum() > n)
        status = server.status()
        assert (status["taken"], status["shared"]) == (taken, True)

    with uevents():
        undisturbed(fifty_opens, uevents=False)


# -- no room ---------------------------------------------------------------------------------


def limited(server: Served, kilobytes: int) -> tuple[int, int]:
    """Allow the server this much more address space than it has; gives what was allowed."""
    pid = server.process.pid
    text = Path(f"/proc/{pid}/status").read_text()
    [size] = re.findall(r"VmSize:\s+([0-9]+) kB", text)
    usual = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, ((int(size) + kilobytes) << 10, usual[1]))
    return usual


@pytest.mark.parametrize(
    "beyond", [-STACK, 0, 2, 4, 8, 16, 24, 40, 64, 128, 512, 2048, 8192, 16384, 32768]
)
def test_a_lane_without_memory_answers(beyond: int, server: Served, client: Path) -> None:
    """Where there is none for its thread's stack, for the thread's first call, for its second,
    for the one that reads; as soon as there is, an open is as before."""
    program = load_bpf_program()  # the snapshot is not the one of now any more
    try:
        usual = limited(server, STACK + beyond)
        for _ in range(2):
            assert opened(client, server)[0] in ("EAGAIN", "ENOMEM", "0")
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, usual)
        assert opened(client, server) == ["0"]
    finally:
        os.close(program)
    assert "Fatal" not in server.words()
    assert server.end() == 0


# -- a server that is stopped ---------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command",
    [
        "status {0}",
        "lookup --from {0}/vmlinux x",
        "info {0}/ksyms",
        "decode --from {0}/ksyms",
        "diff {0}/ksyms {0}/vmlinux",
    ],
)
def test_a_signal_ends_who_waits_for_a_stopped_server(
    command: str, number: int, server: Served
) -> None:
    server.process.send_signal(signal.SIGSTOP)
    try:
        arguments: list[str | Path] = [COMMAND, *command.format(server.directory).split()]
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL) as asked:
            wait_for(lambda: "request_wait" in waits(asked.pid), PATIENCE)
            asked.send_signal(number)
            try:
                assert asked.wait(PATIENCE) == -number
            except subprocess.TimeoutExpired:
                server.process.kill()
                raise
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert server.status()["openers"] == []


def waits(pid: int) -> str:
    """The functions of the kernel in which a process waits."""
    return Path(f"/proc/{pid}/stack").read_text()


# -- no /proc --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["umount -l /proc", "mount -t tmpfs none /proc"])
@pytest.mark.parametrize("what", ["{0}", "--cuse"])
def test_without_proc(how: str, what: str, tmp_path: Path) -> None:
    """Nobody could be told from others: it says so, and serves nothing."""
    place = tmp_path / "mount"
    command = f"{how} && exec {COMMAND} serve {what.format(place)}"
    run = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True)
    refused(run, "/proc cannot be read: No such file or directory", "mount -t proc")
    assert not place.exists()
