"""The machine of a kallsyms text, by nothing but the names and addresses in it."""

from __future__ import annotations

from .._elf.constants import EM_386, EM_ARM, EM_PPC64
from .._typing import Final, NamedTuple


class Machine(NamedTuple):
    """A machine: its name in ``uname -m``, and its number in ELF headers (``e_machine``).

    ``name`` is None if several are possible; ``number`` is None if it follows from ``name``.
    """

    name: str | None
    number: int | None


NO_MACHINE: Final = Machine(None, None)
"""The machine is not known."""
_I386: Final = Machine(None, EM_386)  # i386 to i686: uname's name has the processor's family
_ARM: Final = Machine(None, EM_ARM)  # armv6l, armv7l, armv8l: one kernel can run on several
_POWER: Final = Machine(None, EM_PPC64)  # ppc64 or ppc64le
_X86: Final = Machine("x86_64", None)

_NAMES: Final[tuple[tuple[int, Machine, tuple[str, ...]], ...]] = (
    # System calls: arch/*/include/asm/syscall_wrapper.h (x86 4.17, arm64 4.19, s390 5.2,
    # riscv 6.6; the other machines have no such file, or call it sys_read). Then names in the
    # entry code, written in assembler, and of the functions that it calls: these are as old as
    # kallsyms.
    (64, _X86, ("__x64_sys_read", "do_syscall_64", "entry_SYSCALL_64", "startup_64")),
    (64, _X86, ("entry_SYSCALL_64_after_hwframe", "x86_64_start_kernel")),
    (64, Machine("aarch64", None), ("__arm64_sys_read", "do_undefinstr", "do_mem_abort")),
    (64, Machine("riscv64", None), ("__riscv_sys_read", "do_trap_ecall_u", "sbi_init")),
    (32, Machine("riscv32", None), ("__riscv_sys_read", "do_trap_ecall_u", "sbi_init")),
    (64, Machine("s390x", None), ("__s390x_sys_read", "pgm_check_handler", "mcck_int_handler")),
    (64, Machine("loongarch64", None), ("do_lasx", "handle_lasx")),
    (64, Machine("mips64", None), ("except_vec3_generic", "handle_sys64", "r4k_cache_init")),
    (32, Machine("mips", None), ("except_vec3_generic", "r4k_cache_init")),
    # Names with a dot are those of code; the names without it are of function descriptors,
    # which only the ABI of big-endian machines has (64-bit PowerPC ELF ABI, 3.2.5).
    (64, Machine("ppc64", None), (".sys_read", ".vfs_read", ".schedule", ".start_kernel")),
    (64, _POWER, ("exc_real_0x100_system_reset", "system_call_common", "plpar_hcall")),
    (32, _ARM, ("vector_swi", "do_DataAbort", "arm_syscall")),
    (32, _I386, ("__ia32_sys_read", "entry_INT80_32", "startup_32", "i386_start_kernel")),
)
"""For a number of address bits and a machine: names that no other machine of these bits has."""

_RANGES: Final[tuple[tuple[int, int, Machine], ...]] = (
    # arch/loongarch/include/asm/addrspace.h, CACHE_BASE
    (0x9000000000000000, 0x9001000000000000, Machine("loongarch64", None)),
    # arch/powerpc/Kconfig, KERNEL_START
    (0xC000000000000000, 0xC001000000000000, _POWER),
    # arch/arm64/include/asm/memory.h: KIMAGE_VADDR with 48 bits (up to the addresses of alpha)
    # and with 39, and the linear map with 39 before Linux 4.6
    (0xFFFF800000000000, 0xFFFFFC0000000000, Machine("aarch64", None)),
    (0xFFFFFF8000000000, 0xFFFFFFE000000000, Machine("aarch64", None)),
    # arch/riscv/Kconfig, PAGE_OFFSET before Linux 5.13
    (0xFFFFFFE000000000, 0xFFFFFFE040000000, Machine("riscv64", None)),
)
"""The ranges [start, end) in which the kernel's text lies on one machine only.

Addresses from 0xffffffff80000000 are no evidence of the machine: x86-64
(arch/x86/include/asm/page_64_types.h), RISC-V and MIPS all have the text there.
"""
_X86_TEXT: Final = range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000)

MACHINE_LANDMARKS: Final = frozenset(name for _, _, names in _NAMES for name in names)
"""The names of the kernel's symbols whose addresses :func:`machine_of` needs."""


def machine_of(bits: int, landmarks: dict[str, int]) -> Machine:
    """Return the machine of a kallsyms text.

    Args:
        bits: the number of bits of the addresses, 32 or 64.
        landmarks: addresses of the kernel's own symbols by name.

    Returns:
        The machine, or :data:`NO_MACHINE` if the text has no evidence, or contradictory
        evidence.
    """
    start = landmarks.get("_stext", landmarks.get("_text"))
    found = {
        machine
        for width, machine, names in _NAMES
        if width == bits and any(name in landmarks for name in names)
    }

    if bits == 64 and start is not None:
        found |= {machine for low, high, machine in _RANGES if low <= start < high}
        if start not in _X86_TEXT:
            found -= {_X86}

    if len(found) > 1:
        found -= {_POWER}  # "ppc64" is more exact than "ppc64 or ppc64le"
    return found.pop() if len(found) == 1 else NO_MACHINE
