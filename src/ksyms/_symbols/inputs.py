"""Symbol tables from files of any kind: an image, a text or an archive, packed or not."""

from __future__ import annotations

import mmap
import os
import re

from .. import _portable
from .._compressed import FollowedError, contents, is_running, is_stream, read_stream, unpacked
from .._elf import constants as elf
from .._elf import read_image
from .._errors import ImageError, SourceError, reason
from .._typing import TYPE_CHECKING, Final
from .table import SymbolTable

if TYPE_CHECKING:
    from .._note.facts import NoteFacts

_TEXT: Final = rb"(?:[0-9a-f]{8}(?:[0-9a-f]{8})?| {2}(?: {8})?\(null\)) \S \S+"
"""The start of the first line of a kallsyms or a System.map; Linux 4.15 printed (null)."""
_TAR: Final = slice(257, 262)  # POSIX.1, pax, "ustar Interchange Format"


def load(source: str | os.PathLike[str] | memoryview, *, copy: bool = False) -> SymbolTable:
    """Load the symbols of an ELF image, of a saved text, or of an archive of a machine's files.

    For example, with a file that ``ksyms snapshot`` wrote::

        table = ksyms.load("kernel.elf")
        table.lookup(0xFFFFFFFF81000000)

    A mapped file must not change while its table is in use. If it is written to, the table's
    answers change with it. If it is truncated, the next answer from a lost page ends the
    process with SIGBUS (mmap(2)), which no program can turn into an error. It is safe to
    replace the file by renaming a new one over it, as ksyms does. If others can write to the
    file, ``copy`` it.

    Args:
        source: a file, or the ``image`` of a snapshot. The file is an ELF image with a
            ``.symtab`` (a snapshot, a vmlinux, a module, a file of debug info), which stays
            mapped while the table is in use; a saved ``/proc/kallsyms`` or a System.map; the
            image of a kernel, such as a vmlinuz; or a tar with ``proc/kallsyms`` and
            ``proc/modules`` somewhere in it. Each may be packed by gzip, bzip2, xz or zstd, as
            ``ksyms snapshot --portable`` does, and may come through a pipe, which is read to
            its end, 1 GiB at most. ``/proc/kallsyms`` itself is the running kernel.
        copy: read the whole file into memory instead of mapping it, so that later changes of
            the file do not affect the table.

    Raises:
        SourceError: the file cannot be opened, or a text or an archive in it cannot be read.
        ImageError: it is none of these, has no ``.symtab``, or a field of it is wrong.
        KallsymsError: the text is no kallsyms, or was cut short.
        HiddenError: all addresses of the text are zero.
        NoteError: its ``.note.ksyms`` is of a version that this ksyms does not know.
    """
    if isinstance(source, memoryview):
        return SymbolTable(read_image(source.cast("B"), "the image"))
    label = os.fspath(source)
    if is_running(label):
        return _taken(label)
    if _is_stream(label):
        return _of_stream(label)
    try:
        data = contents(label, copy)
    except OSError as error:
        raise _unopened(label, error) from None
    except FollowedError as error:
        from .._images import whole

        return _of_packed(label, whole(label), error)
    except ValueError as error:
        raise _unread(label, error) from None
    table = _table(label, data)
    # A process can open the device only once, so only a packed file is opened again.
    if isinstance(data, bytes) and (told := told_by(label)) is not None:
        _portable.check_matches(told, table.facts, label)
    return table


def told_by(label: str) -> NoteFacts | None:
    """Return the facts that a packed snapshot's header has; None if the file has no header.

    Raises:
        SourceError: the file cannot be opened.
        ImageError: the header is not whole.
    """
    try:
        return _portable.read_header_facts(label)
    except OSError as error:
        raise _unopened(label, error) from None


def _is_stream(label: str) -> bool:
    try:
        return is_stream(label)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False  # opening it reports the reason


def _of_stream(label: str) -> SymbolTable:
    """Return the table of a pipe or a file of /proc, which can be read once only."""
    try:
        packed = read_stream(label)
    except OSError as error:
        raise _unopened(label, error) from None
    except ValueError as error:
        raise _unread(label, error) from None
    try:
        data = unpacked(packed)
    except FollowedError as error:
        return _of_packed(label, packed, error)
    except ValueError as error:
        raise _unread(label, error) from None
    table = _table(label, data)
    if (told := _portable.header_facts(packed, label)) is not None:
        _portable.check_matches(told, table.facts, label)
    return table


def _table(label: str, data: bytes | mmap.mmap) -> SymbolTable:
    """Return the table of ``data``, which is an archive, an ELF image or a text."""
    once = data if isinstance(data, bytes) else None  # unpacked, or read from a stream
    if data[_TAR] == b"ustar":
        return _taken(label, label, data=once)
    if data[: len(elf.ELFMAG)] == elf.ELFMAG:
        return _of_elf(label, data)
    if re.match(_TEXT, data):
        return _taken(label, kallsyms=label, data=once)
    return _of_kernel(label, data)


def _of_elf(label: str, data: bytes | mmap.mmap) -> SymbolTable:
    """The table of an ELF file; of a kernel's without one, what its kallsyms are."""
    try:
        return SymbolTable(read_image(memoryview(data), label))
    except ImageError as error:
        from .._images import has_symbols

        if has_symbols(data, label):
            raise
        try:
            return _of_kernel(label, data)
        except ImageError:
            raise error from None


def _of_kernel(label: str, data: bytes | mmap.mmap) -> SymbolTable:
    """The table of a kernel's image, or of anything that has one in it.

    Raises:
        ImageError: it has none.
    """
    from .._images import HEADERS, files_of, is_kernel

    try:
        files = files_of(data, label)
    except ImageError:
        if is_kernel(data[:HEADERS]):
            raise
        raise ImageError(
            f"{label} is neither an ELF file, nor kallsyms or a System.map, nor an archive, "
            "nor a kernel's image.",
            "Name a file that ksyms snapshot or ksyms collect wrote, a vmlinux, a vmlinuz or a "
            "module.",
        ) from None
    return _taken(label, label, data=files)


def _of_packed(label: str, data: bytes, error: ValueError) -> SymbolTable:
    """The table of a packed kernel that has anything behind it; else ``error`` stands."""
    try:
        return _of_kernel(label, data)
    except ImageError:
        raise _unread(label, error) from None


def _unread(label: str, error: ValueError) -> ImageError:
    return ImageError(f"{label} cannot be read: {error}.", "Name a file that holds a snapshot.")


def _unopened(label: str, error: OSError) -> SourceError:
    return SourceError(
        f"{label} cannot be opened: {reason(error)}.",
        "Name a file that ksyms snapshot wrote.",
        errno=error.errno,
    )


def _taken(
    label: str,
    root: str = "/",
    kallsyms: str | None = None,
    data: bytes | dict[str, bytes] | None = None,
) -> SymbolTable:
    """Take a snapshot of an archive or an image in full, or of a text alone; return its table.

    ``data`` is passed to :class:`~.._linker.Linker`.
    """
    from .._linker import Linker
    from .._snapshot import take

    btf = kallsyms is None
    with Linker(root, kallsyms, debug=None, btf=btf, data=data) as linker:
        return SymbolTable(read_image(take(linker).image, label))
