"""Snapshots as small files: zstd gives the image back, and nothing believes a damaged one."""

from __future__ import annotations

import json
import re
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import TEXT, nm, refused
from command import ksyms as command
from conftest import FIXTURES, SAVED

MAGIC = 0x184D2A5B


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ksyms.Snapshot:
    text = tmp_path_factory.mktemp("text") / "kallsyms"
    text.write_text(TEXT)
    return ksyms.snapshot(kallsyms=text)


@pytest.fixture(scope="module")
def packed(image: ksyms.Snapshot) -> bytes:
    return image.portable()


@pytest.fixture(scope="module")
def small(packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "small.elf.zst"
    path.write_bytes(packed)
    return path


def _frames(data: bytes) -> tuple[bytes, bytes]:
    """What the skippable frame holds, and the rest (RFC 8878, 3.1.2)."""
    magic, size = struct.unpack_from("<II", data)
    assert magic == MAGIC
    return data[8 : 8 + size], data[8 + size :]


def _with(content: bytes, rest: bytes, size: int | None = None) -> bytes:
    return struct.pack("<II", MAGIC, len(content) if size is None else size) + content + rest


def _fails(path: Path, data: bytes) -> ksyms.KsymsError:
    path.write_bytes(data)
    with pytest.raises(ksyms.ImageError) as caught:
        ksyms.load(path)
    return caught.value


# -- what others make of it -----------------------------------------------------------------


def test_zstd_gives_the_image_back(small: Path, image: ksyms.Snapshot) -> None:
    assert subprocess.check_output(["zstd", "-dc", small]) == bytes(image.image)
    told = subprocess.check_output(["zstd", "-lv", small], text=True)
    assert re.search(r"Skippable Frames: 1$", told, re.M)
    assert re.search(rf"Decompressed Size: .*\({len(image.image)} B\)$", told, re.M)
    assert re.search(r"Check: XXH64 [0-9a-f]{8}$", told, re.M)


def test_what_it_is_of_stands_at_its_beginning(packed: bytes, image: ksyms.Snapshot) -> None:
    content, _ = _frames(packed)
    title, _, facts = content.partition(b"\n")
    assert title == b"ksyms 1"
    assert json.loads(facts) == ksyms.load(image.image).facts


def test_a_saved_kernel_is_a_quarter_and_the_same(tmp_path: Path) -> None:
    archive, path = FIXTURES / f"{SAVED[0]}.tar.gz", tmp_path / "saved.zst"
    run = command("snapshot", "--portable", "--root", archive, "-o", path)
    assert (run.returncode, run.stderr) == (0, "")
    assert f" {path.stat().st_size} bytes" in run.stdout
    elf = tmp_path / "saved.elf"
    subprocess.run(["zstd", "-dq", path, "-o", elf], check=True)
    assert path.stat().st_size < elf.stat().st_size / 4
    assert nm(elf) == nm_of(archive, tmp_path)
    lookup = [command("lookup", "--json", "--from", file, "schedule") for file in (path, elf)]
    assert lookup[0].stdout == lookup[1].stdout != ""


def nm_of(archive: Path, directory: Path) -> list[str]:
    plain = directory / "plain.elf"
    ksyms.snapshot(archive).write(plain)
    return nm(plain)


# -- the commands ---------------------------------------------------------------------------


def test_its_name_and_mode(text: Path, tmp_path: Path) -> None:
    run = command("snapshot", "--portable", "--kallsyms", text, cwd=tmp_path, umask=0)
    assert (run.returncode, run.stderr) == (0, "")
    path = tmp_path / "kernel.elf.zst"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run.stdout.startswith("kernel.elf.zst: 10 symbols")


def test_freebsds_layout_has_nothing_to_say_of_itself(tmp_path: Path) -> None:
    run = command("snapshot", "--portable", "--layout", "freebsd", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert "--portable: not allowed" in run.stderr


def test_info_tells_as_much_of_it_as_of_the_image(
    small: Path, image: ksyms.Snapshot, tmp_path: Path
) -> None:
    """But for what only a count of the symbols tells."""
    elf = tmp_path / "plain.elf"
    image.write(elf)
    told, plain = (json.loads(command("info", "--json", f).stdout) for f in (small, elf))
    assert told.pop("packed") is True
    assert {section.pop("symbols") for section in told["sections"]} == {None}
    for section in plain["sections"]:
        section.pop("symbols")
    assert told | {"file": ""} == plain | {"file": ""}


def test_info_needs_nothing_but_the_beginning(packed: bytes, tmp_path: Path) -> None:
    content, rest = _frames(packed)
    path = tmp_path / "beginning"
    path.write_bytes(_with(content, rest[:10]))
    facts = json.loads(command("info", "--json", path).stdout)
    assert (facts["symbols"], facts["build_id"]) == (10, None)
    refused(command("lookup", "--from", path, "alpha"), "cannot be read")


def test_info_says_what_it_cannot_answer(small: Path) -> None:
    run = command("info", small)
    lines = run.stdout[run.stdout.index("answers\n") :].split("\n\n")[0].splitlines()[1:]
    words = dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in lines)
    assert words["names of addresses"] == "yes, 10 symbols"
    assert words["sizes"] == "yes, 0 exact, 10 inferred"
    assert words["modules"] == "yes, 1"
    no = {name for name, answer in words.items() if answer.startswith("no, ")}
    assert no == {
        "prototypes",
        "link-time addresses",
        "source lines",
        "code",
        "contents of memory",
    }


# -- what is not to be believed -------------------------------------------------------------


def test_one_that_says_another_thing_of_itself_is_refused(
    packed: bytes, tmp_path: Path
) -> None:
    content, rest = _frames(packed)
    lie = content.replace(b'"kind":"module"', b'"kind":"listed"')
    assert lie != content
    error = _fails(tmp_path / "lie", _with(lie, rest))
    assert "other facts than its image" in error.what


def test_one_whose_contents_are_no_snapshot_is_refused(packed: bytes, tmp_path: Path) -> None:
    content, _ = _frames(packed)
    text = subprocess.check_output(["zstd", "-c"], input=TEXT.encode())
    assert "other facts than its image" in _fails(tmp_path / "text", _with(content, text)).what


def test_a_version_that_is_not_known_is_refused(packed: bytes, tmp_path: Path) -> None:
    content, rest = _frames(packed)
    data = _with(content.replace(b"ksyms 1", b"ksyms 2", 1), rest)
    error = _fails(tmp_path / "later", data)
    assert isinstance(error, ksyms.NoteError)
    assert "version 2" in error.what
    refused(command("info", tmp_path / "later"), "version 2", "later one")


@pytest.mark.parametrize(
    "content",
    [
        b"ksyms ",
        b"ksyms one\n{}",
        b"ksyms 1\n",
        b"ksyms 1\n[]",
        b"ksyms 1\n{}",
        b"ksyms 1\n" + b"[" * 100_000,
        b"ksyms 99999999999999999999999999\n{}",
        b"ksyms 1\n\xff",
    ],
)
def test_what_is_not_facts_is_refused(content: bytes, packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    _fails(path, _with(content, _frames(packed)[1]))
    refused(command("info", path), str(path))


@pytest.mark.parametrize("size", [1 << 26, (1 << 32) - 1])
def test_a_length_that_is_not_there_is_refused(
    size: int, packed: bytes, tmp_path: Path
) -> None:
    content, rest = _frames(packed)
    path = tmp_path / "long"
    _fails(path, _with(content, rest, size))
    refused(command("info", path), "cut short")


def test_somebody_elses_frame_is_passed_over(image: ksyms.Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "other.zst"
    plain = subprocess.check_output(["zstd", "-c"], input=bytes(image.image))
    path.write_bytes(_with(b"any words of others", plain))
    assert list(ksyms.load(path)) == list(ksyms.load(image.image))


def test_cut_at_any_byte_it_is_refused(packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for length in range(len(packed)):
        _fails(path, packed[:length])


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_a_bit_that_flips_is_refused_or_changes_nothing(
    at: int,
    bit: int,
    packed: bytes,
    image: ksyms.Snapshot,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = bytearray(packed)
    data[at % len(data)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(data)
    try:
        table = ksyms.load(path)
    except ksyms.KsymsError:
        return
    whole = ksyms.load(image.image)
    assert (list(table), table.facts) == (list(whole), whole.facts)
