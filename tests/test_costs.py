"""Small files with large costs: each ends within the memory and time that its size is worth.

What docs/security.md states of each kind of input is held here by RLIMIT_DATA (bounded.py).
"""

from __future__ import annotations

import bz2
import cProfile
import gzip
import io
import json
import lzma
import os
import pstats
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import zstandard

import ksyms
import tars
from bounded import run
from command import COMMAND
from fuzz.files import facts_of, noted
from ksyms._cli.main import main
from ksyms._decode.encoded import Encoded
from tars import END, member

TEXT = b"ffffffff81000000 T _stext\nffffffff81000010 T alpha\nffffffff81001000 T _etext\n"
KALLSYMS = member(b"proc/kallsyms", TEXT)
MIB = 1 << 20
FOUND = "ffffffff81000010"


def asked(path: Path) -> list[list[str | Path]]:
    """Every command that takes the archive or the file ``path``."""
    return [
        ["lookup", "--from", path, "alpha"],
        ["snapshot", "--root", path, "-o", path.parent / "out.elf"],
        ["info", path],
        ["diff", path, path],
        ["map", path, "-o", path.parent / "out.html"],
        ["collect", "--root", path, "-o", path.parent / "out.tar.gz"],
    ]


# Packed by zstd, zeros of a GiB are 33 KB.
BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a long name of 1 GiB": lambda: iter(
        [tars.header(b"././@LongLink", 1 << 30, b"L"), *zeros(1 << 30), KALLSYMS, END]
    ),
    "a long link of 1 GiB": lambda: iter(
        [tars.header(b"././@LongLink", 1 << 30, b"K"), *zeros(1 << 30), KALLSYMS, END]
    ),
    "a pax header of 1 GiB": lambda: iter(
        [tars.header(b"pax", 1 << 30, b"x"), *zeros(1 << 30), KALLSYMS, END]
    ),
    "a global header of 512 MiB": lambda: iter(
        [tars.header(b"pax", 1 << 29, b"g"), *zeros(1 << 29), KALLSYMS, END]
    ),
    "a file of 900 MiB": lambda: iter(
        [KALLSYMS, tars.header(b"big", 900 * MIB), *zeros(900 * MIB), END]
    ),
    "a file of 8 GiB": lambda: iter(
        [KALLSYMS, tars.header(b"big", b"\x80" + (1 << 33).to_bytes(11)), *zeros(1 << 30), END]
    ),
    "a sparse file of 900 MiB": lambda: iter(
        [KALLSYMS, tars.header(b"big", 900 * MIB, b"S"), *zeros(900 * MIB), END]
    ),
    "a million long names": lambda: iter(
        [KALLSYMS, *[tars.long_name(b"n" * 400)] * 1_000_000, END]
    ),
    "a million files": lambda: iter(
        [KALLSYMS, *(tars.header(b"proc/%07d" % n) for n in range(600_000)), END]
    ),
    "a million directories": lambda: iter(
        [KALLSYMS, *[tars.header(b"d/", 0, b"5")] * 10**6, END]
    ),
    "pax headers of digits": lambda: iter(
        [*[member(b"pax", b"1" * 65_000, b"x")] * 100, KALLSYMS, END]
    ),
    "short records": lambda: iter(
        [*[member(b"pax", b"5 a=\n" * 100_000, b"x")] * 200, KALLSYMS, END]
    ),
    "global records by the thousand": lambda: iter(
        [
            *(tars.pax({b"k%d" % n: b"v"}, b"g") for n in range(60_000)),
            KALLSYMS,
            *[tars.header(b"d/", 0, b"5")] * 60_000,
            END,
        ]
    ),
    "a sparse map without an end": lambda: iter(
        [KALLSYMS, sparse(tars.header(b"s", 0, b"S")), *[b"\1" * 512] * 1_500_000, END]
    ),
    "hard links": lambda: iter(
        [
            KALLSYMS,
            member(b"sys/big", bytes(32 * MIB)),
            *(tars.header(b"l%d" % n, 0, b"1", b"sys/big") for n in range(5_000)),
            END,
        ]
    ),
    "symbolic links to links": lambda: iter(
        [
            KALLSYMS,
            *(
                tars.header(b"proc/%d" % n, 0, b"2", b"/".join([b"%d" % (n + 1)] * 12))
                for n in range(9_000)
            ),
            tars.header(b"proc/version", 0, b"2", b"0"),
            END,
        ]
    ),
    "zeros behind the end": lambda: iter([KALLSYMS, END, *zeros(1 << 30)]),
}
WORDS = ("larger than", "more than", "damaged")


def zeros(size: int) -> list[bytes]:
    return [bytes(MIB)] * (size // MIB)


def sparse(head: bytes) -> bytes:
    """An old GNU header that says that more of its map follows."""
    head = head[:482] + b"\1" + head[483:]
    head = head[:148] + b" " * 8 + head[156:]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


@pytest.mark.parametrize("name", BOMBS)
def test_an_archive_that_unpacks_to_more(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as out:
        for piece in BOMBS[name]():
            out.write(piece)
    assert path.stat().st_size < 16 * MIB
    for ended in run(asked(path)[:2], path.stat().st_size):
        ended.well()
        if ended.status:
            assert any(words in ended.err for words in WORDS), ended.err
        elif ended.arguments[0] == "lookup":
            assert ended.out.startswith(FOUND)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_zeros_of_a_gib(packer: str, tmp_path: Path) -> None:
    """As a file of symbols, and once more packed in themselves."""
    pack, path = PACKERS[packer], tmp_path / "zeros"
    if packer == "zstd":
        with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as out:
            for piece in zeros(1 << 30):
                out.write(piece)
    else:  # of several, one behind the other
        path.write_bytes(pack(bytes(32 * MIB)) * 32)
    again = tmp_path / "again"
    again.write_bytes(pack(path.read_bytes()))
    for each in (path, again):
        for ended in run(asked(each)[:2], each.stat().st_size):
            ended.refused()
    archive = tmp_path / "archive"
    archive.write_bytes(pack(KALLSYMS + tars.header(b"big", 1 << 30)) + path.read_bytes())
    run(asked(archive)[:1], archive.stat().st_size)[0].refused("MiB")


@pytest.mark.parametrize(("packer", "source"), [("gzip", "-"), ("zstd", "FILE")])
def test_a_text_that_unpacks_without_an_end(packer: str, source: str, tmp_path: Path) -> None:
    """As a stream and as a file: what was packed bounds what is unpacked."""
    symbols, path = tmp_path / "kallsyms", tmp_path / "text"
    symbols.write_bytes(TEXT)
    path.write_bytes(PACKERS[packer](bytes(32 * MIB)) * 12)
    size = path.stat().st_size
    with path.open("rb") as stdin:
        told = subprocess.run(
            [COMMAND, "decode", "--from", symbols, source.replace("FILE", str(path))],
            stdin=stdin,
            capture_output=True,
        )
    assert told.returncode == 1
    assert b"more than 256 MiB and 256 times its size" in told.stderr
    assert len(told.stdout) <= 256 * MIB + 256 * size + 4 * MIB  # and what one sip makes


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_what_a_packed_text_may_be(packer: str) -> None:
    """More than 256 MiB of a log that packs well, and no endless one."""
    log = b"".join(
        b"[%5d.%06d]  alpha+0x4/0x10\n" % (n, n * 7919 % 10**6) for n in range(200_000)
    )
    packed = PACKERS[packer](log + bytes(4 * MIB))
    count = 300 * MIB // (len(log) + 4 * MIB) + 1
    got = sum(len(part) for part in Encoded().feed(packed * count))
    assert got == count * (len(log) + 4 * MIB) > 256 * MIB
    endless, text = [PACKERS[packer](bytes(32 * MIB))] * 100, Encoded()
    sizes = (len(part) for one in endless for part in text.feed(one))
    with pytest.raises(ValueError, match="256 times its size unpacked"):
        sum(sizes)


EMPTY = {
    "gzip": gzip.compress(b"", mtime=0),
    "bzip2": bz2.compress(b""),
    "xz": lzma.compress(b""),
    "zstd": zstandard.compress(b""),
    "zstd of a window of 128 MiB": bytes.fromhex("28b52ffd0088010000"),
    "skippable": struct.pack("<II", 0x184D2A50, 0),
}


@pytest.mark.parametrize("frame", EMPTY)
def test_frames_that_hold_nothing(frame: str, tmp_path: Path) -> None:
    """A few are well, as cat makes them; with a million the file is refused."""
    tail = PACKERS.get(frame.partition(" ")[0], zstandard.compress)(TEXT)
    few, many = tmp_path / "few", tmp_path / "many"
    few.write_bytes(EMPTY[frame] * 1000 + tail)
    assert ksyms.load(few).find("alpha")[0].address == int(FOUND, 16)
    many.write_bytes(EMPTY[frame] * 1_000_000 + tail)
    for ended in run(asked(many), 0):
        ended.refused("4096 frames")


def test_many_frames_that_hold_something(tmp_path: Path) -> None:
    """As BGZF and pzstd write them."""
    path = tmp_path / "frames"
    lines = [b"%016x t f%d\n" % (0xFFFFFFFF81000000 + 16 * n, n) for n in range(30_000)]
    text = b"ffffffff81000000 T _stext\n" + b"".join(lines) + b"ffffffff91000000 T _etext\n"
    path.write_bytes(
        b"".join(zstandard.compress(text[n : n + 50]) for n in range(0, len(text), 50))
    )
    assert len(ksyms.load(path)) == 30_002


def test_an_xz_of_a_dictionary_of_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "wide.xz"
    chain = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(TEXT, filters=chain))
    place = data.index(b"\x21\x01") + 2  # LZMA2, one byte of properties, the dictionary's size
    data[place] = 38  # 2 GiB (The .xz File Format, 5.3.1)
    header = data[12 : 12 + 4 * data[12]]
    data[12 + len(header) : 16 + len(header)] = struct.pack("<I", lzma_crc(bytes(header)))
    path.write_bytes(data)
    run(asked(path)[:1])[0].refused("emory usage limit")


def lzma_crc(data: bytes) -> int:
    import zlib

    return zlib.crc32(data)


def elf(
    names: bytes, symbols: list[tuple[int, int, int]], notes: bytes = b"", times: int = 1
) -> bytes:
    """A vmlinux whose symbols are ``st_name``, ``st_value``, ``st_size``, all in one section.

    ``times`` is how many sections its ``notes`` are.
    """
    table = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", name, 0x12, 0, 1, value, size) for name, value, size in symbols
    )
    shown = b"\0.text\0.symtab\0.strtab\0.note\0"
    at = 64
    parts = (names, table, shown, notes)
    places = []
    for part in parts:
        places.append(at)
        at += len(part) + -len(part) % 8
    row = struct.Struct("<IIQQQQIIQQ").pack
    sections = [
        bytes(64),
        row(1, 8, 6, 0xFFFFFFFF81000000, 0, 1 << 24, 0, 0, 16, 0),
        row(7, 2, 0, 0, places[1], len(table), 3, 1, 8, 24),
        row(15, 3, 0, 0, places[0], len(names), 0, 0, 1, 0),
        row(1, 3, 0, 0, places[2], len(shown), 0, 0, 1, 0),
        *[row(23, 7, 0, 0, places[3], len(notes), 0, 0, 4, 0)] * times,
    ]
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, len(sections), 4)
    body = b"".join(part + bytes(-len(part) % 8) for part in parts)
    return head + body + b"".join(sections)


BUILD_ID = struct.pack("<III", 4, 20, 3) + b"GNU\0" + b"\1" * 20
START = 0xFFFFFFFF81000000


def test_names_in_names(tmp_path: Path) -> None:
    """20,000 symbols of a vmlinux of 1.5 MB are called by the end of one name of 1 MiB."""
    path = tmp_path / "vmlinux"
    names = b"\0_stext\0alpha\0" + b"A" * MIB + b"\0"
    symbols = [(1, START, 16), (8, START + 16, 16)]
    symbols += [(14 + n, START + 32 + 16 * n, 16) for n in range(20_000)]
    path.write_bytes(elf(names, symbols, BUILD_ID))
    one, *others = run(asked(path), path.stat().st_size)
    assert one.well().out.startswith(FOUND)
    for ended in others:
        ended.refused()
    address = f"{START + 48:#x}"
    ended, pattern, lines = run(
        [
            ["lookup", "--from", path, address],
            ["lookup", "--from", path, "A*"],
            ["lookup", "--from", path, f"{START:#x}+0x100000"],
        ],
        path.stat().st_size,
    )
    for each in (ended, pattern, lines):
        each.refused("names overlap")
    with pytest.raises(ksyms.ImageError, match="names overlap"):
        list(ksyms.load(path))


def test_names_in_names_of_a_root(tmp_path: Path) -> None:
    """The same as the vmlinux of a saved root with that build-id: it is not trusted."""
    root = saved(tmp_path / "root")
    names = b"\0_stext\0" + b"A" * MIB + b"\0"
    symbols = [(1, START, 16)] + [(8 + n, START + n, 16) for n in range(20_000)]
    (root / "vmlinux").write_bytes(elf(names, symbols, BUILD_ID))
    out = tmp_path / "out.elf"
    [ended] = run([["snapshot", "--root", root, "-o", out]], (root / "vmlinux").stat().st_size)
    assert ended.well().status == 0
    assert "names overlap" in ksyms.load(out).facts["refused"][str(root / "vmlinux")]


def test_notes_in_notes(tmp_path: Path) -> None:
    """20,000 sections are the same megabyte of notes."""
    path = tmp_path / "vmlinux"
    notes = struct.pack("<III", 0, 0, 1) * (MIB // 12)
    path.write_bytes(
        elf(b"\0_stext\0alpha\0", [(1, START, 16), (8, START + 16, 16)], notes, 9000)
    )
    commands = [["info", path], ["snapshot", "--kernel", path, "-o", tmp_path / "out.elf"]]
    for ended in run(commands, path.stat().st_size):
        ended.refused("notes overlap")


def test_a_large_note(tmp_path: Path) -> None:
    """14 MB of short strings take a dozen times as many, and two files not both at once."""
    path = tmp_path / "large.elf"
    facts = {**facts_of(), "more": [f"ab{number % 100:02d}" for number in range(2_000_000)]}
    path.write_bytes(noted(json.dumps(facts, separators=(",", ":")).encode()))
    size = path.stat().st_size
    for ended in run([["diff", path, path], ["lookup", "--from", path, "alpha"]], size):
        assert ended.well().status == 0


def saved(root: Path, text: bytes = TEXT) -> Path:
    """A root with a kallsyms and the build-id of :data:`BUILD_ID`."""
    for name, data in {"proc/kallsyms": text, "sys/kernel/notes": BUILD_ID}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize(
    "name", ["proc/modules", "proc/iomem", "proc/version", "sys/kernel/notes", "vmlinux"]
)
def test_a_file_of_a_terabyte_in_a_root(name: str, tmp_path: Path) -> None:
    root = saved(tmp_path / "root")
    (root / name).touch()
    os.truncate(root / name, 1 << 40)
    commands = [
        ["snapshot", "--root", root, "-o", tmp_path / "out.elf"],
        ["collect", "--root", root, "-o", tmp_path / "out.tar.gz"],
        ["info", "--root", root],
    ]
    for ended in run(commands):
        assert ended.well().status == 0
    facts = ksyms.load(tmp_path / "out.elf").facts
    assert "larger than 8 MiB" in facts["absent"].get(name, "") or name == "vmlinux"


def test_a_kallsyms_of_a_terabyte_of_zeros(tmp_path: Path) -> None:
    root = saved(tmp_path / "root")
    os.truncate(root / "proc/kallsyms", 1 << 40)
    for ended in run([["snapshot", "--root", root, "-o", tmp_path / "out.elf"]]):
        ended.refused()


def test_modules_by_the_million(tmp_path: Path) -> None:
    root = saved(tmp_path / "root")
    (root / "proc/modules").write_bytes(b"m 1 0 - Live 0x0\n" * 400_000)
    run([["snapshot", "--root", root, "-o", tmp_path / "out.elf"]])[0].refused("32768")


def calls(*arguments: str | Path) -> int:
    """How many calls a command makes: its time, on a machine that nothing disturbs."""
    profile = cProfile.Profile()
    with redirect_stdout(io.StringIO()):
        assert profile.runcall(main, [str(word) for word in arguments]) == 0
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined] # not in typeshed


MODULES = 0xFFFFC00000000000


def brackets(count: int, letter: str, apart: int = 64) -> bytes:
    """A text with a line in each of so many modules, ``apart`` bytes each."""
    lines = (f"{MODULES + apart * n:x} {letter} f\t[m{n}]\n" for n in range(count))
    return TEXT + "".join(lines).encode()


def in_turn(count: int, letter: str) -> bytes:
    """A text whose lines are two modules' in turn."""
    lines = (f"{MODULES + 64 * n:x} {letter} f{n}\t[{'ab'[n % 2]}]\n" for n in range(count))
    return TEXT + "".join(lines).encode()


def freed(count: int, letter: str) -> bytes:
    """A text with so many functions that may be of freed memory, of two modules in turn."""
    own = f"{MODULES:x} t own\t[a]\n{MODULES + 4096:x} t own\t[b]\n"
    lines = (
        f"{MODULES + 8192 + 4096 * n:x} {letter} f{n}\t[{'ab'[n % 2]}]\n" for n in range(count)
    )
    return TEXT + own.encode() + "".join(lines).encode()


@pytest.mark.parametrize(
    ("text", "letter"), [(brackets, "T"), (in_turn, "t"), (in_turn, "T"), (freed, "T")]
)
def test_brackets_by_the_thousand(
    text: Callable[[int, str], bytes], letter: str, tmp_path: Path
) -> None:
    """Each costs what it costs alone, and the memory is stated; of too many that is said."""
    for count in (500, 2_000, 30_000, 100_000):
        (tmp_path / f"{count}.txt").write_bytes(text(count, letter))
    costs = [
        calls("snapshot", "--kallsyms", tmp_path / f"{count}.txt", "-o", tmp_path / "out.elf")
        for count in (500, 2_000)
    ]
    assert costs[1] < 5 * costs[0], costs
    for count in (30_000, 100_000):
        path = tmp_path / f"{count}.txt"
        [ended] = run(
            [["snapshot", "--kallsyms", path, "-o", tmp_path / "out.elf"]], path.stat().st_size
        )
        ended.well()
        if count == 30_000:
            assert ended.status == 0, ended.err
            table = ksyms.load(tmp_path / "out.elf")
            assert len(table) == text(count, letter).count(b"\n")
        elif ended.status:
            assert "more than" in ended.err


def test_modules_in_both_texts(tmp_path: Path) -> None:
    """Which together are more than one may have."""
    root = saved(tmp_path / "root", brackets(20_000, "t"))
    (root / "proc/modules").write_bytes(
        b"".join(b"o%d 4096 0 - Live 0x%x\n" % (n, MODULES + 4096 * n) for n in range(20_000))
    )
    commands = [["snapshot", "--root", root, "-o", tmp_path / "out.elf"]]
    run(commands, MIB)[0].refused("more than 32768 modules")


def test_sections_by_the_thousand(tmp_path: Path) -> None:
    costs = []
    for count in (500, 2_000):
        root = saved(tmp_path / f"{count}", brackets(1, "t"))
        (root / "proc/modules").write_text(f"m0 {16 * count} 0 - Live {MODULES:#x}\n")
        directory = root / "sys/module/m0/sections"
        directory.mkdir(parents=True)
        for n in range(count):
            (directory / f".text.{n}").write_text(f"{MODULES + 16 * n:#x}\n")
        costs.append(calls("snapshot", "--root", root, "-o", tmp_path / "out.elf"))
    assert costs[1] < 5 * costs[0], costs


def programs(count: int) -> bytes:
    lines = (f"{MODULES + 4096 * n:x} t bpf_prog_{n:016x}_x\t[bpf]\n" for n in range(count))
    return TEXT + "".join(lines).encode()


def trampolines(count: int) -> bytes:
    lines = (
        f"{MODULES + 4096 * n:x} t ftrace_trampoline\t[__builtin__ftrace]\n"
        for n in range(count)
    )
    return TEXT + "".join(lines).encode()


@pytest.mark.parametrize("text", [programs, trampolines])
def test_what_is_listed_as_a_module(text: Callable[[int], bytes], tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(text(100_000))
    [ended] = run(
        [["snapshot", "--kallsyms", path, "-o", tmp_path / "out.elf"]], path.stat().st_size
    )
    ended.well()


def test_resources_by_the_thousand(tmp_path: Path) -> None:
    root = saved(tmp_path / "root", TEXT.replace(b" T alpha", b" T _text"))
    lines = (f"{4096 * n:08x}-{4096 * n + 4095:08x} : Kernel code\n" for n in range(100_000))
    (root / "proc/iomem").write_text("".join(lines))
    commands = [["snapshot", "--root", root, "-o", tmp_path / "out.elf"]]
    assert run(commands, 4 * MIB)[0].well().status == 0


def functions(directory: Path, count: int) -> Path:
    """An object file with a section for each of so many functions."""
    source = directory / f"{count}.c"
    source.write_text("".join(f"int f{n}(int x) {{ return x + {n}; }}\n" for n in range(count)))
    path = source.with_suffix(".o")
    subprocess.run(["gcc", "-c", "-ffunction-sections", source, "-o", path], check=True)
    return path


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_section_for_each_function(more: tuple[str, ...], tmp_path: Path) -> None:
    """All begin at 0, and none is another's name."""
    small, large = (functions(tmp_path, count) for count in (500, 2_000))
    calls("lookup", *more, "--from", small, "f1*")  # imports
    costs = [calls("lookup", *more, "--from", path, "f[0-9]*") for path in (small, large)]
    assert costs[1] < 6 * costs[0], costs
    [one] = ksyms.load(large).find("f7")
    assert (one.address, one.section) == (0, ".text.f7")


def test_many_names_of_one_address(tmp_path: Path) -> None:
    """A thousand are listed; of more than any kernel has it is said that they are not."""
    for count in (1_000, 30_000):
        names = b"\0" + b"".join(b"n%05d\0" % n for n in range(count))
        path = tmp_path / f"{count}.elf"
        path.write_bytes(elf(names, [(1 + 7 * n, START, 16) for n in range(count)]))
    few, many = run(
        [["lookup", "--json", "--from", tmp_path / f"{n}.elf", "n*"] for n in (1_000, 30_000)],
        MIB,
    )
    assert few.well().out.count("n00999") > 0
    many.refused("30000 names", "1024")
    assert len(ksyms.load(tmp_path / "30000.elf").at(START)) == 30_000
