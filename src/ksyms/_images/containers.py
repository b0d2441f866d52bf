"""The containers of kernels, such as a bzImage, a uImage or an Android boot image.

A container's header gives the bytes of the kernel in it. If it does not, or if there is no
header, the kernel is found by a search for the magics of packings. Containers can be nested::

    Android boot image  >  EFI zboot image  >  gzip  >  the kernel
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from .._elf.constants import machine_name
from .._typing import Final, NamedTuple
from .flattened import kernel_of
from .packings import MOST, packing, places, unpack

_DEPTH: Final = 6
"""The most containers that are opened one inside the other."""
_SEARCHED: Final = 64
"""The most magics of packings from which unpacking is tried in a search."""

_PE_MACHINES: Final = {
    0xAA64: "aarch64",
    0x5064: "riscv64",
    0x5032: "riscv32",
    0x6264: "loongarch64",
    0x8664: "x86_64",
}
"""Machines by their number in a PE header (PE/COFF specification, "Machine Types")."""
_UBOOT_MACHINES: Final = {
    2: "arm",
    3: "i386",
    5: "mips",
    6: "mips64",
    22: "aarch64",
    24: "x86_64",
}
"""Machines by their number in a uImage (u-boot's image.h, IH_ARCH_*).

ppc and riscv are left out: their numbers stand for both 32 and 64 bits.
"""
_UBOOT_PACKINGS: Final = (None, "gzip", "bzip2", "lzma", "lzo", "lz4", "zstd")
"""Packings by their number in a uImage (u-boot's image.h, IH_COMP_*)."""


class Part(NamedTuple):
    """The part of a container that has the kernel in it.

    ``what`` names the container, in words. ``packed`` is the packing of ``data``, None if it is
    not packed. ``machine`` is the kernel's machine, None if the header does not give it.
    """

    what: str
    data: bytes
    packed: str | None = None
    machine: str | None = None


class Candidate(NamedTuple):
    """Bytes that may be a kernel, unpacked.

    ``inside`` names its containers, in words, the outermost first. ``machine`` is the machine
    that one of them gives, None if none does.
    """

    data: bytes
    inside: tuple[str, ...]
    machine: str | None


class DamagedError(Exception):
    """A container's header gives bytes outside of it, or bytes that cannot be unpacked."""


def kernels(data: bytes) -> Iterator[Candidate]:
    """Yield the candidates in ``data``: the one that the headers give, then those of a search.

    Raises:
        DamagedError: a header is wrong, or the bytes that it gives cannot be unpacked.
        ImportError: the package that unpacks them is not installed.
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
        if inner is data:  # the header does not say where in it the kernel is: search
            break
    yield found
    yield from _searched(found)


def _searched(outer: Candidate) -> Iterator[Candidate]:
    """Yield what can be unpacked from the magics of packings anywhere in ``outer``.

    Bytes that only look packed are skipped. The search ends once more than 2 * MOST bytes have
    been unpacked.

    Raises:
        ImportError: at the end, if a package that unpacks some of them is not installed.
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
"""A size in bytes that every kernel exceeds."""


def _part(data: bytes) -> Part | None:
    """Return the part of ``data`` that has the kernel in it.

    None if ``data`` is neither packed nor a container; it may be the kernel itself.

    Raises:
        DamagedError: the header is cut short, or wrong.
    """
    if (how := packing(data[:16])) is not None:
        return Part("a file", data, how)
    for reader in _readers(data):
        try:
            return reader(data)
        except (struct.error, ValueError, IndexError):
            raise DamagedError("it ends within its header") from None
    return None


def _readers(data: bytes) -> list[Callable[[bytes], Part]]:
    """Return the readers of the headers whose magic ``data`` has."""
    return [reader for at, sign, reader in _READERS if data[at : at + len(sign)] == sign]


def _piece(data: bytes, what: str, start: int, size: int) -> bytes:
    """Return the ``size`` bytes at ``start``, which a header of ``what`` gives as the kernel.

    Raises:
        DamagedError: ``data`` does not have these bytes.
    """
    if size <= 0 or start + size > len(data):
        raise DamagedError(
            f"{what} says that bytes {start:#x} to {start + size:#x} are the kernel, and it "
            f"has {len(data):#x}"
        )
    return data[start : start + size]


def _bzimage(data: bytes) -> Part:
    """Return the payload of a bzImage.

    See Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
    """
    # setup_sects, where 0 stands for 4; it does not count the boot sector.
    what, sectors = "an x86 bzImage", data[0x1F1] or 4
    protected = (sectors + 1) * 512
    if struct.unpack_from("<H", data, 0x206)[0] < 0x0208:  # payload_offset came with 2.6.26
        return Part(what, data)

    start, size = struct.unpack_from("<II", data, 0x248)
    payload = _piece(data, what, protected + start, size)
    return Part(what, payload, packing(payload))


def _zboot(data: bytes) -> Part:
    """Return the payload of an EFI zboot image.

    See drivers/firmware/efi/libstub/zboot-header.S.
    """
    start, size = struct.unpack_from("<II", data, 8)
    payload = _piece(data, "an EFI zboot image", start, size)
    (header,) = struct.unpack_from("<I", data, 60)
    machine = _PE_MACHINES.get(struct.unpack_from("<H", data, header + 4)[0])
    return Part("an EFI zboot image", payload, packing(payload), machine)


def _zimage(data: bytes) -> Part:
    """Return a whole zImage, in which the packed kernel is searched for.

    Its header does not say where that is (arch/arm/boot/compressed/head.S).
    """
    return Part("an arm zImage", data, None, "arm")


def _uimage(data: bytes) -> Part:
    """Return the kernel in a uImage (u-boot's image.h, struct legacy_img_hdr)."""
    (size,) = struct.unpack_from(">I", data, 12)
    _, machine, kind, packed = data[28:32]
    payload = _piece(data, "a uImage", 64, size)
    # IH_TYPE_MULTI: a list of sizes, 32 bits each, that ends with a zero; then the files. The
    # first file is the kernel.
    if kind == 4:
        first = int.from_bytes(payload[:4])
        count = payload.find(bytes(4)) // 4
        payload = _piece(payload, "a uImage of several files", 4 * count + 4, first)
    how = _UBOOT_PACKINGS[packed] if packed < len(_UBOOT_PACKINGS) else packing(payload)
    return Part("a uImage", payload, how, _UBOOT_MACHINES.get(machine))


def _fit(data: bytes) -> Part:
    """Return the kernel in a FIT image."""
    found = kernel_of(data)
    if found is None:
        raise DamagedError("a flattened device tree has no kernel among its /images")
    payload = _piece(data, "a FIT image", found.start, found.size)
    how = None if found.packed == "none" else found.packed or packing(payload)
    # "riscv" stands for both 32 and 64 bits.
    machine = {"arm64": "aarch64"}.get(found.machine or "", found.machine)
    return Part("a FIT image", payload, how, machine if machine != "riscv" else None)


def _android(data: bytes) -> Part:
    """Return the kernel in an Android boot image (bootimg.h, boot_img_hdr_v0 to v4)."""
    (size,) = struct.unpack_from("<I", data, 8)
    (version,) = struct.unpack_from("<I", data, 40)
    # In v0 this field was the size of a device tree in bytes, which is larger than any version.
    # The kernel starts on the second page.
    page = 4096 if version in (3, 4) else struct.unpack_from("<I", data, 36)[0]
    return Part("an Android boot image", _piece(data, "an Android boot image", page, size))


def _s390(data: bytes) -> Part:
    """Return a whole s390 image, in which the packed kernel is searched for.

    Its header does not say where that is (arch/s390/boot/head.S).
    """
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
"""For each container: the offset of its magic, the magic, and the reader of its header."""


def is_container(data: bytes) -> bool:
    """Return True if ``data`` starts as a container, or as a kernel image with a header."""
    bare = data[:4] == b"\x7fELF" or data[56:60] in (b"ARMd", b"RSC\x05") or data[:2] == b"MZ"
    return bare or packing(data[:16]) is not None or bool(_readers(data))


def machine_of(data: bytes) -> str | None:
    """Return the machine in the header of an unpacked kernel; None if there is none."""
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
