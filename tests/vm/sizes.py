"""Inferred sizes against exact ones: sizes.py, as root in the VM.

Loads modules with many dependencies, takes a snapshot with what their files tell and one
without, and prints a JSON object of how the two compare for the modules' symbols.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ksyms
from ksyms._linker import Linker
from ksyms._snapshot import take

MODULES = ("dummy", "loop", "btrfs", "ext4", "nf_tables", "bridge", "kvm", "snd_pcm", "cuse")
PADDING = 64
"""Functions and objects are aligned to 64 bytes at most by these kernels' compilers."""


def main() -> None:
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    exact, facts = symbols(())
    inferred, _ = symbols(None)
    assert exact.keys() == inferred.keys()
    known = {key for key, symbol in exact.items() if symbol.exact}
    over = {key: inferred[key].size - exact[key].size for key in known}
    modules = [file for file in facts["files"] if file["kind"] == "module"]
    worst = sorted(known, key=lambda key: abs(over[key]), reverse=True)[:5]
    result = {
        "modules": len(modules),
        "symbols": len(exact),
        "in their module": sum(symbol.module == key[0] for key, symbol in exact.items()),
        "in a known section": len(exact) - sum(file["unplaced"] for file in modules),
        "of /proc/kallsyms": sum(listed().values()),
        "exact": len(known),
        "equal": sum(not over[key] for key in known),
        "longer by padding": sum(0 < over[key] < PADDING for key in known),
        "longer by more": sum(over[key] >= PADDING for key in known),
        "shorter": sum(over[key] < 0 for key in known),
        "worst": [
            [*key, inferred[key].size, exact[key].size, exact[key].section] for key in worst
        ],
        "refused": facts["refused"],
    }
    json.dump(result, sys.stdout)


Key = tuple[str, int, str, int]


def symbols(debug: tuple[str, ...] | None) -> tuple[dict[Key, ksyms.Symbol], dict[str, Any]]:
    """The modules' symbols, by module, address, name, and which of several that are alike."""
    with Linker(debug=debug) as linker:
        table = ksyms.load(take(linker).image)
    found: dict[Key, ksyms.Symbol] = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for symbol in table:
        if symbol.module:
            key = (symbol.module, symbol.address, symbol.name)
            found[(*key, seen[key])] = symbol
            seen[key] += 1
    return found, table.facts


def listed() -> Counter[str]:
    """How many lines of kallsyms have each bracket."""
    lines = Path("/proc/kallsyms").read_text().splitlines()
    return Counter(line.partition("\t")[2] for line in lines if "\t" in line)


if __name__ == "__main__":
    main()
