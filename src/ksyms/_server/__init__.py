"""Servers of the device: from their start to their end."""

from .character import CharacterServer
from .directory import DirectoryServer, status

__all__ = ["CharacterServer", "DirectoryServer", "status"]
