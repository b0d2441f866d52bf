"""Symbols read from any ELF image: address to symbol, name to symbols."""

from .inputs import load
from .slide import link_slide, slide_between
from .symbol import Symbol, is_mark
from .table import SymbolTable

__all__ = [
    "Symbol",
    "SymbolTable",
    "is_mark",
    "link_slide",
    "load",
    "slide_between",
]
