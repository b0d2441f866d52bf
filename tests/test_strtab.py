"""The strings of ``.strtab``: which names share one, by hand and by nm; and older images'."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import COMMAND, names, nm, write_root

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
        # A function and its padding.
        (["t f", "t __pfx_g", "t g", "d w"], "__pfx_g w"),
        (["t f", f"t __pfx_{LONG}", f"t {LONG}"], f"__pfx_{LONG}"),
        # Not where anything is between, in the other order, or of another file.
        (["t f", "t __pfx_g", "t h", "t g"], "__pfx_g h g"),
        (["t f", "t g", "t __pfx_g"], "g __pfx_g"),
        (["t f", "t __pfx_g", "t g\t[m]"], "__pfx_g / g"),
        (["t f", "t __pfx_g\t[m]", "t g\t[m]"], " / __pfx_g"),
        # No tail of a tail.
        (["t f", "t __pfx___pfx_g", "t __pfx_g", "t g"], "__pfx___pfx_g g"),
        # No other name shares one, of data or of code.
        (["t f", "d v", "d v", "r __ksymtab_v", "d __v"], "v v __ksymtab_v __v"),
        # Bytes that are no text.
        (["t f", "t __pfx_\xe9\xe9", "t \xe9\xe9"], "__pfx_\xe9\xe9"),
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


def strings_of(rows: list[tuple[str, str | None]]) -> bytes:
    """``.strtab`` by the rule of docs/format.md, of names and their modules in order."""
    strings, before = [""], False
    for number, (name, module) in enumerate(rows):
        follows = number > 0 and rows[number - 1] == (f"__pfx_{name}", module)
        if not follows or before:
            strings.append(name)
        before = follows
    return "\0".join([*strings, ""]).encode()


NAMES = st.builds(
    str.__add__,
    st.sampled_from(["", "__", "__ksymtab_", "__pfx_", "__pfx___pfx_"]),
    st.sampled_from(["v", "w", "a_value_of_sixteen", "b_value_of_sixteen", LONG]),
)


@settings(max_examples=40, deadline=None)
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
    assert strtab == strings_of([(name, None) for _, _, name in rows])
    table = ksyms.load(elf)
    assert [s.name for s in table.at(address)] == [
        line.split()[2] for line in lines if int(line[:16], 16) == address
    ]


def test_names_of_many_blocks(tmp_path: Path) -> None:
    """Pairs across the edges of the parser's blocks, each module's names behind its own."""
    own = [name for n in range(20_000) for name in (f"__pfx_f{n}", f"f{n}", f"value.{n % 7}")]
    kernel = ["_stext", "f", "_etext", *own, "_end"]
    rows: list[tuple[str, str | None]] = [(name, None) for name in kernel]
    rows += [(name, "m") for name in own[:300]]
    lines = placed("t f", *(f"t {n}" for n in own), *(f"t {n}\t[m]" for n in own[:300]))
    _, strtab = taken(tmp_path, lines)
    assert strtab == strings_of(rows)


def older(elf: Path, hosts: dict[str, str]) -> Path:
    """Return ``elf`` as ksyms wrote it until November 2026: names within others' strings.

    ``hosts`` names for each name the one whose string it lies in, or itself for the first
    string of it. Of its own string nothing is left.
    """
    data = bytearray(elf.read_bytes())
    with elf.open("rb") as file:
        image = ELFFile(file)
        symtab = image.get_section_by_name(".symtab")
        strtab = image.get_section_by_name(".strtab")
        assert isinstance(symtab, SymbolTableSection)
        assert strtab is not None
        rows = [(n, s.name, s["st_name"]) for n, s in enumerate(symtab.iter_symbols())]
        starts = {name: start for _, name, start in reversed(rows)}
        for number, name, start in rows:
            host = hosts.get(name)
            if host is None or start == starts[host]:
                continue
            within = starts[host] + len(host) - len(name)
            row = symtab["sh_offset"] + 24 * number
            data[row : row + 4] = within.to_bytes(4, "little")
            string = strtab["sh_offset"] + start
            data[string : string + len(name)] = b"?" * len(name)
    out = elf.with_name("older.elf")
    out.write_bytes(data)
    return out


OWN = ["D jiffies", "d event_x", "d __func__.0", "r __ksymtab_jiffies", "d __event_x"]
HOSTS = {
    "jiffies": "__ksymtab_jiffies",
    "event_x": "__event_x",
    "__func__.0": "__func__.0",
}
ASKED = ["jiffies", "event_x", "__event_x", "__func__.0", "x", "vent_x", "ksymtab_jiffies"]

FEW = """
import sys
import ksyms
table = ksyms.load(sys.argv[1])
for name in sys.argv[2:]:
    print(name, *(f"{symbol.address:x}" for symbol in table.find(name)))
assert "numpy" not in sys.modules
"""


def test_an_older_image_of_shared_names(tmp_path: Path) -> None:
    """All of its names are found: by an index, by a scan of the strings, as near ones."""
    lines = placed("t f", *OWN, "d __func__.0")
    elf, _ = taken(tmp_path, lines)
    image = older(elf, HOSTS)
    assert nm(image) == nm(elf)
    expected = [
        [name, *(line[:16] for line in lines if line.split()[2] == name)] for name in ASKED
    ]
    table = ksyms.load(image)
    found = [[name, *(f"{s.address:x}" for s in table.find(name))] for name in ASKED]
    assert found == expected
    out = subprocess.check_output([sys.executable, "-c", FEW, image, *ASKED], text=True)
    assert [line.split() for line in out.splitlines()] == expected
    said = subprocess.run(
        [COMMAND, "lookup", "--from", image, "jiffied"], capture_output=True, text=True
    )
    assert "jiffies" in said.stderr
