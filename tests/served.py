"""Start servers in processes of their own, and make calls to them by a C program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command import COMMAND

CLIENT = Path(__file__).parent / "serve" / "client.c"
"""The source of the C program that makes the calls which its arguments name."""


class Serving:
    """A process of ``ksyms serve``; it is created once the process serves ``place``.

    Args:
        place: what the server must report that it serves.
        log: the file for its stderr.
        arguments: the arguments of ``ksyms serve``.
        before: a command that starts the server, such as ``setpriv``, with its arguments.
    """

    def __init__(
        self, place: Path, log: Path, *arguments: str | Path, before: Sequence[str] = ()
    ) -> None:
        self.log = log
        self._begin = log.stat().st_size if log.exists() else 0
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [*before, COMMAND, "serve", *arguments], stderr=file
            )
        wait_for(lambda: f"serving {place}" in self.words() or self.ended(), 120)
        assert not self.ended(), self.words()

    def words(self) -> str:
        """Return what this server wrote into its log, without what an earlier one wrote."""
        return self.log.read_bytes()[self._begin :].decode()

    def ended(self) -> bool:
        """Return True if the process has ended."""
        return self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the server the signal ``number``; return its exit status."""
        if not self.ended():
            self.process.send_signal(number)
        return self.process.wait(60)


class Served(Serving):
    """A server of a directory, with ``device`` and ``file``, the two files in it."""

    def __init__(self, directory: Path, *arguments: str, before: Sequence[str] = ()) -> None:
        self.directory = directory
        self.device = directory / "ksyms"
        self.file = directory / "vmlinux"
        log = directory.with_suffix(".log")
        super().__init__(directory, log, directory, *arguments, before=before)

    def status(self) -> dict[str, Any]:
        """Return what ``ksyms status`` prints about the server."""
        run = subprocess.run(
            [COMMAND, "status", "--json", self.directory], capture_output=True, check=True
        )
        found: dict[str, Any] = json.loads(run.stdout)
        return found

    def clean_up(self) -> None:
        """Kill the server and unmount its directory, whatever state a test left them in."""
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "-l", self.directory], stderr=subprocess.DEVNULL)


def wait_for(true: Any, seconds: float = 20) -> None:
    """Wait until the call ``true()`` returns a true value; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def answers(client: Path, *calls: str, **options: Any) -> list[str]:
    """Return the results of the C program's ``calls``, one of each; its options are run()'s."""
    run: subprocess.CompletedProcess[str] = subprocess.run(
        [client, *calls], capture_output=True, text=True, **options
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def inodes(pid: int) -> list[str]:
    """Return the targets of the links in /proc/PID/fd: what the process has open."""
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(entry.path))
        except OSError:
            continue
    return found
