"""How calls on the device arrive: the kernel's FUSE protocol."""

from . import protocol
from .backing import Backing
from .callers import Gate, check_namespace
from .cuse import CharacterDevice, connect
from .directory import STATUS, Directory
from .mount import FORCE, KIND, Mount, check, mount, mounted, unmount
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
    "Mount",
    "Operations",
    "Request",
    "check",
    "check_namespace",
    "connect",
    "mount",
    "mounted",
    "protocol",
    "serve",
    "unmount",
]
