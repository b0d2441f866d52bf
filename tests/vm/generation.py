"""What the generation says of each kind of change: generation.py, as root in the VM.

Prints a JSON object: for each change, in words, what had moved by the very next question.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from guest import TRACING

from bpf import load_bpf_program
from ksyms._linker import Linker

KPROBES = TRACING / "kprobe_events"
ENABLE = TRACING / "events/kprobes/ksyms_moment/enable"


def main() -> None:
    programs: list[int] = []
    changes: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "bpf loaded": lambda: programs.append(load_bpf_program()),
        "bpf closed": lambda: os.close(programs.pop()),
        "module loaded": lambda: modprobe("dummy"),
        "module reloaded": reload_module,
        "module unloaded": lambda: modprobe("-r", "dummy"),
        "kprobe placed": place_kprobe,
        "kprobe removed": remove_kprobe,
        "tracer begun": begin_tracer,
        "nothing again": lambda: None,
    }
    said = {}
    with Linker(debug=None) as linker:
        before = linker.generation()
        for name, change in changes.items():
            change()
            after = linker.generation()
            said[name] = before.moved(after)
            before = after
    json.dump(said, sys.stdout)


def modprobe(*arguments: str) -> None:
    subprocess.run(["modprobe", *arguments], check=True)


def reload_module() -> None:
    """Away and back: with nothing else going on, to the address where it was."""
    modprobe("-r", "dummy")
    modprobe("dummy")


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
