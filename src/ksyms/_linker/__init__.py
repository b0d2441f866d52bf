"""The sources of symbols: linker files, their symbol tables and their regions.

``elf_files`` and ``collect`` are not imported here but by their callers: they need numpy, and
the running kernel's text is read while numpy is still being imported.
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
