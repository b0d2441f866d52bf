"""Linker files, their symbol tables and their regions, as they are read from a source.

``elf_files`` and ``collect`` are not imported here, but by their callers. They import numpy,
and the text of the running kernel is read while that import goes on.
"""

from .files import KERNEL_ID, Files, FileTables, LinkerFile, Region, Symbols
from .generation import TRIES, Generation
from .host import Access, AccessRule, Host, read_access
from .link_time import LinkTime, read_link_time
from .linker import Linker
from .modules import PSEUDO, Module
from .root import Root

__all__ = [
    "KERNEL_ID",
    "PSEUDO",
    "TRIES",
    "Access",
    "AccessRule",
    "FileTables",
    "Files",
    "Generation",
    "Host",
    "LinkTime",
    "Linker",
    "LinkerFile",
    "Module",
    "Region",
    "Root",
    "Symbols",
    "read_access",
    "read_link_time",
]
