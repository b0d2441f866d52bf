"""Where /proc/iomem says that the kernel lies, and what makes it say nothing.

A kernel that lists its functions only has no other source for its data: no boundary symbols.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Kernel
from ksyms._linker import Root
from ksyms._linker.iomem import read_iomem

TEXT = 0xFFFFFFFF81000000
CODE = 0x1000000
"""Where the code lies in physical memory, in the file below."""
LANDMARKS = {"_text": TEXT, "_etext": TEXT + 0xE00000}
X86 = """\
00000000-00000fff : Reserved
00100000-7ffdefff : System RAM
  01000000-01dfffff : Kernel code
  01e00000-024bafff : Kernel rodata
  02600000-028b92ff : Kernel data
  02e4d000-031fffff : Kernel bss
fed00000-fed003ff : HPET 0
"""
# On arm64 the resource ends at __init_begin (arch/arm64/kernel/setup.c), behind _etext.
ARM64 = X86.replace("01dfffff : Kernel code", "01efffff : Kernel code")
# What r_show prints without CAP_SYS_ADMIN.
HIDDEN = "".join(f"00000000-00000000 : {line.split(' : ')[1]}\n" for line in X86.splitlines())


def told(path: Path, text: str, landmarks: dict[str, int]) -> tuple[object, str | None]:
    """What is read of such a file, and why nothing is."""
    (path / "proc").mkdir(parents=True)
    (path / "proc/iomem").write_text(text)
    root = Root(str(path))
    return read_iomem(root, landmarks), root.absent.get("proc/iomem")


def test_ranges_are_moved_to_where_the_code_is(tmp_path: Path) -> None:
    """As ``_text`` says; a resource's end is its last byte."""
    away = TEXT - CODE
    assert told(tmp_path, X86, LANDMARKS) == (
        {
            "code": (TEXT, TEXT + 0xE00000),
            "rodata": (0x1E00000 + away, 0x24BB000 + away),
            "data": (0x2600000 + away, 0x28B9300 + away),
            "bss": (0x2E4D000 + away, 0x3200000 + away),
        },
        None,
    )


@pytest.mark.parametrize(
    ("text", "landmarks", "why"),
    [
        (ARM64, LANDMARKS, "its kernel code is not [_text, _etext)"),
        (
            X86,
            {**LANDMARKS, "_etext": TEXT + 0xE00001},
            "its kernel code is not [_text, _etext)",
        ),
        (HIDDEN, LANDMARKS, "its addresses are hidden from this process"),
        (X86.replace("Kernel code", "Reserved"), LANDMARKS, "it names no kernel code"),
        (X86, {"_text": TEXT}, "it names no kernel code"),
        (X86, {"_etext": TEXT + 0xE00000}, "it names no kernel code"),
        (
            X86.replace("02e4d000-031fffff", "02e4d000-ffffffffffffffff"),
            LANDMARKS,
            "one of its ranges is not of 64 bits",
        ),
        (
            X86.replace("02e4d000-031fffff", "031fffff-02e4d000"),
            LANDMARKS,
            "one of its ranges is not of 64 bits",
        ),
    ],
)
def test_what_is_not_trusted(
    tmp_path: Path, text: str, landmarks: dict[str, int], why: str
) -> None:
    """Nothing of it is, not the ranges that look right either."""
    assert told(tmp_path, text, landmarks) == ({}, why)


def test_iomem_of_the_saved_kernels_is_where_their_symbols_are(
    saved: dict[str, Kernel],
) -> None:
    """Boundary symbols, which do not need the file, say the same of each range they bound."""
    bounds = {
        "code": ("_text", "_etext"),
        "rodata": ("__start_rodata", None),  # x86's ends at a page's end behind __end_rodata
        "data": ("_sdata", "_edata"),
        "bss": ("__bss_start", "__bss_stop"),
    }
    for kernel in saved.values():
        own = {name: address for address, _, name, owner in kernel.lines if owner is None}
        found = read_iomem(Root(str(kernel.root)), own)
        assert found.keys() == bounds.keys()
        for name, (first, last) in bounds.items():
            assert found[name][0] == own[first], (kernel.name, name)
            assert last is None or found[name][1] == own[last], (kernel.name, name)
