"""Every row of the driver, by real system calls of a C program through a real mount."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import ksyms
from bpf import load_bpf_program
from bpf import name as bpf_name
from command import ksyms as ksyms_command
from command import nm
from served import Served, answers, wait_for


def test_the_files(served: Served) -> None:
    assert sorted(os.listdir(served.directory)) == ["ksyms", "vmlinux"]
    assert [oct(path.stat().st_mode) for path in (served.device, served.file)] == [
        "0o100400",
        "0o100400",
    ]


def test_open_read_and_sizes(served: Served, client: Path) -> None:
    """fstat's size is right before the first read; reads are short at the end, then 0."""
    size = str(served.file.stat().st_size)
    calls = ["fstat", "size", "size32", "read=100", f"pread={int(size) - 5}", f"pread={size}"]
    calls += [f"pread={int(size) + 9}", "pread=-1", f"lseek={int(size) + 9}", "read=10"]
    for path in (served.device, served.file):
        got = answers(client, f"open={path}", *calls)
        # Past the end the kernel answers 0 by itself; the driver's EFAULT is never asked.
        far = str(int(size) + 9)
        assert got == ["0", size, size, size, "100", "5", "0", "0", "EINVAL", far, "0"]


def test_what_is_read_is_a_snapshot(served: Served, tmp_path: Path) -> None:
    """nm of what cat read gives kallsyms' names; the two files are the same."""
    copies = [tmp_path / "ksyms", tmp_path / "vmlinux"]
    for path, copy in zip((served.device, served.file), copies):
        copy.write_bytes(subprocess.check_output(["cat", path]))
    assert copies[0].read_bytes() == copies[1].read_bytes()
    text = Path("/proc/kallsyms").read_text().splitlines()
    assert nm(copies[0]) == sorted(f"{w[0]} {w[2]}" for w in map(str.split, text))


def test_one_open_a_process(served: Served, client: Path) -> None:
    """A thread is no other process, a child is; dup is no open; closed, it opens again."""
    device = f"open={served.device}"
    calls = [device, device, f"threadopen={served.device}", f"childopen={served.device}"]
    assert answers(client, *calls, "close", device) == ["0", "EBUSY", "EBUSY", "0", "0", "0"]
    assert answers(client, device, "dup", "close", device, "close", device) == (
        ["0", "0", "0", "EBUSY", "0", "0"]
    )
    file = f"open={served.file}"
    assert answers(client, file, file, device, f"threadopen={served.file}")[:3] == ["0"] * 3


def test_a_child_keeps_it_open(served: Served, client: Path) -> None:
    """The parent closes, a forked child has the descriptor still: it is busy until then."""
    device = f"open={served.device}"
    got = answers(client, device, "fork=400", "close", device, "sleep=600", device)
    assert got == ["0", "0", "0", "EBUSY", "0", "0"]


def test_no_spurious_busy(served: Served, client: Path) -> None:
    """RELEASE comes after close() has returned: 5,000 closes, each followed by an open."""
    assert answers(client, f"loop=5000,{served.device}") == ["0"]


def test_ioctl(served: Served, client: Path) -> None:
    """KIOCGADDR is where the caller mapped it, in the caller's memory."""
    got = answers(
        client,
        *(f"open={served.device}", "addr", "mmap", "addr", "addr32", "munmap", "addr"),
        *("ioctl=0x5401", "ioctl=0x80086c07", "ioctl=0"),
    )
    assert got == [
        "0",
        "ENXIO",
        "0",
        "1",
        "EOVERFLOW",
        "0",
        "ENXIO",
        "ENOTTY",
        "ENOTTY",
        "ENOTTY",
    ]


def test_lsattr(served: Served) -> None:
    """For file attributes the kernel opens the file again, which of the device is one more."""
    for path, words in ((served.device, "resource busy"), (served.file, "not supported|ioctl")):
        run = subprocess.run(["lsattr", path], capture_output=True, text=True)
        assert re.search(words, run.stderr), run.stderr
    wait_for(lambda: served.status()["handles"] == 0)


def test_a_mapping_of_a_part_is_no_address(served: Served, client: Path) -> None:
    """Who asks for the address may read as many bytes as KIOCGSIZE says."""
    got = answers(client, f"open={served.device}", "mmappart", "addr", "mmap", "addr")
    assert got == ["0", "0", "ENXIO", "0", "1"]


def test_a_32_bit_program(served: Served, tmp_path: Path) -> None:
    """Its size_t and void * are 32 bits, and so its requests have other numbers."""
    program = tmp_path / "small"
    code = tmp_path / "small.s"
    # x86's 32-bit system calls by hand: gcc has no 32-bit C library here.
    code.write_text(
        f"""
        .code32
        .globl _start
        _start:
            mov $5, %eax; mov $path, %ebx; xor %ecx, %ecx; int $0x80   # open
            mov %eax, %esi
            mov $54, %eax; mov %esi, %ebx; mov $0x80046c01, %ecx       # ioctl KIOCGSIZE
            mov $answer, %edx; int $0x80
            test %eax, %eax; jnz out
            mov $192, %eax; xor %ebx, %ebx; mov answer, %ecx           # mmap2, read, shared
            mov $1, %edx; mov $1, %edi; xchg %esi, %edi; xor %ebp, %ebp
            int $0x80
            mov %eax, mapped
            mov $54, %eax; mov %edi, %ebx; mov $0x80046c02, %ecx       # ioctl KIOCGADDR
            mov $address, %edx; int $0x80
            test %eax, %eax; jnz out
            mov address, %eax; cmp mapped, %eax; jne differs
            cmpl $0x464c457f, (%eax); jne differs
            mov $4, %eax; mov $1, %ebx; mov $answer, %ecx; mov $4, %edx; int $0x80
            xor %ebx, %ebx; mov $1, %eax; int $0x80
        differs: mov $99, %eax
        out: neg %eax; mov %eax, %ebx; mov $1, %eax; int $0x80
        .data
        path: .asciz "{served.device}"
        .align 4
        answer: .long 0
        mapped: .long 0
        address: .long 0
        """
    )
    subprocess.run(["as", "--32", code, "-o", code.with_suffix(".o")], check=True)
    link: list[str | Path] = ["ld", "-m", "elf_i386", code.with_suffix(".o"), "-o", program]
    subprocess.run(link, check=True)
    run = subprocess.run([program], capture_output=True)
    assert run.returncode == 0, -run.returncode & 0xFF
    assert int.from_bytes(run.stdout, "little") == served.file.stat().st_size


def test_lookups_by_name(served: Served, client: Path) -> None:
    [symbol] = [s for s in ksyms.load(served.file).find("schedule") if s.module is None]
    got = answers(
        client, f"open={served.device}", "value=schedule", "symbol=schedule", "value=no_such"
    )
    assert got[1:] == [str(symbol.address >> 1), str(symbol.size), "ENOENT"]
    assert answers(client, f"open={served.device}", "badname", "value=" + "x" * 2000) == [
        "0",
        "EFAULT",
        "ENAMETOOLONG",
    ]


def test_mmap(served: Served, client: Path) -> None:
    """Shared and private; a writable shared one is refused; the same bytes as by read."""
    for path in (served.device, served.file):
        got = answers(
            client, f"open={path}", "sum", "mmap", "mapsum", "mmapx", "mapsum", "mmapw"
        )
        assert got[:1] + got[2:3] + got[4:5] == ["0", "0", "0"]
        assert got[1] == got[3] == got[5]
        assert got[6] == "EACCES"
        assert answers(client, f"open={path}", "mmapxw")[1] == "0"


def test_writing_is_refused(served: Served, client: Path) -> None:
    for path in (served.device, served.file):
        assert answers(client, f"openw={path}", f"openrw={path}") == ["EACCES", "EACCES"]
        assert answers(client, f"open={path}", "write") == ["0", "EBADF"]
        with pytest.raises(PermissionError):
            os.truncate(path, 0)
        with pytest.raises(OSError, match="Permission denied"):
            path.unlink()
    with pytest.raises(OSError, match="Permission denied"):
        (served.directory / "new").write_text("x")


def test_reopened_through_proc(served: Served, client: Path) -> None:
    """/proc/self/fd/N of vmlinux opens; of the device it is a second open."""
    assert answers(client, f"open={served.file}", "sum", "reopen", "sum")[2] == "0"
    assert answers(client, f"open={served.device}", "reopen") == ["0", "EBUSY"]


def test_reopened_after_the_kernel_changed(served: Served, client: Path) -> None:
    """No name can be looked up again there: the reopened file is the one that it was."""
    child = subprocess.Popen(
        [client, f"open={served.file}", "sum", "wait", "reopen", "sum", "fstat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    first = [child.stdout.readline().strip() for _ in range(2)]
    program = load_bpf_program()
    try:
        out, _ = child.communicate("\n")
        assert out.split()[:3] == ["0", "0", first[1]]
    finally:
        os.close(program)


def test_a_change_is_in_the_very_next_open(served: Served, tmp_path: Path) -> None:
    """A BPF program that is loaded while others have the file open: in no earlier one."""
    with ExitStack() as stack:
        earlier = []
        for _ in range(5):
            file = stack.enter_context(served.file.open("rb"))
            earlier.append((file, file.read()))
            assert bpf_name() not in names(earlier[-1][1], tmp_path)
            program = load_bpf_program()
            try:
                assert bpf_name() in names(served.file.read_bytes(), tmp_path)
            finally:
                os.close(program)
            wait_for(lambda: bpf_name() not in names(served.file.read_bytes(), tmp_path))
        for file, content in earlier:
            file.seek(0)
            assert file.read() == content
            assert os.fstat(file.fileno()).st_size == len(content)
    assert served.status()["handles"] == 0


def test_an_open_after_a_change_is_sent_back_once(served: Served, client: Path) -> None:
    """OPEN of the last snapshot's node is answered ESTALE; the kernel looks the name up again
    and opens the new one, and the program sees nothing of it."""
    served.file.read_bytes()
    program = load_bpf_program()
    try:
        child = subprocess.Popen([client, f"open={served.file}"], stdout=subprocess.PIPE)
        assert child.communicate()[0] == b"0\n"
    finally:
        os.close(program)

    def opens() -> list[tuple[str, str]]:
        return re.findall(rf"OPEN by {child.pid} on node (\d+): (\w+)", served.words())

    wait_for(lambda: len(opens()) == 2)  # a line comes after the answer
    first, second = sorted(opens(), key=lambda line: line[1])
    assert (first[1], second[1]) == ("ESTALE", "ok")
    assert int(second[0]) > int(first[0])


REFUSED = """
import ctypes, os, struct, sys
# Load the system call's number; perf_event_open (298) is EPERM; all others are allowed.
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 298), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *c) for c in code))
filter = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
assert ctypes.CDLL(None).prctl(22, 2, filter) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A program that becomes another, with a seccomp filter."""


def test_a_snapshot_an_open_without_perf_events(tmp_path: Path, client: Path) -> None:
    """Nothing tells that nothing moved, so every open has a snapshot of its own, and takes
    one; a stat takes none."""
    server = Served(tmp_path / "mount", before=[sys.executable, "-c", REFUSED])
    try:
        assert answers(client, f"open={server.file}") == ["0"]
        first = server.status()
        assert "perf_event_open" in first["sources_missing"]
        program = load_bpf_program()
        assert bpf_name() in names(server.file.read_bytes(), tmp_path)
        os.close(program)
        assert answers(client, f"loop=3,{server.device}", f"stat={server.file}")[0] == "0"
        assert server.status()["taken"] - first["taken"] == 4
    finally:
        server.end()
        server.clean_up()


def names(image: bytes, directory: Path) -> str:
    path = directory / "image"
    path.write_bytes(image)
    return "\n".join(nm(path))


def test_commands_take_the_device_for_a_file(served: Served) -> None:
    for path in (served.device, served.file):
        run = ksyms_command("lookup", "--from", path, "schedule")
        assert (run.returncode, "schedule" in run.stdout) == (0, True), run.stderr
        assert ksyms_command("info", path).returncode == 0


def test_status(served: Served, client: Path) -> None:
    """Who has it open, what is held; and nothing is when all have closed."""
    served.file.read_bytes()  # the kernel holds a name's node until it is asked for again
    child = subprocess.Popen(
        [client, f"open={served.device}", "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    wait_for(lambda: served.status()["openers"])
    found = served.status()
    assert found["openers"] == [{"file": "ksyms", "pid": child.pid}]
    assert (found["handles"], found["snapshots"]) == (1, 1)
    assert found["bytes"] == served.file.stat().st_size
    assert found["pid"] == served.process.pid
    text = ksyms_command("status", served.directory).stdout
    assert f"ksyms  process {child.pid}" in text
    child.communicate(b"\n")
    wait_for(lambda: not served.status()["openers"])
    assert served.status()["handles"] == 0
