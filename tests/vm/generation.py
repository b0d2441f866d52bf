"""What the generation says of each kind of change: generation.py, as root in the VM.

Prints a JSON object: for each change, in words, what had moved by the very next question.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from guest import TRACING

from bpf import load_bpf_program
from ksyms._linker import Generation, Linker

QUIET = 1.0
"""Seconds without a change, after which there is none on its way."""

LATER = {"kprobe removed"}
"""What the kernel does after a while (kernel/kprobes.c, kprobe_optimizer), and only then
lists otherwise."""

PATIENCE = 20.0

KPROBES = TRACING / "kprobe_events"
ENABLE = TRACING / "events/kprobes/ksyms_moment/enable"


def main() -> None:
    modprobe("-r", "dummy")  # which others of this boot may have loaded
    programs: list[int] = []
    changes: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "bpf loaded": lambda: programs.append(load_bpf_program()),
        "bpf closed": lambda: os.close(programs.pop()),
        "module loaded": lambda: modprobe("dummy"),
        "module reloaded": reload_module,
        "module unloaded": lambda: modprobe("-r", "dummy"),
        "module loaded and unloaded": load_and_unload,
        "kprobe placed": place_kprobe,
        "kprobe removed": remove_kprobe,
        "tracer begun": begin_tracer,
        "uevents of no module": lambda: subprocess.run(["unshare", "--net", "true"]),
        "nothing again": lambda: None,
    }
    said = {}
    with Linker(debug=None) as linker:
        for name, change in changes.items():
            before = settled(linker)
            change()
            said[name] = before.moved(linker.generation())
            until = time.monotonic() + (PATIENCE if name in LATER else 0)
            while not said[name] and time.monotonic() < until:
                said[name] = before.moved(linker.generation())
    json.dump(said, sys.stdout)


def settled(linker: Linker) -> Generation:
    """The generation once it has stood still: devices appear late at boot, and the kernel
    frees what a kprobe had some time after it was removed."""
    last = linker.generation()
    still = time.monotonic()
    while time.monotonic() - still < QUIET:
        time.sleep(0.05)
        now = linker.generation()
        if last.moved(now):
            last, still = now, time.monotonic()
    return last


def modprobe(*arguments: str) -> None:
    subprocess.run(["modprobe", *arguments], check=True)


def reload_module() -> None:
    """Away and back: with nothing else going on, to the address where it was."""
    modprobe("-r", "dummy")
    modprobe("dummy")


def load_and_unload() -> None:
    """All is as before, but for what was read meanwhile."""
    modprobe("dummy")
    modprobe("-r", "dummy")


def place_kprobe() -> None:
    for offset in range(9, 40):  # past where ftrace would take the kprobe over
        try:
            KPROBES.write_text(f"p:ksyms_moment kernel_clone+{offset}\n")
        except OSError:  # not where an instruction begins
            continue
        break
    ENABLE.write_text("1")


def remove_kprobe() -> None:
    ENABLE.write_text("0")
    KPROBES.write_text("\n")


def begin_tracer() -> None:
    instance = TRACING / "instances/moment"
    instance.mkdir()
    (instance / "set_ftrace_filter").write_text("vfs_open\n")
    (instance / "current_tracer").write_text("function\n")


if __name__ == "__main__":
    main()
