"""Opens of served files while modules come and go, each judged by what others saw."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from churn import (
    MODULES,
    PROCESSES,
    Names,
    module_names,
    modules_of,
    settled_lists,
    start,
    torn,
    undisturbed,
)

OPENERS = 10
"""At once, of one file: those who ask while a snapshot is taken share it if nothing moved."""
PAUSE = 8.0
"""By how much the longest pause of a process is longer than a snapshot while nothing moves.

Four processes make several changes during a snapshot then, on a slow machine as on a quick one,
and leave enough time between two for one of its tries to read the text.
"""
LOG = Path("/run/churn.log")
IMAGES = Path("/run/images")
"""A file for each image that was judged, named by its digest."""


class Open(NamedTuple):
    """One that was given, begun and answered at these seconds.

    ``loaded`` is where /proc/modules had each module right before, ``found`` where the image
    has it; ``wrong`` what is torn, for the first who met the image.
    """

    file: str
    begun: float
    answered: float
    refused: int
    digest: str
    loaded: dict[str, str]
    found: dict[str, str]
    wrong: list[str]


def under_churn(files: Sequence[str], count: int) -> dict[str, Any]:
    """What ``count`` opens of each of ``files`` gave, one file after the other."""
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    lists = settled_lists()
    IMAGES.mkdir()
    quiet = min(undisturbed() for _ in range(2))
    churners = [start(number, PAUSE * quiet, LOG) for number in range(PROCESSES)]
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(OPENERS, context) as pool:
            asked = [file for file in files for _ in range(count)]
            opens = list(pool.map(partial(one_open, lists), asked))
    finally:
        for pid in churners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    earlier, judged = other_moments(opens)
    return {
        "quiet": round(quiet, 2),
        "given": Counter(one.file for one in opens),
        "refused": sum(one.refused for one in opens),
        "images": len({one.digest for one in opens}),
        "torn": [word for one in opens for word in one.wrong],
        "of another moment": earlier,
        "judged": judged,
        "changes": sum(map(len, changed().values())),
    }


def one_open(lists: dict[str, Names], file: str) -> Open:
    """Open and read ``file``; again where it is refused, since all three tries moved."""
    refused = 0
    while True:
        begun, loaded = time.monotonic(), addresses()
        try:
            with open(file, "rb", buffering=0) as opened:
                answered = time.monotonic()
                image = b"".join(iter(partial(opened.read, 1 << 20), b""))
        except OSError as error:
            assert error.errno == 6, error  # ENXIO
            refused += 1
            continue
        modules = modules_of(image)
        found = {name: module["address"] for name, module in modules.items()}
        digest = hashlib.blake2b(image, digest_size=16).hexdigest()
        wrong = torn(module_names(image), lists, modules) if is_new(digest) else []
        return Open(file, begun, answered, refused, digest, loaded, found, wrong)


def is_new(digest: str) -> bool:
    try:
        (IMAGES / digest).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def addresses() -> dict[str, str]:
    """Where each module is that is loaded."""
    rows = map(str.split, Path("/proc/modules").read_text().splitlines())
    return {row[0]: hex(int(row[5], 16)) for row in rows}


def other_moments(opens: list[Open]) -> tuple[list[str], int]:
    """What an image has of a module, and /proc/modules has not, where nobody touched that
    module from before the open to its answer; and how many were judged so."""
    changes = changed()
    wrong, judged = [], 0
    for one in opens:
        for module in MODULES:
            if any(a < one.answered and b > one.begun for a, b in changes[module]):
                continue
            judged += 1
            expected, found = one.loaded.get(module), one.found.get(module)
            if expected != found:
                wrong.append(f"{one.file}: {module} at {found} and not at {expected}")
    return wrong, judged


def changed() -> dict[str, list[tuple[float, float]]]:
    """From when to when each module was being loaded or unloaded."""
    found = defaultdict(list)
    begun: dict[str, float] = {}
    for line in LOG.read_text().splitlines():
        seconds, module, what = line.split()
        if what == "begin":
            begun[module] = float(seconds)
        else:
            found[module].append((begun.pop(module), float(seconds)))
    for module, last in begun.items():
        found[module].append((last, float("inf")))
    return found
