"""Words of users in what other tools print of them: rows, fields, records.

In each text an attacker's frame tells of a boot that is moved, and the last line has an address
alone. It must get the name that it has in the symbols' own boot, or none.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import ksyms
from command import COMMAND, write_root
from form import decode
from test_trust import BANNER, OFFSET, SLIDE, elf, raw, said, table
from timed import growth

__all__ = ["elf", "table"]

FRAME = f"{raw('vfs_read+0x2c', SLIDE)} vfs_read+0x2c"
SIZED = said("vfs_read+0x2c", SLIDE)
ALONE = f"R11: {raw('kfree+0x1c')}"
DATE = "Nov 28 08:00:00 host"


def journal(*records: dict[str, str], indent: int | None = None) -> str:
    return "\n".join(json.dumps(record, indent=indent) for record in records)


USERS = {"_TRANSPORT": "syslog", "MESSAGE": f"RIP: 0010:{SIZED}", "_UID": "1000"}
KERNELS = {"_TRANSPORT": "kernel", "MESSAGE": ALONE}
TEXTS = {
    # arch/x86/kernel/signal.c, signal_fault: "%s[%d] bad frame in %s ... in FILE[...]"
    "a program called as a report's line": (
        "[    9.000001] Code: [22] bad frame in rt_sigreturn frame:0 ip:1173 sp:1000 in x\n"
        f"               {SIZED}[1173,55000+1000]\n[   10.000001] {ALONE}\n"
    ),
    "the same without times": (
        "Code: [22] bad frame in rt_sigreturn frame:0 ip:1173 sp:1000 orax:f in x\n"
        f"{SIZED}[1173,55000+1000]\n{ALONE}\n"
    ),
    "another, of one time": (
        "[    9.000001] RIP: 0010:[22] trap stack segment ip:1173 sp:1000 error:0 in x\n"
        f"[    9.000001] {SIZED}[1173,55000+1000]\n[   10.000001] {ALONE}\n"
    ),
    "a symbol of a program, by perf": (
        "jit 2262 32182.049539:   20408163 cpu-clock: \n"
        f"\t    7f1cf4b9b004 {FRAME}+0x4 (/tmp/perf-2262.map)\n"
        f"\t{raw('kfree+0x1c')} [unknown]\n"
    ),
    "the same behind a header with an event": (
        f"jit 2262 32182.049539:   2040 cpu-clock: \n\t    7f1cf4b9b004 {FRAME}+0x4 (/tmp/x)\n"
        f"\n cat 1 [000] 1.0:  1 cpu-clock: {raw('kfree+0x1c')} [unknown] ([kernel])\n"
    ),
    "a field of an event with a task's name of two lines": (
        " a\n => <ffffffff-16239   [001] ..... 30192.308913: sched_process_exec: filename=/a\n"
        f" => {SIZED} pid=16239 old_pid=16239\n => {raw('kfree+0x1c')}\n"
    ),
    "a file of a program, by perf": (
        "jit 2262 32182.049539:   20408163 cpu-clock: \n\t    7f1cf4b9b004 main+0x4 (/tmp/a\n"
        f"\t{FRAME} ([kernel.kallsyms])\n)\n\n\t{raw('kfree+0x1c')} [unknown]\n"
    ),
    "several rows of it": (
        "jit 2262 32182.049539:   20408163 cpu-clock: \n\t    7f1cf4b9b004 main+0x4 (/tmp/a\n"
        f"\t{FRAME} ([kernel.kallsyms])\n"
        * 1
        + f"\t{FRAME} ([kernel.kallsyms])\n" * 3
        + f"\n{ALONE}\n"
    ),
    "a field of an event, by ftrace": (
        "           a-16239   [001] ..... 30192.308913: sched_process_exec: filename=/tmp/a\n"
        f" => {SIZED} pid=16239 old_pid=16239\n => {raw('kfree+0x1c')}\n"
    ),
    "a user's stack, by ftrace": (
        "            bash-1977    [000] d..2.   133.713256: <user stack trace>\n"
        f" =>  <00007f3a1c0e52f0>\n => vfs_read+0x2c/0x360 <{FRAME[:16]}>\n"
        "            bash-1977    [000] d..2.   133.713257: <stack trace>\n"
        f" => {raw('kfree+0x1c')}\n"
    ),
    "trace_marker": (
        f"            bash-1977    [000] d..2.   133.713256: tracing_mark_write: {SIZED}\n"
        "            bash-1977    [000] d..2.   133.713257: <stack trace>\n"
        f" => {raw('kfree+0x1c')}\n"
    ),
    "the journal, pretty": journal(USERS, KERNELS, indent=8),
    "the journal, by jq -s": f"[{json.dumps(USERS)},\n{json.dumps(KERNELS)}]\n",
    "the journal, a key after the message": journal(
        {"MESSAGE": f"RIP: 0010:{SIZED}", "_TRANSPORT": "stdout"}, KERNELS
    ),
    "the journal, long records": journal(
        *[KERNELS] * 50,
        *[{"MESSAGE": f"{SIZED}\n" + "x" * 9000, "_TRANSPORT": "syslog"}] * 2,
        KERNELS,
    ),
    "the journal, braces in a message": journal(
        {"MESSAGE": f'}} {{ "_TRANSPORT": "kernel" {SIZED}', "_TRANSPORT": "syslog"}, KERNELS
    ),
    "Kernel Offset in the journal": journal({**USERS, "MESSAGE": OFFSET}, KERNELS, indent=1),
    "another key of JSON": journal(
        {"message": f"usb 1-1: Product: a\n{SIZED}"}, {"message": ALONE}
    ),
    "docker's key": journal({"log": f"usb 1-1: Product: a\n{OFFSET}\n"}, {"log": ALONE}),
    "a backslash and an n": journal(
        {"message": f"usb 1-1: Product: a\\n{OFFSET}"}, {"message": ALONE}
    ),
    "a device's name": (
        f"[  812.400001] input: {FRAME[:16]} is vfs_read+0x2c/0x360\n"
        f"                as /devices/virtual/input/input9\n[  812.404179] {ALONE}\n"
    ),
    "a tag of syslog with capitals": f"{DATE} Call: {SIZED}\n" * 200
    + f"{DATE} kernel: {ALONE}\n",
    "two words before it": f"{DATE} my kernel: RIP: 0010:{SIZED}\n{DATE} kernel: {ALONE}\n",
    "no program": f"{DATE} [  812.4] : RIP: 0010:{SIZED}\n{DATE} kernel: [  812.5] {ALONE}\n",
    "a program's symbol, by bcc": f"    b'{FRAME}'\n    b'x'\n => {raw('kfree+0x1c')}\n",
    "a program's symbol, in a folded stack": (
        f"evil;{FRAME};x 5\nswapper;0x{raw('kfree+0x1c')} 7\n"
    ),
    "a process's code": f"[  812.400001] RIP: 0033:{SIZED}\n[  812.404179] {ALONE}\n",
    "an offset past the size": (
        f"[  812.400001] RIP: 0010:{raw('vfs_read+0xfffff', SLIDE)} vfs_read+0xfffff/0x360\n"
        f"[  812.404179] {ALONE}\n"
    ),
    "a mount's parameter": f"foo: Unknown parameter 'a\nRIP: 0010:{SIZED}\n'\n{ALONE}\n",
    "a file's name of dump_page": (
        f'aops:ext4_da_aops ino:1b dentry name(?):"x\n{SIZED}"\nflags: 0x17\n{ALONE}\n'
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_an_attackers_frame_moves_nothing(text: str, table: ksyms.SymbolTable) -> None:
    named, _ = decode(table, TEXTS[text])
    last = named[named.rindex(raw("kfree+0x1c")) :].split("\n")[0]
    assert " kfree+0x1c" in last or "+0x" not in last, named


COMMS = (
    "c0fff201 up+0x1 invoked oom-killer: gfp_mask=0x140cca, order=0, oom_score_adj=0",
    "c0fff201 up+0x1: page allocation failure: order:4, mode:0x40",
    "INFO: task c0fff201 up+0x1:12 blocked for more than 120 seconds.",
    "task:c0fff201 up+0x1 state:D stack:0 pid:12 ppid:2",
    "BUG: scheduling while atomic: c0fff201 up+0x1/12/0x00000002",
    "Process c0fff201 up+0x1 (pid: 12, threadinfo=c1000000)",
    "c0fff201 up+0x1 (1234): drop_caches: 3",
    "c0fff201 <up+1>: page allocation failure: order:4, mode:0x40",
    "c0fff201{up+1}: entered promiscuous mode",
    "c0fff201{up+1}: renamed from eth0",
)


@pytest.mark.parametrize("words", COMMS)
def test_a_name_of_fifteen_bytes(words: str, tmp_path: Path) -> None:
    """Of 32-bit kernels an address and a short symbol's name fit in it."""
    listed = {"_text": 0, "_stext": 0, "up": 0x100, "vfs_read": 0x200, "kfree": 0x400}
    listed |= {"schedule": 0x800, "_etext": 0x1000, "_end": 0x2000}
    text = "".join(f"{0xC1000000 + at:x} T {name}\n" for name, at in listed.items())
    write_root(tmp_path, text)
    log = f"[    4.000001] {words}\n[    5.100001] EAX: c1000444 EBX: 00000000\n"
    command: list[str | Path] = [COMMAND, "decode", "--from", tmp_path / "proc/kallsyms", "-"]
    run = subprocess.run(command, input=log, capture_output=True, text=True)
    assert "c1000444 kfree+0x44" in run.stdout, run.stdout


def lines_of_one_time(count: int) -> str:
    """Frames of one message, as its time says; each tells of another boot."""
    frames = (raw("vfs_read+0x2c", 4096 * n) for n in range(count))
    return "".join(f"[    1.000001] [<{frame}>] vfs_read+0x2c/0x360\n" for frame in frames)


def boots(count: int) -> str:
    frames = (raw("vfs_read+0x2c", 0x200000 * (n % 64)) for n in range(count))
    return "".join(
        f"[    0.000000] {BANNER}\n[    1.000001] [<{frame}>] vfs_read+0x2c/0x360\n"
        for frame in frames
    )


@pytest.mark.parametrize("text", [lines_of_one_time, boots])
def test_many_of_them(text: Callable[[int], str], table: ksyms.SymbolTable) -> None:
    """Eight times as many take about eight times as long, and not 64 times."""

    def work(count: int) -> None:
        with suppress(ksyms.KsymsError):
            decode(table, text(count))

    assert growth(work, 500, 4_000, 24) <= 24
