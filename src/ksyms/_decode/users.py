"""Find the words in a text that a user of the machine chose: they are no evidence of a boot.

The kernel prints some names unchanged that a user chose: of programs (comm, 15 bytes), of files
(255 bytes, a path 4095), of devices, and parameters. Such a name can have line feeds and can
look like a frame. Logs show a message with line feeds in different ways:

- printk puts the message's time before each line (kernel/printk/printk.c, record_print_text)
- dmesg indents all lines but the first
- /dev/kmsg and rsyslog escape the line feeds

By these signs :mod:`.contexts` finds most of such lines. It cannot find them in a text without
times. There the kernel's own words after the name can show where the name ends. The messages
with such words are the rows of :data:`_MESSAGES`:

    process 'NAME' started with executable stack

Other programs write into a log too. The prefix of a line shows that it is theirs.
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
"""Limit on the bytes of a program's name: TASK_COMM_LEN is 16, with a zero."""
_NAME: Final = 255 + len(" (deleted)")
"""Limit on the bytes of a file's name: NAME_MAX, and what d_path appends to a deleted one."""
_LONGEST_ESCAPE: Final = 6
"""Limit on the bytes that a log has for one escaped byte."""
_PATH: Final = 6144
"""Limit on the bytes of a path (PATH_MAX) or a page of parameters, and of the words around."""


class _Message(NamedTuple):
    """A kernel message with a part that a user chose.

    - ``hints``: one of them is in each such message
    - ``words``: matches the kernel's words before the user's part
    - ``before``: limit on the bytes that a user chose before these words
    - ``longest``: limit on the bytes from ``words`` to ``closing``, before a log escaped any
    - ``closing``: matches the kernel's words after the user's part; if a user's part has them
      too, the last match within ``longest`` is the kernel's
    - ``whole``: True if no part of the message is evidence; False if the words before the
      user's part can be
    """

    hints: tuple[bytes, ...]
    words: re.Pattern[bytes]
    before: int
    longest: int
    closing: re.Pattern[bytes]
    whole: bool = True


_MESSAGES: Final = (
    _Message(  # mm/memory.c, print_vma_addr, after "%s[%d]: segfault at" and others
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
        # The line on the fault, with the program's name, is before the line with the file's.
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
"""A text with one of these messages has one of these."""

ACROSS: Final = (b"]: ", b"traps: ", b"process '")
"""A text in which a file's name can have line feeds has one of these."""

_FACILITY: Final = rb"(?:user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local\d)"
_LOGGED: Final = (
    rb"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ \n]{0,16}"
    rb"|[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]{1,5}"
    rb"|[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d)"
)
# The tag before a message names the program. Without a process id it must look like rsyslog's:
# "RIP:" in a log by netconsole is no tag.
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
"""For each kind of log a pattern that shows the kind, and one of other programs' lines in it.

A facility other than 0, and so a priority of 8 or more, is not the kernel's.
"""
_TAGGED: Final = re.compile(rb"^" + _LOGGED + rb" [\w.:-]{1,255} kernel: ", re.MULTILINE)
_UNTAGGED: Final = re.compile(
    rb"^" + _LOGGED + rb" [\w.:-]{1,255} (?!kernel: )[^\n]*", re.MULTILINE
)
_TRANSPORT: Final = re.compile(rb'"_TRANSPORT"\s*:\s*"(\w{1,16})"')
_OBJECT: Final = re.compile(rb'\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+\}', re.DOTALL)
"""A JSON object without objects in it: a record of the journal, in one line or several."""
_ESCAPED: Final = re.compile(rb"\\x[0-9a-f]{2}|#0[0-7]{2}|\\u[0-9a-fA-F]{4}|" + COLOUR.pattern)
INDENTED: Final = re.compile(rb"[ \t]{9,64}")
"""The indentation of a message's second line in dmesg."""
_LOOKED_AT: Final = 1 << 12
"""Bytes at a text's start in which the kind of log is looked for."""
BEHIND: Final = 1 << 13
"""Bytes before a block in which a message can begin that goes on in the block."""


def has_kernels_tag(block: bytes) -> bool:
    """Return True if a syslog has a line with the tag ``kernel:``.

    Then each line without that tag is another program's, whatever tag it has.
    """
    return b" kernel: " in block and _TAGGED.search(block) is not None


def find(
    before: bytes, block: bytes, places: Sequence[int] | None = None, tagged: bool = False
) -> list[Span]:
    """Return the parts of a block that users wrote, in order and without overlaps.

    Args:
        before: the text before the block.
        block: the block.
        places: the offsets in the block that are asked about; only messages around them are
            looked for. None for the whole block.
        tagged: the result of :func:`has_kernels_tag` for the text so far.
    """
    others = list(_journals(before, block))
    if tagged:
        others += [match.span() for match in _UNTAGGED.finditer(block)]

    # A message can begin in the text before the block.
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
    """Yield the parts of a block with JSON records of the journal that are not the kernel's.

    A record that begins or ends in another block is treated as one of them.
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
    """Return the parts of a text that contain every message around one of ``places``.

    ``places`` are offsets in the block, which begins at offset ``skip`` of the text.
    """
    return joined(
        [
            (text.rfind(b"\n", 0, max(0, place - BEHIND)) + 1, _line_end(text, place + _PATH))
            for place in sorted(place + skip for place in places)
        ]
    )


def is_in(spans: Sequence[Span], place: int) -> bool:
    """Return True if an offset is in one of ``spans``, which are in order."""
    at = bisect_right(spans, (place, place)) - 1
    # A span that begins at the offset itself sorts after (place, place).
    at += at + 1 < len(spans) and spans[at + 1][0] == place
    return at >= 0 and place < spans[at][1]


def hidden(text: bytes, spans: Sequence[Span]) -> bytes:
    """Return a text with question marks in place of the bytes that users wrote."""
    if not spans:
        return text
    data = bytearray(text)
    for begin, end in spans:
        data[begin:end] = b"?" * (end - begin)
    return bytes(data)


def joined(spans: Sequence[Span]) -> list[Span]:
    """Return spans with those joined that overlap or touch; they are ordered by their start."""
    found: list[Span] = []
    for begin, end in spans:
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def _spans(text: bytes) -> Iterator[Span]:
    """Yield the parts of a text that users wrote: in kernel messages, and by other programs."""
    for message in _MESSAGES:
        if any(hint in text for hint in message.hints):
            for match in message.words.finditer(text):
                yield from _find_user_span(text, message, match)
    for is_there, pattern in _OTHERS:
        if is_there.search(text, 0, _LOOKED_AT):
            yield from (match.span() for match in pattern.finditer(text))


def _find_user_span(text: bytes, message: _Message, match: re.Match[bytes]) -> Iterator[Span]:
    """Yield the part of a message that is no evidence, since a user can have written it.

    ``match`` is of the message's words. Yield nothing if the words are not the kernel's.
    """
    line = lines.begin(text, match.start())
    if line < 0:
        return

    # The kernel prints at most a program's name before its words.
    content, key = _content(text, line, match.start())
    ahead = _ESCAPED.sub(b".", text[content : match.start()])
    if len(ahead.removeprefix(b"traps: ").removeprefix(b"signal: ")) > message.before:
        return
    if message.before and match.start() - line <= _COMM:
        key = b""  # what looks like a time may be the program's name

    parts = _parts(text, match.end(), key, message.longest)
    end = _find_closing(text, parts, message)
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
    """Return the offset at which a message begins in its line, and its time.

    Instead of the time it is the whole prefix if that has no time. It is b"" if the line is
    indented. ``line`` is the offset of the line, ``end`` that at which to stop.
    """
    indent = INDENTED.match(text, line, end)
    if indent is not None:
        return indent.end(), b""
    prefix = lines.PREFIX.match(text, line, end)
    assert prefix is not None
    return prefix.end(), (prefix["stamp"] or prefix[0]).strip()


def _parts(text: bytes, begin: int, key: bytes, longest: int) -> list[Span]:
    """Return the parts, one a line, that can be the rest of a message after the kernel's words.

    The first part starts at ``begin``. There are as many as ``longest`` bytes need. ``key`` is
    the message's time, if known: a line with another time is of another message.
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
    """Return the length in bytes that a text had before a log escaped some of its bytes."""
    return len(_ESCAPED.sub(b".", text))


def _find_closing(text: bytes, parts: list[Span], message: _Message) -> int | None:
    """Return the offset in ``text`` of the last words that can close a message.

    ``parts`` are the lines after its first words. Return None if nothing closes it.
    """
    content = b"\n".join([text[begin:end] for begin, end in parts])
    last, at, left = None, 0, message.longest
    for found in message.closing.finditer(content):
        left -= _length(content[at : found.start()])
        if left < 0:
            break
        at = last = found.start()
    if last is None:
        return None

    # Convert the offset in the joined lines to an offset in the text.
    for begin, end in parts:
        if last <= end - begin:
            return begin + last
        last -= end - begin + 1
    raise AssertionError("a place in the parts is in one of them")


def _first(text: bytes, line: int, key: bytes, left: int) -> int:
    """Return the offset of the line in which a program's name with line feeds begins.

    The name ends in the line at ``line``; at most ``left`` bytes of it are in lines before.
    ``key`` is the message's time, if known.
    """
    while line > 0 and text[line - 1 : line] == b"\n":
        before = text.rfind(b"\n", 0, line - 1) + 1
        content, other = _content(text, before, line - 1)
        left -= line - content
        if left < 0 or (key and other and other != key):
            break
        line = before
    return line


def _line_end(text: bytes, place: int) -> int:
    """Return the offset at which the line around ``place`` ends."""
    end = text.find(b"\n", place)
    return len(text) if end < 0 else end
