"""Symbols read from any ELF image: address to symbol, name to symbols."""

from .symbol import Symbol
from .table import SymbolTable, load

__all__ = ["Symbol", "SymbolTable", "load"]
