"""Modules as /proc/modules and sysfs tell of them."""

from __future__ import annotations

from typing import Final, NamedTuple

from .._elf import build_id, elf_format, parse_notes
from .._elf.constants import ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB
from .._errors import KallsymsError
from .root import Root

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


class Sections(NamedTuple):
    """A module's live sections by sysfs, sorted by start; sysfs gives no ends."""

    starts: tuple[int, ...]
    names: tuple[str, ...]


def parse_modules(text: bytes, path: str) -> dict[str, Module]:
    """The modules in /proc/modules, oldest first: the file lists the newest first.

    Raises:
        KallsymsError: a line is not what m_show prints.
    """
    modules = {}
    for number, line in enumerate(text.decode("utf-8", "surrogateescape").splitlines(), 1):
        try:
            module = _module(line)
        except (ValueError, IndexError):
            raise KallsymsError(
                f"Line {number} of {path} is not a module: {line[:60]!r}.",
                "Save the whole of /proc/modules with cat, and change nothing in it.",
            ) from None
        modules[module.name] = module
    return dict(reversed(modules.items()))


def _module(line: str) -> Module:
    name, size, refcount, dependants, state, address, *taint = line.split()
    return Module(
        name=name,
        size=int(size),
        refcount=None if refcount == "-" else int(refcount),
        dependants=tuple(d for d in dependants.split(",") if d not in ("", "-")),
        state=state,
        address=int(address, 16),
        taint=taint[0].strip("()") if taint else "",
    )


def live_sections(root: Root, name: str, state: str) -> Sections:
    """The sections of module ``name`` that are in memory.

    Once a module is Live its ``.init`` sections are freed, and ``.symtab`` and ``.strtab``
    with them, while sysfs keeps their addresses (kernel/module/sysfs.c,
    add_sect_attrs): they lie in other modules by now.
    """
    found = []
    directory = f"sys/module/{name}/sections"
    for section in root.names(directory):
        stale = section.startswith(".init") or section in (".symtab", ".strtab")
        if stale and state == "Live":
            continue
        text = root.text(f"{directory}/{section}")
        try:
            start = int(text or "0", 16)
        except ValueError:
            continue
        if start:  # zero is what a reader without CAP_SYSLOG is shown
            found.append((start, section))
    found.sort()
    return Sections(tuple(s for s, _ in found), tuple(n for _, n in found))


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
