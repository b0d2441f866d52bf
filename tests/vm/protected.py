"""Where root writes beside an attacker, under both values of the kernel's own protection.

protected.py, as root in the VM. With ``fs.protected_symlinks`` and the like off, then on,
nobody prepares names (the cases of tests/test_output.py) in three directories: its own, one
that all can write to, and a sticky one. Then root writes there. Prints a JSON object: for each
value the number of cases that held, and those that did not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from ksyms import OutputError
from ksyms._output import write_whole
from test_output import (
    DATA,
    PLACES,
    REFUSED,
    REPLACED,
    by_nobody,
    place,
    precious,
    unharmed,
    whole,
)

PROTECTIONS = {"symlinks": 1, "hardlinks": 1, "fifos": 2, "regular": 2}
"""Each sysctl with its strictest value (Documentation/admin-guide/sysctl/fs.rst)."""


def main() -> None:
    found = {}
    for on in (0, 1):
        for name, strictest in PROTECTIONS.items():
            Path("/proc/sys/fs", f"protected_{name}").write_text(f"{on * strictest}")
        outcomes = list(each_case())
        wrong = [words for words in outcomes if words]
        found[str(on)] = {"held": len(outcomes) - len(wrong), "wrong": wrong}
    json.dump(found, sys.stdout)


def each_case() -> Iterator[str]:
    """Yield for each case what went wrong, or ""."""
    for holds, cases in ((replaces, REPLACED), (refuses, REFUSED)):
        for kind, case in product(PLACES, cases):
            with tempfile.TemporaryDirectory() as name:
                top = precious(Path(name))
                well = holds(top, place(top, kind), case) and unharmed(top)
            yield "" if well else f"{case} ({kind})"


def replaces(_: Path, directory: Path, case: str) -> bool:
    """Whether a case's name itself is replaced, by a whole file."""
    by_nobody(REPLACED[case], directory)
    write_whole(str(directory / "kernel.elf"), DATA)
    return whole(directory / "kernel.elf")


def refuses(top: Path, directory: Path, case: str) -> bool:
    """Whether a case is refused, and nothing comes of it."""
    script, name, _ = REFUSED[case]
    by_nobody(script, directory)
    before = sorted(top.rglob("*"))
    try:
        write_whole(str(directory / name), DATA)
    except OutputError:
        return sorted(top.rglob("*")) == before
    return False


if __name__ == "__main__":
    main()
