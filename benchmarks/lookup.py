"""What a lookup costs, beside the plainest thing that answers the same.

For the running kernel and two synthetic ones, each in a process of its own with everything
imported. In each round, in turn:

first address     load() and one lookup(); opening and mapping the file
address           100,000 lookup() of a table that every symbol was asked of; a bisection of
                  lists of addresses and names; bcc's BPF.ksym(), of the running kernel
million           locate() of a million addresses; numpy.searchsorted() alone
first name        the first find() of a table; a dict made of all names, and one asked
name              1,000 find() after that, no name twice; the dict asked
no name           1,000 find() of names that are not there; the dict asked

Addresses lie at random in symbols drawn at random. A ratio is of that round's times.
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import ksyms
import synthetic
from report import record, table

SIZES: Final = (1_000_000, 5_000_000)
LOADS: Final = 50
MANY: Final = 1_000_000
SINGLE: Final = 100_000
NAMES: Final = 1_000
DEBIAN: Final = "/usr/lib/python3/dist-packages"
"""Where python3-bpfcc is."""

Times = dict[str, dict[str, list[float]]]
"""By task and by who did it, the seconds one took in each round."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep it in performance.md")
    options = parser.parse_args()
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in kernels(Path(scratch)):
            command = [sys.executable, __file__, "measure", path, str(options.rounds)]
            found = json.loads(subprocess.check_output(command))
            rows += described(f"{name} {found['symbols']:,}", found["times"])
            notes += found["notes"]
            path.unlink()
    head = ["kernel", "task", "by", "best, us", "worst, us", "ratio, best", "median", "worst"]
    release = platform.release().split("-")[0]
    first = (
        f"Linux {release} on {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, numpy {np.__version__}; {options.rounds} rounds; "
        f"{time.strftime('%Y-%m-%d')}. Times are of one load, one answer, or a million. "
        "A ratio is ksyms' time over the row's own."
    )
    report = "\n\n".join([" ".join([first, *notes]), table(head, rows)])
    print(report)
    if options.record:
        record("looked", report)


def kernels(scratch: Path) -> Iterable[tuple[str, Path]]:
    path = scratch / "kernel.elf"
    ksyms.snapshot().write(path)
    yield "running", path
    for size in SIZES:
        root = scratch / str(size)
        synthetic.write_root(root, size)
        # Elsewhere, so that this process stays small.
        code = "import sys, ksyms; ksyms.snapshot(sys.argv[1]).write(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, root, path], check=True)
        yield "synthetic", path


def described(kernel: str, times: Times) -> list[list[str]]:
    rows = []
    for task, by in times.items():
        for who, theirs in by.items():
            ratios = [a / b for a, b in zip(by["ksyms"], theirs)]
            values = (min(ratios), statistics.median(ratios), max(ratios))
            shown = ["" if who == "ksyms" else f"{value:.2f}" for value in values]
            spent = [f"{seconds * 1e6:,.2f}" for seconds in (min(theirs), max(theirs))]
            rows.append([kernel, task, who, *spent, *shown])
    return rows


def measure(path: str, rounds: int) -> dict[str, Any]:
    """Every task, ``rounds`` times, of the image ``path``."""
    symbols = [symbol for symbol in ksyms.load(path) if symbol.section and symbol.size]
    names = [symbol.name for symbol in ksyms.load(path)]
    starts = [symbol.address for symbol in symbols]
    called = [symbol.name for symbol in symbols]
    sizes = np.array([symbol.size for symbol in symbols], np.uint64)
    del symbols
    sorted_ = np.array(starts, np.uint64)
    draw = np.random.default_rng(9)

    def drawn(count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        which = draw.integers(0, len(sorted_), count)
        return sorted_[which] + (draw.random(count) * sizes[which]).astype(np.uint64)

    def by_lists(address: int) -> str:
        return called[bisect_right(starts, address) - 1]

    warm = ksyms.load(path)
    each(warm.lookup, starts)
    warm.locate(drawn(MANY))
    resolve, notes = bcc(path, starts[len(starts) // 2])
    every = set(names)
    gc.freeze()
    times: Times = {}

    def took(task: str, who: str, seconds: float) -> None:
        times.setdefault(task, {}).setdefault(who, []).append(seconds)

    for _ in range(rounds):
        one = drawn(1).tolist() * LOADS
        took("first address", "ksyms", each(partial(answered, path), one))
        took("first address", "open and map", each(mapped, [path] * LOADS))
        asked = drawn(SINGLE).tolist()
        took("address", "ksyms", each(warm.lookup, asked))
        took("address", "bisect", each(by_lists, asked))
        if resolve:
            took("address", "bcc", each(resolve, asked))
        many = drawn(MANY)
        took("million", "ksyms", each(warm.locate, [many]))
        took(
            "million", "searchsorted", each(lambda a: sorted_.searchsorted(a, "right"), [many])
        )
        there = random.sample(sorted(every), NAMES + 1)
        absent = [name for name in (n[:-1] + "~" for n in there) if name not in every]
        fresh, by_name = ksyms.load(path), dict[str, list[int]]()
        first, later, none = there[:1], there[1:], absent
        took("first name", "ksyms", each(fresh.find, first))
        took("first name", "dict", each(partial(numbered, names, by_name), first))
        for task, wanted in (("name", later), ("no name", none)):
            took(task, "ksyms", each(fresh.find, wanted))
            took(task, "dict", each(by_name.get, wanted))
    return {"symbols": len(names), "times": times, "notes": notes}


def each(call: Callable[[Any], object], asked: list[Any]) -> float:
    """The seconds that one of ``asked`` took."""
    begun = time.perf_counter()
    for value in asked:
        call(value)
    return (time.perf_counter() - begun) / len(asked)


def answered(path: str, address: int) -> object:
    return ksyms.load(path).lookup(address)


def mapped(path: str) -> int:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[0]


def numbered(names: list[str], by_name: dict[str, list[int]], wanted: str) -> list[int]:
    for number, name in enumerate(names):
        by_name.setdefault(name, []).append(number)
    return by_name[wanted]


def bcc(path: str, address: int) -> tuple[Callable[[int], object] | None, list[str]]:
    """What bcc resolves the running kernel's addresses by, and a word where it cannot."""
    sys.path.append(DEBIAN)
    try:
        from bcc import BPF
    except ImportError as error:
        return None, [f"bcc is not here ({error})."]
    finally:
        sys.path.remove(DEBIAN)
    expected = ksyms.load(path).lookup(address)
    if expected is None or BPF.ksym(address) != expected.name.encode():
        return None, []  # of another kernel
    return BPF.ksym, []


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
