"""drgn, as docs/drgn.md has it: a symbol finder on a snapshot; and why not the file itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import drgn
import pytest

from pages import python_block

if TYPE_CHECKING:
    from conftest import Kernel

use_symbols = python_block("drgn.md")["use_symbols"]


def test_symbols(kernel: Kernel) -> None:
    """By name and by address, each as kallsyms has it; all of them at once."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    use_symbols(prog, str(kernel.elf))
    lines = kernel.lines
    counts = Counter(name for _, _, name, _ in lines)
    at: dict[int, set[str]] = {}
    for address, _, name, _ in lines:
        at.setdefault(address, set()).add(name)
    for address, letter, name, _ in lines[:: len(lines) // 50]:
        if letter.lower() == "t" and counts[name] == 1:
            assert prog.symbol(name).address == address
            found = prog.symbol(address)
            assert found.name in at[address]
            assert found.kind == drgn.SymbolKind.FUNC
    duplicate = next(n for n, count in counts.items() if count == 3 and n[0] != "$")
    assert len(prog.symbols(duplicate)) == 3
    assert len(prog.symbols()) == len(lines)
    with pytest.raises(LookupError):
        prog.symbol("no_such_symbol")


def test_the_file_itself_is_ignored(kernel: Kernel) -> None:
    """As the page says: it has no debug information, and no contents."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    module = prog.main_module("kernel", create=True)
    module.try_file(str(kernel.elf), force=True)
    assert (module.loaded_file_path, module.debug_file_path) == (None, None)
    with pytest.raises(LookupError):
        prog.symbol("schedule")
