"""How many frames a second ksyms decode names, beside what people write for it themselves.

Four logs of a million frames, of symbols of the running kernel drawn at random: addresses
alone, and every form that is recognised, with names right, wrong or missing; each of places
that hardly repeat, and of ten thousand places, as a profile has them. In each round, in turn
and each a process of its own: ``ksyms decode``, a loop in Python with a dictionary and a
bisection over /proc/kallsyms, and ``addr2line`` fed by a pipe, as scripts/decode_stacktrace.sh
does, with a hundredth of the frames. The time of a process that decodes nothing is not taken
off.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import ksyms
from report import record, table

KSYMS: Final = Path(sys.executable).parent / "ksyms"
FRAMES: Final = 1_000_000
SLICE: Final = 100
"""Of how many frames addr2line gets one."""
PLACES: Final = 10_000
LOGS: Final = ("addresses", "addresses, profile", "every form", "every form, profile")

PLAIN: Final = r"""
import bisect, re, sys
starts, names = [], []
for line in open("/proc/kallsyms"):
    address, letter, name = line.split()[:3]
    if int(address, 16) >> 63:
        starts.append(int(address, 16)); names.append(name)
order = sorted(range(len(starts)), key=starts.__getitem__)
starts = [starts[n] for n in order]; names = [names[n] for n in order]
seen = {}
def named(match):
    word = match[0]
    if word not in seen:
        address = int(word, 16)
        at = bisect.bisect_right(starts, address) - 1
        seen[word] = f"{word} {names[at]}+{address - starts[at]:#x}"
    return seen[word]
for line in open(sys.argv[1]):
    sys.stdout.write(re.sub(r"\bffff[0-9a-f]{12}\b", named, line))
"""

FORMS: Final = (
    "\t{a} {n}+{o} ([kernel.kallsyms])\n",
    "[  123.456789]  [<{a}>] ? {n}+{o}/{s}\n",
    "\t{a} [unknown] ([kernel.kallsyms])\n",
    " => {n}+{o}/{s} <{a}>\n",
    '{{"ip":"0x{a}","cpu":1}}\n',
    "[   12.345678]  {n}+{o}/{s}\n",
    "[<0>] {n}+{o}/{s}\n",
    "RBX: {a} RCX: 0000000000000001 RDX: 0000000000000002\n",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep it in performance.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        elf = Path(scratch, "kernel.elf")
        ksyms.snapshot().write(elf)
        logs = {name: Path(scratch, name) for name in LOGS}
        for name, path in logs.items():
            path.write_text("".join(log(name, elf)))
        rows = [row for name, path in logs.items() for row in rounds(name, path, elf, options)]
        peaks = [peak(logs["addresses, profile"], elf, times) for times in (1, 8)]
    head = ["log", "by", "frames/s, best", "worst", "ratio, best", "median", "worst"]
    release = platform.release().split("-")[0]
    first = (
        f"Linux {release} on {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}; {options.rounds} rounds; "
        f"{time.strftime('%Y-%m-%d')}. A ratio is decode's frames a second over the row's own. "
        f"Peak memory of decode: {peaks[0]} MiB for a million frames from a pipe, {peaks[1]} "
        "for eight."
    )
    report = f"{first}\n\n{table(head, rows)}"
    print(report)
    if options.record:
        record("decoded", report)


def log(name: str, elf: Path) -> Iterator[str]:
    draw = random.Random(9)
    functions = [s for s in ksyms.load(elf) if s.kind == "function" and s.size and s.section]
    places = [(s, draw.randrange(s.size)) for s in draw.choices(functions, k=PLACES)]
    for number in range(FRAMES):
        symbol, offset = draw.choice(places)
        if not name.endswith("profile"):
            symbol = draw.choice(functions)
            offset = draw.randrange(symbol.size)
        address = f"{symbol.address + offset:016x}"
        form = FORMS[number % len(FORMS)] if name.startswith("every form") else "\t    {a}\n"
        yield form.format(a=address, n=symbol.name, o=hex(offset), s=hex(symbol.size))


def rounds(name: str, path: Path, elf: Path, options: argparse.Namespace) -> list[list[str]]:
    few = path.with_name("few")
    with path.open() as lines, few.open("w") as out:
        out.writelines(line for number, line in enumerate(lines) if not number % SLICE)
    addresses = ["sh", "-c", f"grep -oE 'ffff[0-9a-f]{{12}}' {few} | addr2line -f -e {elf}"]
    by = {
        "ksyms decode": (FRAMES, [str(KSYMS), "decode", "--from", str(elf), str(path)]),
        "dict and bisect": (FRAMES, [sys.executable, "-c", PLAIN, str(path)]),
        "addr2line": (FRAMES // SLICE, addresses),
    }
    speeds: dict[str, list[float]] = {who: [] for who in by}
    for _ in range(options.rounds):
        for who, (frames, command) in by.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            speeds[who].append(frames / (time.perf_counter() - begun))
    rows = []
    for who, theirs in speeds.items():
        ratios = [a / b for a, b in zip(speeds["ksyms decode"], theirs)]
        values = (max(ratios), statistics.median(ratios), min(ratios))
        shown = ["" if who == "ksyms decode" else f"{value:.1f}" for value in values]
        rows.append([name, who, f"{max(theirs):,.0f}", f"{min(theirs):,.0f}", *shown])
    return rows


def peak(path: Path, elf: Path, times: int) -> int:
    """The most memory that decode has, in MiB, of the log so many times from a pipe."""
    with subprocess.Popen(["cat", *[str(path)] * times], stdout=subprocess.PIPE) as cat:
        command = [KSYMS, "decode", "--from", elf]
        decode = subprocess.Popen(command, stdin=cat.stdout, stdout=subprocess.DEVNULL)
        return os.wait4(decode.pid, 0)[2].ru_maxrss >> 10


if __name__ == "__main__":
    main()
