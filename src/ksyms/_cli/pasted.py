"""Parse one frame as people paste it from an oops, a stack or a listing.

The kernel prints an address as ``name+0xOFFSET/0xSIZE [module BUILD-ID]``
(kernel/kallsyms.c, __sprint_symbol; the build-id since 5.14). Depending on machine and
version, other words come before it: a time, a register's name, the code segment, the address
in brackets. For example::

    [   12.345678] RIP: 0010:[<ffffffff81001234>]  [<ffffffff81001234>] do_exit+0x4/0xa0 [mod]
    time           register   address              address              what            module
                        code segment
"""

from __future__ import annotations

import re

from .._typing import Final, NamedTuple

# In a verbose expression a blank counts in brackets only.
_TIME: Final = r"(?:<\d{1,2}>)?\[[ ]*\d+\.\d+\]\s*(?:\[[ ]*[TC]\d+\]\s*)?"
# The names of registers, as show_regs() of x86, arm, arm64, riscv, ppc and mips prints them.
_REGISTER: Final = r"""
    (?:[ER]IP|NIP|CFAR|LR|PC|EPC)(?:\s+is\s+at\s+|\s*:\s*|\s+(?=\[)) | (?:pc|lr|epc|ra)\s+:\s*
"""
_PLACE: Final = r"""
    (?: \[<(?:0[xX])?[0-9a-fA-F]{1,16}>\] | <(?:0[xX])?[0-9a-fA-F]{1,16}>
      | \[[0-9a-f]{16}\] )\s*
"""
# An address at the start of a line, as kallsyms, nm and perf print it. In _FRAME a letter may
# come after it.
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
"""A frame with offset and size, to be found among other words."""
_EXPRESSION: Final = r"(?as)(?:[\w*?.-]+:)?/.*/"
_DIGITS: Final = r"\b(?:0[xX])?([0-9a-fA-F]+)\b"
_KALLSYMS: Final = "kernel.kallsyms"
"""The kernel's own name where perf prints a module's."""


class Pasted(NamedTuple):
    """A frame without the text around it.

    ``what`` is the name with its offset and size, or the address if there is no name.
    ``address`` is the address beside the name; None if there is none, or if the kernel printed
    zeros. ``module`` is the module in brackets, and ``build_id`` the hexadecimal build-id
    there.
    """

    what: str
    address: int | None = None
    module: str | None = None
    build_id: str | None = None


def parse_frame(text: str) -> Pasted:
    """Return the parts of the frame ``text``; a plain address, name or pattern has no others.

    Examples::

        [<ffffffff81001234>] do_exit+0x4/0xa0    what="do_exit+0x4/0xa0", address
        RIP: 0010:ext4_read+0x12/0x40 [ext4]     what="ext4_read+0x12/0x40", module="ext4"
        ffffffff81001234 <do_exit>:              what="do_exit", address
        schedule                                 what="schedule"
    """
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
