"""Every reader of ELF finds kallsyms' symbols in the file, all of them and no others."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from naming import ABSOLUTE, CODE
from oracles import Subject, output, subject

if TYPE_CHECKING:
    from conftest import Kernel

NM = {
    "nm": ("nm", "--no-demangle", "-a"),
    "eu-nm": ("eu-nm", "--format=bsd", "-a"),
    "llvm-nm": ("llvm-nm", "--no-demangle", "-a"),
}


def _expected(held: Subject) -> Counter[tuple[int, str]]:
    return Counter((address, name) for address, _, name, _ in held.rows)


@pytest.mark.parametrize("tool", NM)
def test_nm_has_the_same_multiset(kernel: Kernel, tool: str) -> None:
    held = subject(kernel)
    lines = (line.split(" ", 2) for line in output(*NM[tool], held.elf).splitlines())
    found = Counter((int(address, 16), name) for address, _, name in lines)
    assert found == _expected(held)


def test_nm_has_the_letters_of_code_and_absolute_symbols(kernel: Kernel) -> None:
    """A section without contents is ``b`` to nm unless it is code; no letter tells more.

    Where the kernel names all of its image, the ends of its code are in what follows.
    """
    held = subject(kernel)
    found: Counter[tuple[int, str, str]] = Counter()
    for line in output(*NM["nm"], held.elf).splitlines():
        address, letter, name = line.split(" ", 2)
        found[int(address, 16), letter, name] += 1
    ends = {held.address_of(name) for name in ("_etext", "_einittext") if held.lists_all}
    told = Counter(
        (address, "B" if address in ends else letter, name)
        for address, letter, name, _ in held.rows
        if letter in CODE | ABSOLUTE
    )
    assert not told - found


def test_readelf_has_the_same_multiset(kernel: Kernel) -> None:
    held = subject(kernel)
    assert len(held.symbols) == len(held.rows)
    assert Counter((s.value, s.name) for s in held.symbols) == _expected(held)


def test_llvm_readelf_has_as_many(kernel: Kernel) -> None:
    held = subject(kernel)
    text = output("llvm-readelf", "-sW", held.elf)
    assert f"contains {len(held.rows) + 1} entries" in text
    assert len(re.findall(r"^ *\d+: [0-9a-f]{16} ", text, re.M)) == len(held.rows) + 1


def test_pyelftools_has_the_same_multiset_in_the_right_modules(kernel: Kernel) -> None:
    """The section of a symbol says its module, None for the kernel's own."""
    held = subject(kernel)
    found: Counter[tuple[int, str, str | None]] = Counter()
    with held.elf.open("rb") as file:
        image = ELFFile(file)
        sections = list(image.iter_sections())
        table = image.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        for symbol in list(table.iter_symbols())[1:]:
            found[symbol["st_value"], symbol.name, _module(sections, symbol)] += 1
    assert found == Counter((address, name, module) for address, _, name, module in held.rows)


def _module(sections: list[Any], symbol: Any) -> str | None:
    """The module of a symbol's section, which must hold the symbol."""
    index, value = symbol["st_shndx"], symbol["st_value"]
    if index == "SHN_ABS":
        return None
    section = sections[index]
    assert section["sh_addr"] <= value <= section["sh_addr"] + section["sh_size"]
    match = re.match(r"\[(.+)\]\.", section.name)
    return match[1] if match else None
