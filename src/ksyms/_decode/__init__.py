"""Decode texts with kernel addresses: find the addresses, their boot and their symbols."""

from .address_map import MODULES
from .annotate import Decoder
from .boot import Boot, boot_of, slid
from .encoded import PerfDataError
from .follow import Follower
from .frames import Frames
from .incoming import Incoming
from .stream import Block, blocks, seekable

__all__ = [
    "MODULES",
    "Block",
    "Boot",
    "Decoder",
    "Follower",
    "Frames",
    "Incoming",
    "PerfDataError",
    "blocks",
    "boot_of",
    "seekable",
    "slid",
]
