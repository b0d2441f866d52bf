"""What a table can be read from: the same symbols from each form that people send."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

import ksyms

HERE = Path(__file__).parent
SAVED = HERE / "fixtures" / "6.12.117+deb12-amd64-few.tar.gz"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved kallsyms of a Debian kernel with modules."""
    path = tmp_path_factory.mktemp("text") / "kallsyms"
    with tarfile.open(SAVED) as archive:
        content = archive.extractfile("proc/kallsyms")
        assert content is not None
        path.write_bytes(content.read())
    return path


def lines(text: Path) -> list[tuple[int, str, str | None]]:
    rows = []
    for line in text.read_text().splitlines():
        address, _, name, *module = line.split()
        rows.append((int(address, 16), name, module[0].strip("[]") if module else None))
    return sorted(rows, key=str)


def rows(source: Path) -> list[tuple[int, str, str | None]]:
    return sorted(((s.address, s.name, s.module) for s in ksyms.load(source)), key=str)


@pytest.mark.parametrize("packer", [None, "gzip", "xz -1", "zstd -q"])
def test_kallsyms(text: Path, packer: str | None, tmp_path: Path) -> None:
    path = tmp_path / "any name"
    if packer is None:
        path.write_bytes(text.read_bytes())
    else:
        packed = subprocess.run([*packer.split(), "-c", text], capture_output=True, check=True)
        path.write_bytes(packed.stdout)
    assert rows(path) == lines(text)


@pytest.mark.parametrize("packer", [None, "gzip", "bzip2", "xz -1", "zstd -q"])
def test_an_archive(text: Path, packer: str | None, tmp_path: Path) -> None:
    """proc/kallsyms and proc/modules lie anywhere in it, as in what sosreport writes."""
    out = io.BytesIO()
    with tarfile.open(SAVED) as saved, tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("proc/kallsyms", "proc/modules"):
            member = saved.getmember(name)
            content = saved.extractfile(name)
            member.name = f"./sosreport-host-2026/{name}"
            archive.addfile(member, content)
    path = tmp_path / "report"
    path.write_bytes(out.getvalue())
    if packer is not None:
        command: list[str | Path] = [*packer.split(), "-c", path]
        path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    assert rows(path) == lines(text)


def test_a_system_map(tmp_path: Path) -> None:
    """As nm -n prints a vmlinux: no brackets, the kernel's own addresses at link time."""
    path = tmp_path / "System.map-6.1.0"
    path.write_text(
        "0000000000000000 D __per_cpu_start\n"
        "0000000000000010 d offset\n"
        "0000000000000020 D __per_cpu_end\n"
        "ffffffff81000000 T _stext\n"
        "ffffffff81000040 t first\n"
        "ffffffff81000060 T _etext\n"
        "ffffffff82000000 D jiffies\n"
    )
    table = ksyms.load(path)
    assert [(s.name, s.size) for s in table.find("first")] == [("first", 0x20)]
    found = table.lookup(0xFFFFFFFF81000044)
    assert found is not None
    assert found.name == "first"
    assert table.lookup(0x10) is None  # an offset is no address
    assert [(s.address, s.section) for s in table.find("offset")] == [(0x10, None)]


def test_elf_files_of_a_compiler(tmp_path: Path) -> None:
    """An object file, a program, and the program's debug info, packed or not."""
    (tmp_path / "a.c").write_text("int counter = 1; int twice(int n) { return 2 * n; }\n")
    subprocess.run(["gcc", "-c", "-g", "a.c"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "-g", "-nostdlib", "-shared", "a.o", "-o", "a.so"], cwd=tmp_path)
    subprocess.run(
        ["objcopy", "--only-keep-debug", "a.so", "a.debug"], cwd=tmp_path, check=True
    )
    subprocess.run(["xz", "-k", "a.debug"], cwd=tmp_path, check=True)
    for name in ("a.so", "a.debug", "a.debug.xz"):
        nm = subprocess.run(
            ["nm", "-S", "--defined-only", tmp_path / "a.debug"], capture_output=True, text=True
        )
        [row] = [line.split() for line in nm.stdout.splitlines() if line.endswith(" twice")]
        [symbol] = ksyms.load(tmp_path / name).find("twice")
        assert (symbol.address, symbol.size) == (int(row[0], 16), int(row[1], 16))
    assert ksyms.load(tmp_path / "a.o").find("counter")[0].size == 4


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd -q"])
def test_packed_and_cut_anywhere(packer: str, tmp_path: Path) -> None:
    """Whatever is left of a file, it is refused or, cut of nothing that tells, the same."""
    whole = tmp_path / "whole"
    whole.write_text("ffffffff81000000 T _stext\nffffffff81000060 T _etext\n")
    command: list[str | Path] = [*packer.split(), "-c", whole]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    cut = tmp_path / "cut"
    for length in range(len(packed)):
        cut.write_bytes(packed[:length])
        with pytest.raises(ksyms.KsymsError):
            ksyms.load(cut)
    cut.write_bytes(packed)
    assert rows(cut) == rows(whole)
