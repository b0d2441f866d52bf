"""Where symbols come from: linker files, their tables and their ranges of addresses."""

from .collect import collect
from .elf_files import ElfLinker, ElfReading
from .elf_table import ModuleFile
from .files import KERNEL_ID, Files, LinkerFile, Region, Symbols, Table, Tables
from .generation import TRIES, Generation
from .host import Access, Host, Rule, read_access
from .link_time import LinkTime, read_link_time
from .linker import Linker, Reading
from .modules import PSEUDO, Module
from .root import Root

__all__ = [
    "KERNEL_ID",
    "PSEUDO",
    "TRIES",
    "Access",
    "ElfLinker",
    "ElfReading",
    "Files",
    "Generation",
    "Host",
    "LinkTime",
    "Linker",
    "LinkerFile",
    "Module",
    "ModuleFile",
    "Reading",
    "Region",
    "Root",
    "Rule",
    "Symbols",
    "Table",
    "Tables",
    "collect",
    "read_access",
    "read_link_time",
]
