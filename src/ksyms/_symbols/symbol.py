"""One symbol, and its attributes."""

from __future__ import annotations

from .._typing import Final, NamedTuple

MARKS: Final = ("$", ".L", "L0\1", "L0\2")
"""Prefixes of the names of labels, which are symbols without a type that name no address.

In a module all names that start with ``L0`` are labels too (_linker/labels.py has the rule).
"""


class Symbol(NamedTuple):
    """A symbol of a snapshot or another file.

    Attributes:
        name: its name in the file.
        address: its address in the snapshot's boot, or the value of an absolute symbol.
        size: in bytes, 0 if it has none.
        exact: True if the linker gave the size, False if it is inferred from what follows the
            symbol.
        module: the name in kallsyms' brackets, None for the kernel.
        section: the ELF section's name, None for an absolute symbol.
        binding: ``local``, ``global`` or ``weak``.
        kind: ``function``, ``object`` or ``none``.
        letter: kallsyms' letter, or nm's for an ELF file that is not a snapshot. None in an
            image in the layout of FreeBSD's driver, which has no letters.
    """

    name: str
    address: int
    size: int
    exact: bool
    module: str | None
    section: str | None
    binding: str
    kind: str
    letter: str | None

    def __repr__(self) -> str:
        """Return the call that makes the symbol, with address and size in hexadecimal."""
        fields = [
            f"{name}={value:#x}" if name in ("address", "size") else f"{name}={value!r}"
            for name, value in zip(self._fields, self)
        ]
        return f"{type(self).__name__}({', '.join(fields)})"


def encode_name(name: str) -> bytes:
    """Return ``name`` as the bytes that it is in a file; b"" if no file can have it."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


def is_mark(symbol: Symbol) -> bool:
    """Return True for a label, such as a mapping symbol (docs/format.md, "st_info")."""
    begins = MARKS if symbol.module is None else (*MARKS, "L0")
    return symbol.kind == "none" and symbol.name.startswith(begins)
