"""The containers of kernels: a header tells where the kernel is, or a search finds it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from .._elf.constants import machine_name
from .._typing import Final, NamedTuple
from .flattened import kernel_of
from .packings import MOST, packing, places, unpack

_DEPTH: Final = 6
"""Containers in one another: an Android boot image has a zboot that has a packed Image."""
_SEARCHED: Final = 64
"""Places at which something packed seems to begin that are tried."""

_PE_MACHINES: Final = {
    0xAA64: "aarch64",
    0x5064: "riscv64",
    0x5032: "riscv32",
    0x6264: "loongarch64",
    0x8664: "x86_64",
}
"""PE/COFF specification, "Machine Types"."""
_UBOOT_MACHINES: Final = {
    2: "arm",
    3: "i386",
    5: "mips",
    6: "mips64",
    22: "aarch64",
    24: "x86_64",
}
"""u-boot's image.h, IH_ARCH_*; ppc and riscv are of either width there."""
_UBOOT_PACKINGS: Final = (None, "gzip", "bzip2", "lzma", "lzo", "lz4", "zstd")
"""u-boot's image.h, IH_COMP_*."""


class Part(NamedTuple):
    """A part of what holds a kernel: ``what`` it is, and what is known of the kernel.

    ``packed`` is what it is packed by, None where it is as it runs.
    """

    what: str
    data: bytes
    packed: str | None = None
    machine: str | None = None


class Candidate(NamedTuple):
    """A candidate for a kernel: its bytes, and its containers, the outermost first."""

    data: bytes
    inside: tuple[str, ...]
    machine: str | None


class DamagedError(Exception):
    """A header leads nowhere, or to bytes that cannot be unpacked; in words."""


def kernels(data: bytes) -> Iterator[Candidate]:
    """Yield the candidates in ``data``: the one of its headers, then those of a search.

    Raises:
        DamagedError: a header leads nowhere.
        ImportError: what unpacks it is not installed.
    """
    found = Candidate(data, (), None)
    for _ in range(_DEPTH):
        data = found.data
        part = _part(data)
        if part is None:
            break
        inner = part.data
        if part.packed is not None:
            try:
                inner = unpack(part.data, part.packed)
            except ValueError as error:
                raise DamagedError(
                    f"what {part.what} has packed by {part.packed} cannot be unpacked: {error}"
                ) from None
        words = part.what if part.packed is None else f"{part.what}, packed by {part.packed}"
        found = Candidate(inner, (*found.inside, words), part.machine or found.machine)
        if inner is data:  # somewhere in it
            break
    yield found
    yield from _searched(found)


def _searched(outer: Candidate) -> Iterator[Candidate]:
    """Yield what is packed anywhere in ``outer``; bytes that cannot be unpacked are skipped.

    Raises:
        ImportError: at the end, if what unpacks one of them is not installed.
    """
    room, machine = 2 * MOST, machine_of(outer.data) or outer.machine
    absent: ImportError | None = None
    for tried, place in enumerate(places(outer.data)):
        if tried >= _SEARCHED or room <= 0:
            break
        how = packing(outer.data[place : place + 16])
        if how is None:
            continue
        try:
            inner = unpack(outer.data[place:], how)
        except ValueError:
            continue
        except ImportError as error:
            absent = absent or error
            continue
        room -= len(inner)
        if len(inner) > _SMALL:
            words = f"something packed by {how} at byte {place:#x}"
            yield Candidate(inner, (*outer.inside, words), machine)
    if absent is not None:
        raise absent


_SMALL: Final = 1 << 14
"""Bytes that no kernel is as small as."""


def _part(data: bytes) -> Part | None:
    """The part of ``data`` that leads to the kernel; None where it may be the kernel itself."""
    if (how := packing(data[:16])) is not None:
        return Part("a file", data, how)
    for reader in _readers(data):
        try:
            return reader(data)
        except (struct.error, ValueError, IndexError):
            raise DamagedError("it ends within its header") from None
    return None


def _readers(data: bytes) -> list[Callable[[bytes], Part]]:
    return [reader for at, sign, reader in _READERS if data[at : at + len(sign)] == sign]


def _piece(data: bytes, what: str, start: int, size: int) -> bytes:
    """Return the ``size`` bytes of ``data`` from ``start`` on, as its header says.

    Raises:
        DamagedError: they are not.
    """
    if size <= 0 or start + size > len(data):
        raise DamagedError(
            f"{what} says that bytes {start:#x} to {start + size:#x} are the kernel, and it "
            f"has {len(data):#x}"
        )
    return data[start : start + size]


def _bzimage(data: bytes) -> Part:
    """Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"."""
    what, sectors = "an x86 bzImage", data[0x1F1] or 4
    protected = (sectors + 1) * 512
    if struct.unpack_from("<H", data, 0x206)[0] < 0x0208:  # payload_offset came with 2.6.26
        return Part(what, data)
    start, size = struct.unpack_from("<II", data, 0x248)
    payload = _piece(data, what, protected + start, size)
    return Part(what, payload, packing(payload))


def _zboot(data: bytes) -> Part:
    """drivers/firmware/efi/libstub/zboot-header.S."""
    start, size = struct.unpack_from("<II", data, 8)
    payload = _piece(data, "an EFI zboot image", start, size)
    (header,) = struct.unpack_from("<I", data, 60)
    machine = _PE_MACHINES.get(struct.unpack_from("<H", data, header + 4)[0])
    return Part("an EFI zboot image", payload, packing(payload), machine)


def _zimage(data: bytes) -> Part:
    """arch/arm/boot/compressed/head.S: a magic; what is packed is found by search."""
    return Part("an arm zImage", data, None, "arm")


def _uimage(data: bytes) -> Part:
    """u-boot's image.h, struct legacy_img_hdr."""
    (size,) = struct.unpack_from(">I", data, 12)
    _, machine, kind, packed = data[28:32]
    payload = _piece(data, "a uImage", 64, size)
    if kind == 4:  # IH_TYPE_MULTI: sizes up to a zero, then what has them
        first = int.from_bytes(payload[:4])
        count = payload.find(bytes(4)) // 4
        payload = _piece(payload, "a uImage of several files", 4 * count + 4, first)
    how = _UBOOT_PACKINGS[packed] if packed < len(_UBOOT_PACKINGS) else packing(payload)
    return Part("a uImage", payload, how, _UBOOT_MACHINES.get(machine))


def _fit(data: bytes) -> Part:
    found = kernel_of(data)
    if found is None:
        raise DamagedError("a flattened device tree has no kernel among its /images")
    payload = _piece(data, "a FIT image", found.start, found.size)
    how = None if found.packed == "none" else found.packed or packing(payload)
    machine = {"arm64": "aarch64"}.get(found.machine or "", found.machine)
    return Part("a FIT image", payload, how, machine if machine != "riscv" else None)


def _android(data: bytes) -> Part:
    """Android's bootimg.h, struct boot_img_hdr_v0 to v4."""
    (size,) = struct.unpack_from("<I", data, 8)
    (version,) = struct.unpack_from("<I", data, 40)
    # Of v0 that field was the size of a device tree, which has more bytes than versions.
    page = 4096 if version in (3, 4) else struct.unpack_from("<I", data, 36)[0]
    return Part("an Android boot image", _piece(data, "an Android boot image", page, size))


def _s390(data: bytes) -> Part:
    """arch/s390/boot/head.S: a magic; what is packed is found by search."""
    return Part("an s390 image", data, None, "s390x")


_READERS: Final[tuple[tuple[int, bytes, Callable[[bytes], Part]], ...]] = (
    (0x202, b"HdrS", _bzimage),
    (4, b"zimg", _zboot),
    (0x24, b"\x18\x28\x6f\x01", _zimage),
    (0x24, b"\x01\x6f\x28\x18", _zimage),
    (0, b"\x27\x05\x19\x56", _uimage),
    (0, b"\xd0\x0d\xfe\xed", _fit),
    (0, b"ANDROID!", _android),
    (0x10008, b"S390EP", _s390),
)
"""The place and the bytes of each container's magic, and the reader of its header."""


def is_container(data: bytes) -> bool:
    """Return True if ``data`` begins as a container, or as an image with a header, does."""
    bare = data[:4] == b"\x7fELF" or data[56:60] in (b"ARMd", b"RSC\x05") or data[:2] == b"MZ"
    return bare or packing(data[:16]) is not None or bool(_readers(data))


def machine_of(data: bytes) -> str | None:
    """The machine that the header of an unpacked kernel tells; None where it does not."""
    if data[:4] == b"\x7fELF" and len(data) > 20:
        little = data[5] == 1
        (number,) = struct.unpack_from("<H" if little else ">H", data, 18)
        return machine_name(number, data[4], data[5])
    if data[56:60] == b"ARMd":  # Documentation/arch/arm64/booting.rst
        return "aarch64"
    if data[:2] == b"MZ" and len(data) > 64:
        (header,) = struct.unpack_from("<I", data, 60)
        if data[header : header + 4] == b"PE\0\0" and header + 6 <= len(data):
            return _PE_MACHINES.get(struct.unpack_from("<H", data, header + 4)[0])
    return None
