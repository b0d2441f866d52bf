"""Servers of the device, from their start to their end."""

from .character import CharacterServer
from .directory import DirectoryServer, status
from .server import Server

__all__ = ["CharacterServer", "DirectoryServer", "Server", "status"]
