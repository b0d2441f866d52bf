"""Rules of symbols as tables: which name addresses, which a linker takes, which sizes fit.

Expected values are those of the gABI ("Symbol Table", "Section Header Table") and of the
kernel's functions that are named beside them.
"""

from __future__ import annotations

import pytest

import ksyms
from elf_files import SHN_ABS, SHN_COMMON, Row, Section, elf_file
from ksyms._symbols.nm import letter
from ksyms._symbols.search import prints_size
from ksyms._symbols.section_of_symbol import module_of_section
from ksyms._symbols.symbol import encode_name

LOCAL, GLOBAL, WEAK = 0x00, 0x10, 0x20
NOTYPE, OBJECT, FUNC, SECTION, FILE, TLS = 0, 1, 2, 3, 4, 6
UNDEF = 0


@pytest.mark.parametrize(
    ("name", "info", "shndx", "names"),
    [
        ("f", GLOBAL | FUNC, 1, True),
        ("f", WEAK | OBJECT, 1, True),
        ("f", LOCAL | NOTYPE, 1, True),  # an assembler's label
        ("f", GLOBAL | FUNC, UNDEF, False),
        ("f", GLOBAL | OBJECT, SHN_ABS, False),
        ("f", GLOBAL | OBJECT, SHN_COMMON, False),
        ("f", LOCAL | SECTION, 1, False),
        ("f", LOCAL | FILE, 1, False),
        ("f", GLOBAL | TLS, 1, False),
        # include/linux/module_symbol.h, is_mapping_symbol; a type makes a symbol of it.
        ("$x", LOCAL | NOTYPE, 1, False),
        ("$d.12", LOCAL | NOTYPE, 1, False),
        (".L12", LOCAL | NOTYPE, 1, False),
        (".L12", LOCAL | FUNC, 1, True),
    ],
)
def test_which_symbols_name_addresses(name: str, info: int, shndx: int, names: bool) -> None:
    """Singly, by the spans, and by what starts there."""
    row = Row(1, 0x1010, 8, info, shndx)
    table = ksyms.load(memoryview(elf_file([row], b"\0" + name.encode() + b"\0")))
    assert (table.lookup(0x1012) is not None) == names
    assert (int(table.locate([0x1012])[0]) < len(table)) == names
    assert (table.at(0x1010) != []) == names
    assert (table.following(0x1000) is not None) == names


@pytest.mark.parametrize(
    ("rows", "taken"),
    [
        # ld(1) resolves a global symbol before a weak one; local ones are not in question.
        ([(WEAK | FUNC, 0x1000), (GLOBAL | FUNC, 0x1010)], 0x1010),
        ([(LOCAL | FUNC, 0x1000), (WEAK | FUNC, 0x1010)], 0x1010),
        ([(LOCAL | FUNC, 0x1000), (GLOBAL | OBJECT, 0x1010)], 0x1010),
        ([(GLOBAL | FUNC, 0x1000), (GLOBAL | FUNC, 0x1010)], 0x1000),
        ([(LOCAL | SECTION, 0x1000)], None),
        ([(LOCAL | FILE, 0x1000), (LOCAL | FUNC, 0x1010)], 0x1010),
    ],
)
def test_which_symbol_of_a_name_a_linker_takes(
    rows: list[tuple[int, int]], taken: int | None
) -> None:
    """All are called f, each by a string of its own."""
    strings = b"\0" + b"f\0" * len(rows)
    made = [Row(1 + 2 * at, value, 8, info) for at, (info, value) in enumerate(rows)]
    found = ksyms.load(memoryview(elf_file(made, strings))).find_best("f")
    assert (found and found.st_value) == taken


@pytest.mark.parametrize(
    ("section", "module"),
    [
        (None, None),
        ("", None),
        (".text", None),
        ("[ext4].text", "ext4"),
        ("[bpf]", "bpf"),
        ("[a]b].text", "a"),
        ("[ext4", None),
        (".text[ext4]", None),
        ("[]", ""),
    ],
)
def test_the_module_in_a_sections_name(section: str | None, module: str | None) -> None:
    """docs/format.md, "Sections": the module stands in brackets in front."""
    assert module_of_section(section) == module


@pytest.mark.parametrize(
    ("size", "printed"),
    [
        (0x10, True),  # as in the file
        (0x4F, True),  # with padding of less than 64 bytes
        (0x50, False),
        (0x70, True),  # up to the next symbol: kernel/kallsyms.c, get_symbol_pos
        (0x08, False),  # less than the exact size, and no symbol is there
        (0xFF0, False),  # to the end of the page, but past the next symbol
    ],
)
def test_which_sizes_the_kernel_can_print(size: int, printed: bool) -> None:
    rows = [Row(1, 0x1010, 0x10), Row(3, 0x1080, 0x10)]
    text = (Section(".text", 1, 6, 0x1000, b"\x90" * 0x100, align=16),)
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0g\0", sections=text)))
    [symbol] = table.find("f")
    assert prints_size(table, symbol, size) == printed


def test_the_last_symbol_can_be_printed_to_the_end_of_the_page() -> None:
    """kernel/module/kallsyms.c, find_kallsyms_symbol: up to the end of a module's code."""
    rows = [Row(1, 0x1010, 0x10)]
    table = ksyms.load(memoryview(elf_file(rows, b"\0f\0")))
    [symbol] = table.find("f")
    assert prints_size(table, symbol, 0x2000 - 0x1010)
    assert not prints_size(table, symbol, 0x2000 - 0x1018)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [("f", b"f"), ("\u00e9", b"\xc3\xa9"), ("\udcff", b"\xff"), ("\ud800", b"")],
)
def test_names_as_bytes(name: str, encoded: bytes) -> None:
    """Bytes that are not UTF-8 are surrogates (PEP 383); other surrogates are in no file."""
    assert encode_name(name) == encoded


def test_a_symbol_without_a_section_has_the_letter_of_nm() -> None:
    """binutils' bfd/syms.c, bfd_decode_symclass."""
    table = ksyms.load(memoryview(elf_file([Row(1, 5, 0, GLOBAL, SHN_ABS)], b"\0f\0")))
    sym = table.find_best("f")
    assert sym is not None
    assert letter(sym, None, "") == table[0].letter == "A"
