"""Kernel images, as kernel_images.py makes them, read where symbols are read from.

docs/images.md has the kernels of Debian that the reader was held against.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ksyms
from command import ksyms as command
from kernel_images import (
    BANNER,
    CONTAINERS,
    COUNT,
    LAYOUTS,
    Layout,
    android,
    by,
    bzimage,
    elf,
    fit,
    image,
    lz4_legacy,
    symbols,
    uimage,
    zboot,
    zimage,
)


def said(path: Path) -> list[tuple[int, str]]:
    return sorted(
        (symbol.address, f"{symbol.letter}{symbol.name}") for symbol in ksyms.load(path)
    )


def meant(layout: Layout, bits: int, count: int = COUNT) -> list[tuple[int, str]]:
    return sorted((address, name.decode()) for address, name in symbols(layout, bits, count))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("version", LAYOUTS)
def test_tables(version: str, bits: int, order: str, tmp_path: Path) -> None:
    layout = LAYOUTS[version]
    path = tmp_path / "Image"
    path.write_bytes(image(layout, bits, order))
    assert said(path) == meant(layout, bits)
    facts = ksyms.load(path).facts
    assert facts is not None
    assert facts["release"] == "6.1.0-test"
    assert facts["version"] == BANNER.decode().rstrip("\n\0")


@pytest.mark.parametrize("names", [20, 60, 255, 256, 257])
@pytest.mark.parametrize("version", LAYOUTS)
def test_a_kernel_of_few_names(version: str, names: int, tmp_path: Path) -> None:
    """Of 256 or fewer there is one marker, which is zero."""
    layout = LAYOUTS[version]
    count = names - len(symbols(layout, 64, 0))
    path = tmp_path / "Image"
    for bits, order in ((64, "little"), (32, "big")):
        path.write_bytes(image(layout, bits, order, count))
        assert said(path) == meant(layout, bits, count)
        assert len(said(path)) == names


def row(order: str, address: int, symbol: int, kind: int, value: int) -> bytes:
    """An Elf64_Rela."""
    return struct.pack(f"{order}3Q", address, symbol << 32 | kind, value)


def unrelocated(order: str) -> tuple[bytes, int, int]:
    """A kernel whose words that are addresses are zero, its base, and where that word is."""
    data = bytearray(image(LAYOUTS["6.1"], 64, "little" if order == "<" else "big"))
    base = 0xFFFFFFFF81000000
    word = data.index(struct.pack(f"{order}Q", base))
    data[word : word + 8] = bytes(8)
    data[4096 : 4096 + 64 * 16] = bytes(64 * 16)  # the LIST_HEADs
    return bytes(data), base, word


@pytest.mark.parametrize(("order", "kind"), [("<", 1027), ("<", 3), ("<", 22), (">", 12)])
def test_a_base_that_is_in_a_relocation(order: str, kind: int, tmp_path: Path) -> None:
    data, base, word = unrelocated(order)
    lists = [base + 4096 + 8 * number for number in range(128)]
    rows = [row(order, address, 0, kind, address) for address in lists]
    path = tmp_path / "Image"
    path.write_bytes(data + b"".join(rows) + row(order, base + word, 0, kind, base))
    assert said(path) == meant(LAYOUTS["6.1"], 64)


@pytest.mark.parametrize("named", [0, 0x40])
def test_a_base_that_is_relocated_by_a_symbol(named: int, tmp_path: Path) -> None:
    """s390 until 6.8: .dynsym, and .rela.dyn right behind it."""
    data, base, word = unrelocated(">")
    values = [base + 4096, base + named, base + 8192]
    names = b"".join(struct.pack(">I2BH2Q", 1, 0x10, 0, 1, value, 0) for value in values)
    lists = [base + 4096 + 8 * number for number in range(128)]
    rows = [
        row(">", address, n % 2 and 3, 22 if n % 2 else 12, 0)
        for n, address in enumerate(lists)
    ]
    rows.insert(70, row(">", base + word, 2, 22, -named & (1 << 64) - 1))
    path = tmp_path / "image"
    path.write_bytes(data + b"\xff" * 8 + bytes(24) + names + b"".join(rows) + b"\xff" * 24)
    assert said(path) == meant(LAYOUTS["6.1"], 64)


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: Callable[[bytes], bytes], tmp_path: Path) -> None:
    layout = LAYOUTS["6.12 percpu"]
    path = tmp_path / "vmlinuz"
    path.write_bytes(container(image(layout, 64, "little")))
    assert said(path) == meant(layout, 64)
    snapshot = ksyms.snapshot(kernel=path)
    assert len(ksyms.load(snapshot.image)) == len(meant(layout, 64))


@pytest.mark.parametrize(
    ("package", "container"),
    [
        ("lz4", lz4_legacy),
        ("lz4", android),
        ("lzallright", by("lzop", "-9")),
        ("lzallright", lambda data: zimage(data, by("lzop", "-9"))),
    ],
)
def test_what_unpacks_it_is_not_installed(
    package: str, container: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(container(image(LAYOUTS["6.4"], 64, "little")))
    hidden = f"import sys; sys.modules[{package!r}] = None; from ksyms._cli import program; "
    done = subprocess.run(
        [sys.executable, "-c", hidden + "sys.exit(program())", "info", str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"needs the package {package} to be unpacked." in " ".join(done.stderr.split())
    assert "pip install 'ksyms[images]'." in done.stderr
    [extra] = re.findall(
        r"^images = \[(.*)\]$", (Path(__file__).parents[1] / "pyproject.toml").read_text(), re.M
    )
    assert f'"{package}>=' in extra


def test_info_says_that_an_image_has_no_modules(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(image(LAYOUTS["6.4"], 64, "little")))
    done = command("info", path)
    assert re.search(r"^  modules +no, a kernel image has no modules$", done.stdout, re.M)
    assert re.search(r"^  proc/modules +a kernel image has no modules$", done.stdout, re.M)


def test_no_table_is_believed_that_disagrees(tmp_path: Path) -> None:
    """A byte of the names, of the markers, or of the addresses: no symbols, and a reason."""
    layout = LAYOUTS["6.4"]
    whole = image(layout, 64, "little")
    names = whole.index(b"f0_") - 2
    address = whole.rindex(struct.pack("<3i", 0x10, 0x20, 0x30))
    for at, reason in ((names, "no names"), (address + 7, "no addresses")):
        data = bytearray(whole)
        data[at] ^= 0x40
        path = tmp_path / "vmlinuz"
        path.write_bytes(bzimage(bytes(data)))
        with pytest.raises(ksyms.ImageError, match=f"an x86 bzImage, packed by zstd.*{reason}"):
            ksyms.load(path)


@pytest.mark.parametrize(
    ("version", "bits", "order", "table", "value"),
    [
        ("4.6", 32, "little", 4 * 300 + 3, 0x80),  # not offsets; zeros are no places either
        ("6.1", 64, "big", 4 * 20, 0x9F),
        ("4.6", 32, "big", 2, 0x7F),  # offsets, and their base, are no addresses
        ("7.2", 32, "big", 0, 0x06),  # places are no addresses
        ("7.2", 64, "little", 3, 0x00),
        ("7.2 static", 32, "little", 3, 0xF0),
    ],
)
def test_addresses_of_one_kind_are_not_read_as_another(
    version: str, bits: int, order: str, table: int, value: int, tmp_path: Path
) -> None:
    places: dict[str, int] = {}
    data = bytearray(image(LAYOUTS[version], bits, order, COUNT, places))
    data[places["addresses"] + table] = value
    path = tmp_path / "Image"
    path.write_bytes(bzimage(bytes(data)))
    with pytest.raises(ksyms.ImageError, match="no addresses that ascend"):
        ksyms.load(path)


@pytest.mark.parametrize("names", [40, 300, COUNT])
@pytest.mark.parametrize(
    ("version", "order", "byte"),
    [("2.6.10", "big", 1), ("2.6.10", "little", 4), ("4.6", "little", 4), ("6.4", "little", 7)],
)
def test_what_is_beside_a_count_is_zero(
    version: str, order: str, byte: int, names: int, tmp_path: Path
) -> None:
    """Until 4.20 the upper half of a word; since, what aligns the names."""
    places: dict[str, int] = {}
    data = bytearray(image(LAYOUTS[version], 64, order, names, places))
    data[places["count"] + byte] = 1
    path = tmp_path / "Image"
    path.write_bytes(bzimage(bytes(data)))
    with pytest.raises(ksyms.ImageError, match=r"no (?:names|addresses)"):
        ksyms.load(path)


def test_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(bytes(200 << 20)))
    with pytest.raises(ksyms.ImageError, match=re.escape("larger than 64 MiB unpacked")):
        ksyms.load(path)


@pytest.mark.parametrize("name", [b"fzip2", b"\xffzip2", b"LZMA", b"lzop", b"xip\x1b"])
def test_a_packing_that_nobody_knows(name: bytes, tmp_path: Path) -> None:
    """A FIT names its packing in words, which can be any."""
    data = fit(image(LAYOUTS["6.4"], 64, "little"))
    path = tmp_path / "Image.itb"
    path.write_bytes(data.replace(b"bzip2\0", name.ljust(6, b"\0")))
    with pytest.raises(ksyms.ImageError, match="no such packing is known"):
        ksyms.load(path)
    path.write_bytes(data.replace(b"bzip2\0", bytes(6)))
    assert said(path) == meant(LAYOUTS["6.4"], 64)


@pytest.mark.parametrize("container", [bzimage, zboot, uimage, fit, elf])
def test_cut_short(container: Callable[[bytes], bytes], tmp_path: Path) -> None:
    whole = container(image(LAYOUTS["6.4"], 64, "little"))
    path = tmp_path / "vmlinuz"
    for length in (*range(0, 700, 7), *range(700, len(whole) - 8000, 997)):
        path.write_bytes(whole[:length])
        with pytest.raises(ksyms.KsymsError):
            ksyms.load(path)
