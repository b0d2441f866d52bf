"""Usual frames, which are decoded all at once, against the table of forms.

A line that the table of forms must read as part of its text makes it read all of the block:
``Modules linked in:``. So each text is decoded with such a line and without.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

import ksyms
from conftest import Kernel
from form import decode, frames
from ksyms import Symbol, SymbolTable
from ksyms._decode import Boot
from ksyms._decode.names import SymbolNames
from ksyms._decode.usual import NOT_IN, UsualFrames

ACROSS = "Modules linked in:\n"
SLIDE = 0x1A000000
USUAL = (
    "RBX: {a} RCX: 0000000000000001 RDX: {b}",
    " [<{a}>] ? 0x{a}",
    "[  123.456789]  [<{a}>] ? {n}+{o}/{s}{m}",
    "[  123.456789]  [<{a}>] {n}+{o}/{s}{m}\r",
    "\t{a} {n}+{o} ([kernel.kallsyms])",
    "\t{a} [unknown] ([kernel.kallsyms])",
    " => {n}+{o}/{s}{m} <{a}>",
    '{{"ip":"0x{a}","cpu":1}}',
    "\t    {a}",
    "({a})",
    "no address at all",
    "",
)
OTHERS = (
    "[  123.456789]  [<{a}>] ? {n}+{o}/{s}",
    "[   12.345678]  {n}+{o}/{s}",
    "\t{a} {n}+{x} ([kernel.kallsyms])",
    " [<{a}>] {w}+{o}/{s}",
    " [<{a}>] {n}+{o}/{s} and {n}+{o}",
    "{a} {n}+{o}/{s}{m}x",
    "{a} {n}+{o}x",
    "{a}x {a}_ x{a} 0x0x{a} @{a} 0{a} {a}f",
    " => {w}+{o}/{s} <{a}>",
    " => {n} <{a}>",
    " {n}+{o}/{s} <0x{a}>",
    "({n}+{o}/{s}) ({a})",
    "{n} at {a}",
    "{a} is {n}+{o}/{s}",
    "{a}: {n}",
    "{a} <{n}+18>",
    "{a} {{{n}+18}}",
    "{a} (T) {n}+18",
    "{a}-{b}",
    "{a} - {b}",
    "{a} {b} {a}",
    "{a}: {b} {b}",
    "{a} T {n}",
    "\x1b[31m{a}\x1b[0m {n}+{o}/{s}",
    "#011{a} {n}+{o}",
    "0X{a} =3D{a}",
    "[<{a}>]{n}",
    "{a}/{b}/P/-/-/0",
    "ffff{a} {a}_[k] {a}_k",
    "\t{u} {n}+{o} ([kernel.kallsyms])",
    "RIP: 0010:{n}+{o}/{s} ESP: {a}",
    "{a} {n}+{o} [{m}] {n}+{o}/{s} [9p 0123456789]",
    "{a} [9p] ffffffffffffffff fffffffffffffff0 {a}\0{n}+{o}",
)


def lines(
    symbols: list[Symbol], draw: random.Random, forms: Sequence[str], slide: int
) -> Iterator[str]:
    """Lines in these forms, of symbols drawn at random; the kernel's are moved by ``slide``."""
    for number in range(len(forms) * 20):
        here, there = draw.choice(symbols), draw.choice(symbols)
        address = here.address + draw.randrange(here.size)
        moved = address + (0 if here.module else slide)
        yield forms[number % len(forms)].format(
            a=f"{moved:016x}",
            u=f"{moved:016x}"[:8] + f"{moved:016X}"[8:],
            b=f"{there.address + slide:016x}",
            n=here.name,
            w=there.name,
            o=hex(address - here.address),
            x=hex(address - here.address + 1),
            s=hex(here.size),
            m=f" [{here.module}]" if here.module else "",
        )


@pytest.fixture(scope="module")
def table(saved: dict[str, Kernel]) -> SymbolTable:
    return ksyms.load(saved["6.12.117+deb12-amd64-few"].elf)


@pytest.fixture(scope="module")
def symbols(table: SymbolTable) -> list[Symbol]:
    """Symbols that have a size, and an address that no other has; half are modules'."""
    starts = Counter(symbol.address for symbol in table)
    alone = [s for s in table if s.size and s.section and starts[s.address] == 1]
    modules = [symbol for symbol in alone if symbol.module]
    return alone + modules * (len(alone) // len(modules))


@pytest.mark.parametrize("boot", [None, Boot(), Boot(SLIDE, own=False)])
@pytest.mark.parametrize("other", OTHERS)
def test_usual_frames_are_decoded_as_by_the_table_of_forms(
    table: SymbolTable, symbols: list[Symbol], other: str, boot: Boot | None
) -> None:
    draw = random.Random(3)
    slide = boot.slide if boot is not None else 0
    forms = [*USUAL, other]
    draw.shuffle(forms)
    text = "\n".join(lines(symbols, draw, forms, slide)) + "\n"

    assert not any(word in text for word in ["FFFF", *map(bytes.decode, NOT_IN)])
    assert frames(table, text, boot) == frames(table, text + ACROSS, boot)
    mixed, usual = decode(table, text, boot)
    whole, by_forms = decode(table, text + ACROSS, boot)

    assert mixed.split("\n") == whole.removesuffix(ACROSS).split("\n")
    assert usual.belief.votes == by_forms.belief.votes
    assert usual.belief.line == by_forms.belief.line - 1
    assert usual.unknown == by_forms.unknown
    assert usual.assumed == by_forms.assumed
    assert (usual.tally.fit, usual.tally.misfits) == (
        by_forms.tally.fit,
        by_forms.tally.misfits,
    )


@pytest.mark.parametrize("form", USUAL)
def test_no_usual_line_is_left_to_the_table_of_forms(
    table: SymbolTable, symbols: list[Symbol], form: str
) -> None:
    text = "\n".join(lines(symbols, random.Random(1), [form], 0))

    found = UsualFrames(SymbolNames(table), b"ffff").find(text.encode(), Boot())

    assert found.left == []
    assert len(found.begins) == len(re.findall("ffff[0-9a-f]{12}", text))
