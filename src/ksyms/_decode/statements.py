"""Find a text's statements about its kernel: its release, its build, the start of its image.

For example:

    Linux version 6.1.0-18-amd64 (debian-kernel@...)                     BOOT
    CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-18-amd64 #1               KERNEL
    Kernel Offset: 0x1a200000 from 0xffffffff81000000                    START

Each kind is a row of :data:`_STATEMENTS`. A row has hints, which are words that every such
statement has, and are quicker to search for than its pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from . import lines
from .forms import COLOUR


class Says(Enum):
    """The kinds of statements."""

    BOOT = auto()
    """A banner: another boot begins, of a kernel with this release."""
    KERNEL = auto()
    """A header of a report or of perf: a kernel with this release wrote the text after it."""
    MODULE = auto()
    """A module's build-id, printed after one of the module's symbols."""
    START = auto()
    """The address of the image's start, or the fact that the kernel was not moved."""


class Statement(NamedTuple):
    """A statement in a block of a text.

    - ``place``: the offset in the block at which the text that it is about begins; for a
      report's header that is the start of the report, some lines before the header
    - ``words``: the statement itself
    - ``release``, ``build_id``, ``module``: the values that it has; None for others
    - ``start``: for a START, the address of the image's start in the text's boot; None if the
      kernel was not moved
    - ``vague``: True if ``start`` may be no address, but what ``%pK`` prints to hide one
    """

    says: Says
    place: int
    words: str
    release: str | None = None
    build_id: str | None = None
    module: str | None = None
    start: int | None = None
    vague: bool = False


# The end of a line, also in mail, JSON and HTML.
_END: Final = rb"(?=(?:" + COLOUR.pattern + rb"|=20|[ \t\r\0`]|</?[a-z]|\\r){0,8}(?:$|\"|\\n))"
_TAINTED: Final = rb"(?:Not tainted|Tainted: ?[A-Z][A-Z ()-]{0,63}?)"
# init/version.c, linux_banner: it has in parentheses who built the kernel, and where. ppc64
# prints "Preparing to boot Linux version" before it (arch/powerpc/kernel/prom_init.c).
_BANNER: Final = re.compile(
    # "%s (%d): " is a program's name, of up to 15 bytes, with its number in parentheses.
    rb"Linux version " + lines.COLOURS + rb"(\d[\w.+~-]{0,255})(?= \((?!\d+\))[^()\n]{1,255}\))"
)
# lib/dump_stack.c, dump_stack_print_info. RHEL prints dashes before the release, some old
# kernels put it in parentheses. kernel/hung_task.c and old oopses have no "Comm:" in the line.
_HEADER: Final = re.compile(
    _TAINTED + rb" {1,31}\(?([0-9]+\.[0-9][^\s()]*)\)?(?: #.*?(?: ([0-9a-f]{40})\b|$)"
    # A task's name can have a taint, a release and a line feed. Then the kernel's follow it.
    rb"|\)? *\r?$(?!\n[^\n]{0,80} (?:Not tainted|Tainted: )))",
    re.MULTILINE,
)
# kernel/locking/lockdep.c, print_kernel_ident.
_LOCKDEP: Final = re.compile(rb"(?<![\w.-])([0-9]+\.[0-9][^\s()]*) #\S{1,32} " + _TAINTED)
# perf script --header, VMCOREINFO (kernel/vmcore_info.c prints more lines after it), and sys of
# crash. Each has more than the 15 bytes that a program's name can have. crash indents it by 5
# blanks (help.c, "LOAD AVERAGE" is the longest of its words), dmesg a second line by 9 or more.
_SAID: Final = re.compile(
    rb"^(?:# os release : |OSRELEASE=(?=\S{1,256}\s+[A-Z][A-Z-]{1,16}=)|[ \t]{4,8}RELEASE: "
    rb"|RELEASE: (?=\S{1,256} {1,4}VERSION: #))(\d+\.\d[\w.+~-]*)"
    rb"(?: {1,4}VERSION: #[^\n]*|[ \t]*\r?)$",
    re.MULTILINE,
)
_OFFSET: Final = re.compile(  # dump_kernel_offset of each machine
    rb"Kernel Offset: " + lines.COLOURS + rb"(?:0x([0-9a-f]{1,16}) from 0x([0-9a-f]{4,16})"
    rb"(?: \((?:relocation )?range: [^()\n]{0,64}\))?|disabled)" + _END,
    re.MULTILINE,
)
_RELOCATED: Final = re.compile(  # arch/{loongarch,mips}/kernel/relocate.c
    rb"Kernel relocated by [^\n]{0,64}\n[^\n]{0,64}\.text @ (?:0x)?([0-9a-f]{8,16})"
)
_REPORT_BEGINS: Final = re.compile(
    rb"BUG: |WARNING: |Oops|nable to handle|general protection|Internal error|kernel BUG at"
    rb"|cut here|INFO: |watchdog: |rcu: |Kernel panic|divide error|invalid opcode"
)
_REPORT_ENDS: Final = (b"---[ end", b"</TASK>", b"Call Trace:", b"Call trace:")
_TASK: Final = re.compile(rb"(?:CPU|Pid|PID|REGS|EIP|RIP|NIP|PC|PSW|EPC|TPC|psr)\b")
_BLANKS: Final = re.compile(rb"(?<! ) {4,8}\Z")
"""Blanks before a taint without a task (kernel/hung_task.c); dmesg indents lines more."""
_ABOVE: Final = 128
"""Limit on the bytes of a header before a line feed in the task's name."""
_SPLIT: Final = 16
"""Limit on the bytes between a line feed in a task's name and the taint: 15, and a blank."""
_REPORT: Final = 1 << 11
"""Limit on the bytes of a report before its header."""


def statements(
    block: bytes, is_continuation: Callable[[int], bool] = lambda _: False
) -> list[Statement]:
    """Return the statements of a block that stand where the kernel prints them, in order.

    ``is_continuation`` returns True for the offset of a line that continues a user's message.
    """
    found = [
        statement
        for hints, pattern, is_printed, read in _STATEMENTS
        if any(hint in block for hint in hints)
        for match in pattern.finditer(block)
        if is_printed(block, match.start())
        and not is_continuation(lines.begin(block, match.start()))
        for statement in read(block, match)
    ]
    return sorted(found, key=lambda statement: statement.place)


def _is_behind_task(block: bytes, place: int) -> bool:
    """Return True if a taint stands where a report has it: after a task, or after blanks.

    The task's name can have a line feed in it:

        CPU: 0 PID: 7 Comm: a
        b Not tainted 6.1.0 #1
    """
    line = lines.begin(block, place)
    prefix = None if line < 0 else lines.PREFIX.match(block, line, place)
    if prefix is None:
        return False
    if _TASK.match(block, prefix.end(), place):
        return True
    blanks = _BLANKS.search(block, line, place)
    if blanks is not None and lines.PREFIX.fullmatch(block, line, blanks.start()):
        return True
    # A release and the "#1" after it are together longer than a task's name.
    split = (
        place - prefix.end() <= _SPLIT
        and b" #" in block[place : place + _ABOVE].split(b"\n")[0]
    )
    return split and b"omm: " in block[max(0, line - _ABOVE) : line]


def _boot(_: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    """Yield the statement of a banner."""
    yield Statement(Says.BOOT, match.start(), _text(match[0]), _text(match[1]))


def _kernel(block: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    """Yield the statement of a header, which applies from its report's start on."""
    build_id = match[2] if match.re.groups > 1 else None
    place = _report_begin(block, match.start())
    words = _text(match[0].partition(b" #")[0])
    build = None if build_id is None else _text(build_id)
    yield Statement(Says.KERNEL, place, words, _text(match[1]), build)


def _report_begin(block: bytes, header: int) -> int:
    """Return the offset at which a report begins whose header is at offset ``header``."""
    first = max(0, header - _REPORT)
    first = max([first, *(block.rfind(end, first, header) for end in _REPORT_ENDS)])
    begun = _REPORT_BEGINS.search(block, first, header)
    return block.rfind(b"\n", 0, begun.start() if begun else header) + 1


def _offset(_: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    """Yield the statement of ``Kernel Offset``; its start is the sum of both numbers."""
    start = int(match[1], 16) + int(match[2], 16) if match[1] else None
    yield Statement(Says.START, match.start(), _text(match[0]), start=start)


def _relocated(_: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    """Yield the statement of ``Kernel relocated by``."""
    # MIPS prints it with %pK, which can be a hash, so the statement is vague.
    words = _text(match[0].partition(b"\n")[0])
    yield Statement(Says.START, match.start(), words, start=int(match[1], 16), vague=True)


_Read = Callable[[bytes, re.Match[bytes]], Iterator[Statement]]
_IsPrinted = Callable[[bytes, int], bool]
_TAINT_HINTS: Final = (b"Tainted:", b"Not tainted")
_Row = tuple[tuple[bytes, ...], re.Pattern[bytes], _IsPrinted, _Read]
_STATEMENTS: Final[tuple[_Row, ...]] = (
    ((b"Linux version ",), _BANNER, lines.is_message_start, _boot),
    (_TAINT_HINTS, _HEADER, _is_behind_task, _kernel),
    (_TAINT_HINTS, _LOCKDEP, lines.is_message_start, _kernel),
    ((b"# os release : ", b"RELEASE"), _SAID, lines.is_message_start, _kernel),
    ((b"Kernel Offset: ",), _OFFSET, lines.is_message_start, _offset),
    ((b"Kernel relocated by ",), _RELOCATED, lines.is_message_start, _relocated),
)
HINTS: Final = tuple({hint for hints, *_ in _STATEMENTS for hint in hints})
"""A text with a statement has one of these."""


LINKED_IN: Final = b"Modules linked in:"
"""A text with a list of the loaded modules has this."""
# kernel/module/main.c, print_modules; "[last unloaded: NAME]" ends the list.
_LOADED: Final = re.compile(
    LINKED_IN + rb"((?: " + lines.COLOURS + rb"[\w-]+(?:\([A-Z+-]*\))?)*)"
)


def linked_in(block: bytes) -> set[str]:
    """Return the names of the modules that a block lists as loaded."""
    found: set[str] = set()
    if LINKED_IN in block:
        for match in _LOADED.finditer(block):
            if not lines.is_message_start(block, match.start()):
                continue
            words = COLOUR.sub(b"", match[1]).decode().split()
            found.update(word.partition("(")[0] for word in words)
    return found


def _text(data: bytes) -> str:
    """Return bytes of a text as a string; bytes that are not UTF-8 become U+FFFD."""
    return data.decode("utf-8", "replace")
