"""The command line, ``ksyms``."""

from .main import main

__all__ = ["main"]
