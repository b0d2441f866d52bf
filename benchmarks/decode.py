"""Measure the frames a second of ksyms decode, compared with scripts people write instead.

There are four logs. Each has a million frames in symbols of the running kernel, which are drawn
at random:

- ``addresses``: addresses without names; the frames hardly repeat
- ``addresses, profile``: the same, with ten thousand different frames, as a profile has
- ``every form`` and ``every form, profile``: the forms of FORMS, with right names, wrong names
  and none

Each round runs these commands in turn, each in its own process:

- ``ksyms decode``, without and with ``--json``
- a loop in Python with a dict, and a bisection of the addresses of /proc/kallsyms
- ``addr2line`` that reads from a pipe, as in scripts/decode_stacktrace.sh, with a hundredth of
  the frames

Then each form is measured alone, with a fifth of the frames, compared with a Python loop that
knows only this form; the outputs must be equal. Last, a log with one frame in a thousand lines
is compared with ``grep`` for 16 digits. The start of the process is included in all times.
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
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final

import ksyms
from report import record, table

KSYMS: Final = Path(sys.executable).parent / "ksyms"
FRAMES: Final = 1_000_000
SLICE: Final = 100
"""addr2line gets every hundredth frame."""
PLACES: Final = 10_000
"""The number of different frames in a profile."""
LOGS: Final = ("addresses", "addresses, profile", "every form", "every form, profile")

# The script "dict and bisect".
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

# Lines of the logs "every form"; see EACH for the letters.
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


ADDRESS: Final = r"(?P<a>\bffff[0-9a-f]{12}\b)"
EACH: Final = {
    "address": ("\t    {a}\n", ADDRESS, "{a} {n}+{o}/{s}"),
    "[<address>] ? 0xaddress": (
        " [<{a}>] ? 0x{a}\n",
        r"(?P<a>ffff[0-9a-f]{12})(?P<c>>\]|)",
        "{a}{c} {n}+{o}/{s}",
    ),
    "register": ("RBX: {a} RCX: 0000000000000001\n", ADDRESS, "{a} {n}+{o}/{s}"),
    "oops": (
        "[  123.456789]  [<{a}>] ? {n}+{o}/{s}\n",
        ADDRESS + r"(?P<c>>\] \? )\S+",
        "{a}{c}{n}+{o}/{s}",
    ),
    "perf script": (
        "\t{a} {n}+{o} ([kernel.kallsyms])\n",
        ADDRESS + r" \S+",
        "{a} {n}+{o}",
    ),
    "perf script, [unknown]": (
        "\t{a} [unknown] ([kernel.kallsyms])\n",
        ADDRESS + r" \S+",
        "{a} {n}+{o}",
    ),
    "ftrace": (" => {n}+{o}/{s} <{a}>\n", r"\S+ <" + ADDRESS, "{n}+{o}/{s} <{a}"),
}
"""For each form: a line, the pattern that the loop searches for, and its replacement.

In them ``a`` is the address, ``n`` the symbol's name, ``o`` the offset and ``s`` the size;
``c`` is the text after the address.
"""
# The loop that knows only one form.
LOOP: Final = r"""
import bisect, re, sys
starts, symbols = [], []
for line in open(sys.argv[1]):
    start, size, name = line.split()
    starts.append(int(start, 16)); symbols.append((name, size))
seen = {}
form = sys.argv[3]
def named(match):
    word = match[0]
    if word not in seen:
        address = int(match["a"], 16)
        at = bisect.bisect_right(starts, address) - 1
        name, size = symbols[at]
        offset = hex(address - starts[at])
        seen[word] = form.format(**match.groupdict(), n=name, o=offset, s=size)
    return seen[word]
pattern = re.compile(sys.argv[2])
for line in open(sys.argv[4]):
    sys.stdout.write(pattern.sub(named, line))
"""
LINES: Final = 800_000
"""The number of lines of the log with few frames."""


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
        rows += forms(Path(scratch), elf, options.rounds)
        rows += sparse(Path(scratch), elf, options.rounds)
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


def forms(scratch: Path, elf: Path, times: int) -> Iterator[list[str]]:
    """Measure each form alone, compared with a loop that knows only this form."""
    draw = random.Random(11)
    table = ksyms.load(elf)
    starts = Counter(s.address for s in table)
    functions = [
        s
        for s in table
        if s.kind == "function" and s.size and s.section and starts[s.address] == 1
    ]
    listed, path = scratch / "functions", scratch / "form"
    rows = (
        f"{s.address:x} {s.size:#x} {s.name}\n" for s in sorted(functions, key=itemgetter(1))
    )
    listed.write_text("".join(rows))
    for name, (line, pattern, made) in EACH.items():
        for kind in ("", ", profile"):
            few = [(s, draw.randrange(s.size)) for s in draw.choices(functions, k=PLACES)]
            lines = []
            for _ in range(FRAMES // 5):
                symbol, offset = draw.choice(few)
                if not kind:
                    symbol = draw.choice(functions)
                    offset = draw.randrange(symbol.size)
                said = {"n": symbol.name, "o": hex(offset), "s": hex(symbol.size)}
                lines.append(line.format(a=f"{symbol.address + offset:016x}", **said))
            path.write_text("".join(lines))
            loop = [sys.executable, "-c", LOOP, str(listed), pattern, made, str(path)]
            by = {
                "ksyms decode": (len(lines), decode(elf, path)),
                "a loop for it": (len(lines), loop),
            }
            if outputs(by["ksyms decode"][1]) != outputs(loop):
                raise SystemExit(f"{name}: the loop puts out another text")
            yield from compared(name + kind, by, times)


def sparse(scratch: Path, elf: Path, times: int) -> list[list[str]]:
    """Measure a log with few frames, compared with a search for 16 digits by grep."""
    frames = log("every form", elf)
    path = scratch / "sparse"
    with path.open("w") as out:
        for number in range(LINES):
            word = f"session {number * 7919 % 1000003} of user root on host {number % 997}"
            out.write(next(frames) if number % 1000 == 0 else f"systemd[1]: Started {word}.\n")
    by = {"ksyms decode": (LINES, decode(elf, path))}
    for locale in ("C.UTF-8", "C"):
        # Through cat: if its output is /dev/null, grep stops at the first match.
        search = f"LC_ALL={locale} grep -cE '[0-9a-f]{{16}}' {path} | cat"
        by[f"grep, {locale}"] = LINES, ["sh", "-c", search]
    return compared("one frame in 1000 lines (lines/s)", by, times)


def decode(elf: Path, path: Path, *options: str) -> list[str]:
    """Return the command that decodes the log ``path`` with the symbols of ``elf``."""
    return [str(KSYMS), "decode", *options, "--from", str(elf), str(path)]


def outputs(command: list[str]) -> bytes:
    """Run a command; return what it writes to stdout."""
    quiet = subprocess.DEVNULL
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=quiet).stdout


def log(name: str, elf: Path) -> Iterator[str]:
    """Yield the lines of the log ``name``, one of LOGS."""
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
    """Measure the log ``name`` in ``path``; return a row of the table for each command."""
    few = path.with_name("few")
    with path.open() as lines, few.open("w") as out:
        out.writelines(line for number, line in enumerate(lines) if not number % SLICE)
    addresses = ["sh", "-c", f"grep -oE 'ffff[0-9a-f]{{12}}' {few} | addr2line -f -e {elf}"]
    by = {
        "ksyms decode": (FRAMES, decode(elf, path)),
        "ksyms decode --json": (FRAMES, decode(elf, path, "--json")),
        "dict and bisect": (FRAMES, [sys.executable, "-c", PLAIN, str(path)]),
        "addr2line": (FRAMES // SLICE, addresses),
    }
    return compared(name, by, options.rounds)


def compared(name: str, by: dict[str, tuple[int, list[str]]], times: int) -> list[list[str]]:
    """Measure commands in turn; return a row for each, with frames a second and ratios.

    ``by`` has, by the name in the table, the number of frames and the command. A ratio is the
    speed of ``ksyms decode`` over the row's own, in the same round.
    """
    speeds: dict[str, list[float]] = {who: [] for who in by}
    for _ in range(times):
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
    """Return decode's peak resident memory in MiB, for the log ``times`` times from a pipe."""
    with subprocess.Popen(["cat", *[str(path)] * times], stdout=subprocess.PIPE) as cat:
        command: list[str | Path] = [KSYMS, "decode", "--from", elf]
        decode = subprocess.Popen(command, stdin=cat.stdout, stdout=subprocess.DEVNULL)
        return os.wait4(decode.pid, 0)[2].ru_maxrss >> 10


if __name__ == "__main__":
    main()
