"""Snapshots: one consistent, immutable ELF image of all linker files."""

from .snapshot import LAYOUTS, TRIES, Snapshot, take

__all__ = ["LAYOUTS", "TRIES", "Snapshot", "take"]
