"""docs/texts.md: its tables say what decode does."""

from __future__ import annotations

import pytest

import form_table
import ksyms
from form import FORMS, decode, form, names, oracle
from form_table import PAGE, tells
from ksyms._decode.belief import State
from test_form_variants import MOVED, seeded, table
from variants import Variant, build, other_boot

Row = list[str]


def rows(head: str) -> list[Row]:
    """The rows of the table whose first column has that head."""
    _, found, rest = PAGE.read_text().partition(f"\n| {head} |")
    assert found
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_forms() -> None:
    """Write it anew with ``python tests/form_table.py``."""
    assert form_table.written() == form_table.rows()


def test_beliefs() -> None:
    found = {name.strip("`"): words for name, words, _ in rows("Belief")}
    assert found == {state.name: state.value for state in State}


@pytest.mark.parametrize(("said", "belief"), [(row[0], row[-1]) for row in rows("In the text")])
def test_what_a_text_says(said: str, belief: str) -> None:
    line = "" if said == "nothing else" else said.strip("`")
    symbols = ksyms.load(FORMS / "x86.kallsyms")
    out, decoder = decode(symbols, f"RAX: ffffffff9a171c0c\n{line}\n")
    assert decoder.belief.state.name == belief.strip("`")
    named = out.startswith("RAX: ffffffff9a171c0c schedule+0xc/0x260\n")
    assert named == (decoder.belief.boot is not None and decoder.belief.boot.own)


@pytest.mark.parametrize("name", [name for name in MOVED if tells(form(name))])
def test_evidence(name: str) -> None:
    """Of another boot, with nothing in the text but the form itself."""
    found = form(name)
    there = other_boot(found, found.symbols, seeded(name))
    assert there.symbols is oracle(found.symbols)
    said = build(found, found.symbols, Variant(there, told=False), None)
    out, _ = decode(table(found.symbols), said.text)
    assert list(said.faults(out)) == []


def test_each_form_is_told_of_once() -> None:
    titles = [form(name).says["form"] for name in names()]
    assert len(titles) == len({*titles})
