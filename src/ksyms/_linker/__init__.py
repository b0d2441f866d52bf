"""Where symbols come from: linker files, their tables and their ranges of addresses.

What needs numpy is not here: ``elf_files`` and ``collect`` are imported by their own names, so
that reading the running kernel's text can begin before numpy is there.
"""

from .files import KERNEL_ID, Files, LinkerFile, Region, Symbols, Tables
from .generation import TRIES, Generation
from .host import Access, Host, Rule, read_access
from .link_time import LinkTime, read_link_time
from .linker import Linker
from .modules import PSEUDO, Module
from .root import Root

__all__ = [
    "KERNEL_ID",
    "PSEUDO",
    "TRIES",
    "Access",
    "Files",
    "Generation",
    "Host",
    "LinkTime",
    "Linker",
    "LinkerFile",
    "Module",
    "Region",
    "Root",
    "Rule",
    "Symbols",
    "Tables",
    "read_access",
    "read_link_time",
]
