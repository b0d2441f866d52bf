"""The members of ``.note.ksyms``, one wrong at a time: refused before anything reads them."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

import ksyms
from conftest import Kernel
from ksyms._note import read


@pytest.fixture(scope="module")
def facts(saved: dict[str, Kernel]) -> dict[str, Any]:
    found: dict[str, Any] = ksyms.load(saved["6.12.117+deb12-amd64-few"].elf).facts
    return found


def changed(facts: dict[str, Any], path: str, value: object) -> bytes:
    """The note with ``value`` for the member at ``path``; names and numbers, by dots."""
    whole = json.loads(json.dumps(facts))
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = whole
    for part in above:
        place = place[part]
    place[last] = value
    return json.dumps(whole).encode()


NO_ADDRESS: list[object] = [
    *("0x", "", "0", "ffffffff81000000", "0xFFFFFFFF81000000", "0x1ffffffff81000000"),
    *("0x-1", "0x 1", "0x1\n", "0x\N{ARABIC-INDIC DIGIT TWO}", "0X1", 0xFFFFFFFF81000000, 1.5),
    *(True, [], {}),
]
ADDRESSES = ["addresses._text", "addresses._stext", "link_time._text", "link_time._stext"]
PLACES = ["files.0.ranges.0.start", "files.1.ranges.0.end"]
COUNTS = ["sizes.exact", "files.0.id", "files.1.symbols", "files.1.absolute"]


def test_the_note_itself(facts: dict[str, Any]) -> None:
    assert read(json.dumps(facts).encode(), "here") == facts


@pytest.mark.parametrize("path", [*ADDRESSES, *PLACES])
def test_what_is_no_address(facts: dict[str, Any], path: str) -> None:
    for value in NO_ADDRESS:
        refused(changed(facts, path, value), "missing, or of another type")


def refused(note: bytes, why: str) -> None:
    try:
        read(note, "here")
    except ksyms.NoteError as error:
        assert why in error.what
    else:
        raise AssertionError(f"it is taken: {note!r}")


def test_what_is_one(facts: dict[str, Any]) -> None:
    for path, value in product(ADDRESSES, ("0x0", "0x7", "0xffffffffffffffff")):
        read(changed(facts, path, value), "here")


def test_an_address_that_nothing_told(facts: dict[str, Any]) -> None:
    """None is one of a symbol; a range has both of its ends."""
    for path in ADDRESSES:
        read(changed(facts, path, None), "here")
    for path in PLACES:
        refused(changed(facts, path, None), "missing, or of another type")


@pytest.mark.parametrize("path", COUNTS)
def test_what_is_no_count(facts: dict[str, Any], path: str) -> None:
    wrong: list[object] = [-1, 1 << 64, True, None, 1.0, "1", []]
    for value in wrong:
        refused(changed(facts, path, value), "missing, or of another type")


def test_a_range_that_ends_before_it_begins(facts: dict[str, Any]) -> None:
    end = changed(facts, "files.0.ranges.0.end", "0x1")
    refused(end, "ends before it begins")
