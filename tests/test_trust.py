"""What a user of the machine puts into a log moves no name, whatever the log is printed with.

An attack is a name that a user chooses, in a message that the kernel prints of it. A log is
records; each way to print it is a function of FORMS, as dmesg and consoles do it, and what
decode makes of the lines of the others must be the same with the attack and without it. Then
the running kernel prints such names itself, of programs that crash, and dmesg prints those.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import COMMAND
from form import FORMS as SYMBOLS
from form import decode, oracle
from ksyms._decode import Decoder, Frames

RELEASE = "6.12.9"
SLIDE = 0x1000000
LINKED = 0xFFFFFFFF81000000
TEXT = 0xFFFFFFFF9A000000
"""Where the symbols' own boot has ``_text``."""
BUILD_ID = "5" * 40


class Record(NamedTuple):
    """A message of the log: its time in microseconds, its level, its text."""

    time: int
    level: int
    text: str
    facility: int = 0


def raw(frame: str, slide: int = 0) -> str:
    name, _, offset = frame.partition("+")
    [start] = oracle("x86").named[name]
    return f"{start + int(offset or '0', 0) + slide:016x}"


def said(frame: str, slide: int = 0) -> str:
    """A frame with its address and its name, in a boot that is moved."""
    return f"[<{raw(frame, slide)}>] {oracle('x86').place(int(raw(frame), 16))}"


# How a log is printed: the lines of each record.


def stamp(record: Record) -> str:
    return f"[{record.time // 1000000:5d}.{record.time % 1000000:06d}] "


def by_lines(prefix: Callable[[Record], str]) -> Callable[[Record], str]:
    """printk puts it before each line: syslog(2), consoles, dmesg -S."""
    return lambda record: "".join(
        f"{prefix(record)}{line}\n" for line in record.text.split("\n")
    )


def indented(prefix: Callable[[Record], str]) -> Callable[[Record], str]:
    """dmesg sets the second line under the first."""

    def printed(record: Record) -> str:
        words = prefix(record)
        return words + record.text.replace("\n", "\n" + " " * len(words)) + "\n"

    return printed


def level(record: Record) -> str:
    return f"<{record.facility * 8 + record.level}>"


def decoded_level(record: Record) -> str:
    return f"{('kern', 'user', 'daemon')[record.facility]:6}:{'warn':6}: "


def escaped(record: Record) -> str:
    """A record of /dev/kmsg (kernel/printk/printk.c, msg_add_ext_text)."""
    text = re.sub(r"[\x00-\x1f\x7f-\xff\\]", lambda m: f"\\x{ord(m[0]):02x}", record.text)
    return f"{record.facility * 8 + record.level},77,{record.time},-;{text}\n"


def coloured(record: Record) -> str:
    first, colon, rest = record.text.partition(": ")
    indent = " " * len(stamp(record))
    text = f"\x1b[33m{first}{colon}\x1b[0m\x1b[1m{rest}\x1b[0m".replace("\n", "\n" + indent)
    return f"\x1b[32m{stamp(record)}\x1b[0m{text}\n"


def in_json(record: Record) -> str:
    text = record.text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    text = text.replace("\x1b", "\\u001b").replace("\t", "\\t").replace("\r", "\\r")
    return (
        f'      }},{{\n         "pri": {record.facility * 8 + record.level},\n'
        f'         "time": {stamp(record)[1:-2]},\n         "msg": "{text}"\n'
    )


def rsyslog(record: Record) -> str:
    text = re.sub(r"[\x00-\x1f]", lambda m: f"#{ord(m[0]):03o}", record.text)
    tag = "" if record.facility else "kernel: "
    return f"Nov 28 08:00:00 host {tag}{stamp(record) if tag else ''}{text}\n"


FORMS = {
    "dmesg": indented(stamp),
    "dmesg -S": by_lines(stamp),
    "dmesg -r": indented(lambda r: level(r) + stamp(r)),
    "dmesg -r -S": by_lines(lambda r: level(r) + stamp(r)),
    "dmesg -x": indented(lambda r: decoded_level(r) + stamp(r)),
    "dmesg -t": by_lines(lambda r: ""),
    "dmesg -T": indented(lambda r: "[Sat Nov 28 09:00:42 2026] "),
    "dmesg -T -S": by_lines(lambda r: "[Sat Nov 28 09:00:42 2026] "),
    "dmesg -H": indented(lambda r: "[  +0.000030] "),
    "dmesg -e": by_lines(lambda r: "[Nov28 09:00] "),
    "dmesg -d": indented(lambda r: f"{stamp(r)[:-2]} <    0.000030>] "),
    "dmesg --color=always": coloured,
    "dmesg -J": in_json,
    "dmesg --time-format iso": indented(lambda r: "2026-11-28T09:00:42,218653+00:00 "),
    "/dev/kmsg": escaped,
    "a console with callers": by_lines(lambda r: f"{stamp(r)[:-1]}[  T123] "),
    "a serial line's log": by_lines(lambda r: f"[2026-11-28 09:00:42.1] {stamp(r)}"),
    "journalctl": indented(lambda r: "Nov 28 08:00:00 host kernel: "),
    "journalctl -o short-monotonic": indented(lambda r: f"{stamp(r)}host kernel: "),
    "rsyslog": rsyslog,
    "mail": by_lines(lambda r: f"> {stamp(r)}"),
}


# What the kernel says of what a user chose.

CLOSED = "[1132,56026a6b9000+1000]"
SPOTS: dict[str, Callable[[str], str]] = {
    "a file that crashes": lambda w: (
        f"evil[28802]: segfault at 0 ip 000056026a6b9132 sp 00007ffc49d9de20 error 6 in {w}"
        f"{CLOSED} likely on CPU 1 (core 1, socket 0)"
    ),
    "a file, before 6.6": lambda w: (
        f"ev il[28802]: segfault at ffffffff99000000 ip 000056026a6b9132 sp 00007ffc49d9de20 "
        f"error 6 in {w}[56026a6b9000+1000]"
    ),
    "a program with a line feed": lambda w: (
        f"Q\nab[28802]: segfault at 0 ip 000056026a6b9132 sp 00007ffc49d9de20 error 6 in {w}"
        f"{CLOSED}"
    ),
    "a program that looks like a time": lambda w: (
        f"[    1.000000] [28802]: segfault at 0 ip 000056026a6b9132 sp 00007ffc49d9de20 error 6"
        f" in {w}{CLOSED}"
    ),
    "a trap": lambda w: (
        f"traps: evil[28802] trap invalid opcode ip:56026a6b9132 sp:7ffc49d9de20 error:0 in {w}"
        f"{CLOSED}"
    ),
    "arm64": lambda w: (
        "evil[28802]: unhandled exception: DABT (lower EL), ESR 0x0000000092000044, level 0 "
        f"translation fault in {w}[4,aaaad5ab0000+1000]"
    ),
    "RISC-V": lambda w: (
        f"evil[28802]: unhandled signal 11 code 0x1 at 0x0000000000000000 in {w}[2ae00+1000]"
    ),
    "PowerPC": lambda w: (
        f"evil[28802]: segfault (11) at 0 nip 10000 lr 20000 code 1 in {w}[10000+10000]"
    ),
    "s390": lambda w: (
        f"User process fault: interruption code 003b ilc:2 in {w}[1,2aa00000000+1000]"
    ),
    "an executable stack": lambda w: f"process 'tmp/a/{w}/x' started with executable stack",
    "no arguments": lambda w: (
        f"process 'evil' launched './{w}' with NULL argv: empty string added"
    ),
    "a mount in a namespace": lambda w: f"tmpfs: Unknown parameter '{w}'",
    "overlayfs": lambda w: f"overlayfs: failed to resolve '{w}': -2",
    "a module's parameter": lambda w: f"dummy: unknown parameter '{w}' ignored",
    "the command line": lambda w: "Kernel command line: root=/dev/vda " + w.replace("\n", " "),
    "a control group": lambda w: f"cgroup: fork rejected by pids controller in /user.slice/{w}",
    "a tracer": lambda w: (  # lib/string_helpers.c, kstrdup_quotable_cmdline
        'ptrace attach of "'
        + w.replace("\n", r"\n").replace('"', r"\"")
        + '"[1] was attempted by "a"[2]'
    ),
    "a mount's options": lambda w: (
        f"EXT4-fs (loop0): mounted filesystem without journal. Opts: {w}"
    ),
    "a server's name": lambda w: f"nfs: server {w} not responding, still trying",
    "a share": lambda w: f"CIFS: Attempting to mount //{w}",
    "a key": lambda w: f"Option '{w}' to dns_resolver key: bad/missing value",
    "a key's key": lambda w: (
        f"trusted_key: encrypted_key: master key parameter '{w}' is invalid"
    ),
    "a control group without memory": lambda w: f"Memory cgroup stats for /{w}:",
    "an interpreter": lambda w: (
        f"binfmt_misc: register: failed to install interpreter file /{w}"
    ),
    "a device": lambda w: f"usb 1-1: Product: {w}",
    "a keyboard": lambda w: f"input: {w} as /devices/pci0000:00/usb1/1-1/input/input7",
    "the audit": lambda w: f'audit: type=1701 audit(1.2:3): uid=0 exe="/tmp/{hexed(w)}" sig=11',
}
OTHERS: dict[str, Callable[[str], str]] = {
    # mm/memcontrol.c, mem_cgroup_print_oom_context; mm/page_alloc.c, warn_alloc; mm/oom_kill.c
    "a control group's tasks": lambda w: f"Task in /{w} killed as a result of limit of /{w}",
    "a cpuset": lambda w: (
        f"evil: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL), cpuset={w},mems=0"
    ),
    "a control group that has no memory": lambda w: (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        f"oom_memcg=/{w},task_memcg=/{w},task=evil,pid=28802,uid=1000"
    ),
    # mm/slub.c, slab_out_of_memory; mm/slab_common.c: caches had their control group's name
    "slabs": lambda w: (
        f"  cache: kmalloc-64(12:{w}), object size: 64, buffer size: 64, default order: 0"
    ),
    "slabs that stay": lambda w: (
        f"kmem_cache_destroy kmalloc-64(12:{w}): Slab cache still has objects"
    ),
    # drivers/hid/hid-core.c, media/usb/uvc, usb/core/hub.c, thunderbolt/switch.c
    "a device of HID": lambda w: (
        f"hid-generic 0003:046D:C31C.0001: input,hidraw0: USB HID v1.10 Keyboard [{w}] on usb"
    ),
    "a camera": lambda w: f"uvcvideo: Found UVC 1.00 device {w} (046d:0825)",
    "a serial number": lambda w: f"usb 1-1: SerialNumber: {w}",
    "a dock": lambda w: f"thunderbolt 0-1: {w} Dock",
    "a file of btrfs": lambda w: (  # fs/btrfs/scrub.c
        "BTRFS warning (device vda1): checksum error at logical 1 on dev /dev/vda1, physical "
        f"1, root 5, inode 257, offset 0, length 4096, links 1 (path: {w})"
    ),
    "a server of NFS": lambda w: (  # fs/nfs/nfs4state.c
        f"NFS: state manager: lease expired failed on NFSv4 server {w} with error 5"
    ),
    "a server of CIFS": lambda w: (  # fs/smb/client/connect.c
        rf"CIFS: VFS: \\{w} has not responded in 180 seconds. Reconnecting..."
    ),
    "a core dump": lambda w: f"Core dump to {w} pipe failed",  # fs/coredump.c
    "an old hierarchy": lambda w: f"cgroup1: Unknown subsys name '{w}'",
    "a long name of FUSE's": lambda w: f"fuse: Unknown parameter '{'x' * 600}{w}'",
    "a bond": lambda w: f"bond0: option mode: invalid value ({w})",
    "a bearer": lambda w: f"tipc: Enabling of bearer <{w}> rejected, illegal name",
    "a mapped file": lambda w: (  # mm/memory.c, print_bad_pte
        f"file:{w} fault:ext4_filemap_fault mmap:ext4_file_mmap read_folio:ext4_read_folio"
    ),
    "a policy": lambda w: f"ima: Unable to open file: {w} (-2)",
    "a swap file": lambda w: f"Adding 1024k swap on {w}.  Priority:-2 extents:1 across:1024k",
    # Options of mounts, as their file systems had them before fs_parser
    "ext4": lambda w: f'EXT4-fs (loop0): Unrecognized mount option "{w}" or missing value',
    "FAT": lambda w: f'FAT-fs (loop0): Unrecognized mount option "{w}" or missing value',
    "F2FS": lambda w: f'F2FS-fs (loop0): Unrecognized mount option "{w}" or missing value',
    "JFS": lambda w: f'jfs: Unrecognized mount option "{w}" or missing value',
    "UBIFS": lambda w: (  # fs/ubifs/misc.c, ubifs_err
        "UBIFS error (ubi0:0 pid 2210): ubifs_parse_options: unrecognized mount option "
        f'"{w}" or missing value'
    ),
    "AFFS": lambda w: f'affs: Unrecognized mount option "{w}" or missing value',
    "NTFS": lambda w: (  # fs/ntfs/debug.c, until Linux 6.8
        f"ntfs: (device loop0): parse_options(): Unrecognized mount option {w}."
    ),
    "UDF": lambda w: f"UDF-fs: INFO Mounting volume '{w}', timestamp 2026/11/28 09:00 (1000)",
    "overlayfs's option": lambda w: (
        f'overlayfs: unrecognized mount option "{w}" or missing value'
    ),
    "ceph": lambda w: f"libceph: bad option at '{w}'",
    "9p": lambda w: f"9pnet: Could not find request transport: {w}",
    "a table of devices": lambda w: f"device-mapper: table: 253:0: {w}: unknown target type",
}
"""What else the kernel says with a user's words in it: none is in any list of ksyms'."""
SPOTS |= OTHERS
PROGRAMS: dict[str, Callable[[str], str]] = {
    # kernel/locking/lockdep.c, lockdep_print_held_locks; mm/oom_kill.c, dump_task
    "who holds a lock": lambda c: f"1 lock held by {c}/2210:",
    "the table of tasks": lambda c: f"[  28802]  1000 28802   123456     12 98304 0 0 {c}",
    "a task that hangs": lambda c: f"INFO: task {c}:2210 blocked for more than 120 seconds.",
    "a page's owner": lambda c: f"{c}: page allocation failure: order:4, mode:0xcc0",
    "who drops caches": lambda c: f"{c} (2210): drop_caches: 3",
    "who sets a limit": lambda c: f"Process 2210({c}) has RLIMIT_CORE set to 1",
    "who uses the stack": lambda c: f"{c} (2210) used greatest stack depth: 12345 bytes left",
    "who uses the past": lambda c: (
        f"warning: `{c}' uses 32-bit capabilities (legacy support in use)"
    ),
    "who mounts btrfs": lambda c: (
        f"BTRFS: device label a devid 1 transid 5 /dev/loop0 scanned by {c} (2210)"
    ),
    "who exits": lambda c: f"note: {c}[2210] exited with irqs disabled",
    "who writes into ext4": lambda c: (
        f"EXT4-fs warning (device vda1): ext4_dx_add_entry:2468: inode #2: comm {c}: "
        "Directory index full!"
    ),
    "a bad page": lambda c: f"BUG: Bad page map in process {c}  pte:80000001 pmd:0001",
}
CLOSING = tuple(SPOTS)[:11]
"""Those whose end the kernel's own words tell; of the others the time does."""
WITHOUT_TIME = ("dmesg -t", "dmesg -T -S", "dmesg -e")
"""Forms in which messages of one second have one time, or none."""


def hexed(words: str) -> str:
    """As audit_log_untrustedstring writes it (kernel/audit.c)."""
    return words.encode().hex() if re.search(r'[\x00-\x20"\x7f-\xff]', words) else words


# What a user can choose.

ATTACKS = (
    "Kernel Offset: 0x200000 from 0xffffffff81000000",
    "Kernel Offset: 0x200000 from 0xffffffff81000000 ",
    "Kernel Offset: 0x200000 from 0xffffffff81000000 "
    "(relocation range: 0xffffffff80000000-0xffffffffbfffffff)",
    "Kernel Offset: disabled",
    "Kernel Offset: 0x4a7e71600000 from 0xffff800008000000",
    "Kernel Offset: 0x0 from 0xffffffff80000000",
    "Linux version 9",
    "Linux version 9 (",
    "Linux version 9.9.9 (a@b) (gcc 12.2.0) #1 SMP",
    f"Linux version {RELEASE} (a@b) (gcc 12.2.0) #1 SMP",
    "Preparing to boot Linux version 9.9.9 (a@b) (gcc 12.2.0) #1 SMP",
    "[    0.000000] Linux version 9.9.9 (a@b) (gcc 12.2.0) #1 SMP",
    "<5>[    0.000000] Linux version 9.9.9 (a@b) (gcc 12.2.0) #1 SMP",
    "kernel: Linux version 9.9.9 (a@b) (gcc 12.2.0) #1 SMP",
    "CPU: 1 PID: 1 Comm: init Not tainted 9.9.9 #1",
    "CPU: 1 UID: 0 PID: 1 Comm: init Tainted: G        W          9.9.9 #1 PREEMPT(lazy)",
    f"CPU: 1 PID: 1 Comm: init Not tainted {RELEASE} #1 {'7' * 40}",
    "Pid: 2210, comm: cat Not tainted 9.9.9",
    "Pid: 2210, comm: cat Not tainted (9.9.9 #1)",
    "      Not tainted 9.9.9 #167",
    "9.9.9 #1 Not tainted",
    "9.9.9 #1 Tainted: G           OE    ",
    "# os release : 9.9.9",
    "OSRELEASE=9.9.9",
    "     RELEASE: 9.9.9",
    "Kernel relocated by 0x200000\n .text @ 0xffffffff9a200000\n .data @ 0xffffffff9ab00000",
    said("vfs_read+0x2c", 0x200000),
    said("vfs_read+0x2c"),
    f"{said('vfs_read+0x2c', 0x200000)} {said('kfree+0x1c', 0x200000)}",
    f"{raw('vfs_read+0x2c', 0x200000)} vfs_read+0x2c",
    f"vfs_read+0x2c/0x360 <{raw('vfs_read+0x2c', 0x200000)}>",
    f"{raw('schedule', 0x200000)}{{schedule+0}}",
    " ".join(f"{raw('kfree', n)} schedule+{n:#x}/0x260" for n in range(1, 8)),
    "\n".join(f"{raw(n, 0x200000)} ({n})" for n in ("kfree", "schedule", "vfs_read")),
    f"{TEXT + 0x200000:x} T _stext",
    f"{raw('flashq_read+0x31', 0x5000)} flashq_read+0x31/0xc0 [flashq]",
    f"flashq_read+0x31/0xc0 [flashq {BUILD_ID}]",
    f"{raw('flashq_read+0x31')} flashq_read+0x31/0xc0 [flashq {BUILD_ID}]",
    " ".join(f"ffffffff8{n}000010" for n in range(1, 8)),
    f"vfs_read+0x2c/0x361 kfree+0x1/0x2\nschedule+0x{'f' * 12}/0x260",
    '"msg": "Kernel Offset: 0x200000 from 0xffffffff81000000"',
    '\n{"msg": "Kernel Offset: 0x200000 from 0xffffffff81000000"',
    "\\nKernel Offset: 0x200000 from 0xffffffff81000000\\n",
    "#012Kernel Offset: 0x200000 from 0xffffffff81000000#012",
    "\\x0aKernel Offset: 0x200000 from 0xffffffff81000000\\x0a",
    "\x1b[33mKernel Offset: \x1b[0m\x1b[1m0x200000 from 0xffffffff81000000\x1b[0m",
    "\rKernel Offset: 0x200000 from 0xffffffff81000000\r",
    "Modules linked in: nfsd xfs",
    f";{said('vfs_read+0x2c', 0x200000)}",  # as behind a task of a folded stack
    f"x = (void *) {said('vfs_read+0x2c', 0x200000)}",  # as gdb and drgn print a pointer
)
WRAPPED: dict[str, Callable[[str], str]] = {
    "alone": lambda w: w,
    "in a line": lambda w: f"x\n{w}\n",
    "behind an end": lambda w: f"x{CLOSED}\n\n{w}\ny",
    "behind a time": lambda w: f"x\n[ 9999.000000] {w}\n[ 9999.000001] y",
    "behind quotes": lambda w: f"' with\n{w}\n'",
}


# The logs that an attack is put into.

RAW = f"R11: {raw('kfree+0x1c', SLIDE)} R12: {raw('schedule+0x12', SLIDE)}"
OWN = f"R11: {raw('kfree+0x1c')} R12: {raw('schedule+0x12')}"
OFFSET = f"Kernel Offset: {TEXT + SLIDE - LINKED:#x} from {LINKED:#x}"
BANNER = f"Linux version {RELEASE} (me@home) (gcc (Debian 12.2.0-14) 12.2.0, GNU ld) #1 SMP"
HEADER = f"CPU: 1 PID: 2210 Comm: cat Not tainted {RELEASE} #1"
LOGS = {
    "nothing tells": (OWN, "Call Trace:", " vfs_read+0x2c/0x360", f" {raw('kfree')}"),
    "a frame tells": ("Oops: 0000 [#1]", HEADER, RAW, said("vfs_read+0x2c", SLIDE), RAW),
    "the panic tells": (BANNER, RAW, HEADER, " vfs_read+0x2c/0x360", RAW, OFFSET),
    "another kernel": (BANNER.replace(RELEASE, "6.1.0"), OWN, HEADER.replace(RELEASE, "6.1.0")),
}


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of the symbols of ``forms``, of a kernel whose release is known."""
    root = tmp_path_factory.mktemp("root")
    texts = {
        "proc/kallsyms": (SYMBOLS / "x86.kallsyms").read_text(),
        "proc/version": f"{BANNER}\n",
        "proc/sys/kernel/arch": "x86_64\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    made = root / "kernel.elf"
    subprocess.run([COMMAND, "snapshot", "--root", root, "-o", made], check=True)
    return made


@pytest.fixture(scope="module")
def table(elf: Path) -> ksyms.SymbolTable:
    return ksyms.load(elf)


def records(log: Iterable[str]) -> list[Record]:
    return [Record(100_000_000 + 1_000 * n, 4, text) for n, text in enumerate(log)]


def answer(
    table: ksyms.SymbolTable, printed: Callable[[Record], str], log: list[Record]
) -> tuple[list[str], str, bool]:
    """What decode makes of each record, why it refuses the text, and whether it was misled."""
    chunks = [printed(record) for record in log]
    try:
        text, decoder = decode(table, "".join(chunks))
    except ksyms.KsymsError as error:
        return chunks, str(error), False
    lines = iter(text.split("\n"))
    found = ["\n".join([next(lines) for _ in range(chunk.count("\n"))]) for chunk in chunks]
    return found, str(decoder.refusal), decoder.belief.contradicted


def moved(
    table: ksyms.SymbolTable,
    form: str,
    log: tuple[str, ...],
    attacks: Iterable[Record],
    at: int,
) -> list[str]:
    """Give the attacks with which the answer to a log is another than to the log alone."""
    printed, true = FORMS[form], records(log)
    alone, *rest = answer(table, printed, true)
    found = []
    for attack in attacks:
        there, *others = answer(table, printed, [*true[:at], attack, *true[at:]])
        if (there[:at] + there[at + 1 :], others) != (alone, rest):
            found.append(f"{form}: {printed(attack)}")
    return found


def attacks(form: str, spots: Iterable[str], words: str) -> Iterator[Record]:
    """Give the messages that can be told from the kernel's in a form of a log."""
    for spot in spots:
        text = SPOTS[spot](words)
        if spot in CLOSING or form not in WITHOUT_TIME or "\n" not in text:
            yield Record(100_001_500, 6, text)


@pytest.mark.parametrize("words", ATTACKS)
def test_what_a_user_chose(words: str, table: ksyms.SymbolTable) -> None:
    """In each spot and wrapped in each way, each of them in another form of another log."""
    found = []
    for number, wrapped in enumerate(WRAPPED.values(), ATTACKS.index(words)):
        form = tuple(FORMS)[number % len(FORMS)]
        log = tuple(LOGS.values())[number % len(LOGS)]
        found += moved(table, form, log, attacks(form, SPOTS, wrapped(words)), 2)
    assert not found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LOGS)
def test_in_each_form(form: str, name: str, table: ksyms.SymbolTable) -> None:
    """The worst of them, in each spot."""
    worst = (
        ("in a line", ATTACKS[0]),
        ("behind a time", ATTACKS[8]),
        ("behind an end", ATTACKS[28]),
    )
    found = []
    for wrap, words in worst:
        attack = attacks(form, SPOTS, WRAPPED[wrap](words))
        found += moved(table, form, LOGS[name], attack, 1)
    assert not found


chosen = st.lists(
    st.one_of(
        st.sampled_from(ATTACKS),
        st.sampled_from(["\n", "\n\n", " ", "x", CLOSED, "' ", " in ", "[1]: ", "] ", "\t"]),
        st.text(
            st.characters(codec="ascii", exclude_characters="\0\f\v\x1c\x1d\x1e"), max_size=9
        ),
    ),
    min_size=1,
    max_size=6,
).map(lambda words: "".join(words)[:255])


@settings(deadline=None, max_examples=300)
@given(
    words=chosen,
    spot=st.sampled_from(CLOSING),
    form=st.sampled_from(tuple(FORMS)),
    name=st.sampled_from(tuple(LOGS)),
    at=st.integers(0, 5),
)
def test_words_at_any_place(
    words: str, spot: str, form: str, name: str, at: int, table: ksyms.SymbolTable
) -> None:
    """Whatever the words are made of, and wherever in a log the message is."""
    at = min(at, len(LOGS[name]))
    attack = Record(100_000_000 + 1_000 * at - 500, 6, SPOTS[spot](words))
    assert not moved(table, form, LOGS[name], [attack], at)


@pytest.mark.parametrize("form", WITHOUT_TIME)
@pytest.mark.parametrize("escape", ["\\x01", "#001", "\\u0001", "\x1b[1m"])
def test_a_name_with_bytes_that_a_log_escapes(
    escape: str, form: str, table: ksyms.SymbolTable
) -> None:
    """A file's name has 255 bytes, of which dmesg prints most as four each."""
    words = f"\n{said('vfs_read+0x2c', 0x200000)}"
    name = escape * (255 - len(words)) + words
    for log in LOGS.values():
        assert not moved(table, form, log, attacks(form, CLOSING, name), 2)


@pytest.mark.parametrize("form", WITHOUT_TIME)
def test_two_programs_that_crash(form: str, table: ksyms.SymbolTable) -> None:
    """A file's name has 255 bytes, so none is in both messages where more are between."""
    printed, between = (
        FORMS[form],
        records([*LOGS["the panic tells"], "Modules linked in: nfsd xfs"]),
    )
    crash = Record(100_000_000, 6, SPOTS["a file that crashes"]("libc.so.6"))
    assert 300 < sum(len(record.text) for record in between) < 400
    alone, *rest = answer(table, printed, between)
    there, *others = answer(table, printed, [crash, *between, crash])
    assert (there[1:-1], others) == (alone, rest)


@pytest.mark.parametrize(
    "form", ["dmesg -r", "dmesg -r -S", "dmesg -x", "/dev/kmsg", "dmesg -J"]
)
@pytest.mark.parametrize("words", ATTACKS)
def test_what_user_space_writes_into_kmsg(
    words: str, form: str, table: ksyms.SymbolTable
) -> None:
    """It has a facility, which these forms show: even a whole line is not the kernel's."""
    attack = Record(100_001_500, 4, words.replace("\n", " "), facility=1)
    assert not moved(table, form, LOGS["the panic tells"], [attack], 2)


@pytest.mark.parametrize("tag", ["sshd[712]", "joe", "systemd-logind[1]", "/usr/bin/x[3]"])
@pytest.mark.parametrize("form", ["journalctl", "rsyslog"])
def test_what_programs_log(tag: str, form: str, table: ksyms.SymbolTable) -> None:
    """Each line of such a log says whose it is."""
    printed, true = FORMS[form], records(LOGS["the panic tells"])
    chunks = [printed(record) for record in true]
    alone = decode(table, "".join(chunks))[0]
    for words in ATTACKS:
        line = f"Nov 28 08:00:00 host {tag}: " + re.sub(r"[\n\r]", " ", words) + "\n"
        text = decode(table, "".join([*chunks[:2], line, *chunks[2:]]))[0]
        lines = text.splitlines(True)
        assert "".join(lines[:2] + lines[3:]) == alone, line


def test_a_programs_name_is_no_banner(table: ksyms.SymbolTable) -> None:
    """``pr_warn("%s (%d): ...")`` goes on as a banner does (fs/proc/base.c, __set_oom_adj)."""
    panic = "".join(
        f"[    9.{n:06d}] {line}\n" for n, line in enumerate(LOGS["the panic tells"])
    )
    line = "[    1.000000] Linux version 9 (21034): /proc/21034/oom_adj is deprecated\n"
    assert decode(table, line + panic)[0] == line + decode(table, panic)[0]


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize(
    "comm", ["Not tainted 9.9", "Tainted: G 9.9\n", "\nOSRELEASE=9.9\n", "a\nb"]
)
@pytest.mark.parametrize("form", FORMS)
def test_the_name_of_the_task_in_a_report(
    form: str, comm: str, at: int, table: ksyms.SymbolTable
) -> None:
    """What a report says of its kernel stands behind it, and counts."""
    other, *rest = LOGS["another kernel"]
    header = rest[-1].replace("cat", comm)
    for log in (
        (other, *rest[:-1], header),
        ("Oops: 0000 [#1]", OWN, HEADER.replace("cat", comm)),
    ):
        same = tuple(line.replace(comm, "cat") for line in log)
        first, why, misled = answer(table, FORMS[form], records(log))
        second, *others = answer(table, FORMS[form], records(same))
        assert first[:-1] == second[:-1]
        assert [why, misled] == others


@pytest.mark.parametrize("spot", PROGRAMS)
@pytest.mark.parametrize("form", FORMS)
def test_the_name_of_a_program(spot: str, form: str, table: ksyms.SymbolTable) -> None:
    """It has 15 bytes, and what has fewer than the kernel's words is none of them."""
    names = ["Not tainted 9.9", "\nRELEASE: 9.9.9", "Tainted: G 9.9", "\nTainted: G 9.9"]
    names += ["\nOSRELEASE=9.9\n", "\nNot tainted 9.9", "Linux version 9", '{"', "\n9.9 #1 Not"]
    attacks = [Record(100_001_500, 4, PROGRAMS[spot](name[:15])) for name in names]
    assert not moved(table, form, LOGS["the panic tells"], attacks, 2)


def test_the_same_words_where_the_kernel_prints_them(table: ksyms.SymbolTable) -> None:
    """A frame tells what it tells, though a user has written it before."""
    frame, raw_one = said("vfs_read+0x2c", SLIDE), f"R11: {raw('kfree+0x1c', SLIDE)}"
    log = [f"tmpfs: Unknown parameter '{frame}'", f" {frame}", raw_one]
    text = "".join(stamp(record) + record.text + "\n" for record in records(log))
    assert decode(table, text)[0].endswith(f"{raw_one} {said('kfree+0x1c').split('] ')[1]}\n")
    first = "".join(stamp(record) + record.text + "\n" for record in records(log[:1]))
    assert decode(table, first)[0] == first


def test_records_of_what_is_no_evidence(table: ksyms.SymbolTable) -> None:
    """A name that tells of another boot is left alone, in each way that a text is printed."""
    frame, own = said("vfs_read+0x2c", 0x200000), raw("kfree+0x1c")
    text = f"[    1.000000] tmpfs: Unknown parameter '{frame}'\n[    2.000000]  [<{own}>]\n"
    decoder = Decoder(table)
    records = [json.loads(line) for line in Frames(decoder, table).lines(text.encode())]
    assert [record["symbol"] for record in records] == [None, "kfree"]
    assert [bool(record["why"]) for record in records] == [True, False]
    line = text.partition("\n")[0].encode()
    assert Decoder(table).name_only(text.encode()).startswith(line + b"\n")


PROGRAM = """
#include <sys/prctl.h>
int main(int argc, char **argv) { prctl(PR_SET_NAME, argv[1]); *(volatile int *)0 = 1; }
"""
CRASH_IS_LOGGED = Path("/proc/sys/debug/exception-trace").read_text() != "0\n"
"""Where the kernel is told not to log crashes, the test writes what it would."""
PRINTED: dict[str, list[str]] = {
    "dmesg": [],
    "dmesg -S": ["-S"],
    "dmesg -r": ["-r"],
    "dmesg -r -S": ["-r", "-S"],
    "dmesg -x": ["-x"],
    "dmesg -x -S": ["-x", "-S"],
    "dmesg -t": ["-t"],
    "dmesg -t -S": ["-t", "-S"],
    "dmesg -T": ["-T"],
    "dmesg -T -S": ["-T", "-S"],
    "dmesg -H": ["-H", "-P"],
    "dmesg -e": ["-e"],
    "dmesg --color=always": ["--color=always"],
    "dmesg --time-format iso": ["--time-format", "iso"],
    "dmesg -J": ["-J"],
}


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of files that crashed, as the running kernel was told to print them.

    printk holds back what comes too often: a few names have all the words.
    """
    directory = tmp_path_factory.mktemp("crash")
    source, program = directory / "crash.c", directory / "crash"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", "-o", program, source], check=True)
    offset, frame = ATTACKS[0], said("vfs_read+0x2c", 0x200000).replace("/", "|")
    elsewhere = " ".join(f"ffffffff8{n}000010" for n in range(1, 8))
    banner, header = "Linux version 9.9.9 (a@b) (gcc) #1", HEADER.replace("6.12", "9")
    names = [
        f"x{CLOSED}\n{offset}\n{banner}\n{header}",
        f"\n[    1.000000] {offset}\n\n{frame}\n{elsewhere}\ny{CLOSED}\n",
    ]
    for name in names:
        copy = directory / name
        shutil.copy(program, copy)
        subprocess.run([copy, "a\nb"], check=False)
        if not CRASH_IS_LOGGED:
            Path("/dev/kmsg").write_text(f"<6>{SPOTS['a file that crashes'](name)}")
    return names


@pytest.mark.parametrize("form", PRINTED)
def test_the_kernel_prints_it(
    form: str, crashed: list[str], elf: Path, table: ksyms.SymbolTable
) -> None:
    """What dmesg prints of programs that crash, and a panic behind it."""
    told = subprocess.run(["dmesg", *PRINTED[form]], capture_output=True, check=True).stdout
    text = told.decode("utf-8", "surrogateescape")
    begin = text.rindex("segfault at", 0, text.rindex("Linux version 9.9.9"))
    lines = text[text.rindex("\n", 0, begin) + 1 :]
    assert text.count("Kernel Offset: 0x200000 from", begin) >= 1
    panic = "".join(
        f"[99999.{n:06d}] {line}\n" for n, line in enumerate(LOGS["the panic tells"])
    )
    alone = decode(table, panic)[0]
    assert alone != panic
    done = subprocess.run(
        [COMMAND, "decode", "--explain", "--from", elf],
        input=(lines + panic).encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.decode("utf-8", "surrogateescape")[-len(alone) :]) == (
        0,
        alone,
    )
    # dmesg sets the lines of a message under each other, but not as syslog(2) gives them.
    is_told = b"a user can write 'Kernel Offset: 0x200000 from" in done.stderr
    assert is_told or not form.endswith(" -S")
