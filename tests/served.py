"""A server in a process of its own, and C programs that use it."""

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
"""The source of the program that makes calls."""


class Serving:
    """``ksyms serve``, from when it says that it serves ``place`` to :meth:`end`."""

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
        """What this server said; one before it may have had the same log."""
        return self.log.read_bytes()[self._begin :].decode()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; gives the exit status."""
        if not self.ended():
            self.process.send_signal(number)
        return self.process.wait(60)


class Served(Serving):
    """A directory that is served."""

    def __init__(self, directory: Path, *arguments: str, before: Sequence[str] = ()) -> None:
        self.directory = directory
        self.device = directory / "ksyms"
        self.file = directory / "vmlinux"
        log = directory.with_suffix(".log")
        super().__init__(directory, log, directory, *arguments, before=before)

    def status(self) -> dict[str, Any]:
        run = subprocess.run(
            [COMMAND, "status", "--json", self.directory], capture_output=True, check=True
        )
        found: dict[str, Any] = json.loads(run.stdout)
        return found

    def clean_up(self) -> None:
        """Whatever a test left."""
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "-l", self.directory], stderr=subprocess.DEVNULL)


def wait_for(true: Any, seconds: float = 20) -> None:
    """Until ``true`` is, or it takes too long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def answers(client: Path, *calls: str, **options: Any) -> list[str]:
    """What each of the C program's calls gave."""
    run: subprocess.CompletedProcess[str] = subprocess.run(
        [client, *calls], capture_output=True, text=True, **options
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def inodes(pid: int) -> list[str]:
    """What a process has open, by what the links say."""
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(entry.path))
        except OSError:
            continue
    return found
