"""Snapshots: one consistent, immutable ELF image of all linker files."""

from .latest import Latest
from .snapshot import LAYOUTS, Snapshot, take

__all__ = ["LAYOUTS", "Latest", "Snapshot", "take"]
