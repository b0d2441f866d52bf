"""One symbol, as a person or a program wants it."""

from __future__ import annotations

from .._typing import Final, NamedTuple

MARKS: Final = ("$", ".L", "L0\1", "L0\2")
"""How names of symbols without a type begin that name nothing: mapping symbols and labels.

In a module all that begin with ``L0`` are such (_linker/marks.py has the rule).
"""


class Symbol(NamedTuple):
    """A symbol of a snapshot.

    ``address`` is where it is in the snapshot's boot, or the value of an absolute symbol;
    ``size`` in bytes, 0 where it has none; ``exact`` whether the size is the linker's own
    or inferred from what follows. ``module`` is the name in kallsyms' brackets, None for
    the kernel; ``section`` the ELF section's name, None for an absolute symbol.
    ``binding`` is ``local``, ``global`` or ``weak``; ``kind`` is ``function``, ``object``
    or ``none``; ``letter`` is kallsyms' own, or nm's of an ELF file that is no snapshot; None
    in FreeBSD's image, which has none.
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
        """The call that makes the symbol, with address and size in hexadecimal."""
        fields = [
            f"{name}={value:#x}" if name in ("address", "size") else f"{name}={value!r}"
            for name, value in zip(self._fields, self)
        ]
        return f"{type(self).__name__}({', '.join(fields)})"


def is_mark(symbol: Symbol) -> bool:
    """Whether it names nothing: a mapping symbol or a label (docs/format.md, "st_info")."""
    begins = MARKS if symbol.module is None else (*MARKS, "L0")
    return symbol.kind == "none" and symbol.name.startswith(begins)
