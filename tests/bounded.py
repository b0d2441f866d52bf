"""Run commands on harmful inputs, one after the other, each with limited memory.

As a program this file reads a list of commands, in JSON, from stdin, and writes how each ended.
The process imports everything first. Each command runs in a fork of it, which may have 256 MB
and four times its input more than the process itself. RLIMIT_DATA is the limit: it counts
private memory that can be written to.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOM = 256_000_000
"""Bytes of memory that each command may have."""
TIMES = 4
"""Bytes of memory that a command may have for each byte of its input, in addition."""
HANG = 120
"""Seconds after which a command counts as one that never ends."""


class Ended(NamedTuple):
    """The end of a command: its status, its output, and its memory.

    ``peak`` is its largest memory in bytes, without what the process had before the fork.
    """

    arguments: list[str]
    status: int
    out: str
    err: str
    peak: int

    def well(self) -> Ended:
        """Check that the command answered, or printed a proper error of ksyms; return self."""
        told = self.arguments, self.status, self.err
        assert self.status in (0, 1, 2), told
        assert "Traceback" not in self.err, told
        assert "This is a fault in ksyms" not in self.err, told
        assert "output cannot be written" not in self.err, told  # an OSError of another place
        assert "not enough memory" not in self.err, told
        if self.status == 0:
            assert self.err == "", told
        return self

    def refused(self, *words: str) -> None:
        """Check that the command printed a proper error that has each of ``words``."""
        self.well()
        assert self.status, (self.arguments, self.out)
        assert all(word in self.err for word in words), (self.arguments, self.err)


def run(commands: Sequence[Sequence[Any]], size: int = 0) -> list[Ended]:
    """Run the commands; return how each ended. No input is larger than ``size`` bytes."""
    asked = [[str(word) for word in command] for command in commands]
    child = subprocess.run(
        [sys.executable, __file__, str(size)],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "KSYMS_TRACEBACK": "1"},
    )
    found = [Ended(*json.loads(line)) for line in child.stdout.splitlines()]
    assert [each.arguments for each in found] == asked
    return found


def _main(size: int) -> None:
    import numpy  # noqa: F401 # its memory is no input's
    import zstandard  # noqa: F401 # its memory is no input's

    import ksyms._cli.main
    import ksyms._linker.assemble
    import ksyms._snapshot.linux
    import ksyms._symbols.spans  # noqa: F401 # its memory is no input's

    for command in json.load(sys.stdin):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            before = _written()
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                _child(command, before + ROOM + TIMES * size)
            _, status, used = os.wait4(child, 0)
            told = [_text(file.fileno()) for file in (out, err)]
            peak = used.ru_maxrss * 1024 - before
            print(json.dumps([command, os.waitstatus_to_exitcode(status), *told, peak]))


def _child(command: list[str], room: int) -> None:
    """Run a command in this fork with ``room`` bytes of memory, and exit."""
    status = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANG)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (room, room))
        from ksyms._cli.main import main

        status = main(command)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _written() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts (proc_pid_statm(5), data)."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _text(fd: int) -> str:
    """Return the text of an open file, 1 MiB of it at most."""
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as file:
        return file.read(1 << 20).decode("utf-8", "surrogateescape")


if __name__ == "__main__":
    _main(int(sys.argv[1]))
