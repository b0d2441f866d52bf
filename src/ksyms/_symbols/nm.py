"""The letter that nm prints for a symbol of an ELF file.

Source: binutils 2.40: bfd/syms.c, bfd_decode_symclass and decode_section_type, with the flags
that bfd/elf.c (_bfd_elf_make_section_from_shdr) and bfd/elfcode.h (elf_slurp_symbol_table)
give sections and symbols.
"""

from __future__ import annotations

from .._elf import Shdr, Sym
from .._elf import constants as elf
from .._typing import Final

_STB_GNU_UNIQUE: Final = 10
_STT_COMMON: Final = 5
_STT_GNU_IFUNC: Final = 10
_DEBUG: Final = (".debug", ".zdebug", ".gnu.debuglto_.debug_", ".gnu.linkonce.wi.")
_LINES: Final = (".line", ".stab", ".gdb_index")
_COFF_LETTERS: Final = {".drectve": "i", ".edata": "e", ".idata": "i", ".pdata": "p"}


def letter(sym: Sym, section: Shdr | None, name: str) -> str:
    """Return the letter that nm prints for ``sym``.

    ``section`` is the header of the symbol's section, and ``name`` the section's name. They are
    None and "" for a symbol in no section.
    """
    binding, kind = sym.st_info >> 4, sym.st_info & 0xF
    weak = binding == elf.STB_WEAK
    if sym.st_shndx == elf.SHN_UNDEF:
        found = ("v" if kind == elf.STT_OBJECT else "w") if weak else "U"
    elif sym.st_shndx == elf.SHN_COMMON:
        found = "C"
    elif kind == _STT_GNU_IFUNC:
        found = "i"
    elif weak:
        found = "V" if kind == elf.STT_OBJECT else "W"
    elif binding == _STB_GNU_UNIQUE:
        found = "u"
    elif binding not in (elf.STB_LOCAL, elf.STB_GLOBAL):
        found = "?"
    else:
        found = "a" if section is None else _section_letter(section, name)
        found = found if binding == elf.STB_LOCAL else found.upper()
    return found


def _section_letter(section: Shdr, name: str) -> str:
    """Return the letter of a local symbol in ``section``, which is called ``name``."""
    for start, found in _COFF_LETTERS.items():
        if name.startswith(start) and (name[len(start) :] or "$")[0] in ".$0123456789":
            return found
    flags = section.sh_flags
    if flags & elf.SHF_EXECINSTR:
        return "t"
    stored = section.sh_type != elf.SHT_NOBITS
    if flags & elf.SHF_ALLOC and stored:
        return "d" if flags & elf.SHF_WRITE else "r"
    if not stored:
        return "b"
    if name.startswith(_DEBUG) or name.startswith(_LINES):
        return "N"
    return "?" if flags & elf.SHF_WRITE else "n"
