"""The rules by which a name resembles another, beside every typo that there is."""

from __future__ import annotations

from itertools import product

import pytest

import ksyms
from elf_files import Row, elf_file
from ksyms._symbols.similar import MOST, core, one_slip, similar

LETTERS = b"ab_"


def typos(name: bytes) -> set[bytes]:
    """Make every typo of a name: one character more, less, changed, or two swapped."""
    found = {name}
    for at in range(len(name) + 1):
        before, after = name[:at], name[at:]
        found |= {before + bytes([letter]) + after for letter in LETTERS}
        if after:
            found.add(before + after[1:])
            found |= {before + bytes([letter]) + after[1:] for letter in LETTERS}
        if len(after) > 1:
            found.add(before + after[1::-1] + after[2:])
    return found


def test_one_typo_is_what_can_be_mistyped() -> None:
    """Every pair of names of four and five characters from three letters."""
    names = [bytes(each) for size in (4, 5) for each in product(LETTERS, repeat=size)]
    for name in names[::7]:
        made = typos(name)
        assert {other for other in names if one_slip(name, other)} == made & set(names)


@pytest.mark.parametrize(
    ("one", "other"), [(b"abc", b"abx"), (b"ab", b"abb"), (b"abc", b"abcd")]
)
def test_short_names_have_no_typos(one: bytes, other: bytes) -> None:
    assert not one_slip(one, other)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"schedule", (b"schedule", False)),
        (b"__schedule", (b"schedule", False)),
        (b"__", (b"__", False)),
        # Suffixes of gcc and clang.
        (b"tcp_ack.isra.0", (b"tcp_ack", False)),
        (b"tcp_ack.constprop.0.cold", (b"tcp_ack", False)),
        (b"tcp_ack.llvm.123", (b"tcp_ack", False)),
        (b"tcp_ack$0123", (b"tcp_ack", False)),
        # The names that syscall_wrapper.h of x86, arm64, s390 and riscv, and of
        # include/linux/syscalls.h, give a system call.
        (b"sys_read", (b"read", True)),
        (b"ksys_read", (b"read", True)),
        (b"__x64_sys_read", (b"read", True)),
        (b"__ia32_compat_sys_read", (b"read", True)),
        (b"__arm64_sys_read", (b"read", True)),
        (b"__s390x_sys_read", (b"read", True)),
        (b"__riscv_sys_read", (b"read", True)),
        # These are not system calls.
        (b"bpf_sys_bpf", (b"bpf_sys_bpf", False)),
        (b"sys_", (b"sys_", False)),
    ],
)
def test_the_core_of_a_name(name: bytes, expected: tuple[bytes, bool]) -> None:
    assert core(name) == expected


def table_of(*names: str) -> ksyms.SymbolTable:
    strings, rows = b"\0", []
    for number, name in enumerate(names):
        rows.append(Row(len(strings), 0x1000 + number))
        strings += name.encode() + b"\0"
    return ksyms.load(memoryview(elf_file(rows, strings)))


def test_the_best_come_first_and_few() -> None:
    """The same core before a typo, and of those the ones of nearly the same length."""
    table = table_of("__vfs_reed", "vfs_read.isra.0", "VFS_READ", "vfs_reads", "vfs_write")
    assert similar(table, "vfs_read") == ["VFS_READ", "vfs_read.isra.0", "vfs_reads"]
    assert len(similar(table, "vfs_read")) == MOST


@pytest.mark.parametrize("name", ["", "_", "__", "no_such_name", "v" * 600])
def test_nothing_resembles(name: str) -> None:
    assert similar(table_of("vfs_read", "_", "__"), name) == []
