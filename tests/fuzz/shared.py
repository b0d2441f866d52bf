"""What the fuzzers share: cases by number, workers that are watched, faults that are kept.

A case is made of a seed and its number alone, so that each can be made again, in any order. A
worker is a process that handles many; the parent ends one that hangs, and begins another.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import resource
import shutil
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, NamedTuple

import ksyms

BATCH = 100
"""Cases that a worker is given together."""
CPU_SECONDS = 20
"""Of one case, all its threads together; the usual one takes hundredths."""
BLOCKED_SECONDS = 60
"""In which a worker neither works nor waits for a processor: it waits for what never comes."""
MEMORY = 512 << 20
"""Bytes that a worker may have more than when it began, addresses that it does not use too."""
COLLECT = 20
"""Cases after which what refers to itself is given back: a file stays mapped until then."""
BEGINNING = -2
"""What a worker is at before it is ready."""
_M_ARENA_MAX = -8
KEPT = 3
"""Inputs that are kept of each kind of fault."""
EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFF1, 0xFFFE, 0xFFFF)
LARGE = tuple((1 << n) + d for n in (16, 31, 32, 40, 63, 64) for d in (-1, 0, 1))


class Fault(Exception):  # noqa: N818 # what a case found
    """What must not be; a kind is one for all that have a cause, as far as that shows."""

    def __init__(self, kind: str, words: str = "", *more: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kinds = more or (kind,)


class StuckError(BaseException):
    """A case that takes too long; nothing of what is tested catches it."""


class Case(NamedTuple):
    """An input: its files by their names; ``facts`` say what the check needs besides."""

    files: dict[str, bytes]
    facts: dict[str, Any] = {}  # noqa: RUF012 # nothing changes it


class Target(ABC):
    """What is fuzzed. ``directory`` is a worker's own, for files."""

    name: str

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def begin(self, directory: Path) -> None:
        """Get ready, in a worker."""
        self.directory = directory

    def end(self) -> None:  # noqa: B027 # most have nothing to do
        """Give back what was begun."""

    def random(self, *words: object) -> Random:
        """Chance that is the same for the same seed and words."""
        return Random(f"{self.seed}/{self.name}/" + "/".join(map(str, words)))

    @abstractmethod
    def make(self, number: int) -> Case:
        """The input of a number."""

    @abstractmethod
    def check(self, case: Case) -> None:
        """Give it to ksyms; Fault, or whatever else is raised, is a fault."""


# -- chance ---------------------------------------------------------------------------------


def number_of(random: Random, *near: int) -> int:
    """A number that readers get wrong: an edge, or one beside a number that matters there."""
    kind = random.randrange(4)
    if kind == 0 and near:
        return max(random.choice(near) + random.choice((-1, 0, 1, 8)), 0)
    if kind == 1:
        return random.choice(LARGE)
    return random.choice(EDGES) if kind == 2 else random.getrandbits(random.choice((8, 16, 64)))


def damaged(data: bytes, random: Random, other: bytes = b"") -> bytes:
    """``data`` with some of its bytes changed, cut, doubled, moved, or ``other``'s in place."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(found) + 1)
        length = random.choice((1, 1, 2, 4, 8, 16, 64, 300))
        kind = random.randrange(8)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            found[at : at + length] = random.randbytes(length)
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            to = random.randrange(len(found) + 1)
            found[to:to] = found[at : at + length]
        elif kind == 4 and other:
            begin = random.randrange(len(other))
            found[at : at + random.choice((0, length))] = other[begin : begin + length]
        elif kind == 5:
            width = random.choice((1, 2, 4, 8))
            value = number_of(random, len(found)) & ((1 << 8 * width) - 1)
            found[at : at + width] = value.to_bytes(width, random.choice(("little", "big")))
        elif kind == 6:
            found[at : at + length] = (
                bytes([random.choice((0, 10, 32, 0x5B, 0x7F, 0xFF))]) * length
            )
        elif kind == 7 and random.randrange(3) == 0:
            del found[at:]
    return bytes(found)


# -- what ksyms says ------------------------------------------------------------------------


def command(*arguments: str) -> tuple[int, bytes]:
    """The command line, in this process: its exit status and stdout.

    Refused, it must have said why in two lines, and must not have taken a mistake in the code
    for an output that cannot be written.
    """
    from ksyms._cli.main import main

    kept = sys.stdout, sys.stderr
    with (
        open(os.memfd_create("stdout"), "w+b") as out,
        open(os.memfd_create("stderr"), "w+b") as err,
    ):
        sys.stdout = open(os.dup(out.fileno()), "w", encoding="utf-8")
        sys.stderr = open(
            os.dup(err.fileno()), "w", encoding="utf-8", errors="backslashreplace"
        )
        try:
            status = main(arguments)
        except SystemExit as error:
            raise Fault("exit", f"{arguments}: {error.code}") from None
        finally:
            with sys.stdout, sys.stderr:
                pass
            sys.stdout, sys.stderr = kept
        out.seek(0)
        err.seek(0)
        said = err.read().decode()
        if "Traceback" in said or "output cannot be written" in said:
            raise Fault("command said", said[-1000:])
        told = out.read()
        # diff(1)'s 2 is what another command's 1 is; a lookup of what is not there says so.
        if status not in (0, 1, 2) or (status and not told and not said.startswith("ksyms: ")):
            raise Fault("exit", f"{arguments}: {status}, {said[-1000:]!r}")
        return status, told


def refused(error: ksyms.KsymsError) -> None:
    """Hold an error against what every error is: a sentence, another, and an errno."""
    whole = error.what.endswith(".") and error.remedy.endswith((".", ")"))
    if not whole or not isinstance(error.errno, int):
        raise Fault("error's words", repr((error.what, error.remedy, error.errno)))


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """A fault's kinds; of another exception its type, and the innermost lines of ksyms."""
    if isinstance(error, Fault):
        return error.kinds
    lines = [
        f"{frame.filename.rpartition('/ksyms/')[2]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/ksyms/_" in frame.filename
    ]
    if isinstance(error, StuckError):
        lines = lines[:3]  # where it was just then is chance
    return (f"{type(error).__name__} in {' < '.join(lines[:-3:-1])}",)


# -- workers --------------------------------------------------------------------------------


@dataclass
class Tally:
    """What a run has done; it is kept in a file, so that another can go on."""

    done: int = 0
    seconds: float = 0
    processor: float = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)

    @classmethod
    def kept(cls, path: Path) -> Tally:
        if not path.exists():
            return cls()
        found = json.loads(path.read_text())
        return cls(**{**found, "faults": Counter(found["faults"])})

    def keep(self, path: Path) -> None:
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(vars(self), indent=1))
        scratch.rename(path)


def _stuck(number: int, frame: FrameType | None) -> None:
    raise StuckError("it takes too long")


@contextmanager
def limited() -> Iterator[None]:
    """Raise StuckError where it takes :data:`CPU_SECONDS`, and again where that was caught."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(target: Target) -> None:
    # Each thread would reserve 64 MiB of addresses for itself (mallopt(3)), which count.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    os.environ["LANGUAGE"] = "C"  # argparse looks for files of each language, for each command
    for number in range(20):  # all is imported
        attempt(target, number)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(target: Target, pipe: Any, at: Any, save: Path, directory: Path) -> None:
    """Handle batches of numbers until none comes; ``at`` is where the parent sees which."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _stuck)
    directory.mkdir(parents=True, exist_ok=True)
    target.begin(directory)
    _limit_memory(target)
    gc.freeze()  # each collection would look at all that was made ready
    at.value = -1
    found: Counter[str] = Counter()
    try:
        while (numbers := pipe.recv()) is not None:
            begun, faults = time.process_time(), []
            for number in numbers:
                at.value = number
                if number % COLLECT == 0:
                    gc.collect()
                if (error := attempt(target, number)) is not None:
                    kinds = kinds_of(error)
                    found.update(kinds)
                    faults += [(kind, number) for kind in kinds]
                    if any(found[kind] <= KEPT for kind in kinds):
                        keep(target, number, error, save)
            at.value = -1
            pipe.send((faults, time.process_time() - begun))
    finally:
        target.end()
        shutil.rmtree(directory)


def attempt(target: Target, number: int) -> BaseException | None:
    """One case; what was raised."""
    try:
        with limited():
            target.check(target.make(number))
    except (Exception, StuckError) as error:
        return error
    return None


def keep(target: Target, number: int, error: BaseException, save: Path) -> Path:
    """Save an input, and what it did."""
    place = save / f"{target.name}-{target.seed}-{number}"
    case = target.make(number)
    for name, data in case.files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    words = "".join(traceback.format_exception(error))
    place.mkdir(parents=True, exist_ok=True)
    said = "\n".join([*kinds_of(error), "", str(case.facts), "", words])
    (place / "FAULT").write_text(said, errors="replace")
    return place


class _Worker:
    """A worker process, what it works at, and when it was last seen to get on."""

    def __init__(self, target: Target, save: Path, directory: Path) -> None:
        context = multiprocessing.get_context("fork")
        self.directory = directory
        self.at = context.Value("q", BEGINNING, lock=False)
        self.pipe, theirs = context.Pipe()
        arguments = (target, theirs, self.at, save, directory)
        self.process = context.Process(target=_work, args=arguments, daemon=False)
        self.process.start()
        theirs.close()
        self.numbers = range(0)
        self._number, self._begun = BEGINNING, 0.0
        self._used, self._since = 0.0, time.monotonic()

    def give(self, numbers: range) -> None:
        self.numbers = numbers
        self.pipe.send(numbers)

    def hangs(self) -> str:
        """Why it has to be ended; nothing where it gets on, or waits for a processor."""
        states, used = _seen(self.process.pid)
        if self.at.value != self._number or self.at.value < 0:
            self._number, self._begun = self.at.value, used
        elif used - self._begun > 3 * CPU_SECONDS:
            return "hang: it works and cannot be interrupted"
        elif used == self._used and "R" not in states:
            waited = time.monotonic() - self._since > BLOCKED_SECONDS
            return "hang: it waits for what never comes" if waited else ""
        self._used, self._since = used, time.monotonic()
        return ""

    def end(self, kill: bool = True) -> None:
        if kill or not self.process.is_alive():
            self.process.kill()
        else:
            self.pipe.send(None)
        self.process.join()
        self.pipe.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def _seen(process: int | None) -> tuple[str, float]:
    """The states of a process's threads, and the seconds of CPU time that they had."""
    states, ticks = "", 0
    for stat in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            states += fields[0]
            ticks += int(fields[11]) + int(fields[12])
    return states, ticks / os.sysconf("SC_CLK_TCK")


class _Run:
    """A run: batches to workers, until the count or the time is over."""

    def __init__(self, target: Target, options: argparse.Namespace) -> None:
        self._target, self._options = target, options
        self._save = Path(options.save)
        self._save.mkdir(parents=True, exist_ok=True)
        self._file = self._save / f"{target.name}-{target.seed}.json"
        self.tally = Tally.kept(self._file)
        self._workers: list[_Worker] = []
        self._stop = False
        todo = range(self.tally.done, options.count, BATCH)
        self._fresh = (range(at, min(at + BATCH, options.count)) for at in todo)
        self._again: list[range] = []
        self._begun = time.monotonic()
        self._before = self.tally.seconds
        self._told = 0.0

    def run(self) -> Tally:
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            self._workers = [self._worker(n) for n in range(self._options.processes)]
            busy = [worker for worker in self._workers if self._next(worker)]
            while busy:
                ready = multiprocessing.connection.wait([w.pipe for w in busy], 1)
                for worker in [w for w in busy if w.pipe in ready]:
                    if not self._took(worker) or not self._next(worker):
                        busy.remove(worker)
                for worker, why in [(w, why) for w in busy if (why := w.hangs())]:
                    busy.remove(worker)
                    busy += self._replaced(worker, why)
                for worker in [w for w in self._workers if w not in busy and w.numbers]:
                    busy += self._replaced(worker, "the process ended")
                self._tell()
        finally:
            for worker in self._workers:
                worker.end(kill=bool(worker.numbers))
            signal.signal(signal.SIGINT, before)
            self._tell(True)
        return self.tally

    def _worker(self, number: int) -> _Worker:
        place = Path(self._options.scratch) / f"fuzz-{os.getpid()}-{number}"
        return _Worker(self._target, self._save, place)

    def _next(self, worker: _Worker) -> bool:
        """Give a worker the next batch; false where there is none."""
        worker.numbers = range(0)
        over = time.monotonic() - self._begun > self._options.seconds
        numbers = None if self._stop or over else next(chain(self._again, self._fresh), None)
        if numbers is None:
            return False
        if numbers in self._again:
            self._again.remove(numbers)
        worker.give(numbers)
        return True

    def _took(self, worker: _Worker) -> bool:
        """Take what a worker found; false where it has ended."""
        try:
            faults, used = worker.pipe.recv()
        except (EOFError, OSError):
            return False
        for kind, number in faults:
            self._add(kind, number)
        self.tally.done += len(worker.numbers)
        self.tally.processor += used
        return True

    def _replaced(self, worker: _Worker, why: str) -> list[_Worker]:
        """End a worker, keep what it was at, and have another do the rest of its batch."""
        if worker.at.value == BEGINNING:
            raise SystemExit("a worker ended before it began")
        number = max(worker.at.value, worker.numbers.start)
        status = worker.process.exitcode
        worker.end()
        error = Fault(why, f"case {number}, status {status}")
        self._add(why, number)
        keep(self._target, number, error, self._save)
        # What it found in its batch before has not come: the batch is done again without it.
        self.tally.done += number + 1 - worker.numbers.start
        if number + 1 < worker.numbers.stop:
            self._again.append(range(number + 1, worker.numbers.stop))
        place = self._workers.index(worker)
        self._workers[place] = self._worker(place)
        return [self._workers[place]] if self._next(self._workers[place]) else []

    def _add(self, kind: str, number: int) -> None:
        self.tally.faults[kind] += 1
        self.tally.first[kind] = min(number, self.tally.first.get(kind, number))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _tell(self, last: bool = False) -> None:
        now = time.monotonic()
        self.tally.seconds = self._before + now - self._begun
        if not last and now - self._told < 5:
            return
        self._told = now
        self.tally.keep(self._file)
        words = f"{self.tally.done} of {self._options.count}, {self.tally.seconds:.0f} s"
        print(
            f"{self._target.name}: {words}, faults: {self.tally.faults.total()}",
            file=sys.stderr,
        )


def row(target: Target, tally: Tally) -> str:
    """The row of docs/fuzzing.md."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    faults = f"{tally.faults.total()} of {len(tally.faults)} kinds" if tally.faults else "0"
    return (
        f"| {day} | {platform.release()} | {target.name} | {target.seed} | {tally.done:,} "
        f"| {tally.seconds:.0f} s, {tally.processor:.0f} s of CPU | {faults} |"
    )


def program(kind: type[Target], arguments: list[str] | None = None) -> int:
    """The command: run, tell, and 1 where there were faults."""
    parser = argparse.ArgumentParser(description=sys.modules[kind.__module__].__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="cases in all")
    parser.add_argument(
        "--seed", type=int, help="chance, else; one and the same gives the same"
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="no longer than this"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--save",
        default="fuzzed",
        help="where inputs that fail go, and how far it is; a run with the same seed goes on",
    )
    parser.add_argument(
        "--scratch", default="/dev/shm", help="where files are made for a moment"
    )
    parser.add_argument("--only", type=int, metavar="N", help="case N alone, in this process")
    options = parser.parse_args(arguments)
    seed = Random().getrandbits(32) if options.seed is None else options.seed
    print(f"{kind.name}: seed {seed}", file=sys.stderr)
    target = kind(seed)
    if options.only is not None:
        return _only(target, options)
    tally = _Run(target, options).run()
    for fault, count in tally.faults.most_common():
        print(f"{count:8} {fault}; the first is case {tally.first[fault]}")
    print(row(target, tally))
    return 1 if tally.faults else 0


def _only(target: Target, options: argparse.Namespace) -> int:
    """Do one case again, and say what it does."""
    signal.signal(signal.SIGPROF, _stuck)
    place = Path(options.scratch) / f"fuzz-{os.getpid()}"
    place.mkdir()
    target.begin(place)
    try:
        error = attempt(target, options.only)
    finally:
        target.end()
        shutil.rmtree(place)
    if error is not None:
        traceback.print_exception(error)
        print(keep(target, options.only, error, Path(options.save)))
    return 0 if error is None else 1
