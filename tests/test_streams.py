"""What comes through a pipe or from /proc: as a file of the same bytes would be taken."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ksyms
from command import COMMAND, TEXT, refused
from command import ksyms as run

HERE = Path(__file__).parent
SAVED = HERE / "fixtures" / "6.1.0-56-amd64-few.tar.gz"
ALPHA = "0xffffffff81000018"  # 8 bytes into alpha of TEXT


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each form of file."""
    directory = tmp_path_factory.mktemp("files")
    text, elf = directory / "text", directory / "text.elf"
    text.write_text(TEXT)
    snapshot = ksyms.snapshot(kallsyms=text)
    snapshot.write(elf)
    portable = directory / "portable"
    portable.write_bytes(snapshot.portable())
    for packer in ("gzip", "xz", "zstd -q"):
        packed = directory / packer[:2]
        command: list[str | Path] = [*packer.split(), "-c", text]
        packed.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    return {p.name: p for p in directory.iterdir()}


@pytest.mark.parametrize("form", ["text", "text.elf", "portable", "gz", "xz", "zs"])
@pytest.mark.parametrize(
    "how", ["cat {} | {} /dev/stdin", "{1} <(cat {0})", "{1} /dev/stdin <{0}"]
)
def test_a_pipe(files: dict[str, Path], form: str, how: str) -> None:
    command = how.format(files[form], f"{COMMAND} lookup {ALPHA} --from")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "alpha+0x8" in done.stdout


def test_info_of_a_pipe(files: dict[str, Path]) -> None:
    command = f"{COMMAND} info <(cat {files['portable']})"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mod" in done.stdout


def test_an_archive_through_a_pipe() -> None:
    """With all it has: its modules are there, and the build-id."""
    command = f"{COMMAND} info --json <(cat {SAVED})"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert '"build_id": "eb4fbcd037e7253717950bf2b93bd5566f47c56f"' in done.stdout
    name = "virtio_ring"
    assert f'"name": "{name}"' in done.stdout
    command = f"{COMMAND} lookup --root <(cat {SAVED}) {name}:vring_map_one_sg"
    by_root = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (by_root.returncode, by_root.stderr) == (0, "")


def test_a_fifo_whose_writer_is_late(files: dict[str, Path], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Timer(0.3, lambda: fifo.write_text(TEXT))
    writer.start()
    assert [s.name for s in ksyms.load(fifo).find("alpha")] == ["alpha"]
    writer.join()


def test_nothing_and_half_through_a_pipe(files: dict[str, Path]) -> None:
    half = files["gz"].read_bytes()[:-9]
    for data, said in ((b"", "is neither an ELF file"), (half, "cannot be read")):
        done = subprocess.run(
            [COMMAND, "info", "/dev/stdin"], input=data, capture_output=True, check=False
        )
        assert said in done.stderr.decode()
        assert done.returncode == 1
    cut = run("info", "/dev/stdin", input=TEXT[:-5])
    refused(cut, "ends within a line")


def shown() -> bool:
    text = Path("/proc/kallsyms").read_text()
    return any(line[:16].strip("0") for line in text.splitlines())


@pytest.mark.parametrize("name", ["/proc/kallsyms", "/proc/../proc/kallsyms", "link"])
def test_the_running_kernels_text(name: str, tmp_path: Path) -> None:
    """Its addresses, or why it has none."""
    (tmp_path / "link").symlink_to("/proc/kallsyms")
    done = run("lookup", "--from", name, "_stext", cwd=tmp_path)
    if not shown():
        refused(done, "Run this as root")
        return
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    [stext] = [line[0] for line in lines if line[2:] == ["_stext"]]
    assert stext in done.stdout
    table = ksyms.load("/proc/kallsyms")
    assert table.facts["release"] == os.uname().release
    code = "import ksyms; print(ksyms.load('/dev/stdin').facts['release'])"
    with open("/proc/kallsyms") as text:
        told = subprocess.check_output([sys.executable, "-c", code], stdin=text, text=True)
    assert told.strip() == os.uname().release


@pytest.mark.parametrize("where", ["info", "lookup _stext --from", "lookup _stext --kallsyms"])
def test_hidden_says_the_rule(where: str) -> None:
    """As without --from: which rule of this kernel hides them, and not that a copy is bad."""
    command: list[str | Path] = [COMMAND, *where.split(), "/proc/kallsyms"]
    if os.geteuid() == 0:  # root gives up what shows the addresses
        command = ["setpriv", "--bounding-set=-syslog", "--inh-caps=-syslog", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    if paranoid <= 1 and Path("/proc/sys/kernel/kptr_restrict").read_text() == "0\n":
        assert (done.returncode, done.stderr) == (0, "")  # such a kernel shows them to everyone
    else:
        refused(done, "CAP_SYSLOG", "Run this as root")
