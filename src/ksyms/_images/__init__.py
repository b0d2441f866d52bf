"""A kernel's image, as it lies in /boot or in a flash, read as a root of files.

``files_of`` gives what the kernel would have in /proc and /sys if it ran, at the addresses that
it was linked for: its kallsyms, its version, its notes, its types.
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
"""Bytes in which every image of a kernel says what it is."""
_KERNELS: Final = (b"Linux version ", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""Signs of a kernel, or of the loader around it, in an ELF file without symbols."""
LARGEST: Final = 1 << 28
"""Bytes that an image may have: a flash has a few dozen MiB, an initramfs in it some more."""
_BANNER: Final = re.compile(
    rb"Linux version \d{1,3}\.\d{1,5}[^\0\n]{0,999} #\d[^\0\n]{1,199}\n\0"
)
"""linux_banner. Since 6.1 (2df8220cc511, "kbuild: build init/built-in.a just once") there is a
weak one too, whose build has no number.
"""
_BUILD_ID: Final = {
    "little": b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0",
    "big": b"\0\0\0\4\0\0\0\x14\0\0\0\3GNU\0",
}
"""The beginning of a note with a build-id of SHA-1 (_elf/notes.py)."""
_NOTES: Final = ("__start_notes", "__stop_notes")  # include/asm-generic/vmlinux.lds.h
_BTF: Final = ("__start_BTF", "__stop_BTF")
_BTF_MAGIC: Final = {"little": b"\x9f\xeb", "big": b"\xeb\x9f"}
_FAMILIES: Final = frozenset({"arm", "i386", "mips", "mips64"})
"""Families of machines, which uname -m calls by the processor's name: none is made up."""


def files_of(data: bytes | mmap.mmap, label: str) -> dict[str, bytes]:
    """Return the files of a root, by name, that the kernel image ``data`` stands for.

    Raises:
        ImageError: it is no kernel image, is damaged, or has no kallsyms that hold.
    """
    from .containers import DamagedError, kernels
    from .tables import MissingError, find_tables

    if len(data) > LARGEST:
        raise _unread(label, f"it is larger than {LARGEST >> 20} MiB")
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
"""Places of a file that an error tells of."""


def files_at(path: str) -> dict[str, bytes] | None:
    """Return the files of the kernel image at ``path``; None for an ELF file with symbols.

    None too for what is no image: whoever reads it as an ELF file says why it is none.

    Raises:
        ImageError: it is an image, and :func:`files_of` cannot read it.
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
    """Return the file as it is, packed: a boot loader's Image.gz has a device tree behind it.

    What is larger than an image may be is nothing.
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
    """Return True if an ELF file has a symbol table, or no signs of a kernel."""
    from .._elf import find_symtab, read_image

    with memoryview(data) as view:
        try:
            if find_symtab(read_image(view, label)) is not None:
                return True
        except ImageError:
            return True  # who reads it says why
    return not any(data.find(sign) >= 0 for sign in _KERNELS)


def is_kernel(data: bytes) -> bool:
    """Return True if ``data`` begins as a container of a kernel does."""
    from .containers import is_container

    return is_container(data)


_WHOLE: Final = "Name a kernel that was built with CONFIG_KALLSYMS, whole and as it was built."


def _said(kernel: Candidate, what: str) -> str:
    inside = ", in it ".join(kernel.inside)
    return f"in {inside}, {what}" if inside else what


def _unread(label: str, why: str, remedy: str = _WHOLE) -> ImageError:
    return ImageError(f"{label} has no kernel symbols that can be read: {why}.", remedy)


def _files(kernel: Candidate, tables: KallsymsTables) -> dict[str, bytes]:
    """The files of the root that ``kernel``, whose symbols are in ``tables``, stands for."""
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
    """The kallsyms text of the kernel's own symbols (kernel/kallsyms.c, s_show)."""
    line = f"%0{tables.bits // 4}x %c %b\n".encode()
    rows = zip(tables.address.tolist(), tables.names)
    return b"".join([line % (address, name[:1], name[1:]) for address, name in rows])


def _marks(tables: KallsymsTables) -> dict[str, int]:
    """The addresses of the symbols that bound what is read."""
    wanted = {name.encode(): name for name in (*_NOTES, *_BTF)}
    return {
        wanted[name[1:]]: int(tables.address[number])
        for number, name in enumerate(tables.names)
        if name[1:] in wanted
    }


def _between(
    data: bytes, parts: list[Segment], marks: dict[str, int], ends: tuple[str, str]
) -> bytes | None:
    """Return the bytes between two symbols; None if they are not in ``data``."""
    from .memory import place_of

    first, last = (place_of(parts, marks[end]) if end in marks else None for end in ends)
    if first is None or last is None or not first < last <= len(data):
        return None
    return data[first:last]


def _only_build_id(data: bytes, begin: bytes) -> bytes | None:
    """The note with a build-id, where ``data`` has one alone; a vDSO has its own."""
    first = data.find(begin)
    if first < 0 or data.find(begin, first + 1) >= 0:
        return None
    return data[first : first + len(begin) + 20]
