"""Whatever a text is made of: an answer or none, never a wrong name, and no end of memory."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms as library
from command import COMMAND, TEXT
from ksyms._decode import Boot, Decoder, Frames, blocks, stream

SYMBOLS = {0xFFFFFFFF81000010: ("alpha", 0x30), 0xFFFFFFFF81000080: ("twin", 0xF80)}
OWN = Boot()
ROW = "ffffffff81000012 " * 6000
addresses = st.one_of(
    st.sampled_from([0, 1, (1 << 64) - 1, 1 << 63, 0xFFFFFFFF80FFFFFF, 0xFFFFFFFFC0001000]),
    st.integers(0xFFFFFFFF81000010, 0xFFFFFFFF8100003F),
    st.integers(0, (1 << 64) - 1),
)
words = st.one_of(
    st.binary(max_size=9),
    addresses.map(lambda a: b"%016x" % a),
    addresses.map(lambda a: b"0x%016x" % a),
    addresses.map(lambda a: b"[<%016x>]" % a),
    addresses.map(lambda a: b"%016x [unknown] (" % a),
    st.sampled_from(
        [
            b" ",
            b"\n",
            b"\r\n",
            b"> ",
            b" alpha+0x1/0x30",
            b" ? twin+0x2/0xf80",
            b" beta (",
            b"\t",
        ]
    ),
    st.sampled_from([b"Kernel Offset: 0x0 from 0xffffffff81000000", b" T _stext", b"+0x"]),
)
texts = st.lists(words, max_size=30).map(b"".join)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> library.SymbolTable:
    path = tmp_path_factory.mktemp("table") / "kallsyms"
    path.write_text(TEXT)
    return library.load(path)


@pytest.fixture(scope="module")
def decoder(table: library.SymbolTable) -> Decoder:
    return Decoder(table, OWN)


@settings(deadline=None, max_examples=400)
@given(text=texts)
def test_noise(text: bytes, table: library.SymbolTable, decoder: Decoder) -> None:
    """Of the own boot: decoded again nothing changes, and a name is where its symbol is."""
    once = decoder.decode(text)
    assert decoder.decode(once) == once
    for match in re.finditer(
        rb"(?<![\w])(?:0x)?(ffff[0-9a-f]{12})\W{0,2} alpha\+0x(\w+)/", once
    ):
        if match[0] not in text:
            assert int(match[1], 16) - int(match[2], 16) == 0xFFFFFFFF81000010
    for line in Frames(decoder, table).lines(text):
        record = json.loads(line)
        if record["symbol"] in ("alpha", "twin") and record["address"]:
            start = int(record["file_address"], 16) - record["offset"]
            assert SYMBOLS.get(start, (None,))[0] in (record["symbol"], None)
            assert 0 <= record["offset"] < record["size"]
        assert (record["symbol"] is None) == bool(record["why"])


@settings(deadline=None, max_examples=200)
@given(text=texts, sizes=st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_however_it_comes(text: bytes, sizes: list[int], decoder: Decoder) -> None:
    """In parts of any size the text is the same, and all of it, and so are its names."""
    parts: list[bytes] = []
    at = 0
    while at < len(text):
        size = sizes[len(parts) % len(sizes)]
        parts.append(text[at : at + size])
        at += size
    found = list(blocks(parts, decoder.pattern))
    assert b"".join(block for block, _ in found) == text
    assert b"".join(decoder.decode(block) if p else block for block, p in found) == (
        decoder.decode(text)
    )


@pytest.mark.parametrize("separator", [b" ", b",", b"", b"%"])
def test_one_long_line(
    separator: bytes, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut where no address is; where there is nowhere, an address stays as it is."""
    monkeypatch.setattr(stream, "BLOCK", 1 << 13)
    draw = random.Random(6)
    row = separator.join(
        b"%016x" % draw.choice([0xFFFFFFFF81000012, 0xFFFFFFFF81000099, 12])
        for _ in range(9000)
    )
    parts = [row[at : at + 5000] for at in range(0, len(row), 5000)]
    found = list(blocks(parts, decoder.pattern))
    assert b"".join(block for block, _ in found) == row
    named = b"".join(decoder.decode(block) if p else block for block, p in found)
    if separator in (b" ", b","):
        assert named == decoder.decode(row)
        assert named.count(b" alpha+0x2/0x30") == row.count(b"ffffffff81000012")
    elif not separator:
        assert named == row


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """200 MB through a pipe, all of it one line, in the memory that 20 MB take."""
    symbols = tmp_path / "kallsyms"
    symbols.write_text(TEXT)
    made = "import sys\nfor _ in range(int(sys.argv[1])): sys.stdout.write(sys.argv[2])"
    peaks = []
    for times in (200, 2000):
        command: list[str | Path] = [COMMAND, "decode", "--from", symbols]
        with (
            subprocess.Popen([sys.executable, "-c", made, str(times), ROW], stdout=-1) as text,
            subprocess.Popen(command, stdin=text.stdout, stdout=subprocess.DEVNULL) as decode,
        ):
            _, status, used = os.wait4(decode.pid, 0)
            decode.returncode = status
        assert status == 0
        peaks.append(used.ru_maxrss)
    assert peaks[1] < peaks[0] * 1.2 + 10_000
