"""Where kernels lie, machine by machine, and what ``Kernel Offset`` is counted from.

A panic ends with ``Kernel Offset: 0x1a200000 from 0xffffffff81000000``: by how much the image
was moved, and where it begins where nothing is moved. The sum is where it begins in the text's
boot. Which symbol lies there is each machine's own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .._symbols import SymbolTable, link_slide

PAGE: Final = 4096
FURTHEST: Final = 1 << 47
"""Further than any kernel is moved: what lies further apart was not moved."""
_X86: Final = ("x86_64", "amd64")
_FIXED: Final = ("arm", "armv5tel", "armv6l", "armv7l", "armv8l", "ppc64", "ppc64le")
"""Machines whose kernel lies at one virtual address: they have no KASLR, or it moves only where
the kernel is in physical memory.
"""
_I386: Final = ("i386", "i486", "i586", "i686")
_X86_STEP: Final = 1 << 21
"""The kernel is placed in steps of CONFIG_PHYSICAL_ALIGN (arch/x86/boot/compressed/kaslr.c)."""
_X86_MODULES: Final = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
"""Where modules can lie (Documentation/arch/x86/x86_64/mm.rst)."""
X86_KERNEL: Final = range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000)
"""Where the kernel can lie; of it what modules do not take where nothing is moved."""
_X86_HYPERVISOR: Final = range(0xFFFF800000000000, 0xFFFF880000000000)
"""What x86-64 leaves to a hypervisor (mm.rst, "guard hole"): Xen's own code is there."""
_X86_START: Final = 0xFFFFFFFF81000000
"""__START_KERNEL, with the CONFIG_PHYSICAL_START that nearly all kernels have."""
_ARM64_TEXT_OFFSET: Final = 0x80000
_ARM64_HEAD: Final = 0x10000
"""From the image's begin to ``_stext``: one SEGMENT_ALIGN (arch/arm64/kernel/vmlinux.lds.S)."""
_ARM64_BLOCK: Final = 1 << 21
_ARM64_BASES: Final = 1 << 27
"""What every KIMAGE_VADDR so far is a multiple of: one that KASLR moved is not."""
_RISCV_START: Final = 0xFFFFFFFF80000000
"""KERNEL_LINK_ADDR of 64 bits (arch/riscv/include/asm/pgtable.h)."""
_MODULE_AREA: Final = 1 << 28
"""How near to modules of one boot those of another lie, where the area is the machine's."""
_BRANCH: Final = 1 << 31
"""How near to the kernel arm64, RISC-V and s390 place modules: a branch must reach."""


def step(table: SymbolTable) -> int:
    """Return what every slide of the table's kernel is a multiple of, in bytes."""
    return _X86_STEP if table.machine in _X86 else PAGE


def is_x86(table: SymbolTable) -> bool:
    """Return whether the table is of x86-64."""
    return table.machine in _X86


def is_fixed(table: SymbolTable) -> bool:
    """Return whether no boot of the table's machine moves its kernel."""
    return table.machine in _FIXED


def is_moved(table: SymbolTable) -> bool:
    """Return whether the table's kernel is one that each boot has elsewhere."""
    if table.machine not in (*_X86, "aarch64", "arm64", "riscv64", "s390x", "loongarch64"):
        return False
    return 0 not in (slides_where_unmoved(table, None) or ())


class ImageStart(NamedTuple):
    """Where the file's kernel begins: one of ``exact``; if empty, not above ``highest``."""

    exact: frozenset[int]
    highest: int | None


def image_start(table: SymbolTable, release: str | None) -> ImageStart:
    """Find where the image begins that ``Kernel Offset`` speaks of, in the table's own boot.

    ``release`` is the text's, where it says it and the table does not.
    """
    text, stext, start = (_address(table, n) for n in ("_text", "_stext", "_start"))
    release = table.release or release
    exact: set[int | None] = {text}
    if table.machine in ("aarch64", "arm64"):
        exact = {_arm64_start(text, stext, release)}
    elif table.machine in ("riscv64", "riscv32", "riscv"):
        # arch/riscv/kernel/vmlinux.lds.S: the head text lies between _start and _text.
        exact = {start}
    elif table.machine is None:
        exact.add(start)
        if text is not None and table.digits > 8 and text % _ARM64_BLOCK == _ARM64_TEXT_OFFSET:
            exact.add(text - _ARM64_TEXT_OFFSET)
    return ImageStart(frozenset(a for a in exact if a is not None), stext)


def _arm64_start(text: int | None, stext: int | None, release: str | None) -> int | None:
    """Find arm64's KIMAGE_VADDR plus its slide.

    That was _text - TEXT_OFFSET until Linux commit cfa7ede20f13 ("arm64: set TEXT_OFFSET to 0x0
    in preparation for removing it entirely") (in v5.8), and is _text since.
    """
    if text is None:
        # 6.1 lists no _text: it is in the head's section, which kallsyms leaves out.
        return None if stext is None else stext - _ARM64_HEAD
    number = _version(release)
    offset = _ARM64_TEXT_OFFSET
    old = text % _ARM64_BLOCK == offset if number is None else number < (5, 8)
    return text - offset if old else text


def _version(release: str | None) -> tuple[int, int] | None:
    parts = (release or "").split(".")
    numbers = [part for part in parts[:2] if part.isdecimal()]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None


def slides_where_unmoved(table: SymbolTable, release: str | None) -> frozenset[int] | None:
    """Give the slides that ``Kernel Offset: disabled`` tells: 0 if the file's was not moved.

    An empty set if the file's kernel was moved, and nobody knows by how much; None where the
    words tell nothing: i386 prints them though it moved, for it has no flag of it
    (arch/x86/kernel/setup.c, dump_kernel_offset).
    """
    if table.machine in _I386:
        return None
    if (linked := link_slide(table)) is not None:
        return frozenset([-linked])
    starts = image_start(table, release).exact
    if len(starts) != 1:
        return None
    [start] = starts
    unmoved = {
        "x86_64": start == _X86_START,
        "aarch64": start % _ARM64_BASES == 0,
        "riscv64": start == _RISCV_START,
    }.get(table.machine or "")
    return None if unmoved is None else frozenset([0] if unmoved else [])


def _address(table: SymbolTable, name: str) -> int | None:
    return next((s.address for s in table.find(name) if s.module is None), None)


class Areas:
    """Which addresses of another boot are whose, by where the machine puts what.

    Args:
        table: the symbols, of whose machine it is.
        image: from the first to the last byte of the file's kernel.
        modules: the same of all its modules; empty where it has none.
    """

    def __init__(self, table: SymbolTable, image: range, modules: range) -> None:
        self._x86 = table.machine in _X86
        # A kallsyms alone does not always tell the machine.
        self._hypervised = self._x86 or (table.machine is None and image.start in X86_KERNEL)
        self._image = image
        self._near = range(0)
        if modules and not self._x86:
            self._near = range(modules.start - _MODULE_AREA, modules.stop + _MODULE_AREA)
        branches = table.machine in ("aarch64", "arm64", "riscv64", "s390x")
        # Where s390's kernel lies low its modules do not lie beside it.
        self._reach = _BRANCH if branches and modules and image.start >> 32 else 0

    def is_modules(self, address: int, slide: int | None) -> bool:
        """Return whether a module can lie there in a boot; ``slide`` is None if unknown."""
        if self._x86:
            return address in _X86_MODULES
        if address in self._near:
            return True
        if not self._reach or slide is None:
            return False
        begin, end = self._image.start + slide, self._image.stop + slide
        return begin - self._reach <= address < end + self._reach

    def is_hypervisor(self, address: int) -> bool:
        """Return whether code there is a hypervisor's, and no kernel's."""
        return self._hypervised and address in _X86_HYPERVISOR


def first_digits(low: int, high: int, digits: int) -> tuple[bytes, int]:
    """Give the pattern that kernel addresses begin with, of one machine, and its digits.

    Of 64 bits what all of a kernel's have in common, at most four; of 32 bits, where another
    boot's can lie far away, only whether they are in the upper half.
    """
    first, last = f"{low:0{digits}x}", f"{high:0{digits}x}"
    if digits == 8:
        return b"[89a-fA-F]" if low >> 31 else b"[0-9a-fA-F]", 1
    common = next((n for n in range(4) if first[n] != last[n]), 4)
    return first[:common].encode(), common


def in_capitals(first: bytes) -> bytes:
    """Let a pattern of :func:`first_digits` match capitals too."""
    if first.startswith(b"["):
        return first
    return b"".join(b"[%c%c]" % (d, ord(chr(d).upper())) for d in first)
