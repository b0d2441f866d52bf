"""Several programs of this directory in one boot: in_turn.py JSON, as root in the VM.

JSON is a list of commands: each is a program's name and its arguments. Each runs in a process
of its own, once no modules are on their way any more. Prints a JSON list of what they printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 60.0
"""Seconds at most for a modprobe that the program before left to end."""


def main(commands: list[list[str]]) -> None:
    found = []
    for program, *arguments in commands:
        begun = time.monotonic()
        settle()
        command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout))
        print(program, round(time.monotonic() - begun, 1), file=sys.stderr, flush=True)
    json.dump(found, sys.stdout)


def settle() -> None:
    """Wait until nothing loads or unloads a module."""
    until = time.monotonic() + PATIENCE
    while "modprobe" in commands_running():
        if time.monotonic() > until:
            raise SystemExit("a modprobe does not end")
        time.sleep(0.1)


def commands_running() -> set[str]:
    """The names of all processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            found.add(path.read_text().strip())
        except OSError:  # it has ended
            continue
    return found


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
