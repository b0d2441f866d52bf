"""Texts with kernel addresses in them, and what those are."""

from .boot import Boot, boot_of, slid
from .frames import Frames
from .stream import blocks, seekable
from .text import MODULES, Decoder

__all__ = ["MODULES", "Boot", "Decoder", "Frames", "blocks", "boot_of", "seekable", "slid"]
