"""Snapshots while modules come and go: churn.py WANTED SECONDS PAUSE, as root in the VM.

Four processes load and unload modules with random pauses of up to PAUSE times what a snapshot
takes while nothing moves, so that a slow machine is no harder a place than a quick one. This
one takes snapshots meanwhile until WANTED were given out, as many refused, or SECONDS are
over. Each that is given out is held against what the modules' own lists were when nothing
moved. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import ksyms
from ksyms._linker import Linker
from ksyms._linker.reading import Reading
from ksyms._snapshot import take

# With what each brings: dependencies, and modules of several pieces of memory.
MODULES = (
    *("dummy", "loop", "cuse", "nf_conntrack", "tun", "8021q", "ifb", "veth", "macvlan"),
    *("zram", "nbd", "tcp_bbr"),
)
PROCESSES = 4
FIELDS = {
    "name": "<u4",
    "info": "u1",
    "other": "u1",
    "shndx": "<u2",
    "value": "<u8",
    "size": "<u8",
}
SYMBOL = np.dtype(list(FIELDS.items()))
SHN_ABS = 0xFFF1

Names = Counter[str]


def main(wanted: int, seconds: float, pause: float) -> None:
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    lists = settled_lists()
    quiet = min(undisturbed() for _ in range(3))
    churners = [start(number, pause * quiet) for number in range(PROCESSES)]
    result: dict[str, Any] = {
        "quiet": round(quiet, 2),
        "given": 0,
        "refused": 0,
        "torn": [],
        "with": Counter(),
        "slowest": 0.0,
        "reads": 0,
        "clean": 0,
        "clean from the start": 0,
    }
    begun = time.monotonic()
    linker = Counting(result)
    try:
        while max(result["given"], result["refused"]) < wanted:
            if time.monotonic() - begun > seconds:
                break
            snapshot_once(linker, lists, result)
    finally:
        for pid in churners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    result["seconds"] = round(time.monotonic() - begun, 1)
    json.dump(result, sys.stdout)


def settled_lists() -> dict[str, Names]:
    """The names that each module lists now that nothing moves, as grep sees them."""
    lists: dict[str, Names] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        name, _, bracket = line.split(" ", 2)[2].partition("\t")
        if bracket:
            lists.setdefault(bracket[1:-1], Counter())[name] += 1
    return lists


def undisturbed() -> float:
    """The seconds that a snapshot takes while nothing moves."""
    begun = time.monotonic()
    take(Linker(debug=None))
    return time.monotonic() - begun


def start(number: int, pause: float, log: Path | None = None) -> int:
    """A process that loads and unloads its own share of the modules.

    ``log`` gets a line before each and one after it: seconds, module, ``begin`` or ``end``.
    """
    if pid := os.fork():
        return pid
    chance = random.Random(number)
    quiet = open(os.devnull, "w")
    lines = open(log or os.devnull, "a", buffering=1)
    while True:
        module = chance.choice(MODULES[number::PROCESSES])
        for command in (["modprobe", "-r", module], ["modprobe", module]):
            print(time.monotonic(), module, "begin", file=lines)
            subprocess.run(command, stdout=quiet, stderr=quiet)
            print(time.monotonic(), module, "end", file=lines)
            time.sleep(chance.random() * pause)


class Counting(Linker):
    """Counts the reads, those that were clean, and those that a check of the whole read,
    from before its first byte and not from its first bracket, would have called clean."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(debug=None)
        self.result = result

    def read(self) -> Reading:
        self.begun = self.generation()
        return super().read()

    def moved(self, reading: Reading) -> list[str]:
        words = super().moved(reading)
        self.result["reads"] += 1
        self.result["clean"] += not words
        self.result["clean from the start"] += not self.begun.moved(self.generation())
        return words


def snapshot_once(linker: Linker, lists: dict[str, Names], result: dict[str, Any]) -> None:
    begun = time.monotonic()
    try:
        snapshot = take(linker)
    except ksyms.MovedError as error:
        assert error.what.startswith("The kernel's symbols moved during each of 3 tries")
        result["refused"] += 1
        return
    finally:
        result["slowest"] = max(result["slowest"], round(time.monotonic() - begun, 2))
    result["given"] += 1
    image = bytes(snapshot.image)
    found = module_names(image)
    result["with"][len(found)] += 1
    result["torn"] += torn(found, lists, modules_of(image))


def module_names(image: bytes) -> dict[str, Names]:
    """The names of each module's symbols, read from the ELF file by hand.

    Whose one is, its section's name tells; of a per-CPU variable, which is in none, the part of
    the names that its own lies in.
    """
    shoff = struct.unpack_from("<Q", image, 40)[0]
    count, names_index = struct.unpack_from("<HH", image, 60)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, shoff + 64 * i) for i in range(count)]
    names = headers[names_index][4]
    owners = {}
    for index, header in enumerate(headers):
        section = text_at(image, names + header[0])
        if section.startswith("["):
            owners[index] = section[1 : section.index("]")]
        elif section == ".symtab":
            symbols, strings = header[4:6], headers[header[6]][4]
    table = np.frombuffer(image, SYMBOL, symbols[1] // 24, symbols[0])
    found: dict[str, Names] = {}
    for row in table[np.isin(table["shndx"], list(owners))]:
        own = found.setdefault(owners[row["shndx"]], Counter())
        own[text_at(image, strings + int(row["name"]))] += 1
    files = ksyms.load(memoryview(image)).facts["files"]
    begins = [file["names"] for file in files]
    for row in table[table["shndx"] == SHN_ABS]:
        file = files[bisect_right(begins, row["name"]) - 1]
        if file["kind"] == "module":
            own = found.setdefault(file["name"], Counter())
            own[text_at(image, strings + int(row["name"]))] += 1
    return found


def modules_of(image: bytes) -> dict[str, Any]:
    """What a snapshot says of each module that /proc/modules had."""
    files = ksyms.load(memoryview(image)).facts["files"]
    return {file["name"]: file["module"] for file in files if "module" in file}


def text_at(image: bytes, offset: int) -> str:
    return image[offset : image.index(b"\0", offset)].decode()


def torn(
    found: dict[str, Names], lists: dict[str, Names], modules: dict[str, Any]
) -> list[str]:
    """What is wrong with a snapshot's names, in words; ``modules`` is what it says of them."""
    wrong = [f"{name} is listed and not loaded" for name in found.keys() - modules.keys()]
    for name in modules.keys() & lists.keys():
        names, module = found.get(name, Counter()), modules[name]
        more = names - lists[name] if not being_loaded(module) else Counter()
        fewer = lists[name] - names
        if more or fewer:
            wrong.append(f"{name} {module}: +{dict(more)} -{dict(fewer)}")
    return wrong


def being_loaded(module: dict[str, Any]) -> bool:
    """Whether it may list its init symbols too.

    A Live one does until its loader lets go of it (kernel/module/main.c, do_init_module);
    nothing else here has a reference but the modules that depend on it.
    """
    state: str = module["state"]
    held: bool = module["refcount"] > len(module["dependants"])
    return state == "Loading" or (state == "Live" and held)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
