"""The linker files that a text tells of, and what the kernel's other files say of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .._typing import NamedTuple
from .btf import read_btf
from .debug import DebugFiles, Exact, with_exact
from .files import KERNEL_ID, Files, LinkerFile, Region, Symbols
from .generation import Generation
from .host import Host, read_host
from .iomem import read_iomem
from .kallsyms import Kallsyms
from .link_time import LinkTime, read_link_time
from .modules import PSEUDO, Module, Sections, module_build_id, module_facts, read_sections
from .regions import (
    Owner,
    inferred_regions,
    is_absolute,
    known_regions,
    live_sections,
    unplaced,
)
from .root import Root
from .tables import symbol_table


class Reading(NamedTuple):
    """The text, read in one go, and whose lines are whose; of one moment if nothing moved."""

    text: Kallsyms
    lines: dict[str | None, list[slice]]


class Members:
    """Makes the linker files of readings; what it reads of one instance of a file it keeps.

    Args:
        root: where the kernel's files are.
        debug: as :class:`Linker` takes it.
        btf: whether BTF is read too.
        progress: called with the number of bytes each time some have been read.
    """

    def __init__(
        self,
        root: Root,
        debug: tuple[str, ...] | None,
        btf: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.root = root
        self.debug = debug
        self.btf = btf
        self.progress = progress
        self._debug: DebugFiles | None = None
        self._exact: dict[str, tuple[object, Exact | None]] = {}
        self._kept: dict[str, tuple[int | None, tuple[tuple[int, str], ...]]] = {}

    def files(self, reading: Reading, ask: Callable[[], Generation]) -> Files:
        """The linker files that ``reading`` tells of; ``ask`` gives the generation now."""
        text, landmarks = reading.text, reading.text.landmarks
        host = read_host(self.root, text.digits, landmarks)
        debug = self._debug_files(host.release)
        members = _unmoved(list(self._members(reading, host)), ask())
        if debug is not None:
            members = [
                _completed(member, self._exact_of(member, landmarks.get("_stext"), debug))
                for member in members
            ]
        known = known_regions(landmarks, read_iomem(self.root, landmarks))
        kernel = members[0].symbols
        absolute = is_absolute(kernel.address, kernel.letter, known, landmarks)
        members[0] = members[0]._replace(symbols=kernel._replace(absolute=absolute))
        owners = [member.owner(number) for number, member in enumerate(members, KERNEL_ID)]
        regions = inferred_regions(owners, known, landmarks)
        files = [
            _file(owner, member, regions.get(owner.id, ()), known)
            for owner, member in zip(owners, members)
        ]
        linked = read_link_time(self.root, host.release, landmarks)
        if members[0].debug is not None and {"_text", "_stext"} <= landmarks.keys():
            slide, path = members[0].debug.slide, members[0].debug.path
            linked = LinkTime(landmarks["_text"] - slide, landmarks["_stext"] - slide, path)
        return Files(
            files=tuple(files),
            generation=text.generation,
            host=host,
            landmarks=landmarks,
            link_time=linked,
            absent=dict(self.root.absent),
            refused=debug.refused if debug else {},
        )

    def sections(self, name: str, reading: Reading) -> Sections:
        """The live sections of module ``name``; what sysfs says of one instance is kept."""
        instance = self.root.inode(f"sys/module/{name}")
        kept, found = self._kept.get(name, (None, ()))
        if instance is None or kept != instance:
            found = read_sections(self.root, name)
            self._kept[name] = (instance, found)
        # Functions of freed init sections that ftrace remembers come in a second run.
        runs = reading.lines.get(name)
        return live_sections(found, reading.text.address[runs[0] if runs else slice(0)])

    def _members(self, reading: Reading, host: Host) -> Iterator[_Member]:
        """The kernel, then each module in load order, then what is listed as if it were one."""
        text, lines = reading.text, reading.lines
        types = read_btf(self.root) if self.btf else None
        kernel = symbol_table(text, lines.get(None, []))
        yield _Member("kernel", kernel, host.build_id, btf=types)
        modules = text.generation.modules
        # kallsyms lists modules as /proc/modules does, the newest first.
        unlisted = [name for name in reversed(lines) if name and name not in modules]
        for name in (*modules, *(n for n in unlisted if n not in PSEUDO)):
            module = modules.get(name)
            yield _Member(
                name,
                symbol_table(text, lines.get(name, [])),
                module_build_id(self.root, name, host.byteorder),
                self.sections(name, reading),
                module_facts(self.root, module) if module else None,
                btf=read_btf(self.root, name) if types and module else None,
            )
        for name in PSEUDO:
            if name in lines:
                yield _Member(name, symbol_table(text, lines[name]))

    def _debug_files(self, release: str | None) -> DebugFiles | None:
        if self.debug is None:
            return None
        if self._debug is None or self._debug.release != release:
            self._debug = DebugFiles(self.root, release, self.debug, self.progress)
        return self._debug

    def _exact_of(self, member: _Member, stext: int | None, debug: DebugFiles) -> Exact | None:
        """What ``member``'s file knows; of one instance it is read once and kept."""
        key = (member.build_id, member.sections, stext)
        kept = self._exact.get(member.name)
        if kept is None or kept[0] != key:
            if member.name == "kernel":
                found = debug.kernel(member.build_id, stext)
            else:
                found = debug.module(
                    member.name, member.build_id, member.sections, member.symbols
                )
            kept = self._exact[member.name] = key, found
        return kept[1]


class _Member(NamedTuple):
    """A linker file as it was read, before anything is inferred of it."""

    name: str
    symbols: Symbols
    build_id: bytes | None = None
    sections: Sections = Sections()
    module: Module | None = None
    debug: Exact | None = None
    btf: bytes | None = None

    def owner(self, number: int) -> Owner:
        """What it brings to its regions as linker file ``number``."""
        address, letter, absolute = (
            self.symbols.address,
            self.symbols.letter,
            self.symbols.absolute,
        )
        return Owner(number, self.name, address, letter, absolute, self.sections, self.module)


def _unmoved(members: list[_Member], generation: Generation) -> list[_Member]:
    """``members`` without what sysfs said of modules that have gone or moved by ``generation``.

    sysfs is read after the text, and a text of one moment stays one.
    """
    now = generation.modules
    return [
        member
        if member.module is None or member.module.lies_as(now.get(member.name))
        else member._replace(sections=Sections(), build_id=None, btf=None)
        for member in members
    ]


def _file(
    owner: Owner, member: _Member, regions: tuple[Region, ...], known: tuple[Region, ...]
) -> LinkerFile:
    """The linker file of ``member``, which has ``known`` regions too if it is the kernel."""
    if owner.id == KERNEL_ID:
        regions = tuple(sorted((*known, *regions), key=lambda r: (r.start, r.end)))
    stops = {*owner.sections.starts, *owner.sections.ends} - {0}
    return LinkerFile(
        id=owner.id,
        name=owner.name,
        symbols=member.symbols,
        regions=regions,
        stops=np.array(sorted(stops), np.uint64),
        build_id=member.build_id,
        module=owner.module,
        unplaced=unplaced(owner),
        debug=member.debug.path if member.debug else None,
        btf=member.btf,
    )


def _completed(member: _Member, exact: Exact | None) -> _Member:
    """``member`` with what the file that it was loaded from knows, where there is one."""
    if exact is None:
        return member
    sizes = [exact.sections.get(name, 0) for name in member.sections.names]
    ends = tuple(
        start + size if size else 0 for start, size in zip(member.sections.starts, sizes)
    )
    return member._replace(
        symbols=with_exact(member.symbols, exact),
        sections=member.sections._replace(ends=ends),
        debug=exact,
    )
