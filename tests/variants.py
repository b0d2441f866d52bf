"""Variants of the texts of form.py, each with what decode must make of it.

A variant is a form's text as another boot or another machine would have printed it, with other
frames, or without the names beside its addresses. Both the text and decode's right output are
built piece by piece, from kallsyms alone. They follow from three facts: where the boot has each
symbol, which symbols can be known from the text, and how the form writes a name. For example,
of a boot whose kernel lies 0x200000 higher:

    the form             [<ffffffff9a001234>] «=do_exit+0x4/0xa0»
    moved                [<ffffffff9a201234>] do_exit+0x4/0xa0
    without names        [<ffffffff9a201234>]
    its right output     [<ffffffff9a201234>] do_exit+0x4/0xa0
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from random import Random
from typing import NamedTuple

from form import HEXADECIMAL, NAME, PAGE, Form, Oracle, Piece, Place, form, names, oracle
from ksyms._decode import Boot

FEW_PAGES = 0x200
"""Largest distance in pages that a module is moved: no module gets into the kernel by it."""
_COLOURS = r"(?:\x1b\[[\d;]*[mK])*"
CLOSES = re.compile(rf"{_COLOURS}(?:(?:>|&gt;|\\u003e)\]?|[\])])?{_COLOURS}", re.IGNORECASE)
"""The brackets after an address. decode puts a name after them."""
CLOTHES = re.compile(r"(?:[ \t]+in|[ \t]*[:=])?[ \t]*(?P<open>[({<]|&lt;)?$")
"""The words and brackets between an address and a name after it; they go with the name."""
LINKS = re.compile(r"^ (?:at |= )?")
"""The words between a name and an address after it."""
CLOSED_BY = {"(": ")", "{": "}", "<": ">", "&lt;": "&gt;"}
TOGETHER = 13
"""Largest number of characters between two copies of an address.

``[<ffffffff9a001234>]  [<ffffffff9a001234>]`` has six; in HTML, ``&gt;]  [&lt;`` is longer.
"""
SAYS_WHERE = ("Kernel Offset: ", "Kernel relocated by ", "KERNELOFFSET=")
"""Words of lines that tell where the kernel of the boot lies."""
INSERTED = re.compile(r"[A-Za-z_.$][\w.$]*\+(?:0x[0-9a-f]+|\d+)(?:/0x[0-9a-f]+)?(?: \[\w+\])?")
"""A name that decode can have inserted."""
RELEASE = re.compile(r"\d+\.\d+\.\d+\S*(?= #\d)")
OLD_RELEASES = {"arm64-4.19": "4.19.94"}
"""The release of a machine's kernel that is not 6.6."""
X86_ONLY = ("x86-", "xen", "mce")
"""The starts of names of forms that no other machine has."""


class Kaslr(NamedTuple):
    """The ways in which a machine moves its kernel (KASLR) and tells of it.

    ``slides`` are the possible distances in bytes from the addresses in kallsyms. ``follow`` is
    True if the modules move with the kernel. ``line`` is what a panic prints. Its offset is
    ``start + slide - linked``: ``start`` is an address in kallsyms, and ``linked`` the same
    place at link time.
    """

    slides: range
    follow: bool = False
    line: str = ""
    start: int = 0
    linked: int = 0


_OFFSET = "Kernel Offset: {offset:#x} from {linked:#x}"
KASLR = {
    "x86": Kaslr(
        range(-0x19000000, 0x24000000, 1 << 21),
        line=_OFFSET + " (relocation range: 0xffffffff80000000-0xffffffffbfffffff)",
        start=0xFFFFFFFF9A000000,
        linked=0xFFFFFFFF81000000,
    ),
    "i386": Kaslr(range(1 << 21, 0x1C000000, 1 << 21)),  # it prints "disabled" all the same
    "arm64": Kaslr(
        range(-0x20000000000, 0x20000000000, 1 << 16),
        True,
        _OFFSET,
        0xFFFFD2FE80000000,
        0xFFFF800080000000,
    ),
    "arm64-4.19": Kaslr(
        range(-0x1000000000, 0x1000000000, 1 << 16),
        True,
        _OFFSET,
        0xFFFFFF932E000000,
        0xFFFFFF8008000000,
    ),
    "riscv": Kaslr(
        range(1 << 21, 0x3E000000, 1 << 21),
        True,
        _OFFSET,
        0xFFFFFFFF80000000,
        0xFFFFFFFF80000000,
    ),
    "loongarch": Kaslr(
        range(1 << 16, 1 << 28, 1 << 16),
        line="Kernel relocated by {offset:#x}\n .text @ {text:#x}\n .data @ {data:#x}\n"
        " .bss  @ {data:#x}",
        start=0x9000000000200000,
        linked=0x9000000000200000,
    ),
    "mips": Kaslr(
        range(1 << 16, 1 << 24, 1 << 16),
        line="Kernel relocated by {offset:#010x}\n .text @ {text:#010x}\n .data @ {data:#010x}",
        start=0x80100000,
        linked=0x80100000,
    ),
    "mips64": Kaslr(
        range(1 << 16, 1 << 24, 1 << 16),
        line="Kernel relocated by {offset:#018x}\n .text @ {text:#018x}\n .data @ {data:#018x}",
        start=0xFFFFFFFF80100000,
        linked=0xFFFFFFFF80100000,
    ),
    "s390": Kaslr(range(-1 << 28, 1 << 28, 1 << 20)),
    "s390-low": Kaslr(range(1 << 14, 1 << 30, 1 << 14)),
    "ppc32": Kaslr(range(1 << 14, 0xC000000, 1 << 14), False, _OFFSET, 0xC0000000, 0xC0000000),
    "ppc64": Kaslr(range(1 << 16, 1 << 30, 1 << 16), False, _OFFSET, 0xC << 60, 0xC << 60),
}
"""The machines that move their kernels. On the others the kernel is always at one place."""
MACHINES = sorted({form(name).symbols for name in names()})

Section = tuple[str | None, bool]
"""A module (None: the kernel itself), and True for its data, False for its code.

Since Linux 6.4 a module's code and its data are each moved by itself.
"""


def section(symbols: Oracle, address: int) -> Section:
    """Return the section of the symbol at ``address``."""
    place = symbols.place(address)
    assert place is not None
    return place.module, place.module is not None and address - place.offset in symbols.data


@dataclass(frozen=True)
class There:
    """A boot: the distance in bytes of each section from its address in kallsyms."""

    symbols: Oracle
    moves: dict[Section, int] = field(default_factory=dict)

    @property
    def slide(self) -> int:
        """The distance of the kernel itself."""
        return self.moves.get((None, False), 0)

    @property
    def own(self) -> bool:
        """True if nothing is moved: the boot is that of kallsyms."""
        return not any(self.moves.values())

    def move(self, address: int) -> int:
        """Return where this boot has what kallsyms has at ``address``."""
        if self.symbols.place(address) is None:
            return address + self.slide
        return address + self.moves.get(section(self.symbols, address), 0)

    def given(self) -> Boot:
        """Return the boot as a user gives it with ``--slide``."""
        return Boot(self.slide, self.own)


@cache
def sections(machine: str) -> dict[Section, list[int]]:
    """Return the addresses of the symbols in each section of a machine's kernel."""
    symbols, found = oracle(machine), dict[Section, list[int]]()
    for address in symbols.addresses:
        if symbols.place(address) is not None:
            found.setdefault(section(symbols, address), []).append(address)
    return found


def other_boot(found: Form, machine: str, random: Random) -> There:
    """Return another boot of ``machine``, for a variant of the form ``found``.

    The form has numbers that are not kernel addresses. The boot is chosen so that none of them
    becomes one.
    """
    symbols, kaslr = oracle(machine), KASLR.get(machine)
    first, last = (symbols.named[name][0] for name in ("_text", "_end"))
    plain = "".join(piece.text for piece in found.pieces if piece.kind in ("text", "~"))
    numbers = {int(word, 16) for word in HEXADECIMAL.findall(plain)}
    strange = [n for n in numbers if not first <= n <= last]

    slide = 0
    while kaslr is not None and (
        slide == 0 or any(first <= n - slide <= last for n in strange)
    ):
        slide = random.choice(kaslr.slides)

    # A form of before Linux 6.4 has "[flashq@": there a module's code and data move together.
    apart = "[flashq@" not in found.text
    along = slide if kaslr is not None and kaslr.follow else 0

    while True:
        moves: dict[Section, int] = {(None, False): slide}
        for module, data in sections(machine):
            if module is not None:
                alone = apart or not data
                pages = random.randint(1, FEW_PAGES) * PAGE
                moves[module, data] = along + pages if alone else moves[module, False]

        # All pages that the modules have there. No page may belong to two sections.
        taken = [
            (first + moves[key]) // PAGE + number
            for key, found in sections(machine).items()
            if key[0] is not None
            for first in [found[0]]
            for number in range((symbols.end(found[-1]) - 1) // PAGE - first // PAGE + 1)
        ]
        if len(taken) == len({*taken}):
            return There(symbols, moves)


class Bit(NamedTuple):
    """A part of a variant: ``text`` in the text, and ``out`` in decode's output.

    If ``may`` is True, decode may also leave the text as it is. That is right for a name in a
    module, if the text may or may not tell where the module is.
    """

    text: str
    out: str
    may: bool = False


class Said(NamedTuple):
    """The text of a variant, in parts, as somebody pasted it."""

    bits: list[Bit]

    @property
    def text(self) -> str:
        """The text for decode."""
        return "".join(bit.text for bit in self.bits)

    frames: int = 0
    """The number of addresses in the text."""

    def after(self, *lines: str) -> Said:
        """Return the text with ``lines`` before it, which decode must leave as they are."""
        return Said([*(Bit(line, line) for line in lines), *self.bits], self.frames)

    def before(self, *lines: str) -> Said:
        """Return the text with ``lines`` after it, which decode must leave as they are."""
        return Said([*self.bits, *(Bit(line, line) for line in lines)], self.frames)

    def faults(self, out: str) -> Iterator[str]:
        """Yield a description of each line that decode made wrong in its output ``out``.

        It has the kind of the fault, the line of the text, the line of the output, and the
        right one. The kinds are:

        - ``nameless``: decode left the line as it was
        - ``wrong name``: the line has a name that is neither right nor in the text
        - ``changed``: the line is wrong in any other way
        """
        if out == "".join(bit.out for bit in self.bits):
            return
        lines, got = list(_lines(self.bits)), out.splitlines(True)
        if len(lines) != len(got):
            yield f"{len(got)} lines of {len(lines)}"
        for bits, line in zip(lines, got):
            right = "".join(bit.out for bit in bits)
            if line == right or re.fullmatch("".join(map(_pattern, bits)), line):
                continue

            rest = line
            for match in INSERTED.finditer(right + "".join(bit.text for bit in bits)):
                rest = rest.replace(match[0], "", 1)

            there = "".join(bit.text for bit in bits)
            kind = "nameless" if line == there else "changed"
            if INSERTED.search(rest) and not _within(line, there):
                kind = "wrong name"
            yield f"{kind}:\n    text {there!r}\n    got  {line!r}\n    not  {right!r}"


def _within(line: str, there: str) -> bool:
    """Return True if the text ``there`` has all names that are in ``line``."""
    return all(word in there for word in INSERTED.findall(line))


def _lines(bits: list[Bit]) -> Iterator[list[Bit]]:
    """Yield the parts of each line."""
    line: list[Bit] = []
    for bit in bits:
        if bit.text != bit.out:
            line.append(bit)
            continue
        for part in bit.text.splitlines(True):
            line.append(Bit(part, part))
            if part.endswith("\n"):
                yield line
                line = []
    if line:
        yield line


def _pattern(bit: Bit) -> str:
    """Return the regular expression of all right outputs for a part."""
    if bit.text == bit.out or not bit.may:
        return re.escape(bit.out)
    return f"(?:{re.escape(bit.text)}|{re.escape(bit.out)})"


def restyle(words: str, place: Place) -> str:
    """Return the name of ``place`` in the style of ``words``, a name in a form.

    For example, ``vfs_read+18`` for ``do_exit+4``, and ``vfs_read+0x12/0x90`` for
    ``do_exit+0x4/0xa0``.
    """
    match = NAME.fullmatch(words.strip())
    assert match is not None, words
    blank = words[: len(words) - len(words.lstrip())]
    owner = f":{place.module}:" if match["owner"] and place.module else ""
    text = f"{blank}{owner}{place.name}"
    if match["offset"]:
        text += (
            f"+{place.offset:#x}" if match["offset"].startswith("0x") else f"+{place.offset}"
        )
    if match["size"]:
        text += f"/{place.size:#x}"
    if match["module"] and not place.module:
        text += " [kernel]"
    elif place.module and not match["owner"] and (match["module"] or match["size"]):
        text += f" [{place.module}]"
    return text


def frame(there: There, address: int) -> str:
    """Return a line with an address and its name, as oopses had it until Linux 4.9."""
    value = f"{there.move(address):0{there.symbols.digits}x}"
    return f" [<{value}>] {there.symbols.place(address)}\n"


def tell(machine: str, there: There, random: Random, modules: bool) -> Iterator[str]:
    """Yield lines with frames that tell the boot.

    With ``modules`` they also tell where each section of each module is.
    """
    for key, found in sections(machine).items():
        if key[0] is None or modules:
            start = random.choice(found)
            yield frame(there, random.randrange(start, there.symbols.end(start)))


def offset_line(machine: str, there: There) -> str:
    """Return the line that the machine's kernel prints about its offset when it panics."""
    kaslr, [text] = KASLR[machine], there.symbols.named["_text"]
    [data] = there.symbols.named["_sdata"]
    numbers = {
        "offset": kaslr.start + there.slide - kaslr.linked,
        "linked": kaslr.linked,
        "text": text + there.slide,
        "data": data + there.slide,
    }
    return kaslr.line.format(**numbers) + "\n"


class Variant(NamedTuple):
    """The differences of a text from its form.

    ``there`` is the boot of the text. ``strip`` is True if the names beside addresses are
    removed. ``told`` is True if lines around the form tell where each section of a module is.
    """

    there: There
    strip: bool = False
    told: bool = True


def build(found: Form, machine: str, variant: Variant, random: Random | None) -> Said:
    """Return a variant of a form; with ``random`` it has other addresses than the form."""
    bits = list(_Builder(found, machine, variant, random).bits())
    return Said(bits, sum(piece.kind == "address" for piece in found.pieces))


def looks_like(piece: Piece, symbols: Oracle) -> int | None:
    """Return the address of a symbol that the piece looks like, though it is none.

    Return None if it looks like no such address.
    """
    if piece.kind != "~" or not HEXADECIMAL.fullmatch(piece.text):
        return None
    value = int(piece.text, 16)
    return value if len(piece.text) == symbols.digits and symbols.place(value) else None


@cache
def _values(name: str) -> list[int]:
    """Return the addresses in a form, and the numbers that look like one."""
    found = form(name)
    symbols = oracle(found.symbols)
    values = {piece.value for piece in found.pieces if piece.kind == "address"}
    noise = {looks_like(piece, symbols) for piece in found.pieces}
    return sorted(values | {value for value in noise if value is not None})


@cache
def _named_alone(name: str) -> list[tuple[int, str]]:
    """Return those addresses of a form whose names it also has without them, and the names."""
    found = form(name)
    plain = "\n".join(piece.text for piece in found.pieces if piece.kind == "text")
    words = [(value, str(oracle(found.symbols).place(value))) for value in _values(name)]
    return [(value, said) for value, said in words if said in plain]


@cache
def _starts(machine: str, module: str | None) -> list[int]:
    """Return the addresses of the symbols of ``module``; of the kernel itself if it is None."""
    return [a for key, found in sections(machine).items() if key[0] == module for a in found]


class _Builder:
    """The builder of one variant; ``_old`` are the form's symbols, ``_new`` the variant's."""

    def __init__(
        self, found: Form, machine: str, variant: Variant, random: Random | None
    ) -> None:
        self._form = found
        self._there, self._strip, self._told = variant
        self._old, self._new = oracle(found.symbols), oracle(machine)
        self._machine = machine
        self._release = OLD_RELEASES.get(machine, "6.6.31")
        self._places = {
            value: self._chosen(value, random) if random else value
            for value in _values(found.name)
        }
        self._behind: dict[int, list[Piece]] = {}
        """Pieces to add after an address whose name was removed, by the index of its piece."""
        self._image = [*self._old.named["_text"], *self._old.named["_end"]]
        self._pieces = list(found.pieces)
        told = [p.of for p in found.pieces if p.kind == "=" and not self._strip]
        self._told_by_form = {self._place(of).module for of in told} | {
            module for module in ("flashq", "sensor_hub") if f"[{module}" in found.text
        }

    def _chosen(self, value: int, random: Random) -> int:
        """Return another address for ``value``, of the same module, drawn at random.

        If the form has no name for ``value``, the symbol stays the same: decode can have a
        reason to leave it without a name.
        """
        pieces = self._form.pieces
        old = self._old.place(value)
        assert old is not None
        owned = [p for p in pieces if p.kind in "+=" and pieces[p.of].value == value]
        noise = all(p.value != value for p in pieces if p.kind == "address")
        bare = any(p.kind == "address" and p.value == value for p in pieces) and not owned
        if bare and not noise:
            return self._same(old)
        starts = _starts(self._machine, old.module)
        at_start = old.offset == 0 and any("+" not in p.text for p in owned)
        wrong = "".join(p.text for p in pieces if p.kind == "-")
        while True:
            start = random.choice(starts)
            if self._new.at[start][0] not in wrong:
                break
        return start if at_start else random.randrange(start, self._new.end(start))

    def _same(self, old: Place) -> int:
        """Return the same place in the variant's kernel, or any other in the same module."""
        found = self._new.named.get(old.name) or _starts(self._machine, old.module)
        return min(found[0] + old.offset, self._new.end(found[0]) - 1)

    def bits(self) -> Iterator[Bit]:
        """Yield the parts of the variant.

        A piece of the kind ``?`` is a name that decode may add or not; see :meth:`_stripped`.
        """
        pieces = self._with_added() if self._strip else self._pieces
        for number, piece in enumerate(pieces):
            if piece.kind == "text":
                text = self._plain(piece.text)
                yield Bit(text, text)
            elif piece.kind == "address":
                text = self._address(piece.value)
                yield Bit(text, text)
            elif piece.kind == "~":
                value = looks_like(piece, self._old)
                text = piece.text if value is None else self._address(value)
                yield Bit(text, text)
            elif piece.kind == "=":
                text = restyle(piece.text, self._place(piece.of))
                yield Bit(text, text)
            elif piece.kind == "?":
                yield self._added("", piece)._replace(may=True)
            elif piece.kind == "+":
                before = next(p for p in pieces[number - 1 :: -1] if p.text)
                yield self._added(before.text if before.kind == "-" else "", piece)

    def _with_added(self) -> list[Piece]:
        """Return the pieces without the names beside addresses, and with those to be added."""
        found: list[Piece] = []
        for number, piece in enumerate(self._stripped()):
            found += [piece, *self._behind.get(number, ())]
        return found

    def _added(self, text: str, piece: Piece) -> Bit:
        """Return the part for a name that decode adds, or puts in place of ``text``.

        If the text does not tell where the module is, decode cannot know the name.
        """
        place = self._place(piece.of)
        named = restyle(piece.text, place)
        if place.module is None or self._there.own or self._told:
            return Bit(text, named)
        if "boot" not in self._form.says and place.module in self._told_by_form:
            return Bit(text, named, may=True)
        return Bit(text, text)

    def _place(self, of: int) -> Place:
        """Return the symbol that the variant has at the address with the index ``of``."""
        place = self._new.place(self._places[self._form.pieces[of].value])
        assert place is not None
        return place

    def _address(self, value: int) -> str:
        """Return the digits that the variant has in place of the address ``value``."""
        return f"{self._there.move(self._places[value]):0{self._new.digits}x}"

    def _plain(self, text: str) -> str:
        """Return ``text``, words between addresses, as the variant has them.

        Names without an address, the kernel's release, and numbers in its image change.
        """
        for old, words in _named_alone(self._form.name):
            if words in text:
                text = text.replace(words, str(self._new.place(self._places[old])))
        if self._old is not self._new:
            text = RELEASE.sub(self._release, text)
        return HEXADECIMAL.sub(self._moved, text)

    def _moved(self, match: re.Match[str]) -> str:
        """Return a number between addresses; moved, if it lies in the kernel's image."""
        if len(match[0]) != self._old.digits:
            return match[0]
        value = int(match[0], 16)
        inside = self._image[0] <= value <= self._image[-1]
        return f"{value + self._there.slide:0{self._new.digits}x}" if inside else match[0]

    def _stripped(self) -> list[Piece]:
        """Return the pieces without the names beside addresses, and fill ``_behind``.

        If an address is there twice and its name came after the second one, decode can also
        add the name to the first one.
        """
        pieces = list(self._pieces)
        for number, piece in enumerate(self._pieces):
            if piece.kind == "=":
                strip = self._strip_behind if piece.of < number else self._strip_before
                strip(pieces, number, piece.of)
        for number, of in self._twice():
            close = CLOSES.match(pieces[number + 1].text)
            assert close is not None
            pieces[number + 1] = Piece("text", pieces[number + 1].text[close.end() :])
            name = f" {self._old.place(pieces[of].value)}"
            self._behind[number] = [Piece("text", close[0]), Piece("?", name, of=of)]
        return pieces

    def _twice(self) -> Iterator[tuple[int, int]]:
        """Yield the indices of two copies of an address, of which the second has the name."""
        owned = {piece.of for piece in self._pieces if piece.kind == "="}
        at = [n for n, piece in enumerate(self._pieces) if piece.kind == "address"]
        for first, second in pairwise(at):
            same = self._pieces[first].value == self._pieces[second].value
            between = "".join(piece.text for piece in self._pieces[first + 1 : second])
            if same and first not in owned and second in owned and len(between) <= TOGETHER:
                yield first, second

    def _strip_behind(self, pieces: list[Piece], number: int, of: int) -> None:
        """Remove a name after its address, and the words or brackets around the name."""
        between = "".join(p.text for p in pieces[of + 1 : number])
        clothes = CLOTHES.search(between)
        assert clothes is not None
        rest = between[: clothes.start()]
        if clothes["open"]:
            inside, found, text = pieces[number + 1].text.partition(CLOSED_BY[clothes["open"]])
            assert found
            assert not inside.startswith(" ")
            pieces[number + 1] = Piece("text", text)
        pieces[of + 1 : number + 1] = [Piece("", "")] * (number - of)
        if rest.endswith("[k]"):  # perf prints the address again if it has no name
            value = self._form.pieces[of].value
            [_, name, _] = self._put(pieces, of, "", number)
            again = [Piece("text", f"{rest} 0x"), Piece("address", "", value), name]
            self._behind[of] = [Piece("?", name.text, of=of), *again]
            return
        self._put(pieces, of, rest, number)

    def _strip_before(self, pieces: list[Piece], number: int, of: int) -> None:
        """Remove a name before its address, and the words between them."""
        pieces[number] = Piece("", "")
        pieces[number + 1] = Piece("text", LINKS.sub("", pieces[number + 1].text))
        self._put(pieces, of, "", of)

    def _put(self, pieces: list[Piece], of: int, rest: str, last: int) -> list[Piece]:
        """Add what decode adds after the address ``of``, and return these pieces.

        ``rest`` is what was kept of the text between the address and the name. ``last`` is the
        index of the last removed piece. A bracket that closes the address stays before the
        name.
        """
        behind = rest if rest else pieces[last + 1].text
        close = CLOSES.match(behind)
        assert close is not None
        if rest:
            rest = rest[close.end() :]
        else:
            pieces[last + 1] = Piece("text", behind[close.end() :])
        self._behind[of] = [
            Piece("text", close[0]),
            Piece("+", f" {self._old.place(self._form.pieces[of].value)}", of=of),
            Piece("text", rest),
        ]
        return self._behind[of]


def says_where(found: Form) -> bool:
    """Return True if a form has a line that tells where the kernel of its boot lies."""
    return any(words in found.text for words in SAYS_WHERE)


def portable(found: Form) -> bool:
    """Return True if other machines have the form too: nothing in it is only x86's."""
    if found.symbols != "x86" or says_where(found) or found.name.startswith(X86_ONLY):
        return False
    first, last = (found_at[0] for found_at in (_image("_text"), _image("_end")))
    plain = "".join(piece.text for piece in found.pieces if piece.kind == "text")
    return not any(first <= int(digits, 16) <= last for digits in HEXADECIMAL.findall(plain))


def _image(name: str) -> list[int]:
    """Return the addresses of a symbol in the kallsyms of x86."""
    return oracle("x86").named[name]
