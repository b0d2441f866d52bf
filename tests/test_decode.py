"""Frames whose answers are known, in every form, of the file's own boot and of others.

The answers are by a bisection over kallsyms (frames.py). What is named must be named with one
of them; what is not has a reason.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command import COMMAND, ksyms, refused
from conftest import Kernel
from frames import Symbols

FRAMES = 10_000
STEP = 1 << 21
RNG = random.Random(8)


class Frame(NamedTuple):
    """An address in the file; where it is in the text's boot; what the kernel calls it."""

    address: int
    there: int
    name: str
    size: int | None
    module: str | None

    @property
    def plain(self) -> str:
        return f"{self.name}/{self.size or 0x10:#x}" + (
            f" [{self.module}]" if self.module else ""
        )

    @property
    def bare(self) -> str:
        return self.name.partition("+")[0]


TIME = "\x1b[32m[   12.345678] \x1b[0m"
"""What ``dmesg --color=always`` has before a line."""


def go(value: object) -> str:
    """JSON as encoding/json writes it, which has no < and >."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e")


FORMS: dict[str, Callable[[Frame], str]] = {
    "raw": lambda f: f"\t    {f.there:016x}",
    "hexadecimal": lambda f: f"{f.there:#x}",
    "oops of 4.x": lambda f: f"[   12.345678]  [<{f.there:016x}>] ? {f.plain}",
    "bracket": lambda f: f" [<{f.there:016x}>]",
    "trace": lambda f: f"[   12.345678][  T123]  {f.plain}",
    "stack": lambda f: f"[<0>] {f.plain}",
    "perf": lambda f: f"\t{f.there:16x} {f.name} ([{f.module or 'kernel.kallsyms'}])",
    "perf unknown": lambda f: f"\t{f.there:16x} [unknown] ([kernel.kallsyms])",
    "ftrace": lambda f: f" => {f.plain} <{f.there:016x}>",
    "perf, bare": lambda f: f"\t{f.there:16x} {f.bare} (/usr/lib/debug/vmlinux)",
    "ftrace, bare": lambda f: f" => {f.bare} <{f.there:016x}>",
    "event": lambda f: f"kmalloc: (x+0x1) call_site={f.there:016x} ptr=00000000deadbeef",
    "register": lambda f: f"RBP: {f.there:016x} R08: 0000000000000001 R09: 0000000000000000",
    "JSON": lambda f: json.dumps({"ip": f"{f.there:#x}", "n": 1}),
    "JSON of a log": lambda f: json.dumps({"time": 1.5, "msg": f"  {f.plain}"}),
    "syzkaller": lambda f: f" {f.plain} mm/slub.c:123",
    "RIP": lambda f: f"RIP: 0010:{f.plain}",
    "KASAN": lambda f: f"BUG: KASAN: use-after-free in {f.plain}",
    "capitals": lambda f: f"RIP  - {f.there:016X}, CS  - 0000000000000038",
    "capitals with 0x": lambda f: f"{f.there:#X}",
    "dmesg's colours": lambda f: f"{TIME}\x1b[33mR10: \x1b[0m\x1b[1m{f.there:016x}\x1b[0m",
    "colour, 0x": lambda f: f"{TIME}\x1b[1m{f.there:#x}\x1b[0m",
    "colour, trace": lambda f: f"{TIME}\x1b[38;5;1m{f.plain}\x1b[0m",
    "colour, no colour": lambda f: f"{TIME}\x1b[m{f.plain}\x1b[m",
    "grep's colours": lambda f: f"[<\x1b[01;31m\x1b[K{f.there:016x}\x1b[m\x1b[K>]",
    "colour, both": lambda f: f"\x1b[31m[<{f.there:016x}>]\x1b[0m \x1b[1m{f.plain}\x1b[0m",
    "JSON, colour": lambda f: json.dumps({"msg": f"\x1b[31m{f.there:016x}\x1b[0m"}),
    "JSON, no colour": lambda f: json.dumps({"msg": f"\x1b[m{f.plain}\x1b[m"}),
    "JSON, lines": lambda f: json.dumps({"msg": f"at\n{f.there:016x}\nend"}),
    "JSON, trace of lines": lambda f: json.dumps({"msg": f"Call Trace:\n{f.plain}\n"}),
    "JSON of Go": lambda f: go({"msg": f"\t[<{f.there:016x}>] {f.plain}"}),
    "JSON of Go, ftrace": lambda f: go({"msg": f" => {f.plain} <{f.there:016x}>"}),
    "rsyslog": lambda f: f"Call Trace:#012#011{f.there:016x}#012",
    "rsyslog, trace": lambda f: f"Call Trace:#012{f.plain}#012",
}
NAMELESS = {"raw", "hexadecimal", "bracket", "perf unknown", "event", "register", "JSON"}
NAMELESS |= {"capitals", "capitals with 0x", "dmesg's colours", "colour, 0x"}
NAMELESS |= {"grep's colours", "JSON, colour", "JSON, lines", "rsyslog"}
BARE = {"perf, bare", "ftrace, bare"}
BESIDE = {"oops of 4.x", "perf", "ftrace", "colour, both", "JSON of Go", "JSON of Go, ftrace"}
BESIDE |= BARE


@pytest.fixture(scope="module")
def other(saved: dict[str, Kernel]) -> Kernel:
    return saved["6.12.117+deb12-amd64-few"]


@pytest.fixture(scope="module")
def symbols(other: Kernel) -> Symbols:
    return Symbols.of(other.root / "proc")


def frames(symbols: Symbols, slide: int, moves: dict[str, int]) -> list[Frame]:
    """Frames in code, of modules too; in a boot that lies elsewhere by so much."""
    rng = random.Random(slide)
    modules = [a for a in symbols.addresses if symbols.at[a][0][1] in symbols.sizes]
    kernel = [a for a in symbols.addresses if symbols.at[a][0][1] is None and a >> 63]
    made: list[Frame] = []
    while len(made) < FRAMES:
        start = rng.choice(modules if rng.random() < 0.2 else kernel)
        name, module = rng.choice(symbols.at[start])
        end = symbols.end(start)
        address = start + rng.randrange(min(end - start, 4096) if end else 1)
        if symbols.names(address):
            move = moves.get(module, 0) if module else slide
            words = f"{name}+{address - start:#x}"
            size = end - start if end else None
            made.append(Frame(address, address + move, words, size, module))
    return made


def elsewhere(symbols: Symbols) -> dict[str, int]:
    """How far each module is moved: into room of its own."""
    return {m: (n << 26) + 4096 * RNG.randrange(99) for n, m in enumerate(symbols.sizes, 1)}


def decoded(other: Kernel, text: str, *options: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryFile("w+") as file:
        file.write(text)
        file.seek(0)
        run = subprocess.run(
            [COMMAND, "decode", "--json", "--from", other.elf, *options],
            stdin=file,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "later" not in run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def judged(
    made: list[Frame], records: list[dict[str, Any]], symbols: Symbols
) -> tuple[int, list[Frame]]:
    """How many are named; and those that are not. A wrong one fails the test."""
    by_line = {r["line"]: r for r in records if r["address"] != "0x1"}
    unnamed = []
    for number, frame in enumerate(made, 1):
        record = by_line.get(number)
        assert record is not None, frame
        if record["symbol"] is None:
            assert record["why"], record
            unnamed.append(frame)
            continue
        bracket = f" [{record['module']}]" if record["module"] in symbols.sizes else ""
        name = f"{record['symbol']}+{record['offset']:#x}{bracket}"
        expected = symbols.names(frame.address)
        assert expected is not None
        assert name in expected or record["symbol"].startswith(".L"), (frame, record)
        assert int(record["file_address"], 16) == frame.address
    return len(made) - len(unnamed), unnamed


@pytest.mark.parametrize("form", FORMS)
def test_of_the_own_boot(form: str, other: Kernel, symbols: Symbols) -> None:
    made = frames(symbols, 0, {})
    text = "".join(FORMS[form](frame) + "\n" for frame in made)
    named, unnamed = judged(made, decoded(other, text), symbols)
    if form in NAMELESS | BESIDE:  # whose the space behind a section is nobody knows
        assert len(unnamed) < 10
    else:  # several symbols can have one name and one size
        assert named > FRAMES * 0.7


@pytest.mark.parametrize("form", FORMS)
def test_of_another_boot(form: str, other: Kernel, symbols: Symbols) -> None:
    """With the slide in a panic's last words, and each module somewhere else."""
    [(start, _)] = symbols.named["_text"]
    lowest = 0xFFFFFFFF81000000
    slide = lowest - start + STEP * RNG.randrange(400)  # to below where modules are
    moves = elsewhere(symbols)
    made = frames(symbols, slide, moves)
    text = "".join(FORMS[form](frame) + "\n" for frame in made)
    text += f"Kernel Offset: {start + slide - lowest:#x} from {lowest:#x} (range: x)\n"
    named, unnamed = judged(made, decoded(other, text), symbols)
    if form in NAMELESS:
        assert sum(frame.module is None for frame in unnamed) < 10
        assert all(f in unnamed for f in made if f.module)
    assert named > FRAMES * 0.7


@pytest.mark.parametrize("how", ["--slide", "--boot", "_stext", "a name", "far behind"])
def test_how_a_slide_is_told(how: str, other: Kernel, symbols: Symbols, tmp_path: Path) -> None:
    slide = 7 * STEP
    moves = elsewhere(symbols)
    made = frames(symbols, slide, moves)
    text = "".join(FORMS["raw"](frame) + "\n" for frame in made)
    options: list[str] = []
    modules = False
    if how == "--slide":
        options = [f"--slide={slide}"]
    elif how == "--boot":
        there = tmp_path / "kallsyms"
        there.write_text(moved(other.root / "proc/kallsyms", slide, moves))
        options, modules = ["--boot", str(there)], True
    elif how in ("_stext", "far behind"):
        [(start, _)] = symbols.named["_stext"]
        if how == "far behind":
            text += "words that tell nothing\n" * 400_000
        text += f"{start + slide:016x} T _stext\n"
    else:
        [(start, _)] = symbols.named["schedule"]
        end = symbols.end(start)
        assert end is not None
        text += f"[<{start + slide + 5:016x}>] schedule+0x5/0x{end - start:x}\n"
    named, unnamed = judged(made, decoded(other, text, *options), symbols)
    assert sum(modules or frame.module is None for frame in unnamed) < 10
    assert named >= FRAMES - 10 - sum(f.module is not None for f in made)


@pytest.mark.parametrize("form", sorted(BARE))
def test_names_without_offsets_tell_a_slide(form: str, other: Kernel, symbols: Symbols) -> None:
    """So near to the file's own boot that its symbols lie at most of the addresses too."""
    made = frames(symbols, 7 * STEP, elsewhere(symbols))
    records = decoded(other, "".join(FORMS[form](frame) + "\n" for frame in made))
    _, unnamed = judged(made, records, symbols)
    assert sum(frame.module is None for frame in unnamed) < 10
    assert {record["said"] for record in records} == {frame.bare for frame in made}


@pytest.mark.parametrize("form", sorted(BARE))
def test_names_of_modules_that_lie_elsewhere(
    form: str, other: Kernel, symbols: Symbols
) -> None:
    """Nothing tells of the kernel, and the names that modules are not where they were."""
    made = [f for f in frames(symbols, 0, dict.fromkeys(symbols.sizes, 4096)) if f.module]
    records = decoded(other, "".join(FORMS[form](frame) + "\n" for frame in made))
    assert judged(made, records, symbols)[0] == 0


def moved(kallsyms: Path, slide: int, moves: dict[str, int]) -> str:
    """The text as another boot has it."""
    lines = []
    for line in kallsyms.read_text().splitlines():
        address, rest = int(line[:16], 16), line[16:]
        module = rest.partition("\t")[2][1:-1] or None
        if address >> 63:
            address += moves.get(module, 0) if module else slide
        lines.append(f"{address:016x}{rest}\n")
    return "".join(lines)


def test_modules_that_the_text_tells_of(other: Kernel, symbols: Symbols) -> None:
    """A name with its module beside an address tells where the rest of its section is."""
    slide, moves = 3 * STEP, dict.fromkeys(symbols.sizes, 4096 * 77)
    made = [f for f in frames(symbols, slide, moves) if f.module and f.size]
    text = "".join(
        FORMS["oops of 4.x" if number % 2 else "raw"](frame) + "\n"
        for number, frame in enumerate(made)
    )
    records = decoded(other, text)
    named, _ = judged(made, records, symbols)
    assert named > len(made) * 0.9


def test_text_is_left_as_it_was_but_for_names(other: Kernel, symbols: Symbols) -> None:
    made = frames(symbols, 0, {})[:2000]
    rows = [(FORMS[form](f), f) for f, form in zip(made, list(FORMS) * 2000)]
    text = "".join(f"{line}\r\n" for line, _ in rows).encode() + b"\xff\x00 no end"
    run = subprocess.run(
        [COMMAND, "decode", "--from", other.elf], input=text, capture_output=True, check=True
    )
    again = subprocess.run(
        [COMMAND, "decode", "--from", other.elf],
        input=run.stdout,
        capture_output=True,
        check=True,
    )
    assert again.stdout == run.stdout
    assert run.stdout.endswith(b"\xff\x00 no end")
    for (line, frame), out in zip(rows, run.stdout.decode("latin-1").split("\r\n")):
        there = f"{frame.there:016x}"
        inserted = [f" {n.partition(' ')[0]}/" for n in symbols.names(frame.address) or ()]
        if out == line:
            said = frame.name if "+0x" in line else frame.bare
            assert there not in line or said in line or "[unknown]" in line
        elif "[unknown]" in line:
            before, after = line.split("[unknown]")
            name = out.removeprefix(before).removesuffix(after)
            assert name in {n.partition(" ")[0] for n in symbols.names(frame.address) or ()}
        else:
            at = next(i for i, (a, b) in enumerate(zip(line + "\0", out)) if a != b)
            tail = line[at:]
            # What was inserted can begin as what follows does: with a space.
            while not out.endswith(tail) or out[at] != " ":
                at, tail = at - 1, line[at - 1 :]
            found = out[at:].removesuffix(tail)
            assert any(found.startswith(name) for name in inserted), (line, out)


def test_another_build_is_refused(other: Kernel, symbols: Symbols, tmp_path: Path) -> None:
    """By its build-id where the text has one, and by names that fit nowhere."""
    theirs = "0123456789abcdef0123456789abcdef01234567"
    [ours] = {json.loads(ksyms("info", "--json", other.elf).stdout)["build_id"]}
    text = tmp_path / "oops"
    release = "6.12.117+deb12-amd64"
    head = f"CPU: 1 PID: 7 Comm: x y Not tainted {release} #1 Debian 6.12 {theirs}\n"
    text.write_text(head)
    run = ksyms("decode", "--from", other.elf, text)
    refused(run, theirs, "--force")
    assert ours in run.stderr
    assert ksyms("decode", "--from", other.elf, "--force", text).stdout == head
    assert ksyms("decode", "--from", other.elf, text, "--slide=0").returncode == 1

    [(start, _)] = symbols.named["schedule"]
    text.write_text("".join(f"[<{start + n:016x}>] kfree+{n:#x}/0x999\n" for n in range(20)))
    refused(ksyms("decode", "--from", other.elf, text), "another build", "--force")
    corrected = ksyms("decode", "--from", other.elf, text, "--slide=0").stdout.splitlines()
    assert [line.split()[1].partition("/")[0] for line in corrected[:3]] == [
        *("schedule+0x0", "schedule+0x1", "schedule+0x2")
    ]


def test_another_release_is_left_alone(other: Kernel, symbols: Symbols) -> None:
    [(start, _)] = symbols.named["schedule"]
    release = "6.12.117+deb12-amd64"
    text = (
        "[    0.0] Linux version 5.10.0-1-amd64 (gcc)\n"
        f"first {start:016x}\n"
        f"[    0.0] Linux version {release} (gcc)\n"
        f"[<{start:016x}>] schedule+0x0/0x60\nsecond {start + 1:016x}\n"
    )
    run = subprocess.run(
        [COMMAND, "decode", "--from", other.elf],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert lines[1] == f"first {start:016x}"
    assert lines[4].startswith(f"second {start + 1:016x} schedule+0x1/")
    assert "5.10.0-1-amd64" in run.stderr
