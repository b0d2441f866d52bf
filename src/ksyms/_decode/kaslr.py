"""The addresses at which kernels lie, by machine, and the base of ``Kernel Offset``.

A panic ends with ``Kernel Offset: 0x1a200000 from 0xffffffff81000000``: the slide of KASLR,
and the address of the image's start without it. Their sum is the start in the text's boot. The
symbol that lies at the start depends on the machine:

    the text      0x1a200000 + 0xffffffff81000000 = 0xffffffff9b200000
    the file      _text (x86-64) is at 0xffffffff8ba00000
    the slide     from the file's boot to the text's: 0xf800000
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .._symbols import SymbolTable, link_slide

PAGE: Final = 4096
FURTHEST: Final = 1 << 47
"""Upper bound in bytes on slides, in either direction."""
_X86: Final = ("x86_64", "amd64")
_FIXED: Final = ("arm", "armv5tel", "armv6l", "armv7l", "armv8l", "ppc64", "ppc64le")
"""Machines whose kernel has the same virtual address in all boots: they have no KASLR, or it
changes only the physical address.
"""
_I386: Final = ("i386", "i486", "i586", "i686")
_X86_STEP: Final = 1 << 21
"""KASLR moves in steps of CONFIG_PHYSICAL_ALIGN (arch/x86/boot/compressed/kaslr.c)."""
_X86_MODULES: Final = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
"""The region of modules (Documentation/arch/x86/x86_64/mm.rst)."""
X86_KERNEL: Final = range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000)
"""The region of the kernel with KASLR. Without KASLR modules begin in the middle of it."""
_X86_HYPERVISOR: Final = range(0xFFFF800000000000, 0xFFFF880000000000)
"""The region reserved for a hypervisor (mm.rst, "guard hole"): Xen's own code is there."""
_X86_START: Final = 0xFFFFFFFF81000000
"""__START_KERNEL with the usual CONFIG_PHYSICAL_START, which nearly all kernels have."""
_ARM64_TEXT_OFFSET: Final = 0x80000
_ARM64_HEAD: Final = 0x10000
"""From the image's start to ``_stext``: one SEGMENT_ALIGN (arch/arm64/kernel/vmlinux.lds.S)."""
_ARM64_BLOCK: Final = 1 << 21
_ARM64_BASES: Final = 1 << 27
"""Every KIMAGE_VADDR so far is a multiple of this; a start that KASLR moved is not."""
_RISCV_START: Final = 0xFFFFFFFF80000000
"""KERNEL_LINK_ADDR of 64 bits (arch/riscv/include/asm/pgtable.h)."""
_MODULE_AREA: Final = 1 << 28
"""Bytes around the file's modules that can have another boot's modules, except on x86-64."""
_BRANCH: Final = 1 << 31
"""Bytes around the kernel within which arm64, RISC-V and s390 place modules: the reach of a
branch.
"""


def step(table: SymbolTable) -> int:
    """Return the number of bytes of which every slide of the table's kernel is a multiple."""
    return _X86_STEP if table.machine in _X86 else PAGE


def is_x86(table: SymbolTable) -> bool:
    """Return True if the table is of x86-64."""
    return table.machine in _X86


def is_fixed(table: SymbolTable) -> bool:
    """Return True if the kernel has the same address in all boots of the table's machine."""
    return table.machine in _FIXED


def is_moved(table: SymbolTable) -> bool:
    """Return True if each boot has the table's kernel at another address.

    That is so if the machine has KASLR, and the file's own kernel is not known to be at the
    address that it has without KASLR.
    """
    if table.machine not in (*_X86, "aarch64", "arm64", "riscv64", "s390x", "loongarch64"):
        return False
    return 0 not in (slides_where_unmoved(table, None) or ())


class ImageStart(NamedTuple):
    """The start of the file's kernel: one of the addresses ``exact``.

    If ``exact`` is empty, it is an address not above ``highest``, or unknown if that is None.
    """

    exact: frozenset[int]
    highest: int | None


def image_start(table: SymbolTable, release: str | None) -> ImageStart:
    """Return the start of the image that ``Kernel Offset`` means, in the table's own boot.

    ``release`` is the text's kernel release, if it has one; the table's comes first.
    """
    text, stext, start = (_address(table, n) for n in ("_text", "_stext", "_start"))
    release = table.release or release

    exact: set[int | None] = {text}
    if table.machine in ("aarch64", "arm64"):
        exact = {_arm64_start(text, stext, release)}
    elif table.machine in ("riscv64", "riscv32", "riscv"):
        # The head text lies between _start and _text (arch/riscv/kernel/vmlinux.lds.S).
        exact = {start}
    elif table.machine is None:
        exact.add(start)
        if text is not None and table.digits > 8 and text % _ARM64_BLOCK == _ARM64_TEXT_OFFSET:
            exact.add(text - _ARM64_TEXT_OFFSET)

    return ImageStart(frozenset(a for a in exact if a is not None), stext)


def _arm64_start(text: int | None, stext: int | None, release: str | None) -> int | None:
    """Return KIMAGE_VADDR of arm64 plus the file's slide.

    That is _text since Linux commit cfa7ede20f13 ("arm64: set TEXT_OFFSET to 0x0 in
    preparation for removing it entirely") (in v5.8), and was _text - TEXT_OFFSET before it.
    """
    if text is None:
        # 6.1 lists no _text: it is in the head's section, which kallsyms leaves out.
        return None if stext is None else stext - _ARM64_HEAD
    number = _version(release)
    offset = _ARM64_TEXT_OFFSET
    old = text % _ARM64_BLOCK == offset if number is None else number < (5, 8)
    return text - offset if old else text


def _version(release: str | None) -> tuple[int, int] | None:
    """Return the first two numbers of a release; None if it does not begin with two."""
    parts = (release or "").split(".")
    numbers = [part for part in parts[:2] if part.isdecimal()]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None


def slides_where_unmoved(table: SymbolTable, release: str | None) -> frozenset[int] | None:
    """Return the slides of a text with ``Kernel Offset: disabled``: its kernel was not moved.

    - {0} if the file's kernel was not moved either;
    - {minus the file's slide} if the file gives its slide from the address at link time;
    - an empty set if the file's kernel was moved by an unknown slide;
    - None if the words are no evidence, or it is unknown if the file's kernel was moved. i386
      prints the words even if its kernel was moved: it has no flag for that
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
    """Return the address of the kernel's symbol of that name; None if it has none."""
    return next((s.address for s in table.find(name) if s.module is None), None)


class Areas:
    """The regions of modules and of a hypervisor in another boot, by the machine's layout.

    Args:
        table: the symbols, which say the machine.
        image: the range from the first to the last byte of the file's kernel.
        modules: the range from the first to the last byte of its modules; empty without any.
    """

    def __init__(self, table: SymbolTable, image: range, modules: range) -> None:
        self._x86 = table.machine in _X86
        # The machine of a kallsyms file is not always known.
        self._hypervised = self._x86 or (table.machine is None and image.start in X86_KERNEL)
        self._image = image
        self._near = range(0)
        if modules and not self._x86:
            self._near = range(modules.start - _MODULE_AREA, modules.stop + _MODULE_AREA)
        branches = table.machine in ("aarch64", "arm64", "riscv64", "s390x")
        # If s390's kernel lies below 4 GiB, its modules are not near it.
        self._reach = _BRANCH if branches and modules and image.start >> 32 else 0

    def is_modules(self, address: int, slide: int | None) -> bool:
        """Return True if a module can lie at ``address`` in a boot; ``slide`` may be None."""
        if self._x86:
            return address in _X86_MODULES
        if address in self._near:
            return True
        if not self._reach or slide is None:
            return False
        begin, end = self._image.start + slide, self._image.stop + slide
        return begin - self._reach <= address < end + self._reach

    def is_hypervisor(self, address: int) -> bool:
        """Return True if code at ``address`` is a hypervisor's and not a kernel's."""
        return self._hypervised and address in _X86_HYPERVISOR


def first_digits(low: int, high: int, digits: int) -> tuple[bytes, int]:
    """Return a pattern for the first digits of a kernel's addresses, and their number.

    ``low`` and ``high`` are the first and last address with a symbol, ``digits`` the digits of
    an address. With 64 bits the pattern is the digits that both have in common, at most four.
    With 32 bits, where another boot's kernel can lie far from the file's, it is one digit: it
    only separates the upper half of the address space from the lower.

        ffffffff81000000 to ffffffffc0a4f000    ("ffff", 4)
        c0008000 to c1a4f000                    ("[89a-fA-F]", 1)
    """
    first, last = f"{low:0{digits}x}", f"{high:0{digits}x}"
    if digits == 8:
        return b"[89a-fA-F]" if low >> 31 else b"[0-9a-fA-F]", 1
    common = next((n for n in range(4) if first[n] != last[n]), 4)
    return first[:common].encode(), common


def in_capitals(first: bytes) -> bytes:
    """Return a pattern of :func:`first_digits` that matches capital letters too."""
    if first.startswith(b"["):
        return first
    return b"".join(b"[%c%c]" % (d, ord(chr(d).upper())) for d in first)
