"""Fuzz ksyms decode: true texts, damaged, spliced, and with an attacker's words in them.

A true text is a form of tests/forms as another boot or machine would have it; the bisection of
tests/form.py says what its addresses are. docs/fuzzing.md has what is checked.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ksyms
from form import FORMS, form, names, oracle
from fuzz.shared import Case, Fault, Target, command, damaged, program, refused
from ksyms._decode import Boot, Decoder, Frames, annotate, blocks
from ksyms._symbols.table import LOOKUPS
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
    tell,
)

TABLES = 64
"""Tables whose maps are kept: more than there are machines, and each command loads one."""
SHARED = 16
"""Cases of one true text."""
COMMAND = 25
"""One case of so many goes through the command line too, in one of three ways."""
NAMES = names()
LOGS = [
    name
    for name in NAMES
    if "oops" in name
    or name.split("-")[0]
    in ("dmesg", "hung", "kasan", "kcsan", "kmsan", "lockdep", "rhel", "stall", "ubsan", "slub")
]
"""Forms that are a kernel's log, in which a user of the machine has words."""
PREFIX = re.compile(r"(?:<\d+>)?(?:\x1b\[\d+m)*\[ *\d+\.\d+\](?:\x1b\[0m)? ?")
BEGINS = re.compile(r"[A-Z][a-z]*[ :]|\[<|[a-z_]+\+0x")
"""How a line begins that is not the rest of what one before it says."""
ANNOTATION = re.compile(
    rb" ?[({<]?:?(?:[\w-]+:)?[A-Za-z_.$][\w.$@:]*\+(?:0x[0-9a-fA-F]+|\d+)(?:/0x[0-9a-fA-F]+)?"
    rb"(?: \[[\w.-]+(?: [0-9a-f]+)?\])?[)}>]?|\[unknown\]"
    rb"|(?<=[0-9a-fA-F]{8})(?: in|[:=])? ?[({<]?[A-Za-z_.$][\w.$@]*+(?!\+)[)}>]?"
)
"""What decode puts into a text or takes away; tests/forms says where."""
NAMED = re.compile(rb"[\w.$@]+\+(?:0x)?[0-9a-f]+")
ADDRESS = re.compile(rb"[0-9a-fA-F]{8}")

SPOTS = (
    "{c}[{p}]: segfault at 0 ip 000056026a6b9132 sp 00007ffc49d9de20 error 6 in "
    "{f}[1132,56026a6b9000+1000] likely on CPU 1 (core 1, socket 0)",
    "traps: {c}[{p}] general protection fault ip:401136 sp:7ffc49d9de20 error:0 "
    "in {f}[401000+1000]",
    "traps: {c}[{p}] trap invalid opcode ip:401136 sp:7ffc49d9de20 error:0 in {f}[401000+1000]",
    "{c}[{p}]: unhandled signal 11 code 0x1 at 0x0000000000000000 in {f}[10000+1000]",
    "{c}: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL), nodemask=(null)",
    "{c} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset={f},mems_allowed=0,global_oom,"
    "task_memcg=/{f},task={c},pid={p},uid=1000",
    "Out of memory: Killed process {p} ({c}) total-vm:1234kB, anon-rss:12kB, file-rss:0kB",
    "[{p:7}]  1000 {p:5}   123456     1234    98304        0             0 {c}",
    'audit: type=1701 audit(1711540000.123:45): auid=1000 uid=1000 pid={p} comm="{c}" '
    'exe="/tmp/{f}" sig=11 res=1',
    "process '{f}' started with executable stack",
    "warning: `{c}' uses 32-bit capabilities (legacy support in use)",
    "{c} ({p}): drop_caches: 3",
    "{c} ({p}) used greatest stack depth: 12345 bytes left",
    "Process {p}({c}) has RLIMIT_CORE set to 1",
    'ptrace attach of "{f}"[{p}] was attempted by "{f}"[{p}]',
    "cgroup: fork rejected by pids controller in /user.slice/{f}",
    "EXT4-fs (loop0): mounted filesystem without journal. Opts: {f}",
    "BTRFS: device label {f} devid 1 transid 5 /dev/loop0 scanned by {c} ({p})",
    "usb 1-1: Product: {f}",
    "usb 1-1: SerialNumber: {f}",
    "input: {f} as /devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/input/input5",
    "CIFS: Attempting to mount //{f}",
    "nfs: server {f} not responding, still trying",
    "systemd[1]: {f}",
    "random: {c}: uninitialized urandom read (16 bytes read)",
    'Unknown kernel command line parameters "{f}", will be passed to user space.',
)
"""Lines of kernels with a user's words in them: ``c`` a program's name, 15 bytes of it
(TASK_COMM_LEN), ``f`` a file's, a label's or a device's. By arch/x86/mm/fault.c,
arch/x86/kernel/traps.c, mm/oom_kill.c, kernel/auditsc.c, fs/exec.c and others."""
ONCE = "process '"
"""What the kernel says once a boot (fs/exec.c, pr_warn_once). In a log without times the second
would be the end of the first, and all between them the name of a file."""
FILE = 290
"""Bytes from ``in`` to the end of a file's name at most: NAME_MAX, and what d_path may add."""
OPENED = re.compile(r"\[\d+\][: ].*? in (?=.)")
"""What the kernel says before the file of a program that crashed."""
CLOSED = re.compile(r"\[[0-9a-f]+(?:,[0-9a-f]+)?\+[0-9a-f]+\]")
"""What it says behind it (mm/memory.c, print_vma_addr)."""
ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
"""A byte that dmesg does not print as it is; a line feed it does."""
PROGRAMS = (
    *("Linux version 9", "Kernel Offset: ", "Oops: 0000 [#1]", "---[ end trace", "BUG: "),
    *("WARNING: CPU: 0", "Call Trace:", "RELEASE: 9.9.9", "OSRELEASE=9.9.9", "Not tainted 9.1"),
    *(
        "Tainted: G 9.9.9",
        "RIP: 0010:",
        "Code: 00 00 00",
        "</TASK>",
        "Modules linked",
        "cut here",
    ),
    *("_stext+0x0/0x10", "kernel BUG at a", "-- Reboot --", "Kernel relocate"),
)


class TrueText(NamedTuple):
    """A text whose names are known; ``given`` where its boot is on the command line."""

    name: str
    machine: str
    there: There
    said: Said
    given: Boot | None


@cache
def table(machine: str) -> ksyms.SymbolTable:
    """The symbols of a machine, ready for single addresses."""
    found = ksyms.load(FORMS / f"{machine}.kallsyms")
    for _ in range(LOOKUPS + 1):
        found.lookup(0)
    return found


def share_maps() -> None:
    """Have all decoders of one table use one map of it: both are made of the table alone.

    To make them takes longer than to decode a text.
    """
    for name in ("SymbolNames", "AddressMap"):
        made = getattr(annotate, name)
        if isinstance(made, type):
            setattr(annotate, name, lru_cache(maxsize=TABLES)(made))


def decoded(machine: str, data: bytes, boot: Boot | None) -> tuple[bytes, list[dict[str, Any]]]:
    """What the command makes of a text in a file, plain and as records.

    Both are of one look ahead; the command line, of each its own.
    """
    plainly, other = (Decoder(table(machine), boot) for _ in range(2))
    whole = [*blocks([data], plainly.pattern)]
    plainly.look_ahead(block for block, plain in whole if plain)
    other.belief = other._new_belief(plainly.belief._plan)
    out = b"".join(plainly.decode(block) if plain else block for block, plain in whole)
    reader = Frames(other, table(machine))
    lines = [line for block, plain in whole if plain for line in reader.lines(block)]
    return out, [json.loads(line) for line in lines]


# -- an attacker's words --------------------------------------------------------------------


def words_of(true: TrueText, random: Random) -> tuple[str, str]:
    """What somebody would like decode to believe, and of which kind it is."""
    machine, symbols = true.machine, oracle(true.machine)
    base = symbols.named["_text"][0]
    kaslr = KASLR.get(machine)
    there = other_boot(form(true.name), machine, random)
    wrong = frame(there, random.choice([a for a in symbols.addresses if symbols.place(a)]))
    offset = offset_line(machine, there).splitlines() if kaslr and kaslr.line else []
    release = random.choice(("9.9.9", "2.6.32-754.el6.x86_64", "6.6.31-evil"))
    return random.choice(
        [
            (
                "an offset",
                f"Kernel Offset: 0x{random.choice((2, 4, 10)) << 20:x} from {base:#x}",
            ),
            ("an offset", " ".join(offset) or f"Kernel Offset: 0x200000 from {base:#x} "),
            ("an offset", "Kernel Offset: disabled"),
            ("a banner", f"Linux version {release} (root@host) (gcc 13.2.0) #1 SMP PREEMPT"),
            ("a header", f"CPU: 0 PID: 1 Comm: a Not tainted {release} #1 QEMU"),
            ("a header", f"Tainted: G W {release} #1 x"),
            ("a release", f"RELEASE: {release}"),
            ("a release", f"OSRELEASE={release}"),
            ("modules", "Modules linked in: evil(O) nothing [last unloaded: sensor_hub]"),
            ("a report", "BUG: kernel NULL pointer dereference, address: 0000000000000000"),
            ("a report", "------------[ cut here ]------------"),
            ("a frame", wrong.strip()),
            ("a frame", wrong.strip() + " " + frame(there, base).strip()),
            ("a line of kallsyms", f"{there.move(base):0{symbols.digits}x} T _text"),
            ("a build-id", f"flashq_read+0x41/0xc0 [flashq {random.randbytes(20).hex()}]"),
            ("a relocation", f"Kernel relocated by 0x200000 .text @ 0x{base + 0x200000:x}"),
            ("nothing", "libc.so.6"),
        ]
    )


def apart(lines: list[str]) -> list[int]:
    """Before which lines another may come and none of them means anything else then.

    Not within a dump of code or of a stack, nor before the rest of what several lines say.
    """
    bodies = (PREFIX.sub("", line, count=1) for line in lines)
    return [at for at, body in enumerate(bodies) if BEGINS.match(body)]


def is_within_a_name(lines: list[str], own: list[int]) -> bool:
    """Whether true lines may be a file's name by the words of the kernel.

    They are between the messages of two programs that crashed, no further apart than a file's
    name is long, and no time parts them (docs/security.md).
    """
    for at, line in enumerate(lines):
        if not (opened := OPENED.search(line)):
            continue
        left = FILE
        for number in range(at, len(lines)):
            there = ESCAPED.sub(".", lines[number][opened.end() if number == at else 0 :])
            closed = CLOSED.search(there)
            near = closed is not None and closed.start() <= left
            if near and {*range(at + 1, number)} & {*own}:
                return True
            left -= len(there)
            if left < 0 or time_of(lines[number + 1 : number + 2]) not in ("", time_of([line])):
                break
    return False


def by_lines(messages: list[str], own: list[int]) -> tuple[list[str], list[int]]:
    """The lines of messages, and which of them are those of some messages, of one line each."""
    lines, found = list[str](), list[int]()
    for number, message in enumerate(messages):
        found += [len(lines)] if number in own else []
        lines += message.splitlines(True)
    return lines, found


def time_of(lines: list[str]) -> str:
    """The time of the first of some lines; nothing where it has none."""
    match = PREFIX.match(lines[0]) if lines else None
    return match[0] if match else ""


def broken(words: str, random: Random) -> str:
    """A file's name in which words have a line, as dmesg prints it."""
    before = random.randrange(0, 255 - len(words)) if len(words) < 250 else 0
    first = random.choice(("\\x01", "x", "\\xe4")) * before
    return f"{first}\n{words}" + random.choice(("", "\n"))


def attacked(true: TrueText, random: Random) -> tuple[str, list[int], str]:
    """The text with a user's words; the lines that are the true text's; what the words are."""
    lines = true.said.text.splitlines(True)
    own = list(range(len(lines)))
    program, words = "a.out", "libc.so.6"
    if random.randrange(3) == 0:
        program = random.choice(PROGRAMS)
        what = f"the program {program!r}"
    else:
        what, words = words_of(true, random)
        if random.randrange(2):
            program = words[:15]
    spots: tuple[str, ...] = SPOTS
    for _ in range(random.choice((1, 1, 2, 5))):
        spot = random.choice(spots)
        if spot.startswith(ONCE):
            spots = tuple(other for other in spots if other != spot)
        line = spot.format(c=program, f=words, p=random.randint(1, 99999))
        if OPENED.search(line) and random.randrange(3) == 0:
            line = spot.format(c=program, f=broken(words, random), p=random.randint(1, 99999))
        place = random.choice([0, len(lines), *apart(lines)])
        time = time_of(lines[max(place - 1, 0) :]) if place else ""
        printed = "".join(f"{time}{part}\n" for part in line.split("\n"))
        more = [*lines[:place], printed, *lines[place:]]
        others = [at + (at >= place) for at in own]
        if not is_within_a_name(*by_lines(more, others)):
            lines, own = more, others
    lines, own = by_lines(lines, own)
    return "".join(lines), own, what


# -- checks ---------------------------------------------------------------------------------


def check_bytes(text: bytes, out: bytes) -> None:
    """Nothing of the text is lost, nothing but names is added, and that behind addresses."""
    if out == text:
        return
    lines, got = text.split(b"\n"), out.split(b"\n")
    if len(lines) != len(got):
        raise Fault("bytes", f"{len(got)} lines of {len(lines)}")
    for line, made in zip(lines, got):
        if line == made:
            continue
        if not ADDRESS.search(line):
            raise Fault("bytes", f"no address in {line!r}, and it became {made!r}")
        left = iter(made)
        kept = ANNOTATION.sub(b"", line)
        if not all(byte in left for byte in kept):
            raise Fault("bytes", f"{line!r} became {made!r}")
        more = Counter(made)
        more.subtract(line)
        if any(count > 0 and not ANNOTATION_BYTES[byte] for byte, count in more.items()):
            raise Fault("bytes", f"{line!r} became {made!r}")


ANNOTATION_BYTES = [bool(re.match(rb"[\w.$@:+/ \[\](){}<>-]", bytes([n]))) for n in range(256)]


def check_records(true: TrueText, records: list[dict[str, Any]], boot: Boot) -> None:
    """Each name that a record has for an address is what the bisection has there."""
    symbols = oracle(true.machine)
    for record in records:
        if (record["symbol"] is None) != bool(record["why"]):
            raise Fault("a record without a name and a reason", str(record))
        if record["symbol"] is None or record["address"] is None:
            continue
        address = int(record["address"], 16)
        if record["module"] and not boot.own:
            continue  # a damaged text may say that a module is elsewhere
        place = symbols.place(address - (0 if record["module"] else boot.slide))
        right = place and (place.name, place.offset, place.module)
        if place is not None and right != (
            record["symbol"],
            record["offset"],
            record["module"],
        ):
            raise Fault("wrong name", f"{record} is {right}")


def names_in(records: list[dict[str, Any]], lines: list[int]) -> list[list[Any]]:
    """What the records of some lines say, in the order of the lines."""
    found: dict[int, list[Any]] = {line + 1: [] for line in lines}
    for record in records:
        if record["line"] in found:
            words = [record[word] for word in ("text", "symbol", "offset", "module")]
            found[record["line"]].append(words)
    return list(found.values())


class Texts(Target):
    """Texts for decode."""

    name = "texts"

    def begin(self, directory: Path) -> None:
        super().begin(directory)
        self._file = directory / "text"
        share_maps()
        for machine in MACHINES:
            ksyms.snapshot(kallsyms=FORMS / f"{machine}.kallsyms").write(directory / machine)

    def make(self, number: int) -> Case:
        random = self.random(number)
        true = self._true(number // SHARED)
        text = true.said.text.encode()
        log = true.name in LOGS and true.given is None
        kind = random.choice(
            ("attack", "attack", "damage", "given") if log else ("damage", "given")
        )
        facts: dict[str, Any] = {"true": true, "kind": kind, "number": number}
        if kind == "attack":
            words, own, what = attacked(true, random)
            return Case(
                {"text": words.encode(), "true": text}, {**facts, "own": own, "what": what}
            )
        other = self._true(random.randrange(1 << 30)) if random.randrange(4) == 0 else true
        splice = other.said.text.encode()
        if random.randrange(3) == 0:
            splice = words_of(true, random)[1].encode() + b"\n" + splice
        return Case({"text": damaged(text, random, splice)}, facts)

    @lru_cache(maxsize=64)  # noqa: B019 # there is one target a process
    def _true(self, number: int) -> TrueText:
        """A true text; tests/test_form_variants.py has that decode names all of it right."""
        random = self.random("true", number)
        found = form(random.choice(NAMES if number % 2 else LOGS))
        machine = random.choice(MACHINES) if portable(found) else found.symbols
        strip, given = random.random() < 0.5, "boot" in found.says
        if says_where(found) or random.random() < 0.3:
            there = There(oracle(machine))
        else:
            there = other_boot(found, machine, random)
        said = build(found, machine, Variant(there, strip, not given), random)
        kaslr = KASLR.get(machine)
        if given or says_where(found):
            return TrueText(found.name, machine, there, said, there.given())
        if kaslr and kaslr.line and random.random() < 0.4:
            said = said.before(offset_line(machine, there))
        else:
            said = said.after(*tell(machine, there, random, True))
        return TrueText(found.name, machine, there, said, None)

    def check(self, case: Case) -> None:
        true, kind, text = case.facts["true"], case.facts["kind"], case.files["text"]
        boot = true.there.given() if kind == "given" else true.given
        if case.facts["number"] % COMMAND == 0:
            self._command(case.facts["number"], true.machine, text, boot)
        try:
            out, records = decoded(true.machine, text, boot)
        except ksyms.KsymsError as error:
            refused(error)
            return
        check_bytes(text, out)
        if kind == "given":
            check_records(true, records, boot)
        if kind == "attack":
            self._attack(case, out, records)

    def _attack(self, case: Case, out: bytes, records: list[dict[str, Any]]) -> None:
        """The true text's lines have the names that they have without the attacker's words."""
        true, own, what = (case.facts[word] for word in ("true", "own", "what"))
        before, said = self._plainly(case.facts["number"] // SHARED)
        lines, right = out.split(b"\n"), before.split(b"\n")
        for at, was in zip(own, right):
            if lines[at] != was:
                new = set(NAMED.findall(lines[at])) - set(NAMED.findall(was))
                raise Fault(
                    f"{'moved' if new else 'blinded'} by {what}", f"{was!r}: {lines[at]!r}"
                )
        got, want = names_in(records, own), names_in(said, list(range(len(own))))
        for one, two in zip(got, want):
            if one != two:
                more = [name for name in one if name[1] is not None and name not in two]
                how = "records moved" if more else "records blinded"
                raise Fault(f"{how} by {what}", f"{one} and not {two}, of {true.name}")

    @lru_cache(maxsize=8)  # noqa: B019 # there is one target a process
    def _plainly(self, number: int) -> tuple[bytes, list[dict[str, Any]]]:
        """A true text as it is without an attacker."""
        true = self._true(number)
        return decoded(true.machine, true.said.text.encode(), true.given)

    def _command(self, number: int, machine: str, text: bytes, boot: Boot | None) -> None:
        """The command line, of a file."""
        self._file.write_bytes(text)
        arguments = ["--from", str(self.directory / machine), str(self._file)]
        if boot is not None:
            arguments = [f"--slide={boot.slide}", *arguments]
        way = number // COMMAND % 3
        if way == 0:
            check_bytes(text, command("decode", *arguments)[1] or text)
        elif way == 1:
            for line in command("decode", "--json", *arguments)[1].splitlines():
                json.loads(line)
        else:
            command("decode", "--no-offset", "--explain", "--check", *arguments)


if __name__ == "__main__":
    sys.exit(program(Texts))
