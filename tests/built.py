"""Build reports of machines that no test can run, in the form in which the kernel prints them.

The addresses and names are symbols of a saved kallsyms, drawn at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

from oracle import Oracle

Pick = Callable[[], tuple[int, str]]
"""A function that returns a random address, and its name as the kernel prints it.

It is never the address of a symbol that only ends another one.
"""


def picker(oracle: Oracle, seed: int) -> tuple[Pick, Pick]:
    """Return a function that picks addresses of the kernel, and one for its modules."""
    chance = random.Random(seed)
    places = sorted({*oracle.kernel, *oracle.module})
    found: dict[bool, list[tuple[int, int, str]]] = {False: [], True: []}
    for start, end in pairwise(places):
        [name, (_, _, module)], *_ = oracle.at(start).names.items() or [("", (0, 0, None))]
        same = any(told[2] == module for told in oracle.at(end).names.values())
        if same and oracle.at(start).must and not name.startswith(("after_", "_")):
            found[bool(module)].append((start, end, name + (f" [{module}]" if module else "")))

    def pick(of_module: bool) -> tuple[int, str]:
        start, end, words = chance.choice(found[of_module] or found[False])
        offset = chance.randrange(min(end - start, 4096)) & ~1
        name, _, tail = words.partition(" ")
        return start + offset, f"{name}+{offset:#x}/{end - start:#x} {tail}".rstrip()

    return lambda: pick(False), lambda: pick(True)


def riscv(oracle: Oracle, banner: str, seed: int = 1) -> str:
    """Return an oops and a panic, as arch/riscv/kernel prints them.

    Sources: process.c, stacktrace.c, setup.c.
    """
    kernel, module = picker(oracle, seed)

    def report() -> Iterator[str]:
        (epc, here), (ra, caller), (gp, _) = module(), kernel(), kernel()
        yield "Unable to handle kernel access to user memory at address 0000000000000000"
        yield "Oops [#1]"
        yield f"Modules linked in: {' '.join(sorted(oracle.sizes))}"
        yield f"CPU: 0 UID: 0 PID: 980 Comm: init Not tainted {_release(banner)} #1  Debian"
        yield "Hardware name: riscv-virtio,qemu (DT)"
        yield f"epc : {here}"
        yield f" ra : {caller}"
        yield f"epc : {epc:016x} ra : {ra:016x} sp : ff200000004abd10"
        yield f" gp : {gp:016x} tp : ff600000012a0000 t0 : {kernel()[0]:016x}"
        yield f" t1 : 0000000000000072 t2 : {module()[0]:016x} s0 : ff200000004abd30"
        yield f" s1 : {kernel()[0]:016x} a0 : 0000000000000000 a1 : 0000000000000003"
        yield "status: 0000000200000120 badaddr: 0000000000000000 cause: 000000000000000d"
        for pick in [module, kernel, kernel, module, kernel, kernel]:
            address, name = pick()
            yield f"[<{address:016x}>] {name}"
        yield "Code: 0000 0000 7139 f822 f426 fc06 0080 84aa (a783) 0007"
        yield "---[ end trace 0000000000000000 ]---"

    linked = 0xFFFFFFFF80000000
    slide = oracle.marks["_start"] - linked
    lines = [banner, *report(), *report(), "SMP: stopping secondary CPUs"]
    lines.append(f"Kernel Offset: {slide:#x} from {linked:#x}")
    return _timed(lines)


def arm64(oracle: Oracle, banner: str, seed: int = 1) -> str:
    """Return an oops and a panic, as arch/arm64/kernel prints them before Linux 4.15.

    Sources: process.c, traps.c, setup.c.
    """
    kernel, module = picker(oracle, seed)
    (pc, here), (lr, caller) = module(), kernel()
    lines = [
        banner,
        "Unable to handle kernel paging request at virtual address dead000000000100",
        "Internal error: Oops: 96000044 [#1] SMP",
        f"CPU: 3 PID: 612 Comm: kworker/3:2 Not tainted {_release(banner)} #1",
        f"PC is at {here}",
        f"LR is at {caller}",
        f"pc : [<{pc:016x}>] lr : [<{lr:016x}>] pstate: 60400145",
        "sp : ffffffc0f9a43d10",
        f"x29: ffffffc0f9a43d10 x28: {kernel()[0]:016x} ",
        f"x27: 0000000000000004 x26: {module()[0]:016x} ",
        "Call trace:",
    ]
    for pick in [module, kernel, kernel, module, kernel]:
        address, name = pick()
        lines.append(f"[<{address:016x}>] {name}")
    lines += ["Code: f9400000 b4000120 f9401ec0 d65f03c0 (f9401c00) ", "SMP: stopping CPUs"]
    linked = 0xFFFFFF8008000000
    slide = oracle.marks["_text"] - 0x80000 - linked
    return _timed([*lines, f"Kernel Offset: {slide:#x} from {linked:#x}"])


def loongarch(oracle: Oracle, banner: str, seed: int = 1) -> str:
    """Return an oops and a panic, as arch/loongarch/kernel prints them.

    Sources: traps.c, relocate.c.
    """
    kernel, module = picker(oracle, seed)
    (ra, caller), (era, here) = kernel(), module()
    lines = [
        banner,
        "CPU 0 Unable to handle kernel paging request at virtual address 0000000000000000",
        "Oops[#1]:",
        f"CPU: 0 PID: 980 Comm: init Not tainted {_release(banner)} #1",
        f"pc {era:016x} ra {ra:016x} tp 90000001044a0000 sp 90000001044a3d50",
        f"a0 {kernel()[0]:016x} a1 0000000000000001 a2 {module()[0]:016x} a3 0000000000000000",
        f"   ra: {ra:016x} {caller}",
        f"  ERA: {era:016x} {here}",
        " CRMD: 000000b0 (PLV0 -IE -DA +PG DACF=CC DACM=CC -WE)",
        "Call Trace:",
    ]
    for pick in [module, kernel, kernel, module, kernel]:
        address, name = pick()
        lines.append(f"[<{address:016x}>] {name}")
    marks, linked = oracle.marks, 0x9000000000200000
    lines += ["", "---[ end trace 0000000000000000 ]---"]
    lines.append(f"Kernel relocated by {marks['_text'] - linked:#x}")
    lines += [f" .text @ {marks['_text']:#x}", f" .data @ {marks['_etext']:#x}"]
    return _timed([*lines, f" .bss  @ {marks['_end']:#x}"])


def s390(oracle: Oracle, release: str, report: str, seed: int = 1) -> str:
    """Return a report on a fault of a process, between two copies of the kernel's ``report``.

    The process's addresses are also addresses of the kernel, as s390 allows. Sources, below
    arch/s390: mm/fault.c, kernel/dumpstack.c.
    """
    kernel, _ = picker(oracle, seed)
    words = [f"{kernel()[0]:016x}" for _ in range(20)]
    lines = [
        "User process fault: interruption code 003b ilc:3 in init[100000+4000]",
        f"Failing address: {words[0]} TEID: {words[1]}",
        "Fault in primary space mode while using user ASCE.",
        "AS:0000000001e4c1c7 R3:0000000000000024 ",
        f"CPU: 0 PID: 846 Comm: init Not tainted {release} #1  Debian",
        "Hardware name: QEMU 8561 QEMU (KVM/Linux)",
        f"User PSW : 0705000180000000 {words[2]}",
        "           R:0 T:1 IO:1 EX:1 Key:0 M:1 W:0 P:1 AS:0 CC:0 PM:0 RI:0 EA:3",
        f"User GPRS: {' '.join(words[3:7])}",
        *(f"           {' '.join(words[n : n + 4])}" for n in (7, 11, 15)),
        f"User Code: {words[2]}: e310f0a00004\tlg\t%r1,160(%r15)",
        f"           {words[2][:-1]}6: c0e5{words[4][-8:]}\tbrasl\t%r14,{words[4]}",
        "Last Breaking-Event-Address:",
        f" [<{words[5]}>] init[100000+4000]",
    ]
    return f"{report.rstrip()}\n{_timed(lines)}{report}"


def _release(banner: str) -> str:
    return banner.split()[2]


def _timed(lines: list[str]) -> str:
    """Return the lines as a text, each with a time before it."""
    return "".join(f"[{60 + n / 1000:12.6f}] {line}\n" for n, line in enumerate(lines))
