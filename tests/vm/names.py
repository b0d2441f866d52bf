"""What a kernel calls addresses: names.py MODULES RESULTS, as root in the VM.

MODULES is the directory of module/'s files. RESULTS, which the host sees, gets ``root.tar.gz``,
what ``ksyms collect`` saved; ``kernel.elf`` and ``exact.elf``, snapshots with inferred sizes
and with those of the modules' files; ``names``, a line an address, which is 16 digits, and
what the kernel's ``%pS`` printed for it; and ``left``, facts about the scene as JSON. All of
it is of one moment: kallsyms is the same before and after.
"""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from guest import TRACING, place_trampolines

from bpf import load_bpf_program

MODULES = ("dummy", "loop", "ext4", "nf_tables", "bridge", "overlay")
NAMES = Path("/sys/kernel/debug/ksyms_names")
BATCH = 4096
FIXED = (
    *(0, 1, 0x10, 0x28, 0x1000, 0x35000, 0x7F12_3456_7000),
    *(0xFFFF_8880_0000_0000, 0xFFFF_8880_0123_4567, 0xFFFF_C900_0000_1000),
    *(0xFFFF_EA00_0000_0000, 0xFFFF_FE00_0000_0000, 0xFFFF_FFFF_FF60_0000),
    *(0xFFFF_FFFF_C000_0000, 0xFFFF_FFFF_FEFF_FFF0, 2**64 - 1),
)
"""NULL, small numbers, a process's, the direct map, vmalloc, what no module has, the last."""


def main(modules: Path, results: Path) -> None:
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    trace()
    subprocess.run(["insmod", modules / "ksyms_freed.ko"], check=True)
    # Two that take the memory that init functions of others left.
    subprocess.run(["insmod", modules / "ksyms_after.ko"], check=True)
    subprocess.run(["modprobe", "-a", "nf_conntrack", "fuse"], check=True)
    subprocess.run(["insmod", modules / "ksyms_patch.ko"], check=True)
    subprocess.run(["insmod", modules / "ksyms_names.ko"], check=True)
    place_trampolines()
    programs = [load_bpf_program() for _ in range(3)]  # live as long as their descriptors
    subprocess.run(["sleep", "1"], check=True)  # init memory is freed by a work item

    before = Path("/proc/kallsyms").read_bytes()
    ksyms("collect", "-o", results / "root.tar.gz")
    ksyms("snapshot", "--kallsyms", "/proc/kallsyms", "-o", results / "text.elf")
    inferred(results / "kernel.elf")
    ksyms("snapshot", "--debug-dir", modules, "-o", results / "exact.elf")
    addresses = chosen(before.decode())
    with (results / "names").open("w") as out:
        for address, words in zip(addresses, asked(addresses), strict=True):
            out.write(f"{address:016x} {words}\n")
    if Path("/proc/kallsyms").read_bytes() != before:
        raise SystemExit("the symbols moved")
    left = {
        "cmdline": Path("/proc/cmdline").read_text(),
        "programs": len(programs),
        "patched": Path("/sys/kernel/livepatch/ksyms_patch/enabled").read_text().strip(),
    }
    (results / "left").write_text(json.dumps(left))


def ksyms(*arguments: object) -> None:
    command = [sys.executable, "-m", "ksyms", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def inferred(path: Path) -> None:
    """Write a snapshot of this kernel without exact sizes, as ``ksyms lookup`` takes it."""
    from ksyms._linker import Linker
    from ksyms._snapshot import take

    with Linker(debug=None) as linker:
        take(linker).write(path)


def trace() -> None:
    """Have a function tracer run: the kernel then remembers init functions that it frees."""
    (TRACING / "set_ftrace_filter").write_text("kernel_clone\n")
    (TRACING / "current_tracer").write_text("function\n")


def asked(addresses: list[int]) -> list[str]:
    """What the kernel calls each of ``addresses``."""
    words: list[str] = []
    for start in range(0, len(addresses), BATCH):
        batch = addresses[start : start + BATCH]
        with NAMES.open("r+b", buffering=0) as file:
            file.write(struct.pack(f"={len(batch)}Q", *batch))
        words += NAMES.read_text().splitlines()
    return words


def chosen(kallsyms: str) -> list[int]:
    """Addresses of each kind: what kallsyms lists and what lies beside it."""
    chance = random.Random(18)
    rows = [line.split(" ", 2) for line in kallsyms.splitlines()]
    runs: list[tuple[str, list[int]]] = []
    for address, _, rest in rows:
        owner = rest.partition("\t")[2]
        if not runs or runs[-1][0] != owner:
            runs.append((owner, []))
        runs[-1][1].append(int(address, 16))
    found = list(FIXED)
    for owner, own in runs:
        found += within(own, 1200 if not owner else 120, chance)
    found += around([int(address, 16) for address, _, name in rows if is_boundary(name)])
    for path in sorted(Path("/sys/module").glob("*/sections/*")):
        start = int(path.read_text(), 16)
        found += [start, start + 1, start + 0x35, start + 0x1010]
    return sorted({address % 2**64 for address in found})


def is_boundary(name: str) -> bool:
    """Return True for a symbol that a linker script puts at a section's begin or end."""
    return bool(
        re.match(r"_(text|stext|etext|sdata|edata|end|sinittext|einittext)$", name)
    ) or (
        name.startswith(("__start_", "__end_", "__bss_", "__init_", "__per_cpu_"))
        and "\t" not in name
        and len(name) < 20
    )


def around(addresses: list[int]) -> list[int]:
    """Each address, and some before and behind it."""
    return [a + more for a in addresses for more in (-4097, -17, -1, 0, 1, 16, 4096, 70000)]


def within(own: list[int], count: int, chance: random.Random) -> list[int]:
    """Addresses in what begins at ``own``: in some of it, and to the end of all of it."""
    ordered = sorted(set(own))
    picked = chance.sample(ordered, min(count, len(ordered)))
    found = [address + chance.choice((0, 0, 1, 5, 17, 300)) for address in picked]
    for address, behind in chance.sample(gaps := list(pairwise(ordered)), min(40, len(gaps))):
        found += [address + chance.randrange(behind - address), behind - 1]
    last = ordered[-1]
    page = last | 0xFFF
    found += [last + 1, last + 2, last + 0x40, (last + page) // 2, page, page + 1, page + 4097]
    return found


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
