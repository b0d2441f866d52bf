"""The page of ``ksyms map`` in a browser without a network: its contents and its access."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from browser import Browser
from command import ksyms
from conftest import Kernel
from test_map import HOSTILE, TEXT

WIDE, NARROW = (1400, 900), (390, 844)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pages(
    saved: dict[str, Kernel], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The map of a saved kernel; and of a small one whose link addresses are known."""
    directory = tmp_path_factory.mktemp("pages")
    root = directory / "root"
    linked = "".join(
        f"ffffffff80{line[10:]}\n" for line in TEXT.splitlines() if line[:10] == "ffffffff81"
    )
    for name, text in {
        "proc/kallsyms": TEXT,
        "proc/sys/kernel/osrelease": "6.9.1-test\n",
        "boot/System.map-6.9.1-test": linked,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    sources: dict[str, list[str | Path]] = {
        "large": [saved["6.12.117+deb12-amd64-few"].elf],
        "small": ["--root", root],
    }
    found = {}
    for page, source in sources.items():
        found[page] = directory / f"{page}.html"
        run = ksyms("map", *source, "-o", found[page])
        assert (run.returncode, run.stderr) == (0, "")
    return found


@pytest.fixture
def large(browser: Browser, pages: dict[str, Path]) -> Browser:
    return opened(browser, pages["large"])


@pytest.fixture
def small(browser: Browser, pages: dict[str, Path]) -> Browser:
    return opened(browser, pages["small"])


def opened(browser: Browser, page: Path, size: tuple[int, int] = WIDE) -> Browser:
    browser.media()
    browser.size(*size)
    browser.mouse(1, 1)
    browser.load(page)
    return browser


def search(browser: Browser, text: str) -> None:
    browser.js("document.activeElement.blur()")
    browser.key("/")
    browser.js(
        "document.activeElement.value = document.getElementById('count').textContent = ''"
    )
    browser.type(text)
    browser.until("document.getElementById('count').textContent")


def rows(browser: Browser, where: str) -> dict[str, str]:
    """Return the terms and descriptions of a list."""
    found: list[list[str]] = browser.js(
        f"[...document.querySelectorAll('{where} dt')]"
        ".map(term => [term.textContent, term.nextSibling.textContent])"
    )
    return dict(found)


def box(browser: Browser, name: str) -> dict[str, Any]:
    found: dict[str, Any] = browser.js(
        f"document.getElementById('{name}').getBoundingClientRect().toJSON()"
    )
    return found


def path(browser: Browser) -> str:
    return str(browser.js("document.getElementById('path').innerText.replace(/\\s+/g, ' ')"))


def tip(browser: Browser) -> dict[str, str]:
    return {} if browser.js("document.getElementById('tip').hidden") else rows(browser, "#tip")


def of_nm(kernel: Kernel, name: str) -> tuple[int, int]:
    """Address and size of a symbol, by nm."""
    lines = subprocess.check_output(["nm", "-S", kernel.elf], text=True)
    (found,) = re.findall(rf"^([0-9a-f]+) ([0-9a-f]+) \w {name}$", lines, re.M)
    return int(found[0], 16), int(found[1], 16)


# -- what it asks for -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["large", "small"])
def test_it_loads_and_asks_for_nothing(
    name: str, browser: Browser, pages: dict[str, Path]
) -> None:
    """One request, for the file itself; no error or message."""
    opened(browser, pages[name])
    browser.js("new Promise(done => setTimeout(done, 300))")
    methods = [event["method"] for event in browser.events]
    asked = [e["params"]["request"]["url"] for e in browser.events if "request" in e["params"]]
    assert asked == [pages[name].as_uri()]
    for bad in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
        assert bad not in methods


def test_its_policy_holds(small: Browser) -> None:
    """A name that became markup could neither run nor ask."""
    directive = small.js(
        """new Promise(done => {
          document.addEventListener("securitypolicyviolation",
            event => done(event.effectiveDirective));
          document.body.insertAdjacentHTML("beforeend", "<img src='https://example.org/x'>");
        })"""
    )
    assert directive == "img-src"
    small.js("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.bad = 1\">')")
    small.js("document.body.lastElementChild.click()")
    assert small.js("window.bad") is None


def test_hostile_names_are_text(small: Browser) -> None:
    """Names are shown as they are, except for characters that reverse a line."""
    search(small, "onerror")
    assert small.js("document.querySelector('#results b').textContent") == HOSTILE[0]
    small.key("Enter")
    assert rows(small, "#detail")["symbol"] == HOSTILE[0]
    search(small, "gnp.exe")
    assert small.js("document.querySelector('#results b').textContent") == "\ufffdgnp.exe"
    assert small.js("document.images.length + document.scripts.length") == 2
    assert not [e for e in small.events if e["method"] == "Page.javascriptDialogOpening"]


def test_a_browser_that_cannot_unpack_is_told(browser: Browser, pages: dict[str, Path]) -> None:
    source = "delete globalThis.DecompressionStream"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=source)
    browser.call("Page.navigate", url=pages["small"].as_uri())
    try:
        browser.until("document.getElementById('facts')?.className === 'notice'")
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **added)
    assert "2023" in browser.js("document.getElementById('facts').textContent")


# -- its contents ---------------------------------------------------------------------------


def test_search_and_pointing(large: Browser, saved: dict[str, Kernel]) -> None:
    """`schedule` is found and gone to; its cell, pointed at, says what nm says."""
    address, size = of_nm(saved["6.12.117+deb12-amd64-few"], "schedule")
    search(large, "schedule")
    first = large.js("document.querySelector('#results li').innerText").split()
    assert first == ["schedule", f"{address:#018x}", f"~{size}", ".text"]
    large.key("Enter")
    assert path(large).startswith("everything kernel .text schedule")
    expected = {
        "symbol": "schedule",
        "size": f"~{size} bytes, inferred",
        "address": f"{address:#018x}",
        "at link time": "unknown",
        "module": "none: the kernel",
        "section": ".text",
        "letter": "T",
    }
    assert rows(large, "#detail") == expected
    tree = box(large, "tree")
    seen: dict[str, dict[str, str]] = {}
    for column in range(1, 16):
        for row in range(1, 10):
            large.mouse(
                tree["x"] + tree["width"] * column / 16, tree["y"] + tree["height"] * row / 10
            )
            found = tip(large)
            seen[found["symbol"]] = found
    assert seen["schedule"] == expected
    address, size = of_nm(saved["6.12.117+deb12-amd64-few"], "__schedule")
    assert seen["__schedule"]["address"] == f"{address:#018x}"
    assert seen["__schedule"]["size"].startswith(f"~{size:,} bytes")


def test_every_symbol_can_be_gone_to(large: Browser, saved: dict[str, Kernel]) -> None:
    """By name and by address, the smallest too, aliases, and symbols without a size."""
    lines = saved["6.12.117+deb12-amd64-few"].lines
    for address, _, name, module in lines[5000::23000]:
        search(large, name)
        large.key("Enter")
        detail = rows(large, "#detail")
        assert (detail["symbol"], detail["section"][0]) == (name, "[" if module else ".")
        search(large, f"{address + 1:#x}")
        large.key("Enter")
        assert rows(large, "#detail")["address"] == f"{address:#018x}"


def test_addresses_of_the_link(small: Browser) -> None:
    """The kernel is 16 MiB above its link address; a module has none."""
    search(small, "0xffffffff80000012")
    assert (
        small.js("document.querySelector('#results b').textContent") == "alpha as linked: +0x2"
    )
    small.key("Enter")
    detail = rows(small, "#detail")
    assert (detail["symbol"], detail["address"], detail["at link time"]) == (
        *("alpha", "0xffffffff81000010", "0xffffffff80000010"),
    )
    search(small, "mod_start")
    small.key("Enter")
    assert rows(small, "#detail")["at link time"].startswith("none")
    search(small, "beta_alias")
    small.key("Enter")
    detail = rows(small, "#detail")
    assert (detail["address"], detail["also"]) == ("0xffffffff81000040", "beta")


def test_click_goes_in(large: Browser, saved: dict[str, Kernel]) -> None:
    """The strip begins with .text; a click goes into it, and the path leads back."""
    strip = box(large, "strip")
    large.mouse(strip["x"] + 40, strip["y"] + 15)
    lines = subprocess.check_output(
        ["readelf", "-SW", saved["6.12.117+deb12-amd64-few"].elf], text=True
    )
    (found,) = re.findall(r" \.text +NOBITS +(\w+) \w+ (\w+)", lines)
    assert tip(large)["section"] == ".text"
    assert tip(large)["address"] == f"0x{found[0]}"
    assert tip(large)["size"] == f"{int(found[1], 16):,} bytes (16.0 MiB)"
    large.mouse(strip["x"] + 40, strip["y"] + 15, click=True)
    assert path(large).startswith("everything kernel .text, 16.0 MiB")
    large.mouse(strip["x"] + 40, strip["y"] + 15, click=True)
    assert re.search(r"\.text \d+ neighbours, ", path(large))
    large.js("document.querySelector('#path button').click()")
    assert path(large).startswith("everything, ")
    tree = box(large, "tree")
    large.mouse(tree["x"] + 60, tree["y"] + 30, click=True)
    assert path(large).startswith("everything kernel .text")


def test_gaps_are_shown(large: Browser) -> None:
    """The broken gap before the modules is as long as the command says."""
    strip = box(large, "strip")
    seen = set()
    for x in range(int(strip["width"] * 0.8), int(strip["width"]), 4):
        large.mouse(strip["x"] + x, strip["y"] + 15)
        if "gap" in tip(large):
            seen.add((tip(large)["address"], tip(large)["size"]))
    assert ("0xffffffffaa800000", "363,061,248 bytes (346 MiB)") in seen


# -- to whom --------------------------------------------------------------------------------


def test_by_keyboard(large: Browser) -> None:
    """Enter goes in, Escape out, arrows to the next cell; a screen reader is told of it."""
    said = "document.getElementById('live').textContent"
    large.js("document.activeElement.blur()")
    reached = []
    for _ in range(4):
        large.key("Tab")
        reached.append(large.js("document.activeElement.id"))
    assert reached[:3] == ["query", "strip", "tree"]
    large.js("document.getElementById('tree').focus()")
    assert large.js(said).startswith("what kernel, size ")
    large.key("Enter")
    assert path(large).startswith("everything kernel, ")
    assert large.js(said).startswith("in what kernel")
    assert tip(large)["section"] == ".text"
    seen = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        large.key(key)
        seen.append(tip(large)["section"])
        assert f"section {seen[-1]}, kind " in large.js(said)
    assert len(set(seen)) == 3
    assert ".text" not in seen[:2]
    large.key("Home")
    large.key("Enter")
    assert path(large).startswith("everything kernel .text, ")
    large.key("Escape")
    assert path(large).startswith("everything kernel, ")
    assert tip(large)["section"] == ".text"
    large.js("document.getElementById('strip').focus()")
    large.key("ArrowRight")
    assert {"section", "gap"} & set(tip(large))


def test_results_by_keyboard(large: Browser) -> None:
    search(large, "schedule_")
    large.key("ArrowDown")
    large.key("ArrowDown")
    marked = large.js(
        "document.getElementById(document.getElementById('query')"
        ".getAttribute('aria-activedescendant')).querySelector('b').textContent"
    )
    large.key("Enter")
    assert rows(large, "#detail")["symbol"] == marked
    large.key("/")
    assert large.js("document.getElementById('query').value") != ""
    large.key("Escape")
    assert large.js("document.getElementById('query').getAttribute('aria-expanded')") == "false"


def test_whatever_takes_the_focus_has_a_name(large: Browser) -> None:
    nodes = large.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node["name"]["value"])
        for node in nodes
        if any(p["name"] == "focusable" for p in node.get("properties", ()))
        and node["role"]["value"] != "RootWebArea"
    ]
    assert {("application", "By size"), ("application", "By address")} <= set(named)
    assert ("combobox", "Find") in named
    assert all(name for _, name in named)


def test_no_motion_if_it_is_unwanted(large: Browser) -> None:
    # Counted as they begin: on a slow machine they can be over before they are asked for.
    large.js(
        "window.begun = 0; const animate = Element.prototype.animate;"
        "Element.prototype.animate = function (...how)"
        " { window.begun += 1; return animate.apply(this, how); }; 0"
    )
    for wanted, count in (("no-preference", 1), ("reduce", 0)):
        large.media(prefers_reduced_motion=wanted)
        large.js("document.querySelector('#path button')?.click()")
        tree = box(large, "tree")
        large.mouse(tree["x"] + 60, tree["y"] + 30, click=True)
        assert large.js("begun") == count
        large.js("window.begun = 0")


def test_nothing_is_wider_than_a_telephone(browser: Browser, pages: dict[str, Path]) -> None:
    opened(browser, pages["large"], NARROW)
    assert browser.js("document.documentElement.scrollWidth") == NARROW[0]
    for name in ("tree", "strip"):
        assert box(browser, name)["width"] > 350
    search(browser, "schedule")
    assert browser.js("document.documentElement.scrollWidth") == NARROW[0]


def swatches(browser: Browser) -> dict[str, list[tuple[int, ...]]]:
    """The legend's pixels, kind by kind."""
    boxes: list[dict[str, Any]] = browser.js(
        "[...document.querySelectorAll('#legend canvas')].map(c => "
        "({...c.getBoundingClientRect().toJSON(), kind: c.parentNode.textContent}))"
    )
    return {b["kind"]: browser.pixels(b["x"] + 2, b["y"] + 2, 22, 11) for b in boxes}


def lightness(pixels: list[tuple[int, ...]]) -> float:
    """The mean, as CIE L*, from 0 to 100."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 for pixel in pixels for c in pixel]
    weights = (0.2126, 0.7152, 0.0722)
    mean = sum(value * weights[i % 3] for i, value in enumerate(linear)) * 3 / len(linear)
    return float(116 * mean ** (1 / 3) - 16)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("vision", ["none", "achromatopsia", "deuteranopia", "tritanopia"])
def test_kinds_differ_without_colour(scheme: str, vision: str, large: Browser) -> None:
    """Each is 7 or more of L* from the next: several just noticeable differences."""
    large.media(prefers_color_scheme=scheme)
    large.call("Emulation.setEmulatedVisionDeficiency", type=vision)
    found = swatches(large)
    large.call("Emulation.setEmulatedVisionDeficiency", type="none")
    assert list(found) == ["text", "rodata", "data", "bss", "no symbol"]
    if vision == "achromatopsia":
        assert max(max(p) - min(p) for pixels in found.values() for p in pixels) <= 2
    levels = sorted(lightness(found[kind]) for kind in ("text", "rodata", "data", "bss"))
    assert min(after - before for before, after in pairwise(levels)) > 7, levels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_kinds_differ_in_forced_colours(scheme: str, large: Browser) -> None:
    """By pattern alone, a tenth of the pixels differ between any two kinds."""
    large.media(forced_colors="active", prefers_color_scheme=scheme)
    found = swatches(large)
    assert len({pixel for pixels in found.values() for pixel in pixels}) > 1
    kinds = ("text", "rodata", "data", "bss")
    for one, other in combinations(kinds, 2):
        different = sum(a != b for a, b in zip(found[one], found[other], strict=True))
        assert different > len(found[one]) / 10, (one, other)
