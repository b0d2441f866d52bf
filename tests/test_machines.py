"""Which machine a text is of, where nothing but the text tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ksyms
from ksyms._elf.constants import machine_name

LABELS = Path(__file__).parent / "fixtures" / "labels"
X86, ARM64, RISCV, S390, POWER, LOONG, MIPS = 62, 183, 243, 22, 21, 258, 8


def facts(text: str | bytes, tmp_path: Path) -> tuple[str | None, int, int, int]:
    """The machine, its number in the ELF header, the class and the byte order (gABI)."""
    path = tmp_path / "saved"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    image = ksyms.snapshot(kallsyms=path).image
    number = int.from_bytes(image[18:20], "little" if image[5] == 1 else "big")
    return ksyms.load(image).facts["machine"], number, image[4], image[5]


# Of kernels that were booted; uname -m of armhf, i386 and ppc64el was armv7l, i686, ppc64le.
BOOTED = {
    "amd64-7.2": ("x86_64", X86, 2, 1),
    "arm64-6.1": ("aarch64", ARM64, 2, 1),
    "arm64-6.12": ("aarch64", ARM64, 2, 1),
    "arm64-7.2": ("aarch64", ARM64, 2, 1),
    "armhf-6.1": (None, 40, 1, 1),
    "armhf-7.2": (None, 40, 1, 1),
    "i386-6.1": (None, 3, 1, 1),
    "ppc64el-6.1": (None, POWER, 2, 1),
    "riscv64": ("riscv64", RISCV, 2, 1),
    "s390x-6.1": ("s390x", S390, 2, 2),
    "s390x-7.2": ("s390x", S390, 2, 2),
}


@pytest.mark.parametrize("name", BOOTED)
def test_of_kernels_that_were_booted(name: str, tmp_path: Path) -> None:
    """Never another machine than it was; None where several can run the same kernel."""
    assert facts((LABELS / f"{name}.kallsyms").read_bytes(), tmp_path) == BOOTED[name]


def kernel(start: int, *names: str) -> str:
    digits = 8 if start < 1 << 32 else 16
    rows = ["_stext", *names]
    lines = [f"{start + 16 * i:0{digits}x} T {name}\n" for i, name in enumerate(rows)]
    return "".join(lines) + f"{start + 0x100000:0{digits}x} T _etext\n"


TEXTS = {
    "arm64-4.14": (kernel(0xFFFFFF8008081000, "do_undefinstr", "SyS_read"), "aarch64", ARM64),
    "arm64-kaslr": (kernel(0xFFFFA6BCD8210000, "do_one"), "aarch64", ARM64),
    "arm64-39-bits": (kernel(0xFFFFFFC010080000, "do_one"), "aarch64", ARM64),
    "loongarch": (kernel(0x9000000000200000, "do_one"), "loongarch64", LOONG),
    "ppc64": (kernel(0xC000000000000000, "do_one", ".sys_read"), "ppc64", POWER),
    "ppc64-of-either-order": (kernel(0xC000000000000000, "do_one"), None, POWER),
    "mips64": (kernel(0xFFFFFFFF80100000, "handle_sys64", "sys_read"), "mips64", MIPS),
    "mips": (kernel(0x80100000, "r4k_cache_init"), "mips", MIPS),
    "riscv-before-5.13": (kernel(0xFFFFFFE000002000, "do_one"), "riscv64", RISCV),
    "riscv-6.1": (kernel(0xFFFFFFFF80002000, "do_trap_ecall_u"), "riscv64", RISCV),
    "s390x": (kernel(0x3FFE0000000, "pgm_check_handler"), "s390x", S390),
    "x86-4.15": (kernel(0xFFFFFFFFB1A00000, "startup_64", "SyS_read"), "x86_64", X86),
    "x86-or-mips-or-riscv": (kernel(0xFFFFFFFF81000000, "do_one", "sys_read"), None, 0),
    "alpha": (kernel(0xFFFFFC0000310000, "do_one"), None, 0),
    "sparc64": (kernel(0x404000, "do_one", "sys_read"), None, 0),
    "user-mode-linux": (kernel(0x60000000, "do_one"), None, 0),
    "names-of-two": (kernel(0xFFFFFFFF81000000, "__x64_sys_read", "sbi_init"), None, 0),
    "x86-where-it-never-lies": (kernel(0x404000, "startup_64"), None, 0),
    "a-module's-name": (
        kernel(0xFFFFFFFF81000000, "do_one") + "ffffffffc0000000 t startup_64\t[mod]\n",
        None,
        0,
    ),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("here", ["x86_64", "s390x"])
def test_by_the_text_alone(
    name: str, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever machine this is."""
    uname = os.uname()
    other = os.uname_result((*uname[:4], here))
    monkeypatch.setattr(os, "uname", lambda: other)
    text, machine, number = TEXTS[name]
    big = machine in ("ppc64", "s390x")
    wide = 2 if text[8] != " " else 1
    assert facts(text, tmp_path) == (machine, number, wide, 2 if big else 1)


def test_a_file_that_tells_comes_first(tmp_path: Path) -> None:
    """Linux 6.1 and later say it: also what no text tells."""
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/arch").write_text("ppc64le\n")
    (tmp_path / "proc/kallsyms").write_text(TEXTS["ppc64-of-either-order"][0])
    image = ksyms.snapshot(tmp_path).image
    assert (ksyms.load(image).facts["machine"], image[5], image[18]) == ("ppc64le", 1, POWER)


@pytest.mark.parametrize(
    ("number", "elf_class", "data", "name"),
    [
        # e_machine by include/uapi/linux/elf-em.h; the names are UTS_MACHINE of arch/*/Makefile
        # and what uname -m printed of the kernels above.
        (62, 2, 1, "x86_64"),
        (183, 2, 1, "aarch64"),
        (243, 2, 1, "riscv64"),
        (243, 1, 1, "riscv32"),
        (21, 2, 1, "ppc64le"),
        (21, 2, 2, "ppc64"),
        (20, 1, 2, "ppc"),
        (22, 2, 2, "s390x"),
        (8, 1, 2, "mips"),
        (8, 2, 2, "mips64"),
        (258, 2, 1, "loongarch64"),
        # Of these uname -m names the processor.
        (3, 1, 1, "i386"),
        (40, 1, 1, "arm"),
        # EM_NONE, and a class that the machine's kernel does not have (x32).
        (0, 2, 1, None),
        (62, 1, 1, None),
    ],
)
def test_the_name_of_a_machine(number: int, elf_class: int, data: int, name: str) -> None:
    assert machine_name(number, elf_class, data) == name
