"""Fuzz the servers: FUSE's and CUSE's requests as a kernel would never send them, and calls.

A case is a session of 25 requests, or of 25 system calls with --mounted: 4,000 are 100,000.
docs/fuzzing.md has what is checked.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import io
import mmap
import os
import re
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.files import snapshot
from fuzz.shared import EDGES, LARGE, Case, Fault, Target, damaged, number_of, program
from ksyms._device import KIOCGADDR, KIOCGSIZE, KIOCGSYMBOL, KIOCGVALUE, Device, Event, Policy
from ksyms._transport import (
    Backing,
    Channel,
    CharacterDevice,
    Directory,
    Gate,
    Readers,
    protocol,
    serve,
)
from served import Served, inodes

SESSION = 25
CUSE_INIT: Final = 4096
HEADER: Final = struct.Struct("=IIQQIIIHH")  # struct fuse_in_header
ANSWER: Final = struct.Struct("=IiQ")  # struct fuse_out_header
FILES = (b"ksyms", b"vmlinux", b".status")
FLAGS = (
    *(os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND, os.O_DIRECT, os.O_NONBLOCK, os.O_PATH),
    *(os.O_DIRECTORY, os.O_NOFOLLOW, os.O_CREAT, os.O_EXCL, os.O_TMPFILE),
)
KNOWN = (0x80046C01, 0x80046C02, 0x80046C03, KIOCGADDR, KIOCGSIZE, KIOCGSYMBOL, KIOCGVALUE)
SENT: Final = 1 << 17
"""Bytes of a request at most: a socket takes no more at once."""
PRINTED = re.compile(r'ksyms/(_\w+/\w+\.py)", line (\d+), in (\w+)')


class Requested(NamedTuple):
    """A request's opcode, node, who makes it, and what follows the header."""

    opcode: int
    node: int
    body: bytes
    pid: int | None = None
    """None for this process."""
    owner: int = 0


# -- requests -------------------------------------------------------------------------------


def body_of(opcode: int, random: Random) -> bytes:
    """What follows the header of such a request (include/uapi/linux/fuse.h), more or less."""
    handle = random.choice((1, 1, 2, 3, 5, 6, number_of(random))) & (2**64 - 1)
    offset = random.choice((0, 0, 100, 4096, number_of(random))) & (2**64 - 1)
    size = random.choice((0, 16, 4096, 1 << 20, number_of(random))) & 0xFFFFFFFF
    flags = random.choice(
        (os.O_RDONLY, os.O_RDONLY, os.O_RDWR, os.O_TRUNC, random.getrandbits(32))
    )
    name = random.choice(
        (*FILES, b"", b".", b"..", b"x" * 300, b"\xff", b"a" * 70_000, b"k\0v")
    )
    number = random.choice((*KNOWN, *KNOWN, random.getrandbits(32)))
    count = random.randrange(4)
    forgotten = [(random.randrange(8), random.choice((1, offset))) for _ in range(count)]
    pointer = random.choice((0, ctypes.addressof(ALPHA), number_of(random))) & (2**64 - 1)
    data = struct.pack("=Q", pointer) + bytes(random.choice((0, 8, 24, 200)))
    taken = random.choice((len(data), len(data), 0, size))
    version = random.choice((7, 7, 7, 8, 0, size)), random.choice((31, 40, 45, 30, 0, size))
    init = struct.pack("=IIIII", *version, size, random.getrandbits(32), size) + bytes(44)
    read = struct.pack("=QQIIQII", handle, offset, size, 0, 0, flags, 0)
    bodies = {
        protocol.LOOKUP: name + b"\0",
        protocol.FORGET: struct.pack("=Q", random.choice((1, 1, offset))),
        protocol.BATCH_FORGET: struct.pack("=II", random.choice((count, count, size)), 0)
        + b"".join(struct.pack("=QQ", *one) for one in forgotten),
        protocol.OPEN: struct.pack("=II", flags, random.choice((0, size))),
        protocol.READ: read,
        protocol.READDIR: read,
        protocol.RELEASE: struct.pack("=QIIQ", handle, flags, 0, 0),
        protocol.IOCTL: struct.pack("=QIIQII", handle, 0, number, offset, taken, size) + data,
        protocol.INIT: init,
        CUSE_INIT: init,
    }
    return bodies.get(opcode, random.randbytes(random.choice((0, 8, 16, 40))))


ALPHA = ctypes.create_string_buffer(b"alpha")
"""A symbol's name, in this process's memory."""
OPCODES = (
    *(protocol.LOOKUP, protocol.OPEN, protocol.READ, protocol.IOCTL, protocol.RELEASE) * 3,
    *(
        protocol.FORGET,
        protocol.BATCH_FORGET,
        protocol.READDIR,
        protocol.GETATTR,
        protocol.INIT,
    ),
    *(protocol.STATFS, protocol.DESTROY, protocol.INTERRUPT, protocol.WRITE, CUSE_INIT),
)


def request(random: Random) -> Requested:
    """One request, of which more or less is wrong."""
    opcode = random.choice((*OPCODES, random.randrange(64), random.getrandbits(32)))
    body = body_of(opcode, random)
    if random.randrange(4) == 0:
        body = damaged(body, random)
    node = random.choice((1, 1, 2, 3, 4, 5, 6, 7, random.choice((*EDGES, *LARGE)))) & (
        2**64 - 1
    )
    pid = None if random.randrange(6) else random.choice((0, 1, 2, 0xFFFFFFFF, 1 << 22))
    return Requested(opcode, node, body[:SENT], pid, random.choice((0, 0, 0, 1000, 0xFFFFFFFF)))


def true_start(cuse: bool) -> list[Requested]:
    """How a kernel begins, and somebody opens the file."""
    if cuse:
        init = Requested(CUSE_INIT, 0, struct.pack("=IIII", 7, 40, 0, 1))
        return [init, Requested(protocol.OPEN, 0, struct.pack("=II", 0, 0))]
    return [
        Requested(
            protocol.INIT, 0, struct.pack("=IIIII", 7, 40, 65536, 0xFFFFFFFF, 32) + bytes(44)
        ),
        Requested(protocol.LOOKUP, 1, b"ksyms\0"),
        Requested(protocol.OPEN, 5, struct.pack("=II", 0, 0)),
    ]


# -- the servers in this process ------------------------------------------------------------


class Latest:
    """Snapshots that are known at once, or have to be waited for."""

    def __init__(self, backing: Backing, random: Random) -> None:
        self._backing, self._random = backing, random

    def current(self) -> Backing | None:
        return self._backing if self._random.randrange(3) else None

    def get(self) -> Backing:
        return self._backing


class Session:
    """A server and its kernel's end, which is a socket that keeps the messages apart."""

    def __init__(
        self, cuse: bool, backing: Backing, gate: Gate, readers: Readers, random: Random
    ) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._theirs = theirs
        channel = Channel(theirs.fileno())
        latest = Latest(backing, random)
        several = Device(Policy(opens_per_process=None))
        devices = (
            {"vmlinux": several} if cuse else {"ksyms": Device(Policy()), "vmlinux": several}
        )
        for device in devices.values():
            device.modevent(Event.LOAD)
        operations: CharacterDevice | Directory
        if cuse:
            operations = CharacterDevice("ksyms", several, latest, gate, readers, lambda: None)
        else:
            operations = Directory(
                channel,
                b"00:2a",
                devices,
                latest,
                gate,
                readers,
                lambda: {},
                lambda words: None,
            )
        self._unique = 0
        self._thread = threading.Thread(target=serve, args=(channel, operations), daemon=True)
        self._thread.start()

    def ask(self, wanted: Requested) -> tuple[int, bytes]:
        """Send a request; the errno that it is answered with, and what else."""
        self._unique += 1
        pid = os.getpid() if wanted.pid is None else wanted.pid
        owner = wanted.owner
        length = HEADER.size + len(wanted.body)
        head = (length, wanted.opcode, self._unique, wanted.node, owner, owner, pid, 0, 0)
        self._ours.send(HEADER.pack(*head) + wanted.body)
        if wanted.opcode in (protocol.FORGET, protocol.BATCH_FORGET, protocol.INTERRUPT):
            return 0, b""
        answer = self._ours.recv(1 << 21)
        if len(answer) < ANSWER.size:
            raise Fault("the server ended", f"at {wanted}")
        length, number, unique = ANSWER.unpack_from(answer)
        rest = answer[ANSWER.size :]
        known = number == 0 or (-number in errno.errorcode and not rest)
        if (length, unique) != (len(answer), self._unique) or not known:
            raise Fault("an answer that is none", f"{answer[:64]!r} to {wanted}")
        return -number, rest

    def end(self) -> None:
        """End the connection; the server must end with it, and keep nothing open."""
        self._ours.close()
        self._thread.join()
        self._theirs.close()
        for thread in threading.enumerate():  # those of the lanes end after their answers
            if thread is not threading.current_thread():
                thread.join()


def check_answers(session: Session, cuse: bool) -> None:
    """What a kernel asks in earnest has the right answers still."""
    image, node = snapshot(), 0
    if not cuse:
        number, entry = session.ask(Requested(protocol.LOOKUP, 1, b"vmlinux\0"))
        _right("LOOKUP", number, 0)
        node = struct.unpack_from("=Q", entry)[0]
    ask = partial(_asked, session, node)
    number, opened = session.ask(Requested(protocol.OPEN, node, struct.pack("=II", 0, 0)))
    if number == errno.ESTALE and not cuse:  # the kernel looks the name up again
        _, entry = session.ask(Requested(protocol.LOOKUP, 1, b"vmlinux\0"))
        node = struct.unpack_from("=Q", entry)[0]
        ask = partial(_asked, session, node)
        number, opened = session.ask(Requested(protocol.OPEN, node, struct.pack("=II", 0, 0)))
    _right("OPEN", number, 0)
    handle = struct.unpack_from("=Q", opened)[0]
    read = ask(protocol.READ, struct.pack("=QQIIQII", handle, 0, 1 << 20, 0, 0, 0, 0))
    _right("READ", read, image)
    request_ = struct.pack("=QIIQII", handle, 0, KIOCGSIZE, 0, 0, 8)
    _right("KIOCGSIZE", ask(protocol.IOCTL, request_)[16:], struct.pack("=Q", len(image)))
    asked = struct.pack("=QQ", ctypes.addressof(ALPHA), 0)
    request_ = struct.pack("=QIIQII", handle, 0, KIOCGVALUE, 0, 16, 16) + asked
    answer = ask(protocol.IOCTL, request_)[16:]
    _right("KIOCGVALUE", answer, asked[:8] + struct.pack("=Q", 0xFFFFFFFF81000010))
    ask(protocol.RELEASE, struct.pack("=QIIQ", handle, 0, 0, 0))


def _asked(session: Session, node: int, opcode: int, body: bytes) -> bytes:
    number, answer = session.ask(Requested(opcode, node, body))
    _right(f"opcode {opcode}", number, 0)
    return answer


def _right(what: str, got: object, right: object) -> None:
    if got != right:
        raise Fault(f"wrong answer to {what}", f"{got!r:.300} and not {right!r:.300}")


@contextmanager
def printed() -> Iterator[io.StringIO]:
    """What is printed meanwhile, of any thread: a traceback is a mistake that was caught."""
    kept, sys.stderr = sys.stderr, io.StringIO()
    try:
        yield sys.stderr
    finally:
        sys.stderr = kept


class Protocol(Target):
    """Sessions of requests."""

    name = "protocol"

    def begin(self, directory: Path) -> None:
        super().begin(directory)
        self._backing = Backing(memoryview(snapshot()))
        # A server has one, which keeps files of those who called last.
        self._gate = Gate(lambda task, status: True, lambda words: None)
        self._readers = Readers()
        own = str(os.getpid()).encode(), str(ctypes.addressof(ALPHA)).encode()
        assert self._readers.ask(0, b"string", *own, b"6") == b"alpha"  # one is there now

    def make(self, number: int) -> Case:
        random = self.random(number)
        cuse = random.randrange(3) == 0
        wanted = [*true_start(cuse), *(request(random) for _ in range(SESSION))]
        lines = "\n".join(map(repr, wanted))
        return Case(
            {"requests": lines.encode()}, {"wanted": wanted, "cuse": cuse, "number": number}
        )

    def check(self, case: Case) -> None:
        before = _own_files()
        self._session(case)
        gc.collect()
        if _own_files() != before:
            raise Fault("files are left open", f"{_own_files()} and not {before}")

    def _session(self, case: Case) -> None:
        cuse = case.facts["cuse"]
        with printed() as words:
            random = self.random(case.facts["number"], "waits")
            session = Session(cuse, self._backing, self._gate, self._readers, random)
            try:
                for wanted in case.facts["wanted"]:
                    session.ask(wanted)
                check_answers(session, cuse)
            finally:
                session.end()
        if words.getvalue():
            raise Fault("printed", words.getvalue(), *_kinds_of(words.getvalue()))


def _own_files() -> list[str]:
    """What this process has open, but for what the gate keeps of its callers."""
    return sorted(link for link in inodes(os.getpid()) if not link.startswith("/proc/"))


def _kinds_of(words: str) -> set[str]:
    """What each printed traceback ends with, and where that is from."""
    found = set()
    for traceback in words.split("Traceback (most recent call last):\n")[1:]:
        places = PRINTED.findall(traceback)
        what = re.search(r"^(\w[\w.]*)(?::.*)?\Z", traceback.strip(), re.MULTILINE)
        where = f"{places[-1][0]}:{places[-1][1]} {places[-1][2]}" if places else "elsewhere"
        found.add(f"printed {what[1] if what else '?'} in {where}")
    return found


# -- a server that is mounted ---------------------------------------------------------------


class Mounted(Target):
    """System calls on what ksyms serve has mounted, of the running kernel."""

    name = "mounted"
    _open: list[int]

    def begin(self, directory: Path) -> None:
        super().begin(directory)
        before = ["setpriv", "--pdeathsig", "TERM"]  # it ends with us, whatever ends us
        self._server = Served(directory / "mount", "--verbose", before=before)
        self._path, self._open = directory / "mount", []
        with self._server.file.open("rb") as file:
            fcntl.ioctl(file, KIOCGSIZE, bytearray(8))
        self._files = len(inodes(self._server.process.pid))
        text = Path("/proc/kallsyms").read_text()
        found = re.search(r"^([0-9a-f]+) T vfs_read$", text, re.M)
        assert found is not None
        self._value = int(found[1], 16)

    def end(self) -> None:
        self._close()
        self._server.end()
        self._server.clean_up()

    def make(self, number: int) -> Case:
        return Case({"seed": f"{self.seed} {number}".encode()}, {"number": number})

    def check(self, case: Case) -> None:
        random = self.random(case.facts["number"])
        calls = [random.choice(CALLS) for _ in range(SESSION)]
        try:
            for call in calls:
                with suppress(OSError, ValueError, OverflowError):
                    call(self, random)
        finally:
            self._close()
        self._answers()
        if case.facts["number"] % 50 == 0:
            self._server.status()
            if (
                len(inodes(self._server.process.pid)) > self._files + 40
            ):  # what it keeps of callers
                raise Fault(
                    "the server keeps files open", str(inodes(self._server.process.pid))
                )
        if "Traceback" in self._server.words():
            words = self._server.words()
            raise Fault("printed", words[-2000:], *_kinds_of(words))

    def _answers(self) -> None:
        """An open, its size, a lookup, a page; the server is alive and right."""
        if self._server.ended():
            raise Fault("the server ended", self._server.words()[-2000:])
        with self._server.file.open("rb") as file:
            size = bytearray(8)
            fcntl.ioctl(file, KIOCGSIZE, size)
            _right("KIOCGSIZE", int.from_bytes(size, "little"), os.fstat(file.fileno()).st_size)
            name = ctypes.create_string_buffer(b"vfs_read")
            asked = bytearray(struct.pack("=QQ", ctypes.addressof(name), 0))
            fcntl.ioctl(file, KIOCGVALUE, asked)
            _right("KIOCGVALUE", struct.unpack_from("=Q", asked, 8)[0], self._value)
            _right("read", file.read(4), b"\x7fELF")

    def _close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    # The calls.

    def _any(self, random: Random) -> Path:
        name = random.choice(
            (b"ksyms", b"vmlinux", b".status", b"", b"x", b"y" * 255, b"ksyms/a")
        )
        return self._path / os.fsdecode(name)

    def _fd(self, random: Random) -> int:
        return random.choice(self._open) if self._open else -1

    def opens(self, random: Random) -> None:
        one, two = random.choices(FLAGS, k=2)
        chosen = random.choice((os.O_RDONLY, os.O_RDONLY, one, one | two))
        self._open.append(os.open(self._any(random), chosen, 0o600))

    def opens_again(self, random: Random) -> None:
        path = f"/proc/self/fd/{self._fd(random)}"
        self._open.append(os.open(path, random.choice((os.O_RDONLY, os.O_RDWR))))

    def reads(self, random: Random) -> None:
        count = random.choice((0, 1, 4095, 4097, 1 << 20))
        os.pread(self._fd(random), count, number_of(random) & (2**63 - 1))
        os.read(self._fd(random), count)

    def seeks(self, random: Random) -> None:
        os.lseek(self._fd(random), number_of(random) & (2**63 - 1), random.randrange(6))

    def asks(self, random: Random) -> None:
        number = random.choice((*KNOWN, *KNOWN, random.getrandbits(32)))
        room = bytearray(1 << 15)  # more than any number can say that it takes
        pointer = random.choice((0, 1, ctypes.addressof(ALPHA), number_of(random))) & (
            2**64 - 1
        )
        struct.pack_into("=Q", room, 0, pointer)
        fcntl.ioctl(self._fd(random), number, room)

    def maps(self, random: Random) -> None:
        fd, length = self._fd(random), random.choice((1, 4096, 10_000, 1 << 20))
        kind = random.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE))
        rights = random.choice(
            (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_EXEC)
        )
        offset = random.choice((0, 0, 4096, 1 << 40))
        with mmap.mmap(fd, length, kind, rights, offset=offset) as mapped:
            if rights != mmap.PROT_EXEC:
                _ = mapped[0]

    def writes(self, random: Random) -> None:
        fd = self._fd(random)
        calls: list[Callable[[], object]] = [
            lambda: os.write(fd, b"x" * 10),
            lambda: os.ftruncate(fd, 10),
            lambda: os.posix_fallocate(fd, 0, 10),
            lambda: os.fsync(fd),
            lambda: os.fchmod(fd, 0o777),
            lambda: os.sendfile(1, fd, 0, 0),
            lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
        ]
        random.choice(calls)()

    def names(self, random: Random) -> None:
        one, two = self._any(random), self._any(random)
        calls: list[Callable[[], object]] = [
            lambda: os.listdir(self._path),
            lambda: os.statvfs(self._path),
            lambda: os.stat(one),
            lambda: os.mkdir(one),
            lambda: os.unlink(one),
            lambda: os.rmdir(one),
            lambda: os.rename(one, two),
            lambda: os.link(one, two),
            lambda: os.symlink("ksyms", one),
            lambda: os.mknod(one, stat.S_IFIFO | 0o600),
            lambda: os.truncate(one, 10),
            lambda: os.chmod(one, 0o777),
            lambda: os.chown(one, 1, 1),
            lambda: os.utime(one),
            lambda: os.setxattr(one, "user.a", b"b"),
            lambda: os.getxattr(one, "user.a"),
            lambda: os.listxattr(one),
            lambda: os.readlink(one),
        ]
        random.choice(calls)()

    def opens_in_a_child(self, random: Random) -> None:
        pid = os.fork()
        if pid == 0:
            with suppress(OSError):
                os.read(os.open(self._path / "ksyms", os.O_RDONLY), 100)
            os._exit(0)
        os.waitpid(pid, 0)

    def closes(self, random: Random) -> None:
        if self._open:
            os.close(self._open.pop(random.randrange(len(self._open))))


CALLS: list[Callable[[Mounted, Random], None]] = [
    *(Mounted.opens, Mounted.opens, Mounted.opens_again, Mounted.reads, Mounted.seeks),
    *(Mounted.asks, Mounted.asks, Mounted.maps, Mounted.writes, Mounted.names, Mounted.closes),
    Mounted.opens_in_a_child,
]


if __name__ == "__main__":
    mounted = "--mounted" in sys.argv
    rest = [word for word in sys.argv[1:] if word != "--mounted"]
    sys.exit(program(Mounted if mounted else Protocol, rest))
