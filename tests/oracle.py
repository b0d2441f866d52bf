"""Find the names that an address of a boot may have, without any code of ksyms.

The names are found by a dictionary and a bisection over the boot's own symbols, as
/proc/kallsyms, /proc/modules and /sys/module have them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from frames import NEGATIVE

PAGE = 4096
FURTHEST = 1 << 20
"""Bytes that a module has after its last symbol at most, if its size is unknown."""
APART = 64 * PAGE
"""Bytes between two parts of a module from which on each of them is moved by itself."""
LABEL = re.compile(r"\.L|L0|\$")
"""The starts of names that the kernel skips in modules (is_mapping_symbol)."""
PSEUDO = re.compile(r"bpf$|__builtin__")
"""Names in brackets that are not modules."""
FRAME = re.compile(
    r"(?<![\w.$])(?P<name>[A-Za-z_.$][\w.$@]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
    r"(?: \[(?P<module>[\w-]+)(?: [0-9a-f]{8,40})?\])?"
)


@dataclass(frozen=True)
class Said:
    """A name in a text, with its offset, size and module.

    ``size`` is None if the kernel printed a negative number.
    """

    name: str
    offset: int
    size: int | None
    module: str | None

    @classmethod
    def of(cls, match: re.Match[str]) -> Said:
        """Return the name that FRAME has matched."""
        size = int(match["size"], 16)
        return cls(
            match["name"],
            int(match["offset"], 16),
            None if size >= NEGATIVE else size,
            match["module"],
        )


@dataclass(frozen=True)
class Answer:
    """The names that an address may have.

    ``names`` has for each name the offset, the size (None if it is unknown) and the module.
    ``must`` is True if the kernel certainly prints a name for the address.
    """

    names: Mapping[str, tuple[int, int | None, str | None]]
    must: bool

    @property
    def kind(self) -> str:
        """The owner of the address: "module" or "kernel"."""
        return "module" if any(told[2] for told in self.names.values()) else "kernel"

    def fits(self, said: Said) -> bool:
        """Return True if ``said`` is one of the names, with the right offset, size, module."""
        told = self.names.get(said.name)
        if told is None or told[0] != said.offset:
            return False
        if said.size is not None and told[1] not in (None, said.size):
            return False
        owner = said.module if said.module and not PSEUDO.match(said.module) else None
        return owner == told[2]


NOBODY = Answer({}, False)


class Oracle:
    """The symbols of a boot.

    Args:
        kallsyms: the text of /proc/kallsyms.
        sizes: the size of each module in bytes, from /proc/modules.
        sections: the address of each section of each module, from /sys/module.
    """

    def __init__(
        self,
        kallsyms: str,
        sizes: Mapping[str, int],
        sections: Mapping[str, Mapping[str, int]],
    ) -> None:
        self.sizes = dict(sizes)
        self.kernel: dict[int, list[str]] = defaultdict(list)
        """The names of the kernel's own symbols, by address."""
        self.module: dict[int, list[tuple[str, str]]] = defaultdict(list)
        """The names of the modules' symbols, each with its module, by address."""
        self.pseudo: dict[int, list[str]] = defaultdict(list)
        """The names of BPF programs, trampolines and the like, by address."""
        self.called: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        """The addresses that have a name, each with its module."""
        self.marks: dict[str, int] = {}
        """The first address of each of the kernel's own names."""

        for line in kallsyms.splitlines():
            hexadecimal, letter, rest = line.split(" ", 2)
            name, tab, bracket = rest.partition("\t")
            self._add(int(hexadecimal, 16), letter, name, bracket[1:-1] if tab else None)

        self.digits = len(hexadecimal)
        marks = self.marks
        self.base = min(marks.get(n, marks["_stext"]) for n in ("_stext", "_text", "_start"))
        for address in [a for a in self.kernel if a < self.base]:
            del self.kernel[address]
        self.all = "_end" in marks
        """True if kallsyms lists data too (CONFIG_KALLSYMS_ALL)."""
        self.stop = marks["_end"] if self.all else max(self.kernel)

        self._kernel = sorted(self.kernel)
        self._module = sorted(self.module)
        self._pseudo = sorted(self.pseudo)
        self._starts = sorted(
            (address, module, section)
            for module, found in sections.items()
            for section, address in found.items()
            if address and not _gone(section)
        )
        """Address, module and name of each section of a module that is still in memory."""
        self._start_places = [address for address, _, _ in self._starts]

    def _add(self, address: int, letter: str, name: str, owner: str | None) -> None:
        if owner is None:
            self.kernel[address].append(name)
            self.marks.setdefault(name, address)
        elif PSEUDO.match(owner):
            self.pseudo[address].append(name)
            owner = None
        elif LABEL.match(name) or letter in "aA" or not address:
            return
        else:
            self.module[address].append((name, owner))
        self.called[name].append((address, owner))

    @classmethod
    def of(cls, root: Path) -> Oracle:
        """Return the symbols of the saved root ``root``, with its proc and sys."""
        text = (root / "proc/kallsyms").read_text("utf-8", "surrogateescape")
        rows = [line.split() for line in (root / "proc/modules").read_text().splitlines()]
        sections: dict[str, dict[str, int]] = {}
        for path in sorted((root / "sys/module").glob("*/sections/*")):
            word = path.read_text().strip()
            sections.setdefault(path.parts[-3], {})[path.name] = int(word or "0", 16)
        return cls(text, {name: int(size) for name, size, *_ in rows}, sections)

    def at(self, address: int) -> Answer:
        """Return the names that ``address`` may have."""
        if self.base <= address < self.stop:
            return self._of_kernel(address)
        return self._of_module(address) or self._of_pseudo(address)

    def _of_kernel(self, address: int) -> Answer:
        place = bisect_right(self._kernel, address)
        if not place:
            return NOBODY
        start = self._kernel[place - 1]
        end = self._kernel[place] if place < len(self._kernel) else self.stop
        names = dict.fromkeys(self.kernel[start], (address - start, end - start, None))
        marks = self.marks
        if self.all:
            return Answer(names, address >= marks["_stext"])
        # This kallsyms has no data, so only addresses in text certainly have a name.
        text = marks["_stext"] <= address < marks["_etext"]
        must = text or marks["_sinittext"] <= address < marks["_einittext"]
        return NOBODY if not must and "_etext" in names else Answer(names, must)

    def _of_module(self, address: int) -> Answer | None:
        """Return the names that ``address`` may have in a module; None if it is in none."""
        place = bisect_right(self._module, address)
        if not place:
            return None
        start = self._module[place - 1]
        owner = self.module[start][0][1]

        at = bisect_right(self._start_places, address) - 1
        if at >= 0 and self._starts[at][0] > start and self._starts[at][1] != owner:
            return NOBODY
        if address - start >= self.sizes.get(owner, FURTHEST):
            return None

        following = self._module[place] if place < len(self._module) else 0
        section = self.section(start)
        same = following and section is not None and section == self.section(following)
        must = bool(same) or address // PAGE == start // PAGE
        size = following - start if same and self.module[following][0][1] == owner else None
        names = {n: (address - start, size, m) for n, m in self.module[start] if m == owner}
        return Answer(names, must)

    def section(self, address: int) -> tuple[int, str, str] | None:
        """Return the section of a module that ``address`` lies in or after.

        That is its start, its module and its name; None for an address of the kernel itself,
        or one before all sections.
        """
        if self.base <= address < self.stop:
            return None
        at = bisect_right(self._start_places, address) - 1
        return self._starts[at] if at >= 0 else None

    def _of_pseudo(self, address: int) -> Answer:
        place = bisect_right(self._pseudo, address)
        if not place or address - self._pseudo[place - 1] >= FURTHEST:
            return NOBODY
        start = self._pseudo[place - 1]
        return Answer(dict.fromkeys(self.pseudo[start], (address - start, None, None)), False)

    def meant(self, said: Said) -> list[int]:
        """Return every address that a name in a text can mean, if no address is beside it."""
        found = set()
        for start, owner in self.called.get(said.name, ()):
            told = self.at(start).names.get(said.name)
            if owner == said.module and told and (told[1] is None or told[1] == said.size):
                found.add(start + said.offset)
        return sorted(found)

    def pieces(self) -> list[tuple[int, int]]:
        """Return the parts of the modules that are each moved by itself.

        A part is a run of pages, from the first address to before the second. A module's code
        and its data are different parts.
        """
        anchors = {(a, rows[0][1]) for a, rows in self.module.items()}
        anchors |= {(a, m) for a, m, _ in self._starts}
        found: list[tuple[int, int, str]] = []
        for address, owner in sorted(anchors):
            page = address // PAGE * PAGE
            if found and found[-1][2] == owner and page - found[-1][1] < APART:
                found[-1] = found[-1][0], page + PAGE, owner
            elif not found or page >= found[-1][1]:
                found.append((page, page + PAGE, owner))
        return [(a, b) for a, b, _ in found if not self.base <= a < self.stop]


def _gone(section: str) -> bool:
    """Return True if a section that sysfs lists is no longer in memory."""
    return section.startswith((".init", ".symtab", ".strtab")) or section.endswith(".init.text")
