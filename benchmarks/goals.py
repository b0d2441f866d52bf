"""Measure every goal of ksyms' speed and size, with its yardstick in the same run.

Each round runs a work and its yardstick one after the other, and gives one figure: the work's
time divided by the yardstick's (x), the work's time minus the yardstick's (above), or the
work's time alone, with the yardstick's time shown next to it. A goal is met if the median of
the figures meets it. Growth with size is measured on synthetic kernels of 200,000, 1,000,000
and 5,000,000 symbols, each compared with the one before.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

import ksyms
import serve
import synthetic
import tasks
from report import record, recorded, table
from tasks import Clock, Pair

SIZES: Final = (200_000, 1_000_000, 5_000_000)
UNCHANGED: Final = 1.2
"""The largest growth of a figure from a kernel to the next larger one, as a ratio."""
PADDED: Final = ("6.12", "6.18")
"""The versions of the measured kernels whose kallsyms has names that start with ``__pfx_``."""
UNITS: Final = {"us": 1e6, "ms": 1e3, "MB": 1e-6}
"""For each unit of the table its number in a second, or in a byte."""


class Goal(NamedTuple):
    """A row of the table: a piece of work, its yardstick, and the goal.

    - ``most``: the largest figure that meets the goal; infinite if there is no goal, and the
      row is only for comparison
    - ``unit``: of ``most``: ``x`` for a ratio, ``ms above`` for a difference, or a unit of time
    - ``pair``: the measurement, or a sentence if the yardstick is not installed
    - ``shown``: the unit of the times of work and yardstick in the table
    """

    work: str
    yardstick: str
    most: float
    unit: str
    pair: Pair | str
    shown: str = "ms"


class Size(NamedTuple):
    """A kernel's figures, by their names: the values of work and yardstick in each round."""

    name: str
    figures: dict[str, list[tuple[float, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="into docs/performance.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    begun = time.strftime("%Y-%m-%d, %H:%M UTC", time.gmtime())
    tasks.have_bytecode()
    with tempfile.TemporaryDirectory() as disk, tasks.scratch() as memory:
        rows = [row(goal, options.rounds) for goal in goals(Path(disk), memory)]
        sizes = [size(*kernel, options.rounds) for kernel in kernels(memory)]
    head = ["work", "yardstick", "goal", "best", "median", "worst", "work / yardstick took", ""]
    report = "\n\n".join(
        [
            f"### {begun}",
            f"Linux {tasks.short()} on {platform.machine()}, {os.cpu_count()} CPUs, Python "
            f"{platform.python_version()}, numpy {np.__version__}, ksyms {ksyms.__version__}; "
            f"{options.rounds} rounds; load average {load:.1f} before.",
            table(head, rows),
            table(*grown(sizes)),
        ]
    )
    print(report)
    if options.record:
        kept = recorded("goals").split("\n### ")[0].strip()
        record("goals", f"{report}\n\n{kept}" if kept else report)


def goals(disk: Path, memory: Path) -> Iterator[Goal]:
    """Yield the rows of the running kernel, and those of the saved ones' memory and size."""
    yield Goal("live snapshot", "read()", 1.15, "x", tasks.live_snapshot())
    written = tasks.snapshot_command(disk)
    yield Goal("`snapshot -o FILE`", "`cat` into a file", 150, "ms above", written)
    elf = disk / "kernel.elf"
    ksyms.snapshot().write(elf)
    symbols = tasks.known(ksyms.load(elf))
    one = int(symbols.starts[len(symbols.starts) // 2]) + 1
    from_file, live = tasks.lookup_command(elf, one), tasks.live_lookup_command(one)
    yield Goal("`lookup --from FILE ADDRESS`", "`python3 -c pass`", 3, "x", from_file)
    a_list = tasks.list_command(elf, symbols, memory)
    yield Goal("an address of `lookup -`", "dict and bisect", 4, "us", a_list, "us")
    yield Goal("`import numpy`, alone", "`cat`", math.inf, "ms above", tasks.numpy_import())
    yield Goal("`lookup ADDRESS`", "`cat`", 100, "ms above", live)
    yield from opens(disk)
    yield from lookups(elf, symbols)
    roots = [("running " + tasks.short(), Path("/"))]
    roots += [("saved " + release, root) for release, root in tasks.saved(memory)]
    for name, root in roots:
        peaks = partial(tasks.memory, root, traced=False)
        yield Goal(f"peak memory, {name}", "image", 2.5, "x", peak(peaks), "MB")
    for name, root in roots:
        most = 1.0 if name.split()[1] in PADDED else 1.15
        image, text = len(ksyms.snapshot(root).image), tasks.read(root / "proc/kallsyms")
        same = Pair(constant(image), constant(text))
        yield Goal(f"image size, {name}", "text", most, "x", same, "MB")


def opens(disk: Path) -> Iterator[Goal]:
    """Yield the rows of an open of the served device, on the server's CPU and on another.

    The CPUs are fixed, since the scheduler can run the two servers on different ones.
    """
    cpus = sorted(os.sched_getaffinity(0))
    rows = {"its opener's CPU": cpus[0], "another CPU": cpus[-1]}
    with ExitStack() as stack:
        if can := not os.geteuid() and os.access("/dev/fuse", os.W_OK) and len(cpus) > 1:
            with serve.on(cpus[0]):
                client, files = stack.enter_context(serve.places(disk))
            served, nothing = (files[of].with_name("ksyms") for of in ("served", "nothing"))
        for where, cpu in rows.items():
            pair: Pair | str = "not measured: no FUSE, not root, or one CPU"
            if can:
                pair = serve.opens(client, served, nothing, cpu)
            work = f"open of the device, unchanged, on {where}"
            yield Goal(work, "open of an idle loop's file", 1.5, "x", pair, "us")


def lookups(elf: Path, symbols: tasks.Known) -> Iterator[Goal]:
    """Yield the rows of lookups in a table, within one process."""
    first = tasks.first_answer(elf, symbols)
    yield Goal("`load` and one lookup", "open and map", 0.5, "ms", first, "us")
    warm = ksyms.load(elf)
    names = tasks.names_of(tasks.KALLSYMS)
    gc.freeze()  # so that no garbage collection meanwhile looks through the long lists
    try:
        by_bcc: Pair | str = tasks.address(warm, symbols, tasks.bcc())
    except ImportError:
        by_bcc = "not measured: no python3-bpfcc"
    yield Goal("one lookup, warm", "`BPF.ksym` of bcc", 1, "us", by_bcc, "us")
    yield Goal("one lookup, warm", "bisect", 1, "us", tasks.address(warm, symbols), "us")
    many = tasks.million(warm, symbols)
    yield Goal("a million lookups at once", "`numpy.searchsorted`", 0.3, "x", many)
    first = tasks.first_name(elf, names)
    yield Goal("first name after `load`", "dict, with its build", 10, "ms", first)
    after = tasks.names_after(elf, names)
    yield Goal("a name after that", "dict", 5, "us", after, "us")


def peak(peaks: Callable[[], dict[str, Any]]) -> Pair:
    """Return the pair of a snapshot's peak resident memory and its image's size, in bytes."""
    found: dict[str, Any] = {}

    def rise(_: Clock) -> float:
        found.update(peaks())
        return found["resident"] or math.nan

    return Pair(rise, lambda _: found["image"])


def constant(value: float) -> Callable[[Clock], float]:
    """Return a measurement that has the same ``value`` in every round."""
    return lambda _: value


def row(goal: Goal, rounds: int) -> list[str]:
    """Measure a goal, and return its row of the table."""
    print(f"measuring {goal.work} beside {goal.yardstick}", file=sys.stderr)
    unit, places = goal.unit, 2 if goal.most < 10 else 0
    first = [goal.work, goal.yardstick, f"<= {goal.most:g} {unit}"]
    if goal.most == math.inf:
        first[-1] = f"none, {unit}"
    if isinstance(goal.pair, str):
        return [*first, "", "", "", "", goal.pair]
    took = list(tasks.rounds(goal.pair, rounds))
    if unit == "x":
        figures = [work / yardstick for work, yardstick in took]
    elif unit == "ms above":
        figures = [(work - yardstick) * UNITS["ms"] for work, yardstick in took]
    else:
        figures = [work * UNITS[unit] for work, _ in took]
    median = statistics.median(figures)
    medians = [statistics.median(column) * UNITS[goal.shown] for column in zip(*took)]
    return [
        *first,
        *(f"{figure:.{places}f}" for figure in (min(figures), median, max(figures))),
        " / ".join(f"{value:.{0 if value >= 100 else 2}f}" for value in medians)
        + f" {goal.shown}",
        "" if goal.most == math.inf else "met" if median <= goal.most else "short",
    ]


def kernels(directory: Path) -> Iterator[tuple[str, Path, int]]:
    """Yield name, root and number of symbols of each kernel to compare by size.

    They are a copy of the running kernel's text, and the synthetic ones of SIZES.
    """
    root = directory / "running"
    (root / "proc").mkdir(parents=True)
    lines = tasks.KALLSYMS.read_bytes()
    (root / "proc/kallsyms").write_bytes(lines)
    yield f"running {tasks.short()}, its text copied", root, lines.count(b"\n")
    for symbols in SIZES:
        root = directory / str(symbols)
        synthetic.write_root(root, symbols)
        yield f"{symbols:,}, {synthetic.module_count(symbols):,} modules", root, symbols


def size(name: str, root: Path, symbols: int, rounds: int) -> Size:
    """Measure and return the figures of a kernel whose files are in tmpfs."""
    print(f"measuring {name}", file=sys.stderr)
    text = root / "proc/kallsyms"
    image = ksyms.snapshot(root).image
    peaks = peak(partial(tasks.memory, root, traced=False))
    figures: dict[str, list[tuple[float, float]]] = {
        "image / text": [(len(image), tasks.read(text))],
        "peak memory / image": list(tasks.rounds(peaks, 1)),
    }
    table = ksyms.load(image)
    many = tasks.million(table, tasks.known(table))
    figures["a million lookups / searchsorted"] = list(tasks.rounds(many, rounds))
    del table, many, image
    mine, plain = [], []
    for _ in range(rounds):
        mine.append(tasks.spent(partial(ksyms.snapshot, root)))
        plain.append(tasks.spent(partial(tasks.plain, text)))
    figures["snapshot / plain"] = [(a.wall, b.wall) for a, b in zip(mine, plain)]
    figures["snapshot, ns a symbol"] = [(each.wall * 1e9, symbols) for each in mine]
    figures["its user CPU, ns a symbol"] = [(each.user * 1e9, symbols) for each in mine]
    return Size(name, figures)


def grown(sizes: list[Size]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of sizes: each figure, and its growth with the size.

    A growth is the figure of a kernel divided by that of the next smaller one. Each of the two
    is the best work over the best yardstick, because disturbances only make times longer.
    """
    made = sizes[1:]  # the running kernel is not a synthetic one
    head = ["figure, median (best to worst)", *(each.name for each in sizes)]
    head += [f"{b:,} over {a:,}" for a, b in pairwise(SIZES)]
    rows = []
    for name in sizes[0].figures:
        bests = [[min(column) for column in zip(*each.figures[name])] for each in made]
        least = [work / yardstick for work, yardstick in bests]
        growths = [b / a for a, b in pairwise(least)]
        rows.append(
            [
                name,
                *(_spread(each.figures[name], 0 if least[0] >= 10 else 2) for each in sizes),
                *(f"{growth:.2f}" for growth in growths),
                "met" if max(growths) <= UNCHANGED else "short",
            ]
        )
    return [*head, f"goal: <= {UNCHANGED}"], rows


def _spread(took: list[tuple[float, float]], places: int) -> str:
    """Return the cell of a figure: its median, and the best and the worst in parentheses."""
    values = [work / yardstick for work, yardstick in took]
    shown = (statistics.median(values), min(values), max(values))
    middle, best, worst = (f"{value:.{places}f}" for value in shown)
    return middle if len(values) == 1 else f"{middle} ({best} to {worst})"


if __name__ == "__main__":
    main()
