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
from contextlib import ExitStack
from pathlib import Path

import pytest

from bpf import load_bpf_program
from callers import NOBODY
from command import COMMAND, refused
from served import Served, answers, inodes, wait_for
from test_denial import seqnum, uevents
from unanswered import readers, unanswered, waiting, waits
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


# -- a caller whose memory is a file system of its own -------------------------------------


def in_the_way(client: Path, server: Served, page: Path, number: int) -> subprocess.Popen[str]:
    """Somebody, by now nobody, of whose lookups that many wait for ``page``."""
    opens = [f"open={server.file}"] * number
    asked: list[str | Path] = [client, *opens, f"pages={page}", "nobody", f"ask={number}"]
    caller = subprocess.Popen(asked, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: waiting(server.process.pid) == min(number, 4))
    return caller


def lookup(client: Path, server: Served) -> list[str]:
    """What others are answered meanwhile."""
    calls = [f"open={server.device}", "symbol=ksyms_no", "mmap", "addr"]
    return answers(client, *calls, timeout=PATIENCE)


MET = ["0", "ENOENT", "0", "1"]


def test_a_page_that_nobody_can_be_killed_for(
    client: Path, server: Served, tmp_path: Path
) -> None:
    """Others are answered, and so is the caller; one signal ends the server."""
    with unanswered(tmp_path / "never") as page:
        caller = in_the_way(client, server, page, 8)
        assert lookup(client, server) == MET
        out, _ = caller.communicate(timeout=PATIENCE)
        assert sorted(out.split()) == ["0"] * 10 + ["EAGAIN"] * 4 + ["EFAULT"] * 4
        # It has had all that it can have: who asks once more does not wait.
        stuck = readers(server.process.pid)
        calls = [f"open={server.file}", f"pages={page}", "nobody", "ask=1"]
        assert answers(client, *calls, timeout=PATIENCE)[3:] == ["EAGAIN"]
        assert readers(server.process.pid) == stuck
        assert lookup(client, server) == MET
        assert server.end() == 0
        assert str(server.directory) not in Path("/proc/self/mountinfo").read_text()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in stuck))


def test_readers_that_are_gone_make_room(client: Path, server: Served, tmp_path: Path) -> None:
    """The same user is answered as before, once nothing of its own waits."""
    with unanswered(tmp_path / "never") as page:
        in_the_way(client, server, page, 4).communicate(timeout=PATIENCE)
    calls = [f"open={server.file}", "nobody", "symbol=ksyms_no"]
    wait_for(lambda: answers(client, *calls, timeout=PATIENCE) == ["0", "0", "ENOENT"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_while_a_page_is_waited_for(
    client: Path, server: Served, tmp_path: Path, number: int
) -> None:
    """The mount answers ENOTCONN at once, or is gone: nobody has /dev/fuse open any more."""
    with unanswered(tmp_path / "never") as page:
        caller = in_the_way(client, server, page, 1)
        if number == signal.SIGTERM:
            server.process.send_signal(number)
            wait_for(lambda: "busy (vmlinux open 1 times)" in server.words())
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == (0 if number == signal.SIGTERM else -number)
        out, _ = caller.communicate(timeout=PATIENCE)
        assert out.split()[-1] in ("ENOTCONN", "ECONNABORTED")
        asked: list[str | Path] = ["stat", server.directory / "ksyms"]
        run = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE)
        assert "not connected" in run.stderr or "No such file" in run.stderr
        again = Served(server.directory, "--allow-other")
        assert lookup(client, again) == MET
        assert again.end() == 0


def test_a_reader_that_waits_ends_with_the_server(client: Path, server: Served) -> None:
    """Where it can be killed: nothing is left of a server that was."""
    calls = [f"stuck=1,{server.file}", "wait"]
    with subprocess.Popen([client, *calls], stdin=-1, stdout=-1, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "1\n"
        [reader] = readers(server.process.pid)
        server.process.kill()
        wait_for(lambda: not Path(f"/proc/{reader}/fd/0").exists())
        caller.communicate("\n", timeout=PATIENCE)


def test_a_reader_has_nothing_of_the_server(client: Path, server: Served) -> None:
    """It has its socket, and its working directory keeps no file system in use."""
    assert readers(server.process.pid) == []
    assert lookup(client, server) == MET
    [reader] = readers(server.process.pid)
    opened = sorted(name.partition(":")[0] for name in inodes(reader))
    assert opened == ["/dev/null", "/dev/null", "socket"]
    assert os.readlink(f"/proc/{reader}/cwd") == "/"
    os.kill(reader, signal.SIGKILL)  # as the kernel does where there is no memory
    assert lookup(client, server) == MET
    killed = reader
    [reader] = readers(server.process.pid)
    assert reader != killed
    server.process.kill()
    wait_for(lambda: not Path(f"/proc/{reader}").exists())


# -- the end -----------------------------------------------------------------------------------

HOLDS = {
    "a working directory": "cd {0} && echo in && exec cat",
    "a descriptor without rights": """exec python3 -c '
import os; os.open("{0}/ksyms", os.O_PATH); print("in", flush=True); input()'""",
}


@pytest.mark.parametrize("how", HOLDS)
def test_who_may_not_open_does_not_hold_up_the_end(
    client: Path, server: Served, how: str
) -> None:
    """One signal ends the server, and the next can begin at once."""
    asked = [*NOBODY, "sh", "-c", HOLDS[how].format(server.directory)]
    with subprocess.Popen(asked, stdin=-1, stdout=-1, text=True, cwd="/") as standing:
        assert standing.stdout is not None
        assert standing.stdout.readline() == "in\n"
        assert server.end() == 0
        assert str(server.directory) not in Path("/proc/self/mountinfo").read_text()
        again = Served(server.directory, "--allow-other")
        assert lookup(client, again) == MET
        assert again.end() == 0
        standing.communicate("\n")


def test_what_is_open_goes_on_whoever_stands_there(client: Path, server: Served) -> None:
    """The driver's rule for who has it open: it is waited for, and reads to its last close."""
    asked = [*NOBODY, "sh", "-c", HOLDS["a working directory"].format(server.directory)]
    calls = [f"open={server.file}", "wait", "read=4", "symbol=ksyms_no"]
    with (
        subprocess.Popen(asked, stdin=-1, stdout=-1, text=True, cwd="/") as standing,
        subprocess.Popen([client, *calls], stdin=-1, stdout=-1, text=True) as opener,
    ):
        assert standing.stdout is not None
        assert standing.stdout.readline() == "in\n"
        wait_for(lambda: server.status()["openers"])
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "busy (vmlinux open 1 times)" in server.words())
        out, _ = opener.communicate("\n", timeout=PATIENCE)
        assert out.split() == ["0", "0", "4", "ENOENT"]
        assert server.process.wait(PATIENCE) == 0
        standing.communicate("\n")


# -- what a server says of many ---------------------------------------------------------------


def test_a_status_of_more_opens_than_it_names(client: Path, server: Served) -> None:
    """It is whole, and counts them; as JSON and for people."""
    with ExitStack() as stack:
        asked: list[str | Path] = [client, f"opens=10000,{server.file}", "wait"]
        openers = [
            stack.enter_context(subprocess.Popen(asked, stdin=-1, stdout=-1, text=True))
            for _ in range(3)
        ]
        for opener in openers:
            assert opener.stdout is not None
            assert opener.stdout.readline() == "10000\n"
        found = server.status()
        assert found["handles"] == 30_000
        assert len(found["openers"]) == 1000
        assert {o["pid"] for o in found["openers"]} <= {opener.pid for opener in openers}
        assert found["more_openers"] == 29_000
        told: list[str | Path] = [COMMAND, "status", server.directory]
        shown = subprocess.check_output(told, text=True).splitlines()
        assert shown[-1].split() == ["more", "29000"]
        for opener in openers:
            opener.communicate("\n")


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


def test_python_says_nothing_of_its_own(client: Path, tmp_path: Path) -> None:
    """Where there is no memory to tell of what there was none for, too: lines of ours only."""
    server = Served(tmp_path / "mount", before=["env", "-u", "KSYMS_TRACEBACK"])
    try:
        for beyond in (0, 2, 4, 8, 12, 16, 24, 40, 64):
            usual = limited(server, STACK + beyond)
            calls = [f"open={server.device}", "symbol=ksyms_no"]
            told = answers(client, *calls, timeout=PATIENCE)
            assert told[0] in ("EAGAIN", "ENOMEM", "0")
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, usual)
        assert lookup(client, server) == MET
        assert server.end() == 0
        lines = server.words().splitlines()
        assert [line for line in lines if not re.match("[0-9:]{8} ", line)] == []
    finally:
        server.clean_up()


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
