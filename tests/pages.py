"""Runs the commands of a page of docs/ and holds their output against the page's."""

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
    """Run every command of ``docs/NAME``, one after the other in ``directory``.

    A command is a line that begins with ``$`` in a block of ``console``, with the lines right
    after it that begin with ``>``; the lines up to the next are what it puts out, stderr too.
    A line ``...`` stands for any number of lines, ``...`` at a line's end for its rest.
    There ``tests/fixtures`` is this directory's, ``ksyms`` is on PATH, and ``$?`` is the
    status of the command before.
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
    """What the first block of ``python`` in ``docs/NAME`` defines."""
    [block, *_] = re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(block, name, "exec"), names)
    return names


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page, and what it should put out."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            first, *lines = part.splitlines(keepends=True)
            more = list(takewhile(lambda line: line.startswith("> "), lines))
            command = first + "".join(line[2:] for line in more)
            yield command.rstrip("\n"), "".join(lines[len(more) :])


def matches(expected: str, output: str) -> bool:
    """Whether ``output`` is as ``expected``, which can have lines of three dots."""
    parts = [
        "(?:.*\n)*" if line.strip() == "..." else re.escape(line) + "\n"
        for line in expected.splitlines()
    ]
    pattern = "".join(parts).replace(re.escape(" ...") + "\n", " .*\n")
    return re.fullmatch(pattern, output) is not None
