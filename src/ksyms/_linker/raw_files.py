"""Linker files as the kernel lists them, before their regions are inferred."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .addresses import LAST_ADDRESS, Range, page_end
from .bpf_programs import NAME as BPF
from .bpf_symbols import BpfSymbols, match_programs
from .btf import read_btf
from .files import Role, Symbols
from .freed_functions import ListedModule, find_freed
from .host import Host, at_least, read_host
from .init_sections import is_init, live_sections
from .kallsyms_symbols import symbol_table, with_role
from .modules import (
    PSEUDO,
    Module,
    Sections,
    module_build_id,
    module_facts,
    read_sections,
    refuse_many,
)
from .region_input import RegionInput
from .roles import module_roles

if TYPE_CHECKING:
    from .._arrays import Mask
    from .debug_files import DebugSymbols
    from .reading import Reading
    from .root import Root

_SEPARATE: Final = (6, 4)
"""The Linux version since which a module's code and data are separate allocations.

It is that of Linux kernel commit ac3b43283923 ("module: replace module_layout with
module_memory").
"""
_PACKED: Final = (6, 13)
"""The Linux version since which the code of two modules can lie side by side.

It is that of Linux kernel commit 2e45474ab14f ("execmem: add support for cache of large ROX
pages").
"""


class RawFile(NamedTuple):
    """A linker file as it was read, before its regions are inferred.

    ``freed`` is a mask of the symbols that are freed functions; None if there are none.
    ``freed_at`` is the first line of the module's second run of lines, in which they are
    listed, and 0 if there is only one run. ``symtab_copy`` is as in
    :class:`~.region_input.RegionInput`. ``stops`` are addresses at which a symbol ends, though
    no other symbol starts there.
    """

    name: str
    symbols: Symbols
    build_id: bytes | None = None
    sections: Sections = Sections()
    module: Module | None = None
    debug: DebugSymbols | None = None
    btf: bytes | None = None
    programs: BpfSymbols | None = None
    freed: Mask | None = None
    freed_at: int = 0
    symtab_copy: int = 0
    stops: tuple[int, ...] = ()

    def region_input(self, number: int, release: str | None) -> RegionInput:
        """Return the evidence for the regions of this file.

        Symbols that have no address in memory are left out, and labels have the letter 0.

        Args:
            number: the id of the linker file.
            release: the kernel's release.
        """
        address, letter = self.symbols.address, self.symbols.letter
        in_memory = self.symbols.role < Role.ABSOLUTE
        if self.freed is not None:
            in_memory &= ~self.freed
        if (labels := self.symbols.role == Role.LABEL).any():
            letter = np.where(labels, np.uint8(0), letter)

        if not in_memory.all():
            address, letter = address[in_memory], letter[in_memory]
        return RegionInput(
            id=number,
            name=self.name,
            address=address,
            letter=letter,
            sections=self.sections,
            module=self.module,
            symtab_copy=self.symtab_copy,
            separate=at_least(release, _SEPARATE) is True,
            guarded=at_least(release, _PACKED) is False,
        )


class RawFiles(NamedTuple):
    """The linker files of a reading: the kernel, the modules in load order, then the groups.

    The groups are those of :data:`~.modules.PSEUDO`.
    """

    host: Host
    files: list[RawFile]


class RawFileReader:
    """Makes the raw files of a reading, and adds the modules' facts from sysfs.

    A module's sections in sysfs are read once for each instance of the module, and kept for
    later readings.

    Args:
        root: the kernel's files.
        btf: True to read BTF too.
    """

    def __init__(self, root: Root, btf: bool) -> None:
        self.root = root
        self.btf = btf
        self._sections: dict[str, tuple[int | None, tuple[tuple[int, str], ...]]] = {}

    def read(self, reading: Reading) -> RawFiles:
        """Return the raw files of ``reading``; sysfs is read now."""
        host = read_host(self.root, reading.text.digits, reading.text.landmarks)
        return RawFiles(host, list(self._files(reading, host)))

    def initializing(self, reading: Reading) -> set[str]:
        """Return the names of the modules whose init sections the kernel has not freed yet."""
        return {
            file.name
            for file in self._modules(reading)
            if any(map(is_init, file.sections.names))
        }

    def _files(self, reading: Reading, host: Host) -> Iterator[RawFile]:
        """Yield the kernel, the modules in load order, then the groups of :data:`PSEUDO`."""
        text, lines = reading.text, reading.lines
        types = read_btf(self.root) if self.btf else None
        kernel = symbol_table(text, lines.get(None, []))
        yield RawFile("kernel", kernel, host.build_id, btf=types)

        modules = text.generation.modules
        files = {file.name: file for file in self._modules(reading)}
        # Both kallsyms and /proc/modules list the newest module first; load order is reversed.
        unlisted = [name for name in reversed(files) if name not in modules]
        for name in (*modules, *unlisted):
            file, module = files[name], modules.get(name)
            yield file._replace(
                build_id=module_build_id(self.root, name, host.byteorder),
                module=module_facts(self.root, module) if module else None,
                symtab_copy=_symtab_copy_size(file, host.bits),
                btf=read_btf(self.root, name) if types and module else None,
            )

        for name in PSEUDO:
            if name in lines:
                symbols, programs = symbol_table(text, lines[name]), None
                if name == BPF:
                    programs = match_programs(symbols, reading.programs, host.release)
                yield _group(name, symbols, programs)

    def _modules(self, reading: Reading) -> list[RawFile]:
        """Return the modules in the order of the text, then those without a line in it."""
        text, lines = reading.text, reading.lines
        modules, landmarks = text.generation.modules, text.landmarks
        image = Range(landmarks.get("_stext", 0), landmarks.get("_end", 0))
        brackets = [name for name in lines if name is not None and name not in PSEUDO]
        names = dict.fromkeys([*brackets, *modules])
        refuse_many(len(names), self.root.kallsyms)

        files, listed = [], list[ListedModule]()
        for name in names:
            runs, module, sections = lines.get(name, []), modules.get(name), self._sysfs(name)
            symbols = symbol_table(text, runs)
            symbols = with_role(symbols, module_roles(symbols, module, sections, image))

            freed_at = runs[1].start if len(runs) > 1 else 0
            files.append(RawFile(name, symbols, module=module, freed_at=freed_at))
            first_run = runs[0].stop - runs[0].start if runs else 0
            listed.append(ListedModule(symbols, first_run, sections, module))

        return [
            file._replace(
                freed=freed, sections=live_sections(one.sections, file.symbols, freed)
            )
            for file, one, freed in zip(files, listed, find_freed(listed))
        ]

    def _sysfs(self, name: str) -> tuple[tuple[int, str], ...]:
        """Return the start and the name of each section of module ``name`` in sysfs.

        They are read once for each instance of the module, which is known by its inode.
        """
        instance = self.root.inode(f"sys/module/{name}")
        kept, sections = self._sections.get(name, (None, ()))
        if instance is None or kept != instance:
            sections = read_sections(self.root, name)
            self._sections[name] = (instance, sections)
        return sections


def _group(name: str, symbols: Symbols, programs: BpfSymbols | None) -> RawFile:
    """Return the raw file of a group: symbols that the kernel lists like a module's.

    For the group ``bpf``, ``programs`` has the sizes. A symbol of another group ends at the end
    of its page: a trampoline of ftrace lies in pages of its own (arch/x86/kernel/ftrace.c,
    create_trampoline), and so do the instructions of kprobes (kernel/kprobes.c,
    __get_insn_slot).
    """
    if programs is not None:
        return RawFile(name, programs.symbols, programs=programs)
    ends = [page_end(address) for address in symbols.address.tolist()]
    return RawFile(name, symbols, stops=tuple(end for end in ends if end <= LAST_ADDRESS))


def _symtab_copy_size(file: RawFile, bits: int) -> int:
    """Return the size in bytes of the kernel's copy of a module's symbol table.

    For each symbol, and for the empty symbol 0, the copy has a row (24 bytes, or 16 if ``bits``
    is 32), the name with a NUL, and the letter (kernel/module/kallsyms.c, layout_symtab). Freed
    functions are not in the copy. The size of their names is estimated, as if all names had the
    same length.
    """
    own = len(file.symbols.address)
    if file.freed is not None:
        own = int(np.count_nonzero(~file.freed))
    names = len(file.symbols.strings) * own // max(len(file.symbols.address), 1)
    return (own + 1) * (24 if bits == 64 else 16) + names + 1 + own + 1
