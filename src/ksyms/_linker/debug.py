"""Exact sizes, types and bindings, from files that were built with what runs.

kallsyms has none of these. A module's ``.ko`` and the kernel's ``vmlinux`` do; one is
trusted only where its build-id is the running one's, for a file can have been replaced
since it was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from .._compressed import COMPRESSED, contents_of
from .._elf import Image, Shdr, build_id, read_image
from .._elf import constants as elf
from .._errors import ImageError, reason
from .._note import SECTION
from .._typing import Final, NamedTuple
from .files import Role, Symbols
from .modules import Sections
from .root import Root

_PERCPU: Final = ".data..percpu"
_ENDINGS: Final = (".ko", ".ko.debug", *(f".ko{ending}" for ending in COMPRESSED))


class Exact(NamedTuple):
    """What a file knows of a linker file: by address and name, ``st_size`` and ``st_info``.

    ``sections`` are the sizes in bytes of its sections by name; ``slide`` is how far what
    runs is from where the file was linked.
    """

    path: str
    symbols: dict[tuple[int, bytes], tuple[int, int]]
    sections: dict[str, int]
    slide: int = 0


class _Row(NamedTuple):
    """A symbol as it lies in its file: ``told`` is ``st_size`` and ``st_info``."""

    name: bytes
    section: str | None
    value: int
    told: tuple[int, int]


class _File(NamedTuple):
    """A file that was built with what runs: its symbols, and its sections' sizes by name."""

    path: str
    rows: list[_Row]
    sizes: dict[str, int]


class _Place(NamedTuple):
    """Where a file may be; ``open`` gives its descriptor, which under a root is of it."""

    path: str
    open: Callable[[], int]


class DebugFiles:
    """Where the files are looked for: the usual places under a root, and ``directories``.

    ``refused`` has, by path, why a file that was found is not trusted. ``progress`` is
    called with the number of bytes each time a file has been read.
    """

    def __init__(
        self,
        root: Root,
        release: str | None,
        directories: tuple[str, ...],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.root = root
        self.progress = progress
        self.release = release
        self.directories = directories
        self._named = release is not None and "/" not in release and release.isprintable()
        self.refused: dict[str, str] = {}
        self._modules: dict[str, list[_Place]] | None = None
        self._files: dict[str, tuple[object, _File | None]] = {}

    def module(
        self, name: str, identity: bytes | None, sections: Sections, symbols: Symbols
    ) -> Exact | None:
        """What the file of module ``name`` knows, given its sections and symbols now."""
        if identity is None or not sections.starts:
            return None
        for place in self._module_places().get(name, ()):
            file = self._file(place, identity)
            if file is not None:
                starts = dict(zip(sections.names, sections.starts))
                return _placed(file, starts, _percpu(symbols))
        return None

    def kernel(self, identity: bytes | None, stext: int | None) -> Exact | None:
        """What a vmlinux knows, moved to where ``_stext`` is now."""
        if identity is None or stext is None:
            return None
        for place in self._kernel_places(identity):
            file = self._file(place, identity)
            base = [row.value for row in file.rows if row.name == b"_stext"] if file else []
            if file is not None and base:
                slide = stext - base[0]
                symbols: dict[tuple[int, bytes], tuple[int, int]] = {}
                for name, _, value, told in file.rows:
                    symbols.setdefault((value + slide, name), told)
                return Exact(file.path, symbols, file.sizes, slide)
        return None

    def _module_places(self) -> dict[str, list[_Place]]:
        """The places of module files by the module's name, in the order to try them."""
        if self._modules is None:
            self._modules = {}
            places = []
            for directory in self.directories:
                for above, _, names in os.walk(directory):
                    places += [_given(os.path.join(above, name)) for name in sorted(names)]
            if self._named:
                base = f"lib/modules/{self.release}"
                listed = (self.root.read(f"{base}/modules.dep") or b"").decode(
                    "utf-8", "replace"
                )
                names = [line.partition(":")[0] for line in listed.splitlines()]
                places += [self._below(f"{base}/{name}") for name in names]
            for place in places:
                stem, dot, ending = os.path.basename(place.path).partition(".")
                if dot + ending in _ENDINGS:
                    self._modules.setdefault(stem.replace("-", "_"), []).append(place)
        return self._modules

    def _kernel_places(self, identity: bytes) -> list[_Place]:
        release, digits = self.release, identity.hex()
        names = ["vmlinux", f".build-id/{digits[:2]}/{digits[2:]}.debug"]
        usual = ["usr/lib/debug", "boot", ""]
        if self._named:
            names[1:1] = [
                f"vmlinux-{release}",
                f"boot/vmlinux-{release}",
                f"lib/modules/{release}/vmlinux",
            ]
            usual.insert(2, f"lib/modules/{release}/build")
        places = [_given(os.path.join(base, n)) for base in self.directories for n in names]
        places += [self._below(os.path.join(base, name)) for base in usual for name in names]
        return list({place.path: place for place in places}.values())

    def _below(self, name: str) -> _Place:
        """The place of ``name`` under the root."""
        return _Place(self.root.name_of(name), partial(self.root.open, name))

    def _file(self, place: _Place, identity: bytes) -> _File | None:
        """The file, if it can be read and was built with what runs; unpacked only once."""
        path = place.path
        try:
            fd = place.open()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.refused[path] = reason(error)
            return None
        except ValueError as error:
            self.refused[path] = f"it cannot be read: {error}"
            return None
        try:
            status = os.fstat(fd)
            state = (identity, status.st_ino, status.st_mtime_ns, status.st_size)
            kept = self._files.get(path)
            if kept is None or kept[0] != state:
                kept = self._files[path] = state, self._opened(path, os.dup(fd), identity)
            return kept[1]
        except OSError as error:
            self.refused[path] = reason(error)
        except (ImageError, ValueError) as error:
            self.refused[path] = f"it cannot be read: {error}"
        finally:
            os.close(fd)
        return None

    def _opened(self, path: str, fd: int, identity: bytes) -> _File | None:
        data = memoryview(contents_of(fd))
        if self.progress is not None:
            self.progress(len(data))
        image = read_image(data, path)
        found = _identity(image)
        if found == identity and SECTION in image.section_names():
            self.refused[path] = "it is a snapshot itself, whose sizes can be inferred"
            return None
        if found == identity:
            return _read(path, image)
        told = found.hex() if found else "none"
        self.refused[path] = f"its build-id is {told}, and {identity.hex()} runs"
        return None


def _given(path: str) -> _Place:
    """A place that whoever asks has named."""
    # Without O_NONBLOCK a FIFO would keep us here until somebody writes to it.
    return _Place(path, partial(os.open, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def with_exact(symbols: Symbols, exact: Exact) -> Symbols:
    """``symbols`` with the size, type and binding of each that ``exact`` knows.

    A name without a size (an alias by assembly, a mark by the linker) has that of the longest
    that begins at its address: else it would answer for what is behind that one.
    """
    size = np.zeros(len(symbols.address), np.uint64)
    known = np.zeros(len(symbols.address), np.bool_)
    info = symbols.info.copy()
    for row, place in enumerate(zip(symbols.address.tolist(), _names(symbols))):
        found = exact.symbols.get(place)
        if found is None:
            continue
        length, told = found
        if told & 0xF in (elf.STT_FUNC, elf.STT_OBJECT) and info[row] & 0xF:
            info[row] = told  # but one that the kernel ignores stays so: kallsyms_symbols.py
        if length:
            size[row], known[row] = length, True
    longest: dict[int, int] = {}
    for address, length in zip(symbols.address[known].tolist(), size[known].tolist()):
        longest[address] = max(length, longest.get(address, 0))
    for row in np.flatnonzero(~known & (symbols.role == Role.NAMES)).tolist():
        if length := longest.get(int(symbols.address[row]), 0):
            size[row], known[row] = length, True
    return symbols._replace(info=info, size=size, exact=known)


def _names(symbols: Symbols) -> Iterator[bytes]:
    strings = symbols.strings.tobytes()
    return (strings[at : strings.index(b"\0", at)] for at in symbols.name.tolist())


def _percpu(symbols: Symbols) -> dict[bytes, int]:
    """The addresses of a module's per-CPU symbols by name, and of its other absolute ones.

    sysfs has no section for them, but the kernel gives them a letter of their own
    (kernel/module/kallsyms.c, elf_type).
    """
    letters = symbols.letter.tolist()
    if not {ord("a"), ord("A")} & {*letters}:
        return {}
    rows = zip(letters, _names(symbols), symbols.address.tolist())
    return {name: address for letter, name, address in rows if letter in b"aA"}


def _identity(image: Image) -> bytes | None:
    return next(filter(None, map(build_id, image.notes())), None)


def _read(path: str, image: Image) -> _File:
    """The symbols of ``image``, and its sections' sizes."""
    names = image.section_names()
    rows: list[_Row] = []
    for section in image.sections:
        if section.sh_type == elf.SHT_SYMTAB:
            rows = _rows(image, section, names)
    return _File(path, rows, {name: s.sh_size for name, s in zip(names, image.sections)})


def _rows(image: Image, symtab: Shdr, names: list[str]) -> list[_Row]:
    fmt = image.format
    if symtab.sh_size % fmt.sym.size or symtab.sh_link >= len(image.sections):
        raise image.wrong(
            f".symtab's sh_size is {symtab.sh_size}, its sh_link {symtab.sh_link}"
        )
    table = image.contents(symtab)
    found = image.names_at(
        image.sections[symtab.sh_link], (sym.st_name for sym in fmt.sym.unpack_all(table))
    )
    return [
        _Row(
            found[sym.st_name],
            names[sym.st_shndx] if sym.st_shndx < len(names) else None,
            sym.st_value,
            (sym.st_size, sym.st_info),
        )
        for sym in fmt.sym.unpack_all(table)
        if sym.st_shndx != elf.SHN_UNDEF and sym.st_info & 0xF != elf.STT_SECTION
    ]


def _placed(file: _File, starts: dict[str, int], percpu: dict[bytes, int]) -> Exact:
    """What a module's file knows where its sections begin at ``starts``."""
    own = [row for row in file.rows if row.section == _PERCPU and row.name in percpu]
    bases = {percpu[row.name] - row.value for row in own}
    if len(bases) == 1:  # several of one name would give others
        starts = {**starts, _PERCPU: bases.pop()}
    found: dict[tuple[int, bytes], tuple[int, int]] = {}
    for name, section, value, told in file.rows:
        if section in starts:
            found.setdefault((starts[section] + value, name), told)
    return Exact(file.path, found, file.sizes)
