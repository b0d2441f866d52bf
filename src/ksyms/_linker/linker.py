"""The linker: every linker file of a kernel, in load order, from its text files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np

from .._errors import KallsymsError
from .ahead import ReadAhead
from .btf import read_btf
from .debug import DebugFiles, Exact, with_exact
from .files import KERNEL_ID, Files, LinkerFile, Region, Symbols
from .generation import Generation, Watch
from .host import MACHINE_LANDMARKS, Host, hidden, read_host
from .iomem import read_iomem
from .kallsyms import Kallsyms, read_kallsyms
from .link_time import LinkTime, read_link_time
from .modules import (
    PSEUDO,
    Module,
    Sections,
    live_sections,
    module_build_id,
    module_facts,
    read_sections,
)
from .regions import LANDMARKS, Owner, inferred_regions, is_absolute, known_regions, unplaced
from .root import Root
from .tables import lines_of, symbol_table

_LANDMARKS: Final = LANDMARKS | MACHINE_LANDMARKS.keys()


class Linker:
    """Where a kernel's symbols come from: the running one, or one saved under a root.

    A context manager: events are watched from its making to its end.

    Args:
        root: the directory that holds ``proc`` and ``sys``, or an archive of one.
        kallsyms: a kallsyms text by itself, in place of a directory.
        progress: called with the number of bytes each time some have been read.
        debug: directories to look for files with exact sizes in, besides the usual ones;
            None for sizes inferred from the text alone.
        btf: whether the kernel's and the modules' BTF is read too.

    Raises:
        SourceError: ``root`` is neither a directory nor an archive.
    """

    remedy: Final = "Try again when no modules are being loaded or unloaded."
    """What to do where the files keep moving."""

    reads_late: Final = False
    """Whether tables are read while they are copied; here all that moves is read before."""

    def __init__(
        self,
        root: str = "/",
        kallsyms: str | None = None,
        progress: Callable[[int], None] | None = None,
        debug: tuple[str, ...] | None = (),
        btf: bool = False,
    ) -> None:
        self.root = Root(root, kallsyms)
        self.btf = btf
        self.progress = progress
        self.debug = debug
        self._watch = Watch(self.root)
        self._debug: DebugFiles | None = None
        self._exact: dict[str, tuple[object, Exact | None]] = {}
        self._kept: dict[str, tuple[int | None, tuple[tuple[int, str], ...]]] = {}

    def __enter__(self) -> Linker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the kernel holds for this: the rings of its events."""
        self._watch.close()

    @property
    def watched(self) -> bool:
        """Whether every change is told, so that a snapshot can stand until one is."""
        return self._watch.whole

    def generation(self) -> Generation:
        """The value that differs when the linker files have changed."""
        return self._watch.generation()

    def read(self) -> Reading:
        """Read what must be of one moment: the text.

        Raises:
            HiddenError: every address is zero.
            KallsymsError: a text is not what the kernel prints, or was cut short.
            SourceError: the text of kallsyms cannot be read.
        """
        source = self.root.open_kallsyms()
        ahead = ReadAhead(source, self.root.kallsyms, self._watch.glance, self.root.live)
        text = read_kallsyms(ahead, _LANDMARKS, self.progress)
        if not text.address.any():
            raise hidden(self.root)
        if ("_stext" in text.landmarks) != ("_etext" in text.landmarks):
            missing = "_etext" if "_stext" in text.landmarks else "_stext"
            raise KallsymsError(
                f"{self.root.kallsyms} has no {missing}, which every kernel has: "
                "it is not whole.",
                "Save the whole of /proc/kallsyms with cat, and change nothing in it.",
            )
        return Reading(text, lines_of(text))

    def moved(self, reading: Reading) -> list[str]:
        """What has changed since ``reading`` was begun, in words; nothing if nothing has."""
        before, now = reading.text.generation, self.generation()
        if before == now and not self._watch.unsure:
            return []
        words = before.moved(now)
        # After a module is Live, and after its event, the kernel stops listing its init
        # symbols and in the same breath drops a reference (main.c, do_init_module).
        for name in before.released(now):
            if any(n.startswith(".init") for n in self._sections(name, reading).names):
                words.append(f"module {name} let go of its init section")
        listed: set[int] = set()
        for part in reading.lines.get("bpf", ()):
            listed.update(reading.text.address[part].tolist())
        if self._watch.leaving(listed):
            words.append("a BPF program was about to go")
        return words

    def files(self, reading: Reading) -> Files:
        """The linker files that ``reading`` tells of."""
        text, landmarks = reading.text, reading.text.landmarks
        host = read_host(self.root, text.digits, landmarks)
        debug = self._debug_files(host.release)
        members = self._unmoved(list(self._members(reading, host)))
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
                self._sections(name, reading),
                module_facts(self.root, module) if module else None,
                btf=read_btf(self.root, name) if types and module else None,
            )
        for name in PSEUDO:
            if name in lines:
                yield _Member(name, symbol_table(text, lines[name]))

    def _unmoved(self, members: list[_Member]) -> list[_Member]:
        """``members`` without what sysfs said of modules that have gone or moved since.

        sysfs is read after the text, and a text of one moment stays one.
        """
        now = self.generation().modules
        return [
            member
            if member.module is None or member.module.lies_as(now.get(member.name))
            else member._replace(sections=Sections(), build_id=None, btf=None)
            for member in members
        ]

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

    def _sections(self, name: str, reading: Reading) -> Sections:
        """The live sections of module ``name``; what sysfs says of one instance is kept."""
        instance = self.root.inode(f"sys/module/{name}")
        kept, found = self._kept.get(name, (None, ()))
        if instance is None or kept != instance:
            found = read_sections(self.root, name)
            self._kept[name] = (instance, found)
        # Functions of freed init sections that ftrace remembers come in a second run.
        runs = reading.lines.get(name)
        return live_sections(found, reading.text.address[runs[0] if runs else slice(0)])


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


class Reading(NamedTuple):
    """The text, read in one go, and whose lines are whose; of one moment if nothing moved."""

    text: Kallsyms
    lines: dict[str | None, list[slice]]


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
