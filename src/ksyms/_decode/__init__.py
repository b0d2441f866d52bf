"""Texts with kernel addresses in them, and what those are."""

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
