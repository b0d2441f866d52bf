"""The kernels that the tests look at: this one, and two saved ones with modules."""

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

# A shell's background jobs ignore SIGINT, nohup's SIGHUP, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# What nobody foresaw is a traceback in tests, not a sentence that could be taken for another.
os.environ["KSYMS_TRACEBACK"] = "1"

FIXTURES = Path(__file__).parent / "fixtures"
SAVED = ("6.1.0-56-amd64-few", "6.12.117+deb12-amd64-few")


@dataclass(frozen=True)
class Kernel:
    """A kernel's text files under ``root``, and a snapshot of them in ``elf``."""

    name: str
    root: Path
    elf: Path

    @property
    def lines(self) -> list[tuple[int, str, str, str | None]]:
        """Address, letter, name and bracket of each line of kallsyms, read here anew."""
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
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def live(directory: Path) -> Kernel:
    """The running kernel; its lines are read from /proc each time."""
    return _kernel("live", Path("/"), directory)


@pytest.fixture(scope="session")
def saved(directory: Path) -> dict[str, Kernel]:
    """The saved kernels by name; see fixtures/README.md."""
    kernels = {}
    for name in SAVED:
        root = directory / name
        with tarfile.open(FIXTURES / f"{name}.tar.gz") as archive:
            extract(archive, root)
        kernels[name] = _kernel(name, root, directory)
    return kernels


@pytest.fixture(scope="session", params=["live", *SAVED])
def kernel(request: pytest.FixtureRequest, live: Kernel, saved: dict[str, Kernel]) -> Kernel:
    """Each of the kernels in turn."""
    return live if request.param == "live" else saved[request.param]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program that makes calls."""
    program = tmp_path_factory.mktemp("client") / "client"
    options = ["-O1", "-Wall", "-Werror", "-pthread"]
    subprocess.run(["gcc", *options, CLIENT, "-o", program], check=True)
    return program


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server, for tests that leave it as it was."""
    server = Served(tmp_path_factory.mktemp("served") / "mount", "--verbose")
    yield server
    server.clean_up()
