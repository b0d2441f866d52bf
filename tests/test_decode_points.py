"""What people paste and decode got wrong once: one test for each kind, with its neighbours.

The symbols are those of ``forms`` and a saved kernel; the right names come from form.py's
bisection over kallsyms.
"""

from __future__ import annotations

import fcntl
import gzip
import lzma
import os
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard

import ksyms
from command import COMMAND, refused
from command import ksyms as run
from conftest import Kernel
from form import FORMS, Oracle, decode, frames, oracle
from pages import DOCS

RELEASE = "6.12.117+deb12-amd64"
BANNER = (
    f"[    0.000000] Linux version {RELEASE} (x@y) (gcc-12 12.2.0) #1 SMP PREEMPT_DYNAMIC\n"
)
THERE = 0xFFFFFFFF9B200000
"""Where the kernel of docs/oops.md's text lies."""
LINKED = 0xFFFFFFFF81000000


@pytest.fixture(scope="module")
def kernel(saved: dict[str, Kernel]) -> Kernel:
    return saved["6.12.117+deb12-amd64-few"]


class At:
    """The addresses of symbols, and what they are called, here and in boots that are moved."""

    def __init__(self, symbols: Oracle) -> None:
        self.symbols = symbols

    def raw(self, frame: str, slide: int = 0) -> str:
        """The address of ``name+0x12`` in a boot that is moved by ``slide``."""
        name, _, offset = frame.partition("+")
        [start] = self.symbols.named[name]
        return f"{start + int(offset or '0', 0) + slide:0{self.symbols.digits}x}"

    def name(self, frame: str) -> str:
        """As the kernel prints it."""
        return str(self.symbols.place(int(self.raw(frame), 16)))

    def named(self, frame: str, slide: int = 0) -> str:
        return f"{self.raw(frame, slide)} {self.name(frame)}"

    def old(self, frame: str, slide: int = 0) -> str:
        """A frame with its address, as oopses had it."""
        return f"[<{self.raw(frame, slide)}>] {self.name(frame)}"


@pytest.fixture(scope="module")
def at(kernel: Kernel) -> At:
    return At(Oracle((kernel.root / "proc/kallsyms").read_text()))


def on(machine: str) -> At:
    return At(oracle(machine))


@cache
def table(path: Path) -> ksyms.SymbolTable:
    return ksyms.load(path)


def symbols(source: str | Path) -> ksyms.SymbolTable:
    """Of a machine of ``forms``, or of a file."""
    return table(FORMS / f"{source}.kallsyms") if isinstance(source, str) else table(source)


def decoded(source: str | Path, text: str) -> str:
    """What decode makes of a text; DecodeError if it refuses it."""
    return decode(symbols(source), text)[0]


def records(source: str | Path, text: str) -> list[dict[str, Any]]:
    """One of each frame; none of a text that is refused."""
    try:
        return frames(symbols(source), text)
    except ksyms.KsymsError:
        return []


def page_text() -> str:
    """The oops of docs/oops.md."""
    [text] = re.findall(r"^\$ cat > oops.txt << 'END'\n(.*?)^> END", page(), re.M | re.S)
    return "".join(line.removeprefix("> ") for line in text.splitlines(True))


def page() -> str:
    return (DOCS / "oops.md").read_text()


# 0: a console that begins with its banner


FIRMWARE = [
    "",
    "SeaBIOS (version 1.16.2-debian-1.16.2-1)\n\n",
    "EFI stub: loaded at 0xffffffffa7a53e3b\nPEI: ImageBase FFFFFFFFA7A70774\n",
    "rIP  - ffffffffa7a53e3b, CS  - 0000000000000038\n",
    "U-Boot 2023.01\n## Loading kernel at 0xffffffffa7a5394e ...\n",
    "\n\n",
    "lab: console of a machine\n",
]


@pytest.mark.parametrize("before", FIRMWARE)
@pytest.mark.parametrize(
    "banner", [BANNER, BANNER + "words\n" * 99, BANNER + "w\n" * (1 << 18)]
)
def test_a_console_of_another_boot(before: str, banner: str, kernel: Kernel, at: At) -> None:
    """The banner and the Kernel Offset in one block, and in two; firmware is no boot."""
    slide = THERE - int(at.raw("_text"), 16)
    known = ["generic_file_mmap", "do_filp_open+0xc4"]
    text = page_text()
    expected = text
    for frame in known:
        there = at.raw(frame, slide)
        assert there in text
        expected = expected.replace(there, f"{there} {at.name(frame)}")
    assert decoded(kernel.elf, before + banner + text) == before + banner + expected


def test_consoles_of_two_other_boots(kernel: Kernel, at: At) -> None:
    """Each in its turn, each with its own offset."""
    text = expected = ""
    for slide in (THERE - int(at.raw("_text"), 16), 0x2200000):
        offset = int(at.raw("_text", slide), 16) - LINKED
        last = f"Kernel Offset: {offset:#x} from {LINKED:#x} (relocation range: x)\n"
        for frame in ("vfs_write+0x4", "do_filp_open+0xc4"):
            text += f"{BANNER}R11: {at.raw(frame, slide)}\n{last}"
            expected += f"{BANNER}R11: {at.named(frame, slide)}\n{last}"
    assert decoded(kernel.elf, text) == expected


def test_an_own_console_with_its_offset(kernel: Kernel, at: At) -> None:
    offset = int(at.raw("_text"), 16) - LINKED
    text = f"{BANNER}R11: {{}} R12: {{}}\nKernel Offset: {offset:#x} from {LINKED:#x}\n"
    frames = "vfs_write+0x4", "v9fs_file_open+0x41"
    expected = text.format(*map(at.named, frames))
    assert decoded(kernel.elf, text.format(*map(at.raw, frames))) == expected


UNMOVED = {
    "x86": "ffffffff81000000 T _text\nffffffff81000000 T _stext\nffffffff81002010 T vfs_read\n"
    "ffffffff81002100 T do_syscall_64\nffffffff81003000 T _etext\n",
    "arm64 of 6.1, which has no _text": "ffff800008010000 T _stext\n"
    "ffff800008012010 T vfs_read\nffff800008012100 T el0_svc\nffff800008013000 T _etext\n",
    "riscv": "ffffffff80002000 T _stext\nffffffff80002010 T vfs_read\n"
    "ffffffff80002100 T vfs_write\nffffffff80003000 T _etext\n",
    "ppc64": "c000000000000000 T _text\nc000000000000000 T _stext\n"
    "c000000000002010 T vfs_read\nc000000000002100 T vfs_write\nc000000000003000 T _etext\n",
    "arm": "c0008000 T _text\nc0100000 T _stext\nc0102010 T vfs_read\nc0102100 T vfs_write\n"
    "c0103000 T _etext\n",
}


@pytest.mark.parametrize("banner", ["", BANNER])
@pytest.mark.parametrize("machine", UNMOVED)
def test_a_disabled_offset_of_the_own_boot(machine: str, banner: str, tmp_path: Path) -> None:
    """Where nothing says at which addresses the kernel was linked."""
    path = tmp_path / "kallsyms"
    path.write_text(UNMOVED[machine])
    there = At(Oracle(UNMOVED[machine]))
    text = f"{banner}R11: {{}}\nlr : {{}}\nKernel Offset: disabled\nR12: {{}}\n"
    frames = ("vfs_read+0x4", "vfs_read+0x8", "vfs_read+0xc")
    expected = text.format(*map(there.named, frames))
    assert decoded(path, text.format(*map(there.raw, frames))) == expected


def test_an_offset_of_a_kernel_without_text(tmp_path: Path) -> None:
    """arm64 of 6.1 lists no _text, so its offset says nothing; its frames do."""
    path = tmp_path / "kallsyms"
    moved = UNMOVED["arm64 of 6.1, which has no _text"].replace("ffff8000", "ffffca7e")
    path.write_text(moved)
    there = At(Oracle(moved))
    last = "Kernel Offset: 0x4a7e00000000 from 0xffff800008000000\n"
    raw, named = there.raw("vfs_read+0x4"), there.named("vfs_read+0x4")
    assert decoded(path, f"x11: {raw}\n{last}") == f"x11: {named}\n{last}"
    frame = f"{there.old('vfs_read+0x8', 0x200000)}\n"
    raw, named = (f("vfs_read+0x4", 0x200000) for f in (there.raw, there.named))
    assert decoded(path, f"x11: {raw}\n{frame}{last}") == f"x11: {named}\n{frame}{last}"


@pytest.mark.parametrize("tell", ["frame", "nothing"])
def test_i386_says_disabled_though_it_moved(tell: str, tmp_path: Path) -> None:
    """Where the link address is known; the kernel lies 0x7600000 bytes above that."""
    here = UNMOVED["arm"].replace("c01", "c87").replace("c0008000", "c8700000")
    linked = here.replace("c87", "c11")
    for name, data in (
        ("proc/kallsyms", here),
        ("proc/sys/kernel/osrelease", "6.1.0-50-686-pae\n"),
        ("proc/sys/kernel/arch", "i686\n"),
        ("boot/System.map-6.1.0-50-686-pae", linked),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(data)
    elf = tmp_path / "elf"
    run("snapshot", "--root", tmp_path, "-o", elf, check=True)
    there = At(Oracle(here))
    frame = f"{there.old('vfs_write+0x8')}\n" if tell == "frame" else ""
    last = "Kernel Offset: disabled\n"
    done = run(
        "decode", "--from", elf, input=f"EAX: {there.raw('vfs_read+0x4')}\n{frame}{last}"
    )
    raw = f"EAX: {there.raw('vfs_read+0x4')}\n{frame}{last}"
    named = f"EAX: {there.named('vfs_read+0x4')}\n{frame}{last}"
    assert done.stdout in ([named] if tell == "frame" else [named, raw])


# 1, 7: where an offset is counted from


OFFSETS = {
    "arm64-4.19": (0xFFFFFF932E000000, 0xFFFFFF8008000000),  # KIMAGE_VADDR, TEXT_OFFSET below
    "arm64": (0xFFFFD2FE80000000, 0xFFFF800080000000),
    "riscv": (0xFFFFFFFF80000000, 0xFFFFFFFF80000000),  # _start, where the image begins
    "x86": (0xFFFFFFFF9A000000, 0xFFFFFFFF81000000),
    "ppc64": (0xC000000000000000, 0xC000000000000000),
}
"""Where each kernel's offset is counted to, in its own boot, and from."""


@pytest.mark.parametrize("slide", [0, 0x200000, 0x600000, 0xA000000])
@pytest.mark.parametrize("machine", OFFSETS)
def test_what_an_offset_is_counted_from(machine: str, slide: int) -> None:
    there = on(machine)
    start, linked = OFFSETS[machine]
    text = "x1 : {} x2 : {}\nKernel panic - not syncing: Fatal exception\n"
    text += f"Kernel Offset: {start + slide - linked:#x} from {linked:#x}\n"
    frames = ("vfs_read+0x14", "kthread+0x20")
    raw = text.format(*(there.raw(frame, slide) for frame in frames))
    assert decoded(machine, raw) == text.format(*(there.named(f, slide) for f in frames))


@pytest.mark.parametrize(
    "line",
    [
        "Kernel Offset: {offset:#x} from {linked:#x} (relocation range: 0x{b}-0x{c})",
        "Kernel Offset: {offset:#x} from 0x{b}",
        "Kernel relocated by {offset:#x}\n .text @ 0x{a}\n .data @ 0x{b}\n .bss  @ 0x{c}",
        "KERNELOFFSET={offset:x}\nSYMBOL(_stext)={a}",
        "PERF_RECORD_MMAP -1/0: [0x{a}(0x1000000) @ 0x{a}]: x [kernel.kallsyms]_text",
        "{a} T _stext",
        "{a} T _text",
        ".text : 0x{a} - 0x{b}   (16384 kB)",
    ],
)
def test_lines_that_say_where_the_kernel_lies_stay(line: str) -> None:
    """Of the own boot, where every address in them is in the kernel."""
    there = on("x86")
    start, linked = OFFSETS["x86"]
    a, b, c = f"{start:x}", there.raw("vfs_read"), there.raw("init_task")
    said = line.format(offset=start - linked, linked=linked, a=a, b=b, c=c)
    text = f"{there.old('vfs_read+0x14')}\n{said}\n"
    assert decoded("x86", text) == text


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        ("mips", "Kernel relocated by 0x{slide:08x}\n .text @ 0x{start}\n .data @ 0x{data}"),
        ("mips64", "Kernel relocated by 0x{slide:016x}\n .text @ 0x{start}"),
        ("loongarch", "Kernel relocated by 0x{slide:x}\n .text @ 0x{start}\n .data @ 0x{data}"),
        (
            "loongarch",
            "[   12.3] Kernel relocated by 0x{slide:x}\n[   12.3]  .text @ 0x{start}",
        ),
    ],
)
def test_where_mips_and_loongarch_say_it_was_relocated_to(machine: str, line: str) -> None:
    there, slide = on(machine), 0x650000
    said = line.format(
        slide=slide, start=there.raw("_text", slide), data=there.raw("_sdata", slide)
    )
    text = f"$ 4   : {{}} {{}}\n{said}\n"
    raw = text.format(there.raw("vfs_read+0x14", slide), there.raw("kthread+0x20", slide))
    named = text.format(there.named("vfs_read+0x14", slide), there.named("kthread+0x20", slide))
    assert decoded(machine, raw) == named


# 2: names before their addresses


BEFORE = {
    "trace-cmd": "=> {name} ({raw})",
    "trace-cmd with offsets": "=> {name}+{offset:#x} ({raw})",
    "crash": " #1 [ffffb1d2c0f2f6f8] {name} at {raw}",
    "crash -s": " #1 [ffffb1d2c0f2f6f8] {name}+{offset} at {raw}",
    "crash -sx": " #1 [ffffb1d2c0f2f6f8] {name}+{offset:#x} at {raw}",
    "ftrace": " => {name} <{raw}>",
    "function tracer": "  sh-1 [000] ..... 1.2: {name} <{raw}> <-{name} <{raw}>",
    "drgn": ".f = (void (*)(void)){name}+{offset:#x} = 0x{raw},",
    "trace-cmd's functions": " sh-1 [000] 1.2: function:    {name} ({raw}) <-- {name} ({raw})",
}
SIX = [
    "vfs_read+0x14",
    "kthread+0x20",
    "schedule+0x30",
    "do_idle+0x28",
    "printk+0x18",
    "ip_rcv+0x8",
]


@pytest.mark.parametrize("slide", [0, 0x200000, 0x800000, 0x4000000])
@pytest.mark.parametrize("form", BEFORE)
def test_names_before_their_addresses(form: str, slide: int) -> None:
    """All have their name; what has none is named where they tell the boot."""
    there = on("x86")
    lines = []
    for frame in SIX:
        name, _, offset = frame.partition("+")
        raw = there.raw(frame, slide)
        lines.append(BEFORE[form].format(name=name, offset=int(offset, 0), raw=raw))
    text = "\n".join(lines) + "\n"
    raw, named = there.raw("mutex_lock+0x10", slide), there.named("mutex_lock+0x10", slide)
    assert decoded("x86", f"{text}RAX: {raw}\n") == f"{text}RAX: {named}\n"


# 3, 4: names that are not of their addresses, and right


@pytest.mark.parametrize("slide", [0, 0x200000, 0x4000000])
def test_inlined_frames_tell_nothing(slide: int) -> None:
    """perf prints the address of the function that they were inlined into."""
    there = on("x86")
    lines = [
        f"\t{there.raw('schedule+0x30', slide)} {name} (inlined)"
        for name in (
            "kfree+0x7",
            "kthread",
            "arch_static_branch+0x6",
            "kfree",
            "mutex_lock+0x3",
        )
    ]
    lines.append(f"\t{there.raw('schedule+0x30', slide)} schedule+0x30 ([kernel.kallsyms])")
    text = "\n".join(lines * 9) + "\n"
    raw, named = there.raw("mutex_lock+0x10", slide), there.named("mutex_lock+0x10", slide)
    assert decoded("x86", f"{text}RAX: {raw}\n") == f"{text}RAX: {named}\n"
    got = records("x86", text)
    assert all(r["symbol"] == "schedule" for r in got if "schedule" in (r["said"] or ""))
    assert all(r["symbol"] in (None, "schedule") for r in got)


CLASSES = [
    " #{n}: {raw} ({name}){{+.+.}}-{{0:0}}, at: {frame}",
    "{raw} ({name}){{....}}-{{1:3}}, at: {frame}",
    " #{n}: {raw} ({name}){{++++}}-{{4:4}}, at: {frame}",
    "-> #{n} ({name}){{+.+.}}-{{0:0}}:",
    "{raw} (&{name}->lock){{-.-.}}-{{2:2}}, at: {frame}",
    "{raw} ({name}){{+.+.}}, at: {frame}",
    "{raw} ({name}#2){{+.+.}}, at: {frame}",
]


@pytest.mark.parametrize("slide", [0, 0x200000, 0x4000000])
@pytest.mark.parametrize("line", CLASSES)
def test_lock_classes_tell_nothing(line: str, slide: int) -> None:
    there = on("x86")
    names = ("console_lock", "kfree", "tasklist_lock", "vfs_read", "system_wq") * 3
    frame = there.name("printk+0x59")
    text = "".join(
        line.format(n=n, raw=there.raw("rcu_lock_map", slide), name=name, frame=frame) + "\n"
        for n, name in enumerate(names)
    )
    text += there.old("vfs_read+0x14", slide) + "\n"
    raw, named = there.raw("mutex_lock+0x10", slide), there.named("mutex_lock+0x10", slide)
    assert decoded("x86", f"{text}RAX: {raw}\n") == f"{text}RAX: {named}\n"


# 5: the release, wherever a text says it


HEADERS = [
    "CPU: 3 PID: 1 Comm: standard Kdump: loaded Tainted: G           OE  ------------   {r} #1",
    "CPU: 3 PID: 10739 Comm: a b c Kdump: loaded Not tainted {r} #1",
    "CPU: 0 PID: 1 Comm: swapper/0 Tainted: P        W  O   ------------ T {r} #1",
    "Pid: 2210, comm: cat Not tainted {r} #1",
    "Pid: 2210, comm: cat Tainted: P           {r} #1 SomeBoard/X",
    "Pid: 2210, comm: cat Tainted: P   ---------------    {r} #1 HP ProLiant",
    "Pid: 2210, comm: cat Not tainted ({r} #1)",
    "Pid: 2210, comm: cat Not tainted {r}",
    "{r} #1 Not tainted",
    "{r} #1 Tainted: G           OE    ",
    "[ INFO: possible circular locking dependency detected ]\n{r} #1 Not tainted",
    "      Tainted: G           OE     {r} #167",
    "      Not tainted {r} #167",
    "CPU: 1 UID: 0 PID: 2210 Comm: cat Tainted: G        W  O       {r} #1 PREEMPT(lazy) ",
    "CPU: 1 UID: 0 PID: 2210 Comm: kworker/u8:2 Not tainted {r} #1 Debian x ",
    "# os release : {r}",
    "OSRELEASE={r}\nPAGESIZE=4096",
    "     RELEASE: {r}",
    "kernel: Linux version {r} (x@y) #1 SMP",
    "RELEASE: {r}  VERSION: #1 SMP",
]


@pytest.mark.parametrize("other", ["3.10.0-957.el7.x86_64", "6.12.95+deb12-amd64", "6.12.117"])
@pytest.mark.parametrize("header", HEADERS)
def test_the_release_of_another_kernel(header: str, other: str, kernel: Kernel, at: At) -> None:
    """Its text is left alone, and its records agree with nothing."""
    rest = f"RDI: {at.raw('vfs_write+0x4')} \n {at.name('vfs_write+0x4')}\n"
    text = header.format(r=other) + "\n" + rest
    assert decoded(kernel.elf, text) == text
    found = records(kernel.elf, text)
    assert all(r["symbol"] is None and r["agrees"] is not True for r in found)


def test_a_text_of_another_release_is_refused(kernel: Kernel, at: At) -> None:
    """That it is of another is said, with its release, and the status is 1."""
    text = f"{HEADERS[0].format(r='3.10.0-957.el7.x86_64')}\nRDI: {at.raw('vfs_write+0x4')}\n"
    done = run("decode", "--from", kernel.elf, input=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert "3.10.0-957.el7.x86_64" in done.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_the_release_of_the_same_kernel(header: str, kernel: Kernel, at: At) -> None:
    text = f"{header.format(r=RELEASE)}\nRDI: {{}} \n {at.name('vfs_write+0x4')}\n"
    raw, named = at.raw("vfs_write+0x4"), at.named("vfs_write+0x4")
    assert decoded(kernel.elf, text.format(raw)) == text.format(named)


@pytest.mark.parametrize(
    "line",
    [
        " v9fs_file_open+0x41/0x330 [9p {id}]",
        "RIP: 0010:v9fs_file_open+0x41/0x330 [9p {id}]",
        "[<{raw}>] v9fs_file_open+0x41/0x330 [9p {id}]",
    ],
)
def test_the_build_id_of_a_module(line: str, kernel: Kernel, at: At) -> None:
    """Another one than the file's says that the module is of another build."""
    ours = symbols(kernel.elf).build_ids["9p"]
    theirs = "0123456789abcdef0123456789abcdef01234567"
    raw = at.raw("v9fs_file_open+0x41")
    text = line.format(id=theirs, raw=raw) + "\n"
    _, decoder = decode(symbols(kernel.elf), text)
    assert theirs in str(decoder.refusal)
    assert all(r["agrees"] is not True for r in records(kernel.elf, text))
    own = line.format(id=ours, raw=raw) + "\n"
    assert decoded(kernel.elf, own) == own
    assert [r["symbol"] for r in records(kernel.elf, own)] == ["v9fs_file_open"]


# 6: what is no kernel's address


NOISE = [
    ("i386", "root=PARTUUID={a}-01"),
    ("i386", "root=UUID={a}-1234-4a5b-8c6d-0123456789ab ro"),
    ("i386", "UUID: 01234567-1234-4a5b-8c6d-0123{a}"),
    ("i386", "pci 0000:00:02.0: reg 0x18: [mem 0x{a}-0x{b}]"),
    ("i386", "pci 0000:00:02.0: BAR 6 [mem 0x{a}-0x{b} pref]: assigned"),
    ("i386", "{a}-{b} : 0000:00:03.0"),
    ("i386", "  {a}-{b} : PCI Bus 0000:01"),
    ("i386", "e1000 0000:00:03.0: eth0: mmio 0x{a}"),
    ("i386", "serial8250: ttyS0 at MMIO 0x{a} (irq = 4, base_baud = 115200) is a 16550A"),
    ("i386", "BIOS-e820: [mem 0x00000000{a}-0x00000000{b}] usable"),
    ("i386", "ACPI: XSDT 0x00000000{a} 000054 (v01 BOCHS )"),
    ("i386", "nvme0n1: EUI {a}{b}"),
    ("i386", "disk: {a}-{b}-0001-0002-0003"),
    ("arm", "Memory: {a}-{b} (1024 kB)"),
    ("arm", "{a}-{b} r-xp 00000000 08:01 1234 /lib/libc.so"),
    ("arm", "Code: e1a0c00d {a} e24cb004 ({b}) "),
    ("mips", "Code: 8c820000  {a}  30420001 <{b}> 8f820014  {a}"),
    ("mips", "Code: 8c820000 {a} 30420001 <{b}>"),
    ("ppc32", "Instruction dump:\n7c0802a6 {a} {b} 40820008 <{a}> 2f800000 \n{a} {b}"),
    ("ppc32", "Code: {a} {b} 40820008 <{a}>"),
    ("parisc", " IIR: {a}    ISR: 00000000  IOR: 00000004"),
    ("s390", "User PSW : 0705100180000000 {a}"),
    ("s390", "User GPRS: 0000000000000400 {a}\n           {b} 0000000000000001"),
    (
        "s390",
        "User Code: {a}: e33010000004 lg %r3,0(%r1)\n           {b}: b9040012 lgr %r1,%r2",
    ),
    ("s390", "User PSW : 0705100180000000 {a}\nLast Breaking-Event-Address:\n [<{b}>] 0x1"),
    ("x86", "git v6.12-rc1-g{a}"),
    ("x86", "sha256: {a}{b}{a}{b}"),
]


@pytest.mark.parametrize(("machine", "line"), NOISE)
def test_what_is_no_address(machine: str, line: str) -> None:
    """With the digits of one: it stays bare, beside frames that tell the boot."""
    there = on(machine)
    text = line.format(a=there.raw("vfs_read+0x14"), b=there.raw("vfs_write+0x30"))
    beside = f"{there.old('kthread+0x20')}\n"
    for said in (f"{text}\n", f"[   12.345678] {text}\n"):
        whole = said + beside
        assert decoded(machine, whole) == whole


def test_what_follows_a_process_of_s390_is_the_kernels() -> None:
    """An oops after a fault of a process."""
    there = on("s390")
    user = there.raw("flashq_read+0x30")
    text = (
        f"User PSW : 0705100180000000 {user}\nUser GPRS: 0000000000000400 {user}\n"
        f"Last Breaking-Event-Address:\n [<{user}>] 0x3ff\n"
        "Krnl PSW : 0704c00180000000 {} (vfs_read+0x14)\nKrnl GPRS: 0000000000000001 {}\n"
        f"Call Trace:\n {there.old('kthread+0x20')}\n"
        "Last Breaking-Event-Address:\n [<{}>] {}\n"
    )
    raw, flash = there.raw("vfs_read+0x14"), "flashq_read+0x30"
    last = "vfs_write+0x8"
    given = text.format(raw, there.raw(flash), there.raw(last), there.name(last))
    named = text.format(raw, there.named(flash), there.raw(last), there.name(last))
    assert decoded("s390", given) == named


# 8: a text of two kernels


OTHER_ID, OWN_ID = (
    "f91fdb2d2df63cc309f600281bee31ae4c1dc570",
    "764949bbe8b7a9241512fbf3b0d66d0ba34686a8",
)


@pytest.mark.parametrize("old", ["both", "build-id", "release", "same release"])
def test_an_old_oops_before_the_own(old: str, kernel: Kernel, at: At) -> None:
    """With a build-id in its header, and without: it is left alone, the rest is named."""
    release = RELEASE if old == "same release" else "6.12.95+deb12-amd64"
    header = (
        "Oct 01 host kernel: CPU: 10 UID: 0 PID: 1 Comm: mount Tainted: G           O        "
    )
    theirs = "" if old == "release" else f"  {OTHER_ID}"
    frame = f" [<{at.raw('vfs_write+0x4')}>] {at.name('vfs_write+0x4')}"
    first = (
        f"Oct 01 host kernel: Linux version {release} (x@y) #1 SMP\n"
        f"{header}{release} #1 PREEMPT(lazy){theirs}\n"
        f"Oct 01 host kernel: RDX: {at.raw('vfs_write+0x4')} RSI: 0\n"
    )
    second = (
        f"Nov 02 host kernel: Linux version {RELEASE} (x@y) #1 SMP\n"
        f"{header}{RELEASE} #1 PREEMPT(lazy)  {OWN_ID}\n"
        f"Nov 02 host kernel: {frame}\nNov 02 host kernel: RDX: {{}} RSI: 0\n"
    )
    raw, named = at.raw("vfs_read+0x4"), at.named("vfs_read+0x4")
    done = run("decode", "--from", kernel.elf, input=first + second.format(raw))
    assert done.stdout == first + second.format(named)
    assert done.returncode == 0


def test_a_whole_text_with_another_build_id_is_refused(kernel: Kernel, at: At) -> None:
    text = f"CPU: 1 PID: 1 Comm: mount Not tainted {RELEASE} #1 x  {OTHER_ID}\n"
    text += f"RDX: {at.raw('vfs_write+0x4')}\n"
    done = run("decode", "--from", kernel.elf, input=text)
    assert done.returncode == 1
    assert OTHER_ID in done.stderr
    assert " vfs_write+0x4" not in done.stdout


# 9: strays


STRAYS = [
    "ffffffff9e3779b9",
    "ffffffff80000001",
    "ffffffff9e3779b97f4a7c15",
    "ffffffff85ebca6b",
]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_number_takes_no_names(stray: str, count: int, kernel: Kernel, at: At) -> None:
    """Constants with their sign, where only another boot's kernel could lie."""
    frames = ["schedule+0x12", "do_filp_open+0xc4", "vfs_open+0x2e", "do_sys_openat2+0xab"]
    frames += ["v9fs_file_open+0x41", "do_filp_open+0x10"]
    text = "RAX: {} RBX: {} RCX: {}\nRDX: {} RSI: {} RDI: {}\n" + f"R08: {stray}\n" * count
    expected = text.format(*map(at.named, frames))
    assert decoded(kernel.elf, text.format(*map(at.raw, frames))) == expected


def test_many_strays_are_another_boot(kernel: Kernel, at: At) -> None:
    """Where most lie elsewhere, nothing is guessed."""
    text = "".join(f"{at.raw(f, -0x14000000)}\n" for f in ("schedule+0x12", "vfs_open+0x2e"))
    text += f"{at.raw('cuse_channel_release+0x4')}\n"
    assert decoded(kernel.elf, text) == text


HASHED = {
    "sparc64": "[<00000000c1d9b3a4>] {name}",
    "s390-low": "[<00000000c1d9b3a4>] {name}",
    "loongarch": "[<00000000c1d9b3a4>] {name}",
    "arm": "[<d1d9b3a4>] ({name})",
    "i386": "[<d1d9b3a4>] {name}",
    "mips": "[<c1d9b3a4>] {name}",
    "x86": "[<00000000c1d9b3a4>] {name}",
}


@pytest.mark.parametrize("machine", HASHED)
def test_hashed_addresses_take_no_names(machine: str) -> None:
    """``%p`` prints a hash since Linux 4.15, and lockdep 0 where nothing happened."""
    there = on(machine)
    line = HASHED[machine].format(name=there.name("vfs_read+0x1c"))
    zero = f"softirqs last  enabled at (0): [<{0:0{there.symbols.digits}x}>] 0x0"
    frames = ("schedule+0x12", "vfs_read+0x1c")
    for first in (line, zero, zero.replace(" 0x0", f" {there.name('vfs_read+0x1c')}")):
        text = f"{first}\nr1: {{}}\nr2: {{}}\n"
        raw, named = (
            text.format(*map(there.raw, frames)),
            text.format(*map(there.named, frames)),
        )
        assert decoded(machine, raw) == named


# 10: 64-bit kernels below 4 GiB, and 32-bit ones that moved


LOW = ["sparc64", "s390-low", "parisc64", "uml"]


@pytest.mark.parametrize("machine", LOW)
@pytest.mark.parametrize(
    "form", ["[<{}>]{}", "RAX: {}{} RBX: 0000000000000001", "0x{}{}", "\t{}{}"]
)
def test_sixteen_digits_below_4_gib(machine: str, form: str) -> None:
    there = on(machine)
    frame = "vfs_read+0x14"
    text = f"{there.old('kthread+0x20')}\n{form}\n"
    given = text.format(there.raw(frame), "")
    assert decoded(machine, given) == text.format(there.raw(frame), f" {there.name(frame)}")


@pytest.mark.parametrize("machine", ["s390-low", "sparc64", "uml"])
def test_hashed_pointers_are_no_addresses(machine: str) -> None:
    """%p prints 32 bits of a hash: those of kmemleak can lie in a kernel below 4 GiB."""
    there = on(machine)
    text = "".join(
        f"    [<{there.raw(f'schedule+{n * 4:#x}')}>] {there.name('kthread+0x20')}\n"
        for n in range(1, 9)
    )
    text = f"  backtrace:\n{text}"
    assert decoded(machine, text) == text


@pytest.mark.parametrize("slide", [0x5600000, 0xA400000, 0x200000])
def test_a_32_bit_kernel_of_another_boot(slide: int, tmp_path: Path) -> None:
    """Without modules in the file, its addresses begin with digits that the file's do not."""
    text = "".join(
        line
        for line in (FORMS / "i386.kallsyms").read_text().splitlines(True)
        if "\t" not in line
    )
    path = tmp_path / "kallsyms"
    path.write_text(text)
    there = At(Oracle(text))
    frames = [f"{there.old(f, slide)}\n" for f in ("vfs_read+0x14", "kthread+0x20")]
    raw, named = there.raw("schedule+0x14", slide), there.named("schedule+0x14", slide)
    given = "".join(frames) + "EAX: {} EBX: 00000001\n"
    assert decoded(path, given.format(raw)) == given.format(named)


# 11: other clothes


@pytest.mark.parametrize("slide", [0x200000, 0x1200000])
def test_systemtaps_kernel_is_the_kernel(slide: int) -> None:
    there = on("x86")
    text = "".join(
        f" 0x{there.raw(frame, slide)} : {there.name(frame)} [kernel]\n"
        for frame in ("kfree+0x93", "schedule+0x3e")
    )
    raw, named = there.raw("intel_idle+0x6c", slide), there.named("intel_idle+0x6c", slide)
    given = text + " 0x{} (inexact)\n"
    assert decoded("x86", given.format(raw)) == given.format(named)


@pytest.mark.parametrize(
    "machine", ["arm64", "arm64-4.19", "riscv", "s390", "loongarch", "arm"]
)
def test_a_modules_address_of_another_boot(machine: str) -> None:
    """It may be a module's, and its record says so; no module of the file is meant."""
    there = on(machine)
    text = "".join(f"{there.old(f, 0x600000)}\n" for f in SIX)
    raw = there.raw("flashq_read+0x14", 0x40000)
    [*_, last] = records(machine, f"{text}x16: {raw}\n")
    assert last["symbol"] is None
    assert "modules lie elsewhere" in last["why"]


def test_openwrts_frames_tell_where_the_module_lies() -> None:
    there = on("mips")
    move = 0x7000
    base = int(there.raw("flashq_read", move), 16)
    tail = f"[flashq@{base:x}+0x5000]"
    name = there.name("flashq_read+0x1c").replace("[flashq]", tail)
    text = f"[<{there.raw('flashq_read+0x1c', move)}>] {name}\n{there.old('vfs_read+0x8')}\n"
    text += "$ 4   : {} {}\n"
    frames = "flashq_probe+0x8", "flashq_timeout+0x10"
    raw = text.format(*(there.raw(f, move) for f in frames))
    assert decoded("mips", raw) == text.format(*(there.named(f, move) for f in frames))


@pytest.mark.parametrize("slide", [0, 0x200000])
def test_branch_stacks_can_be_parsed(slide: int) -> None:
    """Each entry is a word of six parts, with names or without."""
    there = on("x86")
    entries = [
        f"0x{there.raw(a, slide)}/0x{there.raw(b, slide)}/P/-/-/{n}"
        for n, (a, b) in enumerate(pairwise(SIX), 1)
    ]
    text = "  perf  1  1.2:  356 cycles:P:   " + "  ".join(entries) + " \n"
    text += f"\t{there.raw('schedule+0x30', slide)} schedule+0x30 ([kernel.kallsyms])\n"
    first = decoded("x86", text).splitlines()[0]
    words = first.partition("cycles:P:")[2].split()
    assert [word.count("/") for word in words] == [5] * len(entries)
    assert [word.split("/")[2:] for word in words] == [e.split("/")[2:] for e in entries]


RUST = [
    "<core::option::Option<T> as kernel::Trait>::read+0x2c",
    "core::ptr::drop_in_place<alloc::vec::Vec<u8>>+0x20",
    "<rust_binder::process::Process>::ioctl",
    "rust_binder::thread::Thread::read::{closure#0}+0x1f",
    "<kernel::sync::Arc<[u8]> as core::ops::Drop>::drop+0x3",
    "kernel::print::call_printk",
]


@pytest.mark.parametrize("dso", ["([kernel.kallsyms])", "([rust_binder])", "(/boot/vmlinux)"])
@pytest.mark.parametrize("name", RUST)
def test_demangled_names_are_not_doubled(name: str, dso: str) -> None:
    there = on("x86")
    text = f"\t{there.raw('vfs_read+0x14')} {name} {dso}\n"
    text += f"\t{there.raw('schedule+0x30')} schedule+0x30 ([kernel.kallsyms])\n"
    assert decoded("x86", text) == text


# 12: what is no plain text


CLOTHES = [
    *[("file", how) for how in ("utf-16", "utf-16-le", "utf-16-be", "gzip", "xz", "zstd")],
    *[("stdin", how) for how in ("utf-16-le", "xz")],
    *[("pipe", how) for how in ("utf-16-be", "gzip", "zstd")],
]


@pytest.mark.parametrize(("by", "how"), CLOTHES)
def test_texts_in_other_clothes(by: str, how: str, tmp_path: Path) -> None:
    there = on("x86")
    text = f"{there.old('vfs_read+0x14')}\nR11: {{}}\n"
    given = text.format(there.raw("kfree+0x10"))
    data = {
        "gzip": lambda: gzip.compress(given.encode()),
        "xz": lambda: lzma.compress(given.encode()),
        "zstd": lambda: zstandard.compress(given.encode()),
    }.get(how, lambda: _wide(given, how))()
    path = tmp_path / "text"
    path.write_bytes(data)
    command: list[str | Path] = [COMMAND, "decode", "--from", FORMS / "x86.kallsyms"]
    if by == "file":
        done = subprocess.run([*command, path], capture_output=True)
    elif by == "stdin":
        with path.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True)
    else:
        done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    expected = text.format(there.named("kfree+0x10"))
    assert done.stdout.decode("utf-8-sig") == expected


def _wide(text: str, how: str) -> bytes:
    """UTF-16 with the mark that says the order of bytes."""
    return text.encode(how) if how == "utf-16" else ("\ufeff" + text).encode(how)


@pytest.mark.parametrize("head", [b"PERFILE2", b"2ELIFREP"])
@pytest.mark.parametrize("by", ["file", "stdin"])
def test_perf_data_is_no_text(head: bytes, by: str, tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    path.write_bytes(head + bytes(200))
    options: list[str | Path] = ["decode", "--from", FORMS / "x86.kallsyms"]
    with path.open("rb") as file:
        done = run(*options, path) if by == "file" else run(*options, stdin=file)
    refused(done, "perf", "perf script")


# 13: texts of names alone


def test_names_alone_are_counted(kernel: Kernel, at: At) -> None:
    """How many fit this file, how many do not, and whose."""
    good = ("vfs_open+0x2e", "do_filp_open+0xc4", "v9fs_file_open+0x41")
    text = "".join(f" {at.name(f)}\n" for f in good) + " vfs_write+0x4/0x9990\n gone+0x1/0x2\n"
    done = run("decode", "--from", kernel.elf, input=text)
    assert done.stdout == text
    assert re.search(r"\b3\b[^.\n]*\bfit", done.stderr), done.stderr
    assert "; 2 do not: " in done.stderr
    assert "vfs_write" in done.stderr
    checked = run("decode", "--from", kernel.elf, "--check", input=text)
    assert checked.returncode == 1
    fine = "".join(f" {at.name(f)}\n" for f in good)
    assert run("decode", "--from", kernel.elf, "--check", input=fine).returncode == 0


FRAMES = {
    " {n}+{o:#x}/{s:#x}": "as a trace",
    " {n}+{o:#x}": "no size",
    " {n}+{o}/{s}": "decimal, with a size",
    "    {n}+{o}": "bpftrace, decimal",
    "    [exception RIP: {n}+{o}]": "crash",
    "=> 0x{raw} <{n}+{o}>:\tnop": "gdb",
    "0x{raw} <{n}+{o:#x}>": "gdb, hexadecimal",
    "#1  0x{raw} in {n} ()": "gdb's bt",
    "{{{n}+{o}}}": "braces",
    "        b'{n}+{o:#x} [kernel]'": "bcc",
    "#0  {n}+{o:#x}/{s:#x}": "drgn",
}


@pytest.mark.parametrize("form", FRAMES)
def test_every_frame_has_a_record(form: str, kernel: Kernel, at: At) -> None:
    for frame in ("do_filp_open+0xc4", "vfs_open+0x2e"):
        place = at.symbols.place(int(at.raw(frame), 16))
        assert place is not None
        line = form.format(n=place.name, o=place.offset, s=place.size, raw=at.raw(frame))
        text = f"{at.old('schedule+0x12')}\n{line}\n"
        found = [r for r in records(kernel.elf, text) if r["line"] == 2]
        assert [(r["symbol"], r["offset"]) for r in found] == [(place.name, place.offset)]


def test_records_of_modules_say_where_in_the_file(kernel: Kernel, at: At) -> None:
    """The section and the offset in it: what addr2line -j takes of a .ko."""
    start = int((kernel.root / "sys/module/9p/sections/.text").read_text(), 16)
    [record] = records(kernel.elf, f" {at.name('v9fs_file_open+0x41')}\n")
    address = int(at.raw("v9fs_file_open+0x41"), 16)
    assert record["section"] == "[9p].text"
    assert record["section_offset"] == address - start


# 14: refusals


def test_a_text_of_another_release_by_force(kernel: Kernel, at: At) -> None:
    """docs/oops.md's text with another release: nothing, exit 1; with --force its names."""
    other = "6.12.95+deb12-amd64"
    text = page_text().replace(RELEASE, other)
    done = run("decode", "--from", kernel.elf, input=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert other in done.stderr
    assert "--force" in done.stderr
    forced = run("decode", "--from", kernel.elf, "--force", input=text)
    plain = run("decode", "--from", kernel.elf, input=page_text())
    assert forced.stdout == plain.stdout.replace(RELEASE, other)
    assert " do_filp_open+0xc4/" in forced.stdout
    assert forced.returncode == 0


def test_a_text_of_another_kernel_than_the_running(tmp_path: Path) -> None:
    text = "Linux version 5.10.0-1-amd64 (gcc)\nRAX: ffffffff81002010\n"
    done = run("decode", input=text)
    assert done.returncode == 1
    assert "5.10.0-1-amd64" in done.stderr


# 15: following


@pytest.fixture
def followed() -> Iterator[subprocess.Popen[bytes]]:
    """The command, at a pipe."""
    command: list[str | Path] = [COMMAND, "decode", "--from", FORMS / "x86.kallsyms"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe)
    yield process
    process.kill()
    process.communicate()


def read(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What comes in that time, until a line or what was asked for ends."""
    assert process.stdout is not None
    end = time.monotonic() + seconds
    data = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        more = os.read(process.stdout.fileno(), 1 << 16)
        data += more
        if not more:
            break
    return data


def comes(process: subprocess.Popen[bytes], text: str) -> None:
    """Wait for ``text``, and nothing else before it, while nothing more is written."""
    assert process.stdout is not None
    data = b""
    while len(data) < len(text):
        assert select.select([process.stdout], [], [], 30)[0], data
        more = os.read(process.stdout.fileno(), len(text) - len(data))
        assert more, data
        data += more
    assert data.decode() == text


def write(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text.encode())


def taken(process: subprocess.Popen[bytes]) -> None:
    """Wait until the command has read all that was written."""
    assert process.stdin is not None
    end = time.monotonic() + 30
    left = bytearray(4)
    while time.monotonic() < end:
        fcntl.ioctl(process.stdin.fileno(), termios.FIONREAD, left)
        if not int.from_bytes(left, "little"):
            return
        time.sleep(0.01)


def test_lines_come_as_they_are_written(followed: subprocess.Popen[bytes]) -> None:
    """Once a frame has told the boot each is out at once, and a part of a line too."""
    there = on("x86")
    write(followed, f"{there.old('vfs_read+0x14')}\n")
    taken(followed)
    comes(followed, f"{there.old('vfs_read+0x14')}\n")
    for number in range(3):
        frame = f"kfree+{number:#x}"
        write(followed, f"R11: {there.raw(frame)}\n")
        comes(followed, f"R11: {there.named(frame)}\n")
    write(followed, "login: ")
    comes(followed, "login: ")
    write(followed, f"root\n{there.raw('kfree')}")
    comes(followed, "root\n")


def test_what_waits_for_evidence_waits_a_second(followed: subprocess.Popen[bytes]) -> None:
    """From the first byte, however often another line comes; and that is said once."""
    there = on("x86")
    line = f"R11: {there.raw('kfree+0x10')}\n"
    write(followed, line)
    taken(followed)
    out = b""
    for _ in range(40):  # so many that a second from the last line would never be over
        write(followed, line)
        if out := read(followed, 0.25):
            break
    out += read(followed, 0.3)
    assert out.decode().splitlines()[0] == f"R11: {there.named('kfree+0x10')}"
    write(followed, line * 3)
    _, err = followed.communicate(timeout=10)
    assert err.count(b"which boot") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("text", ["words\nlogin: ", "R11: {}\n", "R11: {}\nR12: {}"])
def test_what_is_held_is_printed_at_the_end(
    text: str, number: signal.Signals, followed: subprocess.Popen[bytes]
) -> None:
    """With names or without, and no byte is lost."""
    given = text.replace("{}", on("x86").raw("kfree+0x10"))
    write(followed, given)
    taken(followed)
    followed.send_signal(number)
    out, err = followed.communicate(timeout=10)
    assert out.decode().replace(" " + on("x86").name("kfree+0x10"), "") == given
    assert b"Traceback" not in err


# 16: flame graphs


def test_folded_stacks_of_names() -> None:
    """Frames of one function are one frame, wherever in it they are."""
    there = on("x86")
    a, b = there.raw("kfree+0x10"), there.raw("kfree+0x30")
    text = (
        f"node;0x{there.raw('schedule+0x30')}_k;0x{a}_k 42\n"
        f"node;0x{there.raw('schedule+0x8')}_k;0x{b}_k 1\n"
        f"cat;ksys_read_[k];0x{there.raw('flashq_read+0x14')}_[k] 7\ncat;do_syscall_64;{a} 3\n"
        "java;[unknown];0x7f000042 2\n"
    )
    path = FORMS / "x86.kallsyms"
    done = run("decode", "--from", path, "--slide=0", "--no-offset", input=text, check=True)
    assert done.stdout == (
        "node;schedule_k;kfree_k 42\nnode;schedule_k;kfree_k 1\n"
        "cat;ksys_read_[k];flashq_read_[k] 7\ncat;do_syscall_64;kfree 3\n"
        "java;[unknown];0x7f000042 2\n"
    )
