"""``.note.ksyms``: the note in which a snapshot says which kernel and boot it is of."""

from .note import (
    BTF_ALIGN,
    EXACT,
    LARGEST,
    LETTERS,
    LETTERS_RUN,
    NAME,
    PFX_PREFIX,
    SECTION,
    SHARING_PREFIXES,
    VERSION,
    btf_section,
    check,
    check_version,
    pack,
    read,
    unpack,
)

__all__ = [
    "BTF_ALIGN",
    "EXACT",
    "LARGEST",
    "LETTERS",
    "LETTERS_RUN",
    "NAME",
    "PFX_PREFIX",
    "SECTION",
    "SHARING_PREFIXES",
    "VERSION",
    "btf_section",
    "check",
    "check_version",
    "pack",
    "read",
    "unpack",
]
