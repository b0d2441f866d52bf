"""The measured pieces of work, each with the yardstick that it is compared with.

A :class:`Pair` has both as calls that return a measured value: seconds by the given clock, or
bytes. :func:`rounds` calls them in turn, round after round. A ratio is of two values of one
round, because the machine's speed changes from one round to the next::

    round 1    work 12 ms    yardstick 10 ms    ratio 1.2
    round 2    work 24 ms    yardstick 20 ms    ratio 1.2
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
"""The bytes that each os.read() asks for; /proc returns at most a page."""
LOADS: Final = 50
"""The number of loads in a round of :func:`first_answer`."""
SINGLE: Final = 20_000
"""The number of single lookups in a round of :func:`address`."""
LORESERVE: Final = 0xFF00
"""SHN_LORESERVE: the lowest ``st_shndx`` that is not a section number."""
MANY: Final = 1_000_000
"""The number of addresses in a round of :func:`million`."""
LIST: Final = 200_000
"""The number of addresses in the list that a separate process looks up."""
NAMES: Final = 1_000
"""The number of names in a round of :func:`names_after`."""
SEED: Final = 9
"""The seed of all random choices: work and yardstick get the same."""
DEBIAN: Final = "/usr/lib/python3/dist-packages"
"""The directory in which Debian installs python3-bpfcc."""


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
"""The simplest script that looks up a list of addresses in a file of symbols."""

Clock = Callable[[], float]
"""A function that returns the time in seconds, such as time.perf_counter."""


class Pair(NamedTuple):
    """A piece of work and its yardstick, as calls that return the measured value."""

    work: Callable[[Clock], float]
    yardstick: Callable[[Clock], float]


class Spent(NamedTuple):
    """Seconds of elapsed time, and of CPU time of all threads, in user mode and the kernel."""

    wall: float
    user: float
    system: float


class Known(NamedTuple):
    """The symbols of an image that have a size, by address.

    ``starts`` has their addresses and ``sizes`` their sizes in bytes (uint64); ``numbers`` has
    their indices in the symbol table.
    """

    starts: U64
    sizes: U64
    numbers: npt.NDArray[np.int64]


def rounds(
    pair: Pair, count: int, clock: Clock = time.perf_counter
) -> Iterator[tuple[float, float]]:
    """Yield the measured values of work and yardstick in each of ``count`` rounds."""
    for _ in range(count):
        yield pair.work(clock), pair.yardstick(clock)


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent(job: Callable[[], object]) -> Spent:
    """Return the time of a call, without the time to free its result."""
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
    """Return the seconds of a call by ``clock``, without the time to free its result."""
    begun = clock()
    result = job()
    took = clock() - begun
    del result
    return took


def each(call: Callable[[Any], object], asked: list[Any], clock: Clock) -> float:
    """Return the mean seconds of ``call`` with each of the arguments ``asked``."""
    begun = clock()
    for value in asked:
        call(value)
    return (clock() - begun) / len(asked)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory for the kernels' files, in /dev/shm if it can be written to."""
    shm = Path("/dev/shm")
    place = shm if shm.is_dir() and os.access(shm, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ksyms-benchmark.", dir=place) as directory:
        yield Path(directory)


def saved(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the version and the root of each saved kernel, unpacked into ``directory``."""
    for archive in sorted(FIXTURES.glob("*.tar.gz")):
        root = directory / archive.name
        with tarfile.open(archive) as files:
            # Python has this filter since 3.11.4.
            files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            files.extractall(root)
        yield short(archive.name), root


def short(release: str | None = None) -> str:
    """Return the first two numbers of a release, such as 6.12; by default the running one's."""
    match = re.match(r"[0-9]+\.[0-9]+", release or platform.release())
    return match[0] if match else release or "kernel"


def read(path: Path) -> int:
    """Read a file to its end; return its length in bytes."""
    length = 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while part := os.read(fd, READ):
            length += len(part)
    finally:
        os.close(fd)
    return length


def plain(path: Path) -> list[tuple[int, str, str, str | None]]:
    """Return address, letter, name and module of each line of a kallsyms text.

    This is the simplest code that reads such a text, as a yardstick.
    """
    symbols = []
    with open(path) as text:
        for line in text:
            address, letter, name, *module = line.split()
            symbols.append((int(address, 16), letter, name, module[0] if module else None))
    return symbols


def memory(root: Path, traced: bool = True) -> dict[str, Any]:
    """Return the figures of memory.py for a snapshot of ``root``.

    The figure ``traced`` takes a second snapshot, and is measured only if ``traced`` is True.
    """
    command = [sys.executable, str(HERE / "memory.py"), str(root)]
    if not traced:
        command.append("--resident")
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    facts: dict[str, Any] = json.loads(run.stdout)
    return facts


def live_snapshot() -> Pair:
    """Compare a snapshot of the running kernel with a bare read of its text."""
    ksyms.snapshot()  # for its imports
    return Pair(partial(seconds, ksyms.snapshot), partial(seconds, partial(read, KALLSYMS)))


def have_bytecode() -> None:
    """Compile the package as an installer does. A process then starts in half the time."""
    compileall.compile_dir(Path(ksyms.__file__).parent, quiet=1)


def process(
    *command: str | Path, out: Path | None = None, into: Path | None = None
) -> Callable[[Clock], float]:
    """Return a call that runs ``command`` as a process, and returns its seconds.

    The process reads the file ``into`` and writes the file ``out``, each /dev/null if None.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run() -> None:
        with open(out or os.devnull, "wb") as file, open(into or os.devnull, "rb") as given:
            subprocess.run(command, stdin=given, stdout=file, check=True, env=environment)

    return partial(seconds, run)


def snapshot_command(directory: Path) -> Pair:
    """Compare ``ksyms snapshot -o FILE`` with ``cat /proc/kallsyms > FILE``."""
    return Pair(
        process(KSYMS, "snapshot", "-o", directory / "written.elf"),
        process("cat", KALLSYMS, out=directory / "written.txt"),
    )


def lookup_command(elf: Path, address: int) -> Pair:
    """Compare ``ksyms lookup --from FILE ADDRESS`` with ``python3 -c pass``."""
    return Pair(
        process(KSYMS, "lookup", "--from", elf, f"{address:#x}"),
        process(sys.executable, "-c", "pass"),
    )


def list_command(elf: Path, symbols: Known, directory: Path) -> Pair:
    """Compare ``ksyms lookup --from FILE -`` with a loop in Python, for one address of a list.

    Both times include the start of the process. The loop prints the same text with another
    alignment.
    """
    table = ksyms.load(elf)
    asked, rows = directory / "addresses", directory / "rows"
    # Leave out the addresses for which the table finds no symbol: another symbol that starts
    # within the drawn one can end before them.
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
    """Compare ``ksyms lookup ADDRESS`` with ``cat /proc/kallsyms > /dev/null``."""
    return Pair(process(KSYMS, "lookup", f"{address:#x}"), process("cat", KALLSYMS))


def numpy_import() -> Pair:
    """Compare an import of numpy, which each new process needs first, with ``cat``."""
    return Pair(process(sys.executable, "-c", "import numpy"), process("cat", KALLSYMS))


def known(table: ksyms.SymbolTable) -> Known:
    """Return the symbols of ``table`` from which addresses are drawn."""
    rows = table.rows
    placed = (rows["st_shndx"] > 0) & (rows["st_shndx"] < LORESERVE) & (rows["st_size"] > 0)
    numbers = np.flatnonzero(placed)
    numbers = numbers[np.argsort(rows["st_value"][numbers], kind="stable")]
    return Known(rows["st_value"][numbers], rows["st_size"][numbers], numbers)


def drawn(symbols: Known, count: int, draw: np.random.Generator) -> U64:
    """Return addresses (uint64) at random offsets of symbols drawn at random."""
    which = draw.integers(0, len(symbols.starts), count)
    inside = (draw.random(count) * symbols.sizes[which]).astype(np.uint64)
    return symbols.starts[which] + inside


def first_answer(elf: Path, symbols: Known) -> Pair:
    """Compare ``ksyms.load`` and one lookup with opening and mapping the file."""
    draw = np.random.default_rng(SEED)
    return Pair(
        lambda clock: each(
            lambda a: ksyms.load(elf).lookup(a), drawn(symbols, LOADS, draw).tolist(), clock
        ),
        lambda clock: each(_mapped, [elf] * LOADS, clock),
    )


def _mapped(path: Path) -> int:
    """Open and map a file; return its first byte."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[0]


def address(
    table: ksyms.SymbolTable, symbols: Known, other: Callable[[int], object] | None = None
) -> Pair:
    """Compare one lookup with one call of ``other``, or with a bisection if that is None.

    The table has looked up every symbol once before. Both get the same addresses.
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
    """Compare ``locate`` of a million addresses with numpy.searchsorted alone."""
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
    """Compare the first ``find`` after ``ksyms.load`` with making a dict and one get."""
    draw = random.Random(SEED)

    return Pair(
        lambda clock: each(ksyms.load(elf).find, [draw.choice(names)], clock),
        lambda clock: each(lambda name: _by_name(names)[name], [draw.choice(names)], clock),
    )


def names_after(elf: Path, names: list[str]) -> Pair:
    """Compare ``find`` of a thousand different names, after a first one, with a dict."""
    return _after(elf, names, sorted(set(names)))


def no_names_after(elf: Path, names: list[str]) -> Pair:
    """Compare ``find`` of a thousand missing names, after a first one, with a dict."""
    absent = {f"{name[:-1]}~" for name in names} - set(names)
    return _after(elf, names, sorted(absent))


def _after(elf: Path, names: list[str], asked: list[str]) -> Pair:
    """Compare ``find`` of names in ``asked``, after a first one, with a dict."""
    draw, by_name = random.Random(SEED), _by_name(names)

    def by_table(clock: Clock) -> float:
        table = ksyms.load(elf)
        table.find(names[0])
        return each(table.find, draw.sample(asked, NAMES), clock)

    return Pair(by_table, lambda clock: each(by_name.get, draw.sample(asked, NAMES), clock))


def _by_name(names: list[str]) -> dict[str, list[int]]:
    """Return the indices of each name in ``names``: the yardstick of a table's index."""
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, []).append(number)
    return numbers


def names_of(text: Path) -> list[str]:
    """Return the name of each line of a kallsyms text."""
    with open(text) as lines:
        return [line.split(maxsplit=3)[2] for line in lines]


def bcc() -> Callable[[int], bytes]:
    """Return the function with which bcc resolves an address of the running kernel.

    Raises:
        ImportError: Debian's python3-bpfcc is not installed.
    """
    sys.path.append(DEBIAN)
    try:
        from bcc import BPF
    finally:
        sys.path.remove(DEBIAN)
    resolve: Callable[[int], bytes] = BPF.ksym
    return resolve
