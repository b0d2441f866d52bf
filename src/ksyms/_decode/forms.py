r"""How kernel addresses and symbols look in texts.

What prints them: ``%pS``, ``%pB`` and ``%px`` (lib/vsprintf.c, symbol_string), ``NAME+0x12/0x34
[MODULE]`` in traces, ``[<ADDRESS>]`` before it until Linux 4.15 and on 32-bit arm until today,
``NAME <ADDRESS>`` and ``NAME+0x12/0x34 <ADDRESS>`` in ftrace with sym-addr, without and with
sym-offset (kernel/trace/trace_output.c, seq_print_ip_sym), ``ADDRESS NAME (DSO)`` and ``ADDRESS
NAME+0x12 (DSO)`` by perf script, and kallsyms itself.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_NAME: Final = rb"[A-Za-z_.$][\w.$:@]{0,511}"  # KSYM_NAME_LEN
_MODULE: Final = rb"[\w-]+"
_OFFSET: Final = rb"\+0x[0-9a-fA-F]+"
_SIZE: Final = rb"/0x[0-9a-fA-F]+"
_BUILD_ID: Final = rb"[0-9a-f]{8,64}"
# CONFIG_STACKTRACE_BUILD_ID prints a module's build-id behind its name (since 5.14).
_IN_MODULE: Final = rb" \[" + _MODULE + rb"(?: " + _BUILD_ID + rb")?\]"
# What dmesg and grep put around words for a terminal, and JSON's way to write that.
_COLOUR: Final = rb"(?:(?:\x1b|\\u001[bB])\[[\d;]{0,16}[mK])"
# JSON writes < and > in this way where it may be read as HTML (Go's encoding/json).
_LESS, _MORE = rb"(?:<|\\u003[cC])", rb"(?:>|\\u003[eE])"
_CLOSING: Final = rb"(?:" + _MORE + rb"\]?|[\])])?" + _COLOUR + rb"{0,4}"
_ANY: Final = rb"[ :>\])\x1b\\]"
"""One of these is behind an address that more belongs to: the quickest thing to look for."""
_GAP: Final = rb"[ :]{1,3}" + _COLOUR + rb"{0,4}(?:\? )?\(?"
_SAID: Final = _NAME + _OFFSET + rb"(?:" + _SIZE + rb")?"
_NAMED: Final = _GAP + _SAID + rb"(?:" + _IN_MODULE + rb")?"
# A dump of memory has the next address where others have a name.
_NO_ADDRESS: Final = rb"(?!(?:0[xX])?[0-9a-fA-F]{8}(?:[0-9a-fA-F]{8})?(?!\w))"
_BARE: Final = rb" " + _NO_ADDRESS + _NAME + rb"(?= \(|\r?$)"
_IN_PARENTHESES: Final = rb" \(" + _NO_ADDRESS + _NAME + rb"(?:" + _IN_MODULE + rb")?\)"
_LISTED: Final = rb" [A-Za-z?-] " + _NO_ADDRESS + rb"[^\s]+(?:\t\[[^\]\s]+\])?(?=\r?$)"
_REST: Final = (
    _CLOSING
    + rb"(?:"
    + rb"|".join([_NAMED, rb" \[unknown\]", _LISTED, _BARE, _IN_PARENTHESES])
    + rb")?"
)


def _opens(behind: bytes) -> bytes:
    """Where a word can begin though a letter or digit is right before it.

    That is the end of a colour, of a character that JSON escapes, or of one that rsyslog does
    (``#011``). ``behind`` is what of the word is before the place where this is looked for.
    """
    ends = [rb"\[[\d;]{%d}[mK]" % size for size in range(17)]
    ends += [rb"\\[bfnrt]", rb"\\u[0-9a-fA-F]{4}", rb"#0[0-3][0-7]"]
    return rb"|".join(rb"(?<=" + end + behind + rb")" for end in ends)


def addresses(digits: int, prefix: str, capitals: bool = False) -> re.Pattern[bytes]:
    """Where a text has kernel addresses; group 1 is each, and what it is followed by.

    An address has ``digits`` hexadecimal digits and may have 0x before it; all of a kernel's
    begin with ``prefix``, which makes the search a quick one. With ``capitals`` that may be in
    capitals, and the search is a slow one. What follows is what closes it, and the name if it
    has one. Of ``[<A>]  [<A>] NAME``, which oopses had until Linux 4.8, the second is meant.
    """
    first = "".join(f"[{d}{d.upper()}]" for d in prefix) if capitals else prefix
    address = first.encode() + rb"[0-9a-fA-F]{%d}" % (digits - len(prefix))
    behind = rb".{%d}" % digits
    after = [rb"(?<!\w" + behind + rb")", rb"(?<=\b0[xX]" + behind + rb")"]
    after += [_opens(behind), _opens(rb"0[xX]" + behind)]
    before = rb"(?:" + rb"|".join(after) + rb")"
    once = rb"(?!" + _MORE + rb"\]  \[" + _LESS + rb")"
    rest = rb"(?:(?!" + _ANY + rb")|" + once + _REST + rb")"
    return re.compile(
        rb"(" + address + rb"(?!\w)" + before + rest + rb")", re.MULTILINE | re.DOTALL
    )


class Named(NamedTuple):
    """What follows an address, taken apart.

    ``closed`` is what closes the address, ``gap`` what is between that and the name, ``after``
    what is behind the name. ``kind`` is ``frame`` for a name with an offset, ``bare`` for a
    name alone, ``listed`` for a line of kallsyms, ``unknown`` for perf's word for it, and
    ``none`` where nothing follows. What the text does not say is None.
    """

    kind: str
    closed: bytes
    gap: bytes = b""
    name: str = ""
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    build_id: str | None = None
    after: bytes = b""


BEFORE: Final = b"\0"
"""What marks a name that stands before its address, where one is looked for behind it."""
OPENED: Final = (b" <", b" \\u003c", b" \\u003C")
"""What is between such a name and its address."""
COLOUR: Final = re.compile(_COLOUR)
_CLOSED: Final = re.compile(_CLOSING)
_FRAME_PARTS: Final = re.compile(
    rb"(" + _GAP + rb")(" + _NAME + rb")\+0x([0-9a-fA-F]+)(?:/0x([0-9a-fA-F]+))?"
    rb"(?: \[(" + _MODULE + rb")(?: (" + _BUILD_ID + rb"))?\])?"
)
_LISTED_PARTS: Final = re.compile(rb" [A-Za-z?-] ([^\s]+)(?:\t\[([^\]\s]+)\])?")
_BARE_PARTS: Final = re.compile(
    rb"( \(?)(" + _NAME + rb")(?: \[(" + _MODULE + rb")(?: " + _BUILD_ID + rb")?\])?(\)?)"
)


def take_apart(rest: bytes) -> Named:
    """What :func:`addresses` finds behind an address; or a name marked by BEFORE."""
    rest = rest.removeprefix(BEFORE)
    match = _CLOSED.match(rest)
    assert match is not None
    closed, tail = match[0], rest[match.end() :]
    if not tail:
        return Named("none", closed)
    if tail == b" [unknown]":
        return Named("unknown", closed, b" ")
    if match := _FRAME_PARTS.fullmatch(tail):
        gap, name, offset, size, *owner = match.groups()
        module, build_id = (None if part is None else _text(part) for part in owner)
        size = None if size is None else int(size, 16)
        return Named("frame", closed, gap, _text(name), int(offset, 16), size, module, build_id)
    if match := _LISTED_PARTS.fullmatch(tail):
        module = None if match[2] is None else _text(match[2])
        return Named("listed", closed, b"", _text(match[1]), 0, None, module)
    match = _BARE_PARTS.fullmatch(tail)
    assert match is not None
    module = None if match[3] is None else _text(match[3])
    return Named("bare", closed, match[1], _text(match[2]), module=module, after=match[4])


# No name begins with the letter that ends a colour. What most places fail at comes first.
_BEGINS: Final = (
    rb"(?=[A-Za-z_.$])(?:(?<![\w.$@\\])(?<!::)(?<!\x1b\[)(?<!1[bB]\[)|" + _opens(rb"") + rb")"
)
FRAMES: Final = re.compile(
    _BEGINS + rb"([A-Za-z_.$][\w.$@]*)\+0x([0-9a-fA-F]+)/0x([0-9a-fA-F]+)"
    rb"(?: \[(" + _MODULE + rb")(?: (" + _BUILD_ID + rb"))?\])?"
)
"""Symbols with an offset and a size, wherever they are: name, offset, size, module.

``RIP: 0010:NAME`` has the segment right before it.
"""
_BEFORE_ADDRESS: Final = re.compile(
    _BEGINS + rb"(" + _SAID + rb"(?: \[" + _MODULE + rb"\])?) " + _LESS + rb"$"
)
_BEFORE_PLAIN: Final = re.compile(
    rb" (" + _NAME + rb"(?:" + _OFFSET + rb"(?:" + _SIZE + rb")?)?) <$"
)
LONGEST: Final = 1 << 11
"""Bytes that a frame takes at most: KSYM_NAME_LEN is 512, and a module has a name too."""


def before_address(text: bytes) -> bytes:
    """What ftrace prints before an address in <>, if ``text`` ends with that and <; or b""."""
    last = len(text) - len(OPENED[0])
    begin = text.rfind(b" ", max(0, last - LONGEST), last)
    if begin >= 0 and (match := _BEFORE_PLAIN.match(text, begin)):
        return match[1]
    # What looks like a name has no space before its module.
    end = text[-LONGEST:]
    begin = max(end.rfind(b" ", 0, end.rfind(b" ")), 0)
    match = _BEFORE_ADDRESS.search(end, max(end.rfind(b" ", 0, begin), 0))
    return match[1] if match else b""


def closes(rest: bytes) -> bool:
    """Whether nothing but what closes an address is behind it."""
    return bool(rest) and take_apart(rest).kind == "none"


BANNER: Final = re.compile(rb"Linux version (\S+)")  # init/main.c, linux_banner
OFFSET: Final = re.compile(  # arch/x86/kernel/setup.c, dump_kernel_offset
    rb"Kernel Offset: " + _COLOUR + rb"{0,4}(?:0x([0-9a-f]+) from 0x([0-9a-f]+)|disabled)"
)
HEADER: Final = re.compile(  # lib/dump_stack.c, dump_stack_print_info
    rb"Comm: .{1,31}? (?:Not tainted|Tainted:[A-Z ]{1,63}?) {1,31}([0-9]\S*) #"
    rb".*?(?: ([0-9a-f]{40})\b|$)",
    re.MULTILINE,
)
PERF_RELEASE: Final = re.compile(rb"^# os release : (\S+)", re.MULTILINE)
SAYS: Final = (b"Linux version ", b"Kernel Offset: ", b"ainted", b"# os release : ")
"""One of these is in every text that one of the four above finds something in."""
# kernel/module/main.c, print_modules; "[last unloaded: NAME]" ends what is loaded.
LINKED_IN: Final = re.compile(
    rb"Modules linked in:((?: " + _COLOUR + rb"{0,4}[\w-]+(?:\([A-Z+-]*\))?)*)"
)


# Instructions of 32 bits have as many digits as addresses of 32 bits (dump_instr of arm).
CODE: Final = re.compile(rb"Code:(?: [<(]?[0-9a-f]{2,8}[>)]?)+")


HINTS: Final = (
    *(b"+0x", b"Linux version ", b"Kernel Offset: ", b" T _"),
    *(b" (/", b" ([kernel"),
)
"""One of these, or " <" and an address, is in a text that tells which boot it is of.

The last two are behind perf's names. A name without an offset at the end of a line has none.
"""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
