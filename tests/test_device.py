"""The driver's calls against a model of its rules, and every errno by hand.

The model is written from freebsd-ksyms.c, lines 364 to 617, and knows nothing of the code.
"""

from __future__ import annotations

import errno
import re
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import ksyms
from elf_files import Row, elf_file
from ksyms._device import Device, Event, OpenImage, Policy, Process

ONE, TWO = Process(10, 1), Process(20, 1)


class Fake:
    """A snapshot of bytes that say which it is."""

    def __init__(self, content: bytes) -> None:
        self.image = memoryview(content)


class Memory:
    """The memory of a caller: one mapping, and some names."""

    def __init__(
        self, mapped: int | None = None, names: dict[int, bytes] | None = None
    ) -> None:
        self.mapped = mapped
        self.names = names or {}

    def mapped_at(self) -> int | None:
        return self.mapped

    def string_at(self, address: int, longest: int) -> bytes | None:
        return self.names[address][:longest] if address in self.names else None


class Opened(Device):
    """A device whose snapshots all come from one place."""

    def __init__(self, take: Callable[[], OpenImage], policy: Policy | None = None) -> None:
        super().__init__(policy)
        self.take = take

    def opened(self, process: Process, writing: bool = False) -> int:
        return self.open(process, self.take, writing)


@contextmanager
def fails(number: int) -> Iterator[None]:
    with pytest.raises(ksyms.KsymsError) as caught:
        yield
    assert caught.value.errno == number, caught.value
    assert caught.value.what.endswith(".")
    assert caught.value.remedy.endswith(".")


def device(content: bytes = b"snapshot", policy: Policy | None = None) -> Opened:
    made = Opened(lambda: Fake(content), policy or Policy())
    made.modevent(Event.LOAD)
    return made


def compiled(source: str, tmp_path: Path) -> str:
    code, program = tmp_path / "c.c", tmp_path / "c"
    code.write_text(source)
    subprocess.run(["gcc", code, "-o", program], check=True)
    return subprocess.check_output([program], text=True)


def test_the_requests_are_those_of_c(tmp_path: Path) -> None:
    """The numbers as this machine's compiler has them, from the BSDs' own definitions."""
    from ksyms._device import KIOCGADDR, KIOCGSIZE, KIOCGSYMBOL, KIOCGVALUE, requests

    printed = compiled(
        """
        #include <elf.h>
        #include <stddef.h>
        #include <stdint.h>
        #include <stdio.h>
        #include <sys/ioctl.h>
        struct gsymbol { const char *name; union { Elf64_Sym sym; } u; };
        struct gvalue { const char *name; uint64_t value; };
        int main(void) {
            printf("%lu %lu %lu %lu %lu %lu %lu", (unsigned long)_IOR('l', 1, size_t),
                (unsigned long)_IOR('l', 2, void *), (unsigned long)_IOR('l', 1, uint32_t),
                (unsigned long)_IOR('l', 2, uint32_t), (unsigned long)_IOR('l', 3, int),
                (unsigned long)_IOWR('l', 4, struct gvalue),
                (unsigned long)_IOWR('l', 5, struct gsymbol));
            return 0;
        }""",
        tmp_path,
    )
    numbers = [int(word) for word in printed.split()]
    assert [numbers[n] for n in (0, 1, 5, 6)] == [KIOCGSIZE, KIOCGADDR, KIOCGVALUE, KIOCGSYMBOL]
    assert set(numbers) == requests().keys()


def test_other_machines_encode_requests_otherwise() -> None:
    """arch/powerpc/include/uapi/asm/ioctl.h: three bits of direction, read is 2."""
    from ksyms._device.requests import number

    assert number(1, 8, machine="x86_64") == 0x80086C01
    assert number(1, 8, machine="ppc64le") == 0x40086C01
    assert number(4, 16, True, machine="aarch64") == 0xC0106C04
    assert number(4, 16, True, machine="mips64") == 0xC0106C04


def test_load_and_unload() -> None:
    made = Opened(lambda: Fake(b"x"))
    with fails(errno.ENXIO):
        made.opened(ONE)
    made.modevent(Event.LOAD)
    with fails(errno.EEXIST):
        made.modevent(Event.LOAD)
    made.modevent(Event.SHUTDOWN)
    with fails(errno.EOPNOTSUPP):
        made.modevent(Event.QUIESCE)
    handle = made.opened(ONE)
    with fails(errno.EBUSY):
        made.modevent(Event.UNLOAD)
    made.close(handle)
    made.modevent(Event.UNLOAD)
    with fails(errno.ENXIO):
        made.opened(ONE)


def test_one_open_a_process() -> None:
    made = device()
    first = made.opened(ONE)
    with fails(errno.EBUSY):
        made.opened(ONE)
    second = made.opened(TWO)
    later = made.opened(Process(ONE.pid, ONE.started + 1))  # a reused pid is somebody else
    assert len({first, second, later}) == 3
    made.close(first)
    made.opened(ONE)


@pytest.mark.parametrize("limit", [2, 5, None])
def test_as_many_opens_as_policy_allows(limit: int | None) -> None:
    made = device(policy=Policy(opens_per_process=limit))
    for _ in range(limit or 50):
        made.opened(ONE)
    if limit is not None:
        with fails(errno.EBUSY):
            made.opened(ONE)


def test_mode_and_owner() -> None:
    assert (device().policy.mode, device().policy.owner) == (0o400, 0)
    policy = device(policy=Policy(mode=0o444, owner=3, group=4)).policy
    assert (policy.mode, policy.owner, policy.group) == (0o444, 3, 4)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (ksyms.MovedError("It moved.", "Try again."), errno.ENXIO),
        (ksyms.HiddenError("Hidden.", "Be root."), errno.EPERM),
        (MemoryError(), errno.ENOMEM),
    ],
)
def test_an_open_that_fails_leaves_no_softc(error: Exception, number: int) -> None:
    failing = True

    def take() -> Fake:
        if failing:
            raise error
        return Fake(b"x")

    made = Opened(take)
    made.modevent(Event.LOAD)
    with fails(number):
        made.opened(ONE)
    assert made.openers() == {}
    made.modevent(Event.UNLOAD)
    made.modevent(Event.LOAD)
    failing = False
    made.opened(ONE)


def test_an_interrupt_in_open_leaves_no_softc() -> None:
    def take() -> Fake:
        raise KeyboardInterrupt

    made = Opened(take)
    made.modevent(Event.LOAD)
    with pytest.raises(KeyboardInterrupt):
        made.opened(ONE)
    assert made.openers() == {}


def test_a_process_that_dies_while_its_snapshot_is_taken() -> None:
    made: Opened

    def take() -> Fake:
        assert made.exited(ONE) == 1
        return Fake(b"x")

    made = Opened(take)
    made.modevent(Event.LOAD)
    with fails(errno.EINTR):
        made.opened(ONE)
    assert made.openers() == {}


def test_read() -> None:
    content = bytes(range(256)) * 40  # 10,240 bytes, two pages and a half
    made = device(content)
    handle = made.opened(ONE)
    for offset, length, expected in (
        (0, 10, content[:10]),
        (4090, 20, content[4090:4110]),
        (10_230, 100, content[10_230:]),
        (10_240, 1, b""),
        (10_240, 0, b""),
        (0, 1 << 40, content),
        (5, 0, b""),
    ):
        assert bytes(made.read(handle, offset, length)) == expected
    for offset in (-1, 10_241, 1 << 63):
        with fails(errno.EFAULT):
            made.read(handle, offset, 1)
    with fails(errno.EINVAL):
        made.read(handle, 0, -1)
    with pytest.raises(TypeError):
        made.read(handle, 0, 4)[0] = 1


def test_ioctl() -> None:
    made = device(b"x" * 5000)
    handle = made.opened(ONE)
    for request, width in ((0x80086C01, 8), (0x80046C01, 4), (0x80046C03, 4)):
        answer = made.ioctl(handle, request, Memory())
        assert answer == (5000).to_bytes(width, "little")
    assert made.ioctl(handle, 0x80086C02, Memory(0x7F00_1234_5000)) == bytes.fromhex(
        "00503412007f0000"
    )
    assert made.ioctl(handle, 0x80046C02, Memory(0xF7DF0000)) == bytes.fromhex("0000dff7")
    with fails(errno.EOVERFLOW):
        made.ioctl(handle, 0x80046C02, Memory(0x7F00_1234_5000))
    with fails(errno.ENXIO):
        made.ioctl(handle, 0x80086C02, Memory())
    for request in (0, 0x5401, 0x80086C00, 0x40086C01, 0x80106C01, (1 << 64) - 1):
        with fails(errno.ENOTTY):
            made.ioctl(handle, request, Memory())


def test_lookups_by_name() -> None:
    """NetBSD's KIOCGVALUE and KIOCGSYMBOL: a global symbol before the others."""
    rows = [
        Row(1, 0x10, 1, 0x02),
        Row(1, 0x20, 2, 0x22),
        Row(1, 0x30, 3),
        Row(5, 0x40, 4, 0x02),
    ]
    made = device(elf_file(rows, b"\0one\0two\0"))
    handle = made.opened(ONE)
    names = {
        0x1000: b"one",
        0x2000: b"two",
        0x3000: b"no",
        0x4000: b"x" * 5000,
        0x5000: b"\xff",
    }
    memory = Memory(names=names)
    value, symbol = 0xC0106C04, 0xC0206C05
    assert struct.unpack("<QQ", made.ioctl(handle, value, memory, pointer(16, 0x1000))) == (
        0x1000,
        0x30,
    )
    assert (
        struct.unpack("<QQ", made.ioctl(handle, value, memory, pointer(16, 0x2000)))[1] == 0x40
    )
    answer = made.ioctl(handle, symbol, memory, pointer(32, 0x1000))
    assert answer == pointer(8, 0x1000) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 0x30, 3)
    for address, number in (
        (0x3000, errno.ENOENT),
        (0x5000, errno.ENOENT),
        (0x4000, errno.ENAMETOOLONG),
        (0x9000, errno.EFAULT),
    ):
        with fails(number):
            made.ioctl(handle, value, memory, pointer(16, address))
    with fails(errno.EFAULT):
        made.ioctl(handle, value, memory, b"short")


def test_lookups_in_a_32_bit_image() -> None:
    """An Elf32_Sym's fields in the Elf64_Sym that the caller has."""
    made = device(elf_file([Row(1, 0x30, 3)], b"\0one\0", bits=32, order=">", machine=20))
    handle = made.opened(ONE)
    answer = made.ioctl(handle, 0xC0206C05, Memory(names={16: b"one"}), pointer(32, 16))
    assert answer[8:] == struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 0x30, 3)


def pointer(size: int, address: int) -> bytes:
    return address.to_bytes(8, "little").ljust(size, b"\0")


def test_mmap() -> None:
    made = device(b"a" * 4096 + b"b" * 100)
    handle = made.opened(ONE)
    whole = made.mmap(handle, 0, 8192)
    assert (bytes(whole.data), whole.zeros) == (b"a" * 4096 + b"b" * 100, 3996)
    last = made.mmap(handle, 4096, 1)
    assert (bytes(last.data), last.zeros) == (b"b" * 100, 3996)
    assert made.mmap(handle, 0, 100).zeros == 0
    assert made.mmap(handle, 0, 100, protection=3, shared=False).data[0] == ord("a")
    with fails(errno.EACCES):
        made.mmap(handle, 0, 100, protection=3)
    # One page further the driver still says yes (offset > round_page(size), line 559).
    for offset, length in ((8192, 1), (4096, 4097), (0, 8193), (100, 1), (-4096, 1), (0, 0)):
        with fails(errno.EINVAL):
            made.mmap(handle, offset, length)


def test_writing_is_refused() -> None:
    made = device()
    with fails(errno.EACCES):
        made.opened(ONE, writing=True)
    assert made.openers() == {}


def test_close_and_death_are_once() -> None:
    made = device(policy=Policy(opens_per_process=None))
    first, second = made.opened(ONE), made.opened(ONE)
    made.close(first)
    with fails(errno.EBADF):
        made.close(first)
    for call in (
        lambda: made.read(first, 0, 1),
        lambda: made.size(first),
        lambda: made.ioctl(first, 0x80086C01, Memory()),
        lambda: made.mmap(first, 0, 1),
    ):
        with fails(errno.EBADF):
            call()
    assert made.exited(ONE) == 1
    assert made.exited(ONE) == 0
    with fails(errno.EBADF):
        made.close(second)


def test_a_snapshot_in_hand_never_changes() -> None:
    contents = [b"first", b"second"]
    made = Opened(lambda: Fake(contents.pop(0)))
    made.modevent(Event.LOAD)
    one = made.opened(ONE)
    two = made.opened(TWO)
    assert bytes(made.read(one, 0, 99)) == b"first"
    assert bytes(made.read(two, 0, 99)) == b"second"
    assert (made.size(one), made.size(two)) == (5, 6)


PROCESSES = st.builds(Process, st.integers(1, 3), st.integers(1, 2))


class Rules(RuleBasedStateMachine):
    """The driver's rules as a model: a list of who has it open, and what each was given."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.moment = 0
        self.trouble: Exception | None = None
        self.limit: int | None = 1
        self.device = Opened(self.take, Policy(opens_per_process=1))
        self.present = False
        self.open_: dict[int, tuple[Process, bytes]] = {}

    def take(self) -> Fake:
        if self.trouble is not None:
            raise self.trouble
        return Fake(self.content())

    def content(self) -> bytes:
        return b"moment %d " % self.moment * (500 * (self.moment % 3) + 1)

    @rule()
    def the_kernel_changes(self) -> None:
        self.moment += 1

    @rule(trouble=st.sampled_from([None, MemoryError(), ksyms.MovedError("M.", "T.")]))
    def snapshots_fail_or_not(self, trouble: Exception | None) -> None:
        self.trouble = trouble

    @rule()
    def load(self) -> None:
        if self.present:
            with fails(errno.EEXIST):
                self.device.modevent(Event.LOAD)
        else:
            self.device.modevent(Event.LOAD)
            self.present = True

    @rule()
    def unload(self) -> None:
        if self.open_:
            with fails(errno.EBUSY):
                self.device.modevent(Event.UNLOAD)
        else:
            self.device.modevent(Event.UNLOAD)
            self.present = False

    @rule()
    def shutdown(self) -> None:
        self.device.modevent(Event.SHUTDOWN)

    @rule(target=handles, process=PROCESSES, writing=st.sampled_from([False] * 5 + [True]))
    def open(self, process: Process, writing: bool) -> int:
        number = 0
        if writing:
            number = errno.EACCES
        elif not self.present:
            number = errno.ENXIO
        elif any(owner == process for owner, _ in self.open_.values()):
            number = errno.EBUSY
        elif isinstance(self.trouble, MemoryError):
            number = errno.ENOMEM
        elif self.trouble is not None:
            number = errno.ENXIO
        if number:
            with fails(number):
                self.device.opened(process, writing)
            return -1
        handle = self.device.opened(process, writing)
        assert handle not in self.open_
        self.open_[handle] = process, self.content()
        return handle

    @rule(handle=handles, offset=st.integers(-3, 20_000), length=st.integers(0, 30_000))
    def read(self, handle: int, offset: int, length: int) -> None:
        if handle not in self.open_:
            with fails(errno.EBADF):
                self.device.read(handle, offset, length)
            return
        content = self.open_[handle][1]
        if not 0 <= offset <= len(content):
            with fails(errno.EFAULT):
                self.device.read(handle, offset, length)
        else:
            got = bytes(self.device.read(handle, offset, length))
            assert got == content[offset : offset + length]

    @rule(handle=handles, request=st.sampled_from([0x80086C01, 0x80046C01, 0x80086C02, 7]))
    def ioctl(self, handle: int, request: int) -> None:
        memory = Memory(handle * 4096 if handle % 2 else None)
        if handle not in self.open_:
            number = errno.EBADF
        elif request == 7:
            number = errno.ENOTTY
        elif request == 0x80086C02 and memory.mapped is None:
            number = errno.ENXIO
        else:
            answer = int.from_bytes(self.device.ioctl(handle, request, memory), "little")
            size = len(self.open_[handle][1])
            assert answer == (memory.mapped if request == 0x80086C02 else size)
            return
        with fails(number):
            self.device.ioctl(handle, request, memory)

    @rule(
        handle=handles,
        page=st.integers(-1, 4),
        length=st.integers(0, 9000),
        writing=st.booleans(),
        shared=st.booleans(),
    )
    def mmap(self, handle: int, page: int, length: int, writing: bool, shared: bool) -> None:
        if handle not in self.open_:
            number = errno.EBADF
        elif writing and shared:
            number = errno.EACCES
        else:
            content = self.open_[handle][1]
            padded = content + bytes(-len(content) % 4096)
            rounded = (length + 4095) // 4096 * 4096
            start = page * 4096
            if page >= 0 and length and start + rounded <= len(padded):
                pages = self.device.mmap(handle, start, length, 3 if writing else 1, shared)
                shown = bytes(pages.data) + bytes(pages.zeros)
                assert shown == padded[start : start + rounded]
                return
            number = errno.EINVAL
        with fails(number):
            self.device.mmap(handle, page * 4096, length, 3 if writing else 1, shared)

    @rule(handle=consumes(handles))
    def close(self, handle: int) -> None:
        if handle in self.open_:
            self.device.close(handle)
            del self.open_[handle]
        with fails(errno.EBADF):
            self.device.close(handle)

    @rule(process=PROCESSES)
    def die(self, process: Process) -> None:
        own = [h for h, (owner, _) in self.open_.items() if owner == process]
        assert self.device.exited(process) == len(own)
        for handle in own:
            del self.open_[handle]

    @invariant()
    def the_table_is_the_models(self) -> None:
        assert self.device.openers() == {h: p for h, (p, _) in self.open_.items()}


Rules.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestRules = Rules.TestCase


@contextmanager
def three_processes() -> Iterator[list[Process]]:
    """Three real processes, which end with the block."""
    children = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        yield [identity(child.pid) for child in children]
    finally:
        for child in children:
            child.communicate(b"\n")


def test_many_threads_for_several_real_processes() -> None:
    """Of the threads that open for one process at once one gets it, and no call is torn."""
    moment = 0
    counts: Counter[str] = Counter()
    wrong: list[str] = []

    def take() -> Fake:
        nonlocal moment
        moment += 1
        return Fake(b"%06d" % moment * 2000)

    made = Opened(take)
    made.modevent(Event.LOAD)

    def client(process: Process) -> None:
        barrier.wait()
        opened = 0
        while opened < 75:
            try:
                handle = made.opened(process)
            except ksyms.DeviceError as error:
                if error.errno != errno.EBUSY:
                    wrong.append(str(error))
                    return
                counts["busy"] += 1
                time.sleep(0.0001)  # The thread that has it open needs the interpreter.
                continue
            opened += 1
            counts["open"] += 1
            if list(made.openers().values()).count(process) != 1:
                wrong.append("opened twice")
            content = bytes(made.read(handle, 0, 1 << 20))
            if content != content[:6] * 2000 or made.size(handle) != len(content):
                wrong.append("torn")
            made.close(handle)

    with three_processes() as processes:
        assert len(set(processes)) == 3
        barrier = threading.Barrier(12)
        threads = [threading.Thread(target=client, args=(p,)) for p in processes * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert counts["open"] == 900
    assert made.openers() == {}
    made.modevent(Event.UNLOAD)


def identity(pid: int) -> Process:
    """A process's number and when it began, which the number of a later one has not."""
    fields = re.sub(r".*\) ", "", Path(f"/proc/{pid}/stat").read_text(), flags=re.S).split()
    return Process(pid, int(fields[19]))


def test_close_from_many_threads_is_once() -> None:
    made = device()
    for _ in range(200):
        handle = made.opened(ONE)
        done: Counter[str] = Counter()

        def close(handle: int = handle, done: Counter[str] = done) -> None:
            try:
                made.close(handle)
                done["closed"] += 1
            except ksyms.DeviceError:
                done["refused"] += 1

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == {"closed": 1, "refused": 3}
