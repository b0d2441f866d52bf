"""ksyms collect: an archive that every command reads in place of a root."""

from __future__ import annotations

import calendar
import gzip
import io
import json
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import ksyms
from command import ksyms as command
from command import nm, refused
from conftest import FIXTURES, SAVED, Kernel


@pytest.mark.parametrize("name", SAVED)
def test_an_archive_is_as_good_as_its_root(
    name: str, saved: dict[str, Kernel], tmp_path: Path
) -> None:
    """Collected from a root, and the archive as it was saved: the same image but for why
    something is absent."""
    kernel = saved[name]
    archive, again = tmp_path / "host.tar.gz", tmp_path / "again.elf"
    run = command("collect", "--root", kernel.root, "-o", archive)
    assert (run.returncode, run.stderr) == (0, "")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert command("snapshot", "--root", archive, "-o", again).returncode == 0
    assert nm(again) == nm(kernel.elf)
    facts = [ksyms.load(elf).facts for elf in (again, kernel.elf)]
    assert facts[0]["files"] == facts[1]["files"]
    assert facts[0]["build_id"] == facts[1]["build_id"]
    saved_archive = tmp_path / "saved.elf"
    ksyms.snapshot(FIXTURES / f"{name}.tar.gz").write(saved_archive)
    assert nm(saved_archive) == nm(kernel.elf)


def test_info_and_lookup_read_it(tmp_path: Path) -> None:
    archive = FIXTURES / f"{SAVED[0]}.tar.gz"
    facts = json.loads(command("info", "--json", archive).stdout)
    assert (facts["release"], facts["symbols"]) == ("6.1.0-56-amd64", 97505)
    answer = json.loads(command("lookup", "--json", "--from", archive, "ovl_mount").stdout)
    assert (answer["address"], answer["module"]) == ("0xffffffffc04d9020", "overlay")


def test_the_running_kernel(live: Kernel, tmp_path: Path) -> None:
    """What tar says is in it; the text is the kernel's own."""
    archive = tmp_path / "live.tar.gz"
    run = command("collect", "-o", archive)
    assert (run.returncode, run.stderr) == (0, "")
    names = subprocess.check_output(["tar", "tzf", archive], text=True).splitlines()
    assert {"proc/kallsyms", "proc/iomem", "sys/kernel/notes", "proc/version"} <= set(names)
    text = subprocess.check_output(["tar", "xzOf", archive, "proc/kallsyms"], text=True)
    core = [line for line in text.splitlines() if "\t" not in line]
    assert core == [
        line for line in Path("/proc/kallsyms").read_text().splitlines() if "\t" not in line
    ]


def tar(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            data = b"ffffffff81000000 T _stext\nffffffff81001000 T _etext\n"
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_an_archive_that_is_not_compressed(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    packed = tar(tmp_path / "x.tgz", "proc/kallsyms")
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    answer = json.loads(command("lookup", "--json", "--from", path, "_stext").stdout)
    assert answer["address"] == "0xffffffff81000000"


def test_below_a_directory(tmp_path: Path) -> None:
    """Packed with the directory it was in, as people do."""
    path = tar(tmp_path / "deep.tgz", "./case-17/host/proc/kallsyms")
    assert len(ksyms.load(ksyms.snapshot(path).image)) == 2


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ((), "has no proc/kallsyms"),
        (("proc/modules",), "has no proc/kallsyms"),
        (("a/proc/kallsyms", "b/proc/kallsyms"), "has 2 proc/kallsyms"),
    ],
)
def test_no_such_archive(names: tuple[str, ...], what: str, tmp_path: Path) -> None:
    refused(command("snapshot", "--root", tar(tmp_path / "x.tgz", *names)), what)


@pytest.mark.parametrize("form", ["tar", "directory", "text"])
def test_saved_as_empty_files(form: str, tmp_path: Path) -> None:
    """What tar makes of /proc: that is said, with what to do, and not another reason."""
    directory = tmp_path / "proc"
    directory.mkdir()
    (directory / "kallsyms").touch()
    if form == "tar":
        with tarfile.open(tmp_path / "empty.tgz", "w:gz") as archive:
            archive.add(directory, "proc")
    source = {
        "tar": ("--root", tmp_path / "empty.tgz"),
        "directory": ("--root", tmp_path),
        "text": ("--kallsyms", directory / "kallsyms"),
    }[form]
    refused(command("snapshot", *source), "saved as an empty file", "Save it with cat")
    if form == "tar":
        refused(command("info", tmp_path / "empty.tgz"), "saved as an empty file")


def taken(path: Path) -> tuple[str, str | None]:
    """What info calls the time, to people and to programs."""
    [line] = [x for x in command("info", path).stdout.splitlines() if x.startswith("taken")]
    return line.split()[1], json.loads(command("info", "--json", path).stdout)["saved"]


def test_when_it_was_saved(live: Kernel, tmp_path: Path) -> None:
    """By collect, of the running kernel; of all others that is unknown, and not now."""
    path, again = tmp_path / "host.tar.gz", tmp_path / "again.tar.gz"
    before = int(time.time())
    command("collect", "-o", path)
    after = int(time.time())
    told, saved = taken(path)
    assert told == saved
    moment = calendar.timegm(time.strptime(told, "%Y-%m-%dT%H:%M:%SZ"))
    assert before <= moment <= after
    # A snapshot of it, and an archive of the archive, are of that time too.
    command("snapshot", "--root", path, "-o", tmp_path / "host.elf")
    assert taken(tmp_path / "host.elf") == (told, told)
    command("collect", "--root", path, "-o", again)
    assert taken(again) == (told, told)
    assert taken(FIXTURES / f"{SAVED[0]}.tar.gz") == ("unknown", None)
    command("collect", "--root", FIXTURES / f"{SAVED[0]}.tar.gz", "-o", again)
    assert taken(again) == ("unknown", None)
    assert taken(tar(tmp_path / "other.tgz", "proc/kallsyms")) == ("unknown", None)
    assert "saved" not in ksyms.load(live.elf).facts


@pytest.mark.parametrize("cut", [1, 20, 1000, 100_000])
def test_an_archive_cut_short(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar.gz"
    path.write_bytes((FIXTURES / f"{SAVED[0]}.tar.gz").read_bytes()[:-cut])
    run = command("snapshot", "--root", path, "-o", tmp_path / "no.elf")
    refused(run, "cut.tar.gz")
    assert not (tmp_path / "no.elf").exists()


def test_hidden_addresses_are_not_collected(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/kallsyms").write_text("0000000000000000 T _stext\n")
    refused(command("collect", "--root", root, "-o", tmp_path / "x.tgz"), "is zero")
    assert not (tmp_path / "x.tgz").exists()
