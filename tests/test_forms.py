"""Every form of texts in tests/forms: what decode makes of it is what was derived by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

import ksyms
from form import FORMS, decode, form, names
from ksyms._decode import Boot

NAMES = names()


@cache
def table(machine: str) -> ksyms.SymbolTable:
    return ksyms.load(FORMS / f"{machine}.kallsyms")


def lines(one: str, other: str) -> Iterator[str]:
    """Where two texts differ."""
    pairs = zip(one.splitlines(), other.splitlines())
    return (f"{a}\n{b}" for a, b in pairs if a != b)


@pytest.mark.parametrize("name", NAMES)
def test_own_boot(name: str) -> None:
    """Byte for byte, of a text that nothing else is known of."""
    found = form(name)
    boot = Boot() if "boot" in found.says else None
    out, _ = decode(table(found.symbols), found.text, boot)
    assert list(lines(found.decoded, out)) == []
    assert out == found.decoded


@pytest.mark.parametrize("name", NAMES)
def test_again(name: str) -> None:
    """What has its names stays as it is."""
    found = form(name)
    out, _ = decode(table(found.symbols), found.decoded)
    assert list(lines(found.decoded, out)) == []


@pytest.mark.parametrize("name", NAMES)
def test_lines_that_are_there_again(name: str) -> None:
    """What nothing is said of in between has the names that it had before."""
    found = form(name)
    boot = Boot() if "boot" in found.says else None
    out, decoder = decode(table(found.symbols), found.text, boot)
    again = decoder.decode(found.text.encode()).decode()
    if "Linux version" not in found.text:  # a banner begins another boot
        assert list(lines(out, again)) == []
