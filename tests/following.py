"""Run ``ksyms decode`` on a text that still comes: write to it, and read what it prints."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from command import COMMAND

PATIENCE = 60
"""Seconds until a test gives up. They are many, because machines are busy."""


class Following:
    """A process of ``ksyms decode`` that reads a pipe, or the file ``text``.

    ``out`` is all output that was read so far.
    """

    def __init__(self, *arguments: str | Path, text: str | None = None) -> None:
        command = [COMMAND, "decode", *arguments, *([text] if text else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.out = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.process.kill()
        with self.process:
            pass

    def write(self, data: bytes) -> None:
        """Write ``data`` to the command's stdin."""
        os.write(self._in, data)

    def comes(self, seconds: float = PATIENCE) -> bytes:
        """Return what the command prints within ``seconds``; b"" if nothing, or at the end."""
        if not select.select([self._out], [], [], seconds)[0]:
            return b""
        data = os.read(self._out, 1 << 16)
        self.out += data
        return data

    def wait_for(self, end: bytes) -> None:
        """Wait until all that the command printed ends with ``end``."""
        while not self.out.endswith(end):
            assert self.comes(), (self.out, end)

    def wait_until_read(self) -> None:
        """Wait until the command has read all that was written to it."""
        deadline = time.monotonic() + PATIENCE
        while struct.unpack("i", fcntl.ioctl(self._in, termios.FIONREAD, b"    "))[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> tuple[int, bytes, str]:
        """Close the command's stdin; return its exit status, stdout and stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.ended()

    def ended(self) -> tuple[int, bytes, str]:
        """Wait until the command ends by itself; return the same as :meth:`end`."""
        while self.comes():
            pass
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        return self.process.wait(PATIENCE), self.out, said
