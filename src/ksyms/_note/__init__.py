"""``.note.ksyms``: the note with facts about a snapshot's kernel, boot and linker files."""

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
