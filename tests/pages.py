"""Run the commands that a page of docs/ shows, and compare their output with the page's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from command import COMMAND

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"


def check_page(name: str, directory: Path) -> None:
    """Check the output of every command of ``docs/NAME``; run them in order in ``directory``.

    In the page a command and its output look like this. A line ``...`` stands for any number
    of lines, and a blank and ``...`` at a line's end for the rest of the line::

        ```console
        $ ksyms lookup --from kernel.elf \\
        >     schedule
        ffffffff81b9c0a0  T  ~192  schedule  .text ...
        ...
        ```

    The output includes stderr. The commands find ``tests/fixtures`` and ``ksyms``, and ``$?``
    is the status of the command before.
    """
    (directory / "tests").mkdir()
    (directory / "tests/fixtures").symlink_to(TESTS / "fixtures")
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    status, count = 0, 0
    for command, expected in commands((DOCS / name).read_text()):
        done = subprocess.run(
            ["bash", "-c", f"(exit {status})\n{command}"],
            cwd=directory,
            env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        status, count = done.returncode, count + 1
        assert matches(expected, done.stdout), f"$ {command}\n{done.stdout[:10_000]}"
    assert count, f"{name} has no command"


def python_block(name: str) -> dict[str, Any]:
    """Run the first block of ``python`` in ``docs/NAME``; return what it defines, by name."""
    [block, *_] = re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(block, name, "exec"), names)
    return names


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page, and its output there."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            first, *lines = part.splitlines(keepends=True)
            more = list(takewhile(lambda line: line.startswith("> "), lines))
            command = first + "".join(line[2:] for line in more)
            yield command.rstrip("\n"), "".join(lines[len(more) :])


def matches(expected: str, output: str) -> bool:
    """Return True if ``output`` is as ``expected``, in which ``...`` stands for any text."""
    parts = [
        "(?:.*\n)*" if line.strip() == "..." else re.escape(line) + "\n"
        for line in expected.splitlines()
    ]
    pattern = "".join(parts).replace(re.escape(" ...") + "\n", " .*\n")
    return re.fullmatch(pattern, output) is not None
