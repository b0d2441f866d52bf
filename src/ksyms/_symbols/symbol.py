"""One symbol, as a person or a program wants it."""

from __future__ import annotations

from .._typing import NamedTuple


class Symbol(NamedTuple):
    """A symbol of a snapshot.

    ``address`` is where it is in the snapshot's boot, or the value of an absolute symbol;
    ``size`` in bytes, 0 where it has none; ``exact`` whether the size is the linker's own
    or inferred from what follows. ``module`` is the name in kallsyms' brackets, None for
    the kernel; ``section`` the ELF section's name, None for an absolute symbol.
    ``binding`` is ``local``, ``global`` or ``weak``; ``kind`` is ``function``, ``object``
    or ``none``; ``letter`` is kallsyms' own (nm's), None in a file that has none.
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
