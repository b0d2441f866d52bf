"""The linker files of a kallsyms text, with the facts from the kernel's other files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .._typing import Final, NamedTuple
from . import bpf
from .btf import read_btf
from .debug import DebugFiles, Exact, with_exact
from .files import KERNEL_ID, Files, LinkerFile, Region, Role, Symbols
from .generation import Generation
from .host import Host, at_least, read_host
from .iomem import read_iomem
from .kallsyms import Kallsyms
from .kallsyms_symbols import symbol_table, with_role
from .link_time import LinkTime, read_link_time
from .listed import (
    Listed,
    Range,
    freed_functions,
    kernel_roles,
    lists,
    live_sections,
    module_roles,
    name_freed,
    padding_of,
)
from .modules import (
    PSEUDO,
    Module,
    Sections,
    is_init,
    module_build_id,
    module_facts,
    read_sections,
    refuse_many,
)
from .reader_thread import LONGEST
from .regions import (
    PAGE,
    TOP,
    Mask,
    Owner,
    inferred_regions,
    known_regions,
    page_end,
    unplaced,
)
from .root import Root

_APART: Final = (6, 4)
"""The Linux version since which a module's code and data are allocated separately.

The commit is ac3b43283923, "module: replace module_layout with module_memory".
"""
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio; odd


class Reading(NamedTuple):
    """The text of kallsyms, read from its start to its end; of one moment if nothing moved.

    ``lines`` has the runs of lines by the name in the bracket, None for the kernel's own.
    ``programs`` are the BPF programs, read after the text; None if the text lists none, or they
    could not be read. ``came`` is the result of :func:`came`.
    """

    text: Kallsyms
    lines: dict[str | None, list[slice]]
    programs: bpf.Programs | None = None
    came: tuple[str, ...] = ()


def came(text: Kallsyms, lines: dict[str | None, list[slice]]) -> tuple[str, ...]:
    """Return the modules that came while a running kernel's text was printed, in words.

    The evidence is in the text itself: a module in it was not in /proc/modules, or other
    modules' lines are repeated. It is needed for a module whose init fails, and which has gone
    by the time /proc/modules is read again: kallsyms lists its symbols until then, and there is
    no event (kernel/module/main.c, do_init_module).
    """
    known = {*PSEUDO, *text.generation.modules}
    strays = [f"module {name}" for name in lines if name is not None and name not in known]
    return tuple(strays or (["a module"] if _repeats(text) else []))


def _repeats(text: Kallsyms) -> bool:
    """Return True if some two adjacent lines of the modules occur twice.

    The kernel prints the line of a position, the newest module first (kernel/kallsyms.c,
    s_next). If a module with two symbols comes during that, all other lines move down by two
    positions, and two lines are printed again::

        position   0    1    2    3    4    5    6
        before     a1   a2   a3   a4   a5
        printed    a1   a2   a3                      then module n comes
        after      n1   n2   a1   a2   a3   a4   a5
        printed                   a2   a3   a4   a5  a2 and a3 are repeated

    Labels do not count, and neither do two lines with one address: symbols without a size can
    share both name and address.
    """
    count = len(text.address)
    first = next((start for start, name in text.runs if name is not None), count)
    end = next((start for start, name in text.runs if name in PSEUDO), count)

    # The lines of modules, without labels.
    low, high = np.searchsorted(text.ignored, (first, end))
    lines = np.delete(np.arange(first, end), text.ignored[low:high] - first)

    address = text.address[lines]
    pairs = address[:-1] * _SPREAD ^ address[1:]
    order = np.argsort(pairs)
    same = np.flatnonzero(pairs[order[1:]] == pairs[order[:-1]])

    seen = set()
    for at in {*order[same].tolist(), *order[same + 1].tolist()}:
        one, two = ((int(address[n]), _name(text, lines[n])) for n in (at, at + 1))
        if one[0] != two[0] and (one, two) in seen:
            return True
        seen.add((one, two))
    return False


def _name(text: Kallsyms, line: int) -> bytes:
    """Return the name in a line of the text."""
    begin = text.name[line]
    return text.strings[begin : begin + LONGEST].tobytes().partition(b"\0")[0]


class Members:
    """Makes the linker files of readings.

    A module's sections in sysfs and its exact sizes are read once for each instance of the
    module, and kept for later readings.

    Args:
        root: the kernel's files.
        debug: directories with debug files; as for :class:`Linker`.
        btf: True to read BTF too.
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

    def read_rest(self, reading: Reading) -> _Rest:
        """Read what the text does not have: the kernel's host, and each module in sysfs."""
        host = read_host(self.root, reading.text.digits, reading.text.landmarks)
        return _Rest(host, list(self._members(reading, host)))

    def files(self, reading: Reading, rest: _Rest, now: Generation) -> Files:
        """Return the linker files of ``reading``; ``now`` is a generation after ``rest``."""
        text, landmarks, host = reading.text, reading.text.landmarks, rest.host

        debug = self._debug_files(host.release)
        members = _unmoved(rest.members, now)
        if debug is not None:
            members = [
                _completed(member, self._exact_of(member, landmarks.get("_stext"), debug))
                for member in members
            ]

        known = known_regions(landmarks, read_iomem(self.root, landmarks))
        listed = lists(members[0].symbols.letter, landmarks)
        role = kernel_roles(members[0].symbols, listed, known, landmarks)
        members[0] = members[0]._replace(symbols=with_role(members[0].symbols, role))

        apart = at_least(host.release, _APART) is True
        owners = [m.owner(number, apart) for number, m in enumerate(members, KERNEL_ID)]
        named_to = landmarks.get("_end", 0) if listed == "all" else 0
        regions = inferred_regions(owners, known, landmarks, named_to)

        for owner, member in zip(owners, members):
            if member.told is not None:
                regions = bpf.reaching(regions, owner.id, member.symbols)
                members[owner.id - KERNEL_ID] = member._replace(
                    stops=bpf.stops(member.told, owners)
                )

        regions[KERNEL_ID] = _sorted((*known, *regions.get(KERNEL_ID, ())))
        members, regions = _with_freed(members, regions)
        files = [
            _file(owner, member, regions.get(owner.id, ()))
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
            lists=listed,
        )

    def initializing(self, reading: Reading) -> set[str]:
        """Return the names of the modules that have an init section in memory."""
        return {
            member.name
            for member in self._modules(reading)
            if any(map(is_init, member.sections.names))
        }

    def _sysfs(self, name: str) -> tuple[tuple[int, str], ...]:
        """Return the sections of module ``name`` in sysfs, read once for each instance."""
        instance = self.root.inode(f"sys/module/{name}")
        kept, found = self._kept.get(name, (None, ()))
        if instance is None or kept != instance:
            found = read_sections(self.root, name)
            self._kept[name] = (instance, found)
        return found

    def _modules(self, reading: Reading) -> list[_Member]:
        """Return the modules in the text's order, then those that only /proc/modules has."""
        text, lines = reading.text, reading.lines
        modules, landmarks = text.generation.modules, text.landmarks
        image = Range(landmarks.get("_stext", 0), landmarks.get("_end", 0))
        brackets = [name for name in lines if name is not None and name not in PSEUDO]
        names = dict.fromkeys([*brackets, *modules])
        refuse_many(len(names), self.root.kallsyms)

        members, firsts = [], list[Listed]()
        for name in names:
            runs, found, module = lines.get(name, []), self._sysfs(name), modules.get(name)
            symbols = symbol_table(text, runs)
            symbols = with_role(symbols, module_roles(symbols, module, found, image))
            listed = runs[1].start if len(runs) > 1 else 0
            members.append(_Member(name, symbols, module=module, freed_at=listed))
            first = runs[0].stop - runs[0].start if runs else 0
            firsts.append(Listed(symbols, first, found, module))

        freed = freed_functions(firsts)
        return [
            member._replace(
                freed=mask, sections=live_sections(first.found, member.symbols, mask)
            )
            for member, first, mask in zip(members, firsts, freed)
        ]

    def _members(self, reading: Reading, host: Host) -> Iterator[_Member]:
        """Yield the kernel, the modules in load order, then the groups of :data:`PSEUDO`."""
        text, lines = reading.text, reading.lines
        types = read_btf(self.root) if self.btf else None
        kernel = symbol_table(text, lines.get(None, []))
        yield _Member("kernel", kernel, host.build_id, btf=types)

        modules = text.generation.modules
        members = {member.name: member for member in self._modules(reading)}
        # kallsyms lists modules as /proc/modules does, the newest first.
        unlisted = [name for name in reversed(members) if name not in modules]
        for name in (*modules, *unlisted):
            member, module = members[name], modules.get(name)
            yield member._replace(
                build_id=module_build_id(self.root, name, host.byteorder),
                module=module_facts(self.root, module) if module else None,
                copied=_copied(member, host.bits),
                btf=read_btf(self.root, name) if types and module else None,
            )

        for name in PSEUDO:
            if name in lines:
                symbols, told = symbol_table(text, lines[name]), None
                if name == bpf.NAME:
                    told = bpf.told_of(symbols, reading.programs, host.release)
                yield _pseudo(name, symbols, told)

    def _debug_files(self, release: str | None) -> DebugFiles | None:
        """Return the finder of debug files for a release; None if all sizes are inferred."""
        if self.debug is None:
            return None
        if self._debug is None or self._debug.release != release:
            self._debug = DebugFiles(self.root, release, self.debug, self.progress)
        return self._debug

    def _exact_of(self, member: _Member, stext: int | None, debug: DebugFiles) -> Exact | None:
        """Return the exact sizes of ``member``; its debug file is read once an instance.

        Two members are of one instance if build-id, sections and ``stext`` are the same.
        """
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
    """A linker file as it was read, before its regions are inferred.

    ``freed`` (bool, one item for each symbol) marks functions in freed memory; None if there
    are none. ``freed_at`` is the first line of the module's second run, in which they are
    listed, and 0 if there is only one run. ``copied`` is that of :class:`~.regions.Owner`.
    ``stops`` are addresses at which a symbol ends though no other starts there.
    """

    name: str
    symbols: Symbols
    build_id: bytes | None = None
    sections: Sections = Sections()
    module: Module | None = None
    debug: Exact | None = None
    btf: bytes | None = None
    told: bpf.BpfSymbols | None = None
    freed: Mask | None = None
    freed_at: int = 0
    copied: int = 0
    stops: tuple[int, ...] = ()

    def owner(self, number: int, apart: bool) -> Owner:
        """Return the evidence for its regions, as linker file ``number``.

        ``apart`` is True if the kernel allocates a module's code and data separately.
        """
        address, letter = self.symbols.address, self.symbols.letter
        placed = self.symbols.role < Role.ABSOLUTE
        if self.freed is not None:
            placed &= ~self.freed
        if (labels := self.symbols.role == Role.LABEL).any():
            letter = np.where(labels, np.uint8(0), letter)  # labels are no evidence of a kind
        if not placed.all():
            address, letter = address[placed], letter[placed]
        return Owner(
            number, self.name, address, letter, self.sections, self.module, self.copied, apart
        )


class _Rest(NamedTuple):
    """What was read after the text: facts of the kernel, and the members in load order."""

    host: Host
    members: list[_Member]


def _pseudo(name: str, symbols: Symbols, told: bpf.BpfSymbols | None) -> _Member:
    """Return the member for symbols that the kernel lists like a module's (:data:`PSEUDO`).

    ``told`` has what is known of the BPF programs if it is theirs. Each symbol of the others
    ends at the end of its page: a trampoline of ftrace lies in pages of its own
    (arch/x86/kernel/ftrace.c, create_trampoline), and so do the instructions of kprobes
    (kernel/kprobes.c, __get_insn_slot).
    """
    if told is not None:
        return _Member(name, told.symbols, told=told)
    ends = [page_end(address) for address in symbols.address.tolist()]
    return _Member(name, symbols, stops=tuple(end for end in ends if end <= TOP))


def _copied(member: _Member, bits: int) -> int:
    """Return the size in bytes of the kernel's copy of a module's symbol table.

    It has for each symbol, and for the empty symbol 0, a row (24 bytes, or 16 for 32 bits), the
    name with a NUL, and the letter (kernel/module/kallsyms.c, layout_symtab). Freed functions
    are not in it; their share of the names is estimated by their number.
    """
    own = len(member.symbols.address)
    if member.freed is not None:
        own = int(np.count_nonzero(~member.freed))
    names = len(member.symbols.strings) * own // max(len(member.symbols.address), 1)
    return (own + 1) * (24 if bits == 64 else 16) + names + 1 + own + 1


def _unmoved(members: list[_Member], generation: Generation) -> list[_Member]:
    """Return ``members`` without the facts from sysfs of modules that have gone or moved.

    sysfs was read after the text, so these facts may be of another moment than the text. A
    module has moved if its address or size in ``generation``, taken later, is another.
    """
    now = generation.modules
    return [
        member
        if member.module is None or member.module.lies_as(now.get(member.name))
        else member._replace(sections=Sections(), build_id=None, btf=None)
        for member in members
    ]


def _with_freed(
    members: list[_Member], regions: dict[int, tuple[Region, ...]]
) -> tuple[list[_Member], dict[int, tuple[Region, ...]]]:
    """Return ``members`` and ``regions`` with the freed functions that still name addresses."""
    freed = [n for n, m in enumerate(members) if m.freed is not None and m.freed.any()]
    if not freed:
        return members, regions

    freed.sort(key=lambda number: members[number].freed_at)
    members, regions = list(members), dict(regions)
    # Modules have whole pages, so a page with a region in it is taken.
    taken = sorted(
        Range(r.start // PAGE * PAGE, page_end(max(r.end - 1, r.start)))
        for own in regions.values()
        for r in own
    )

    padding = padding_of(members[0].symbols)
    tables = [(members[n].symbols, _mask(members[n])) for n in freed]
    for number, found in zip(freed, name_freed(tables, taken, padding)):
        member = members[number]
        own = regions.get(number + KERNEL_ID, ())
        regions[number + KERNEL_ID] = _sorted(
            (*own, *_freed_regions(member.name, found.ranges))
        )
        members[number] = member._replace(
            symbols=with_role(member.symbols, found.role), stops=found.stops
        )
    return members, regions


def _mask(member: _Member) -> Mask:
    assert member.freed is not None
    return member.freed


def _freed_regions(name: str, ranges: tuple[Range, ...]) -> list[Region]:
    """Return the regions of freed functions; ranges less than a page apart share one."""
    found: list[Region] = []
    for start, end in ((start, min(end, TOP)) for start, end in ranges):
        if found and start - found[-1].end < PAGE:
            found[-1] = found[-1]._replace(end=end)
        else:
            count = f".{len(found) + 1}" if found else ""
            label = f"[{name}].freed.text{count}"
            found.append(Region(label, start, end, "text", True, "letters"))
    return found


def _sorted(regions: Iterable[Region]) -> tuple[Region, ...]:
    return tuple(sorted(regions, key=lambda region: (region.start, region.end)))


def _file(owner: Owner, member: _Member, regions: tuple[Region, ...]) -> LinkerFile:
    """Return the linker file of ``member``."""
    # The end of the last page of all is not an address.
    stops = {stop for stop in (*member.stops, *owner.sections.ends) if 0 < stop <= TOP}
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
        programs=member.told.functions if member.told else (),
    )


def _completed(member: _Member, exact: Exact | None) -> _Member:
    """Return ``member`` with the exact sizes of its debug file, if there is one."""
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
