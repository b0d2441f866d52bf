"""Exact sizes, types and bindings, from files that were built with what runs.

kallsyms has none of these. A module's ``.ko`` and the kernel's ``vmlinux`` do; one is
trusted only where its build-id is the running one's, for a file can have been replaced
since it was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np

from .._elf import Image, Shdr, build_id, parse_notes, read_image
from .._elf import constants as elf
from .._errors import ImageError, reason
from .compressed import COMPRESSED, contents
from .files import Symbols
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
        self.refused: dict[str, str] = {}
        self._modules: dict[str, list[str]] | None = None

    def module(
        self, name: str, identity: bytes | None, sections: Sections, symbols: Symbols
    ) -> Exact | None:
        """What the file of module ``name`` knows, given its sections and symbols now."""
        if identity is None or not sections.starts:
            return None
        for path in self._module_paths().get(name, ()):
            image = self._open(path, identity)
            if image is not None:
                starts = dict(zip(sections.names, sections.starts))
                return self._exact(path, image, starts, _percpu(symbols))
        return None

    def kernel(self, identity: bytes | None, stext: int | None) -> Exact | None:
        """What a vmlinux knows, moved to where ``_stext`` is now."""
        if identity is None or stext is None:
            return None
        for path in self._kernel_paths(identity):
            image = self._open(path, identity)
            if image is None:
                continue
            linked = self._exact(path, image, None, {})
            base = [a for a, name in (linked.symbols if linked else ()) if name == b"_stext"]
            if linked is not None and base:
                return _moved(linked, stext - base[0])
        return None

    def _module_paths(self) -> dict[str, list[str]]:
        """The paths of module files by the module's name, in the order to try them."""
        if self._modules is None:
            self._modules = {}
            paths = []
            for directory in self.directories:
                for place, _, names in os.walk(directory):
                    paths += [os.path.join(place, name) for name in sorted(names)]
            base = f"lib/modules/{self.release}"
            listed = (self.root.read(f"{base}/modules.dep") or b"").decode("utf-8", "replace")
            names = [line.partition(":")[0] for line in listed.splitlines()]
            paths += [self.root.name_of(f"{base}/{name}") for name in names]
            for path in paths:
                stem, dot, ending = os.path.basename(path).partition(".")
                if dot + ending in _ENDINGS:
                    self._modules.setdefault(stem.replace("-", "_"), []).append(path)
        return self._modules

    def _kernel_paths(self, identity: bytes) -> list[str]:
        release, digits = self.release, identity.hex()
        places = (
            "vmlinux",
            f"vmlinux-{release}",
            f"boot/vmlinux-{release}",
            f"lib/modules/{release}/vmlinux",
            f".build-id/{digits[:2]}/{digits[2:]}.debug",
        )
        paths = [os.path.join(base, p) for base in self.directories for p in places]
        for usual in ("usr/lib/debug", "boot", f"lib/modules/{release}/build", ""):
            paths += [os.path.join(self.root.path, usual, p) for p in places]
        return [path for path in dict.fromkeys(paths) if os.path.isfile(path)]

    def _open(self, path: str, identity: bytes) -> Image | None:
        """The file, if it can be read and was built with what runs."""
        try:
            data = memoryview(contents(path))
            if self.progress is not None:
                self.progress(len(data))
            image = read_image(data, path)
            found = _identity(image)
        except OSError as error:
            if os.path.exists(path):
                self.refused[path] = reason(error)
            return None
        except (ImageError, ValueError) as error:
            self.refused[path] = f"it cannot be read: {error}"
            return None
        if found == identity:
            return image
        told = found.hex() if found else "none"
        self.refused[path] = f"its build-id is {told}, and {identity.hex()} runs"
        return None

    def _exact(
        self,
        path: str,
        image: Image,
        starts: dict[str, int] | None,
        percpu: dict[bytes, int],
    ) -> Exact | None:
        try:
            return _read(path, image, starts, percpu)
        except ImageError as error:
            self.refused[path] = error.what
            return None


def with_exact(symbols: Symbols, exact: Exact) -> Symbols:
    """``symbols`` with the size, type and binding of each that ``exact`` knows."""
    size = np.zeros(len(symbols.address), np.uint64)
    known = np.zeros(len(symbols.address), np.bool_)
    info = symbols.info.copy()
    for row, place in enumerate(zip(symbols.address.tolist(), _names(symbols))):
        found = exact.symbols.get(place)
        if found is None:
            continue
        length, told = found
        if told & 0xF in (elf.STT_FUNC, elf.STT_OBJECT):
            info[row] = told
        if length:
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


def _moved(linked: Exact, slide: int) -> Exact:
    symbols = {
        (address + slide, name): told for (address, name), told in linked.symbols.items()
    }
    return linked._replace(symbols=symbols, slide=slide)


def _identity(image: Image) -> bytes | None:
    for section in image.sections:
        if section.sh_type == elf.SHT_NOTE:
            found = build_id(parse_notes(image.contents(section), image.format))
            if found is not None:
                return found
    return None


def _read(
    path: str, image: Image, starts: dict[str, int] | None, percpu: dict[bytes, int]
) -> Exact:
    """The symbols of ``image``, each at its section's start where ``starts`` gives those."""
    names = image.section_names()
    symbols = {}
    for section in image.sections:
        if section.sh_type == elf.SHT_SYMTAB:
            symbols = _symbols(image, section, names, starts, percpu)
    sizes = {name: s.sh_size for name, s in zip(names, image.sections)}
    return Exact(path, symbols, sizes)


def _symbols(
    image: Image,
    symtab: Shdr,
    names: list[str],
    starts: dict[str, int] | None,
    percpu: dict[bytes, int],
) -> dict[tuple[int, bytes], tuple[int, int]]:
    fmt = image.format
    if symtab.sh_size % fmt.sym.size or symtab.sh_link >= len(image.sections):
        raise image.wrong(
            f".symtab's sh_size is {symtab.sh_size}, its sh_link {symtab.sh_link}"
        )
    strings = bytes(image.contents(image.sections[symtab.sh_link]))
    rows = [
        (strings[sym.st_name : strings.find(b"\0", sym.st_name)], sym)
        for sym in fmt.sym.unpack_all(image.contents(symtab))
        if sym.st_shndx != elf.SHN_UNDEF and sym.st_info & 0xF != elf.STT_SECTION
    ]
    if starts is not None and _PERCPU in names:
        own = [(name, sym) for name, sym in rows if sym.st_shndx == names.index(_PERCPU)]
        bases = {percpu[name] - sym.st_value for name, sym in own if name in percpu}
        if len(bases) == 1:  # several of one name would give others
            starts = {**starts, _PERCPU: bases.pop()}
    found: dict[tuple[int, bytes], tuple[int, int]] = {}
    for name, sym in rows:
        base = 0
        if starts is not None:
            if sym.st_shndx >= len(names) or names[sym.st_shndx] not in starts:
                continue
            base = starts[names[sym.st_shndx]]
        found.setdefault((base + sym.st_value, name), (sym.st_size, sym.st_info))
    return found
