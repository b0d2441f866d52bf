"""Fuzz kernel images: their tables, and what they come in.

A reader here, which is told where each table begins, says which symbols an image has that was
changed; docs/fuzzing.md has what is checked.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.files import Files, Truth
from fuzz.shared import Case, damaged, number_of, program
from kernel_images import (
    HEADED,
    LAYOUTS,
    by,
    bzimage,
    device_tree,
    elf,
    image,
    lz4_legacy,
    lzma_alone,
    zimage,
    zstd,
)

COUNTS: Final = (40, 40, 40, 300, 600)
"""Names of an image: fewer than a marker has, which are soon read, and more."""
HEADER: Final = 700
"""Bytes at the front of a file that headers are in."""
CONTAINERS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    *HEADED,
    lz4_legacy,
    by("lzop", "-9"),
    lzma_alone,
    zstd,
    lambda data: zimage(data) + device_tree(),
    lambda data: bzimage(elf(data)),
)


class Shape(NamedTuple):
    """An image before it is changed; ``container`` is None where it is in none."""

    version: str
    bits: int
    order: str
    names: int
    container: int | None = None


SHAPES: Final = (
    *(
        Shape(version, bits, order, count)
        for version in LAYOUTS
        for bits, order in ((64, "little"), (64, "big"), (32, "little"), (32, "big"))
        for count in COUNTS
    ),
    *(Shape("6.4", 64, "little", 300, n % len(CONTAINERS)) for n in range(4 * len(CONTAINERS))),
)


@cache
def made(shape: Shape) -> tuple[bytes, dict[str, int]]:
    """The file, and where each table begins in it if it is in no container."""
    places: dict[str, int] = {}
    layout = LAYOUTS[shape.version]
    data = image(layout, shape.bits, shape.order, shape.names, places)
    if shape.container is not None:
        return CONTAINERS[shape.container](data), {}
    return data, places


def truth_of(data: bytes, shape: Shape, places: dict[str, int]) -> Truth:
    """Names and addresses that tables at these places have; none where they are cut."""
    layout, end = LAYOUTS[shape.version], "<" if shape.order == "little" else ">"
    word, size = ("Q", 8) if shape.bits == 64 else ("I", 4)
    kind = layout.addresses_of(shape.bits)
    short = word if layout.wide_markers else "I"
    found: set[tuple[str, int]] = set()
    try:
        [count] = struct.unpack_from(end + short, data, places["count"])
        index = struct.unpack_from(f"{end}256H", data, places["index"])
        base = 0
        if "base" in places:
            [base] = struct.unpack_from(end + word, data, places["base"])
        at = places["names"]
        for number in range(min(count, len(data))):
            length = data[at]
            at += 1
            if layout.long_names and length > 127:
                length, at = (length & 127) | data[at] << 7, at + 1
            starts = [places["tokens"] + index[code] for code in data[at : at + length]]
            text = b"".join(data[start : data.index(b"\0", start)] for start in starts)
            at += length
            place = places["addresses"] + (size if kind == "words" else 4) * number
            if kind == "words":
                [value] = struct.unpack_from(end + word, data, place)
            else:
                [value] = struct.unpack_from(f"{end}i", data, place)
                if kind == "places":
                    value += place + (0xFFFFFFFF81000000 if size == 8 else 0xC0008000)
                elif kind == "base" or value < 0:
                    value = base + (value if kind == "base" else -1 - value)
            found.add((text[1:].decode("utf-8", "surrogateescape"), value))
    except (struct.error, IndexError, ValueError):
        return set()
    return found


def damaged_tables(data: bytes, places: dict[str, int], random: Random) -> bytes:
    """An image of the same length, with some fields of its tables changed, or some bytes."""
    file = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 5, 30))):
        near = random.choice([*places.values()])
        at = near + random.choice((0, 0, 1, 2, 4, 8, random.randrange(-64, 4096)))
        at = at if random.randrange(4) else random.randrange(len(file))
        width = random.choice((1, 1, 2, 4, 8))
        at = min(max(at, 0), len(file) - width)
        kind = random.randrange(3)
        if kind == 0:
            file[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            order: Literal["little", "big"] = random.choice(("little", "big"))
            value = number_of(random, int.from_bytes(file[at : at + width], order))
            file[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, order)
        else:
            file[at : at + width] = random.randbytes(width)
    return bytes(file)


class Images(Files):
    """Kernel images for load, lookup, find and info."""

    name = "images"

    def make(self, number: int) -> Case:
        random = self.random(number)
        shape = random.choice(SHAPES)
        data, places = made(shape)
        how = random.randrange(4)
        if how and places:
            data, how = damaged_tables(data, places, random), 1
        elif how:
            front = damaged(data[:HEADER], random)
            data = front + data[HEADER:]
        else:
            data = damaged(data, random, made(random.choice(SHAPES))[0])
        kind = "tables" if how == 1 and places else "container"
        return Case({"file": data}, {"kind": kind, "number": number, "shape": shape})

    def _file(self, case: Case, random: Random) -> None:
        data, shape = case.files["file"], case.facts["shape"]
        table = self.loaded(case, random)
        truth = None
        if case.facts["kind"] == "tables":
            truth = truth_of(data, shape, made(shape)[1])
        self.examine(table, truth, random)


if __name__ == "__main__":
    sys.exit(program(Images))
