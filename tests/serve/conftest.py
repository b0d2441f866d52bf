"""The C client, and a server for each test module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import HERE, Served


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program that makes calls."""
    program = tmp_path_factory.mktemp("client") / "client"
    options = ["-O1", "-Wall", "-Werror", "-pthread"]
    subprocess.run(["gcc", *options, HERE / "client.c", "-o", program], check=True)
    return program


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server, for tests that leave it as it was."""
    server = Served(tmp_path_factory.mktemp("served") / "mount", "--verbose")
    yield server
    server.clean_up()
