"""What is mounted is what was looked at, and is taken back whatever happens after.

nobody is the attacker, in whose directory root serves.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callers import NOBODY, NOBODY_WITH_SYSLOG
from command import COMMAND, refused
from command import ksyms as ksyms_command
from served import Served, Serving, answers, wait_for

USER = 65534


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that all can reach, with one of nobody's and an empty one of root's."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "victim").mkdir()
        (path / "hers").mkdir()
        os.chown(path / "hers", USER, USER)
        yield path
        for directory in mounts(path):
            subprocess.run(["umount", "-l", directory.encode().decode("unicode_escape")])


def mounts(top: Path) -> list[str]:
    """Where something is mounted below ``top``."""
    lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]
    found = [os.fsdecode(line.split(b" ")[4]) for line in lines]
    return [place for place in found if place.startswith(f"{top}/")]


def by_nobody(script: str, directory: Path) -> None:
    subprocess.run([*NOBODY, "sh", "-ec", script], cwd=directory, check=True)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
@pytest.mark.parametrize(
    ("script", "place", "words"),
    [
        ("ln -s ../victim place", "place", "is not a directory"),
        ("ln -s ../victim/new place", "place", "is not a directory"),
        ("ln -s . place", "place", "is not a directory"),
        ("ln -s .. way", "way/victim", "way is another user's link (uid 65534)"),
        ("ln -s ../victim way", "way/place", "is another user's link"),
        ("ln -s ../victim way", "way/.", "is another user's link"),
        ("ln -s ../victim way", "way/", "is not a directory"),
        ("ln -s / way", "way/../mnt", "is another user's link"),
        ("ln -s /proc/self/cwd way", "way/place", "is another user's link"),
        ("ln -s way way", "way/place", "is another user's link"),
        ("mkfifo place", "place", "is not a directory"),
        ("touch place", "place", "is not a directory"),
        ("touch way", "way/place", "Not a directory"),
        ("mkdir place; touch place/file", "place", "is not empty"),
    ],
)
def test_places_of_another_user(
    script: str, place: str, words: str, mode: int, top: Path
) -> None:
    """Nothing is mounted, and nothing made anywhere."""
    (top / "hers").chmod(mode)
    by_nobody(script, top / "hers")
    before = sorted(top.rglob("*"))
    refused(ksyms_command("serve", f"{top}/hers/{place}", timeout=60), words)
    assert sorted(top.rglob("*")) == before
    assert not mounts(top)


def test_a_directory_of_another_user(top: Path, client: Path) -> None:
    """It can be served in; what is made there is removed."""
    (top / "way").symlink_to(top)  # root's, which leads on
    for name in ("new", "made"):
        if name == "made":
            by_nobody("mkdir made", top / "hers")
        server = Serving(top / "hers" / name, top / "log", top / "way/hers" / name)
        assert mounts(top) == [f"{top}/hers/{name}"]
        assert answers(client, f"open={top}/hers/{name}/ksyms", "read=4") == ["0", "4"]
        assert server.end() == 0
        assert (top / "hers" / name).exists() == (name == "made")


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\rb", "a\x0bb", "a\\040b", "a#b", "é", "-u"])
def test_a_name_of_any_kind(name: str, top: Path, client: Path) -> None:
    """mountinfo writes some bytes otherwise, and splits at no others."""
    server = Served(top / name)
    assert answers(client, f"open={server.device}", "read=4") == ["0", "4"]
    again = ksyms_command("serve", top / name)
    assert (again.returncode, "is served already" in again.stderr) == (1, True)
    server.process.kill()
    server.process.wait()
    third = Served(top / name)
    assert "removed the dead mount" in third.words()
    assert third.end() == 0
    assert not mounts(top)


SWAP = """
import ctypes, os, sys, time
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)
print("ready", flush=True)
while True:
    libc.renameat2(-100, b"a", -100, b"b", 2)  # RENAME_EXCHANGE
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("pause", ["0", "0.05"])
@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("mkdir a; ln -s ../victim b", "a"),
        ("mkdir a; ln -s .. b", "a/victim"),
        ("mkdir -p a/x b/x; touch b/x/file", "a/x"),
    ],
)
def test_swapped_all_the_time(script: str, place: str, pause: str, top: Path) -> None:
    """Whatever is found at the name, it is never the victim that is mounted on."""
    by_nobody(script, top / "hers")
    command = [*NOBODY, sys.executable, "-c", SWAP, str(top / "hers"), pause]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"ready\n"
        try:
            for _ in range(5):
                serve: list[str | Path] = [COMMAND, "serve", f"{top}/hers/{place}"]
                server = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
                wait_for(lambda server=server: mounts(top) or server.poll() is not None)
                assert not [m for m in mounts(top) if m.startswith(f"{top}/victim")]
                server.terminate()
                _, said = server.communicate(timeout=60)
                assert "Traceback" not in said
                assert not mounts(top)
        finally:
            swapper.kill()
    assert not list((top / "victim").iterdir())


def test_moved_while_it_is_served(top: Path, client: Path) -> None:
    """The server unmounts its own, wherever it is, and not what is at the name by now."""
    by_nobody("mkdir way", top / "hers")
    server = Served(top / "hers/way/place")
    by_nobody("mv way far; ln -s .. way", top / "hers")
    (top / "place").mkdir()
    other = Served(top / "place")  # where the name leads now
    assert server.end() == 0
    assert mounts(top) == [f"{top}/place"]
    assert answers(client, f"open={other.device}", "read=4") == ["0", "4"]
    assert other.end() == 0
    assert os.listdir(top / "hers/far") == ["place.log"]


@pytest.mark.parametrize("script", ["ln -s .. way", "mkdir way"])
def test_a_link_through_a_link_of_another_user(script: str, top: Path) -> None:
    """The symlink to the device is made where its path says, or not at all."""
    by_nobody(script, top / "hers")
    server = Served(top / "place", "--link", f"{top}/hers/way/ksyms")
    followed = script.startswith("ln")
    wait_for(lambda: f"serving {top}/place" in server.words())
    assert ("another user's link" in server.words()) == followed
    assert (top / "hers/way/ksyms").is_symlink() != followed
    assert not (top / "ksyms").is_symlink()
    assert server.end() == 0
    assert not (top / "hers/way/ksyms").is_symlink()


# -- it is taken back -------------------------------------------------------------------------


def begun(top: Path, *before: str) -> subprocess.Popen[str]:
    """A server that has mounted, this moment; or that has ended."""
    command: list[str | Path] = [*before, COMMAND, "serve", f"{top}/hers/place"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not mounts(top) and server.poll() is None:  # without a pause: at that moment
        assert time.monotonic() < end
    return server


@pytest.mark.parametrize("caller", [(), NOBODY_WITH_SYSLOG], ids=["root", "helper"])
def test_whatever_descriptor_is_one_too_many(
    caller: tuple[str, ...], top: Path, everybodys_fuse: None
) -> None:
    """From so few that it does not begin to so many that it serves: never a mount is left."""
    served = set()
    for limit in range(4, 28):
        server = begun(top, "prlimit", f"--nofile={limit}:{limit}", *caller)
        assert server.stderr is not None
        told = next((line for line in server.stderr if "serving" in line), "")
        server.terminate()
        server.communicate(timeout=60)
        assert not mounts(top), limit
        served.add(bool(told))
    assert served == {False, True}


@pytest.fixture
def everybodys_fuse() -> Iterator[None]:
    """/dev/fuse as it is on most machines."""
    mode = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", mode & 0o777)


@pytest.mark.parametrize("caller", [(), NOBODY_WITH_SYSLOG], ids=["root", "helper"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_the_moment_it_is_mounted(
    caller: tuple[str, ...], number: int, times: int, top: Path, everybodys_fuse: None
) -> None:
    for _ in range(4):
        server = begun(top, *caller)
        for _ in range(times):
            server.send_signal(number)
        _, said = server.communicate(timeout=60)
        assert "Traceback" not in said
        assert not mounts(top)


def test_the_helper_dies_once_it_has_mounted(top: Path, everybodys_fuse: None) -> None:
    (top / "bin").mkdir()
    helper = top / "bin/fusermount3"
    real = subprocess.check_output(["sh", "-c", "command -v fusermount3"], text=True).strip()
    kill = '[ "$1" = -u ] || kill -9 $$'
    helper.write_text(f'#!/bin/sh\n{real} "$@"\n{kill}\n')
    helper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{top}/bin:{os.environ['PATH']}"}
    command: list[str | Path] = [*NOBODY_WITH_SYSLOG, COMMAND, "serve", f"{top}/hers/place"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 1
    assert "place cannot be mounted: fusermount3 failed." in run.stderr
    assert not mounts(top)


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_the_helper_takes_a_path(mode: int, top: Path, everybodys_fuse: None) -> None:
    """So nobody else may put another directory there in between."""
    (top / "hers").chmod(mode)
    command: list[str | Path] = [*NOBODY_WITH_SYSLOG, COMMAND, "serve", f"{top}/hers/place"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert re.search(r"hers can be written to by others \(chmod go-w\)\.", run.stderr)
    assert not mounts(top)
