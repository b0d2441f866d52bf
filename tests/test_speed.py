"""What ksyms takes beside what nothing can avoid: ratios, for machines differ.

Times are as timed.py takes them. A limit is about twice what was measured on an idle machine,
for what shares the processors' caches changes ratios too, and below what the mistake that it is
for would cost; a round that was disturbed is followed by another.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ksyms
import serve
import tasks
from conftest import SAVED, Kernel
from ksyms._linker import Linker
from ksyms._snapshot import take
from timed import ratio


@pytest.fixture(scope="module")
def symbols(live: Kernel) -> tasks.Known:
    return tasks.known(ksyms.load(live.elf))


@pytest.fixture(scope="module")
def names(live: Kernel) -> list[str]:
    return tasks.names_of(live.root / "proc/kallsyms")


def test_snapshot_beside_read() -> None:
    assert ratio(tasks.live_snapshot(), 2.3) <= 2.3


FEEDER = """
import select, sys
text = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "wb", buffering=0) as out:
    out.write(text[: 320 << 10])
    taken = bool(select.select([sys.stdin], [], [], 20)[0])
    out.write(text[320 << 10 : 512 << 10])
    print("more was read" if taken else "all was waited for", flush=True)
    out.write(text[512 << 10 :])
"""


def test_text_is_read_while_it_is_taken_apart(live: Kernel, tmp_path: Path) -> None:
    """What comes first is taken apart before the rest comes, and meanwhile more is read.

    A pipe holds 64 KiB: who feeds it goes on only where somebody reads.
    """
    copy, pipe = tmp_path / "kallsyms", tmp_path / "pipe"
    copy.write_bytes((live.root / "proc/kallsyms").read_bytes())
    os.mkfifo(pipe)
    command: list[str | Path] = [sys.executable, "-c", FEEDER, copy, pipe]
    said: list[bytes] = []

    def work(_: int) -> None:
        if not said:
            assert feeder.stdin is not None
            assert feeder.stdout is not None
            feeder.stdin.write(b"\n")
            ready = select.select([feeder.stdout], [], [], 40)[0]
            said.append(feeder.stdout.readline() if ready else b"nothing was read")

    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as feeder,
        Linker(kallsyms=str(pipe), progress=work) as linker,
    ):
        image = take(linker).image
    assert said == [b"more was read\n"]
    assert len(image) > copy.stat().st_size // 2


def test_load_and_lookup_beside_mapping(live: Kernel, symbols: tasks.Known) -> None:
    assert ratio(tasks.first_answer(live.elf, symbols), 15) <= 15


def test_lookup_beside_bisect(live: Kernel, symbols: tasks.Known) -> None:
    assert ratio(tasks.address(ksyms.load(live.elf), symbols), 1.2) <= 1.2


def test_million_lookups_beside_searchsorted(live: Kernel, symbols: tasks.Known) -> None:
    assert ratio(tasks.million(ksyms.load(live.elf), symbols), 0.5) <= 0.5


def test_million_answers_are_those_of_single_lookups(
    live: Kernel, symbols: tasks.Known
) -> None:
    """In the order in which they were asked."""
    table = ksyms.load(live.elf)
    asked = tasks.drawn(symbols, tasks.MANY, np.random.default_rng(tasks.SEED))
    places = table.locate(asked)
    few = slice(None, None, 1000)
    expected = symbols.starts[symbols.starts.searchsorted(asked[few], "right") - 1].tolist()
    assert [table[place].address for place in places[few].tolist()] == expected


def test_first_name_beside_dict(live: Kernel, names: list[str]) -> None:
    assert ratio(tasks.first_name(live.elf, names), 0.15) <= 0.15


def test_names_after_beside_dict(live: Kernel, names: list[str]) -> None:
    assert ratio(tasks.names_after(live.elf, names), 20) <= 20


@pytest.fixture
def bytecode() -> None:
    tasks.have_bytecode()


@pytest.mark.usefixtures("bytecode")
def test_lookup_command_beside_python(live: Kernel, symbols: tasks.Known) -> None:
    command = tasks.lookup_command(live.elf, int(symbols.starts[0]))
    assert ratio(command, 4) <= 4


@pytest.mark.usefixtures("bytecode")
def test_list_of_addresses_beside_loop(
    live: Kernel, symbols: tasks.Known, tmp_path: Path
) -> None:
    assert ratio(tasks.list_command(live.elf, symbols, tmp_path), 1.7) <= 1.7


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[tasks.Pair]:
    """On one CPU, for where the system puts who asks and who answers changes what it takes."""
    cpu = min(os.sched_getaffinity(0))
    with serve.on(cpu), serve.places(tmp_path) as (client, files):
        served, nothing = (files[name].with_name("ksyms") for name in ("served", "nothing"))
        yield serve.opens(client, served, nothing, cpu)


def test_open_beside_idle_loop(opens: tasks.Pair) -> None:
    assert ratio(opens, 2.2) <= 2.2


@pytest.mark.parametrize("name", SAVED)
def test_memory_beside_image(saved: dict[str, Kernel], name: str) -> None:
    peaks = tasks.memory(saved[name].root)
    assert peaks["traced"] / peaks["image"] <= 2.1
    assert peaks["resident"] / peaks["image"] <= 3.4


@pytest.mark.parametrize(("name", "limit"), [(SAVED[0], 1.15), (SAVED[1], 1.0)])
def test_image_beside_text(saved: dict[str, Kernel], name: str, limit: float) -> None:
    """Of 6.12 the text has names that begin with ``__pfx_``, whose bytes are others' too."""
    kernel = saved[name]
    text = (kernel.root / "proc/kallsyms").stat().st_size
    assert kernel.elf.stat().st_size / text <= limit
