"""The ELF structures, for writing snapshots and for reading symbol tables."""

from . import constants
from .file import FileData
from .notes import Note, build_id, pack_note, parse_notes
from .reader import ElfFile, read_image
from .structs import Buffer, Ehdr, Format, Phdr, Shdr, Sym, elf_format
from .symtab import find_symtab, is_driver_image

__all__ = [
    "Buffer",
    "Ehdr",
    "ElfFile",
    "FileData",
    "Format",
    "Note",
    "Phdr",
    "Shdr",
    "Sym",
    "build_id",
    "constants",
    "elf_format",
    "find_symtab",
    "is_driver_image",
    "pack_note",
    "parse_notes",
    "read_image",
]
