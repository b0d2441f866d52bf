"""Change a text into what another boot of its kernel would have printed."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from dataclasses import dataclass

from oracle import FRAME, PAGE, Oracle, Said


@dataclass(frozen=True)
class Machine:
    """The addresses at which a machine's kernel and its modules may lie.

    The kernel lies within ``kernels``, at a multiple of ``step`` bytes from where it was saved;
    ``kernels`` is None if it never moves. The modules lie within ``modules``, at multiples of
    ``page`` bytes. If ``modules`` begins at 0 or less, it is a distance from the kernel.
    """

    step: int
    kernels: tuple[int, int] | None
    modules: tuple[int, int]
    page: int = PAGE
    random: bool = False
    """True if the saved kernels had KASLR."""


BRANCH = (-(2 << 30), 0)
"""The distances from the kernel at which its modules can lie: a branch must reach it."""


MACHINES = {
    "amd64": Machine(
        1 << 21,
        (0xFFFFFFFF81000000, 0xFFFFFFFFC0000000),
        (0xFFFFFFFFC0000000, 0xFFFFFFFFFE000000),
        random=True,
    ),
    "i386": Machine(1 << 24, (0xC1000000, 0xE0000000), (0xF7800000, 0xFF400000)),
    "arm64-4.19": Machine(1 << 16, (0xFFFFFF8008080000, 0xFFFFFFBF00000000), BRANCH),
    "arm64": Machine(1 << 16, (0xFFFF800080000000, 0xFFFFDF0000000000), BRANCH, random=True),
    "riscv64": Machine(1 << 21, (0xFFFFFFFF80000000, 0xFFFFFFFFC0000000), BRANCH),
    "loongarch": Machine(
        1 << 16,
        (0x9000000000200000, 0x9000000010000000),
        (0xFFFF800002000000, 0xFFFF800012000000),
    ),
    "s390x": Machine(1 << 14, (0x3FF80000000, 0x40000000000), BRANCH),
    "s390x, low": Machine(1 << 14, (0x100000, 0x30000000), (0x3FF60000000, 0x3FF9F000000)),
    "ppc64el": Machine(1, None, (0xC008000000000000, 0xC008000040000000), 1 << 16),
    "armhf": Machine(1, None, (0xBF000000, 0xBFE00000)),
}
"""The machines by name; :func:`machine` finds that of a saved boot."""
LINKED = {
    "amd64": 0xFFFFFFFF81000000,
    "arm64": 0xFFFF800080000000,
    "i386": 0xC1000000,
    "riscv64": 0xFFFFFFFF80002000,
    "s390x": 0x100000,
}
"""The addresses at which kernels that move are linked, by the start of the machine's name."""


def machine(name: str, base: int) -> Machine:
    """Return the machine of the saved boot ``name``, whose kernel begins at ``base``.

    The sources below arch/ are x86/boot/compressed/kaslr.c, arm64/kernel/head.S (which keeps
    the image's offset within 2 MiB), riscv/mm/init.c and s390/boot/startup.c (THREAD_SIZE).
    """
    kind = name.split("-", maxsplit=1)[0]
    return MACHINES["s390x, low" if kind == "s390x" and base < 1 << 32 else kind]


def linked_at(name: str) -> int | None:
    """Return the address at which the kernel of ``name`` was linked; None if it never moves."""
    return LINKED.get(name.split("-", maxsplit=1)[0])


class Moves:
    """The moves of another boot: where it has what the oracle's boot has.

    Args:
        oracle: the symbols of the own boot.
        where: the addresses at which the machine can have its kernel and modules.
        seed: chooses the other boot.
        slide: bytes from the own kernel to the other boot's; None to choose it at random.
        packed: True if the modules follow each other without gaps, in another order, from the
            address at which the own boot's modules begin.
    """

    def __init__(
        self,
        oracle: Oracle,
        where: Machine,
        seed: int,
        slide: int | None = None,
        packed: bool = False,
    ) -> None:
        # Choose where the kernel is.
        chance = random.Random(seed)
        size = oracle.stop - oracle.base
        self.slide = slide or 0
        if where.kernels and slide is None:
            low, high = where.kernels
            first = -((oracle.base - low) // where.step)
            last = (high - size - (1 << 20) - oracle.base) // where.step
            while not self.slide:
                self.slide = chance.randint(first, last) * where.step

        rows = [(oracle.base, oracle.stop + PAGE, self.slide)]
        # Find where modules can be.
        low, high = where.modules
        if low <= 0:
            low, high = (oracle.base + self.slide + x for x in (low, high))

        # With "packed", the first one is where the own boot's first one is.
        pieces = oracle.pieces()
        if packed:
            low = min(begin for begin, _ in pieces) + (
                self.slide if where.modules[0] <= 0 else 0
            )
        chance.shuffle(pieces)

        # Put the pieces one after the other, with gaps of random length between them.
        free = (high - low - sum(b - a + 2 * where.page for a, b in pieces)) // where.page
        gap = 0 if packed else max(free // (len(pieces) + 1), 0)
        at = -(-low // where.page) * where.page
        for a, b in pieces:
            at += chance.randint(0, gap) * where.page
            new = at + (a - at) % PAGE
            rows.append((a, b, new - a))
            at = -(-(new + b - a) // where.page) * where.page + where.page

        assert at <= high, "the modules do not fit"
        self.rows = sorted(rows)
        """Start and end of each moved piece of the own boot, and the bytes that it is moved."""
        self.back_rows = sorted((a + d, b + d, -d) for a, b, d in rows)

    def there(self, address: int) -> int | None:
        """Return where the other boot has what the own boot has at ``address``, or None."""
        return _look(self.rows, address)

    def here(self, address: int) -> int | None:
        """Return where the own boot has what the other boot has at ``address``, or None."""
        return _look(self.back_rows, address)

    def piece(self, address: int) -> int | None:
        """Return the number of the piece that has an address of the other boot, or None."""
        at = bisect_right(self.back_rows, (address, 1 << 65, 0)) - 1
        if at >= 0 and address < self.back_rows[at][1]:
            return at
        return None


def _look(rows: list[tuple[int, int, int]], address: int) -> int | None:
    """Return ``address`` moved by the row that it lies in; None if it lies in none."""
    at = bisect_right(rows, (address, 1 << 65, 0)) - 1
    if at >= 0 and rows[at][0] <= address < rows[at][1]:
        return address + rows[at][2]
    return None


def tokens(digits: int) -> re.Pattern[str]:
    """Return the pattern of words that can be an address of so many digits."""
    return re.compile(rf"(?<![\w./])(?:0[xX])?([0-9a-fA-F]{{{digits}}})(?!\w)")


BESIDE = re.compile(
    r"(?:(?P<beside>[0-9a-f]{8,16})(?P<shut>>?\]?) (?:is )?\(?)?"
    + FRAME.pattern
    + r"(?:\)|(?P<opened> <(?:0x)?[0-9a-f]{8,16}>))?"
)
"""A name with its offset, and the address before or after it if it has one."""
OFFSET = re.compile(
    r"(?<=Kernel Offset: 0x)([0-9a-f]+)(?= from)|(?<=relocated by 0x)([0-9a-f]+)"
)


def moved(oracle: Oracle, moves: Moves, text: str, strip: int = 0) -> str:
    """Return the text as the other boot would have printed it.

    If ``strip`` is not 0, every ``strip``-th frame has only its address, and no name.
    """
    pattern = tokens(oracle.digits)
    lines = []
    count = 0
    for line in text.split("\n"):
        if "KASLR disabled" in line and moves.slide:
            continue
        if OFFSET.search(line):
            lines.append(OFFSET.sub(lambda m: f"{int(m[0], 16) + moves.slide:x}", line))
            continue

        new, at = [], 0
        for match in BESIDE.finditer(line) if strip else ():
            count += 1
            bare = _bare(oracle, match, line[: match.start()])
            if count % strip == 0 and bare:
                new += [line[at : match.start()], bare]
                at = match.end()
        new.append(line[at:])
        lines.append(pattern.sub(lambda match: _other(moves, match), "".join(new)))
    return "\n".join(lines)


def _other(moves: Moves, match: re.Match[str]) -> str:
    """Return the address of the other boot in place of one of the own boot."""
    there = moves.there(int(match[1], 16))
    if there is None:
        return match[0]
    return match[0][: -len(match[1])] + f"{there:0{len(match[1])}x}"


def _bare(oracle: Oracle, match: re.Match[str], before: str) -> str:
    """Return the address of a frame without its name; "" if the address is unknown."""
    if match["beside"]:
        return f"{match['beside']}{match['shut']}"
    if match["opened"]:
        return match["opened"]
    places = oracle.meant(Said.of(match))
    if len(places) != 1 or before.endswith("from "):
        return ""
    return f"0x{places[0]:0{oracle.digits}x}"
