"""The transport of calls on the device: the kernel's FUSE protocol."""

from . import protocol
from .backing import Backing
from .callers import Gate, check_namespace
from .cuse import CharacterDevice, connect
from .directory import STATUS, Directory
from .memory import Readers
from .mount import FORCE, KIND, check_fuse, find_mount, mount, try_unmount, unmount
from .operations import Operations, serve
from .protocol import Channel, Request

__all__ = [
    "FORCE",
    "KIND",
    "STATUS",
    "Backing",
    "Channel",
    "CharacterDevice",
    "Directory",
    "Gate",
    "Operations",
    "Readers",
    "Request",
    "check_fuse",
    "check_namespace",
    "connect",
    "find_mount",
    "mount",
    "protocol",
    "serve",
    "try_unmount",
    "unmount",
]
