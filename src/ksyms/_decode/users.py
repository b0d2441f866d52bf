"""Words in a text that a user of the machine chose: they are no evidence of a boot.

The kernel prints names that a user chose, as they are: of a program (comm, 15 bytes), of a
file (255, and 4095 of a path), what a device says of itself, parameters. Such a name may have
line feeds in it, and printk puts its time before each line of a message
(kernel/printk/printk.c, record_print_text); dmesg sets the lines under each other; /dev/kmsg
and rsyslog escape them. :mod:`.contexts` tells what the kernel prints from all that. What it
cannot tell are messages of several lines in a text without times: those of which the kernel's
own words tell the end are rows of :data:`_MESSAGES`. Other programs write into a log too: their
lines say who they are of.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from . import lines
from .forms import COLOUR

Span = tuple[int, int]
"""The start and the end of a part of a text, in bytes."""

_COMM: Final = 15
"""Bytes of a program's name at most: TASK_COMM_LEN is 16, with a zero."""
_NAME: Final = 255 + len(" (deleted)")
"""Bytes of a file's name at most: NAME_MAX, and what d_path puts behind one that is gone."""
_LONGEST_ESCAPE: Final = 6
"""Bytes that a log has at most for one that it escapes."""
_PATH: Final = 6144
"""Bytes of a path, PATH_MAX, or of a page of parameters, and of what is around it."""


class _Message(NamedTuple):
    """A message of the kernel's that a user has a part in.

    One of ``hints`` is in each. ``words`` are the kernel's, and ``before`` is how many bytes of
    the user's are before them. ``closing`` comes behind what the user has chosen, at most
    ``longest`` bytes of the kernel's after the words: where it is there several times, the last
    is the kernel's. ``whole`` is whether the words are a user's message too.
    """

    hints: tuple[bytes, ...]
    words: re.Pattern[bytes]
    before: int
    longest: int
    closing: re.Pattern[bytes]
    whole: bool = True


_MESSAGES: Final = (
    _Message(  # mm/memory.c, print_vma_addr, behind "%s[%d]: segfault at" and others
        (b"]: ", b"traps: ", b" ip:", b"] bad frame"),
        re.compile(rb"\[\d{1,7}\][: \x1b][^\n]{0,200}?\b(?:in|error) "),
        _COMM + len("signal: "),
        len("0123456789abcdef in ") + _NAME,
        re.compile(rb"\[[0-9a-f]{1,16}(?:,[0-9a-f]{1,16})?\+[0-9a-f]{1,16}\]"),
    ),
    _Message(  # s390, MIPS and LoongArch, parisc: arch/*/mm/fault.c
        (b"User process fault", b" sending SIG", b"command='"),
        re.compile(
            rb"User process fault: [^\n]{0,64}? in |(?:epc|era|ra) {1,3}= [0-9a-f]{8,16} in "
            rb"|(?:do_page_fault\(\): sending|do_page_fault\(\) command=')"
        ),
        0,
        # The fault's line is before that of the name; it has the program's.
        128 + _NAME,
        re.compile(rb"\[[0-9a-f]{1,16}(?:,[0-9a-f]{1,16})?\+[0-9a-f]{1,16}\]"),
    ),
    _Message(  # fs/fs_parser.c, kernel/params.c
        (b"nknown parameter '",),
        re.compile(rb"[Uu]nknown parameter '"),
        64,
        _PATH,
        re.compile(rb"'(?=[;\s]|\Z)"),
    ),
    _Message(  # mm/debug.c, dump_mapping
        (b"dentry name",),
        re.compile(rb"dentry name(?:\(\?\))?:\""),
        128,
        _NAME,
        re.compile(rb"\"(?=\s|\Z)"),
    ),
    _Message(  # fs/exec.c
        (b"process '",),
        re.compile(rb"process '"),
        0,
        _PATH,
        re.compile(rb"' (?:started with executable stack|launched '|with NULL argv:)"),
    ),
    _Message(  # lib/dump_stack.c, dump_stack_print_info
        (b"omm: ",),
        re.compile(rb"(?:CPU|Pid): [^\n]{0,64}?[Cc]omm: "),
        0,
        _COMM + len(" Kdump: loaded "),
        re.compile(rb"(?: Kdump: loaded)? ?(?:Not tainted|Tainted: )"),
        whole=False,
    ),
)
HINTS: Final = tuple({hint for message in _MESSAGES for hint in message.hints})
"""One of these is in every text in which a user has a part of a kernel's message."""

ACROSS: Final = (b"]: ", b"traps: ", b"process '")
"""One of these is in a text in which a name with line feeds may be a file's."""

_FACILITY: Final = rb"(?:user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local\d)"
_LOGGED: Final = (
    rb"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ \n]{0,16}"
    rb"|[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]{1,5}"
    rb"|[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d)"
)
# A tag without a number is one of rsyslog's; "RIP:" of a log by netconsole is none.
_OTHERS: Final = tuple(
    (re.compile(is_there, re.MULTILINE), re.compile(pattern, re.MULTILINE))
    for is_there, pattern in (
        (
            rb"^" + _LOGGED + rb" [\w.:-]{1,255} [^\s:]{1,64}: ",
            rb"^" + _LOGGED + rb" [\w.:-]{1,255} (?!kernel: )"
            rb"(?:[^\s:\[]{1,64}\[\d{1,7}\]|[a-z_][a-z_-]{2,63}): [^\n]*",
        ),
        (rb"^<\d{1,3}>", rb"^<(?:[89]|\d{2,3})>[^\n]*"),
        (rb"^\d{1,3},\d{1,20},\d{1,20},", rb"^(?:[89]|\d{2,3}),\d{1,20},\d{1,20},[^\n]*"),
        (rb"^kern *:[a-z]+ *:", rb"^" + _FACILITY + rb" *:[a-z]{1,7} *: [^\n]*"),
        (
            rb'^ *"pri": +\d',
            rb'^ *"pri": +(?:[89]|\d{2,3}),\r?\n[^\n]*\n *"msg": "[^\n]*',
        ),
    )
)
"""Kinds of logs: a pattern that shows the kind, and one of lines by other programs in it."""
_TAGGED: Final = re.compile(rb"^" + _LOGGED + rb" [\w.:-]{1,255} kernel: ", re.MULTILINE)
_UNTAGGED: Final = re.compile(
    rb"^" + _LOGGED + rb" [\w.:-]{1,255} (?!kernel: )[^\n]*", re.MULTILINE
)
_TRANSPORT: Final = re.compile(rb'"_TRANSPORT"\s*:\s*"(\w{1,16})"')
_OBJECT: Final = re.compile(rb'\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+\}', re.DOTALL)
"""A JSON object without objects in it: a record of the journal's, in one line or several."""
_ESCAPED: Final = re.compile(rb"\\x[0-9a-f]{2}|#0[0-7]{2}|\\u[0-9a-fA-F]{4}|" + COLOUR.pattern)
INDENTED: Final = re.compile(rb"[ \t]{9,64}")
"""The indentation of a message's second line in dmesg."""
_LOOKED_AT: Final = 1 << 12
"""Bytes of a block that tell of what kind it is."""
BEHIND: Final = 1 << 13
"""Bytes of a text before a block that a message which goes on in it can begin in."""


def has_kernels_tag(block: bytes) -> bool:
    """Return True if a log of syslog's has a line of the kernel's, with its tag.

    Then each line without that tag is another program's, whatever tag it has.
    """
    return b" kernel: " in block and _TAGGED.search(block) is not None


def find(
    before: bytes, block: bytes, places: Sequence[int] | None = None, tagged: bool = False
) -> list[Span]:
    """Give where in a block a user's words are, in its order; they do not overlap.

    ``before`` is what is before it in the text, ``places`` are the ones in question, if it is
    only about these. ``tagged`` is :func:`has_kernels_tag` of the text so far.
    """
    others = list(_journals(before, block))
    if tagged:
        others += [match.span() for match in _UNTAGGED.finditer(block)]
    if not any(hint in before for hint in HINTS):
        before = b""
    whole, skip = before + block, len(before)
    parts = [(0, len(whole))] if places is None else _around(whole, places, skip)
    found = [
        (max(first + begin - skip, 0), first + end - skip)
        for first, stop in parts
        for begin, end in _spans(whole[first:stop])
        if first + end > skip
    ]
    return joined(sorted([*found, *others]))


def _journals(before: bytes, block: bytes) -> Iterator[Span]:
    """Find the records in JSON of the journal's that are not the kernel's.

    The part of a record that goes on in another block is one of these, too.
    """
    if not (_TRANSPORT.search(block) or _TRANSPORT.search(before)):
        return
    first, end = len(block), 0
    for match in _OBJECT.finditer(block):
        first, end = min(first, match.start()), match.end()
        written = _TRANSPORT.findall(block, match.start(), end)
        if written and written != [b"kernel"]:
            yield match.span()
    if b"}" in block[:first]:
        yield 0, first
    if b"{" in block[end:]:
        yield end, len(block)


def _around(text: bytes, places: Sequence[int], skip: int) -> list[Span]:
    """Give the lines around places of a text that a message is in if it is around one."""
    return joined(
        [
            (text.rfind(b"\n", 0, max(0, place - BEHIND)) + 1, _line_end(text, place + _PATH))
            for place in sorted(place + skip for place in places)
        ]
    )


def is_in(spans: Sequence[Span], place: int) -> bool:
    """Return whether a place is in one of spans that are in order."""
    at = bisect_right(spans, (place, place)) - 1
    at += at + 1 < len(spans) and spans[at + 1][0] == place
    return at >= 0 and place < spans[at][1]


def hidden(text: bytes, spans: Sequence[Span]) -> bytes:
    """Give a text with something else, as long, in the place of what users wrote."""
    if not spans:
        return text
    data = bytearray(text)
    for begin, end in spans:
        data[begin:end] = b"?" * (end - begin)
    return bytes(data)


def joined(spans: Sequence[Span]) -> list[Span]:
    """Join spans that overlap; they are in the order of their begins."""
    found: list[Span] = []
    for begin, end in spans:
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def _spans(text: bytes) -> Iterator[Span]:
    for message in _MESSAGES:
        if any(hint in text for hint in message.hints):
            for match in message.words.finditer(text):
                yield from _span(text, message, match)
    for is_there, pattern in _OTHERS:
        if is_there.search(text, 0, _LOOKED_AT):
            yield from (match.span() for match in pattern.finditer(text))


def _span(text: bytes, message: _Message, match: re.Match[bytes]) -> Iterator[Span]:
    """Find from where to where a message has what a user chose."""
    line = lines.begin(text, match.start())
    if line < 0:
        return
    content, key = _content(text, line, match.start())
    ahead = _ESCAPED.sub(b".", text[content : match.start()])
    if len(ahead.removeprefix(b"traps: ").removeprefix(b"signal: ")) > message.before:
        return
    if message.before and match.start() - line <= _COMM:
        key = b""  # what looks like a time may be the program's name
    parts = _parts(text, match.end(), key, message.longest)
    end = _last(text, parts, message)
    if end is None:
        if not message.whole:
            return
        unfinished = parts[-1][1] == len(text) and b" in " in match[0]
        end = len(text) if unfinished else parts[0][1]
    begin = match.end() if not message.whole else line
    if message.whole and message.before:
        begin = _first(text, begin, key, _COMM - len(ahead))
    yield begin, end


def _content(text: bytes, line: int, end: int) -> tuple[int, bytes]:
    """Give where a message begins in its line, and its time or what else is before it."""
    indent = INDENTED.match(text, line, end)
    if indent is not None:
        return indent.end(), b""
    prefix = lines.PREFIX.match(text, line, end)
    assert prefix is not None
    return prefix.end(), (prefix["stamp"] or prefix[0]).strip()


def _parts(text: bytes, begin: int, key: bytes, longest: int) -> list[Span]:
    """Give the parts, line by line, of what follows the kernel's words in a message.

    A line with another time is another message's.
    """
    end = _line_end(text, begin)
    parts = [(begin, end)]
    left = longest - _length(text[begin : min(end, begin + _LONGEST_ESCAPE * longest)])
    while end < len(text) - 1 and left > 0:
        line = end + 1
        end = _line_end(text, line)
        content, other = _content(text, line, end)
        if key and other and other != key:
            break
        parts.append((content, end))
        left -= _length(text[content : min(end, content + _LONGEST_ESCAPE * left)]) + 1
    return parts


def _length(text: bytes) -> int:
    """Return how many bytes of the kernel's a text is, in which a log has escaped some."""
    return len(_ESCAPED.sub(b".", text))


def _last(text: bytes, parts: list[Span], message: _Message) -> int | None:
    """Give where the last of what can close a message begins; None if nothing closes it."""
    content = b"\n".join([text[begin:end] for begin, end in parts])
    last, at, left = None, 0, message.longest
    for found in message.closing.finditer(content):
        left -= _length(content[at : found.start()])
        if left < 0:
            break
        at = last = found.start()
    if last is None:
        return None
    for begin, end in parts:
        if last <= end - begin:
            return begin + last
        last -= end - begin + 1
    raise AssertionError("a place in the parts is in one of them")


def _first(text: bytes, line: int, key: bytes, left: int) -> int:
    """Give the first line of a program's name that has line feeds in it."""
    while line > 0 and text[line - 1 : line] == b"\n":
        before = text.rfind(b"\n", 0, line - 1) + 1
        content, other = _content(text, before, line - 1)
        left -= line - content
        if left < 0 or (key and other and other != key):
            break
        line = before
    return line


def _line_end(text: bytes, place: int) -> int:
    end = text.find(b"\n", place)
    return len(text) if end < 0 else end
