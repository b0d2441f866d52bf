"""Lines as consoles and logs have them: what stands in them before the kernel's message."""

from __future__ import annotations

import re
from typing import Final

from .forms import COLOUR

COLOURS: Final = rb"(?:" + COLOUR.pattern + rb"){0,4}"
"""Colours of dmesg, which stand behind the first colon of a message too."""
_CLOCK: Final = rb"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DAY: Final = rb"\d{4}-\d\d-\d\d"
_MONTH: Final = rb"[A-Z][a-z]{2} ?[ \d]?\d"
# Mail quotes lines, Markdown and HTML mark them, grep -n and editors number them. dmesg sets a
# message's second line under its first, 14 columns or more to the right: that is no beginning.
_QUOTED: Final = (
    rb"(?:[>|] ?){0,4}[ \t]{0,8}(?:[-*] |`{1,3})?(?:<[a-z]\w{0,15}(?: [^<>\n]{0,80})?>){0,3}"
    rb"(?:\d{1,6}[:\t] ?)?"
)
# Firmware clears the screen, and arch/x86/boot/edd.c does not always end its line.
_CONSOLE: Final = (
    rb"(?:\x1b\[[\x20-\x3f]{0,16}[@-~]|\x1b[78=>]|[\r\0]){0,16}(?:Probing EDD[^\n]{0,40}ok)?"
)
# util-linux, sys-utils/dmesg.c: --raw and --decode. What user space wrote into /dev/kmsg has
# another facility than the kernel's, which is 0.
_LEVEL: Final = rb"(?:<[0-7]>|kern *:[a-z]{1,7} *: )?"
_HOST: Final = rb"(?:(?!kernel: )[\w.:@-]{1,255}(?<!:) )?(?:kernel: )?"
# syslog, journalctl -o, ts(1), and what keeps the log of a serial line.
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
"""The prefixes that a kernel's message can have in its line; ``stamp`` is its time."""
_BACKSLASHES: Final = 1 << 12
"""Limit on the backslashes that are counted; more are no log's."""
_IS_JSON: Final = re.compile(rb"[ \t]*(?:[\]}, \t]*[\[{ \t]*)[\"{]")


def begin(text: bytes, place: int) -> int:
    r"""Give where the line begins that a place is in; in JSON the string, or a ``\n`` of it.

    -1 where a string of JSON has a quote right before: it does not begin there.
    """
    line = text.rfind(b"\n", 0, place) + 1
    if not _IS_JSON.match(text, line, place):
        return line
    quote, feed = text.rfind(b'"', line, place), text.rfind(b"\\n", line, place)
    while feed > quote and is_escaped(text, feed):  # a backslash, and the letter n
        feed = text.rfind(b"\\n", line, feed)
    if feed > quote:
        return feed + 2
    return -1 if quote < 0 or is_escaped(text, quote) else quote + 1


def is_escaped(text: bytes, place: int) -> bool:
    """Return True if the byte at a place of a JSON string has a backslash that escapes it."""
    before = text[max(0, place - _BACKSLASHES) : place]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def is_begin(text: bytes, place: int) -> bool:
    """Return whether a message of the kernel's can begin there."""
    line = begin(text, place)
    return line >= 0 and PREFIX.fullmatch(text, line, place) is not None
