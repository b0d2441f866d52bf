"""Measure reads of a served snapshot, compared with a file in tmpfs and an idle server.

Each round measures three files in turn: ``vmlinux`` of ``ksyms serve``, a copy of it in
/dev/shm, and the file of an idle server. The idle server has the same loop of requests, with
handlers that only answer (one file, no checks, passthrough). A C program makes the calls
(tests/serve/client.c). A ratio is of two times of one round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from ksyms._transport import Backing, Channel, Operations, Request, mount, protocol, serve
from ksyms._transport.operations import Answer, Handler
from report import record, table
from tasks import Pair

HERE: Final = Path(__file__).resolve().parent
CLIENT: Final = HERE.parent / "tests" / "serve" / "client.c"
KSYMS: Final = Path(sys.executable).parent / "ksyms"
TASKS: Final = {
    "open": "time-only-open=2000",
    "open and close": "time-open=2000",
    "read, 128 KB": "time-read=131072",
    "read, 1 MB": "time-read=1048576",
    "map and touch": "time-map=0",
    "100 openers": "time-openers=100",
}
"""The measured tasks, each with the argument by which the C program does it."""


class Nothing(Operations):
    """The idle server: a directory with one file ``vmlinux``, and no check of the caller."""

    def __init__(self, channel: Channel, content: bytes) -> None:
        backing = Backing(memoryview(content))
        self.file = protocol.Attributes(2, stat.S_IFREG | 0o444, len(content)).pack()
        self.root = protocol.Attributes(1, stat.S_IFDIR | 0o555).pack()
        self.channel, self.backing = channel, backing

    def handlers(self) -> dict[int, Handler]:
        return {
            protocol.INIT: self.init,
            protocol.LOOKUP: lambda r, w: Answer(
                (protocol.ENTRY_OUT.pack(2, 0, 0, 0, 0, 0) + self.file,)
            ),
            protocol.GETATTR: lambda r, w: Answer(
                (protocol.ATTR_OUT.pack(0, 0, 0) + (self.root if r.node == 1 else self.file),)
            ),
            protocol.OPEN: self.open,
            protocol.RELEASE: lambda r, w: Answer(),
            protocol.FORGET: lambda r, w: Answer(),
        }

    def init(self, request: Request, wait: bool) -> Answer:
        wanted = protocol.MAX_PAGES | protocol.INIT_EXT | protocol.PASSTHROUGH
        agreed = protocol.negotiated(request.body, wanted)
        assert agreed is not None
        return Answer((agreed[1],))

    def open(self, request: Request, wait: bool) -> Answer:
        flags = protocol.FOPEN_PASSTHROUGH | protocol.FOPEN_NOFLUSH
        number = self.backing.register(self.channel.fd)
        return Answer((protocol.OPEN_OUT.pack(1, flags, number),))


def serve_nothing(directory: str, content: str) -> None:
    """Serve the file ``content`` at ``directory`` until it is unmounted."""
    data = Path(content).read_bytes()
    channel = Channel(mount(os.open(directory, os.O_PATH), False).fd)
    serve(channel, Nothing(channel, data))


@contextmanager
def on(cpu: int) -> Iterator[None]:
    """Run this thread, and the processes that it starts in the context, on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def places(scratch: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Build the C program and start the servers; yield the program, and three files by name.

    ``served`` is the file of ``ksyms serve``, ``tmpfs`` a copy of it, ``nothing`` the file of
    the idle server.
    """
    with ExitStack() as stack:
        client = scratch / "client"
        subprocess.run(["gcc", "-O1", "-pthread", CLIENT, "-o", client], check=True)
        served, nothing = scratch / "served", scratch / "nothing"
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")), "elf")
        commands: dict[Path, list[str | Path]] = {
            served: [KSYMS, "serve", served],
            nothing: [sys.executable, __file__, "nothing", nothing, memory],
        }
        for directory, command in commands.items():
            directory.mkdir()
            with (scratch / "log").open("a") as log:
                process = subprocess.Popen(command, stderr=log)
            stack.callback(process.wait)
            stack.callback(subprocess.run, ["umount", "-l", str(directory)])
            while not (directory / "vmlinux").exists():
                assert process.poll() is None, (scratch / "log").read_text()
                time.sleep(0.05)
            if directory == served:
                shutil.copy(served / "vmlinux", memory)
        yield (
            client,
            {
                "served": served / "vmlinux",
                "tmpfs": memory,
                "nothing": nothing / "vmlinux",
            },
        )


def took(client: Path, task: str, path: Path) -> float:
    """Return the seconds of one call of ``task`` on the file ``path``."""
    return float(subprocess.check_output([client, f"{TASKS[task]},{path}"]))


def opens(client: Path, served: Path, nothing: Path, cpu: int) -> Pair:
    """Return the pair of an open of the device and one of the idle server's file.

    The opener runs on ``cpu``, and measures the seconds itself.
    """

    def opened(path: Path) -> float:
        with on(cpu):
            return float(subprocess.check_output([client, f"time-only-open=200,{path}"]))

    return Pair(lambda _: opened(served), lambda _: opened(nothing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="into docs/performance.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, places(Path(scratch)) as (client, files):
        times: dict[tuple[str, str], list[float]] = {
            (task, place): [] for task in TASKS for place in files
        }
        for _ in range(options.rounds):
            for (task, place), list_ in times.items():
                list_.append(took(client, task, files[place]))
        asked: list[str | Path] = [KSYMS, "status", "--json", files["served"].parent]
        status = json.loads(subprocess.check_output(asked))
    report = describe(options.rounds, status["passthrough"], times)
    print(report)
    if options.record:
        record("served", report)


def describe(rounds: int, passthrough: bool, times: dict[tuple[str, str], list[float]]) -> str:
    """Return the report; ``times`` has the seconds of each task on each file, by round."""
    rows = []
    for task in TASKS:
        mine = times[task, "served"]
        for place in ("served", "tmpfs", "nothing"):
            theirs = times[task, place]
            ratios = [a / b for a, b in zip(mine, theirs)]
            rows.append(
                [
                    task,
                    place,
                    *(f"{t * 1e6:,.0f}" for t in (min(theirs), max(theirs))),
                    *(
                        "" if place == "served" else f"{value:.2f}"
                        for value in (min(ratios), statistics.median(ratios), max(ratios))
                    ),
                ]
            )
    head = ["task", "of", "best, us", "worst, us", "ratio, best", "median", "worst"]
    release = platform.release().split("-")[0]
    first = (
        f"Linux {release} on {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}; passthrough: {'yes' if passthrough else 'no'}; "
        f"{rounds} rounds; {time.strftime('%Y-%m-%d')}. A ratio is served over the row's own."
    )
    return f"{first}\n\n{table(head, rows)}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["nothing"]:
        serve_nothing(*sys.argv[2:4])
    else:
        main()
