"""/proc/modules line by line, as m_show prints it (kernel/module/procfs.c)."""

from __future__ import annotations

import pytest

import ksyms
from ksyms._linker.modules import Module, parse_modules

FORMS = {
    "9p 77824 1 - Live 0xffffffffc02f8000": Module(
        "9p", 77824, 1, (), "Live", 0xFFFFFFFFC02F8000, ""
    ),
    "9pnet 106496 2 9p,9pnet_virtio, Live 0xffffffffc02d3000 (OE)": Module(
        "9pnet", 106496, 2, ("9p", "9pnet_virtio"), "Live", 0xFFFFFFFFC02D3000, "OE"
    ),
    # No CONFIG_MODULE_UNLOAD: print_unload_info prints " - -".
    "fixed 16384 - - Live 0xffffffffc0000000": Module(
        "fixed", 16384, None, (), "Live", 0xFFFFFFFFC0000000, ""
    ),
    # A module without an exit function cannot be unloaded: "[permanent],".
    "stays 16384 0 [permanent], Live 0xffffffffc0000000": Module(
        "stays", 16384, 0, ("[permanent]",), "Live", 0xFFFFFFFFC0000000, ""
    ),
    "comes 16384 1 - Loading 0xffffffffc0000000 (+)": Module(
        "comes", 16384, 1, (), "Loading", 0xFFFFFFFFC0000000, "+"
    ),
    # free_module leaves a count below 0.
    "goes 16384 -1 - Unloading 0xffffffffc0000000 (OE-)": Module(
        "goes", 16384, -1, (), "Unloading", 0xFFFFFFFFC0000000, "OE-"
    ),
    # What a process without CAP_SYSLOG is shown, of 64 bits and of 32.
    "hidden 16384 0 - Live 0x0000000000000000": Module("hidden", 16384, 0, (), "Live", 0, ""),
    "narrow 16384 0 - Live 0xbf000000": Module("narrow", 16384, 0, (), "Live", 0xBF000000, ""),
}


@pytest.mark.parametrize("line", FORMS)
def test_a_line(line: str) -> None:
    module = FORMS[line]
    assert parse_modules(line.encode() + b"\n") == {module.name: module}


def test_the_oldest_comes_first() -> None:
    """The kernel adds to the head of its list (add_unformed_module: list_add_rcu)."""
    text = "".join(f"{name} 1 0 - Live 0x1\n" for name in ("newest", "middle", "oldest"))
    assert list(parse_modules(text.encode())) == ["oldest", "middle", "newest"]
    assert parse_modules(b"") == {}


@pytest.mark.parametrize(
    "line",
    [
        "9p",
        "9p 77824 1 - Live",
        "9p -77824 1 - Live 0xffffffffc02f8000",
        "9p 0x13000 1 - Live 0xffffffffc02f8000",
        "9p 77824 one - Live 0xffffffffc02f8000",
        "9p 77824 1 - Live 0x",
        "9p 77824 1 - Live c02g8000",
        "9p 77824 1 - Live 0x1ffffffffc02f8000",
        "9p 7\N{ARABIC-INDIC DIGIT TWO} 1 - Live 0xffffffffc02f8000",
        "",
    ],
)
def test_a_line_that_is_none(line: str) -> None:
    """Refused with its number, and nothing of the others taken."""
    text = f"good 1 0 - Live 0x1\n{line}\n"
    with pytest.raises(ksyms.KallsymsError, match=r"Line 2 of proc/modules"):
        parse_modules(text.encode())
