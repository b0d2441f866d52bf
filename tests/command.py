"""Run the installed command, give it a small text, and check its answers with nm."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).parent / "ksyms"

# Aliases, a name that two symbols have, a name that looks like an address, and a module.
TEXT = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000010 T alpha
ffffffff81000040 t beta
ffffffff81000040 t beta_alias
ffffffff81000080 t twin
ffffffff81001000 T _etext
ffffffff81400000 d 81000010
ffffffffc0000000 t mod_start\t[mod]
ffffffffc0000020 t twin\t[mod]
"""


def write_root(directory: Path, text: str, machine: str = "x86_64") -> None:
    """Save ``text`` as the kallsyms of a kernel of ``machine`` below ``directory``."""
    for name, data in (("kallsyms", text), ("sys/kernel/arch", machine)):
        (directory / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / "proc" / name).write_text(data)


def ksyms(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command with ``arguments``; return its output and exit status.

    ``options`` are subprocess.run()'s.
    """
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, **options)


def nm(path: Path) -> list[str]:
    """Return "ADDRESS NAME" of each symbol of an ELF file, as nm prints them, sorted."""
    lines = subprocess.check_output(["nm", "-p", path], text=True).splitlines()
    return sorted(re.sub(" . ", " ", line) for line in lines)


def same_by_nm(path: Path, text: str) -> None:
    """Check that nm prints the symbols of the kallsyms ``text`` for the ELF file ``path``.

    nm prints no address of undefined symbols: only their names are compared.
    """
    told = nm(path)
    addressed = [line for line in told if not line.startswith(" ")]
    undefined = sorted(line.strip() for line in told if line.startswith(" "))
    left = Counter(names(text)) - Counter(addressed)
    assert not Counter(addressed) - Counter(names(text))
    assert sorted(line.split(" ", 1)[1] for line in left.elements()) == undefined


def names(text: str = TEXT) -> list[str]:
    """Return what :func:`nm` should return for a snapshot of a kallsyms text."""
    return sorted(re.sub(" . ", " ", line.split("\t")[0]) for line in text.splitlines())


def refused(run: subprocess.CompletedProcess[str], what: str, remedy: str = "") -> None:
    """Check that a command was refused, with exit status 1 and two lines on stderr.

    The first line says what is wrong and contains ``what``. The second one says what to do and
    contains ``remedy``.
    """
    assert "Traceback" not in run.stderr, run.stderr
    assert (run.returncode, run.stdout) == (1, "")
    assert re.fullmatch(r"ksyms: [^\n]+\.\n {7}[A-Z][^\n]+\.\n", run.stderr), run.stderr
    first, second = run.stderr.splitlines()
    assert what in first
    assert remedy in second
