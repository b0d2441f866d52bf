"""Modules as /proc/modules and sysfs tell of them."""

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
"""Modules, and a half of the sections that an ELF file can number: each has one or more."""
PSEUDO: Final = ("__builtin__ftrace", "bpf", "__builtin__kprobes")
"""Brackets that are no modules: kernel/kallsyms.c, get_ksymbol_ftrace_mod, _bpf, _kprobe."""


class Module(NamedTuple):
    """One line of /proc/modules (kernel/module/procfs.c, m_show).

    ``size`` in bytes: of the core allocation up to Linux 6.3, the sum of all allocations
    since 6.4; ``address`` of the core allocation or of its text, 0 where hidden;
    ``refcount`` None where the kernel cannot unload.
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
        """What is another where the kernel lists other symbols of the module."""
        return self.address, self.size, self.state

    def lies_as(self, other: Module | None) -> bool:
        """Whether ``other`` is this module where this one is."""
        return other is not None and self.placed[:2] == other.placed[:2]


class Sections(NamedTuple):
    """A module's live sections by sysfs, sorted by start.

    sysfs gives no ends; ``ends`` has those that the module's file told, 0 for the others.
    """

    starts: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()


def parse_modules(text: bytes) -> dict[str, Module]:
    """The modules in /proc/modules, oldest first: the file lists the newest first.

    Raises:
        KallsymsError: a line is not what m_show prints, or there are too many.
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
    """Refuse so many modules of the file ``path``, where they are more than :data:`_MOST`.

    Raises:
        KallsymsError: they are.
    """
    if count > _MOST:
        raise KallsymsError(
            f"{path} has more than {_MOST} modules, and no kernel has.",
            "Save the whole of the file with cat, and change nothing in it.",
        )


def _module(line: str) -> Module:
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
    """The address that ``text`` is, in hexadecimal digits, with 0x before them or without.

    Raises:
        ValueError: it is none of 64 bits.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("it is not an address")
    return int(match[1], 16)


def parse_number(text: str) -> int:
    """The decimal number that ``text`` is.

    Raises:
        ValueError: it is none, or of more than 18 digits.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("it is not a number")
    return int(text)


def is_init(section: str) -> bool:
    """Return True for a section that the kernel frees once the module is initialized.

    kernel/module/main.c, module_init_section; arch/arm/kernel/module.c has its own.
    """
    return section.startswith((".init", ".ARM.exidx.init", ".ARM.extab.init"))


def read_sections(root: Root, name: str) -> tuple[tuple[int, str], ...]:
    """Start and name of every section that sysfs has of module ``name``, by start.

    Nothing where one has what is no address: what would the others be worth?
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
        if start:  # zero is what a reader without CAP_SYSLOG is shown
            found.append((start, section))
    return tuple(sorted(found))


def module_facts(root: Root, module: Module) -> Module:
    """``module`` with what sysfs has besides, where its author gave it one."""
    directory = f"sys/module/{module.name}"
    return module._replace(
        srcversion=root.fact(f"{directory}/srcversion"),
        version=root.fact(f"{directory}/version"),
    )


def module_build_id(root: Root, name: str, byteorder: str) -> bytes | None:
    """The build-id that sysfs has of module ``name``; None where it has none."""
    data = root.read(f"sys/module/{name}/notes/.note.gnu.build-id")
    if data is None:
        return None
    order = ELFDATA2LSB if byteorder == "little" else ELFDATA2MSB
    try:
        return build_id(parse_notes(data, elf_format(ELFCLASS64, order)))
    except ValueError:
        return None
