"""What is measured: each work, and the yardstick that it is held against.

A :class:`Pair` has both as calls, which give what one of it took: seconds by the clock they
are given, or bytes. Who measures calls them in turn, round after round (:func:`rounds`), and
takes the ratio within a round: the machine's speed changes from one to the next.
"""

from __future__ import annotations

import compileall
import json
import mmap
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

import ksyms

U64 = npt.NDArray[np.uint64]

HERE: Final = Path(__file__).resolve().parent
FIXTURES: Final = HERE.parent / "tests" / "fixtures"
KSYMS: Final = Path(sys.executable).parent / "ksyms"
KALLSYMS: Final = Path("/proc/kallsyms")
READ: Final = 1 << 18
"""Bytes asked of each os.read(); /proc gives a page at most."""
LOADS: Final = 50
SINGLE: Final = 20_000
LORESERVE: Final = 0xFF00
"""ELF's first section number that is none (SHN_LORESERVE)."""
MANY: Final = 1_000_000
LIST: Final = 200_000
"""Addresses of a list that a process of its own looks up."""
NAMES: Final = 1_000
SEED: Final = 9
DEBIAN: Final = "/usr/lib/python3/dist-packages"
"""Where python3-bpfcc is."""


LOOP: Final = """
import sys
from bisect import bisect_right
starts, rows = [], []
for line in open(sys.argv[1]):
    address, letter, size, name, section = line.split()
    starts.append(int(address, 16))
    rows.append((letter, int(size), name, section))
for line in sys.stdin:
    address = int(line, 16)
    at = bisect_right(starts, address) - 1
    letter, size, name, section = rows[at]
    place = f"{name}+{address - starts[at]:#x}/{size:#x}"
    print(f"{address:016x}  {letter}  {size:>8}  {place:48}  {section}")
"""
"""What one would write first for a list of addresses, of rows by address in a file."""

Clock = Callable[[], float]


class Pair(NamedTuple):
    """A work and its yardstick."""

    work: Callable[[Clock], float]
    yardstick: Callable[[Clock], float]


class Spent(NamedTuple):
    """Seconds that passed, and seconds of all CPUs together, in the program and the kernel."""

    wall: float
    user: float
    system: float


class Known(NamedTuple):
    """An image's symbols that have a size: addresses ascending, sizes (uint64), numbers."""

    starts: U64
    sizes: U64
    numbers: npt.NDArray[np.int64]


def rounds(
    pair: Pair, count: int, clock: Clock = time.perf_counter
) -> Iterator[tuple[float, float]]:
    """What work and yardstick took in each of ``count`` rounds."""
    for _ in range(count):
        yield pair.work(clock), pair.yardstick(clock)


def cpu() -> float:
    """The seconds of all CPUs that this process and its ended children have had."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent(job: Callable[[], object]) -> Spent:
    """What a call took; its result is given back on nobody's time."""
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    result = job()
    after = resource.getrusage(resource.RUSAGE_SELF)
    took = Spent(
        time.perf_counter() - wall,
        after.ru_utime - before.ru_utime,
        after.ru_stime - before.ru_stime,
    )
    del result
    return took


def seconds(job: Callable[[], object], clock: Clock) -> float:
    """What a call took; its result is given back on nobody's time."""
    begun = clock()
    result = job()
    took = clock() - begun
    del result
    return took


def each(call: Callable[[Any], object], asked: list[Any], clock: Clock) -> float:
    """What one of ``asked`` took."""
    begun = clock()
    for value in asked:
        call(value)
    return (clock() - begun) / len(asked)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the kernels' files, in memory where there is a place for that."""
    shm = Path("/dev/shm")
    place = shm if shm.is_dir() and os.access(shm, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ksyms-benchmark.", dir=place) as directory:
        yield Path(directory)


def saved(directory: Path) -> Iterator[tuple[str, Path]]:
    """The version and the root of each saved kernel, unpacked into ``directory``."""
    for archive in sorted(FIXTURES.glob("*.tar.gz")):
        root = directory / archive.name
        with tarfile.open(archive) as files:
            files.extractall(root, filter="data")
        yield short(archive.name), root


def short(release: str | None = None) -> str:
    """The two numbers that a release begins with, of the running kernel if none is given."""
    match = re.match(r"[0-9]+\.[0-9]+", release or platform.release())
    return match[0] if match else release or "kernel"


def read(path: Path) -> int:
    """Read a file to its end; gives its length in bytes."""
    length = 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while part := os.read(fd, READ):
            length += len(part)
    finally:
        os.close(fd)
    return length


def plain(path: Path) -> list[tuple[int, str, str, str | None]]:
    """What one would write first: address, letter, name and module of each line."""
    symbols = []
    with open(path) as text:
        for line in text:
            address, letter, name, *module = line.split()
            symbols.append((int(address, 16), letter, name, module[0] if module else None))
    return symbols


def memory(root: Path, traced: bool = True) -> dict[str, Any]:
    """What memory.py says of a snapshot of ``root``; ``traced`` takes a second one."""
    command = [sys.executable, str(HERE / "memory.py"), str(root)]
    if not traced:
        command.append("--resident")
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    facts: dict[str, Any] = json.loads(run.stdout)
    return facts


def live_snapshot() -> Pair:
    """A snapshot of the running kernel; the bare read of its text."""
    ksyms.snapshot()  # for its imports
    return Pair(partial(seconds, ksyms.snapshot), partial(seconds, partial(read, KALLSYMS)))


def have_bytecode() -> None:
    """Compile the package, as an installed one is: a process starts in half the time."""
    compileall.compile_dir(Path(ksyms.__file__).parent, quiet=1)


def process(
    *command: str | Path, out: Path | None = None, into: Path | None = None
) -> Callable[[Clock], float]:
    """What a whole process takes that reads ``into`` and writes ``out``, or nothing."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run() -> None:
        with open(out or os.devnull, "wb") as file, open(into or os.devnull, "rb") as given:
            subprocess.run(command, stdin=given, stdout=file, check=True, env=environment)

    return partial(seconds, run)


def snapshot_command(directory: Path) -> Pair:
    """``ksyms snapshot -o FILE``; ``cat /proc/kallsyms > FILE``."""
    return Pair(
        process(KSYMS, "snapshot", "-o", directory / "written.elf"),
        process("cat", KALLSYMS, out=directory / "written.txt"),
    )


def lookup_command(elf: Path, address: int) -> Pair:
    """``ksyms lookup --from FILE ADDRESS``; ``python3 -c pass``."""
    return Pair(
        process(KSYMS, "lookup", "--from", elf, f"{address:#x}"),
        process(sys.executable, "-c", "pass"),
    )


def list_command(elf: Path, symbols: Known, directory: Path) -> Pair:
    """An address of a list that ``ksyms lookup --from FILE -`` looks up; a loop in Python does.

    Both with the start of their processes; the loop prints the same but for the alignment.
    """
    table = ksyms.load(elf)
    asked, rows = directory / "addresses", directory / "rows"
    # Of places within symbols some begin again: those are of the symbols inside.
    found = drawn(symbols, 2 * LIST, np.random.default_rng(SEED))
    found = found[table.numbers(found) > 0][:LIST]
    asked.write_text("".join(f"{address:#x}\n" for address in found.tolist()))
    with rows.open("w", encoding="utf-8", errors="surrogateescape") as out:
        for symbol in (table.numbered(number) for number in symbols.numbers.tolist()):
            told = (symbol.letter, symbol.size, symbol.name, symbol.section)
            print(f"{symbol.address:016x}", *told, file=out)
    work = process(KSYMS, "lookup", "--from", elf, "-", into=asked)
    loop = process(sys.executable, "-c", LOOP, rows, into=asked)
    return Pair(lambda clock: work(clock) / LIST, lambda clock: loop(clock) / LIST)


def live_lookup_command(address: int) -> Pair:
    """``ksyms lookup ADDRESS``; ``cat /proc/kallsyms > /dev/null``."""
    return Pair(process(KSYMS, "lookup", f"{address:#x}"), process("cat", KALLSYMS))


def numpy_import() -> Pair:
    """What every snapshot of a fresh process must do first; the same yardstick."""
    return Pair(process(sys.executable, "-c", "import numpy"), process("cat", KALLSYMS))


def known(table: ksyms.SymbolTable) -> Known:
    """The symbols of ``table`` that addresses are drawn from."""
    rows = table.rows
    placed = (rows["st_shndx"] > 0) & (rows["st_shndx"] < LORESERVE) & (rows["st_size"] > 0)
    numbers = np.flatnonzero(placed)
    numbers = numbers[np.argsort(rows["st_value"][numbers], kind="stable")]
    return Known(rows["st_value"][numbers], rows["st_size"][numbers], numbers)


def drawn(symbols: Known, count: int, draw: np.random.Generator) -> U64:
    """Addresses at random within symbols at random."""
    which = draw.integers(0, len(symbols.starts), count)
    inside = (draw.random(count) * symbols.sizes[which]).astype(np.uint64)
    return symbols.starts[which] + inside


def first_answer(elf: Path, symbols: Known) -> Pair:
    """``ksyms.load`` and one lookup; the file opened and mapped."""
    draw = np.random.default_rng(SEED)
    return Pair(
        lambda clock: each(
            lambda a: ksyms.load(elf).lookup(a), drawn(symbols, LOADS, draw).tolist(), clock
        ),
        lambda clock: each(_mapped, [elf] * LOADS, clock),
    )


def _mapped(path: Path) -> int:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[0]


def address(
    table: ksyms.SymbolTable, symbols: Known, other: Callable[[int], object] | None = None
) -> Pair:
    """One lookup in a table that every symbol was asked of; the ``other``'s, or by bisection.

    Each is asked the same addresses.
    """
    starts = symbols.starts.tolist()
    names, _, _ = table.briefly(symbols.numbers)
    other = other or (lambda value: names[bisect_right(starts, value) - 1])
    mine, theirs = np.random.default_rng(SEED), np.random.default_rng(SEED)
    each(table.lookup, starts, time.perf_counter)
    return Pair(
        lambda clock: each(table.lookup, drawn(symbols, SINGLE, mine).tolist(), clock),
        lambda clock: each(other, drawn(symbols, SINGLE, theirs).tolist(), clock),
    )


def million(table: ksyms.SymbolTable, symbols: Known) -> Pair:
    """A million addresses at once; numpy.searchsorted alone."""
    mine, theirs = np.random.default_rng(SEED), np.random.default_rng(SEED)
    table.locate(drawn(symbols, MANY, np.random.default_rng(SEED)))
    return Pair(
        lambda clock: each(table.locate, [drawn(symbols, MANY, mine)], clock),
        lambda clock: each(
            lambda a: symbols.starts.searchsorted(a, "right"),
            [drawn(symbols, MANY, theirs)],
            clock,
        ),
    )


def first_name(elf: Path, names: list[str]) -> Pair:
    """The first name asked of a table that was just loaded; of a dict, with its making."""
    draw = random.Random(SEED)

    return Pair(
        lambda clock: each(ksyms.load(elf).find, [draw.choice(names)], clock),
        lambda clock: each(lambda name: _by_name(names)[name], [draw.choice(names)], clock),
    )


def names_after(elf: Path, names: list[str]) -> Pair:
    """Each of a thousand names after the first, none twice; the dict asked."""
    return _after(elf, names, sorted(set(names)))


def no_names_after(elf: Path, names: list[str]) -> Pair:
    """The same of names that are not there."""
    absent = {f"{name[:-1]}~" for name in names} - set(names)
    return _after(elf, names, sorted(absent))


def _after(elf: Path, names: list[str], asked: list[str]) -> Pair:
    draw, by_name = random.Random(SEED), _by_name(names)

    def by_table(clock: Clock) -> float:
        table = ksyms.load(elf)
        table.find(names[0])
        return each(table.find, draw.sample(asked, NAMES), clock)

    return Pair(by_table, lambda clock: each(by_name.get, draw.sample(asked, NAMES), clock))


def _by_name(names: list[str]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, []).append(number)
    return numbers


def names_of(text: Path) -> list[str]:
    """The names of a kallsyms text, a line each."""
    with open(text) as lines:
        return [line.split(maxsplit=3)[2] for line in lines]


def bcc() -> Callable[[int], bytes]:
    """What bcc resolves an address of the running kernel by.

    Raises:
        ImportError: Debian's python3-bpfcc is not there.
    """
    sys.path.append(DEBIAN)
    try:
        from bcc import BPF
    finally:
        sys.path.remove(DEBIAN)
    resolve: Callable[[int], bytes] = BPF.ksym
    return resolve
