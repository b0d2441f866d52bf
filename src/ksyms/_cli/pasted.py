"""Parse one frame as people paste it from an oops, a stack or a listing.

The kernel prints an address as ``name+0xOFFSET/0xSIZE [module BUILD-ID]``
(kernel/kallsyms.c, __sprint_symbol; the build-id since 5.14); before it come, by machine and
version, a register's name, the code segment and the address in brackets.
"""

from __future__ import annotations

import re

from .._typing import Final, NamedTuple

_TIME: Final = r"(?:<\d{1,2}>)?\[ *\d+\.\d+\]\s*(?:\[ *[TC]\d+\]\s*)?"
# The registers of x86, arm, arm64, riscv, ppc and mips as show_regs() of each prints them.
_REGISTER: Final = r"""
    (?:[ER]IP|NIP|CFAR|LR|PC|EPC)(?:\s+is\s+at\s+|\s*:\s*|\s+(?=\[)) | (?:pc|lr|epc|ra)\s+:\s*
"""
_PLACE: Final = r"""
    (?: \[<(?:0[xX])?[0-9a-fA-F]{1,16}>\] | <(?:0[xX])?[0-9a-fA-F]{1,16}>
      | \[[0-9a-f]{16}\] )\s*
"""
# As in kallsyms, nm and perf: with a letter behind it, or none.
_COLUMN: Final = r"(?:0[xX][0-9a-fA-F]{1,16}|[0-9a-f]{16}|[0-9a-f]{8})\s+(?=[^\s\[(])"
_FRAME: Final = rf"""(?xas)
    (?:{_TIME})?
    (?:{_REGISTER})?
    (?:00[0-9a-f]{{2}}:)?
    (?P<places>(?:{_PLACE})+|{_COLUMN}|)
    (?:(?:\?|=>|[A-Za-z])\s+)?
    (?P<what>.*?)
    (?:\s+\(?\[(?P<module>[\w.-]+)(?:\s+(?P<build_id>[0-9a-f]{{8,}}))?\]\)?)?
    (?:\s+\(unreliable\))?
"""
_SIZED: Final = r"(?a)\S+\+0x[0-9a-f]+/0x[0-9a-f]+"
"""A frame within other words."""
_EXPRESSION: Final = r"(?as)(?:[\w*?.-]+:)?/.*/"
_DIGITS: Final = r"\b(?:0[xX])?([0-9a-fA-F]+)\b"
_KALLSYMS: Final = "kernel.kallsyms"
"""The kernel's name in perf's output, in place of a module's name."""


class Pasted(NamedTuple):
    """The frame ``what``, without the text around it.

    ``address`` is the address beside it, None if there is none or it is hidden by zeros.
    ``module`` is the module in brackets, and ``build_id`` the hexadecimal build-id there.
    """

    what: str
    address: int | None = None
    module: str | None = None
    build_id: str | None = None


def parse_frame(text: str) -> Pasted:
    """Parse ``text``; a plain address, name or pattern is left as it is."""
    if re.fullmatch(_EXPRESSION, text):
        return Pasted(text)
    match = re.fullmatch(_FRAME, text)
    if match is None:
        return Pasted(text)
    places = [int(digits, 16) for digits in re.findall(_DIGITS, match["places"])]
    told = next((place for place in reversed(places) if place), None)
    what, module = match["what"], match["module"]
    if bare := re.fullmatch(r"<(.+)>:?", what):  # as objdump and gdb have it
        what = bare[1]
    if re.search(r"\s", what):
        sized = re.findall(_SIZED, what)
        if len(sized) == 1 and what.endswith(sized[0]):
            return Pasted(sized[0], told, module, match["build_id"])
    if places and (not what or re.search(r"\s|^\(", what)):
        return Pasted(f"{told or 0:#x}")
    module = "vmlinux" if module == _KALLSYMS else module
    return Pasted(what, told, module, match["build_id"])
