"""Texts in which a kernel names its addresses: texts.py MODULE.ko RESULTS, in the VM.

RESULTS, which the host sees, gets ``kernel.elf``, the boot's snapshot; ``kallsyms`` and
``modules``, copies of its files in /proc; and in ``texts`` a file a text, as it was read.
MODULE.ko is module/'s. With a third argument, ``panic``, it leaves the copies alone: the text
is on the console, where this boot ends.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guest import TRACING, place_trampolines

from bpf import load_bpf_program, sysctl

MODULES = ("dummy", "loop", "ext4", "nf_tables", "bridge")
WORDS = Path("/sys/kernel/debug/ksyms_texts")
ADDRESSES = {"the kernel": 300, "ksyms_texts": 60, "bpf": 10, "other modules": 130}
"""How many addresses to print beside their names, of each kind of symbol."""

NOBODYS = (0x1000, 0xFFFF_8880_0000_1000, 0xFFFF_FFFF_FEFF_FFF0, 2**64 - 1)
"""Addresses that no symbol has: of a process, of the direct map, of no module, the last."""


def main(module: str, results: Path, last: str = "") -> None:
    # In the other boot other ones, so that the module is not where it was.
    subprocess.run(["modprobe", "-a", *(MODULES[3:] if last else MODULES)], check=True)
    subprocess.run(["insmod", module], check=True)
    if last:
        save_kernel_files(results)
        os.sync()
        write("oops")  # which is a panic, by the lab's argument
        raise SystemExit("the kernel lives on")
    sysctl("panic_on_oops", 0)
    place_trampolines()
    program = load_bpf_program()  # lives as long as its descriptor
    kallsyms = Path("/proc/kallsyms").read_bytes()
    snapshot(results)
    save_kernel_files(results)
    if (results / "kallsyms").read_bytes() != kallsyms:
        raise SystemExit("the symbols moved while nothing was loaded")
    (results / "texts").mkdir()
    make_texts(results / "texts", kallsyms.decode())
    os.close(program)
    decode(results)


def snapshot(results: Path) -> None:
    command = [sys.executable, "-m", "ksyms", "snapshot", "-o", str(results / "kernel.elf")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def decode(results: Path) -> None:
    """All texts through ksyms decode, in the boot that they are of."""
    texts = map(str, sorted((results / "texts").iterdir()))
    command = [sys.executable, "-m", "ksyms", "decode", "--from", str(results / "kernel.elf")]
    with (results / "decoded").open("wb") as out:
        subprocess.run([*command, *texts], check=True, stdout=out)


def save_kernel_files(results: Path) -> None:
    for name in ("kallsyms", "modules"):
        (results / name).write_bytes(Path("/proc", name).read_bytes())


def make_texts(texts: Path, kallsyms: str) -> None:
    (texts / "pointers").write_text(pointers(kallsyms))
    waiting = inside("wait")
    for letter in "tw":
        (texts / f"sysrq-{letter}").write_text(sysrq(letter))
    (texts / "stack").write_text(stacks([1, 2, 3, waiting, os.getpid()]))
    trace(texts)
    spinning = inside("spin")
    (texts / "sysrq-l").write_text(sysrq("l"))
    perf(texts)
    os.kill(spinning, signal.SIGKILL)
    # What these leave behind is not tidy: no other text after them.
    for word in ("oops", "warning", "bug"):
        dmesg()
        write(word)
        if word == "oops":
            (texts / "oops-json").write_text(output("dmesg", "--json"))
        (texts / word).write_text(dmesg())


def write(word: str) -> None:
    """Have a process of its own, which may not outlive it, say a word to the module."""
    os.waitpid(started(word), 0)


def started(word: str) -> int:
    pid = os.fork()
    if not pid:
        WORDS.write_text(word)
        os._exit(0)
    return pid


def inside(word: str) -> int:
    """A process that is in the module by now, asleep there or busy for some ticks."""
    pid = started(word)
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}/wchan").read_text() != "texts_wait" and ticks(pid) < 30:
        if time.monotonic() > until:
            raise SystemExit(f"the process that says {word} is not in the module")
        time.sleep(0.05)
    return pid


def ticks(pid: int) -> int:
    """What a process has spent in the kernel, in hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[12])


def output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def dmesg() -> str:
    """The kernel's messages since the last call, as dmesg prints them."""
    return output("dmesg", "--read-clear")


def sysrq(letter: str) -> str:
    dmesg()
    Path("/proc/sysrq-trigger").write_text(letter)
    time.sleep(0.5)
    return dmesg()


def stacks(processes: list[int]) -> str:
    """/proc/PID/stack of each, under its name, as head prints several files."""
    return output("head", "-n", "99", *(f"/proc/{process}/stack" for process in processes))


def pointers(kallsyms: str) -> str:
    """What the module prints of addresses, by %px and %pS: "texts: ADDRESS is SYMBOL"."""
    dmesg()
    for address in chosen(kallsyms):
        WORDS.write_text(f"{address:x}")
    return "".join(line for line in dmesg().splitlines(True) if "texts: " in line)


def chosen(kallsyms: str) -> list[int]:
    """Addresses in symbols of each kind, at their beginnings and past them, and nobody's."""
    kinds: dict[str, list[int]] = {kind: [] for kind in ADDRESSES}
    for line in kallsyms.splitlines():
        address, _, rest = line.split(" ", 2)
        owner = rest.partition("\t[")[2].rstrip("]") or "the kernel"
        kind = owner if owner in kinds else "other modules"
        kinds[kind].append(int(address, 16))
    chance = random.Random(8)
    found = list(NOBODYS)
    for kind, count in ADDRESSES.items():
        for begin in chance.choices(kinds[kind], k=count):
            found.append(begin + chance.choice((0, 1, 5, 17, 300)))
    return found


def trace(texts: Path) -> None:
    """What ftrace prints of functions, with and without addresses, and of stacks."""
    (TRACING / "set_ftrace_filter").write_text("vfs_* texts_*")
    for name, options in {
        "ftrace-function": (),
        "ftrace-function-addr": ("sym-addr", "sym-offset"),
        "ftrace-stack": ("func_stack_trace",),
        "ftrace-stack-addr": ("func_stack_trace", "sym-addr"),
    }.items():
        with switched_on(options):
            (TRACING / "current_tracer").write_text("function")
            traced(texts / name)
            (TRACING / "current_tracer").write_text("nop")
    trigger = TRACING / "events/sched/sched_switch/trigger"
    trigger.write_text("stacktrace")
    traced(texts / "ftrace-trigger")
    trigger.write_text("!stacktrace")

    # Of every function it is more than an emulated processor can bear.
    (TRACING / "stack_trace_filter").write_text("texts_*")
    sysctl("stack_tracer_enabled", 1)
    WORDS.write_text("1000")
    sysctl("stack_tracer_enabled", 0)
    (texts / "stack_trace").write_bytes((TRACING / "stack_trace").read_bytes())


@contextmanager
def switched_on(options: tuple[str, ...]) -> Iterator[None]:
    for option in options:
        (TRACING / "options" / option).write_text("1")
    yield
    for option in options:
        (TRACING / "options" / option).write_text("0")


def traced(text: Path) -> None:
    """The trace of a few system calls and of the module, which prints an address."""
    (TRACING / "trace").write_text("")
    WORDS.write_text("1000")
    time.sleep(0.05)
    (TRACING / "tracing_on").write_text("0")
    with (TRACING / "trace").open() as trace:
        text.write_text("".join(line for _, line in zip(range(2000), trace)))
    (TRACING / "tracing_on").write_text("1")


def perf(texts: Path) -> None:
    """A profile of all processors, as perf prints it: with names, with addresses only, and
    where it had nothing to take the kernel's names from."""
    # perf would look through all files of modules there, and reading them takes a minute.
    modules = Path("/lib/modules", os.uname().release)
    modules.unlink()
    modules.mkdir()
    data = "/run/perf.data"  # not /tmp, where the host may have one
    record = ("perf", "record", "-q", "-B", "-N", "-a", "-g", "-e", "cpu-clock", "-F", "49")
    output(*record, "-o", data, "--", "sleep", "1")
    for name, options in {
        "perf-script": (),
        "perf-script-addresses": ("-F", "comm,tid,time,event,ip"),
        "perf-script-unknown": ("--kallsyms=/dev/null",),
    }.items():
        script = ("perf", "script", "--no-inline", "-i", data, *options)
        (texts / name).write_text(output(*script))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
