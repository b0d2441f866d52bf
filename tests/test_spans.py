"""Lookup of many addresses at once, compared with a simple search and with single lookups."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ksyms
from conftest import Kernel
from elf_files import Row, elf_file
from ksyms._symbols.table import LOOKUPS

TOP = (1 << 64) - 1
places = st.one_of(
    st.integers(0, 40), st.integers(TOP - 40, TOP), st.integers(1 << 62, (1 << 62) + 9)
)
sizes = st.one_of(st.integers(0, 20), st.just(TOP))
symbols = st.lists(st.tuples(places, sizes), max_size=12)


TEXT = range(0x1000, 0x1040)
"""The one section of these files, which most of the symbols lie outside of."""


def by_hand(rows: list[tuple[int, int]], address: int, place: range = TEXT) -> int | None:
    """Return the number of the row that answers: the last to start, of those the first row.

    A row without a size has that of another row at its address, or reaches to the next row, or
    to the end of ``place``. A row that only has its own address comes last at it.
    """
    inside = []
    for number, (value, size) in enumerate(rows):
        reach = size or max(s for v, s in rows if v == value)
        if not reach and value in place:
            reach = min([v for v, _ in rows if v > value] + [place.stop]) - value
        if value <= address < value + max(reach, 1):
            inside.append((-value, reach == 0, number))
    return min(inside)[2] if inside else None


@settings(deadline=None)
@given(symbols)
def test_nested_symbols(rows: list[tuple[int, int]]) -> None:
    strings = b"\0" + b"".join(b"%03d\0" % number for number in range(len(rows)))
    made = [Row(1 + 4 * n, value, size) for n, (value, size) in enumerate(rows)]
    table = ksyms.load(memoryview(elf_file(made, strings)))
    edges = {v + d for v, s in rows for d in (-1, 0, 1, s - 1, s, s + 1)} | {0, TOP}
    addresses = sorted(a for a in edges if 0 <= a <= TOP)
    before = [table.lookup(address) for address in addresses]  # by the symbols around each
    found = table.locate(np.array(addresses, np.uint64)).tolist()
    for address, place, first in zip(addresses, found, before):
        expected = by_hand(rows, address)
        name = None if expected is None else f"{expected:03d}"
        assert (first.name if first else None) == name
        assert (table[place].name if place < len(table) else None) == name
        one = table.lookup(address)
        assert (one.name if one else None) == name
        same = [f"{n:03d}" for n, (value, _) in enumerate(rows) if value == address]
        assert [symbol.name for symbol in table.at(address)] == same


@pytest.mark.parametrize("count", [0, 1, 2, 62])
def test_an_address_after_many_nested_symbols(count: int, tmp_path: Path) -> None:
    """The enclosing symbol answers, singly and at once; in the file and in its snapshot."""
    rows = [(0x1000, 64), *((0x1001 + n, 1) for n in range(count))]
    strings = b"\0" + b"".join(b"%03d\0" % number for number in range(len(rows)))
    made = [Row(1 + 4 * n, value, size) for n, (value, size) in enumerate(rows)]
    file = tmp_path / "kernel"
    file.write_bytes(elf_file(made, strings))
    for image in (memoryview(file.read_bytes()), ksyms.snapshot(kernel=file).image):
        table = ksyms.load(image)
        symbol = table.lookup(0x103F)
        assert symbol is not None
        assert symbol.name == "000"
        assert table[int(table.locate([0x103F])[0])].name == "000"


@settings(deadline=None, max_examples=40)
@given(st.one_of(symbols, st.lists(st.tuples(st.integers(0, 1 << 18), sizes), max_size=12)))
@example([(value, 1) for value in range(0x1000, 0x100C, 2)])
def test_single_lookups_after_many(rows: list[tuple[int, int]]) -> None:
    """Addresses near each other, anywhere, and integers that are not addresses."""
    strings = b"\0" + b"".join(b"%03d\0" % number for number in range(len(rows)))
    made = [Row(1 + 4 * n, value, size) for n, (value, size) in enumerate(rows)]
    table = ksyms.load(memoryview(elf_file(made, strings)))
    for _ in range(LOOKUPS):
        assert table.lookup(-1) is None
    edges = {v + d for v, s in rows for d in (-1, 0, 1, s - 1, s, s + 1)}
    for address in sorted(edges | {-1, 0, 1 << 32, TOP, TOP + 1, TOP << 9}):
        expected = by_hand(rows, address) if 0 <= address <= TOP else None
        for _ in range(2):
            one = table.lookup(address)
            assert (one.name if one else None) == (
                None if expected is None else f"{expected:03d}"
            )


def test_a_million_in_buckets_equal_a_search(saved: dict[str, Kernel]) -> None:
    """The starts and ends of symbols, their neighbours, and any other address."""
    table = ksyms.load(saved["6.12.117+deb12-amd64-few"].elf)
    starts = table.spans.start
    draw = np.random.default_rng(4)
    anywhere = draw.integers(0, TOP, 200_000, np.uint64, endpoint=True)
    inside = draw.integers(starts[1] - 9, starts[-1] + 9, 200_000, np.uint64)
    ends = [0, 1, TOP, int(starts[1]) - 1, int(starts[-1])]
    asked = np.concatenate(
        [starts, starts - 1, starts + 1, anywhere, inside, np.array(ends, np.uint64)]
    )
    found = table.locate(asked)
    parts = [table.locate(part) for part in np.array_split(asked, 64)]
    assert (found == np.concatenate(parts)).all()
    assert (found < len(table)).mean() > 0.5


near = st.tuples(st.integers(0xFF0, 0x1050), st.sampled_from([0, 0, 0, 1, 8, 64]))


@settings(deadline=None, max_examples=300)
@given(st.lists(near, max_size=12))
@example([(0x1000, 0), (0x1000, 5), (0x1010, 0), (0x1040, 0)])
def test_symbols_without_a_size(rows: list[tuple[int, int]]) -> None:
    """They extend to the next symbol, or to the section's end: singly and all at once."""
    strings = b"\0" + b"".join(b"%03d\0" % number for number in range(len(rows)))
    made = [Row(1 + 4 * n, value, size) for n, (value, size) in enumerate(rows)]
    table = ksyms.load(memoryview(elf_file(made, strings)))
    asked = list(range(0xFE0, 0x10A0))
    numbers = [by_hand(rows, address) for address in asked]
    names = [None if number is None else f"{number:03d}" for number in numbers]
    singly = [table.lookup(address) for address in asked]
    assert [symbol and symbol.name for symbol in singly] == names
    found = table.locate(np.array(asked, np.uint64)).tolist()
    assert [table[place] if place < len(table) else None for place in found] == singly
    for symbol in filter(None, singly):
        assert symbol.exact == (rows[int(symbol.name)][1] > 0)
        assert asked[0] <= symbol.address + max(symbol.size, 1) - 1


def test_answers_are_in_the_order_of_the_addresses(tmp_path: Path) -> None:
    text = tmp_path / "kallsyms"
    text.write_text(
        "ffffffff81000000 T _stext\n"
        "ffffffff81000010 t one\n"
        "ffffffff81000010 t alias\n"
        "ffffffff81000030 T _etext\n"
        "ffffffffc0000000 t two\t[mod]\n"
    )
    table = ksyms.load(text)
    asked = [0xFFFFFFFFC0000FFF, 0xFFFFFFFF8100002F, 0, 0xFFFFFFFF8100000F, 0xFFFFFFFFC0001000]
    known = [*(symbol.name for symbol in table), None]
    names = [known[place] for place in table.locate(asked).tolist()]
    assert names == ["two", "one", None, "_stext", None]
    assert table.locate([]).tolist() == []


def test_symbols_in_every_page_take_no_table_of_gigabytes() -> None:
    """Each of 65,000 symbols is in a page of its own, which would be a row of 16 KiB."""
    rows = [Row(1, (1 << 63) + (page << 16), 16) for page in range(65_000)]
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0")))
    _ = table.spans
    tracemalloc.start()
    try:
        addresses = [(1 << 63) + (page << 16) + page % 32 for page in range(LOOKUPS + 100)]
        found = [table.lookup(address) for address in addresses]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [symbol is not None for symbol in found] == [a % 32 < 16 for a in addresses]
    assert peak < 1 << 27


def test_of_two_symbols_at_one_address_and_of_one_name_the_same_one_always_answers() -> None:
    rows = [Row(1, 0x1000, 8), Row(1, 0x1000, 16)]
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0")))
    assert {table.lookup(0x1000) for _ in range(LOOKUPS + 2)} == {table[0]}


def test_no_symbol_extends_past_the_last_address() -> None:
    """The symbol's size reaches further: by bisection and by the spans."""
    table = ksyms.load(memoryview(elf_file([Row(1, TOP, 8)], b"\0f\0")))
    assert {table.lookup(TOP + 1) for _ in range(LOOKUPS + 2)} == {None}


@pytest.mark.filterwarnings("error")
def test_numpys_integers_are_addresses() -> None:
    """Also below the first symbol, where the difference of numpy's integers overflows."""
    rows = [Row(1, (1 << 63) + 0x1000, 8), Row(3, (1 << 63) + 0x2000, 8)]
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0g\0")))
    within = np.uint64((1 << 63) + 0x2004)
    asked = (np.uint64(5), np.int64(5), np.int64(-5), np.uint64(TOP))
    for _ in range(LOOKUPS + 1):
        assert table.lookup(int(within)) == table[1]
    lookup: Any = table.lookup  # for numpy's integers are no int to mypy
    assert lookup(within) == table[1]
    assert [lookup(address) for address in asked] == [None] * 4


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (70_000, 2), (2, 40_000)])
def test_answers_have_the_shape_of_the_addresses(shape: tuple[int, ...]) -> None:
    """For few and many, and where the span is not the bucket's first."""
    table = ksyms.load(
        memoryview(elf_file([Row(1, 0x1002, 2), Row(3, 0x1008, 8)], b"\0f\0g\0"))
    )
    asked = 0x1000 + np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint64) % np.uint64(32)
    found = table.locate(asked.reshape(shape))
    assert found.shape == shape
    one_by_one = [table.lookup(address) for address in asked.tolist()]
    assert [[*table, None][place] for place in found.ravel().tolist()] == one_by_one


@pytest.fixture
def two() -> ksyms.SymbolTable:
    """Return a table with f, 8 bytes at 4096, and g in the last 8 bytes of all."""
    return ksyms.load(memoryview(elf_file([Row(1, 4096, 8), Row(3, TOP - 7, 8)], b"\0f\0g\0")))


@pytest.mark.parametrize(
    "asked",
    [
        *(5000.0, np.float64(5000), [4096, 5000.0], np.array([4096.0]), np.array([np.nan])),
        *(np.array([4096], np.float32), np.array([4096, None]), [4096, None], None, "4096"),
        *(["4096"], b"4096", np.array([b"4096"]), True, [True], [4096, True], [0, False]),
        *(
            np.array([True]),
            np.array([4096], "M8[s]"),
            np.array([4096], "m8[s]"),
            4096j,
            [[4.0]],
        ),
        *(
            [np.uint64(TOP), 4096.0],
            np.array([4096.0, TOP], object),
            [np.True_],
            {4096},
            object(),
        ),
    ],
    ids=repr,
)
def test_addresses_are_integers(asked: Any, two: ksyms.SymbolTable) -> None:
    """A double is only near an address, and would silently give a wrong name."""
    with pytest.raises(TypeError, match="addresses are integers, not "):
        two.locate(asked)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([4096, TOP], [0, 1]),  # numpy has doubles for these two
        ([0, 1, 4103, 4104], [2, 2, 0, 2]),
        ([-1, TOP], [2, 1]),
        ([TOP + 1, 4096, -(1 << 70)], [2, 0, 2]),
        ([np.uint64(TOP), np.int64(-8), 4100], [1, 2, 0]),
        ((4096, [4096])[0], 0),
        ([[4096, 0], [TOP, 5]], [[0, 2], [1, 2]]),
        (np.array([4096, -1, -8]), [0, 2, 2]),
        (np.array([[4096], [-1]], np.int16), [[0], [2]]),
        (np.array([4096, 5], ">u4"), [0, 2]),
        (np.array([TOP, 4096, 1 << 64], object), [1, 0, 2]),
        (np.uint64(TOP), 1),
        (np.int64(-1), 2),
        (range(4095, 4097), [2, 0]),
        (memoryview(np.array([1, TOP, 0], np.uint64).data), [2, 1, 2]),
        (np.ma.array([4096, 4096, 5], np.uint64, mask=[False, True, False]), [0, 2, 2]),
        (np.ma.array([4096, -1, 4096], mask=[True, False, False]), [2, 2, 0]),
        ([], []),
        ([[]], [[]]),
        (np.array([]), []),
        (np.zeros((0, 2), np.uint64), []),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("error")
def test_integers_of_every_kind(asked: Any, expected: Any, two: ksyms.SymbolTable) -> None:
    assert two.locate(asked).tolist() == expected
    assert two.locate(asked).shape == np.shape(asked)


def test_the_index_for_no_symbol_is_past_the_last_one(two: ksyms.SymbolTable) -> None:
    """Whatever it is taken for: the table, a list, an array."""
    nobody = two.locate([4096, 5])[1]
    names = np.array([symbol.name for symbol in two])
    with pytest.raises(IndexError):
        two[nobody]
    with pytest.raises(IndexError):
        names[two.locate([4096, 5])]
    with pytest.raises(IndexError):
        names.take(nobody)
    assert [*two, None][nobody] is None
    empty = ksyms.load(memoryview(elf_file([], b"\0")))
    assert empty.locate([5]).tolist() == [0] == [len(empty)]
    with pytest.raises(IndexError):
        empty[empty.locate(5)]
