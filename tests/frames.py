"""Find the right names of the frames in a text, without any code of ksyms.

A frame is a kernel address in a text, or a ``symbol+0x12`` with any of ``/0x34``,
``[module]`` and perf's ``([module])`` after it. The right names are found by a dictionary and a
bisection over the /proc/kallsyms that was saved with the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
NOT_MODULES = ("bpf", "__builtin__ftrace", "__builtin__kprobes")
"""Names in brackets in kallsyms that are not modules.

Their code does not fill pages of its own, and a frame has the symbol's name alone.
"""

PERFS = ("kernel.kallsyms", "kernel.vmlinux")
"""perf's names for the kernel, and sometimes for a module."""

NAMED = re.compile(
    r"(?<![\w.$])(?P<name>[A-Za-z_][\w.$]*)\+0x(?P<offset>[0-9a-f]+)"
    r"(?:/0x(?P<size>[0-9a-f]+))?(?: \(?\[(?P<module>[\w.-]+)[^\]]*\]\)?)?"
)
ADDRESS = re.compile(r"(?<![0-9a-zA-Z])(?:0x)?(?P<address>ffff[0-9a-f]{12})(?![0-9a-zA-Z])")
FRAME = re.compile(f"{NAMED.pattern}|{ADDRESS.pattern}")
USERS = re.compile(r"\s*0?[0-7]?[0-9a-f]{1,12} \S+ \(")
"""A line of perf with an address of a process: its names are not the kernel's."""

HIGH = 2**63
"""The start of the kernel's half of the addresses on 64-bit machines, but not on s390."""

NEGATIVE = 2**63
"""A printed size from here on is a negative number.

For a module's last symbol the kernel takes the end of the module's code as its end, even if
that comes before the symbol (kernel/module/kallsyms.c, find_kallsyms_symbol, of 6.1).
"""


@dataclass(frozen=True)
class Frame:
    """A frame of a text.

    ``line`` is its line, counted from 1. ``addresses`` has the addresses that it may mean, and
    ``names`` each ``name+0xoffset [module]`` by kallsyms for one of them. ``names`` is None if
    kallsyms does not tell whether a symbol extends to the address.
    """

    line: int
    text: str
    addresses: frozenset[int]
    names: frozenset[str] | None


def frames(text: str, symbols: Symbols) -> Iterator[Frame]:
    """Yield the frames of a text in order."""
    for number, line in enumerate(text.splitlines(), 1):
        if USERS.match(line):
            continue
        for match in FRAME.finditer(line):
            addresses = frozenset(meant(match, symbols))
            known = [symbols.names(address) for address in addresses]
            names = None if None in known else frozenset().union(*filter(None, known))
            yield Frame(number, match[0], addresses, names)


def meant(match: re.Match[str], symbols: Symbols) -> list[int]:
    """Return the addresses that a frame may mean: several if several symbols have its name."""
    if match["address"]:
        return [int(match["address"], 16)]
    offset, size = int(match["offset"], 16), int(match["size"] or "0", 16)
    if size >= NEGATIVE:
        size = 0
    return [
        address + offset
        for address, owner in symbols.named[match["name"]]
        if match["module"] in (owner, *PERFS) or (not match["module"] and owner in NOT_MODULES)
        if not size or symbols.end(address) in (None, address + size)
    ]


class Symbols:
    """The symbols of a boot, from the text of its kallsyms and its /proc/modules."""

    def __init__(self, kallsyms: str, modules: str = "") -> None:
        self.at: dict[int, list[tuple[str, str | None]]] = defaultdict(list)
        self.named: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        for line in kallsyms.splitlines():
            hexadecimal, _, rest = line.split(" ", 2)
            name, _, bracket = rest.partition("\t")
            # Labels of the compiler, which the kernel skips (is_mapping_symbol).
            if name.startswith((".L", "$")):
                continue
            address, owner = int(hexadecimal, 16), bracket[1:-1] or None
            self.at[address].append((name, owner))
            self.named[name].append((address, owner))
        self.addresses = sorted(self.at)
        [(text, _)] = self.named["_stext"]
        self.low = HIGH if text >= HIGH else self.addresses[0]
        [(self.last, _)] = self.named["_end"]
        rows = [line.split() for line in modules.splitlines()]
        self.sizes = {name: int(size) for name, size, *_ in rows}

    @classmethod
    def of(cls, directory: Path) -> Symbols:
        """Return the symbols of the files ``kallsyms`` and ``modules`` in ``directory``."""
        return cls((directory / "kallsyms").read_text(), (directory / "modules").read_text())

    def end(self, address: int) -> int | None:
        """Return the end of the symbol that begins at ``address``, as the kernel finds it.

        That is the start of the next symbol (kernel/kallsyms.c, get_symbol_pos). Return None if
        kallsyms does not tell the end: for the last symbol in a part of a module's memory, and
        for code that is no module's.
        """
        owner = self.at[address][0][1]
        place = bisect_right(self.addresses, address)
        if place == len(self.addresses) or owner in NOT_MODULES:
            return None
        following = self.addresses[place]
        if owner and (self.at[following][0][1] != owner or following // PAGE > address // PAGE):
            return None  # its memory may end between the two
        return following

    def names(self, address: int) -> frozenset[str] | None:
        """Return every right ``name+0xoffset [module]`` of an address.

        They are none if no symbol has the address. Return None if kallsyms does not tell.
        """
        place = bisect_right(self.addresses, address)
        begin = self.addresses[place - 1] if place else 0
        if begin < self.low:  # per-CPU offsets, and addresses of processes
            return frozenset()
        offset = address - begin
        owner = self.at[begin][0][1]
        if owner is None and address >= self.last:
            return frozenset()
        if owner in self.sizes and offset >= self.sizes[owner]:
            return frozenset()
        # The memory of a module is whole pages.
        other_page = owner in NOT_MODULES or address // PAGE != begin // PAGE
        if owner and offset and other_page and self.end(begin) is None:
            return None
        return frozenset(
            f"{name}+{offset:#x}{bracket}"
            for name, module in self.at[begin]
            for bracket in ([f" [{module}]"] if module else [])
            + [""] * (module not in self.sizes)
        )
