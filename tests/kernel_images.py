"""Make kernel images, with the tables that each version of scripts/kallsyms.c writes.

The writer shares no code with the reader that it tests.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import zstandard

WEAK = b"Linux version 6.1.0-test (somebody) # SMP\n\0"
"""The banner of init/version.c since Linux 6.1. Another one overrides it when it is linked."""
BANNER = b"Linux version 6.1.0-test (somebody) #1 SMP\n\0"
WORDS = (b"write_", b"sched", b"_init", b"__do_", b"trace", b"read")
"""The strings that the tables compress: each has a code, a byte that no name contains."""
COUNT = 1000


class Layout(NamedTuple):
    """The arrangement of the tables by a version of scripts/kallsyms.c."""

    addresses: str
    """The way in which the table of addresses is written.

    - ``words``: as they are
    - ``base``: as distances from a base
    - ``percpu``: the same with KALLSYMS_ABSOLUTE_PERCPU
    - ``places``: as distances from the place where the distance is
    - ``static``: as ``places`` for 64 bits, as ``words`` for 32
    """
    first: bool = True
    """True if the addresses come before all other tables (until 6.3)."""
    wide_markers: bool = False
    """True if the count and the markers are words, and not 32 bits."""
    seqs: bool = False
    """True if there is a table of the symbols' order by name."""
    long_names: bool = False
    """True if the length of a name of more than 127 bytes is written in two bytes."""
    padded: bool = True
    """True if tables are aligned to words, and not to 32 bits (until 6.19)."""

    def addresses_of(self, bits: int) -> str:
        """Return how the addresses of a kernel with ``bits`` bits are written."""
        if self.addresses == "static":
            return "places" if bits == 64 else "words"
        return self.addresses


LAYOUTS: dict[str, Layout] = {
    "2.6.10": Layout("words", wide_markers=True),
    "4.6": Layout("base", wide_markers=True),
    "5.10": Layout("base"),
    "5.10 percpu": Layout("percpu"),
    "6.1": Layout("percpu", long_names=True),
    "6.2": Layout("percpu", seqs=True, long_names=True),
    "6.4": Layout("base", first=False, seqs=True, long_names=True),
    "6.12 percpu": Layout("percpu", first=False, seqs=True, long_names=True),
    "7.2": Layout("places", first=False, seqs=True, long_names=True, padded=False),
    "7.2 static": Layout("static", first=False, seqs=True, long_names=True, padded=False),
}


def symbols(layout: Layout, bits: int, count: int = COUNT) -> list[tuple[int, bytes]]:
    """Return symbols for an image: the address, and the letter and name, of each.

    ``count`` of them are functions with names of one kind.
    """
    base = 0xFFFFFFFF81000000 if bits == 64 else 0xC0008000
    found = [(base, b"T_text"), (base, b"T_stext")]
    if layout.addresses == "percpu":
        found[:0] = [(0, b"A__per_cpu_start"), (0x40, b"Acounter"), (0x2000, b"A__per_cpu_end")]
    for number in range(count):
        word = WORDS[number % len(WORDS)]
        found.append(
            (base + 16 * number + 16, b"tf%d_%s%s" % (number, word, b"x" * (number % 5)))
        )
    if layout.long_names:
        found.append((base + 16 * count + 16, b"t" + b"longer" * 80))
    found.append((base + 16 * count + 64, b"T_etext"))
    return found


def image(  # noqa: PLR0915 - one file, front to back
    layout: Layout,
    bits: int,
    order: str,
    count: int = COUNT,
    places: dict[str, int] | None = None,
    rows: Sequence[tuple[int, bytes]] = (),
    banner: bytes = BANNER,
) -> bytes:
    """Return a kernel without headers: its first byte is at the address of ``_text``.

    Its symbols are ``rows``, or those of :func:`symbols`. The offset of each table is put into
    ``places``, by the table's name.
    """
    end = "<" if order == "little" else ">"
    word = "Q" if bits == 64 else "I"
    size = bits // 8
    align = size if layout.padded else 4
    rows = rows or symbols(layout, bits, count)
    base = next(address for address, name in rows if name == b"T_text")

    # Bytes that no name has are codes for WORDS.
    letters = sorted({byte for _, name in rows for byte in name} | set(b"0123456789"))
    codes = [code for code in range(256) if code not in letters]
    tokens = {code: bytes((code,)) for code in letters}
    tokens.update(zip(codes, WORDS))
    table = [tokens.get(code, b"") for code in range(256)]

    out = bytearray(b"\x90" * 4096)
    for _ in range(64):  # LIST_HEADs
        out += struct.pack(f"{end}2{word}", *[base + len(out)] * 2)
    out += WEAK + banner

    begins = {} if places is None else places

    def label(name: str = "") -> int:
        out.extend(bytes(-len(out) % align))
        begins[name] = len(out)
        return len(out)

    def packed(name: bytes) -> bytes:
        for code, text in zip(codes, WORDS):
            name = name[:1] + name[1:].replace(text, bytes((code,)))
        many = len(name)
        if layout.long_names and many > 127:
            return bytes((many & 127 | 128, many >> 7)) + name
        return bytes((many,)) + name

    kind = layout.addresses_of(bits)

    def addresses() -> None:
        start = label("addresses")
        for number, (address, _) in enumerate(rows):
            if kind == "words":
                out.extend(struct.pack(end + word, address))
                continue
            if kind == "places":
                value = address - (base + start + 4 * number)
            elif kind == "base":
                value = address - base
            else:
                value = address if address < base else base - address - 1
            out.extend(struct.pack(f"{end}i", value))
        if kind in ("base", "percpu"):
            label("base")
            out.extend(struct.pack(end + word, base))

    if layout.first:
        addresses()
    label("count")
    wide = layout.wide_markers
    out += struct.pack(end + (word if wide else "I"), len(rows))

    # Each 256th name has a marker: its offset in the table of names.
    names, markers = bytearray(), []
    for number, (_, name) in enumerate(rows):
        if number % 256 == 0:
            markers.append(len(names))
        names += packed(name)

    label("names")
    out += names
    label("markers")
    out += struct.pack(f"{end}{len(markers)}{word if wide else 'I'}", *markers)
    if layout.first and layout.seqs:
        label()
        out += b"".join(struct.pack(">I", n)[1:] for n in range(len(rows)))

    at, index = label("tokens"), []
    for text in table:
        index.append(len(out) - at)
        out += text + b"\0"
    label("index")
    out += struct.pack(f"{end}256H", *index)

    if not layout.first:
        addresses()
        label()
        out += b"".join(struct.pack(">I", n)[1:] for n in range(len(rows)))
    return bytes(out + bytes(4096))


def image_of(saved: Path) -> bytes:
    """Return an image of the x86-64 kernel in the archive ``saved``, at its link addresses."""
    with tarfile.open(saved) as archive:
        text, version = (archive.extractfile(f"proc/{n}") for n in ("kallsyms", "version"))
        assert text is not None
        assert version is not None
        lines = [line for line in text.read().splitlines() if b"\t" not in line]
        banner = version.read() + b"\0"
    booted = next(int(line[:16], 16) for line in lines if line.endswith(b" T _text"))
    slide, rows = booted - 0xFFFFFFFF81000000, []  # CONFIG_PHYSICAL_START, in the kernel's map
    for line in lines:
        address = int(line[:16], 16)
        rows.append((address - (slide if address >> 63 else 0), line[17:18] + line[19:]))
    return image(LAYOUTS["6.12 percpu"], 64, "little", rows=rows, banner=banner)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


def by(*tool: str) -> Callable[[bytes], bytes]:
    """Return a function that pipes its argument through a program and returns the output."""

    def packed(data: bytes) -> bytes:
        return subprocess.run(tool, input=data, stdout=subprocess.PIPE, check=True).stdout

    packed.__name__ = " ".join(tool)
    return packed


lz4_legacy = by("lz4", "-l", "-9", "-c")  # as scripts/Makefile.lib does


def lzop_of_a_file(data: bytes) -> bytes:
    """Return ``data`` packed by lzop from a file: with its name, and with CRC-32 checksums."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "Image"
        path.write_bytes(data)
        return by("lzop", "-N", "--crc32", "-c", str(path))(b"")


def long(data: bytes) -> bytes:
    """Return ``data`` with random bytes after it: more than a block, and not compressible."""
    return data + Random(1).randbytes(9 << 20)


def bzimage(data: bytes) -> bytes:
    """Return a bzImage (Documentation/arch/x86/boot.rst).

    The unpacked size comes after the packed kernel, as the build appends it.
    """
    packed = zstd(data) + struct.pack("<I", len(data))
    head = bytearray(512 * 5 + 64)
    head[0x1F1], head[0x202:0x206] = 4, b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x020F)
    struct.pack_into("<2I", head, 0x248, 64, len(packed))
    return bytes(head) + packed


def zboot(data: bytes) -> bytes:
    packed = gzip.compress(data)
    head = bytearray(512)
    head[:2], head[4:8], head[64:70] = b"MZ", b"zimg", b"PE\0\0\x64\xaa"
    struct.pack_into("<2I", head, 8, len(head), len(packed))
    struct.pack_into("<I", head, 60, 64)
    return bytes(head) + packed


def device_tree() -> bytes:
    """Return an empty device tree, as boot loaders expect it right after the kernel."""
    body = struct.pack(">2I2I", 1, 0, 2, 9)
    return struct.pack(">10I", 0xD00DFEED, 72, 56, 72, 40, 17, 16, 0, 0, 16) + bytes(16) + body


def zimage(data: bytes, pack: Callable[[bytes], bytes] = lzma.compress) -> bytes:
    head = bytearray(4096)
    head[0x24:0x28] = b"\x18\x28\x6f\x01"
    head[0x100:0x106] = b"\xfd7zXZ\0"  # as the unpacker's own code has it
    return bytes(head) + pack(data) + bytes(64)


def uimage(data: bytes) -> bytes:
    packed = lzma_alone(data)
    head = struct.pack(">7I4B32s", 0x27051956, 0, 0, len(packed), 0, 0, 0, 5, 5, 2, 3, b"MIPS")
    return head + packed


def android(data: bytes) -> bytes:
    packed = lz4_legacy(data)
    head = b"ANDROID!" + struct.pack("<I", len(packed)) + bytes(28) + struct.pack("<I", 4)
    return head.ljust(4096, b"\0") + packed + b"\xd0\x0d\xfe\xed"


def fit(data: bytes) -> bytes:
    packed = bz2.compress(data)
    strings = b"type\0compression\0data\0"

    def prop(name: bytes, value: bytes) -> bytes:
        padded = value + bytes(-len(value) % 4)
        return struct.pack(">3I", 3, len(value), strings.index(name + b"\0")) + padded

    def node(name: bytes, inside: bytes) -> bytes:
        begin = name + b"\0"
        return struct.pack(">I", 1) + begin + bytes(-len(begin) % 4) + inside + b"\0\0\0\2"

    tree = prop(b"type", b"kernel\0") + prop(b"compression", b"bzip2\0") + prop(b"data", packed)
    dtb = node(b"fdt-1", prop(b"type", b"flat_dt\0") + prop(b"data", b"no kernel"))
    body = node(b"", node(b"images", dtb + node(b"kernel-1", tree))) + struct.pack(">I", 9)
    head = (0xD00DFEED, 56 + len(body) + len(strings), 56, 56 + len(body), 40, 17, 16, 0)
    sizes = (len(strings), len(body))
    return struct.pack(">10I", *head, *sizes) + bytes(16) + body + strings


def elf(data: bytes) -> bytes:
    """Return a vmlinux without sections, with one segment at the kernel's link address."""
    base = 0xFFFFFFFF81000000
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<2HI3QI6H", 2, 62, 1, base, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    return (
        head
        + struct.pack("<2I6Q", 1, 5, 4096, base, 0, len(data), len(data), 4096)
        + bytes(4096 - 120)
        + data
    )


HEADED: tuple[Callable[[bytes], bytes], ...] = (
    bzimage,
    zboot,
    zimage,
    uimage,
    android,
    fit,
    elf,
)
"""Containers with a header that says where the kernel is."""
CONTAINERS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    lzma.compress,
    lzma_alone,
    lz4_legacy,
    by("lzop", "-9"),  # scripts/Makefile.lib
    by("lzop", "-1", "-F"),
    lzop_of_a_file,
    zstd,
    *HEADED,
    lambda data: lz4_legacy(long(data)),
    lambda data: by("lzop")(long(data)),
    lambda data: zimage(data, by("lzop", "-9")),
    lambda data: gzip.compress(data) + device_tree(),
    lambda data: lz4_legacy(data) + device_tree(),
    lambda data: zimage(data) + device_tree(),
    lambda data: bzimage(elf(data)),
    lambda data: b"flash" * 1000 + zlib.compress(b"") + gzip.compress(data) + b"\xff" * 5000,
)
