"""Find where a kernel message begins in a line of a log.

Consoles, loggers and tools put times, hosts, levels, colours and marks before the message:

    Jan  5 10:00:00 host kernel: [   12.345678] BUG: unable to handle ...
    ------------------- prefix --------------- -------- message ---------
"""

from __future__ import annotations

import re
from typing import Final

from .forms import COLOUR

COLOURS: Final = rb"(?:" + COLOUR.pattern + rb"){0,4}"
"""The pattern of dmesg's colours; they can also stand after the first colon of a message."""
_CLOCK: Final = rb"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DAY: Final = rb"\d{4}-\d\d-\d\d"
_MONTH: Final = rb"[A-Z][a-z]{2} ?[ \d]?\d"
# Mail quotes lines, Markdown and HTML mark them, grep -n and editors number them. dmesg indents
# a message's second line by 14 columns or more: no message begins there.
_QUOTED: Final = (
    rb"(?:[>|] ?){0,4}[ \t]{0,8}(?:[-*] |`{1,3})?(?:<[a-z]\w{0,15}(?: [^<>\n]{0,80})?>){0,3}"
    rb"(?:\d{1,6}[:\t] ?)?"
)
# Firmware clears the screen, and arch/x86/boot/edd.c can print its words without a line feed.
_CONSOLE: Final = (
    rb"(?:\x1b\[[\x20-\x3f]{0,16}[@-~]|\x1b[78=>]|[\r\0]){0,16}(?:Probing EDD[^\n]{0,40}ok)?"
)
# util-linux, sys-utils/dmesg.c: --raw and --decode. The kernel's facility is 0; lines that user
# space wrote into /dev/kmsg have another one.
_LEVEL: Final = rb"(?:<[0-7]>|kern *:[a-z]{1,7} *: )?"
_HOST: Final = rb"(?:(?!kernel: )[\w.:@-]{1,255}(?<!:) )?(?:kernel: )?"
# syslog, journalctl -o, ts(1), and tools that log a serial line.
_LOGGED: Final = (
    rb"(?:"
    rb"\[?" + _DAY + rb"[T ]" + _CLOCK + rb"(?:Z| ?[+-]\d\d:?\d\d)?\]?:? " + _HOST
    + rb"|[A-Z][a-z]{2} " + _DAY + rb" " + _CLOCK + rb" [A-Z]{1,5} " + _HOST
    + rb"|" + _MONTH + rb" (?:\d{4} )?(?:" + _CLOCK + rb" )?" + _HOST
    + rb"|\[?" + _CLOCK + rb"\]?:? |\d{10}\.\d{1,9} " + _HOST + rb"|kernel: )?"
)  # fmt: skip
# kernel/printk/printk.c, print_time and print_caller, with the hosts of journalctl -o
# short-monotonic; dmesg's -d, -H, -e and -T; Android's kernels name CPU and task.
_STAMPED: Final = (
    rb"(?:\[ {0,12}\d{1,12}\.\d{1,9}(?: < {0,12}\d{1,9}\.\d{6}>)?\]"
    rb"|\[< {0,12}\d{1,9}\.\d{6}>\]|\[ {0,12}\+\d{1,9}\.\d{6}\]|\[" + _MONTH + rb" \d\d:\d\d\]"
    + rb"|\[[A-Z][a-z]{2} " + _MONTH + rb" " + _CLOCK + rb" \d{4}\])"
    + rb"(?: ?\[ {0,9}[TC]\d{1,10}\]| -?\(\d{1,3}\)\[[^\]\n]{1,32}\])?"
)  # fmt: skip
# Documentation/ABI/testing/dev-kmsg.
_RECORD: Final = rb"[0-7],\d{1,20},\d{1,20},[^;\n]{0,64};"
PREFIX: Final = re.compile(
    _QUOTED + _CONSOLE + COLOURS + _LEVEL + COLOURS + _LOGGED + _LEVEL + COLOURS
    + rb"(?:" + _RECORD + rb"|(?P<stamp>" + _STAMPED + rb") ?)?" + COLOURS
    + rb"(?:(?:(?!kernel: )[\w.-]{1,64} )?kernel: )?"
)  # fmt: skip
"""The pattern of all that can be before a kernel message in its line.

The group ``stamp`` is printk's time.
"""
_BACKSLASHES: Final = 1 << 12
"""Limit on the backslashes that are counted; no log has more in a row."""
_IS_JSON: Final = re.compile(rb"[ \t]*(?:[\]}, \t]*[\[{ \t]*)[\"{]")


def begin(text: bytes, place: int) -> int:
    r"""Return the offset at which the line around ``place`` begins.

    In JSON it is the start of the string, or of a line in the string after the escape ``\n``:

        {"MESSAGE": "first line\nsecond line"}
                     ^           ^

    In JSON return -1 if no quote is before the place, or if the nearest one is escaped: then
    the place is in the middle of a string, where no message begins.
    """
    line = text.rfind(b"\n", 0, place) + 1
    if not _IS_JSON.match(text, line, place):
        return line
    quote, feed = text.rfind(b'"', line, place), text.rfind(b"\\n", line, place)
    while feed > quote and is_escaped(text, feed):  # an escaped backslash, and the letter n
        feed = text.rfind(b"\\n", line, feed)
    if feed > quote:
        return feed + 2
    return -1 if quote < 0 or is_escaped(text, quote) else quote + 1


def is_escaped(text: bytes, place: int) -> bool:
    """Return True if the byte at an offset of a JSON string is escaped by a backslash."""
    before = text[max(0, place - _BACKSLASHES) : place]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def is_message_start(text: bytes, place: int) -> bool:
    """Return True if a kernel message can begin at ``place``: only a prefix is before it."""
    line = begin(text, place)
    return line >= 0 and PREFIX.fullmatch(text, line, place) is not None
