"""The ELF structures: what the snapshot is written with and symbols are read with."""

from . import constants
from .notes import Note, build_id, pack_note, parse_notes
from .reader import Image, read_image
from .structs import Buffer, Ehdr, Format, Nhdr, Phdr, Shdr, Structure, Sym, elf_format

__all__ = [
    "Buffer",
    "Ehdr",
    "Format",
    "Image",
    "Nhdr",
    "Note",
    "Phdr",
    "Shdr",
    "Structure",
    "Sym",
    "build_id",
    "constants",
    "elf_format",
    "pack_note",
    "parse_notes",
    "read_image",
]
