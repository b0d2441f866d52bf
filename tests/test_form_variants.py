"""The forms of tests/forms as other boots have them, and with other frames: no wrong name.

``KSYMS_FRAMES=10000`` asks for as many frames of each form and machine; docs/texts.md has the
command.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from functools import cache
from random import Random

import pytest

import ksyms
from form import FORMS, Form, decode, form, names, oracle
from ksyms._decode import Boot
from variants import (
    KASLR,
    MACHINES,
    Said,
    There,
    Variant,
    build,
    frame,
    offset_line,
    other_boot,
    portable,
    says_where,
    sections,
    tell,
)

FRAMES = int(os.environ.get("KSYMS_FRAMES", "0"))
"""How many frames are asked for of a form and machine; 0 for one text each."""
COPIES = 40
"""How often a form is in one text of a full run, each time with other frames."""
NAMES = names()
MOVED = [name for name in NAMES if not says_where(form(name)) and KASLR.get(form(name).symbols)]
"""Forms of machines that move their kernels."""
ELSEWHERE = [name for name in NAMES if not says_where(form(name))]
WITH_OFFSET = [name for name in MOVED if KASLR[form(name).symbols].line]
"""Forms of machines that say by how much they did."""
SHARE = 1 if FRAMES else 5
"""One of so many machines that do not usually have a form is tried with it."""
PAIRS = [
    (name, machine)
    for number, name in enumerate(NAMES)
    for turn, machine in enumerate(MACHINES, number)
    if portable(form(name)) and machine != form(name).symbols and turn % SHARE == 0
]
"""Forms that other machines have too, with these."""


@cache
def table(machine: str) -> ksyms.SymbolTable:
    return ksyms.load(FORMS / f"{machine}.kallsyms")


def faults(machine: str, said: Said, boot: Boot | None) -> list[str]:
    out, _ = decode(table(machine), said.text, boot)
    return list(said.faults(out))


def seeded(*words: str) -> Random:
    return Random(zlib.crc32("\0".join(words).encode()))


def boot_of(found: Form, there: There) -> Boot | None:
    """The boot, where the form is one that somebody gives it for."""
    return there.given() if "boot" in found.says else None


@pytest.mark.parametrize("told", ["a frame", "the command line"])
@pytest.mark.parametrize("name", NAMES)
def test_without_names(name: str, told: str) -> None:
    """Addresses alone, of the own boot: each has its name."""
    found = form(name)
    there = There(oracle(found.symbols))
    said = build(found, found.symbols, Variant(there, strip=True), None)
    boot: Boot | None = Boot()
    if told == "a frame" and "boot" not in found.says:
        said = said.after(frame(there, sections(found.symbols)[None, False][0] + 4))
        boot = None
    assert faults(found.symbols, said, boot) == []


@pytest.mark.parametrize("strip", [False, True], ids=["names", "addresses"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_of_another_boot(name: str, strip: bool) -> None:
    """A frame with its address tells the slide, and others where each module is."""
    found, random = form(name), seeded(name, str(strip))
    there = other_boot(found, found.symbols, random)
    told = "boot" not in found.says
    said = build(found, found.symbols, Variant(there, strip, told), None)
    if told:
        said = said.after(*tell(found.symbols, there, random, True))
    assert faults(found.symbols, said, boot_of(found, there)) == []


@pytest.mark.parametrize("strip", [False, True], ids=["names", "addresses"])
@pytest.mark.parametrize("name", MOVED)
def test_of_another_boot_with_modules_nobody_knows_where(name: str, strip: bool) -> None:
    found, random = form(name), seeded(name, str(strip))
    there = other_boot(found, found.symbols, random)
    said = build(found, found.symbols, Variant(there, strip, False), None)
    if "boot" not in found.says:
        said = said.after(*tell(found.symbols, there, random, False))
    assert faults(found.symbols, said, boot_of(found, there)) == []


@pytest.mark.parametrize("strip", [False, True], ids=["names", "addresses"])
@pytest.mark.parametrize("name", WITH_OFFSET)
def test_of_another_boot_with_its_offset(name: str, strip: bool) -> None:
    """As the machine's kernel prints it when it panics."""
    found, random = form(name), seeded(name, str(strip))
    there = other_boot(found, found.symbols, random)
    said = build(found, found.symbols, Variant(there, strip, False), None)
    said = said.before(offset_line(found.symbols, there))
    assert faults(found.symbols, said, boot_of(found, there)) == []


def texts(found: Form, machine: str, random: Random) -> Iterator[tuple[Said, There, bool]]:
    """A text of each kind: with other frames, of the own and of other boots.

    The last is whether the boot is to be given.
    """
    copies = COPIES if FRAMES else 1
    given = "boot" in found.says
    own = There(oracle(machine))
    yield join(found, machine, Variant(own), random, copies), own, given
    told = next(tell(machine, own, random, False))
    said = join(found, machine, Variant(own, strip=True), random, copies)
    yield said.after("" if given else told), own, given
    if says_where(found):
        return
    for strip in (False, True):
        there = other_boot(found, machine, random)
        said = join(found, machine, Variant(there, strip, not given), random, copies)
        yield said.after(*([] if given else tell(machine, there, random, True))), there, given
        if machine not in KASLR:
            continue
        there = other_boot(found, machine, random)
        said = join(found, machine, Variant(there, strip, False), random, copies)
        last = offset_line(machine, there) if KASLR[machine].line else ""
        first = "" if last or given else next(tell(machine, there, random, False))
        yield said.after(first).before(last), there, given


def join(found: Form, machine: str, variant: Variant, random: Random, copies: int) -> Said:
    parts = [build(found, machine, variant, random) for _ in range(copies)]
    bits = [bit for part in parts for bit in part.bits]
    return Said(bits, sum(part.frames for part in parts))


def check(name: str, machine: str) -> None:
    """Put random addresses in random symbols at a form's places: none has a wrong name."""
    found, random, count = form(name), seeded(name, machine), 0
    while True:
        for said, there, given in texts(found, machine, random):
            assert faults(machine, said, there.given() if given else None) == []
            count += said.frames
            if FRAMES and count >= FRAMES:
                return
        if not FRAMES or not count:
            return


@pytest.mark.parametrize("name", NAMES)
def test_of_other_frames(name: str) -> None:
    check(name, form(name).symbols)


@pytest.mark.parametrize(("name", "machine"), PAIRS)
def test_of_other_machines(name: str, machine: str) -> None:
    check(name, machine)
