"""ksyms: the kernel's symbols as one consistent ELF file.

::

    import ksyms

    snapshot = ksyms.snapshot()          # of this kernel, now
    snapshot.write("kernel.elf")

    table = ksyms.load("kernel.elf")     # anywhere, any time later
    table.lookup(0xFFFFFFFF81000000)
    table.find("schedule")

    with ksyms.open("/dev/ksyms") as handle:   # served by ksyms serve
        handle.table.find("schedule")

Importing ksyms imports nothing heavy: a name's module is imported when it is first used.
"""

from __future__ import annotations

from ._errors import (
    DecodeError,
    DeviceError,
    HiddenError,
    ImageError,
    KallsymsError,
    KsymsError,
    LayoutError,
    MovedError,
    NoteError,
    OutputError,
    ServeError,
    SourceError,
)
from ._typing import TYPE_CHECKING, Final
from ._version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from ._handle import Handle
    from ._handle import open_handle as open  # noqa: A004 # the public name
    from ._linker.elf_table import ModuleFile
    from ._snapshot import Snapshot
    from ._symbols import Symbol, SymbolTable, load

__all__ = [
    "DecodeError",
    "DeviceError",
    "Handle",
    "HiddenError",
    "ImageError",
    "KallsymsError",
    "KsymsError",
    "LayoutError",
    "MovedError",
    "NoteError",
    "OutputError",
    "ServeError",
    "Snapshot",
    "SourceError",
    "Symbol",
    "SymbolTable",
    "__version__",
    "load",
    "open",
    "snapshot",
]

_ROOMS: Final = {
    "Handle": ("_handle", "Handle"),
    "Snapshot": ("_snapshot", "Snapshot"),
    "Symbol": ("_symbols", "Symbol"),
    "SymbolTable": ("_symbols", "SymbolTable"),
    "load": ("_symbols", "load"),
    "open": ("_handle", "open_handle"),
}
"""The module of each name, and the name's own name there."""


def snapshot(
    root: str | os.PathLike[str] = "/",
    layout: str = "linux",
    *,
    kallsyms: str | os.PathLike[str] | None = None,
    debug_dirs: Sequence[str | os.PathLike[str]] = (),
    kernel: str | os.PathLike[str] | None = None,
    modules: Sequence[tuple[str | os.PathLike[str], int | Mapping[str, int]]] = (),
    btf: bool = False,
) -> Snapshot:
    """Take a snapshot of a kernel's symbols.

    Examples::

        ksyms.snapshot().write("kernel.elf")                     # the running kernel
        ksyms.snapshot("host.tar.gz", debug_dirs=["/srv/debug"])  # another machine's files
        ksyms.snapshot(kernel="vmlinux", modules=[("dummy.ko", 0xFFFFFFFFC0100000)])

    Args:
        root: the directory that holds the kernel's ``proc`` and ``sys``: ``/`` for the
            running kernel, or the saved files of another machine; or an archive of them.
        layout: ``linux``, the layout that the tools of Linux open (docs/format.md), or
            ``freebsd``, the one of FreeBSD's driver (docs/driver.md).
        kallsyms: a saved kallsyms text by itself; ``root`` is then not read.
        debug_dirs: directories that are searched for a vmlinux and modules' files with exact
            sizes, before the usual ones below ``root``.
        kernel: the kernel's own file, ELF or an image such as a vmlinuz; ``root`` is then
            not read.
        modules: with ``kernel``: each module's ELF file, and the address it was loaded to, or a
            mapping of an object file's section names to their addresses.
        btf: put the kernel's and the modules' types (BTF) into the image too, if the kernel
            shows them; only in the ``linux`` layout, and not with ``kernel``.

    Returns:
        The image, in memory; it never changes.

    Raises:
        HiddenError: the kernel shows this process no addresses.
        SourceError: the text of kallsyms, or an ELF file, cannot be read.
        ImageError: a file is no ELF file, or a field of it is wrong.
        KallsymsError: the text is no kallsyms, or was cut short.
        MovedError: the symbols moved during each of three tries.
        LayoutError: the symbols are more than the layout can express.
        ValueError: there is no such layout, or ``modules`` without ``kernel``, or ``btf`` with
            ``kernel`` or another layout.
    """
    import os

    from ._snapshot import take_chosen
    from ._sources import KALLSYMS, KERNEL, ROOT, Input

    if btf and (kernel is not None or layout != "linux"):
        raise ValueError("btf is the linux layout's, and not with kernel")
    if modules and kernel is None:
        raise ValueError("modules need a kernel")
    if kernel is not None:
        path, argument = kernel, KERNEL
    elif kallsyms is not None:
        path, argument = kallsyms, KALLSYMS
    else:
        path, argument = root, ROOT
    given = Input(
        os.fspath(path),
        argument,
        modules=[_module_file(os.fspath(file), loaded_to) for file, loaded_to in modules],
        debug=tuple(os.fspath(directory) for directory in debug_dirs),
        btf=btf,
    )
    return take_chosen(given, layout)


def _module_file(path: str, loaded_to: int | Mapping[str, int]) -> ModuleFile:
    """Return a module's file with its address, or with its sections' addresses."""
    from ._linker.elf_table import ModuleFile

    if isinstance(loaded_to, int):
        return ModuleFile(path, loaded_to)
    return ModuleFile(path, None, loaded_to)


def _resolve(name: str) -> object:
    """Import the module that has ``name``, and keep its value under that name here.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    room, there = _ROOMS[name]
    value: object = getattr(import_module(f".{room}", __name__), there)
    globals()[name] = value
    return value


# A type checker that sees a __getattr__ accepts any name as one of the package's.
if not TYPE_CHECKING:
    __getattr__ = _resolve
