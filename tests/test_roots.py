"""Roots and archives that somebody else made: the right answer, or an error that says why.

No link in one leads out of it, nothing in one is waited for, and a number that is none is
unknown.
"""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ksyms
import tars
from bounded import run
from command import ksyms as command
from command import refused
from ksyms import _beneath
from ksyms._paths import descend
from tars import END, header, long_name, member, pax

TEXT = b"""\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000010 T alpha
ffffffff81001000 T _etext
ffffffffc0000000 t f\t[mod]
ffffffffc0000020 t g\t[mod]
"""
PLACES = {"alpha": 0xFFFFFFFF81000010, "f": 0xFFFFFFFFC0000000, "g": 0xFFFFFFFFC0000020}
NOTES = struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(20))
PROGRAM = {
    "address": "0xffffffffc0100000",
    "size": 16,
    "id": 1,
    "type": "kprobe",
    "tag": "00",
    "name": "p",
    "subprogram": 0,
    "lines": {"a.c": [0, 1]},
}
FILES: dict[str, bytes] = {
    "proc/kallsyms": TEXT,
    "proc/modules": b"mod 16384 0 - Live 0xffffffffc0000000 (E)\n",
    "proc/iomem": b"01000000-01000fff : Kernel code\n01001000-01001fff : Kernel data\n",
    "proc/version": b"Linux version 6.12.0-x (a@b) #1\n",
    "proc/sys/kernel/osrelease": b"6.12.0-x\n",
    "proc/sys/kernel/arch": b"x86_64\n",
    "proc/sys/kernel/random/boot_id": b"5dd1c7e7-0000-4000-8000-000000000000\n",
    "proc/sys/kernel/kptr_restrict": b"0\n",
    "sys/kernel/notes": NOTES,
    "sys/kernel/cpu_byteorder": b"little\n",
    "sys/module/mod/sections/.text": b"0xffffffffc0000000\n",
    "sys/module/mod/sections/.data": b"0xffffffffc0002000\n",
    "sys/module/mod/sections/.init.text": b"0xffffffffc0010000\n",
    "sys/module/mod/notes/.note.gnu.build-id": NOTES,
    "sys/module/mod/srcversion": b"ABCDEF\n",
    "sys/kernel/btf/vmlinux": b"\x9f\xeb\1\0" + bytes(20),
    "boot/System.map-6.12.0-x": b"ffffffff81000000 T _stext\nffffffff81000000 T _text\n"
    b"ffffffff81001000 T _etext\n",
    "lib/modules/6.12.0-x/modules.dep": b"kernel/mod.ko:\n",
    "lib/modules/6.12.0-x/kernel/mod.ko": b"\x7fELF",
    "boot/vmlinux-6.12.0-x": b"\x7fELF",
    "ksyms/bpf.json": json.dumps({"page_size": 4096, "programs": [PROGRAM]}).encode(),
}
SECRET = "Linux version 9.9.9-secret (root@elsewhere)"


def saved(root: Path) -> Path:
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def right(path: Path) -> None:
    """Whether the symbols in ``path`` are where the text has them."""
    table = ksyms.load(path)
    assert {name: table.find(name)[0].address for name in PLACES} == PLACES
    assert [table.find(name)[0].module for name in PLACES] == [None, "mod", "mod"]


# Archives.

KALLSYMS = member(b"proc/kallsyms", TEXT)
OLD = b"ffffffff91000000 T _stext\nffffffff91000010 T alpha\nffffffff91000100 T _etext\n"
GOOD: dict[str, bytes] = {
    "as it should be": KALLSYMS + END,
    "in a directory": member(b"./host/proc/kallsyms", TEXT) + END,
    "absolute": member(b"/proc/kallsyms", TEXT) + END,
    "with ..": member(b"a/../proc/./kallsyms", TEXT) + END,
    "from above": member(b"../../proc/kallsyms", TEXT) + END,
    "of contiguous blocks": member(b"proc/kallsyms", TEXT, b"7") + END,
    "older than POSIX": member(b"proc/kallsyms", TEXT, b"\0", magic=bytes(8)) + END,
    "with a prefix": member(b"kallsyms", TEXT, prefix=b"host/proc") + END,
    "GNU's magic, with times in the prefix": member(
        b"proc/kallsyms", TEXT, magic=b"ustar  \0", prefix=b"14000000000"
    )
    + END,
    "a long name": long_name(b"h" * 200 + b"/proc/kallsyms") + member(b"h", TEXT) + END,
    "a name by pax": pax({b"path": b"h" * 200 + b"/proc/kallsyms"}) + member(b"h", TEXT) + END,
    "a size by pax": pax({b"size": b"%d" % len(TEXT)})
    + header(b"proc/kallsyms", 0)
    + tars.padded(TEXT)
    + END,
    "global pax headers": pax({b"comment": b"c", b"x": b"y"}, b"g") + KALLSYMS + END,
    "a size of 256 a byte": header(b"proc/kallsyms", b"\x80" + len(TEXT).to_bytes(11))
    + tars.padded(TEXT)
    + END,
    "a size of spaces and digits": header(b"proc/kallsyms", b"%11o " % len(TEXT))
    + tars.padded(TEXT)
    + END,
    "before 1970": member(b"proc/kallsyms", TEXT, mtime=b"\xff" * 12) + END,
    "past the year 10000": member(
        b"proc/kallsyms", TEXT, mtime=b"\x80" + (1 << 60).to_bytes(11), mode=b"0000400\0"
    )
    + END,
    "twice, of which the last counts": member(b"proc/kallsyms", OLD) + KALLSYMS + END,
    "a file that was a link": header(b"proc/kallsyms", 0, b"2", b"x") + KALLSYMS + END,
    "a hard link": member(b"saved", TEXT) + header(b"proc/kallsyms", 0, b"1", b"saved") + END,
    "a hard link to a hard link": member(b"a", TEXT)
    + header(b"b", 0, b"1", b"a")
    + header(b"proc/kallsyms", 0, b"1", b"b")
    + END,
    "a symbolic link": member(b"saved", TEXT)
    + header(b"proc/kallsyms", 0, b"2", b"../saved")
    + END,
    "an absolute link": member(b"proc/text", TEXT)
    + header(b"proc/kallsyms", 0, b"2", b"/proc/text")
    + END,
    "a link to what comes later": header(b"proc/kallsyms", 0, b"2", b"text")
    + member(b"proc/text", TEXT)
    + END,
    "a link of a long name": long_name(b"t" * 150)
    + member(b"t", TEXT)
    + long_name(b"../" + b"t" * 150, b"K")
    + header(b"proc/kallsyms", 0, b"2", b"t")
    + END,
    "a link to itself": KALLSYMS + header(b"sys/x", 0, b"2", b"x") + END,
    "links in a ring": KALLSYMS
    + header(b"proc/version", 0, b"2", b"a")
    + header(b"proc/a", 0, b"2", b"version")
    + END,
    "a link that dangles": KALLSYMS + header(b"proc/version", 0, b"2", b"1234") + END,
    "a link that leads out": KALLSYMS
    + header(b"proc/version", 0, b"2", b"../../../../../../etc/passwd")
    + END,
    "a hard link to nothing": KALLSYMS + header(b"proc/version", 0, b"1", b"none") + END,
    "a hard link to itself": KALLSYMS + header(b"proc/version", 0, b"1", b"proc/version") + END,
    "devices and FIFOs": KALLSYMS
    + b"".join(header(b"proc/version", 0, kind) for kind in (b"3", b"4", b"6"))
    + END,
    "directories": header(b"proc/", 0, b"5") + header(b"proc/version/", 0) + KALLSYMS + END,
    "unknown types": KALLSYMS + member(b"proc/version", b"x" * 700, b"Z") + END,
    "a file below a file": KALLSYMS
    + member(b"proc/version", b"x")
    + member(b"proc/version/x", b"y")
    + END,
    "a sparse file by pax": KALLSYMS
    + pax({b"GNU.sparse.major": b"1", b"GNU.sparse.name": b"proc/version"})
    + member(b"proc/GNUSparseFile.1/version", b"x" * 600)
    + END,
    "a path of a megabyte": KALLSYMS + long_name(b"p/" * 400_000) + member(b"p", b"x") + END,
    "names that are no text": KALLSYMS + member(b"proc/\xff\xfe", b"x") + END,
    "one block of zeros at its end": KALLSYMS + bytes(512),
    "more behind its end": KALLSYMS + END + b"x" * 5000,
    "numbers with spaces alone": KALLSYMS + header(b"e", b" " * 12) + END,
}
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (END, "no proc/kallsyms"),
    "of zeros": (bytes(10240), "no proc/kallsyms"),
    "without a text": (member(b"proc/version", b"x") + END, "no proc/kallsyms"),
    "with two": (KALLSYMS + member(b"b/proc/kallsyms", TEXT) + END, "2 proc/kallsyms"),
    "a directory": (header(b"proc/kallsyms", 0, b"5") + END, "no proc/kallsyms"),
    "a FIFO": (header(b"proc/kallsyms", 0, b"6") + END, "no proc/kallsyms"),
    "a text that is a link to nothing": (
        header(b"proc/kallsyms", 0, b"2", b"1") + END,
        "leads to no file",
    ),
    "a text that is a link to itself": (
        header(b"proc/kallsyms", 0, b"2", b"kallsyms") + END,
        "leads to no file",
    ),
    "a text in a ring of directories": (
        header(b"proc/kallsyms", 0, b"2", b"../a/k")
        + header(b"a", 0, b"2", b"b")
        + header(b"b", 0, b"2", b"a")
        + END,
        "leads to no file",
    ),
    "a text that grows with each link": (
        header(b"proc/kallsyms", 0, b"2", b"kallsyms/kallsyms") + END,
        "leads to no file",
    ),
    "a text that is a hard link to nothing": (
        header(b"proc/kallsyms", 0, b"1", b"none") + END,
        "no proc/kallsyms",
    ),
    "a text that is sparse": (
        pax({b"GNU.sparse.major": b"1"}) + KALLSYMS + END,
        "no proc/kallsyms",
    ),
    "without an end": (KALLSYMS, "ends before"),
    "cut in a header": (KALLSYMS + header(b"x")[:300], "ends before"),
    "cut in a file": (KALLSYMS[:700], "ends before"),
    "cut in a long name": (KALLSYMS + long_name(b"n" * 600)[:900], "ends before"),
    "a checksum that is wrong": (
        KALLSYMS + header(b"x", checksum=b"000001\0 ") + END,
        "damaged",
    ),
    "a checksum that is none": (KALLSYMS + header(b"x", checksum=b"x" * 8) + END, "number"),
    "a size that is none": (KALLSYMS + header(b"x", b"12_34567890\0") + END, "number"),
    "a size below 0": (KALLSYMS + header(b"x", b"\xff" * 12) + END, "number"),
    "a size of 2^88": (KALLSYMS + header(b"x", b"\x80" + b"\xff" * 11) + END, "MiB"),
    "a size by pax below 0": (KALLSYMS + pax({b"size": b"-1"}) + header(b"x") + END, "number"),
    "a size by pax of 2^70": (
        KALLSYMS + pax({b"size": b"1180591620717411303424"}) + header(b"x") + END,
        "number",
    ),
    "a size by pax past its end": (
        KALLSYMS + pax({b"size": b"999999"}) + header(b"x") + END,
        "ends before",
    ),
    "a record without a length": (
        KALLSYMS + member(b"p", b"path=x\n", b"x") + header(b"x") + END,
        "number",
    ),
    "a record of length 0": (
        KALLSYMS + member(b"p", b"0 a=b\n", b"x") + header(b"x") + END,
        "damaged",
    ),
    "a record past its header": (
        KALLSYMS + member(b"p", b"99 a=b\n", b"x") + header(b"x") + END,
        "damaged",
    ),
    "a record without a line end": (
        KALLSYMS + member(b"p", b"6 a=bc", b"x") + header(b"x") + END,
        "damaged",
    ),
    "a record without a value": (
        KALLSYMS + member(b"p", b"5 ab\n", b"x") + header(b"x") + END,
        "damaged",
    ),
    "a long name of 2 MiB": (KALLSYMS + long_name(b"n" * (2 << 20)) + END, "1 MiB"),
    "three thousand long names of one file": (
        KALLSYMS + long_name(b"n") * 3000 + member(b"x") + END,
        "1 MiB",
    ),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roots")


def others(path: Path, number: int) -> list[Any]:
    """One of the commands that take an archive, another for each number."""
    out = path.with_suffix(".out")
    if path.read_bytes()[257:262] != b"ustar":  # only who says that it is one is believed
        return ["snapshot", "--root", path, "-o", out]
    return [
        ["snapshot", "--root", path, "-o", out],
        ["info", "--root", path],
        ["info", path],
        ["collect", "--root", path, "-o", out],
        ["diff", path, path],
        ["map", path, "-o", out],
    ][number % 6]


def test_archives_that_are_good(directory: Path) -> None:
    """The text in each is found, whatever else is in it."""
    commands: list[list[Any]] = []
    for number, data in enumerate(GOOD.values()):
        path = directory / f"good{number}.tar"
        path.write_bytes(data)
        commands += [["lookup", "--root", path, "alpha"], others(path, number)]
    ended = run(commands)
    for name, found, other in zip(GOOD, ended[::2], ended[1::2]):
        assert found.out.startswith("ffffffff81000010"), (name, found.err)
        assert other.well().status == 0, (name, other)


def test_archives_that_are_bad(directory: Path) -> None:
    """Each is refused by all commands that read it, in words."""
    commands: list[list[Any]] = []
    for number, (data, _) in enumerate(BAD.values()):
        path = directory / f"bad{number}.tar"
        path.write_bytes(data)
        commands += [
            ["snapshot", "--root", path, "-o", path.with_suffix(".out")],
            ["lookup", "--from", path, "alpha"],
        ]
    ended = run(commands)
    for (name, (_, words)), found, other in zip(BAD.items(), ended[::2], ended[1::2]):
        assert words in found.err, (name, found.err)
        found.refused()
        other.refused()
        assert not Path(found.arguments[-1]).exists()


def test_archives_are_what_tar_takes_them_for(directory: Path) -> None:
    """What GNU tar puts out of the members of each is what is read of them."""
    told = 0
    for number, data in enumerate(GOOD.values()):
        path = directory / f"taken{number}.tar"
        path.write_bytes(data)
        listed = subprocess.run(
            ["tar", "--absolute-names", "-xOf", path, "--wildcards", "*proc/kallsyms"],
            capture_output=True,
        )
        if listed.stdout in (TEXT, OLD + TEXT):
            told += 1
            table = ksyms.load(ksyms.snapshot(path).image)
            assert table.find("alpha")[0].address == PLACES["alpha"]
    assert told > len(GOOD) // 2


def test_an_archive_of_links_as_its_directory(directory: Path) -> None:
    """Packed by tar as people do, with links as a machine has them: it tells the same."""
    root = saved(directory / "linked")
    shutil.move(root / "lib", root / "usr-lib")
    (root / "lib").symlink_to("usr-lib")
    shutil.move(root / "proc/version", root / "v")
    (root / "proc/version").symlink_to("/v")
    (root / "proc/self").symlink_to("1234")
    (root / "proc/loop").symlink_to("loop")
    os.link(root / "sys/kernel/notes", root / "notes")
    archive, images = directory / "linked.tar.gz", []
    subprocess.run(["tar", "-C", root, "-czf", archive, "."], check=True)
    for source in (root, archive):
        image = directory / f"{source.name}.elf"
        ksyms.snapshot(source).write(image)
        right(image)
        images.append(ksyms.load(image).facts)
    for member_ in ("release", "version", "build_id", "files", "addresses", "link_time"):
        assert images[0][member_] == images[1][member_]
    assert images[0]["version"] == FILES["proc/version"].decode().strip()


@pytest.mark.parametrize("packer", ["", "gzip", "bzip2", "xz -1", "zstd -q"])
def test_an_archive_cut_anywhere(packer: str, tmp_path: Path) -> None:
    """Whatever is left of it, it is refused or is the same."""
    data = KALLSYMS + member(b"proc/version", b"Linux version 1\n") + END
    path = tmp_path / "whole"
    path.write_bytes(data)
    if packer:
        data = subprocess.run([*packer.split(), "-c", path], capture_output=True).stdout
    cut = tmp_path / "cut"
    for length in range(0, len(data), max(1, len(data) // 97)):
        cut.write_bytes(data[:length])
        try:
            table = ksyms.load(cut)
        except ksyms.KsymsError:
            continue
        assert table.find("alpha")[0].address == PLACES["alpha"]
        assert length > len(data) - 1024  # the second block of zeros, or less


def test_archives_with_any_byte_changed(directory: Path) -> None:
    """An error of the tree, or the text: never another exception."""
    good = b"".join(
        (
            pax({b"path": b"sys/kernel/notes"}) + member(b"n", NOTES),
            long_name(b"proc/version") + member(b"v", FILES["proc/version"]),
            KALLSYMS + header(b"proc/x", 0, b"2", b"version") + END,
        )
    )
    chance = random.Random(20)
    path = directory / "changed.tar"
    for _ in range(400):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice((0, 0x80, 0xFF, 0x2F, 0x37))
        path.write_bytes(data)
        with suppress(ksyms.KsymsError):
            ksyms.load(path)


# Roots on disk.


def out_by(target: str) -> Callable[[Path, Path], None]:
    def make(file: Path, outside: Path) -> None:
        file.symlink_to(target.replace("OUTSIDE", str(outside)))

    return make


def chain(file: Path, outside: Path) -> None:
    (file.parent / "first").symlink_to("second")
    (file.parent / "second").symlink_to(outside)
    file.symlink_to("first")


def ring(file: Path, outside: Path) -> None:
    (file.parent / "ring").symlink_to(file.name)
    file.symlink_to("ring")


def a_socket(file: Path, outside: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(file.parent)  # its name may be long
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(file.name)
    finally:
        os.fchdir(here)
        os.close(here)


def unreadable(file: Path, outside: Path) -> None:
    file.touch()
    file.chmod(0)


def a_device(file: Path, outside: Path) -> None:
    try:
        os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        file.symlink_to("/dev/zero")  # without CAP_MKNOD a root can only lead to one


INSTEAD: dict[str, Callable[[Path, Path], None]] = {
    "an absolute link out": out_by("OUTSIDE"),
    "a relative link out": out_by("../../../../../../../../../../../../../../..OUTSIDE"),
    "a chain of links out": chain,
    "a link to /dev/zero": out_by("/dev/zero"),
    "a link to what the kernel has": out_by("/proc/self/environ"),
    "a link to itself": ring,
    "a FIFO": lambda file, _: os.mkfifo(file),
    "a socket": a_socket,
    "a device": a_device,
    "a directory": lambda file, _: file.mkdir(),
    "nothing in it": lambda file, _: file.touch(),
    "what nobody may read": unreadable,
}


@pytest.mark.parametrize("instead", INSTEAD)
def test_each_file_of_a_root_is(instead: str, tmp_path: Path) -> None:
    """Of each file in turn; what lies outside never gets into what comes out."""
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    commands: list[list[Any]] = []
    for number, name in enumerate(FILES):
        root = saved(tmp_path / f"root{number}")
        if instead != "what nobody may read":
            (root / name).unlink()
        INSTEAD[instead](root / name, outside)
        out = tmp_path / f"{number}"
        commands += [
            ["snapshot", "--root", root, "--btf", "-o", out.with_suffix(".elf")],
            ["collect", "--root", root, "--btf", "-o", out.with_suffix(".tar")],
        ]
    ended_ = run(commands)
    for name, snapshot, collect in zip(FILES, ended_[::2], ended_[1::2]):
        for ended in (snapshot, collect):
            ended.well()
            assert "secret" not in ended.out + ended.err
            told = Path(ended.arguments[-1])
            if name == "proc/kallsyms" and instead != "what nobody may read":
                ended.refused()
            if ended.status:
                assert not told.exists()
                assert name in ("proc/kallsyms", "proc/modules"), (name, ended.err)
                continue
            right(told)
            data = told.read_bytes()
            if told.suffix == ".tar":
                with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                    data = b"".join(
                        content.read()
                        for each in archive
                        if (content := archive.extractfile(each)) is not None
                    )
            assert b"secret" not in data, name


@pytest.mark.parametrize(
    "name", ["proc", "sys", "proc/sys/kernel", "sys/module", "sys/module/mod", "boot", "lib"]
)
def test_a_directory_of_a_root_leads_out(name: str, tmp_path: Path) -> None:
    """To the same files of another root: nothing is taken from there."""
    other = saved(tmp_path / "other")
    (other / "proc/version").write_text(SECRET)
    (other / "proc/sys/kernel/osrelease").write_text("9.9.9-secret")
    (other / "sys/module/mod/srcversion").write_text("secret")
    root = saved(tmp_path / "root")
    shutil.rmtree(root / name)
    (root / name).symlink_to(other / name)
    out = tmp_path / "out.elf"
    run_ = command("snapshot", "--root", root, "-o", out)
    if name == "proc":
        refused(run_, "proc/kallsyms")
        return
    assert run_.returncode == 0, run_.stderr
    right(out)
    assert b"secret" not in out.read_bytes()


@pytest.mark.parametrize("walk", [False, True], ids=["openat2", "by steps"])
def test_links_lead_where_chroot_has_them(
    walk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any links to any place: what is opened is what a process whose root it is opens."""
    if walk:
        monkeypatch.setattr(_beneath, "_has_openat2", lambda: False)
    chance = random.Random(5)
    (tmp_path / "above").write_text("out")
    root = tmp_path / "root"
    places = ["", "a/", "a/b/", "c/", "c/d/e/"]
    names = [f"{place}{name}" for place in places for name in ("f", "g", "l", "m", "n")]
    for place in places:
        (root / place).mkdir(parents=True, exist_ok=True)
    targets = [*names, *places, "..", "../..", ".", "above", "x/..", "f/..", "f/.", "//a//f"]
    for name in names:
        if name[-1] in "fg":
            (root / name).write_text(name)
            continue
        ups = "../" * chance.randrange(4)
        lead = chance.choice(("/", "", ups, f"/{ups}"))
        (root / name).symlink_to((lead + chance.choice(targets)) or ".")
    asked = [a + "/" + b for a in (*names, *places) for b in (*names[:8], "..", "../above", "")]
    asked += names
    expected = in_chroot(root, asked)
    found = [opened(root, name) for name in asked]
    assert dict(zip(asked, found)) == dict(zip(asked, expected))
    assert len({text for text in found if text is not None}) > 5
    assert "out" not in found


def opened(root: Path, name: str) -> str | None:
    try:
        fd = _beneath.open_regular(str(root), name)
    except (OSError, ValueError):
        return None
    with open(fd) as file:
        return file.read()


def in_chroot(root: Path, names: list[str]) -> list[str | None]:
    """What a process with that root finds in each regular file."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid():  # CLONE_NEWUSER: who is root there may
                ctypes.CDLL(None, use_errno=True).unshare(0x10000000)
            os.chroot(root)
            os.chdir("/")
            found = [
                Path(f"/{n}").read_text() if os.path.isfile(f"/{n}") else None for n in names
            ]
            os.write(write, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(child, 0)
    result: list[str | None] = json.loads(text)
    return result


def test_a_root_of_a_mounted_proc_and_sys(tmp_path: Path) -> None:
    """The running kernel's own, by another name, is as good as by its own."""
    (tmp_path / "proc").symlink_to("/proc")
    here = ksyms.load("/proc/kallsyms")
    refused(command("snapshot", "--root", tmp_path, "-o", tmp_path / "out.elf"), "kallsyms")
    table = ksyms.load(ksyms.snapshot("/").image)
    assert table.find("_stext")[0].address == here.find("_stext")[0].address
    assert table.release == os.uname().release


# Numbers.

NUMBERS = [
    "-1",
    "-0x10",
    "0x",
    "x",
    "",
    "0",
    "1_0",
    "0x1_0",
    "+16",
    "١٦",
    "1e3",
    "nan",
    "0x10000000000000000",
    "18446744073709551616",
    "0xffffffffffffffff",
    "0xfffffffffffff000",
    "ffffffffc0000000",
    "9" * 30,
    "f" * 40,
    "9" * 5000,
    "0x" + "f" * 5000,
    "0x0 0x0",
    "\0",
    "0xffffffffc0000000\0",
    "\x1b[31m16",
]
WITH: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "a section's address": ("sys/module/mod/sections/.text", str.encode),
    "an init section's address": ("sys/module/mod/sections/.init.text", str.encode),
    "a module's size": (
        "proc/modules",
        lambda n: f"mod {n} 0 - Live 0xffffffffc0000000\n".encode(),
    ),
    "a module's references": (
        "proc/modules",
        lambda n: f"mod 16384 {n} - Live 0xffffffffc0000000\n".encode(),
    ),
    "a module's address": ("proc/modules", lambda n: f"mod 16384 0 - Live {n}\n".encode()),
    "where code begins": ("proc/iomem", lambda n: f"{n}-01000fff : Kernel code\n".encode()),
    "where code ends": ("proc/iomem", lambda n: f"01000000-{n} : Kernel code\n".encode()),
    "where data ends": (
        "proc/iomem",
        lambda n: FILES["proc/iomem"] + f"01002000-{n} : Kernel bss\n".encode(),
    ),
    "a release": ("proc/sys/kernel/osrelease", lambda n: f"{n}.{n}.{n}".encode()),
    "a minor version": ("proc/sys/kernel/osrelease", lambda n: f"6.{n}".encode()),
    "kptr_restrict": ("proc/sys/kernel/kptr_restrict", str.encode),
    "an address at link time": (
        "boot/System.map-6.12.0-x",
        lambda n: FILES["boot/System.map-6.12.0-x"] + f"{n} T _sinittext\n".encode(),
    ),
    "a page's size": (
        "ksyms/bpf.json",
        lambda n: f'{{"page_size": {n}, "programs": []}}'.encode(),
    ),
    "a program's size": (
        "ksyms/bpf.json",
        lambda n: (
            json.dumps({"page_size": 4096, "programs": [{**PROGRAM, "size": 7}]})
            .replace("7", n)
            .encode()
        ),
    ),
    "a program's address": (
        "ksyms/bpf.json",
        lambda n: json.dumps(
            {"page_size": 4096, "programs": [{**PROGRAM, "address": n}]}
        ).encode(),
    ),
}


@pytest.mark.parametrize("what", WITH)
def test_numbers_that_are_none(what: str, tmp_path: Path) -> None:
    """Each is an error or unknown; the symbols stay where the text has them."""
    name, made = WITH[what]
    commands = []
    for number, text in enumerate(NUMBERS):
        root = saved(tmp_path / f"root{number}")
        with (root / "proc/kallsyms").open("ab") as file:
            file.write(b"ffffffffc0100000 t bpf_prog_00_p\t[bpf]\n")
        (root / name).write_bytes(made(text))
        commands.append(["snapshot", "--root", root, "-o", tmp_path / f"{number}.elf"])
    for text, ended in zip(NUMBERS, run(commands)):
        ended.well()
        if ended.status == 0:
            path = Path(ended.arguments[-1])
            right(path)
            table = ksyms.load(path)
            for region, start, size in table.sections:
                assert 0 <= start <= start + size <= 1 << 64, (text, region)
            found = table.lookup(PLACES["f"] + 1)
            assert found is not None, text
            assert found.name == "f", text
        else:
            assert name == "proc/modules", (text, ended.err)


@pytest.mark.parametrize(
    "name", ["sys/kernel/notes", "sys/module/mod/notes/.note.gnu.build-id"]
)
def test_notes_that_reach_past_their_end(name: str, tmp_path: Path) -> None:
    """A build-id that cannot be read is unknown."""
    sizes = (0, 1, 4, 5, 20, 1000, 0xFFFFFFFF)
    commands = []
    for number, (first, second) in enumerate((a, b) for a in sizes for b in sizes):
        root = saved(tmp_path / f"root{number}")
        (root / name).write_bytes(struct.pack("<III", first, second, 3) + NOTES[12:])
        commands.append(["snapshot", "--root", root, "-o", tmp_path / f"{number}.elf"])
    for ended in run(commands):
        assert ended.well().status == 0, ended.err
        right(Path(ended.arguments[-1]))


TEXTS = {
    "17 digits": TEXT + b"fffffffffffffffff T x\n",
    "below 0": TEXT + b"-fffffffffffffff T x\n",
    "the last address": b"ffffffffffffffff t last\n" + TEXT,
    "of 8 and 16 digits": b"81000000 T x\n" + TEXT,
    "no address": TEXT + b"gggggggggggggggg T x\n",
    "no name": TEXT + b"ffffffff81000020 T \n",
    "a name of 9000": TEXT + b"ffffffff81000020 T " + b"x" * 9000 + b"\n",
    "cut": TEXT[:-4],
    "zeros": b"0000000000000000 T _stext\n0000000000000000 T _etext\n",
    "an end before its begin": b"ffffffff81001000 T _stext\nffffffff81000000 T _etext\n",
    "a module at the last page": TEXT + b"fffffffffffff000 t z\t[mod]\n",
    "a module named ..": TEXT + b"ffffffffc0000000 t z\t[../../..]\n",
    "a module named /": TEXT + b"ffffffffc0000000 t z\t[/etc]\n",
    "a module of no name": TEXT + b"ffffffffc0000000 t z\t[]\n",
}


def test_texts_that_say_what_cannot_be(tmp_path: Path) -> None:
    commands: list[list[Any]] = []
    for number, data in enumerate(TEXTS.values()):
        root = saved(tmp_path / f"root{number}")
        (root / "proc/kallsyms").write_bytes(data)
        out = tmp_path / f"{number}"
        commands += [
            ["snapshot", "--root", root, "-o", out],
            ["lookup", "--from", root / "proc/kallsyms", "0xffffffff81000010"],
        ]
    for ended in run(commands):
        ended.well()


# What others say of themselves.

NUMBER: list[Any] = [-1, 1 << 64, 1.5, True, None, "1", [], {}, 10**400]
WORD = [1, True, [], {}, 1.5]
ADDRESS = ["0x", "-0x10", "0x1ffffffffffffffff", "0XFF", "ff", "", 5, True, [], "0x1_0"]
LIST: list[Any] = [None, 1, "x", {}, [1], [None], [[]]]


def lies(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """``facts`` with each member, one at a time, of a value that it cannot have."""
    found = []

    def within(value: Any, put: Callable[[Any], None]) -> None:
        wrong: Sequence[Any]
        if isinstance(value, dict):
            wrong = [None, 1, [], "x"]
            for key in value:
                within(value[key], partial(value.__setitem__, key))
        elif isinstance(value, list):
            wrong = LIST
            for at in range(len(value)):
                within(value[at], partial(value.__setitem__, at))
        elif isinstance(value, bool):
            wrong = [1, None, "x", []]
        elif isinstance(value, (int, float)):
            wrong = NUMBER
        elif isinstance(value, str) and value.startswith("0x"):
            wrong = ADDRESS
        else:
            wrong = WORD
        for new in wrong:
            put(new)
            found.append(json.loads(json.dumps(facts)))
        put(value)

    for key in list(facts):
        within(facts[key], partial(facts.__setitem__, key))
    return found


def test_a_portable_file_that_lies(tmp_path: Path) -> None:
    """What it says of itself is read before it is unpacked: no word of it is taken on trust."""
    root = saved(tmp_path / "root")
    with (root / "proc/kallsyms").open("ab") as file:
        file.write(b"ffffffffc0100000 t bpf_prog_00_p\t[bpf]\n")
    packed = ksyms.snapshot(root).portable()
    size = struct.unpack_from("<I", packed, 4)[0]
    title, _, text = packed[8 : 8 + size].partition(b"\n")
    commands: list[list[Any]] = []
    for number, facts in enumerate(lies(json.loads(text))):
        path = tmp_path / f"{number}.zst"
        said = title + b"\n" + json.dumps(facts).encode()
        path.write_bytes(struct.pack("<II", 0x184D2A5B, len(said)) + said + packed[8 + size :])
        commands.append(["info", *(["--json"] if number % 5 == 0 else []), path])
    assert len(commands) > 400
    ended = run(commands)
    for each in ended:
        each.well()
    assert sum(each.status for each in ended) > len(ended) // 2
    for command_ in commands[::40]:
        with pytest.raises(ksyms.ImageError):
            ksyms.load(str(command_[-1]))


STATUS: dict[str, Any] = {
    "pid": 1,
    "generation": {"modules": 3, "uevents": None, "perf_events": 7},
    "sources_missing": {"perf_event_open": "Permission denied"},
    "shared": True,
    "taken": 1,
    "age": 0.5,
    "passthrough": False,
    "why_no_passthrough": "no CAP_SYS_ADMIN",
    "nodes": 1,
    "snapshots": 1,
    "bytes": 7,
    "handles": 1,
    "openers": [{"file": "ksyms", "pid": 7}],
    "more_openers": 0,
}


def test_a_status_that_lies(tmp_path: Path) -> None:
    """A directory in which somebody else put a .status is not served."""
    contents = [json.dumps(facts).encode() for facts in lies(STATUS)]
    contents += [b"", b"{}", b"[]", b"1", b"null", b"[" * 100_000, b"\xff", b'{"openers": []}']
    contents += [
        json.dumps({**STATUS, member: value}).encode()
        for member, value in (
            ("age", float("nan")),
            ("age", float("inf")),
            ("bytes", 10**4000),
            ("pid", -1),
            ("taken", True),
        )
    ]
    contents += [json.dumps(STATUS).encode(), b" " * (2 << 20) + json.dumps(STATUS).encode()]
    commands = []
    for number, data in enumerate(contents):
        place = tmp_path / f"{number}"
        place.mkdir()
        (place / ".status").write_bytes(data)
        commands.append(["status", *(["--json"] if number % 5 == 0 else []), place])
    for number, make in enumerate(INSTEAD.values()):
        place = tmp_path / f"instead{number}"
        place.mkdir()
        make(place / ".status", tmp_path / "none")
        commands.append(["status", place])
    assert len(commands) > 100
    ended = run(commands)
    for each in ended:
        each.well()
    assert ended[len(contents) - 2].status == 0  # the one that does not
    for each in ended[len(contents) - 7 : len(contents) - 2]:
        each.refused("is not served")
    assert sum(each.status for each in ended) > len(ended) // 2
    for each in ended[-len(INSTEAD) :]:
        each.refused("is not served")


@pytest.mark.parametrize("links", [40, 41])
def test_as_many_links_as_the_kernel_follows(links: int, tmp_path: Path) -> None:
    """40 (include/linux/namei.h, MAXSYMLINKS): what open(2) says of the same chain."""
    (tmp_path / "d").mkdir()
    for number in range(links):
        target = f"n{number - 1}" if number else "d"
        (tmp_path / f"n{number}").symlink_to(target)
    name = f"n{links - 1}"
    top = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    ways: list[Callable[[], int]] = [
        lambda: os.open(tmp_path / name, os.O_PATH),
        lambda: _beneath.walk(top, name, os.O_RDONLY | os.O_DIRECTORY),
        lambda: descend(str(tmp_path / name)),
    ]
    said = []
    for opened in ways:
        try:
            os.close(opened())
            said.append(0)
        except OSError as error:
            said.append(error.errno or 0)
    os.close(top)
    assert said == [errno.ELOOP if links > 40 else 0] * 3
