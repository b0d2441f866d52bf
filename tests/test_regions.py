"""Which regions the kernel's own boundaries give, and which of a module's sections live on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ksyms
from ksyms._linker import Module, Region
from ksyms._linker.allocations import RegionRoom, settle_ends
from ksyms._linker.boundaries import known_regions
from ksyms._linker.modules import Sections
from ksyms._linker.region_input import RegionInput
from test_listed import KERNEL, saved

Rows = list[tuple[str, int, int, str, str]]

SYMBOLS = {
    "_text": 0x1000,
    "_stext": 0x1200,
    "_etext": 0x9000,
    "__start_rodata": 0xA000,
    "__end_rodata": 0xB000,
    "_sdata": 0xC000,
    "_edata": 0xD000,
    "__bss_start": 0xE000,
    "__bss_stop": 0xF000,
}
ALL: Rows = [
    (".head.text", 0x1000, 0x1200, "text", "boundary symbols"),
    (".text", 0x1200, 0x9000, "text", "boundary symbols"),
    (".rodata", 0xA000, 0xB000, "rodata", "boundary symbols"),
    (".data", 0xC000, 0xD000, "data", "boundary symbols"),
    (".bss", 0xE000, 0xF000, "bss", "boundary symbols"),
]
IOMEM = {
    "code": (0x1000, 0x9000),
    "rodata": (0xA000, 0xB800),
    "data": (0xC000, 0xD000),
    "bss": (0xE000, 0xF800),
}


def rows(landmarks: dict[str, int], iomem: dict[str, tuple[int, int]]) -> Rows:
    found = known_regions(landmarks, iomem)
    assert not any(region.inferred for region in found)
    return [(r.name, r.start, r.end, r.kind, r.source) for r in found]


def less(*names: str) -> dict[str, int]:
    return {name: address for name, address in SYMBOLS.items() if name not in names}


@pytest.mark.parametrize(
    ("landmarks", "iomem", "expected"),
    [
        ({}, {}, []),
        (SYMBOLS, {}, ALL),
        # Symbols come first: x86's "Kernel rodata" goes on to the end of a page.
        (SYMBOLS, IOMEM, ALL),
        # A kernel without CONFIG_KALLSYMS_ALL lists none of its data's boundaries.
        (
            less(
                "__start_rodata",
                "__end_rodata",
                "_sdata",
                "_edata",
                "__bss_start",
                "__bss_stop",
            ),
            IOMEM,
            [
                *ALL[:2],
                (".rodata", 0xA000, 0xB800, "rodata", "iomem"),
                (".data", 0xC000, 0xD000, "data", "iomem"),
                (".bss", 0xE000, 0xF800, "bss", "iomem"),
            ],
        ),
        # One of a pair says nothing alone; the file has both.
        (less("_edata"), {}, [*ALL[:3], ALL[4]]),
        (less("_edata"), IOMEM, [*ALL[:3], (".data", 0xC000, 0xD000, "data", "iomem"), ALL[4]]),
        # A pair that bounds nothing: all kernels have _text, and most have it at _stext.
        ({**SYMBOLS, "_stext": 0x1000}, {}, [(".text", 0x1000, 0x9000, *ALL[1][3:]), *ALL[2:]]),
        ({**SYMBOLS, "__bss_stop": 0xDFFF}, {}, ALL[:4]),
        # What overlaps begins where the one before it ends, or is not there.
        (
            {**SYMBOLS, "_sdata": 0xA800},
            {},
            [*ALL[:3], (".data", 0xB000, 0xD000, *ALL[3][3:]), ALL[4]],
        ),
        ({**SYMBOLS, "_sdata": 0xA800, "_edata": 0xAF00}, {}, [*ALL[:3], ALL[4]]),
    ],
)
def test_known_regions(
    landmarks: dict[str, int], iomem: dict[str, tuple[int, int]], expected: Rows
) -> None:
    assert rows(landmarks, iomem) == expected


def test_init_code_lies_apart_from_the_text() -> None:
    bounds = {"_sinittext": 0x20000, "_einittext": 0x21000}
    init = (".init.text", 0x20000, 0x21000, "text", "boundary symbols")
    assert rows({**SYMBOLS, **bounds}, {}) == [*ALL, init]


FOO = "ffffffffc0200000 t foo_open\t[foo]\nffffffffc0200040 t foo_exit\t[foo]\n"
INIT = "ffffffffc0300010 t foo_init\t[foo]\n"
# Init sections are allocated apart from the rest, and their place is free once they are.
SECTIONS = {
    ".text": 0xFFFFFFFFC0200000,
    ".init.text": 0xFFFFFFFFC0300000,
    ".init.data": 0xFFFFFFFFC0302000,
    ".init.rodata": 0xFFFFFFFFC0304000,
    ".symtab": 0xFFFFFFFFC0306000,
    ".strtab": 0xFFFFFFFFC0308000,
}


def starts(root: Path) -> list[int]:
    """Where the ranges of the module begin, by the snapshot's note."""
    facts: dict[str, Any] = ksyms.load(ksyms.snapshot(root).image).facts
    [file] = (file for file in facts["files"] if file["name"] == "foo")
    return [int(place["start"], 16) for place in file["ranges"]]


@pytest.mark.parametrize(
    ("state", "text", "live"),
    [
        # Freed: sysfs keeps the addresses, and kallsyms has no symbol there.
        ("Live", FOO, [".text"]),
        # While it is being initialized, those that have a symbol.
        ("Loading", FOO + INIT, [".text", ".init.text"]),
        (
            "Loading",
            FOO + INIT + "ffffffffc0302008 d foo_setup\t[foo]\n",
            [".text", ".init.text", ".init.data"],
        ),
    ],
)
def test_which_sections_live(tmp_path: Path, state: str, text: str, live: list[str]) -> None:
    """An init section where a symbol says so, .symtab and .strtab never."""
    modules = f"foo 4096 0 - {state} 0xffffffffc0200000\n"
    root = saved(tmp_path / "root", KERNEL + text, modules, {"foo": SECTIONS})
    assert starts(root) == [SECTIONS[name] for name in live]


# Two modules of a kernel that allocates code, data and read-only data apart. Code of ``foo`` is
# three pages, of which the last has no symbol, and its data is one page: 16384 bytes together.
TWO = """\
ffffffffc0200000 t foo_open\t[foo]
ffffffffc0201000 t foo_exit\t[foo]
ffffffffc0400000 d foo_data\t[foo]
ffffffffc0203000 t bar_open\t[bar]
"""
TWO_SECTIONS = {
    "foo": {".text": 0xFFFFFFFFC0200000, ".data": 0xFFFFFFFFC0400000},
    "bar": {".text": 0xFFFFFFFFC0203000},
}
TWO_MODULES = "bar 4096 0 - Live 0xffffffffc0203000\nfoo 16384 0 - Live 0xffffffffc0200000\n"


@pytest.mark.parametrize(
    ("release", "text_end", "data_end", "inferred"),
    [
        # A guard page follows the code of ``foo`` here, so the fourth page is its data's.
        ("6.12.1", 0xFFFFFFFFC0202000, 0xFFFFFFFFC0402000, False),
        # Here it may be the code's or the data's.
        ("6.13.0", 0xFFFFFFFFC0202000, 0xFFFFFFFFC0401000, True),
        ("unknown", 0xFFFFFFFFC0202000, 0xFFFFFFFFC0401000, True),
    ],
)
def test_code_that_lies_right_before_another_modules(
    tmp_path: Path, release: str, text_end: int, data_end: int, inferred: bool
) -> None:
    """Pieces of the cache lie side by side: execmem_cache_alloc, since Linux 6.13."""
    root = saved(tmp_path / "root", KERNEL + TWO, TWO_MODULES, TWO_SECTIONS)
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/sys/kernel/osrelease").write_text(f"{release}\n")

    table = ksyms.load(ksyms.snapshot(root).image)
    facts: dict[str, Any] = table.facts
    [file] = (file for file in facts["files"] if file["name"] == "foo")
    ranges = [(int(r["end"], 16), r["end_inferred"]) for r in file["ranges"]]
    assert ranges == [(text_end, inferred), (data_end, inferred)]
    # Nothing is named after data that may not be there.
    found = table.lookup(0xFFFFFFFFC0401010)
    assert (found is None) is inferred


def room(start: int, end: int, limit: int, last: bool = True) -> RegionRoom:
    """A region of whole pages whose end is inferred; all in pages."""
    region = Region("[foo].text", start << 12, end << 12, "text", True, "sysfs")
    return RegionRoom(region, limit << 12, last)


TEXT, DATA, RODATA = room(0, 2, 4), room(16, 17, 24), room(32, 34, 40)


@pytest.mark.parametrize(
    ("rooms", "pages", "guarded", "ends", "inferred"),
    [
        # The pages are all of the module.
        ([TEXT, DATA, RODATA], 5, True, [2, 17, 34], False),
        ([TEXT, DATA, RODATA], 5, False, [2, 17, 34], False),
        # One is missing: each could have it.
        ([TEXT, DATA, RODATA], 6, True, [2, 17, 34], True),
        # Only one has room for it: the others end where the next mark is, or a page before.
        ([room(0, 2, 2), room(16, 17, 17), RODATA], 6, True, [2, 17, 35], False),
        ([room(0, 2, 3), room(16, 17, 18), RODATA], 6, True, [2, 17, 35], False),
        # Without a page between allocations these have room, too.
        ([room(0, 2, 3), room(16, 17, 18), RODATA], 6, False, [2, 17, 34], True),
        # More is missing than there is room for, or less than nothing.
        ([room(0, 2, 2), room(16, 17, 17), RODATA], 12, True, [2, 17, 34], True),
        ([TEXT, DATA, RODATA], 4, True, [2, 17, 34], True),
        # Two regions of one allocation are counted from the start of the first.
        ([room(0, 2, 4, last=False), room(2, 3, 8)], 3, True, [2, 3], None),
    ],
)
def test_ends_by_the_sum_of_the_allocations(
    rooms: list[RegionRoom],
    pages: int,
    guarded: bool,
    ends: list[int],
    inferred: bool | None,
) -> None:
    """/proc/modules has the sum (m_show prints module_total_size, kernel/module/procfs.c)."""
    none = np.zeros(0, np.uint64)
    module = Module("foo", pages << 12, 0, (), "Live", 0, "")
    file = RegionInput(
        2,
        "foo",
        none,
        none.astype(np.uint8),
        Sections((0,), (".text",)),
        module,
        0,
        True,
        guarded,
    )
    settled = settle_ends(rooms, file)
    assert [region.end >> 12 for region in settled] == ends
    if inferred is None:  # the end of the first region is within the allocation
        assert [region.inferred for region in settled] == [True, False]
    else:
        assert {region.inferred for region in settled} == {inferred}

    # Of a module that is not Live yet, the sum has its init sections.
    loading = file._replace(module=module._replace(state="Loading"))
    assert settle_ends(rooms, loading) == tuple(one.region for one in rooms)
