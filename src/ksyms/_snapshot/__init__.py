"""Snapshots: one consistent, immutable ELF image of all linker files."""

from .latest import Latest
from .snapshot import Snapshot, take, take_chosen

__all__ = ["Latest", "Snapshot", "take", "take_chosen"]
