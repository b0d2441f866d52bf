"""Synthetic kernels: root directories with any number of symbols.

The text is like that of an x86-64 kernel since Linux 6.4:

    0000000000000000 A ...                       the per-CPU symbols
    ffffffff81000000 t _stext                    the kernel's own symbols, sorted by address,
    ffffffff81000000 t __pfx_acpi_add_...        with a __pfx_ symbol before each function
    ffffffffc0aa0000 t drm_put_... [drm_0199]    the modules, the newest one first

A module's symbols are in the order of its own symbol table, and so not sorted. Its text, data
and rodata are separate allocations. ``/proc/modules`` and sysfs agree with the text. The same
number of symbols always gives the same files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = 4096
CORE: Final = 0xFFFFFFFF81000000
MODULES: Final = 0xFFFFFFFFC0000000
MODULE_SHARE: Final = 0.3
PERCPU_SHARE: Final = 0.002
SEED: Final = 2009

_SYSTEMS: Final = ("acpi", "blk", "btrfs", "cgroup", "drm", "ext4", "mm", "pci", "sched", "tcp")
_VERBS: Final = ("add", "alloc", "clear", "find", "free", "get", "init", "put", "read", "write")
_NOUNS: Final = (
    "cache",
    "dev",
    "entry",
    "inode",
    "list",
    "map",
    "queue",
    "state",
    "work",
    "zone",
)


class _Part(NamedTuple):
    """A part of the kernel's own symbols.

    ``share`` is the fraction of the symbols that are in it, ``letters`` their letters,
    ``bounds`` the symbols at its start and end, and ``step`` the mean bytes of a symbol.
    """

    share: float
    letters: str
    bounds: tuple[str, str]
    step: int


_CORE_PARTS: Final = (
    _Part(0.80, "tT", ("_stext", "_etext"), 192),
    _Part(0.08, "rR", ("__start_rodata", "__end_rodata"), 64),
    _Part(0.07, "dD", ("_sdata", "_edata"), 64),
    _Part(0.03, "t", ("_sinittext", "_einittext"), 128),
    _Part(0.02, "bB", ("__bss_start", "__bss_stop"), 64),
)
# The allocations of a module by address. For each: the share of the module's symbols, their
# letters, and the sections that sysfs lists in it.
_MODULE_PARTS: Final = (
    (0.70, "tttttT", (".text", ".exit.text")),
    (0.14, "dD", (".data", ".gnu.linkonce.this_module", "__bug_table", "__jump_table")),
    (0.04, "b", (".bss",)),
    (0.12, "r", (".rodata", ".rodata.str1.8", ".orc_unwind", "__ksymtab", "__mcount_loc")),
)
_STALE_SECTIONS: Final = (".init.text", ".init.data", ".symtab", ".strtab")
"""Sections that sysfs still lists, although their memory was freed."""


def module_count(symbols: int) -> int:
    """Return the number of modules of a kernel: one for each 5,000 symbols, at most 1,000."""
    return max(1, min(1000, symbols // 5000))


def write_root(root: Path, symbols: int) -> None:
    """Write the files of a kernel with exactly ``symbols`` symbols under ``root``."""
    rng = random.Random(SEED)
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/version").write_text("Linux version 6.12.0-synthetic\n")
    (root / "proc/sys/kernel/arch").write_text("x86_64\n")
    count = module_count(symbols)
    in_modules = int(symbols * MODULE_SHARE)
    sizes = [in_modules // count + (n < in_modules % count) for n in range(count)]
    modules = list(_modules(rng, root, sizes))
    with open(root / "proc/kallsyms", "w") as text:
        text.writelines(_core(rng, symbols - in_modules))
        for _, lines in reversed(modules):
            text.writelines(lines)
    (root / "proc/modules").write_text("".join(row for row, _ in reversed(modules)))


def _line(address: int, letter: str, name: str, bracket: str = "") -> str:
    return f"{address:016x} {letter} {name}{bracket}\n"


def _name(rng: random.Random, number: int) -> str:
    words = (rng.choice(_SYSTEMS), rng.choice(_VERBS), *rng.choices(_NOUNS, k=2))
    return f"{'_'.join(words)}_{number:x}"


def _core(rng: random.Random, count: int) -> Iterator[str]:
    """Yield ``count`` lines of kallsyms with the per-CPU and the kernel's own symbols."""
    percpu = int(count * PERCPU_SHARE)
    for number in range(percpu):
        yield _line(number * 32, "A", _name(rng, number))
    count -= percpu + 2 * len(_CORE_PARTS)
    shares = [int(count * part.share) for part in _CORE_PARTS]
    shares[0] += count - sum(shares)
    at = CORE
    for part, share in zip(_CORE_PARTS, shares):
        yield _line(at, part.letters[0], part.bounds[0])
        symbols = _functions if part.letters.startswith("t") else _objects
        for step, letter, name in symbols(rng, part, share):
            yield _line(at, letter, name)
            at += step
        yield _line(at, part.letters[-1], part.bounds[1])
        at = (at // PAGE + 1) * PAGE


def _functions(rng: random.Random, part: _Part, count: int) -> Iterator[tuple[int, str, str]]:
    """Yield for each symbol the bytes to the next one, its letter and its name.

    A function's padding (``__pfx_``) comes before the function.
    """
    for number in range(-(-count // 2)):
        name = _name(rng, number)
        if number * 2 + 1 < count:
            yield 16, "t", f"__pfx_{name}"
        yield rng.randrange(48, 2 * part.step, 16), rng.choice(part.letters), name


def _objects(rng: random.Random, part: _Part, count: int) -> Iterator[tuple[int, str, str]]:
    """Yield the same for symbols that are not functions."""
    for number in range(count):
        yield rng.randrange(8, 2 * part.step, 8), rng.choice(part.letters), _name(rng, number)


def _modules(
    rng: random.Random, root: Path, sizes: list[int]
) -> Iterator[tuple[str, list[str]]]:
    """Yield each module's line of /proc/modules and its lines of kallsyms, oldest first."""
    at = MODULES
    for number, size in enumerate(sizes):
        name = f"{rng.choice(_SYSTEMS)}_{number:04d}"
        sections = root / "sys/module" / name / "sections"
        sections.mkdir(parents=True)
        lines, start = [], at
        shares = [int(size * share) for share, _, _ in _MODULE_PARTS]
        shares[0] += size - sum(shares)
        for (_, letters, names), share in zip(_MODULE_PARTS, shares):
            first, step = at, 96 if letters.startswith("t") else 32
            for index in range(share):
                symbol = _name(rng, number << 16 | index)
                lines.append(_line(at, rng.choice(letters), symbol, f"\t[{name}]"))
                at += rng.randrange(16, 2 * step, 16)
            for index, section in enumerate(names):
                within = first + index * (at - first) // len(names)
                (sections / section).write_text(f"{within:#018x}\n")
            at = (at // PAGE + 2) * PAGE  # a guard page between two allocations
        for section in _STALE_SECTIONS:
            (sections / section).write_text(f"{MODULES + rng.randrange(1 << 20):#018x}\n")
        rng.shuffle(lines)
        yield f"{name} {at - start} 0 - Live {start:#018x}\n", lines
