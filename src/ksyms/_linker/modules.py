"""Modules, as /proc/modules and sysfs describe them."""

from __future__ import annotations

import re

from .._elf import build_id, elf_format, parse_notes
from .._elf.constants import ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB
from .._errors import KallsymsError
from .._typing import Final, NamedTuple
from .root import Root

_ADDRESS: Final = re.compile("(?:0x)?([0-9a-f]{1,16})", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile("-?[0-9]{1,18}", re.ASCII)
_MOST: Final = 1 << 15
"""The most modules that are accepted.

It is half the number of sections that a 16-bit section number allows. Each module has at least
one section in a snapshot.
"""
PSEUDO: Final = ("__builtin__ftrace", "bpf", "__builtin__kprobes")
"""Names in kallsyms' brackets that are not those of modules, in the kernel's order.

They are printed by kernel/kallsyms.c, get_ksymbol_ftrace_mod, get_ksymbol_bpf and
get_ksymbol_kprobe.
"""


class Module(NamedTuple):
    """One line of /proc/modules (kernel/module/procfs.c, m_show).

    ``size`` (bytes) is that of the core allocation up to Linux 6.3, and the sum of all
    allocations since 6.4. ``address`` is that of the core allocation up to 6.3, and that of
    the text since; it is 0 if it is hidden. ``refcount`` is None if the kernel cannot unload
    modules.
    """

    name: str
    size: int
    refcount: int | None
    dependants: tuple[str, ...]
    state: str
    address: int
    taint: str
    srcversion: str | None = None
    version: str | None = None

    @property
    def placed(self) -> tuple[int, int, str]:
        """The fields that change when the module's symbols change: address, size and state."""
        return self.address, self.size, self.state

    def lies_as(self, other: Module | None) -> bool:
        """Return True if ``other`` has the same address and size."""
        return other is not None and self.placed[:2] == other.placed[:2]


class Sections(NamedTuple):
    """The sections of a module that are in memory, sorted by start.

    The starts are from sysfs, which has no ends. ``ends`` are those from the module's debug
    file, and 0 for sections without one.
    """

    starts: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()


def parse_modules(text: bytes) -> dict[str, Module]:
    """Return the modules in the text of /proc/modules by name, the oldest first.

    The file lists the newest first. This line gives a module ``dummy`` of 16384 bytes, with
    reference count 0::

        dummy 16384 0 - Live 0xffffffffc0100000

    Raises:
        KallsymsError: a line is not what m_show prints, or there are too many modules.
    """
    modules: dict[str, Module] = {}
    refuse_many(text.count(b"\n"), "proc/modules")
    for number, line in enumerate(text.decode("utf-8", "surrogateescape").splitlines(), 1):
        try:
            module = _module(line)
        except (ValueError, IndexError):
            raise KallsymsError(
                f"Line {number} of proc/modules is not a module: {line[:60]!r}.",
                "Save the whole of /proc/modules with cat, and change nothing in it.",
            ) from None
        modules[module.name] = module
    return dict(reversed(modules.items()))


def refuse_many(count: int, path: str) -> None:
    """Check the number of modules in a file.

    Raises:
        KallsymsError: ``count`` is more than :data:`_MOST`; the error names the file ``path``.
    """
    if count > _MOST:
        raise KallsymsError(
            f"{path} has more than {_MOST} modules, and no kernel has.",
            "Save the whole of the file with cat, and change nothing in it.",
        )


def _module(line: str) -> Module:
    """Parse a line of /proc/modules.

    Raises:
        ValueError: it is not such a line.
    """
    name, size, refcount, dependants, state, address, *taint = line.split()
    if size.startswith("-"):
        raise ValueError("its size is below 0")
    return Module(
        name=name,
        size=parse_number(size),
        refcount=None if refcount == "-" else parse_number(refcount),
        dependants=tuple(d for d in dependants.split(",") if d not in ("", "-")),
        state=state,
        address=parse_address(address),
        taint=taint[0].strip("()") if taint else "",
    )


def parse_address(text: str) -> int:
    """Parse an address of up to 64 bits: hexadecimal digits, with or without ``0x``.

    Raises:
        ValueError: ``text`` is not such an address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("it is not an address")
    return int(match[1], 16)


def parse_number(text: str) -> int:
    """Parse a decimal number.

    Raises:
        ValueError: ``text`` is not a number, or has more than 18 digits.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("it is not a number")
    return int(text)


def read_sections(root: Root, name: str) -> tuple[tuple[int, str], ...]:
    """Return the start and the name of each section of module ``name`` in sysfs, sorted.

    Empty if one of the files does not hold an address: then the others cannot be trusted.
    """
    found = []
    directory = f"sys/module/{name}/sections"
    for section in root.names(directory):
        file = f"{directory}/{section}"
        text = root.text(file)
        if not text:
            continue
        try:
            start = parse_address(text)
        except ValueError as error:
            root.missed(file, error)
            return ()
        if start:  # sysfs shows zeros to a process without CAP_SYSLOG
            found.append((start, section))
    return tuple(sorted(found))


def module_facts(root: Root, module: Module) -> Module:
    """Return ``module`` with its srcversion and version from sysfs, if it has them."""
    directory = f"sys/module/{module.name}"
    return module._replace(
        srcversion=root.fact(f"{directory}/srcversion"),
        version=root.fact(f"{directory}/version"),
    )


def module_build_id(root: Root, name: str, byteorder: str) -> bytes | None:
    """Return the build-id of module ``name`` from sysfs; None if it has none."""
    data = root.read(f"sys/module/{name}/notes/.note.gnu.build-id")
    if data is None:
        return None
    order = ELFDATA2LSB if byteorder == "little" else ELFDATA2MSB
    try:
        return build_id(parse_notes(data, elf_format(ELFCLASS64, order)))
    except ValueError:
        return None
