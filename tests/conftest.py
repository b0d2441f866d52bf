"""The fixtures that many tests use: three kernels with their snapshots, and a server.

The kernels are the running one, and two saved ones with modules.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ksyms
from command import TEXT
from served import CLIENT, Served
from tars import extract

# A background job of a shell ignores SIGINT, and a job of nohup SIGHUP. Programs that the
# tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# In tests an unforeseen error is a traceback: a sentence could pass for an expected error.
os.environ["KSYMS_TRACEBACK"] = "1"

FIXTURES = Path(__file__).parent / "fixtures"
SAVED = ("6.1.0-56-amd64-few", "6.12.117+deb12-amd64-few")
"""The names of the saved kernels; fixtures/README.md describes them."""


@dataclass(frozen=True)
class Kernel:
    """A kernel: its text files under ``root``, and a snapshot of them in the file ``elf``."""

    name: str
    root: Path
    elf: Path

    @property
    def lines(self) -> list[tuple[int, str, str, str | None]]:
        """Address, letter, name and bracket (or None) of each line of kallsyms.

        The file is read anew each time, and without ksyms.
        """
        rows = []
        for line in (self.root / "proc/kallsyms").read_text().splitlines():
            address, letter, rest = line.split(" ", 2)
            name, _, bracket = rest.partition("\t")
            rows.append((int(address, 16), letter, name, bracket[1:-1] or None))
        return rows


def _kernel(name: str, root: Path, directory: Path) -> Kernel:
    elf = directory / f"{name}.elf"
    ksyms.snapshot(root).write(elf)
    return Kernel(name, root, elf)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory for the kernels' files."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def live(directory: Path) -> Kernel:
    """The running kernel; its lines are read from /proc each time."""
    return _kernel("live", Path("/"), directory)


@pytest.fixture(scope="session")
def saved(directory: Path) -> dict[str, Kernel]:
    """The saved kernels, unpacked, by name."""
    kernels = {}
    for name in SAVED:
        root = directory / name
        with tarfile.open(FIXTURES / f"{name}.tar.gz") as archive:
            extract(archive, root)
        kernels[name] = _kernel(name, root, directory)
    return kernels


@pytest.fixture(scope="session", params=["live", *SAVED])
def kernel(request: pytest.FixtureRequest, live: Kernel, saved: dict[str, Kernel]) -> Kernel:
    """One of the three kernels: a test that takes this runs for each of them."""
    return live if request.param == "live" else saved[request.param]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file with the small kallsyms text of command.py."""
    path = tmp_path / "kallsyms"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program ``serve/client.c``, built: it makes the calls that its arguments name."""
    program = tmp_path_factory.mktemp("client") / "client"
    options = ["-O1", "-Wall", "-Werror", "-pthread"]
    subprocess.run(["gcc", *options, CLIENT, "-o", program], check=True)
    return program


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that the tests of a module share. They must leave it as it was."""
    server = Served(tmp_path_factory.mktemp("served") / "mount", "--verbose")
    yield server
    server.clean_up()
