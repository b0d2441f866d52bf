"""Names that lie in others' strings: ``.strtab`` by hand, and every name by nm."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import names, nm, write_root

LONG = "a_name_that_takes_more_than_two_windows_of_forty_eight_bytes_for_it_is_" + "longer_" * 6


def taken(directory: Path, lines: list[str]) -> tuple[Path, bytes]:
    """A snapshot of the lines, all of whose names nm has; its ``.strtab``, by pyelftools."""
    text = "".join(f"{line}\n" for line in lines)
    write_root(directory, text)
    elf = directory / "kernel.elf"
    ksyms.snapshot(directory).write(elf)
    assert nm(elf) == names(text)
    with elf.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".strtab")
        assert section is not None
        return elf, section.data()


def placed(*wanted: str) -> list[str]:
    """Lines of ``LETTER NAME``, some with a tab and a module, each at an address of its own."""
    own = [name for name in wanted if "\t" not in name]
    around = ["T _stext", own[0], "T _etext", *own[1:], "B _end", *wanted[len(own) :]]
    return [f"{0xFFFFFFFF81000000 + 16 * n:x} {name}" for n, name in enumerate(around)]


@pytest.mark.parametrize(
    ("wanted", "strings"),
    [
        # The same again, and once more.
        (
            ["t f", "d __func__.0", "d other", "d __func__.0", "r __func__.0"],
            "__func__.0 other",
        ),
        # Behind __ksymtab_, wherever that comes; of all that it is behind of the first.
        (["t f", "r __ksymtab_jiffies", "D jiffies"], "__ksymtab_jiffies"),
        (["t f", "D jiffies", "r __ksymtab_jiffies"], "__ksymtab_jiffies"),
        (["t f", "D v", "r __v", "r __ksymtab_v"], "__v __ksymtab_v"),
        # Behind __, of names shorter and longer than what is hashed.
        (["t f", "d event_x", "d __event_x", "d event_x"], "__event_x"),
        (["t f", f"d {LONG}", f"d __{LONG}", f"d {LONG}"], f"__{LONG}"),
        # No tail of a tail.
        (["t f", "d v", "d __v", "d ____v"], "v ____v"),
        (["t f", "d ____v", "d __v", "d v", "d __v"], "____v v"),
        (["t f", "d v", "d __v", "d __ksymtab___v"], "v __ksymtab___v"),
        # Other names: other prefixes, the same end and length, the same begin.
        (["t f", "d v", "d ___v", "d _v", "d x__v"], "v ___v x__v"),
        (["t f", f"d a{LONG}", f"d b{LONG}"], f"a{LONG} b{LONG}"),
        (["t f", "d __ksymtaX_value", "d value"], "__ksymtaX_value value"),
        (["t f", "d __ksymtab_", "d __", "d _"], "__ksymtab_ __ _"),
        # Code and what is absolute have their own.
        (["T v", "d v", "T v", "d v"], "v v"),
        (["t v", "r __ksymtab_v", "t __v"], "__ksymtab_v __v"),
        (["t f", "A v", "A v", "a v"], "v v v"),
        # A function's padding, and names behind those that were taken out.
        (["t f", "d v", "d v", "t __pfx_g", "t g", "d w"], "v __pfx_g w"),
        # A module's are in its own part.
        (["t f", "d v", "d v", "d v\t[m]", "d v\t[m]", "d w\t[m]"], "v / v v w"),
        # Two names with one hash, of which one begins as the other.
        (["t f", "d eszycidpGXRoDIer", "d eszycidp"], "eszycidpGXRoDIer eszycidp"),
        # Bytes that are no text.
        (["t f", "d \xe9\xe9", "d \xe9\xe9"], "\xe9\xe9"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_strings_by_hand(wanted: list[str], strings: str, tmp_path: Path) -> None:
    lines = placed(*wanted)
    elf, strtab = taken(tmp_path, lines)
    own, _, others = strings.partition(" / ")
    around = ["", "_stext", wanted[0].split()[1], "_etext", *own.split(), "_end"]
    assert strtab == "\0".join([*around, *others.split(), ""]).encode()
    table = ksyms.load(elf)
    rows = [line.split("\t")[0].split(" ", 2) for line in lines]
    for name in {name for _, _, name in rows}:
        found = [f"{symbol.address:x}" for symbol in table.find(name)]
        assert found == [address for address, _, other in rows if other == name]


def test_names_at_one_address_keep_their_order(tmp_path: Path) -> None:
    """The first in kallsyms answers for the address, and its string comes first."""
    at = [f"{0xFFFFFFFF81000000 + 16 * n:x}" for n in range(8)]
    lines = [f"{at[0]} T _stext", f"{at[1]} T _etext"]
    lines += [f"{at[2]} d late", f"{at[3]} d first", f"{at[3]} d late", f"{at[3]} d __first"]
    lines += [f"{at[4]} d late", f"{at[5]} d first", f"{at[6]} B _end"]
    elf, strtab = taken(tmp_path, lines)
    assert strtab == b"\0_stext\0_etext\0late\0first\0late\0__first\0_end\0"
    table = ksyms.load(elf)
    assert [s.name for s in table.at(0xFFFFFFFF81000030)] == ["first", "late", "__first"]
    assert table.lookup(0xFFFFFFFF81000031) == table.at(0xFFFFFFFF81000030)[0]


def test_the_first_of_a_name_is_the_best(tmp_path: Path) -> None:
    """What a linker takes does not depend on whose string a name lies in."""
    at = [f"{0xFFFFFFFF81000000 + 16 * n:x}" for n in range(8)]
    lines = [f"{at[0]} T _stext", f"{at[1]} T _etext", f"{at[2]} D first", f"{at[3]} D v"]
    lines += [f"{at[4]} D v", f"{at[4]} D other", f"{at[5]} D __v", f"{at[6]} B _end"]
    elf, strtab = taken(tmp_path, lines)
    assert strtab == b"\0_stext\0_etext\0first\0v\0other\0__v\0_end\0"
    best = ksyms.load(elf).find_best("v")
    assert best is not None
    assert best.st_value == 0xFFFFFFFF81000030


def test_families_of_names_are_read_back(tmp_path: Path) -> None:
    """Each name with all its tails is no more than so many times its string."""
    families = [f"d {'__' * n}v{letter}" for letter in "abcdefgh" for n in range(250)]
    elf, _ = taken(tmp_path, placed("t f", *families))
    assert len(ksyms.load(elf).names) == 4 + len(families)


FEW = """
import sys
import ksyms
table = ksyms.load(sys.argv[1])
for name in sys.argv[2:]:
    print(name, *(f"{symbol.address:x}" for symbol in table.find(name)))
assert "numpy" not in sys.modules
"""


def test_names_found_without_an_index(tmp_path: Path) -> None:
    """By a scan of the strings, as a command does that asks for few."""
    asked = ["jiffies", "event_x", "__event_x", "__func__.0", "x", "vent_x", "ksymtab_jiffies"]
    lines = placed(
        "t f",
        *("d __func__.0", "D jiffies", "d event_x", "d __func__.0", "r __ksymtab_jiffies"),
        *("d __event_x", "d __func__.0"),
    )
    elf, _ = taken(tmp_path, lines)
    out = subprocess.check_output([sys.executable, "-c", FEW, elf, *asked], text=True)
    expected = [
        [name, *(line[:16] for line in lines if line.split()[2] == name)] for name in asked
    ]
    assert [line.split() for line in out.splitlines()] == expected


def test_lines_out_of_order_share_nothing(tmp_path: Path) -> None:
    lines = placed("t f", "d v", "d v", "d __v")
    lines[3:] = lines[:2:-1]
    _, strtab = taken(tmp_path, lines)
    assert strtab.split(b"\0").count(b"v") == 2


def test_names_of_many_blocks(tmp_path: Path) -> None:
    """Each name fifty times over, by as many blocks of lines, and modules behind."""
    values = [f"d value_{n % 1000}.{n % 7}" for n in range(50_000)]
    padded = [name for n in range(700) for name in (f"t __pfx_f{n}", f"t f{n}")]
    own = [*values[:30_000], *padded, *values[30_000:]]
    lines = placed("t f", *own, *(f"{name}\t[m]" for name in values[:300]))
    _, strtab = taken(tmp_path, lines)
    kept = Counter(strtab[1:-1].decode().split("\0"))
    assert kept == Counter(
        [
            "_stext",
            "f",
            "_etext",
            "_end",
            *{name[2:] for name in values},
            *(n[2:] for n in padded[::2]),
        ]
    ) + Counter(name[2:] for name in values[:300])


PARTS = ["", "_", "__", "__ksymtab_", "__pfx_", "____", "__ksymtab___"]
NAMES = st.builds(
    str.__add__,
    st.sampled_from(PARTS),
    st.sampled_from(["v", "w", "v.1", "a_value_of_sixteen", "b_value_of_sixteen", LONG]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 8]), st.sampled_from("dDrtT"), NAMES), min_size=3)
)
def test_every_name_is_there(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str]]
) -> None:
    directory = tmp_path_factory.mktemp("any")
    lines, address = [], 0xFFFFFFFF81000000
    for step, letter, name in rows:
        address += step
        lines.append(f"{address:x} {letter} {name}")
    elf, strtab = taken(directory, lines)
    assert len(strtab) <= 1 + sum(len(name) + 1 for _, _, name in rows)
    table = ksyms.load(elf)
    assert [s.name for s in table.at(address)] == [
        line.split()[2] for line in lines if int(line[:16], 16) == address
    ]
