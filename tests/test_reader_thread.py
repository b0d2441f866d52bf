"""The thread that reads a text, and the windows in which its names are copied."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ksyms
from ksyms import _byte_gather as byte_gather
from ksyms._linker.generation import Generation
from ksyms._linker.kallsyms_lines import PAIRS
from ksyms._linker.reader_thread import ReaderThread
from served import wait_for

NEVER = Generation(None, None, None)
LINES = "".join(f"ffffffff81{n:06x} t a_name_of_usual_length_{n}\n" for n in range(12_000))
EDGES = [1, 2, 7, 46, 47, 48, 49, 50, 95, 96, 97, 143, 144, 145, 300]


class Slow(io.BytesIO):
    """A text as the kernel prints it: less than a page at a time, and not at once."""

    def readinto(self, buffer: Any) -> int:
        time.sleep(0.0002)
        return super().readinto(memoryview(buffer)[:3584])


def test_what_has_come_is_handed_on_before_a_buffer_is_full() -> None:
    """And all of it, in whole lines, whatever the pieces are."""
    source = Slow(LINES.encode())
    with ReaderThread(source, "text", lambda: NEVER, live=True) as reader:
        pieces = []
        for block in reader.blocks():
            pieces.append(bytes(block.buffer[block.start : block.end]))
            if len(pieces) == 1:
                assert not source.closed
    assert b"".join(pieces) == LINES.encode()
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert len(pieces[0]) < 1 << 18
    assert len(pieces) > len(LINES) >> 18


PAIR = "ffffffff81000010 t __pfx_vfs_read\nffffffff81000020 T vfs_read\n"
BUFFER = 1 << 18


@pytest.mark.parametrize("digits", [8, 16])
@pytest.mark.parametrize("line", ["vfs_read", "__pfx_"], ids=["second", "first"])
def test_no_block_ends_between_the_names_of_a_pair(digits: int, line: str) -> None:
    """Wherever the buffer's end falls in the pair, or right behind one of its lines.

    ``foo`` is the tail of ``__pfx_foo`` only where one block has both.
    """
    pair = "".join(text[16 - digits :] for text in PAIR.splitlines(True)).encode()
    for end in range(len(pair) + 1):  # how much of the pair the first buffer has
        filler = b"81000000 t a\n"[8 - digits :] if digits == 8 else b"f" * 16 + b" t a\n"
        count, odd = divmod(BUFFER - end, len(filler))
        text = filler * (count - 1) + filler[:-1] + b"b" * odd + b"\n" + pair + filler
        if line == "__pfx_":  # the pair is the last of the text
            text = text[: -len(filler)]
        with ReaderThread(io.BytesIO(text), "text", lambda: NEVER) as ahead:
            pieces = [bytes(b.buffer[b.start : b.end]) for b in ahead.blocks()]
        assert b"".join(pieces) == text
        assert [pair in piece for piece in pieces].count(True) == 1, end


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_a_text_that_nobody_wants_any_more(begun: bool, live: bool) -> None:
    """Its thread ends, and its file is closed, though it was not read to its end."""
    source = io.BytesIO(LINES.encode() * 40)
    with ReaderThread(source, "text", lambda: NEVER, live) as reader:
        if begun:
            next(reader.blocks())
    wait_for(lambda: source.closed)


def test_zeros_where_none_may_be(tmp_path: Path) -> None:
    """A zero looks like what has not come yet: it is refused all the same, and at once."""
    for at in (0, 5, 1 << 17, 150_000, (1 << 18) - 1, 1 << 18, len(LINES) - 2):
        data = bytearray(LINES.encode())
        data[at] = 0
        path = tmp_path / "kallsyms"
        path.write_bytes(data)
        with pytest.raises(ksyms.KallsymsError, match="is not kallsyms"):
            ksyms.snapshot(kallsyms=path)


def test_copies_of_every_length() -> None:
    """Against a plain join: numpy assigns in the order of the indices, which this rests on."""
    draw = random.Random(1)
    for _ in range(200):
        names = [draw.randbytes(draw.choice(EDGES)) for _ in range(draw.randrange(1, 60))]
        text = np.frombuffer(bytearray(b"".join(names) + bytes(byte_gather.WINDOW)), np.uint8)
        length = np.array([len(name) for name in names])
        starts = np.cumsum(length) - length
        kept = np.array([draw.random() < 0.7 for _ in names])
        offsets = np.cumsum(np.where(kept, length, 0)) - length
        out = np.full(int(length.sum()) + byte_gather.WINDOW, 0xFF, np.uint8)
        byte_gather.gather_strings(
            byte_gather.windows_of(text),
            starts[kept],
            length[kept],
            byte_gather.windows_of(out),
            offsets[kept],
        )
        wanted = b"".join(name for name, keep in zip(names, kept.tolist()) if keep)
        assert out[: len(wanted)].tobytes() == wanted


def test_names_that_differ_in_one_byte() -> None:
    for size in EDGES:
        for at in {0, size // 2, size - 1}:
            one, other = bytearray(b"n" * size), bytearray(b"n" * size)
            other[at] = ord("m")
            text = np.frombuffer(
                one + b"x" + one + b"y" + other + bytes(byte_gather.WINDOW), np.uint8
            )
            found = byte_gather.equal_strings(
                byte_gather.windows_of(text),
                np.array([0, 0]),
                np.array([size + 1, 2 * (size + 1)]),
                np.array([size, size]),
            )
            assert found.tolist() == [True, False]


def test_pairs_of_digits_are_in_the_order_of_words() -> None:
    """Whatever the machine's: big-endian ones read the same words."""
    assert PAIRS.dtype.str == "<u2"
    assert [int(PAIRS[int.from_bytes(pair, "little")]) for pair in (b"00", b"0a", b"f1")] == [
        0x00,
        0x0A,
        0xF1,
    ]
