"""ksyms: the kernel's symbols as one consistent ELF file.

::

    import ksyms

    snapshot = ksyms.snapshot()          # of this kernel, now
    snapshot.write("kernel.elf")

    table = ksyms.load("kernel.elf")     # on any machine, at any later time
    table.lookup(0xFFFFFFFF81000000)
    table.find("schedule")

    with ksyms.open("/dev/ksyms") as handle:   # served by ksyms serve
        handle.table.find("schedule")

Importing ksyms imports nothing heavy: the module of a name is imported when the name is first
used.
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
"""The module that has each name of the package, and what it is called there."""


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
        root: the directory that has the kernel's ``proc`` and ``sys``: ``/`` for the running
            kernel, or the saved files of another machine; or an archive of them.
        layout: ``linux``, the layout that the tools of Linux open (docs/format.md), or
            ``freebsd``, the layout of FreeBSD's driver (docs/driver.md).
        kallsyms: a saved kallsyms text by itself; ``root`` is not read then.
        debug_dirs: directories in which to look for a vmlinux and modules' files with exact
            sizes, before the usual ones below ``root``.
        kernel: the kernel's own file, an ELF file or an image such as a vmlinuz; ``root`` is
            not read then.
        modules: with ``kernel``, the ELF file of each module, and the address to which it was
            loaded, or a mapping of an object file's section names to their addresses.
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
        ValueError: there is no such layout; or ``modules`` are given without ``kernel``, or
            ``btf`` with ``kernel`` or with another layout.
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
    """Return a module's file with its address, or with the addresses of its sections."""
    from ._linker.elf_table import ModuleFile

    if isinstance(loaded_to, int):
        return ModuleFile(path, loaded_to)
    return ModuleFile(path, None, loaded_to)


def _resolve(name: str) -> object:
    """Return the value of ``name``: import its module, and keep the value in this one.

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
