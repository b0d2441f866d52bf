"""Texts with kernel addresses in them, and what those are."""

from .boot import MODULES, Boot, boot_of, slid
from .frames import Frames
from .stream import beginning, blocks, cut, pieces, seekable
from .text import Decoder

__all__ = [
    "MODULES",
    "Boot",
    "Decoder",
    "Frames",
    "beginning",
    "blocks",
    "boot_of",
    "cut",
    "pieces",
    "seekable",
    "slid",
]
