"""Kernel images, as they lie in /boot or in a device's flash, read as a root of files.

``files_of`` returns files that the kernel would have in /proc and /sys if it ran at the
addresses that it was linked for: its kallsyms, version, notes and types (BTF).
"""

from __future__ import annotations

import os
import re
import stat

from .._errors import ImageError
from .._log import decided
from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import mmap

    from .containers import Candidate
    from .memory import Segment
    from .tables import KallsymsTables

HEADERS: Final = 1 << 17
"""The number of bytes at the start of a file within which every kernel image has its magic."""
_KERNELS: Final = (b"Linux version ", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""Signs that an ELF file without symbols is a kernel, or a loader with a packed one in it.

They are the start of the kernel's banner, and the magics of gzip, xz and zstd.
"""
LARGEST: Final = 1 << 28
"""The most bytes of an image.

A flash has a few dozen MiB, and an image with an initramfs in it some more.
"""
_BANNER: Final = re.compile(
    rb"Linux version \d{1,3}\.\d{1,5}[^\0\n]{0,999} #\d[^\0\n]{1,199}\n\0"
)
"""The kernel's banner (linux_banner).

Since Linux kernel commit 2df8220cc511 ("kbuild: build init/built-in.a just once") (in v6.1)
there is a second, weak banner. It has no build number, so ``#`` and a digit exclude it.
"""
_BUILD_ID: Final = {
    "little": b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0",
    "big": b"\0\0\0\4\0\0\0\x14\0\0\0\3GNU\0",
}
"""The header and the name of a note with a SHA-1 build-id, by byte order (_elf/notes.py)."""
_NOTES: Final = ("__start_notes", "__stop_notes")  # include/asm-generic/vmlinux.lds.h
_BTF: Final = ("__start_BTF", "__stop_BTF")
_BTF_MAGIC: Final = {"little": b"\x9f\xeb", "big": b"\xeb\x9f"}
_FAMILIES: Final = frozenset({"arm", "i386", "mips", "mips64"})
"""Names of families of machines.

For these ``uname -m`` has the processor's name, which is not in an image, so no
proc/sys/kernel/arch is made.
"""


def files_of(data: bytes | mmap.mmap, label: str) -> dict[str, bytes]:
    """Return the files of a root, by name, that are made from the kernel image ``data``.

    Args:
        data: the bytes of the image.
        label: the name of the image in errors.

    Raises:
        ImageError: it is not a kernel image, is damaged, or has no consistent kallsyms tables.
    """
    from .containers import DamagedError, kernels
    from .tables import MissingError, find_tables

    if len(data) > LARGEST:
        raise _unread(label, f"it is larger than {LARGEST >> 20} MiB")

    # For each candidate without kallsyms: its containers, and what is missing.
    seen: list[str] = []
    try:
        for kernel in kernels(bytes(data)):
            try:
                tables = find_tables(kernel.data)
            except MissingError as error:
                seen.append(_said(kernel, str(error)))
                decided("%s has no kernel there: %s", label, seen[-1])
                continue
            decided("%s has a kernel: %s", label, _said(kernel, "it has kallsyms"))
            return _files(kernel, tables)
    except DamagedError as error:
        raise _unread(label, str(error)) from None
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        seen.append(f"what is packed in it needs the package {package} to be unpacked")
        raise _unread(
            label, "; ".join(seen[-_SHOWN:]), "Install it by pip install 'ksyms[images]'."
        ) from None
    raise _unread(label, "; ".join(seen[-_SHOWN:]))


_SHOWN: Final = 3
"""The most candidates that an error lists, the last ones that were tried."""


def files_at(path: str) -> dict[str, bytes] | None:
    """Return the files of a root, by name, that are made from the kernel image at ``path``.

    None if it is an ELF file with symbols, or not a kernel image. The caller then reads it as
    an ELF file, and that reader reports what is wrong with it.

    Raises:
        ImageError: it is a kernel image, but :func:`files_of` cannot read it.
    """
    from .._compressed import FollowedError, contents

    try:
        data, sure = contents(path), True
    except FollowedError:
        data, sure = whole(path), False
    except (OSError, ValueError):
        return None

    if data[:4] == b"\x7fELF" and has_symbols(data, path):
        return None

    try:
        return files_of(data, path)
    except ImageError:
        if sure and is_kernel(data[:HEADERS]):
            raise
        return None


def whole(path: str) -> bytes:
    """Return the bytes of the file at ``path`` without unpacking them.

    This is for a packed kernel with other data after it: a boot loader's Image.gz can have a
    device tree there. Empty if it is not a regular file, cannot be read, or has more than
    :data:`LARGEST` bytes.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                data = file.read(LARGEST + 1)
                return data if len(data) <= LARGEST else b""
    except OSError:
        pass
    return b""


def has_symbols(data: bytes | mmap.mmap, label: str) -> bool:
    """Return True if the ELF file ``data`` has a symbol table, or no sign of a kernel.

    True also if a field of it is wrong. ``label`` is its name in errors.
    """
    from .._elf import find_symtab, read_image

    with memoryview(data) as view:
        try:
            if find_symtab(read_image(view, label)) is not None:
                return True
        except ImageError:
            return True  # the reader of ELF files then reports the wrong field
    return not any(data.find(sign) >= 0 for sign in _KERNELS)


def is_kernel(data: bytes) -> bool:
    """Return True if ``data`` starts as a container, or as a kernel image with a header."""
    from .containers import is_container

    return is_container(data)


_WHOLE: Final = "Name a kernel that was built with CONFIG_KALLSYMS, whole and as it was built."


def _said(kernel: Candidate, what: str) -> str:
    """Return ``what`` for a message, with the containers of ``kernel`` before it.

    For example ``in an Android boot image, in it an EFI zboot image, it has kallsyms``.
    """
    inside = ", in it ".join(kernel.inside)
    return f"in {inside}, {what}" if inside else what


def _unread(label: str, why: str, remedy: str = _WHOLE) -> ImageError:
    """Return the error for an image whose symbols cannot be read."""
    return ImageError(f"{label} has no kernel symbols that can be read: {why}.", remedy)


def _files(kernel: Candidate, tables: KallsymsTables) -> dict[str, bytes]:
    """Return the files of a root, by name, for ``kernel``, whose symbols are in ``tables``."""
    from .containers import machine_of
    from .memory import segments

    data, order = kernel.data, tables.order
    parts = segments(data, order, tables.bits)
    marks = _marks(tables)

    files = {
        "proc/kallsyms": _text(tables),
        "sys/kernel/cpu_byteorder": order.encode(),
    }

    machine = machine_of(data) or kernel.machine
    if machine is not None and machine not in _FAMILIES:
        files["proc/sys/kernel/arch"] = machine.encode()
    if (banner := _BANNER.search(data)) is not None:
        files["proc/version"] = banner[0][:-1]

    notes = _between(data, parts, marks, _NOTES)
    if notes is None or _BUILD_ID[order] not in notes:
        notes = _only_build_id(data, _BUILD_ID[order])
    if notes is not None:
        files["sys/kernel/notes"] = notes

    types = _between(data, parts, marks, _BTF)
    if types is not None and types.startswith(_BTF_MAGIC[order]):
        files["sys/kernel/btf/vmlinux"] = types
    return files


def _text(tables: KallsymsTables) -> bytes:
    """Return the kallsyms text of the kernel's own symbols (kernel/kallsyms.c, s_show)."""
    line = f"%0{tables.bits // 4}x %c %b\n".encode()
    rows = zip(tables.address.tolist(), tables.names)
    return b"".join([line % (address, name[:1], name[1:]) for address, name in rows])


def _marks(tables: KallsymsTables) -> dict[str, int]:
    """Return the addresses of the symbols that bound the notes and the BTF, by name."""
    wanted = {name.encode(): name for name in (*_NOTES, *_BTF)}
    return {
        wanted[name[1:]]: int(tables.address[number])
        for number, name in enumerate(tables.names)
        if name[1:] in wanted
    }


def _between(
    data: bytes, parts: list[Segment], marks: dict[str, int], ends: tuple[str, str]
) -> bytes | None:
    """Return the bytes of ``data`` between two symbols; None if they are not all in it.

    Args:
        data: the kernel.
        parts: its segments.
        marks: addresses of symbols by name.
        ends: the names of the first and of the last symbol.
    """
    from .memory import place_of

    first, last = (place_of(parts, marks[end]) if end in marks else None for end in ends)
    if first is None or last is None or not first < last <= len(data):
        return None
    return data[first:last]


def _only_build_id(data: bytes, begin: bytes) -> bytes | None:
    """Return the only note with a build-id in ``data``: ``begin`` and the 20 bytes of a SHA-1.

    None if there is none, or more than one: then one of them can be a vDSO's.
    """
    first = data.find(begin)
    if first < 0 or data.find(begin, first + 1) >= 0:
        return None
    return data[first : first + len(begin) + 20]
