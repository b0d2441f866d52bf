"""Programs that were not written for ksyms, on a served device and file."""

from __future__ import annotations

import gc
import re
import subprocess
from pathlib import Path

import drgn
import pytest

import ksyms
from command import COMMAND, nm, refused
from command import ksyms as ksyms_command
from pages import python_block
from served import Served, answers


def test_exec_maps_at_open(served: Served, client: Path) -> None:
    """KIOCGSIZE, KIOCGADDR and no mmap(): what FreeBSD's lockstat does."""
    device = f"open={served.device}"
    calls = [device, "size", "addr", "close", device, "addr"]
    run = subprocess.run(
        [COMMAND, "exec", "--", client, *calls], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["0", str(served.device.stat().st_size), "2", "0", "0", "2"]
    assert answers(client, *calls)[2] == "ENXIO"  # without it


def test_exec_unmaps_at_the_last_close(served: Served, client: Path) -> None:
    """Another descriptor keeps the mapping, and so does who shares the memory and closes."""
    device = f"open={served.device}"
    calls = [device, "dupclose", "addr", "vforkclose", "addr", "dup", "close", "addr", "close"]
    command: list[str | Path] = [COMMAND, "exec", "--", client, *calls, device, "addr"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "0", "2", "0", "2", "0", "0", "2", "0", "0", "2"]


def test_exec_of_another_name(served: Served, client: Path, tmp_path: Path) -> None:
    link = tmp_path / "symbols"
    link.symlink_to(served.device)
    calls = [str(client), f"open={link}", "addr"]
    for options, answer in (([], "ENXIO"), (["--device", str(link)], "2")):
        command: list[str | Path] = [COMMAND, "exec", *options, "--", *calls]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout.split() == ["0", answer]


def test_exec_leaves_other_files_alone(tmp_path: Path) -> None:
    """A file called ksyms that is none, and a program's own status."""
    (tmp_path / "ksyms").write_text("words")
    command = [str(COMMAND), "exec", "--", "sh", "-c", f"cat {tmp_path}/ksyms; exit 7"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (7, "words")
    refused(ksyms_command("exec", "--", "/no/such/program"), "cannot be run: No such file")


def test_drgn(served: Served) -> None:
    """By the symbol finder of docs/drgn.md."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    python_block("drgn.md")["use_symbols"](prog, str(served.file))
    [line] = [row.split() for row in nm(served.file) if row.endswith(" schedule")]
    assert prog.symbol("schedule").address == int(line[0], 16)
    assert prog.symbol(int(line[0], 16) + 4).name == "schedule"
    del prog  # with the finder, and the file that it holds open
    gc.collect()


def test_the_tools_open_vmlinux(served: Served, tmp_path: Path) -> None:
    """gdb, nm, readelf, addr2line, eu-nm and perf, by their own system calls."""
    [symbol] = [s for s in ksyms.load(served.file).find("schedule") if s.module is None]
    place = f"{symbol.address + 4:#x}"
    file = str(served.file)
    for command, words in (
        (["nm", file], " schedule"),
        (["eu-nm", "-B", file], " schedule"),
        (["readelf", "-s", "-W", file], " schedule"),
        (["addr2line", "-f", "-e", file, place], "schedule"),
        (["eu-addr2line", "-f", "-e", file, place], "schedule"),
        (
            ["gdb", "-batch", "-ex", f"info symbol {place}", file],
            "schedule + 4 in section .text",
        ),
    ):
        run = subprocess.run(command, capture_output=True, text=True)
        assert words in run.stdout, (command, run.stderr)
    assert served.status()["handles"] == 0


def test_perf_reports_with_vmlinux(served: Served, tmp_path: Path) -> None:
    """It opens the file, for it has the kernel's build-id, and names what was sampled."""
    data = str(tmp_path / "perf.data")
    record = ["perf", "record", "-q", "-e", "cpu-clock:k", "-o", data, "--", "find", "/usr"]
    subprocess.run(record, capture_output=True, check=True)
    file = str(served.file)
    report = ["perf", "report", "-i", data, "--stdio", "--vmlinux", file, "-s", "sym"]
    perf = subprocess.Popen(report, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, said = perf.communicate()
    found = re.findall(r"^ +\d+\.\d+% +\[k\] (\w+)", out, re.M)
    known = {line.split()[-1] for line in nm(served.file)}
    assert len(found) > 5, out + said
    assert sum(name in known for name in found) >= 0.9 * len(found)
    assert re.search(rf"OPEN by {perf.pid} on node \d+: ok", served.words())


def test_open_from_python(served: Served) -> None:
    """A handle's size, address, bytes and table; EBUSY for a second of the device."""
    with ksyms.open(served.device) as handle:
        assert handle.size == served.file.stat().st_size
        assert handle.read(0, 4) == b"\x7fELF"
        assert handle.read(handle.size) == b""
        with pytest.raises(ksyms.SourceError) as caught:
            handle.read(handle.size + 1)
        assert caught.value.errno == 14  # EFAULT
        start = f"{handle.address:x}-"
        maps = Path("/proc/self/maps").read_text().splitlines()
        [line] = [m for m in maps if m.startswith(start)]
        assert "/ksyms" in line
        [symbol] = [s for s in handle.table.find("schedule") if s.module is None]
        found = handle.table.lookup(symbol.address)
        assert found is not None
        assert found.name == "schedule"
        with pytest.raises(ksyms.SourceError) as caught:
            ksyms.open(served.device)
        assert caught.value.errno == 16  # EBUSY
        whole = handle.read()
    with ksyms.open(served.file) as one, ksyms.open(served.file) as two:
        assert one.read() == two.read() == whole
