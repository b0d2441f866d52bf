"""Measure the time of a lookup, compared with the simplest code that gives the same answer.

The running kernel and two synthetic ones are measured, each in its own process with everything
imported. Each round runs these tasks and their comparisons one after the other:

task              ksyms                               compared with
first address     load() and one lookup()             opening and mapping the file
address           20,000 lookup(), after one of       a bisection of lists of addresses and
                  each symbol                         names; on the running kernel also bcc's
                                                      BPF.ksym()
million           locate() of a million addresses     numpy.searchsorted() alone
first name        the first find() of a table         making a dict of all names, and one get
name              1,000 find() after that, each of    1,000 gets from the dict
                  another name
no name           1,000 find() of missing names       1,000 gets from the dict

Addresses are at random offsets of symbols drawn at random. A ratio is of two times of one
round.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

import ksyms
import synthetic
import tasks
from report import record, table

SIZES: Final = (1_000_000, 5_000_000)
HEAD: Final = (
    *("kernel", "task", "best, us", "worst, us", "beside", "best, us", "worst, us"),
    *("ratio, best", "median", "worst"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep it in performance.md")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, elf, text in kernels(Path(scratch)):
            asked = map(str, (elf, text, options.rounds))
            command = [sys.executable, __file__, "measure", *asked]
            for row in json.loads(subprocess.check_output(command)):
                rows.append([name, *row])
    first = (
        f"Linux {tasks.short()} on {platform.machine()}, {os.cpu_count()} CPUs, Python "
        f"{platform.python_version()}, numpy {np.__version__}; {options.rounds} rounds; "
        f"{time.strftime('%Y-%m-%d')}. Times are of one load, one answer, or a million."
    )
    report = f"{first}\n\n{table(list(HEAD), rows)}"
    print(report)
    if options.record:
        record("looked", report)


def kernels(scratch: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, the image and the kallsyms of each kernel."""
    elf = scratch / "kernel.elf"
    ksyms.snapshot().write(elf)
    yield f"running {tasks.short()}", elf, tasks.KALLSYMS
    for size in SIZES:
        root = scratch / str(size)
        synthetic.write_root(root, size)
        # In another process, so that this one stays small.
        code = "import sys, ksyms; ksyms.snapshot(sys.argv[1]).write(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, root, elf], check=True)
        yield f"synthetic {size:,}", elf, root / "proc/kallsyms"


def measure(elf: Path, text: Path, rounds: int) -> Iterator[list[str]]:
    """Yield a row for each task and its comparison; ``text`` is the kallsyms of ``elf``."""
    symbols, names = tasks.known(ksyms.load(elf)), tasks.names_of(text)
    warm = ksyms.load(elf)
    gc.freeze()  # so that no garbage collection meanwhile looks through the long lists
    pairs = [
        ("first address", "open and map", tasks.first_answer(elf, symbols)),
        ("address", "bisect", tasks.address(warm, symbols)),
        ("million", "searchsorted", tasks.million(warm, symbols)),
        ("first name", "dict, with its build", tasks.first_name(elf, names)),
        ("name", "dict", tasks.names_after(elf, names)),
        ("no name", "dict", tasks.no_names_after(elf, names)),
    ]
    if text == tasks.KALLSYMS:
        try:
            pairs.insert(2, ("address", "bcc", tasks.address(warm, symbols, tasks.bcc())))
        except ImportError:
            print("python3-bpfcc is not here: no row beside bcc", file=sys.stderr)
    for task, beside, pair in pairs:
        took = list(tasks.rounds(pair, rounds))
        ratios = [work / yardstick for work, yardstick in took]
        spans = [f"{f(c) * 1e6:,.2f}" for c in zip(*took) for f in (min, max)]
        shown = [f"{f(ratios):.2f}" for f in (min, statistics.median, max)]
        yield [task, *spans[:2], beside, *spans[2:], *shown]


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        elf, text, rounds = sys.argv[2:]
        print(json.dumps(list(measure(Path(elf), Path(text), int(rounds)))))
    else:
        main()
