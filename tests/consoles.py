"""Check what ``ksyms decode`` makes of real machines' texts, by each boot's own kallsyms.

    python tests/consoles.py DIRECTORY [MACHINE...]

DIRECTORY has ``MACHINE.tar.gz``, proc and sys of a boot, and ``MACHINE.texts.tar.gz``, what
that boot printed. Each text is decoded as it is, and as another boot of the same kernel would
have printed it: see KINDS. oracle.py judges the name of each frame. The exit status is 1 if a
name is wrong, or if there is any other outcome of those in BAD.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import built
import ksyms
from ksyms._decode import Decoder, Frames, blocks
from moved import BESIDE, OFFSET, Machine, Moves, linked_at, machine, moved, tokens
from oracle import FRAME, NOBODY, Answer, Oracle, Said
from tars import extract

COMMAND = Path(sys.executable).parent / "ksyms"
KINDS = {
    "own": "as the boot printed it",
    "moved": "by another boot: kernel and modules elsewhere",
    "half": "moved, and every second frame has its address alone",
    "bare": "moved, and all have; only of texts with a Kernel Offset",
    "order": "by another boot that loaded modules in another order, to where they begin",
    "order-half": "that, and every second frame has its address alone",
    "two": "as the boot printed it, and then by another boot",
    "unmoved": "by a boot without KASLR, all addresses alone; of texts with a Kernel Offset",
    "back": "by another boot, and then as the boot printed it",
}
"""The kinds of texts."""
BLOCK = 1 << 18
"""Bytes of a text that the command reads at once."""
BAD = ("WRONG", "BARRED", "CHANGED", "DOUBLED", "OVERWRITTEN", "TWICE", "DIFFER", "DISAGREES")
"""The first words of outcomes that must not occur.

- WRONG: a name that is not the address's
- BARRED: a name for a number that is no kernel address
- CHANGED: words after an address that are neither the text's nor a name
- DOUBLED: a second name after an address that has one there
- OVERWRITTEN: a name in place of the one that an address had there
- TWICE: a name after an address that has one before it
- DIFFER: other lines or other addresses than the text's
- DISAGREES: a record by which the text's own name is wrong; a name by the kernel that the
  oracle does not have
"""

TIME = re.compile(r"\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
"""The time, and the task or CPU, before a line of the kernel's log."""
SPANS = re.compile(
    r"(?<!Krnl )(?<!User )Code:.*|\[(?:mem|gap|io|bus|iomem) [^\]]*\]"
    r"|(?:Kernel Offset|PHYS_OFFSET):.*| \.(?:text|data|bss) +@ 0x.*"
    r"|\bIO 0x.*|^Linux version .*|\] Linux version .*"
    r"|\b(?:0x)?[0-9a-fA-F]{8,16} ?- ?(?:0x)?[0-9a-fA-F]{8,16}\b|\bACPI: .*|PARTUUID.*|UUID.*"
    r"|(?:EFLAGS|psr|CR[0-9]|ESR|pstate|MSR|Control|Table|DAC|DS|cr) ?[:=] ?"
    r"(?:0x)?[0-9a-f]{8,16}"
    r"|\*?p[gmu4]d(?:pt|e)? ?= ?[0-9a-f]{8,16}|\b(?:phys|cma|clocksource|RAMDISK)\b.*"
)
"""Parts of a line that have no kernel addresses."""
ASM = re.compile(r"\s*[*>#]?\s*[*>#]?[0-9a-f]{16}: ?[0-9a-f]{4,12}\s")
"""A line of disassembled code, as s390 prints it."""
DUMP = re.compile(r"\s*(?:<?[0-9a-f]{8}>?[ ]?)+\s*$")
"""A line of instructions as numbers, as powerpc prints them."""


def never(text: str) -> list[list[tuple[int, int]]]:
    """Return the spans of each line that have no kernel addresses, whatever they look like.

    These are registers that hold no addresses, bytes of code, ranges of physical memory, and
    what s390 prints about a user's program.
    """
    found = []
    code = dump = user = False
    for line in text.split("\n"):
        match = TIME.match(line)
        body = line[match.end() if match else 0 :]
        spans = [m.span() for m in SPANS.finditer(line)]

        whole = [(0, len(line))]
        if re.match(r"(Krnl|User) Code:", body):
            code, spans = True, whole
        elif code and ASM.match(body):
            spans = whole
        else:
            code = False

        if body.startswith("Instruction dump:"):
            dump = True
        elif dump and DUMP.match(body):
            spans = whole
        else:
            dump = False

        if re.match(r"User (PSW|GPRS)", body):
            user = True
        elif user and not re.match(r"\s{6,}|Last Breaking|User| \[<", body):
            user = False

        found.append(whole if user else spans)
    return found


@dataclass
class Tally:
    """The number of frames with each outcome, and examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, example: str = "") -> None:
        """Count a frame with the outcome ``kind``, and keep at most 400 examples of it."""
        self.counts[kind] += 1
        if example and len(self.examples[kind]) < 400:
            self.examples[kind].append(example)

    @property
    def missing(self) -> list[str]:
        """Examples of frames that have no name although the text tells where they lie.

        For a module the text must tell it before the frame: the module can be unloaded, and
        loaded elsewhere later.
        """
        told = ("told before", "of the own boot", "kernel, told later", "NO RECORD")
        return [
            f"{kind}: {example}"
            for kind, examples in self.examples.items()
            if kind.endswith(told) and ("NAMELESS" in kind or "NO RECORD" in kind)
            for example in examples
        ]

    @property
    def bad(self) -> list[str]:
        """Examples of outcomes that must not occur; see :data:`BAD`."""
        return [
            f"{kind}: {example}"
            for kind, examples in self.examples.items()
            if kind.partition(": ")[2].startswith(BAD)
            for example in examples
        ]


@dataclass(frozen=True)
class Text:
    """A text, and the boot of each of its parts.

    ``parts`` has for each part the line at which it begins, counted from 0, and the moves of
    its boot; None for the own boot, of which the oracle is.
    """

    name: str
    text: str
    oracle: Oracle
    parts: tuple[tuple[int, Moves | None], ...] = ((0, None),)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def part(self, line: int) -> int:
        """Return the index of the part that has a line."""
        return max(n for n, (begin, _) in enumerate(self.parts) if begin <= line)

    def moves(self, line: int) -> Moves | None:
        """Return the moves of the boot of a line; None for the own boot."""
        return self.parts[self.part(line)][1]

    def answer(self, line: int, address: int) -> Answer:
        """Return the names that an address in a line (counted from 0) may have."""
        moves = self.moves(line)
        here = address if moves is None else moves.here(address)
        return NOBODY if here is None else self.oracle.at(here)

    def _place(self, line: int, address: int) -> tuple[int, object, object]:
        """Return a key for all addresses that move together with ``address``.

        It is the text's part, the moved piece, and the module's section.
        """
        moves = self.moves(line)
        assert moves is not None
        here = moves.here(address)
        section = None if here is None else self.oracle.section(here)
        return self.part(line), moves.piece(address), section

    @cached_property
    def told(self) -> dict[tuple[int, object, object], int]:
        """The first line that tells where a place of another boot lies, by :meth:`_place`."""
        found: dict[tuple[int, object, object], int] = {}
        for number, line in enumerate(self.lines):
            moves = self.moves(number)
            if moves is None:
                continue
            if OFFSET.search(line) or "Kernel Offset: disabled" in line:
                kernel = self._place(number, self.oracle.base + moves.slide)
                found.setdefault(kernel, number)
            for match in BESIDE.finditer(line):
                if match["beside"]:
                    found.setdefault(self._place(number, int(match["beside"], 16)), number)
        return found

    def when(self, line: int, address: int) -> str:
        """Return in words whether the text tells where an address lies, and when it does."""
        if self.moves(line) is None:
            return "of the own boot"
        told = self.told.get(self._place(line, address))
        if told is None:
            return "not told"
        return "told before" if told <= line else "told later"


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a text: decode's output, its records and its messages.

    ``unknown`` has the addresses without a name, by the reason. ``contradicted`` is True if
    addresses got names as of the own boot, and a later line tells of another boot.
    """

    out: str
    records: list[dict[str, Any]]
    unknown: Mapping[str, Iterable[bytes]]
    refusal: str
    contradicted: bool
    assumed: bool
    """True if decode warns that it assumed the symbols' own boot, without evidence."""


def decode(table: ksyms.SymbolTable, text: str) -> Decoded:
    """Decode a text as the command does, without and with ``--json``."""
    data = text.encode("utf-8", "surrogateescape")
    pieces = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    out, rows = [], []
    first, second = Decoder(table), Decoder(table)
    for decoder in (first, second):
        ahead = blocks(pieces, decoder.pattern)
        refusal = decoder.look_ahead(block for block, plain in ahead if plain)
        if refusal is not None:
            return Decoded(text, [], {}, str(refusal), False, False)
    for block, plain in blocks(pieces, first.pattern):
        out.append(first.decode(block) if plain else block)

    frames = Frames(second, table)
    for block, plain in blocks(pieces, second.pattern):
        rows += [json.loads(line) for line in frames.lines(block)] if plain else []

    words = b"".join(out).decode("utf-8", "surrogateescape")
    belief = first.belief
    return Decoded(words, rows, first.unknown, "", belief.contradicted, first.assumed)


def judge(table: ksyms.SymbolTable, text: Text, tally: Tally) -> None:
    """Decode a text, judge the name of each frame, and count the outcomes."""
    done = decode(table, text.text)
    if done.refusal:
        tally.add("text: REFUSED", f"{text.name}: {done.refusal}")
        return
    if done.contradicted:
        tally.add("text: contradicted", text.name)

    found = Tally()
    plain(text, done.out, found)
    records(text, done.records, found)
    for kind, count in found.counts.items():
        name = kind.replace("WRONG", "wrong, as it warns") if done.assumed else kind
        tally.counts[name] += count
        tally.examples[name] += found.examples[kind]
    for why, addresses in done.unknown.items():
        if why.startswith(("its names fit", "it stands")):
            tally.add(f"text: reason {why}", f"{text.name} {sorted(addresses)[:3]}")


def plain(text: Text, out: str, tally: Tally) -> None:
    """Judge what the output ``out`` has after each address of the text."""
    pattern = tokens(text.oracle.digits)
    after = out.split("\n")
    if len(text.lines) != len(after):
        tally.add("plain: DIFFER in lines", f"{text.name}: {len(text.lines)} {len(after)}")
        return
    spans = never(text.text)
    for number, (old, new) in enumerate(zip(text.lines, after)):
        olds, news = list(pattern.finditer(old)), list(pattern.finditer(new))
        if [m[0] for m in olds] != [m[0] for m in news]:
            tally.add("plain: DIFFER in addresses", f"{text.name}:{number + 1}: {new}")
            continue
        for at, match in enumerate(olds):
            stop = olds[at + 1].start() if at + 1 < len(olds) else len(old)
            new_stop = news[at + 1].start() if at + 1 < len(olds) else len(new)
            was, now = old[match.end() : stop], new[news[at].end() : new_stop]
            barred = any(a <= match.start() < b for a, b in spans[number])
            found = text.answer(number, int(match[1], 16))
            kind = _plain_kind(old[: match.start()], was, now, found, barred)
            if kind == "NAMELESS":
                kind += f" {found.kind}, {text.when(number, int(match[1], 16))}"
            where = f"{text.name}:{number + 1}: {old.strip()[:110]} => {match[0]}{now[:60]}"
            tally.add(f"plain: {kind}", f"{where} (oracle {dict(found.names)})")


def _plain_kind(before: str, was: str, now: str, found: Answer, barred: bool) -> str:
    """Return the outcome for an address in the text.

    ``before`` is the line up to the address. ``was`` is what the text has after it, up to the
    next address, and ``now`` what the output has there.
    """
    said = FRAME.search(was)
    beside = said is not None and re.fullmatch(r"[>\]) (is]*", was[: said.start()])
    ahead = re.search(r"\+0x[0-9a-f]+(/0x[0-9a-f]+(?: \[[\w-]+\])?) <(?:0x)?$", before)
    first = FRAME.search(now)
    if was == now and (barred or not found.must):
        kind = "none, rightly"
    elif was == now:
        kind = "has its name" if beside or ahead else "NAMELESS"
    elif first is None:
        kind = "CHANGED"
    elif barred:
        kind = "BARRED"
    elif beside:
        kind = "DOUBLED" if now.endswith(was) else "OVERWRITTEN"
    elif not found.fits(Said.of(first)):
        kind = "WRONG"
    elif ahead:
        kind = "TWICE"
    else:
        kind = "right" if found.must else "right, may"
    return kind


def records(text: Text, rows: list[dict[str, Any]], tally: Tally) -> None:
    """Judge the records of the text's frames."""
    given: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["address"] is None:
            kind = _frame_kind(text, row)
            tally.add(f"json: frame {kind}", _where(text, row["line"] - 1, row["text"], row))
        else:
            given[row["line"] - 1, int(row["address"], 16)].append(row)

    pattern = tokens(text.oracle.digits)
    for number, (line, spans) in enumerate(zip(text.lines, never(text.text))):
        for match in pattern.finditer(line):
            address = int(match[1], 16)
            found = text.answer(number, address)
            kept = given.get((number, address))
            record = kept.pop(0) if kept else None
            barred = any(a <= match.start() < b for a, b in spans)
            kind = _record_kind(found, barred, record)
            if kind.startswith("NAMELESS"):
                kind += f" {found.kind}, {text.when(number, address)}"
            where = _where(text, number, match[0], record)
            tally.add(f"json: {kind}", f"{where} (oracle {dict(found.names)})")
            if record is not None and record["why"] and not barred:
                untrue = _untrue(text, number, address, record["why"])
                tally.add(
                    f"json: reason {'UNTRUE' if untrue else 'true'}: {record['why']}", where
                )

    for (number, _), left in given.items():
        for row in left:
            tally.add("json: no address", _where(text, number, row["text"], row))


def _where(text: Text, number: int, frame: str, row: Mapping[str, Any] | None) -> str:
    """Return an example for the tally: the line, the frame, and its record."""
    where = f"{text.name}:{number + 1}: {text.lines[number].strip()[:110]} => {frame}"
    if row is None:
        return where
    if row["symbol"] is None:
        return f"{where}: {row['why']}"
    return f"{where}: {row['symbol']}+{row['offset']:#x}/{row['size']:#x} [{row['module']}]"


def _record_kind(found: Answer, barred: bool, row: Mapping[str, Any] | None) -> str:
    """Return the outcome for an address in the records; ``row`` is its record, or None."""
    if row is None:
        return "none, rightly" if barred or not found.must else "NO RECORD"
    if row["symbol"] is None:
        return "none, rightly" if barred or not found.must else "NAMELESS"
    if barred:
        return "BARRED"
    if not found.fits(Said(row["symbol"], row["offset"], row["size"], row["module"])):
        return "WRONG"
    if row["said"] and not row["agrees"] and "+" in row["said"]:
        return "DISAGREES"
    return "right" if found.must else "right, may"


def _frame_kind(text: Text, row: Mapping[str, Any]) -> str:
    """Return the outcome for a name without an address; ``row`` is its record."""
    frame = FRAME.fullmatch(row["text"])
    if frame is None:
        return "odd"
    said = Said.of(frame)
    places = text.oracle.meant(said)
    past = said.size is not None and said.offset > said.size
    if row["symbol"] is None:
        if len(places) == 1 and not past and said.size is not None:
            return f"NAMELESS ({row['why']})"
        return "unknown"
    named = (row["symbol"], row["offset"], row["module"])
    if named != (said.name, said.offset, said.module):
        return "WRONG"
    here = int(row["file_address"], 16)
    if said.size is not None and here not in places:
        return "WRONG place"
    # An address at a symbol's end belongs to the next symbol. Compare the symbol's start.
    called = [(a, m) for a, m in text.oracle.called[said.name] if m == said.module]
    return "right" if here - said.offset in [a for a, _ in called] else "WRONG place"


def _untrue(text: Text, number: int, address: int, why: str) -> bool:
    """Return True if ``why``, the reason why an address has no name, is not true."""
    found, moves = text.answer(number, address), text.moves(number)
    own = moves is None
    untrue = True
    if "which is assumed" in why:
        untrue = bool(text.told) or (own and found.must)
    elif "lies in no symbol" in why:
        untrue = found.must
    elif "modules lie elsewhere" in why:
        # decode cannot distinguish a number that is no address from one in such a module.
        alone = own and len(text.parts) == 1
        untrue = alone or (bool(found.names) and (own or found.kind == "kernel"))
    elif "whose slide is unknown" in why and moves is not None:
        untrue = text.when(number, text.oracle.base + moves.slide) != "not told"
    elif "comes before" in why:
        banner = [n for n, line in enumerate(text.lines) if "Linux version " in line]
        untrue = not banner or number >= banner[0]
    elif "which one this is" in why or "conflicting slides" in why:
        untrue = len(text.parts) == 1
    return untrue


def check(oracle: Oracle, text: str, tally: Tally) -> None:
    """Check the oracle itself, by the names that the kernel printed beside addresses."""
    for line in text.split("\n"):
        for match in BESIDE.finditer(line):
            if not match["beside"] or len(match["beside"]) != oracle.digits:
                continue
            found = oracle.at(int(match["beside"], 16))
            if found.fits(Said.of(match)):
                tally.add("oracle: agrees")
            else:
                tally.add("oracle: DISAGREES", f"{line.strip()} (oracle {dict(found.names)})")


def texts(
    oracle: Oracle,
    where: Machine,
    found: Mapping[str, str],
    seed: int,
    kinds: Iterable[str],
) -> Iterator[tuple[str, Text]]:
    """Yield each of the texts ``found`` in each of the kinds that it can have.

    ``where`` tells how the machine moves its kernel, and ``seed`` chooses the other boot.
    """
    moves = Moves(oracle, where, seed)
    ordered = Moves(oracle, where, seed, None if where.random else 0, packed=True)
    for name, kind in ((name, kind) for name in sorted(found) for kind in kinds):
        text = found[name]
        if kind == "own":
            yield kind, Text(name, text, oracle)
        elif kind in ("two", "back"):
            if "Linux version " in text:
                yield kind, _both(name, text, oracle, moves, kind == "back")
        elif kind == "unmoved":
            offset = OFFSET.search(text)
            if offset and int(offset[0], 16):
                still = Moves(oracle, where, seed, -int(offset[0], 16))
                other = re.sub(
                    "Kernel Offset: 0x.*",
                    "Kernel Offset: disabled",
                    moved(oracle, still, text, 1),
                )
                yield kind, Text(name, other, oracle, ((0, still),))
        elif kind != "bare" or OFFSET.search(text):
            strip = {"moved": 0, "order": 0, "bare": 1}.get(kind, 2)
            there = ordered if kind.startswith("order") else moves
            yield kind, Text(name, moved(oracle, there, text, strip), oracle, ((0, there),))


def _both(name: str, text: str, oracle: Oracle, moves: Moves, back: bool) -> Text:
    """Return a text of two parts: the text by the own boot, and the text by another boot.

    With ``back`` the other boot comes first. Each part begins with the banner of its boot.
    """
    begin = text.rfind("\n", 0, text.index("Linux version ")) + 1
    pairs: list[tuple[str, Moves | None]] = [
        (text[begin:], None),
        (moved(oracle, moves, text[begin:]), moves),
    ]
    (one, first), (two, second) = pairs[::-1] if back else pairs
    one = one.rstrip("\n") + "\n"
    return Text(name, one + two, oracle, ((0, first), (one.count("\n"), second)))


def load(
    directory: Path, name: str, work: Path, mapped: bool
) -> tuple[Path, Oracle, dict[str, str]]:
    """Return the ELF file of a machine's symbols, its oracle, and its texts by name.

    If ``mapped`` is True, the root also gets a System.map, which tells where the kernel was
    linked.
    """
    root = work / name
    with tarfile.open(directory / f"{name}.tar.gz") as archive:
        extract(archive, root)
    oracle = Oracle.of(root)
    banner = (root / "proc/version").read_text().strip()
    if mapped:
        _write_map(root, oracle, linked_at(name) or oracle.base, banner.split()[2])

    elf = work / f"{name}.elf"
    command = [str(COMMAND), "snapshot", "--root", str(root), "-o", str(elf)]
    subprocess.run(command, check=True, capture_output=True)
    found = {}
    path = directory / f"{name}.texts.tar.gz"
    if path.exists():
        with tarfile.open(path) as archive:
            for member in archive:
                data = archive.extractfile(member)
                if data is not None and not member.name.endswith("vmallocinfo"):
                    words = data.read().decode("utf-8", "surrogateescape")
                    found[Path(member.name).name] = words

    if name.startswith("riscv64"):
        found["console"] = built.riscv(oracle, banner)
    elif name.startswith("s390x"):
        report, end, _ = found["warning"].partition("---[ end trace 0000000000000000 ]---\n")
        found["user"] = built.s390(oracle, banner.split()[2], report + end)
    return elf, oracle, found


def _write_map(root: Path, oracle: Oracle, linked: int, release: str) -> None:
    """Write the System.map of a kernel that was linked at ``linked``."""
    start = oracle.marks.get("_text", oracle.base)
    rows = [
        (a - start + linked, n) for a, names in sorted(oracle.kernel.items()) for n in names
    ]
    (root / "boot").mkdir()
    text = "".join(f"{a:0{oracle.digits}x} T {n}\n" for a, n in rows)
    (root / f"boot/System.map-{release}").write_text(text, "utf-8", "surrogateescape")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("machines", nargs="*")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--texts", default="")
    parser.add_argument("--map", action="store_true", help="put a System.map beside each root")
    parser.add_argument("--step", type=lambda word: int(word, 0), help="of the kernel's places")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where all examples are written")
    options = parser.parse_intermixed_args()

    found = [p.name[: -len(".tar.gz")] for p in sorted(options.directory.glob("*.tar.gz"))]
    names = options.machines or [n for n in found if not n.endswith(".texts")]
    bad = 0
    for name in names:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            elf, oracle, all_texts = load(options.directory, name, Path(work), options.map)
            tallies: dict[str, Tally] = defaultdict(Tally)
            if options.texts:
                wanted = options.texts.split(",")
                all_texts = {n: t for n, t in all_texts.items() if n in wanted}
            for text in all_texts.values():
                check(oracle, text, tallies["oracle"])

            where = machine(name, oracle.base)
            if options.step:
                where = replace(where, step=options.step)
            kinds = options.kinds.split(",")
            table = ksyms.load(elf)
            for kind, each in texts(oracle, where, all_texts, options.seed, kinds):
                judge(table, each, tallies[kind])

        for kind, tally in tallies.items():
            show(f"{name} {kind}", tally, options)
            bad += len(tally.bad)
        print(f"== {name}: {time.monotonic() - begun:.1f} s", flush=True)
    return min(bad, 1)


def show(title: str, tally: Tally, options: argparse.Namespace) -> None:
    """Print the outcomes with some examples; write all examples into the file ``--out``."""
    print(f"== {title}", flush=True)
    for kind, count in sorted(tally.counts.items()):
        print(f"{count:7} {kind}")
        for example in tally.examples[kind][: options.examples]:
            print(f"          {example}")
        if options.out:
            with options.out.open("a", errors="surrogateescape") as stream:
                for example in tally.examples[kind]:
                    print(f"{title}\t{kind}\t{example}", file=stream)


if __name__ == "__main__":
    sys.exit(main())
