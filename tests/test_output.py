"""Where -o writes: never through a link, nor into what is another user's; whole, or not at all.

nobody is the attacker, in a directory of its own, in one of everybody's, and in a sticky one;
root writes there. What is precious is root's, beside it.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from callers import NOBODY
from command import COMMAND, TEXT, names, nm, refused, write_root
from command import ksyms as ksyms_command
from ksyms import OutputError
from ksyms._output import write_whole
from served import wait_for

USER = 65534
DATA = memoryview(b"\x7fELF" + bytes(range(256)) * 64)
PLACES = {"hers": (USER, 0o755), "everybody's": (0, 0o777), "sticky": (0, 0o1777)}
KILLS = 200


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that all can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        yield precious(Path(name))


def precious(top: Path) -> Path:
    """Make what must stay as it is."""
    top.chmod(0o755)
    (top / "victim").write_text("precious")
    (top / "victims").mkdir()
    (top / "victims/kernel.elf").write_text("precious")
    return top


def place(top: Path, kind: str) -> Path:
    owner, mode = PLACES[kind]
    path = top / "place"
    path.mkdir()
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def by_nobody(script: str, directory: Path) -> None:
    subprocess.run([*NOBODY, "sh", "-ec", script], cwd=directory, check=True)


def unharmed(top: Path) -> bool:
    """Whether all that is root's is as it was, and nothing came to it."""
    files = [top / "victim", *(top / "victims").iterdir()]
    return files[1:] == [top / "victims/kernel.elf"] and all(
        file.read_text() == "precious" for file in files
    )


def whole(path: Path, owner: int = 0) -> bool:
    """Whether the file itself, no link to one, is written, and is its owner's only."""
    status = path.lstat()
    assert stat.S_ISREG(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, owner)
    return path.read_bytes() == DATA


REPLACED = {
    "a link to a file": "ln -s ../victim kernel.elf",
    "a link by its whole path": "ln -s $PWD/../victim kernel.elf",
    "a link to a file that is not there": "ln -s ../victims/new kernel.elf",
    "a link to a link": "ln -s ../victim link; ln -s link kernel.elf",
    "a link to itself": "ln -s kernel.elf kernel.elf",
    "a link to a directory": "ln -s ../victims kernel.elf",
    "a link to a pipe": "mkfifo pipe; ln -s pipe kernel.elf",
    "a link to a device": "ln -s /dev/full kernel.elf",
    "a link to stdout": "ln -s /dev/stdout kernel.elf",
    "a link to a descriptor": "ln -s /proc/self/fd/2 kernel.elf",
    "a link into /proc": "ln -s /proc/self/cwd kernel.elf",
    "a file of hers": "echo hers > kernel.elf; chmod 666 kernel.elf",
    "a file that nobody may open": "touch kernel.elf; chmod 0 kernel.elf",
    "two names of a file": "touch other; ln other kernel.elf",
}
REFUSED = {
    "a pipe": ("mkfifo -m 666 kernel.elf", "kernel.elf", "it is another user's (uid 65534)"),
    "a directory": ("mkdir kernel.elf", "kernel.elf", "Is a directory"),
    "a link on the way": (
        "ln -s ../victims way",
        "way/kernel.elf",
        "way is another user's link",
    ),
    "a link on the way to a new name": ("ln -s ../victims way", "way/new", "user's link"),
    "a link on the way, with a slash": (
        "ln -s ../victims way",
        "way//kernel.elf",
        "user's link",
    ),
    "a link on the way, and back": ("ln -s / way", "way/../victims/new", "user's link"),
    "a link in a directory": ("mkdir d; ln -s ../.. d/way", "d/way/victim", "user's link"),
    "a link to /": ("ln -s / way", "way/new", "user's link"),
    "a link through /proc": ("ln -s /proc/self/cwd way", "way/new", "user's link"),
    "a link that dangles on the way": ("ln -s ../no way", "way/kernel.elf", "user's link"),
    "a loop on the way": ("ln -s way way", "way/kernel.elf", "user's link"),
    "a file on the way": ("touch way", "way/kernel.elf", "Not a directory"),
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("case", REPLACED)
def test_the_name_itself_is_replaced(case: str, kind: str, top: Path) -> None:
    directory = place(top, kind)
    by_nobody(REPLACED[case], directory)
    others = {path.name for path in directory.iterdir()}
    assert write_whole(str(directory / "kernel.elf"), DATA) is None
    assert whole(directory / "kernel.elf")
    assert {path.name for path in directory.iterdir()} == others
    assert unharmed(top)


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, kind: str, top: Path) -> None:
    directory = place(top, kind)
    script, name, words = REFUSED[case]
    by_nobody(script, directory)
    before = sorted(top.rglob("*"))
    with pytest.raises(OutputError) as caught:
        write_whole(str(directory / name), DATA)
    assert words in caught.value.what
    assert sorted(top.rglob("*")) == before
    assert unharmed(top)


def test_a_pipe_of_hers_is_given_nothing(top: Path) -> None:
    """Its reader waits; another process's pipe is refused by the command in two sentences."""
    directory = place(top, "sticky")
    by_nobody("mkfifo kernel.elf; ln -s kernel.elf link", directory)
    (top / "kallsyms").write_text(TEXT)
    reader = os.open(directory / "kernel.elf", os.O_RDONLY | os.O_NONBLOCK)
    command = ("snapshot", "--kallsyms", top / "kallsyms", "-o")
    run = ksyms_command(*command, directory / "kernel.elf", timeout=60)
    refused(run, "it is another user's (uid 65534)", "lead stdout there")
    assert ksyms_command(*command, directory / "link", timeout=60).returncode == 0
    assert nm(directory / "link") == names()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_device_and_a_socket(top: Path) -> None:
    """Those of another user are refused; /dev/null is everybody's, whoever has it."""
    directory = place(top, "hers")
    for name, number in (("null", os.makedev(1, 3)), ("urandom", os.makedev(1, 9))):
        os.mknod(directory / name, stat.S_IFCHR | 0o666, number)
        os.chown(directory / name, USER, USER)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
    os.chown(directory / "socket", USER, USER)
    for name in ("urandom", "socket"):
        with pytest.raises(OutputError, match="it is another user's"):
            write_whole(str(directory / name), DATA)
    assert write_whole(str(directory / "null"), DATA) is None
    os.chown(directory / "urandom", 0, 0)
    assert write_whole(str(directory / "urandom"), DATA) is None
    os.chown(directory / "socket", 0, 0)
    with pytest.raises(OutputError, match="No such device or address"):
        write_whole(str(directory / "socket"), DATA)


def test_a_terminal_of_hers(top: Path) -> None:
    """By its name; as one's own stdout it is written to."""
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    owner = os.stat(name).st_uid
    os.chown(name, USER, -1)
    try:
        with pytest.raises(OutputError, match="it is another user's"):
            write_whole(name, DATA)
        (top / "kallsyms").write_text("")
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
        assert write_whole(f"/dev/fd/{theirs}", DATA[:4]) == theirs
        assert os.read(ours, 10) == DATA[:4]
    finally:
        os.chown(name, owner, -1)
        os.close(ours)
        os.close(theirs)


def test_a_hard_link_to_a_victim(top: Path) -> None:
    """Its other name stays what it was."""
    directory = place(top, "hers")
    os.link(top / "victim", directory / "kernel.elf")
    write_whole(str(directory / "kernel.elf"), DATA)
    assert whole(directory / "kernel.elf")
    assert unharmed(top)


def test_links_of_root_and_of_the_caller_lead_on(top: Path) -> None:
    """As /var/run does, and chains of them; one of another's in the chain stops it."""
    directory = place(top, "sticky")
    (directory / "one").symlink_to("../victims/../place/two/.")
    (directory / "two").symlink_to(top)
    write_whole(str(directory / "one/place/kernel.elf"), DATA)
    assert whole(directory / "kernel.elf")
    write_whole(f"/proc/self/root{directory}/other.elf", DATA)
    assert whole(directory / "other.elf")
    fd = os.open(directory, os.O_PATH)
    write_whole(f"/dev/fd/{fd}/third.elf", DATA)
    os.close(fd)
    assert whole(directory / "third.elf")
    by_nobody("ln -s .. three", directory)
    (directory / "four").symlink_to("three")
    with pytest.raises(OutputError, match="three is another user's link"):
        write_whole(str(directory / "four/victim"), DATA)
    assert unharmed(top)


CALL = (
    "import sys; from ksyms._output import write_whole, OutputError\n"
    "try: print(write_whole(sys.argv[1], memoryview(b'data')))\n"
    "except OutputError as error: print(error.what)\n"
)


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("ln -s ../mine kernel.elf", "None"),
        ("mkfifo kernel.elf; cat kernel.elf > /dev/null & sleep 0.2", "None"),
        ("mkdir mine; ln -s mine way; ln -s way/kernel.elf kernel.elf", "None"),
    ],
)
def test_a_user_and_what_is_the_users(script: str, answer: str, top: Path) -> None:
    directory = place(top, "hers")
    write = [*NOBODY, sys.executable, "-c", CALL, str(directory / "kernel.elf")]
    by_nobody(script, directory)
    assert subprocess.check_output(write, text=True).strip() == answer


@pytest.mark.parametrize("kind", ["link", "pipe", "file", "way"])
def test_a_user_among_others_names(kind: str, top: Path) -> None:
    """In a sticky directory, names that daemon made: they can neither be used nor replaced."""
    directory = place(top, "sticky")
    other = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"]
    script = {
        "link": "ln -s ../victim kernel.elf",
        "pipe": "mkfifo -m 666 kernel.elf",
        "file": "touch kernel.elf; chmod 666 kernel.elf",
        "way": "mkdir -m 777 d; ln -s d kernel.elf",
    }[kind]
    subprocess.run([*other, "sh", "-ec", script], cwd=directory, check=True)
    target = directory / "kernel.elf" / ("x" if kind == "way" else "")
    write = [*NOBODY, sys.executable, "-c", CALL, str(target)]
    said = subprocess.check_output(write, text=True)
    assert ("user's" if kind in ("pipe", "way") else "Operation not permitted") in said
    assert len(list(directory.iterdir())) == (2 if kind == "way" else 1)
    assert unharmed(top)


SWAP = """
import contextlib, ctypes, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)
print("ready", flush=True)
reader = os.eventfd(1, os.EFD_NONBLOCK)
for number in range(10**9):
    if number % 20 == 0 and sys.argv[2]:  # what was replaced is made anew
        with contextlib.suppress(OSError):
            os.unlink("new")
        with contextlib.suppress(OSError):
            exec(sys.argv[2])
            os.replace("new", "b")
    libc.renameat2(-100, b"a", -100, b"b", 2)  # RENAME_EXCHANGE
    with contextlib.suppress(BlockingIOError):
        if os.read(reader, 8)[:4] == b"\\x7fELF":
            print("got", flush=True)
"""
PIPE = "os.mkfifo('new'); os.close(reader); reader = os.open('new', os.O_RDWR | os.O_NONBLOCK)"


@pytest.mark.parametrize("kind", ["hers", "everybody's"])
@pytest.mark.parametrize(
    ("script", "again", "output"),
    [
        ("mkdir a; ln -s ../victims b", "", "a/kernel.elf"),
        ("mkdir a; ln -s ../victims b", "", "a/../a/kernel.elf"),
        ("mkdir a; ln -s ../victims b", "os.symlink('../victims', 'new')", "a/new/kernel.elf"),
        ("touch a b", "os.symlink('../victims/kernel.elf', 'new')", "a"),
        ("touch a b", "os.symlink('../victims/new', 'new')", "a"),
        ("touch a b", PIPE, "a"),
        ("mkdir a; ln -s ../victim b", "os.symlink('../victim', 'new')", "a"),
    ],
)
def test_swapped_all_the_time(
    script: str, again: str, output: str, kind: str, top: Path
) -> None:
    """What is looked at is what is written, however fast another's names change."""
    directory = place(top, kind)
    by_nobody(script, directory)
    command = [*NOBODY, sys.executable, "-c", SWAP, str(directory), again]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"ready\n"
        try:
            for _ in range(300):
                with suppress(OutputError):
                    write_whole(str(directory / output), DATA)
        finally:
            swapper.kill()
        assert swapper.stdout.read() == b""
    assert unharmed(top)
    assert not list(directory.rglob(".*"))


# -- descriptors by their names ---------------------------------------------------------------

STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "//dev/./fd//1", "/dev/../dev/stdout")


@pytest.mark.parametrize("output", STDOUT)
@pytest.mark.parametrize(("operator", "kept"), [(">>", "before\n"), (">", "")])
def test_stdout_by_name(output: str, operator: str, kept: str, top: Path) -> None:
    """It is the descriptor itself: ``>>`` appends, and no line of facts follows."""
    (top / "kallsyms").write_text(TEXT)
    (top / "out").write_text("before\n")
    command = f"{COMMAND} snapshot --kallsyms {top}/kallsyms -o {output} {operator} {top}/out"
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    data = (top / "out").read_bytes()
    assert data.startswith(kept.encode() + b"\x7fELF")
    (top / "kernel.elf").write_bytes(data[len(kept) :])
    assert nm(top / "kernel.elf") == names()
    assert b"kernel.elf" not in data
    assert not data.endswith(b"release\n")


def test_other_descriptors_by_name(top: Path) -> None:
    """What was said before stays, and the facts go to stdout, unless that is the same file."""
    (top / "root").mkdir()
    write_root(top / "root", TEXT)
    command = f"{COMMAND} collect --root {top}/root -o /dev/fd/3"
    shell = f"cd {top}; exec 3>> out; echo before >&3; {command}; echo after >&3; {command} >&3"
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    size = int(run.stdout.split()[1])
    data = (top / "out").read_bytes()
    assert data[:7] == b"before\n"
    assert data[7 + size : 13 + size] == b"after\n"
    assert len(data) == 13 + 2 * size
    assert data[7:9] == data[13 + size : 15 + size] == b"\x1f\x8b"


@pytest.mark.parametrize("output", ["/dev/fd/77", "/dev/fd/0", "/dev/fd/1000000000000"])
def test_a_descriptor_that_cannot_be_written(output: str, top: Path) -> None:
    (top / "kallsyms").write_text(TEXT)
    with open("/dev/null") as null:
        run = ksyms_command(
            "snapshot", "--kallsyms", top / "kallsyms", "-o", output, stdin=null
        )
    refused(run, "cannot be written")


# -- whole, or not there ----------------------------------------------------------------------

WRITER = """
import sys
from ksyms._cli.main import handle_signals
from ksyms._output import write_whole
handle_signals()
data = memoryview(bytes(range(256)) * (4 << 12))
print("ready", flush=True)
for number in range(10**9):
    write_whole(sys.argv[1].format(number), data)
"""
SIZE = 4 << 20


def writer(path: Path, preexec_fn: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    """A process that writes ``path`` again and again, once it has begun."""
    command = [sys.executable, "-c", WRITER, str(path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        preexec_fn=preexec_fn,  # noqa: PLW1509 # the tests have no threads
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def test_sigkill_leaves_nothing(top: Path) -> None:
    """200 of them, each while a new file is written: what has a name is whole."""
    chance = random.Random(20)
    for _ in range(KILLS):
        directory = Path(tempfile.mkdtemp(dir=top))
        process = writer(directory / "{}.elf")
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait()
        for path in directory.iterdir():
            assert path.suffix == ".elf"
            assert path.stat().st_size == SIZE
            path.unlink()


def test_sigkill_while_a_file_is_replaced(top: Path) -> None:
    """The name is never missing, nor half written; nor is anything else."""
    chance = random.Random(20)
    (top / "kernel.elf").write_bytes(bytes(SIZE))
    for _ in range(20):
        process = writer(top / "kernel.elf")
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait()
        assert (top / "kernel.elf").stat().st_size == SIZE
        for path in top.glob(".ksyms.*"):  # killed between link and rename
            assert path.stat().st_size == SIZE
            path.unlink()


def without_unnamed_files() -> None:
    """Have the kernel answer O_TMPFILE as a file system without it does (seccomp(2))."""
    openat = {"x86_64": 257, "aarch64": 56, "riscv64": 56}[os.uname().machine]
    steps = [
        (0x20, 0, 0, 0),  # load the system call's number
        (0x15, 0, 4, openat),
        (0x20, 0, 0, 32),  # args[2], its lower half
        (0x54, 0, 0, os.O_TMPFILE & ~os.O_DIRECTORY),
        (0x15, 1, 0, 0),
        (0x06, 0, 0, 0x00050000 | 95),  # SECCOMP_RET_ERRNO, EOPNOTSUPP
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(steps), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_without_unnamed_files(number: int, top: Path) -> None:
    """On a file system that has none, every signal but SIGKILL takes the scratch file away."""
    (top / "kallsyms").write_text(TEXT)
    (top / "work").mkdir()
    output = top / "work/kernel.elf"
    source = ["--kallsyms", f"{top}/kallsyms"]
    command: list[str | Path] = [COMMAND, "snapshot", *source, "-o", output]
    run = subprocess.run(command, capture_output=True, preexec_fn=without_unnamed_files)
    assert run.returncode == 0, run.stderr
    assert nm(output) == names()
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    seen = 0
    for _ in range(20):
        process = writer(output, preexec_fn=without_unnamed_files)
        wait_for(lambda: scratch(output))
        seen += len(scratch(output))
        process.send_signal(number)
        assert process.wait(20) != 0
        assert not scratch(output)
        assert output.exists()
    assert seen


def scratch(output: Path) -> list[Path]:
    return list(output.parent.glob(".ksyms.*"))


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("unnamed", [False, True])
def test_all_is_on_the_disk_before_it_has_its_name(
    top: Path, there: bool, unnamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that loses its power leaves the old file or the whole of the new one."""
    target = top / "kernel.elf"
    if there:
        target.write_text("old")
    if not unnamed:  # a file system that makes no file without a name: EOPNOTSUPP
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT)
    synced: list[tuple[int, bytes | None]] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        fsync(fd)
        synced.append((os.fstat(fd).st_ino, target.read_bytes() if target.exists() else None))
        assert os.fstat(fd).st_size == len(DATA)

    monkeypatch.setattr(os, "fsync", watched)
    assert write_whole(str(target), DATA) is None
    assert synced == [(target.stat().st_ino, b"old" if there else None)]
    assert target.read_bytes() == DATA
