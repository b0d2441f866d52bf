"""The ELF numbers that ksyms writes and reads.

Source: System V ABI, chapters 4 and 5 (gABI 4.3), and each machine's psABI for EM_*.
"""

from __future__ import annotations

from .._typing import Final

ELFMAG: Final = b"\x7fELF"
EI_CLASS: Final = 4
EI_DATA: Final = 5
EI_VERSION: Final = 6
EI_OSABI: Final = 7
EI_NIDENT: Final = 16

ELFCLASS32: Final = 1
ELFCLASS64: Final = 2
ELFDATA2LSB: Final = 1
ELFDATA2MSB: Final = 2
EV_CURRENT: Final = 1

ELFOSABI_FREEBSD: Final = 9

ET_REL: Final = 1
ET_EXEC: Final = 2
ET_DYN: Final = 3

PT_LOAD: Final = 1
PF_X: Final = 1
PF_W: Final = 2
PF_R: Final = 4

SHT_NULL: Final = 0
SHT_PROGBITS: Final = 1
SHT_SYMTAB: Final = 2
SHT_STRTAB: Final = 3
SHT_NOTE: Final = 7
SHT_NOBITS: Final = 8
SHT_SYMTAB_SHNDX: Final = 18

SHF_WRITE: Final = 1
SHF_ALLOC: Final = 2
SHF_EXECINSTR: Final = 4
SHF_TLS: Final = 1 << 10

SHN_UNDEF: Final = 0
SHN_LORESERVE: Final = 0xFF00
SHN_ABS: Final = 0xFFF1
SHN_COMMON: Final = 0xFFF2
SHN_XINDEX: Final = 0xFFFF

STB_LOCAL: Final = 0
STB_GLOBAL: Final = 1
STB_WEAK: Final = 2

STT_NOTYPE: Final = 0
STT_OBJECT: Final = 1
STT_FUNC: Final = 2
STT_SECTION: Final = 3
STT_FILE: Final = 4
STT_TLS: Final = 6

NT_GNU_BUILD_ID: Final = 3

# The keys are machine names as in struct new_utsname (include/uapi/linux/utsname.h).
MACHINES: Final[dict[str, int]] = {
    "i386": 3,
    "i486": 3,
    "i586": 3,
    "i686": 3,
    "mips": 8,
    "mips64": 8,
    "ppc": 20,
    "ppc64": 21,
    "ppc64le": 21,
    "s390x": 22,
    "armv6l": 40,
    "armv7l": 40,
    "armv8l": 40,
    "sparc64": 43,
    "x86_64": 62,
    "aarch64": 183,
    "riscv32": 243,
    "riscv64": 243,
    "loongarch64": 258,
}
"""``e_machine`` by ``uname -m``; a machine that is not listed is EM_NONE (0)."""
EM_386: Final = 3
EM_PPC64: Final = 21
EM_ARM: Final = 40
_FAMILIES: Final = {EM_386: "i386", EM_ARM: "arm"}
"""Machines for which ``uname -m`` depends on the processor: the name of their family."""


def machine_name(number: int, elf_class: int, data: int) -> str | None:
    """Return the machine as in ``uname -m``, from fields of an ELF header.

    For i386 and arm it is the name of the family. None if the machine is unknown.

    Args:
        number: the ``e_machine``.
        elf_class: ELFCLASS32 or ELFCLASS64.
        data: ELFDATA2LSB or ELFDATA2MSB.
    """
    if number in _FAMILIES:
        return _FAMILIES[number]
    wide, little = elf_class == ELFCLASS64, data == ELFDATA2LSB
    names = [
        name
        for name, known in MACHINES.items()
        if known == number
        and (name.endswith(("64", "64le", "s390x")) == wide)
        and (name != "ppc64le" or little)
        and (name != "ppc64" or not little)
    ]
    return names[0] if len(names) == 1 else None


def st_info(binding: int, kind: int) -> int:
    """Return the byte with a binding (STB_*) and a type (STT_*), as by ELF*_ST_INFO."""
    return (binding << 4) | (kind & 0xF)
