"""Debug files, which have exact sizes, types and bindings of symbols: ``.ko`` and ``vmlinux``.

A file is trusted only if its build-id is that of the running kernel or module, since the file
may have been replaced after that was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from .._compressed import COMPRESSED, contents_of
from .._elf import ElfFile, Shdr, build_id, read_image
from .._elf import constants as elf
from .._errors import ImageError, reason
from .._note import SECTION
from .._typing import Final, NamedTuple
from .files import Symbols
from .modules import Sections
from .root import Root

_PERCPU: Final = ".data..percpu"
_ENDINGS: Final = (".ko", ".ko.debug", *(f".ko{ending}" for ending in COMPRESSED))


class DebugSymbols(NamedTuple):
    """The symbols of a debug file, at the addresses where they are now.

    ``symbols`` has ``st_size`` and ``st_info`` by address and name. ``sections`` has the sizes
    in bytes of the file's sections, by name. ``slide`` is the kernel's slide, and 0 for a
    module.
    """

    path: str
    symbols: dict[tuple[int, bytes], tuple[int, int]]
    sections: dict[str, int]
    slide: int = 0


class _Row(NamedTuple):
    """A symbol as it is in a debug file.

    ``value`` is ``st_value``: a link address in a vmlinux, an offset into ``section`` in a
    module's file. ``size_and_info`` are ``st_size`` and ``st_info``.
    """

    name: bytes
    section: str | None
    value: int
    size_and_info: tuple[int, int]


class _File(NamedTuple):
    """A debug file: its symbols, and the sizes of its sections in bytes, by name."""

    path: str
    rows: list[_Row]
    sizes: dict[str, int]


class _DebugPath(NamedTuple):
    """A path that may be a debug file's.

    ``open`` opens it and returns the descriptor. Below a root, links never lead out of it.
    """

    path: str
    open: Callable[[], int]


class DebugFiles:
    """Finds debug files in the given directories, and in the usual directories of a root.

    ``refused`` has, by path, the reason why a file is not trusted.

    Args:
        root: the kernel's files.
        release: the kernel's release, which is part of some of the usual paths.
        directories: directories to search before the usual ones.
        progress: called with the number of bytes each time a file has been read.
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
        self._modules: dict[str, list[_DebugPath]] | None = None
        self._files: dict[str, tuple[object, _File | None]] = {}

    def find_module(
        self, name: str, build_id: bytes | None, sections: Sections, symbols: Symbols
    ) -> DebugSymbols | None:
        """Return the symbols of module ``name`` in its debug file; None if there is none.

        Args:
            name: the module's name.
            build_id: the build-id that the file must have.
            sections: the module's sections in memory.
            symbols: the module's symbols in kallsyms.
        """
        if build_id is None or not sections.starts:
            return None
        for candidate in self._module_candidates().get(name, ()):
            file = self._file(candidate, build_id)
            if file is not None:
                starts = dict(zip(sections.names, sections.starts))
                return _at_sections(file, starts, _percpu(symbols))
        return None

    def find_kernel(self, build_id: bytes | None, stext: int | None) -> DebugSymbols | None:
        """Return the symbols of the kernel in its debug file; None if there is none.

        Args:
            build_id: the build-id that the file must have.
            stext: the address of ``_stext`` now, which gives the slide.
        """
        if build_id is None or stext is None:
            return None
        for candidate in self._kernel_candidates(build_id):
            file = self._file(candidate, build_id)
            base = [row.value for row in file.rows if row.name == b"_stext"] if file else []
            if file is not None and base:
                slide = stext - base[0]
                symbols: dict[tuple[int, bytes], tuple[int, int]] = {}
                for name, _, value, size_and_info in file.rows:
                    symbols.setdefault((value + slide, name), size_and_info)
                return DebugSymbols(file.path, symbols, file.sizes, slide)
        return None

    def _module_candidates(self) -> dict[str, list[_DebugPath]]:
        """Return the paths that may be debug files, by module, in the order to try them.

        The name of a module has no ``-``: snd-pcm.ko is that of ``snd_pcm``.
        """
        if self._modules is None:
            self._modules = {}
            candidates = []
            for directory in self.directories:
                for above, _, names in os.walk(directory):
                    candidates += [_given(os.path.join(above, name)) for name in sorted(names)]

            if self._named:
                base = f"lib/modules/{self.release}"
                listed = (self.root.read(f"{base}/modules.dep") or b"").decode(
                    "utf-8", "replace"
                )
                names = [line.partition(":")[0] for line in listed.splitlines()]
                candidates += [self._below(f"{base}/{name}") for name in names]

            for candidate in candidates:
                stem, dot, ending = os.path.basename(candidate.path).partition(".")
                if dot + ending in _ENDINGS:
                    self._modules.setdefault(stem.replace("-", "_"), []).append(candidate)
        return self._modules

    def _kernel_candidates(self, build_id: bytes) -> list[_DebugPath]:
        """Return the paths that may be the kernel's debug file, in the order to try them."""
        release, digits = self.release, build_id.hex()
        names = ["vmlinux", f".build-id/{digits[:2]}/{digits[2:]}.debug"]
        usual = ["usr/lib/debug", "boot", ""]
        if self._named:
            names[1:1] = [
                f"vmlinux-{release}",
                f"boot/vmlinux-{release}",
                f"lib/modules/{release}/vmlinux",
            ]
            usual.insert(2, f"lib/modules/{release}/build")

        found = [_given(os.path.join(base, n)) for base in self.directories for n in names]
        found += [self._below(os.path.join(base, name)) for base in usual for name in names]
        return list({candidate.path: candidate for candidate in found}.values())

    def _below(self, name: str) -> _DebugPath:
        """Return the path ``name`` below the root."""
        return _DebugPath(self.root.name_of(name), partial(self.root.open, name))

    def _file(self, candidate: _DebugPath, build_id: bytes) -> _File | None:
        """Return the file of a path, which is read again only if it has changed.

        None if there is no such file. None too if it cannot be read or has another build-id;
        then ``refused`` has the reason.
        """
        path = candidate.path
        try:
            fd = candidate.open()
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
            state = (build_id, status.st_ino, status.st_mtime_ns, status.st_size)
            kept = self._files.get(path)
            if kept is None or kept[0] != state:
                kept = self._files[path] = state, self._opened(path, os.dup(fd), build_id)
            return kept[1]
        except OSError as error:
            self.refused[path] = reason(error)
        except (ImageError, ValueError) as error:
            self.refused[path] = f"it cannot be read: {error}"
        finally:
            os.close(fd)
        return None

    def _opened(self, path: str, fd: int, build_id: bytes) -> _File | None:
        """Read an open file and close it.

        None if it is not trusted; then ``refused`` has the reason.
        """
        data = memoryview(contents_of(fd))
        if self.progress is not None:
            self.progress(len(data))
        image = read_image(data, path)
        found = build_id_of(image)
        if found == build_id and SECTION in image.section_names():
            self.refused[path] = "it is a snapshot itself, whose sizes can be inferred"
            return None
        if found == build_id:
            return _read(path, image)

        own = found.hex() if found else "none"
        self.refused[path] = f"its build-id is {own}, and {build_id.hex()} runs"
        return None


def _given(path: str) -> _DebugPath:
    """Return a path in a directory that the user named, where links are followed."""
    # Without O_NONBLOCK a FIFO would block until a writer opens it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    return _DebugPath(path, partial(os.open, path, flags))


def names_of(symbols: Symbols) -> Iterator[bytes]:
    """Return the name of each symbol."""
    strings = symbols.strings.tobytes()
    return (strings[at : strings.index(b"\0", at)] for at in symbols.name.tolist())


def _percpu(symbols: Symbols) -> dict[bytes, int]:
    """Return the addresses of a module's absolute symbols by name, with its per-CPU symbols.

    The section of the per-CPU symbols is not in sysfs. The kernel gives them the letter ``a``
    (kernel/module/kallsyms.c, elf_type).
    """
    letters = symbols.letter.tolist()
    if not {ord("a"), ord("A")} & {*letters}:
        return {}
    rows = zip(letters, names_of(symbols), symbols.address.tolist())
    return {name: address for letter, name, address in rows if letter in b"aA"}


def build_id_of(image: ElfFile) -> bytes | None:
    """Return the image's GNU build-id, if it has one."""
    return next(filter(None, map(build_id, image.notes())), None)


def _read(path: str, image: ElfFile) -> _File:
    """Return the symbols of ``image``, and the sizes of its sections."""
    names = image.section_names()
    rows: list[_Row] = []
    for section in image.sections:
        if section.sh_type == elf.SHT_SYMTAB:
            rows = _rows(image, section, names)
    return _File(path, rows, {name: s.sh_size for name, s in zip(names, image.sections)})


def _rows(image: ElfFile, symtab: Shdr, names: list[str]) -> list[_Row]:
    """Return the defined symbols in ``symtab``, except those of sections.

    Raises:
        ImageError: a field is wrong.
    """
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


def _at_sections(file: _File, starts: dict[str, int], percpu: dict[bytes, int]) -> DebugSymbols:
    """Return the symbols of a module's file, moved to where its sections are now.

    sysfs has no address for the per-CPU section, so it is derived from the per-CPU symbols::

        kallsyms    0000000000021040 a counters     in the file at 0x40 of .data..percpu
                    so .data..percpu is at 0x21000

    Args:
        file: the module's debug file.
        starts: the addresses of its sections by name.
        percpu: the addresses of its absolute symbols by name.
    """
    own = [row for row in file.rows if row.section == _PERCPU and row.name in percpu]
    bases = {percpu[row.name] - row.value for row in own}
    if len(bases) == 1:  # two symbols of one name could give different ones
        starts = {**starts, _PERCPU: bases.pop()}

    found: dict[tuple[int, bytes], tuple[int, int]] = {}
    for name, section, value, size_and_info in file.rows:
        if section in starts:
            found.setdefault((starts[section] + value, name), size_and_info)
    return DebugSymbols(file.path, found, file.sizes)
