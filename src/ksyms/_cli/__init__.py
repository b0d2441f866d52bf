"""The command line, ``ksyms``."""

from .main import main, program

__all__ = ["main", "program"]
