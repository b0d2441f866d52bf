"""Statements of a text about its kernel: its release, its build, the start of its image.

Each is a row of :data:`_STATEMENTS`: words that are in every such text, which are quick to look
for, and what reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from . import lines
from .forms import COLOUR


class Says(Enum):
    """The subjects of statements."""

    BOOT = auto()
    """The banner: a boot begins, of the kernel of a release."""
    KERNEL = auto()
    """A report's header, or perf's: the kernel of a release wrote what follows."""
    MODULE = auto()
    """A module's build-id, beside one of its symbols."""
    START = auto()
    """The start of the kernel's image, or that it was not moved."""


class Statement(NamedTuple):
    """Words in a block of a text; ``place`` is where what they are of begins.

    ``start`` is where the image begins in the text's boot, None if it was not moved; of a
    START that is ``vague`` the address may be none. ``words`` are the statement's own.
    """

    says: Says
    place: int
    words: str
    release: str | None = None
    build_id: str | None = None
    module: str | None = None
    start: int | None = None
    vague: bool = False


# What a line ends with, in mail and in JSON too.
_END: Final = rb"(?=(?:" + COLOUR.pattern + rb"|=20|[ \t\r\0`]|</?[a-z]|\\r){0,8}(?:$|\"|\\n))"
_TAINTED: Final = rb"(?:Not tainted|Tainted: ?[A-Z][A-Z ()-]{0,63}?)"
# init/version.c, linux_banner: who built it, and where, is in parentheses. Before it ppc64 says
# "Preparing to boot Linux version" (arch/powerpc/kernel/prom_init.c).
_BANNER: Final = re.compile(
    # "%s (%d): " has a program's name, of 15 bytes, before its number.
    rb"Linux version " + lines.COLOURS + rb"(\d[\w.+~-]{0,255})(?= \((?!\d+\))[^()\n]{1,255}\))"
)
# lib/dump_stack.c, dump_stack_print_info; RHEL's has dashes between, some old ones parentheses.
# kernel/hung_task.c and old oopses have it without "Comm:".
_HEADER: Final = re.compile(
    _TAINTED + rb" {1,31}\(?([0-9]+\.[0-9][^\s()]*)\)?(?: #.*?(?: ([0-9a-f]{40})\b|$)"
    # A task's name may have a taint, a release and a line feed in it: the kernel's follow.
    rb"|\)? *\r?$(?!\n[^\n]{0,80} (?:Not tainted|Tainted: )))",
    re.MULTILINE,
)
# kernel/locking/lockdep.c, print_kernel_ident.
_LOCKDEP: Final = re.compile(rb"(?<![\w.-])([0-9]+\.[0-9][^\s()]*) #\S{1,32} " + _TAINTED)
# perf script --header, VMCOREINFO (kernel/vmcore_info.c has more behind it), and crash's sys:
# more than the 15 bytes of a program's name. crash has 5 blanks (help.c, "LOAD AVERAGE" is the
# longest of its words), dmesg 9 and more before the second line of a message.
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
"""Bytes of a line that ends within a task's name."""
_SPLIT: Final = 16
"""Bytes before a taint where the name of the task has a line feed in it: 15, and a blank."""
_REPORT: Final = 1 << 11
"""Bytes before a report's header that belong to it at most."""


def statements(
    block: bytes, goes_on: Callable[[int], bool] = lambda _: False
) -> list[Statement]:
    """Find the statements of a block, in its order: those that stand where the kernel's do.

    ``goes_on`` says of where a line begins if it is the rest of a user's message.
    """
    found = [
        statement
        for hints, pattern, is_printed, read in _STATEMENTS
        if any(hint in block for hint in hints)
        for match in pattern.finditer(block)
        if is_printed(block, match.start()) and not goes_on(lines.begin(block, match.start()))
        for statement in read(block, match)
    ]
    return sorted(found, key=lambda statement: statement.place)


def _is_behind_task(block: bytes, place: int) -> bool:
    """Return whether a taint is where a report has it: behind a task, or blanks in its line.

    A task's name may have a line feed in it.
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
    # With what follows a release in a header it is longer than a task's name.
    split = (
        place - prefix.end() <= _SPLIT
        and b" #" in block[place : place + _ABOVE].split(b"\n")[0]
    )
    return split and b"omm: " in block[max(0, line - _ABOVE) : line]


def _boot(_: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    yield Statement(Says.BOOT, match.start(), _text(match[0]), _text(match[1]))


def _kernel(block: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    build_id = match[2] if match.re.groups > 1 else None
    place = _report_begin(block, match.start())
    words = _text(match[0].partition(b" #")[0])
    build = None if build_id is None else _text(build_id)
    yield Statement(Says.KERNEL, place, words, _text(match[1]), build)


def _report_begin(block: bytes, header: int) -> int:
    """Find where a report begins that has its header there: some lines are before it."""
    first = max(0, header - _REPORT)
    first = max([first, *(block.rfind(end, first, header) for end in _REPORT_ENDS)])
    begun = _REPORT_BEGINS.search(block, first, header)
    return block.rfind(b"\n", 0, begun.start() if begun else header) + 1


def _offset(_: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    start = int(match[1], 16) + int(match[2], 16) if match[1] else None
    yield Statement(Says.START, match.start(), _text(match[0]), start=start)


def _relocated(_: bytes, match: re.Match[bytes]) -> Iterator[Statement]:
    # MIPS prints %pK, which is no address for all who may not see it.
    words = _text(match[0].partition(b"\n")[0])
    yield Statement(Says.START, match.start(), words, start=int(match[1], 16), vague=True)


_Read = Callable[[bytes, re.Match[bytes]], Iterator[Statement]]
_IsPrinted = Callable[[bytes, int], bool]
_TAINT_HINTS: Final = (b"Tainted:", b"Not tainted")
_Row = tuple[tuple[bytes, ...], re.Pattern[bytes], _IsPrinted, _Read]
_STATEMENTS: Final[tuple[_Row, ...]] = (
    ((b"Linux version ",), _BANNER, lines.is_begin, _boot),
    (_TAINT_HINTS, _HEADER, _is_behind_task, _kernel),
    (_TAINT_HINTS, _LOCKDEP, lines.is_begin, _kernel),
    ((b"# os release : ", b"RELEASE"), _SAID, lines.is_begin, _kernel),
    ((b"Kernel Offset: ",), _OFFSET, lines.is_begin, _offset),
    ((b"Kernel relocated by ",), _RELOCATED, lines.is_begin, _relocated),
)
HINTS: Final = tuple({hint for hints, *_ in _STATEMENTS for hint in hints})
"""One of these is in every text that says something of its kernel in such words."""


LINKED_IN: Final = b"Modules linked in:"
"""This is in every text that says which modules were loaded."""
# kernel/module/main.c, print_modules; "[last unloaded: NAME]" ends what is loaded.
_LOADED: Final = re.compile(
    LINKED_IN + rb"((?: " + lines.COLOURS + rb"[\w-]+(?:\([A-Z+-]*\))?)*)"
)


def linked_in(block: bytes) -> set[str]:
    """Find the modules that a block says were loaded."""
    found: set[str] = set()
    if LINKED_IN in block:
        for match in _LOADED.finditer(block):
            if not lines.is_begin(block, match.start()):
                continue
            words = COLOUR.sub(b"", match[1]).decode().split()
            found.update(word.partition("(")[0] for word in words)
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
