"""Measure the time and the memory of a snapshot, compared with a bare read of the text.

For each kernel three jobs are timed in turn, round after round:

read      reads /proc/kallsyms to its end with os.read(), and does nothing with it
snapshot  calls ksyms.snapshot(), after all imports
plain     reads the same text line by line in plain Python, splits each line into address,
          letter, name and module, and keeps a list of tuples

A ratio is the median over the rounds of a job's time divided by that round's read. The CPU
times are those of the round with the least CPU time, of all threads, in ns a symbol.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ksyms
import synthetic
from report import record, table
from tasks import Spent, memory, plain, read, saved, scratch, short, spent


class Kernel(NamedTuple):
    """A root directory to take snapshots of, and its name in the tables."""

    name: str
    root: Path


class Result(NamedTuple):
    """The figures of one kernel: sizes in bytes, and the times of each round of each job."""

    name: str
    symbols: int
    modules: int
    text: int
    image: int
    resident: int | None
    traced: int
    times: dict[str, list[Spent]]


def main() -> None:
    """Measure the kernels; print the tables, and record them if that was asked for."""
    options = _parser().parse_args()
    load = os.getloadavg()[0]
    with scratch() as directory:
        results = []
        for kernel in _kernels(options, directory):
            print(f"measuring {kernel.name}", file=sys.stderr)
            results.append(_measure(kernel, options.rounds))
    report = _report(results, options.rounds, load)
    print(report)
    if options.record:
        record("measured", report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds a kernel (default: 9)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=[1_000_000, 5_000_000],
        metavar="N",
        help="symbols of each synthetic kernel (default: 1000000 5000000)",
    )
    parser.add_argument(
        "--record", action="store_true", help="write the tables into docs/performance.md too"
    )
    return parser


def _kernels(options: argparse.Namespace, directory: Path) -> Iterator[Kernel]:
    """Yield the running kernel, the saved ones, and synthetic ones, each made when needed."""
    yield Kernel(f"running {short()}", Path("/"))
    for release, root in saved(directory):
        yield Kernel(f"saved {release}", root)
    for symbols in options.sizes:
        root = directory / str(symbols)
        synthetic.write_root(root, symbols)
        yield Kernel(f"synthetic {symbols:,}", root)


def _measure(kernel: Kernel, rounds: int) -> Result:
    """Measure a kernel in ``rounds`` rounds; return its figures."""
    text = kernel.root / "proc/kallsyms"
    jobs: dict[str, Callable[[], object]] = {
        "read": lambda: read(text),
        "snapshot": lambda: ksyms.snapshot(kernel.root),
        "plain": lambda: plain(text),
    }
    table = ksyms.load(ksyms.snapshot(kernel.root).image)  # warms the imports too
    times: dict[str, list[Spent]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            times[name].append(spent(job))
    peaks = memory(kernel.root)
    return Result(
        name=kernel.name,
        symbols=len(table),
        modules=sum("module" in file for file in table.facts["files"]),
        text=read(text),
        image=peaks["image"],
        resident=peaks["resident"],
        traced=peaks["traced"],
        times=times,
    )


def _report(results: list[Result], rounds: int, load: float) -> str:
    return "\n\n".join(
        [
            f"Linux {short()} on {platform.machine()}, {os.cpu_count()} CPUs, Python "
            f"{platform.python_version()}, numpy {np.__version__}, ksyms {ksyms.__version__}; "
            f"{rounds} rounds; load average {load:.1f} before; "
            f"{time.strftime('%Y-%m-%d', time.gmtime())}.",
            table(
                ["kernel", "symbols", "modules", "text, MB", "image, MB", "image / text"],
                [_size_row(result) for result in results],
            ),
            table(
                ["kernel", "what", "best, ms", "median, ms", "worst, ms", "ratio to read",
                 "best, ns a symbol", "user CPU", "system CPU"],
                [row for result in results for row in _time_rows(result)],
            ),
            table(
                ["kernel", "resident peak, MB", "ratio to image", "allocated peak, MB",
                 "ratio to image"],
                [_memory_row(result) for result in results],
            ),
        ]
    )  # fmt: skip


def _size_row(result: Result) -> list[str]:
    return [
        result.name,
        f"{result.symbols:,}",
        f"{result.modules:,}",
        f"{result.text / 1e6:.2f}",
        f"{result.image / 1e6:.2f}",
        f"{result.image / result.text:.2f}",
    ]


def _time_rows(result: Result) -> Iterator[list[str]]:
    reads = result.times["read"]
    for name, times in result.times.items():
        walls = [spent.wall for spent in times]
        ratio = statistics.median(mine.wall / read.wall for mine, read in zip(times, reads))
        least = min(times, key=lambda spent: spent.user + spent.system)
        shown = (min(walls), statistics.median(walls), max(walls))
        yield [
            result.name,
            name,
            *(f"{wall * 1e3:.1f}" for wall in shown),
            f"{ratio:.2f}",
            *(
                f"{spent / result.symbols * 1e9:.0f}"
                for spent in (min(walls), least.user, least.system)
            ),
        ]


def _memory_row(result: Result) -> list[str]:
    resident = result.resident
    return [
        result.name,
        "unknown" if resident is None else f"{resident / 1e6:.1f}",
        "unknown" if resident is None else f"{resident / result.image:.2f}",
        f"{result.traced / 1e6:.1f}",
        f"{result.traced / result.image:.2f}",
    ]


if __name__ == "__main__":
    main()
