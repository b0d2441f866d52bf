"""Where symbols come from: linker files, their tables and their ranges of addresses."""

from .collect import collect
from .files import KERNEL_ID, Files, LinkerFile, Region, Symbols
from .generation import TRIES, Generation
from .host import Access, Host, read_access
from .link_time import LinkTime, read_link_time
from .linker import Linker, Reading
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
    "Reading",
    "Region",
    "Root",
    "Symbols",
    "collect",
    "read_access",
    "read_link_time",
]
