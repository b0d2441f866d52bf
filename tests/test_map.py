"""The sums of a map, by hand and by binutils; names that would be markup; the command."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html.parser
import json
import re
import stat
import subprocess
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms as library
from command import ksyms, refused
from conftest import Kernel
from ksyms import Symbol
from ksyms._map import Survey, survey
from ksyms._map.survey import own_sizes

HOSTILE = (
    "</script><img/src=x:y/onerror=alert(1)>",
    "<b>&amp;{{DATA}}",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    "a" * 4000,
)

TEXT = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000010 T alpha
ffffffff81000040 t beta
ffffffff81000040 t beta_alias
ffffffff81000080 t twin
ffffffff81001000 T _etext
ffffffff81400000 d counter
ffffffffc0000000 t mod_start\t[mod]
ffffffffc0000020 t twin\t[mod]
""" + "".join(f"ffffffff8140{16 * n + 16:04x} d {name}\n" for n, name in enumerate(HOSTILE))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    text, path = tmp_path / "small.txt", tmp_path / "small.elf"
    text.write_text(TEXT)
    assert ksyms("snapshot", "--kallsyms", text, "-o", path).returncode == 0
    return path


@functools.cache
def surveyed(path: Path) -> Survey:
    return survey(library.load(path))


@pytest.fixture
def page(small: Path, tmp_path: Path) -> str:
    path = tmp_path / "map.html"
    assert ksyms("map", small, "-o", path).returncode == 0
    return path.read_text()


def packed(page: str) -> dict[str, Any]:
    """The data in a page."""
    (found,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', page)
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found)))
    return data


# -- sums -----------------------------------------------------------------------------------


def test_sums_by_hand(small: Path) -> None:
    """_etext ends .text at its start + 0x1000; a page ends what nothing else does."""
    found = survey(library.load(small))
    assert [(s.name, s.kind, s.address, s.size, s.exact) for s in found.sections] == [
        (".text", "text", 0xFFFFFFFF81000000, 0x1000, True),
        (".gap.data", "data", 0xFFFFFFFF81400000, 0x1000, False),
        ("[mod].text", "text", 0xFFFFFFFFC0000000, 0x1000, False),
    ]
    assert [(g.address, g.size, g.before, g.after) for g in found.gaps] == [
        (0xFFFFFFFF81001000, 0x3FF000, ".text", ".gap.data"),
        (0xFFFFFFFF81401000, 0x3EBFF000, ".gap.data", "[mod].text"),
    ]
    assert found.modules == [("mod", 0x1000, 2)]
    assert (found.symbols, found.elsewhere, found.bits) == (14, 0, 64)
    own = {row.symbol.name: row.own for row in found.sections[0].symbols}
    assert own == {
        **{"_stext": 0x10, "_text": 0, "alpha": 0x30, "beta": 0x40, "beta_alias": 0},
        **{"twin": 0xF80, "_etext": 0},
    }


def test_sections_are_readelfs(kernel: Kernel) -> None:
    """Address and size of every allocated section that has a size."""
    lines = subprocess.check_output(["readelf", "-SW", kernel.elf], text=True).splitlines()
    rows = [re.fullmatch(r" +\[ *\d+\] (.*)", line) for line in lines]
    fields = [row[1].split() for row in rows if row]
    expected = [
        (name, int(address, 16), int(size, 16))
        for name, kind, address, _, size, _, *flags in fields
        if kind != "NULL" and flags[0].isalpha() and "A" in flags[0] and int(size, 16)
    ]
    found = surveyed(kernel.elf)
    assert [(s.name, s.address, s.size) for s in found.sections] == sorted(
        expected, key=lambda row: row[1]
    )


def test_symbols_are_nms(kernel: Kernel) -> None:
    """Address, size and name of each; the bytes that nm's sizes cover together."""
    lines = subprocess.check_output(["nm", "-S", "--no-sort", kernel.elf], text=True)
    expected, absolute = [], 0
    for line in lines.splitlines():
        *numbers, letter, name = line.split(" ")
        if letter in "aA":
            absolute += 1
            continue
        address, size = (int(number, 16) for number in (*numbers, "0")[:2])
        expected.append((address, size, name))
    found = surveyed(kernel.elf)
    symbols = [row.symbol for section in found.sections for row in section.symbols]
    assert sorted((s.address, s.size, s.name) for s in symbols) == sorted(expected)
    assert found.elsewhere == absolute
    expected.sort()
    for section in found.sections:
        covered = at = 0
        inside = (bisect_left(expected, (edge,)) for edge in (section.address, section.end))
        for address, size, _ in expected[slice(*inside)]:
            end = min(address + size, section.end)
            covered += max(0, end - max(at, address))
            at = max(at, end)
        assert sum(row.own for row in section.symbols) == covered
        assert section.unnamed == section.size - covered


def test_own_bytes_agree_with_lookup(saved: dict[str, Kernel]) -> None:
    """Every byte of some sections, asked one by one."""
    table = library.load(saved["6.1.0-56-amd64-few"].elf)
    for section in survey(table).sections:
        if section.module != "cuse":
            continue
        asked = dict.fromkeys(range(len(section.symbols)), 0)
        rows = {row.symbol: index for index, row in enumerate(section.symbols)}
        for address in range(section.address, section.end):
            answer = table.lookup(address)
            if answer is not None:
                asked[rows[answer]] += 1
        assert [row.own for row in section.symbols] == list(asked.values())


def test_own_bytes_of_nested_symbols() -> None:
    """An outer one has what the inner ones leave, before, between and after."""
    symbols = [
        _symbol(0, 100),
        _symbol(10, 20),
        _symbol(15, 5),
        _symbol(50, 10),
        _symbol(50, 20),
    ]
    assert own_sizes(symbols, 90) == [10 + 20 + 20, 15, 5, 10, 10]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=12),
    st.integers(31, 50),
)
def test_own_bytes_one_by_one(spans: list[tuple[int, int]], end: int) -> None:
    symbols = [_symbol(address, size) for address, size in sorted(spans, key=lambda s: s[0])]
    expected = [0] * len(symbols)
    for byte in range(end):
        reaching = [i for i, s in enumerate(symbols) if s.address <= byte < s.address + s.size]
        if reaching:
            last = symbols[reaching[-1]].address
            expected[next(i for i in reaching if symbols[i].address == last)] += 1
    assert own_sizes(symbols, end) == expected


def _symbol(address: int, size: int) -> Symbol:
    return Symbol("s", address, size, True, None, ".text", "local", "function", "t")


def test_groups(kernel: Kernel) -> None:
    """A group's symbols share their first word, five of them at least."""
    found = surveyed(kernel.elf)
    text = next(section for section in found.sections if section.name == ".text")
    grouped = [row.symbol.name for row in text.symbols if row.group == "tcp"]
    first = re.compile(r"(__pfx_)?[_.$]*tcp([_.]|$)")
    assert grouped == [p.symbol.name for p in text.symbols if first.match(p.symbol.name)]
    assert len(grouped) > 100
    sizes: dict[str, int] = {}
    for row in text.symbols:
        sizes[row.group] = sizes.get(row.group, 0) + 1
    assert min(n for name, n in sizes.items() if name) >= 5


# -- the page -------------------------------------------------------------------------------


class Markup(html.parser.HTMLParser):
    """The elements of a page, and what could ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asking: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "action", "style", "srcset", "data")
        self.asking += [(k, v) for k, v in attrs if k in names or k.startswith("on")]


def test_page_asks_for_nothing(page: str) -> None:
    """No element, style or handler that could; and a policy that forbids it all the same."""
    markup = Markup()
    markup.feed(page)
    assert markup.asking == []
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(markup.tags)
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    script, style = (
        re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S) for tag in ("script", "style")
    )
    assert (len(script), len(style)) == (1, 1)
    hashes = [
        "sha256-" + base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        for part in (*script, *style)
    ]
    assert policy == (
        f"default-src 'none'; script-src '{hashes[0]}'; style-src '{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_page_has_no_name_in_its_markup(page: str) -> None:
    for name in HOSTILE:
        assert name not in page
    assert set(HOSTILE) <= set(packed(page)["names"])
    assert "{{" not in page.replace("`", "")


def test_page_has_every_symbol(page: str, small: Path) -> None:
    data = packed(page)
    starts = [s["address"] for s in data["sections"] for _ in range(s["symbols"])]
    found = sorted(
        (int(start, 16) + offset, size, name)
        for start, offset, size, name in zip(
            starts, data["offsets"], data["sizes"], data["names"], strict=True
        )
    )
    table = library.load(small)
    assert found == sorted((s.address, s.size, s.name) for s in table)
    assert data["slide"] is None


def test_page_carries_the_licence_of_d3(page: str) -> None:
    assert "Copyright 2010-2026 Mike Bostock\n\nPermission to use, copy, modify" in page


def test_page_is_the_same_every_time(small: Path) -> None:
    first, second = (ksyms("map", small, "-o", "-").stdout for _ in range(2))
    assert first == second
    assert first.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_have_contrast(scheme: str, page: str) -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5 between what is written and what it stands on."""
    blocks = re.findall(r":root \{(.*?)\}", page, re.S)
    colours = dict(re.findall(r"--([\w-]+): #(\w{6});", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): #(\w{6});", blocks[1]))
    pairs = [(kind, f"{kind}-ink") for kind in ("text", "rodata", "data", "bss", "percpu")]
    pairs += [("page", "ink"), ("page", "faint"), ("panel", "ink"), ("panel", "faint")]
    pairs += [("page", "link"), ("panel", "link")]
    for ground, ink in pairs:
        assert contrast(colours[ground], colours[ink]) >= 4.5, (ground, ink)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's "contrast ratio" and "relative luminance" of #RRGGBB."""
    light = []
    for colour in (one, other):
        parts = [value / 255 for value in bytes.fromhex(colour)]
        red, green, blue = (
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        )
        light.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(light) + 0.05) / (min(light) + 0.05)


# -- the command ----------------------------------------------------------------------------


def test_summary(small: Path, tmp_path: Path) -> None:
    run = ksyms("map", small, "-o", "map.html", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    size = (tmp_path / "map.html").stat().st_size
    lines = run.stdout.splitlines()
    assert lines[0] == f"map.html: 14 symbols, {size} bytes, of an unknown release"
    assert lines[1] == "14 symbols in 12288 bytes, 0 without one"
    assert lines[3:8] == [
        "sections",
        "  .text        4096  33.3%  ffffffff81000000  7 symbols",
        "  .gap.data   ~4096  33.3%  ffffffff81400000  5 symbols",
        "  [mod].text  ~4096  33.3%  ffffffffc0000000  2 symbols",
        "",
    ]
    assert lines[8:10] == ["modules", "  mod  4096  33.3%  2 symbols"]
    assert lines[-3:] == [
        "gaps",
        "  ffffffff81401000  1052766208  .gap.data to [mod].text",
        "  ffffffff81001000     4190208  .text to .gap.data",
    ]
    assert stat.S_IMODE((tmp_path / "map.html").stat().st_mode) == 0o600


def test_summary_alone_writes_nothing(small: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    run = ksyms("map", "--json", small, cwd=tmp_path)
    facts = json.loads(run.stdout)
    assert sorted(tmp_path.iterdir()) == before
    assert (facts["file"], facts["bytes"], facts["size"], facts["symbols"]) == (
        *(None, None, 12288, 14),
    )
    assert [gap["size"] for gap in facts["gaps"]] == [1052766208, 4190208]
    assert facts["modules"] == [{"name": "mod", "size": 4096, "symbols": 2}]
    assert facts["largest_symbols"][0]["name"] == "twin"
    assert facts["sections"][0]["name"] == ".text"


def test_of_a_saved_root(saved: dict[str, Kernel]) -> None:
    kernel = saved["6.1.0-56-amd64-few"]
    root, file = (
        json.loads(ksyms("map", "--json", *source).stdout)
        for source in (("--root", kernel.root), (kernel.elf,))
    )
    assert root == file
    assert len(root["modules"]) == 15


def test_of_an_object_file(tmp_path: Path) -> None:
    """Sections that are not placed yet lie over each other: no gap, and sums all the same."""
    source = ".globl a\n.type a,@function\na: .zero 24\n.size a,24\n.data\nb: .quad 1\n"
    path = tmp_path / "a.o"
    subprocess.run(["as", "-o", path, "-"], input=source, text=True, check=True)
    facts = json.loads(ksyms("map", "--json", path).stdout)
    assert [(s["name"], s["kind"], s["size"], s["unnamed"]) for s in facts["sections"]] == [
        (".text", "text", 24, 0),
        (".data", "data", 8, 0),  # b reaches to the end of it
    ]
    assert facts["gaps"] == []


def test_refused_without_sections(tmp_path: Path) -> None:
    """An assembler's empty file has sections without a byte."""
    path = tmp_path / "empty.o"
    subprocess.run(["as", "-o", path, "-"], input="x = 5\n", text=True, check=True)
    refused(ksyms("map", path), "no section of it is in memory", "Name a file")
    refused(ksyms("map", path, "-o", tmp_path / "map.html"), "There is no map of")
    assert not (tmp_path / "map.html").exists()


def test_refused_when_larger_than_a_machine(tmp_path: Path) -> None:
    """JavaScript could not count it."""
    path = tmp_path / "large.o"
    source = ".bss\nx: .skip 0x1000000000000000\n"
    subprocess.run(["as", "-o", path, "-"], input=source, text=True, check=True)
    refused(ksyms("map", path), "its sections have 1152921504606846976 bytes", "Name a file")


def test_refused_places(small: Path, tmp_path: Path) -> None:
    refused(ksyms("map", small, "-o", tmp_path / "no/map.html"), "cannot be written")
    refused(ksyms("map", tmp_path / "none"), "No such file")
