"""The identity of a kernel's or a module's ELF file, read from the file itself."""

from __future__ import annotations

from collections.abc import Callable

from .._elf import ElfFile, Shdr, build_id
from .._elf import constants as elf
from .._typing import Final

_BANNER: Final = b"Linux version "
_FIELD: Final = 65  # __NEW_UTS_LEN + 1 (include/uapi/linux/utsname.h)
_SYSNAME: Final = b"Linux\0"
_MODINFO: Final = ".modinfo"
_THIS_MODULE: Final = ".gnu.linkonce.this_module"
_NAME_OFFSET: Final = {elf.ELFCLASS32: 12, elf.ELFCLASS64: 24}
"""Offset of the name in struct module, after a state and a list_head (linux/module.h)."""
_LONGEST: Final = 512


def build_id_of(image: ElfFile) -> str | None:
    """Return the GNU build-id in the file's notes, in hexadecimal; None if it has none."""
    found = next(filter(None, map(build_id, image.notes())), None)
    return None if found is None else found.hex()


def machine_of(image: ElfFile) -> str | None:
    """Return the machine as in uname -m, from the file's header; None if it is unknown."""
    header = image.header
    return elf.machine_name(header.e_machine, image.format.elf_class, image.format.data)


def module_of(image: ElfFile) -> str | None:
    """Return the name of the module whose file this is; None if it is not a module's."""
    found = _find_section(image, _THIS_MODULE)
    if found is None:
        return None
    name = _read_modinfo(image).get(b"name")
    if name is None:
        # Before Linux kernel commit 3e2e857f9c3a ("module: Add module name to modinfo") (in
        # v4.13) only struct module has the name.
        start = _NAME_OFFSET[image.format.elf_class]
        name = bytes(image.contents(found)[start : start + _LONGEST]).partition(b"\0")[0]
    return name.decode("utf-8", "replace") or None


def release_of(image: ElfFile, symbols: Callable[[str], list[tuple[int, int]]]) -> str | None:
    """Return the kernel's release, as in uname -r; None if the file does not contain it.

    A module has it in its ``vermagic``, a vmlinux in the variables ``linux_banner`` and
    ``init_uts_ns``.

    Args:
        image: the file.
        symbols: returns ``st_shndx`` and ``st_value`` of each symbol of a name.
    """
    magic = _read_modinfo(image).get(b"vermagic")
    if magic is not None and _find_section(image, _THIS_MODULE) is not None:
        return _first_word(magic)
    for section, value in symbols("linux_banner"):
        text = _read_bytes_at(image, section, value)
        if text.startswith(_BANNER):
            return _first_word(text[len(_BANNER) :])
    for section, value in symbols("init_uts_ns"):
        text = _read_bytes_at(image, section, value)
        # Until Linux 5.11 a reference count comes before the name.
        start = text.find(_SYSNAME, 0, 16)
        if start >= 0:
            return _first_word(text[start + 2 * _FIELD :])
    return None


def _first_word(text: bytes) -> str | None:
    """Return the first word of ``text``, up to a space or NUL; None if it is not ASCII."""
    word = text[:_LONGEST].partition(b"\0")[0].split(b" ")[0]
    return word.decode("utf-8", "replace") if word.isascii() and word else None


def _read_bytes_at(image: ElfFile, number: int, value: int) -> bytes:
    """Return the bytes at the value of a symbol in section ``number``, a few hundred at most.

    Return b"" if they are not in the file.
    """
    section = image.stored.get(number)
    if section is None:
        return b""
    start = value - (0 if image.header.e_type == elf.ET_REL else section.sh_addr)
    return bytes(image.contents(section)[start : start + _LONGEST]) if start >= 0 else b""


def _find_section(image: ElfFile, name: str) -> Shdr | None:
    """Return the first section called ``name`` that has bytes in the file."""
    sections = image.stored.values()
    return next((s for s in sections if s.sh_size and image.is_called(s, name)), None)


def _read_modinfo(image: ElfFile) -> dict[bytes, bytes]:
    """Return the values in a module's ``.modinfo`` by their names; {} if it has none.

    Source: include/linux/moduleparam.h, __MODULE_INFO.
    """
    section = _find_section(image, _MODINFO)
    text = bytes(image.contents(section)) if section is not None else b""
    pairs = (part.partition(b"=") for part in text.split(b"\0"))
    return {name: value for name, equals, value in pairs if equals}
