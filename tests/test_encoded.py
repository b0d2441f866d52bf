"""``ksyms decode`` of texts as people send them: packed, from Windows, cut, or not texts."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from command import COMMAND, TEXT, refused
from command import ksyms as run
from following import Following

RAW, NAMED = "ffffffff81000018", "ffffffff81000018 alpha+0x8/0x30"
TOOLS = {"gzip": "gzip -c", "xz": "xz -c", "xz in parts": "xz -c --block-size=9999"}
TOOLS |= {"zstd": "zstd -q -c", "zstd without sum": "zstd -q -c --no-check"}
LINES = "".join(
    f"[{n:6}] caf\u00e9 {random.Random(n).randbytes(9).hex('-')} {RAW}\n" for n in range(2000)
)


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("symbols") / "kallsyms"
    path.write_text(TEXT)
    return path


def packed(tool: str, data: bytes) -> bytes:
    return subprocess.run(
        TOOLS[tool].split(), input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def decoded(
    symbols: Path, data: bytes, how: str, directory: Path
) -> subprocess.CompletedProcess[bytes]:
    """What decode makes of ``data``, in a file or through a pipe."""
    command: list[str | Path] = [COMMAND, "decode", "--from", symbols, "--slide", "0"]
    if how == "pipe":
        return subprocess.run(command, input=data, capture_output=True)
    path = directory / "text"
    path.write_bytes(data)
    return subprocess.run([*command, path], capture_output=True)


@pytest.mark.parametrize("how", ["file", "pipe"])
@pytest.mark.parametrize("tool", TOOLS)
def test_packed(tool: str, how: str, symbols: Path, tmp_path: Path) -> None:
    """One, and two behind each other, as rotated logs are put together."""
    data = LINES.encode()
    done = decoded(symbols, packed(tool, data[:999]) + packed(tool, data[999:]), how, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == LINES.replace(RAW, NAMED)


def test_what_tells_the_boot_at_the_end_of_a_packed_file(symbols: Path, tmp_path: Path) -> None:
    text = f"{LINES}ffffffff81400018\n[<ffffffff81400018>] alpha+0x8/0x30\n"
    path = tmp_path / "text.xz"
    path.write_bytes(packed("xz", text.encode()))
    done = run("decode", "--from", symbols, path)
    assert "\nffffffff81400018 alpha+0x8/0x30\n" in done.stdout
    assert NAMED not in done.stdout


@pytest.mark.parametrize("how", ["file", "pipe"])
@pytest.mark.parametrize("order", ["LE", "BE"])
def test_utf_16(order: str, how: str, symbols: Path, tmp_path: Path) -> None:
    """As PowerShell's > writes it; what comes out is UTF-8, lines end as they did."""
    text = "\ufeff" + LINES.replace("\n", "\r\n") + "\U0001f427"
    data = subprocess.run(
        ["iconv", "-f", "UTF-8", "-t", f"UTF-16{order}"],
        input=text.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    done = decoded(symbols, data, how, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == text[1:].replace(RAW, NAMED)
    assert decoded(symbols, packed("gzip", data), how, tmp_path).stdout == done.stdout
    half = decoded(symbols, data[:-1], how, tmp_path)
    assert half.returncode == 1
    assert b"ends within a character" in half.stderr


@pytest.mark.parametrize("how", ["file", "pipe"])
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damage(damage: str, tool: str, how: str, symbols: Path, tmp_path: Path) -> None:
    """What comes before it is decoded, and one sentence says that there is no more."""
    data = bytearray(packed(tool, LINES.encode()))
    middle = len(data) // 2
    if damage == "cut":
        del data[middle:]
    else:
        data[middle : middle + 40] = random.Random(3).randbytes(40)
    done = decoded(symbols, bytes(data), how, tmp_path)
    assert done.returncode == 1
    first, second = done.stderr.decode().splitlines()
    assert "cannot be read" in first
    assert first.endswith(".")
    assert second.startswith("       ")
    out = done.stdout.decode("utf-8", "replace").replace(NAMED, RAW)
    whole = [line for line, right in zip(out.split("\n"), LINES.split("\n")) if line == right]
    if not tool.startswith("zstd"):  # whose blocks are whole or none, of 128 KiB each
        assert len(whole) > 900
    assert done.stdout.decode("utf-8", "replace").count(NAMED) >= len(whole) - 1


def test_a_sum_that_is_wrong(symbols: Path, tmp_path: Path) -> None:
    """The last that gzip has is a sum, after all of the text was read."""
    data = bytearray(packed("gzip", LINES.encode()))
    data[-6] ^= 1
    done = decoded(symbols, bytes(data), "file", tmp_path)
    assert done.returncode == 1
    assert LINES.replace(RAW, NAMED).startswith(done.stdout.decode())
    assert len(done.stdout.splitlines()) > 1990


def test_a_packed_text_that_still_comes(symbols: Path) -> None:
    """What was flushed is out before the rest is there."""
    import zlib

    packer = zlib.compressobj(wbits=31)
    with Following("--from", symbols, "--slide", "0") as following:
        for number in range(5):
            line = f"{number} {RAW}\n".encode()
            following.write(packer.compress(line) + packer.flush(zlib.Z_SYNC_FLUSH))
            following.wait_for(f"{number} {NAMED}\n".encode())
        following.write(packer.flush())
        assert following.end()[0] == 0


def test_what_perf_record_writes(symbols: Path, tmp_path: Path) -> None:
    path = tmp_path / "perf.data"
    command = ["perf", "record", "-q", "-e", "cpu-clock:u", "-o", str(path), "true"]
    subprocess.run(command, check=True, capture_output=True)
    done = run("decode", "--from", symbols, path)
    refused(done, "perf.data is what perf record writes", f"perf script -i {path} | ksyms")
    with path.open() as file:
        refused(run("decode", "--from", symbols, stdin=file), "stdin", "perf script -i FILE")
    other = tmp_path / "other"
    other.write_bytes(b"2ELIFREP" + bytes(96))
    refused(run("decode", "--from", symbols, other), "perf record", "perf script")


@pytest.mark.parametrize("start", [b"\x1f", b"P", b"\xff", b"\x28\xb5", b"PERFILE", b""])
def test_what_only_begins_as_one(start: bytes, symbols: Path, tmp_path: Path) -> None:
    for how in ("file", "pipe"):
        for end in (b"", b"\n"):
            done = decoded(symbols, start + end, how, tmp_path)
            assert (done.returncode, done.stdout) == (0, start + end), done.stderr


def test_memory_of_what_was_packed_well(symbols: Path, tmp_path: Path) -> None:
    """200 MB in 20 KB, in the memory that 20 MB take."""
    peaks = []
    for count in (1, 10):
        path = tmp_path / f"{count}.zst"
        made = ["sh", "-c", f"yes 'words {RAW}' | head -c {count * 20_000_000}"]
        with subprocess.Popen(made, stdout=subprocess.PIPE) as text:
            pack = ["zstd", "-q", "-o", str(path)]
            subprocess.run(pack, stdin=text.stdout, check=True)
        command = [str(each) for each in (COMMAND, "decode", "--from", symbols, path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=-1) as decode:
            _, status, used = os.wait4(decode.pid, 0)
            decode.returncode = status
        assert status == 0
        peaks.append(used.ru_maxrss)
    assert peaks[1] < peaks[0] * 1.2 + 10_000
