"""One of two boots to compare: boot.py FILE MODULE..., as root in the VM.

Loads the modules in the order given, with a BPF program and trampolines, writes a snapshot
to FILE, and prints a JSON object of where kallsyms has what of this boot.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from guest import place_trampolines

import ksyms
from bpf import load_bpf_program


def main(file: str, *modules: str) -> None:
    for module in modules:
        subprocess.run(["modprobe", module], check=True)
    place_trampolines()
    program = load_bpf_program("ksyms_boot")  # lives as long as its descriptor
    ksyms.snapshot().write(file)
    rows = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    brackets = [row[3] for row in rows if len(row) > 3]
    stext = next(row[0] for row in rows if row[2] == "_stext")
    order = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    # Labels are listed, and are no symbols to compare.
    named = [
        row[3] for row in rows if len(row) > 3 and not row[2].startswith((".L", "L0", "$"))
    ]
    counts = {name: named.count(f"[{name}]") for name in order}
    listed = sorted(set(brackets) - {f"[{name}]" for name in order})
    told = {"_stext": stext, "modules": counts, "listed": listed, "program": program > 0}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
