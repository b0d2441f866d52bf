"""The linker: every linker file of a kernel, in load order, from its text files."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .._elf.constants import (
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    st_info,
)
from .._errors import KallsymsError
from .files import KERNEL_ID, Files, LinkerFile, Symbols
from .generation import Generation, read_generation
from .host import MACHINE_LANDMARKS, hidden, read_host
from .iomem import read_iomem
from .kallsyms import Kallsyms, read_kallsyms
from .link_time import read_link_time
from .modules import PSEUDO, Module, Sections, live_sections, module_build_id, parse_modules
from .regions import LANDMARKS, Owner, inferred_regions, is_absolute, known_regions
from .root import Root

_LANDMARKS: Final = LANDMARKS | MACHINE_LANDMARKS.keys()


def _infos() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for letter in range(256):
        char = chr(letter)
        binding = STB_GLOBAL if "A" <= char <= "Z" else STB_LOCAL
        if char in "wWvV":
            binding = STB_WEAK
        kind = STT_FUNC if char in "tTwWi" else STT_OBJECT
        table[letter] = st_info(binding, kind)
    return table


_LETTER_INFO: Final = _infos()


class Linker:
    """Where a kernel's symbols come from: the running one, or one saved under a root.

    Args:
        root: the directory that holds ``proc`` and ``sys``.
        kallsyms: a kallsyms text by itself, in place of a directory.
        progress: called with the number of bytes each time some have been read.

    Raises:
        SourceError: ``root`` is no directory.
    """

    def __init__(
        self,
        root: str = "/",
        kallsyms: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.root = Root(root, kallsyms)
        self.progress = progress

    def generation(self) -> Generation:
        """The value that differs when the linker files have changed."""
        return read_generation(self.root)

    def files(self) -> Files:
        """Every linker file, from one pass over the kernel's text.

        Raises:
            HiddenError: every address is zero.
            KallsymsError: a text is not what the kernel prints, or was cut short.
            SourceError: the text of kallsyms cannot be read.
        """
        text = read_kallsyms(self.root.kallsyms, _LANDMARKS, self.progress)
        if not text.address.any():
            raise hidden(self.root)
        landmarks = text.landmarks
        if ("_stext" in landmarks) != ("_etext" in landmarks):
            missing = "_etext" if "_stext" in landmarks else "_stext"
            raise KallsymsError(
                f"{self.root.kallsyms} has no {missing}, which every kernel has: "
                "it is not whole.",
                "Save the whole of /proc/kallsyms with cat, and change nothing in it.",
            )
        host = read_host(self.root, text.digits, landmarks)
        known = known_regions(landmarks, read_iomem(self.root, landmarks))
        members = self._members(text)
        owners = [
            Owner(number, m.name, m.symbols.address, m.symbols.letter, m.sections, m.module)
            for number, m in enumerate(members, KERNEL_ID)
        ]
        regions = inferred_regions(owners, known, landmarks)
        files = []
        for owner, member in zip(owners, members):
            own = regions.get(owner.id, ())
            symbols, build_id = member.symbols, host.build_id
            if owner.id == KERNEL_ID:
                own = tuple(sorted((*known, *own), key=lambda r: (r.start, r.end)))
                absolute = is_absolute(owner.address, owner.letter, known)
                symbols = symbols._replace(absolute=absolute)
            else:
                build_id = None
                if owner.name not in PSEUDO:
                    build_id = module_build_id(self.root, owner.name, host.byteorder)
            files.append(
                LinkerFile(
                    id=owner.id,
                    name=owner.name,
                    symbols=symbols,
                    regions=own,
                    stops=np.array(owner.sections.starts, np.uint64),
                    build_id=build_id,
                    module=owner.module,
                )
            )
        return Files(
            files=tuple(files),
            host=host,
            landmarks=landmarks,
            link_time=read_link_time(self.root, host.release, landmarks),
            absent=dict(self.root.absent),
        )

    def _members(self, text: Kallsyms) -> list[_Member]:
        """The kernel, then each module in load order, then what is listed as if it were one."""
        raw = self.root.read("proc/modules")
        path = os.path.join(self.root.path, "proc/modules")
        modules = parse_modules(raw, path) if raw is not None else {}
        lines = _lines(text)
        # kallsyms lists modules as /proc/modules does, the newest first.
        unlisted = [
            name for name in reversed(lines) if name is not None and name not in modules
        ]
        names = [*modules, *(n for n in unlisted if n not in PSEUDO)]
        names += [n for n in PSEUDO if n in lines]
        members = [_Member("kernel", _symbols(text, lines.get(None, [])))]
        for name in names:
            module = modules.get(name)
            sections = Sections((), ())
            if name not in PSEUDO:
                state = module.state if module else "Live"
                sections = live_sections(self.root, name, state)
            members.append(_Member(name, _symbols(text, lines.get(name, [])), sections, module))
        return members


class _Member(NamedTuple):
    name: str
    symbols: Symbols
    sections: Sections = Sections((), ())
    module: Module | None = None


def _lines(text: Kallsyms) -> dict[str | None, list[slice]]:
    """The lines of each bracket, None for the kernel's; a bracket can come again."""
    lines: dict[str | None, list[slice]] = {}
    ends = [start for start, _ in text.runs[1:]] + [len(text.address)]
    for (start, name), end in zip(text.runs, ends):
        lines.setdefault(name, []).append(slice(start, end))
    return lines


def _symbols(text: Kallsyms, lines: list[slice]) -> Symbols:
    tables = [_slice(text, part) for part in lines]
    if len(tables) == 1:
        return tables[0]
    shift, names = 0, []
    for table in tables:
        names.append(table.name + np.uint32(shift))
        shift += len(table.strings)
    empty = Symbols(*(np.zeros(0, t) for t in ("u8", "u4", "u1", "u1", "?", "u1")))
    columns = [np.concatenate(column) for column in zip(empty, *tables)]
    if names:
        columns[1] = np.concatenate(names)
    return Symbols(*columns)


def _slice(text: Kallsyms, lines: slice) -> Symbols:
    start = int(text.name[lines.start])
    last = lines.stop == len(text.address)
    end = len(text.strings) if last else int(text.name[lines.stop])
    strings = text.strings[start:end]
    name = text.name[lines] - np.uint32(start)
    letter = text.letter[lines]
    info = _LETTER_INFO[letter]
    info[_mapping(strings, name)] = st_info(STB_LOCAL, STT_NOTYPE)
    return Symbols(
        text.address[lines], name, info, letter, np.zeros(len(name), np.bool_), strings
    )


def _mapping(
    strings: npt.NDArray[np.uint8], name: npt.NDArray[np.uint32]
) -> npt.NDArray[np.intp]:
    """Which symbols mark a change between code and data and name nothing: ``$x``, ``$d.1``.

    Source: ELF for the Arm 64-bit Architecture, "Mapping symbols"; RISC-V ELF psABI, the
    same. arm64 and riscv kernels list them for modules (before Linux 6.3, 5ec4a4e25ae5).
    """
    dollar = np.flatnonzero(strings[name] == ord("$"))
    after = strings[name[dollar] + np.uint32(1)]
    return dollar[np.isin(after, np.frombuffer(b"adtx", np.uint8))]
