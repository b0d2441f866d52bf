"""Snapshots: one consistent, immutable ELF image of all linker files."""

from .snapshot import LAYOUTS, Snapshot, take

__all__ = ["LAYOUTS", "Snapshot", "take"]
