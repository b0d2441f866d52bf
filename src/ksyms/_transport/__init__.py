"""How calls on the device arrive: the kernel's FUSE protocol."""

from .backing import Backing
from .directory import STATUS, Directory
from .mount import DETACH, KIND, Mount, mount, mounted, unmount
from .operations import Operations, serve
from .protocol import Channel, Request

__all__ = [
    "DETACH",
    "KIND",
    "STATUS",
    "Backing",
    "Channel",
    "Directory",
    "Mount",
    "Operations",
    "Request",
    "mount",
    "mounted",
    "serve",
    "unmount",
]
