r"""The forms in which texts name kernel addresses; each is a row of :data:`FORMS`.

An annotation is the name that a text has for an address, after it or before it:

    [<ffffffff81200a2e>] vfs_open+0x2e/0xf0 [xfs]
      ADDRESS            NAME    +OFFSET/SIZE [MODULE]

They are printed by the kernel with ``%pS``, ``%pB`` and ``%px`` (lib/vsprintf.c,
symbol_string), with ``[<ADDRESS>]`` before the name until Linux 4.15, and on 32-bit arm until
today; by ftrace with sym-addr as ``NAME <ADDRESS>`` (kernel/trace/trace_output.c,
seq_print_ip_sym); by perf script, gdb, crash, bcc, bpftrace, SystemTap and trace-cmd; and by
kallsyms itself. docs/texts.md shows each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from functools import cache
from typing import Final, NamedTuple

# At most KSYM_NAME_LEN. Possessive: no character that may follow a name can be part of one, so
# to try a shorter name never helps.
NAME: Final = rb"[A-Za-z_.$][\w.$@]{0,511}+(?:::[\w.$@]{1,255}+){0,8}+"
_HEX: Final = rb"[0-9a-fA-F]+"
# Colours, as dmesg and grep print them on a terminal, and as JSON escapes them.
_COLOUR: Final = rb"(?:(?:\x1b|\\u001[bB])\[[\d;]{0,16}[mK])"
# < and >, and as JSON that is safe in HTML (Go's encoding/json) and HTML itself write them.
_LESS: Final = rb"(?:<|\\u003[cC]|&lt;)"
_MORE: Final = rb"(?:>|\\u003[eE]|&gt;)"
_CLOSING: Final = _COLOUR + rb"{0,4}(?:" + _MORE + rb"\]?|[\])])?" + _COLOUR + rb"{0,4}"
_SUFFIX: Final = rb"_(?:\[[kij]\]|k\b)"
"""The suffix of a kernel's frame in the stacks of flame graphs (profile -a of bcc)."""
BEHIND: Final = b" :>])\x1b\\\t{&/.=-"
"""The characters that can begin an annotation, or what closes an address. The pattern tests for
these first, since that is quickest.
"""
# "ADDRESS is NAME" is printed by "%px is %pS".
_GAP: Final = rb"(?:[ \t:]{1,3}|=20| is )" + _COLOUR + rb"{0,4}(?:\? )?\(?"
# CONFIG_STACKTRACE_BUILD_ID prints a module's build-id after its name (since Linux 5.14).
# OpenWrt prints the module's address and size. [kernel] of SystemTap and bcc is not a module.
_MODULE: Final = (
    rb" \[(?!kernel\])(?P<module>[\w-]+)(?: (?P<build_id>[0-9a-f]{8,64}))?"
    rb"(?:@(?:0x)?(?P<base>" + _HEX + rb")\+(?:0x)?" + _HEX + rb")?\]"
)
_SAID: Final = (
    rb"(?P<name>" + NAME + rb")\+0x(?P<offset>" + _HEX + rb")(?:/0x(?P<size>" + _HEX + rb"))?"
)
# In a dump of memory another address follows where other texts have a name.
_NO_ADDRESS: Final = rb"(?!(?:0[xX])?[0-9a-fA-F]{8}(?:[0-9a-fA-F]{8})?(?!\w))"
_BARE: Final = _NO_ADDRESS + rb"(?P<name>" + NAME + rb")"
_LINE_END: Final = rb"(?=\r?$)"
_NO_WORD: Final = rb"(?!\w)"


class Tells(Enum):
    """The kinds of evidence that an annotation can give."""

    NOTHING = auto()
    SLIDE = auto()
    """A name with an offset gives the address of the symbol in the text's boot."""
    EXTENT = auto()
    """A name alone says that the address lies anywhere in the symbol."""
    ANCHOR = auto()
    """A line of kallsyms is evidence if its symbol is at the kernel's start."""


class Style(Enum):
    """The ways to write a name if the text has none, or a wrong one."""

    PRINTED = auto()
    """In the form's own way: with size and module if the form has a size."""
    WHOLE = auto()
    """``NAME+0x12/0x34 [MODULE]``, before the annotation, which is kept."""
    BRACES = auto()
    """``{NAME+18}``, as x86-64 printed it until Linux 2.6.17."""
    ANGLES = auto()
    """``<NAME+18>``, as gdb prints it."""
    DECIMAL = auto()
    """``NAME+18``."""
    KEPT = auto()
    """Nothing is written: the annotation is right, or a program reads it."""
    NO_ADDRESS = auto()
    """Nothing is written: the number is not a kernel address."""


class Form(NamedTuple):
    """One form of annotation.

    - ``title``: its name
    - ``pattern``: matches the annotation, after the bracket that closes the address, if any
    - ``follow``: must match the text after the annotation, and is not part of it
    - ``tells``: the evidence that it gives of the boot
    - ``style``: the way to write a name in this form

    The group ``is`` of the pattern is the part to replace if it is wrong, and ``gap`` the part
    before that. The groups ``name``, ``offset`` (hexadecimal) or ``decimal``, ``size``,
    ``module``, ``build_id`` and ``base`` are the annotation's values.
    """

    title: str
    pattern: bytes
    follow: bytes = b""
    tells: Tells = Tells.NOTHING
    style: Style = Style.KEPT


FORMS: Final = (
    Form(
        "a range", rb"(?:-|\.\.)(?:0[xX])?[0-9a-fA-F]{2,16}", _NO_WORD, style=Style.NO_ADDRESS
    ),
    Form(
        "a range with blanks",
        rb" - (?:0[xX])?[0-9a-fA-F]{8,16}",
        _NO_WORD,
        style=Style.NO_ADDRESS,
    ),
    Form("a device's name", rb"\.[a-z][\w-]*", style=Style.NO_ADDRESS),
    Form("perf's branch, its source", rb"/", rb"(?=0x" + _HEX + rb"/[MPX-]/)"),
    Form("perf's branch, its target", rb"/[MPX-]/[X-]/[A-]/\d+"),
    Form("an inlined function", rb"[ \t]" + _NO_ADDRESS + rb"[^\n]{1,255}? \(inlined\)"),
    Form("a lock class", rb" \([^\n{]{1,255}\)\{", rb"(?=[-.+?])"),
    Form(
        "a name with an offset",
        rb"(?P<gap>" + _GAP + rb")(?P<is>" + _SAID + rb"(?:" + _MODULE + rb")?)",
        # crash has "[STACK] NAME at ADDRESS": the name is not of the address before it.
        rb"(?!(?!" + _SUFFIX + rb")\w| at (?:0x)?[0-9a-f]{8})",
        Tells.SLIDE,
        Style.PRINTED,
    ),
    Form(
        "a name behind its module",  # until Linux 2.6.17
        rb"(?P<gap> )(?P<is>:(?P<module>[\w-]+):" + _SAID + rb")",
        _NO_WORD,
        Tells.SLIDE,
        Style.PRINTED,
    ),
    Form(
        "a name in braces",
        rb"(?P<gap> ?)(?P<is>\{(?::(?P<module>[\w-]+):)?(?P<name>" + NAME + rb")\+(?:"
        rb"0x(?P<offset>" + _HEX + rb")(?:/0x(?P<size>" + _HEX + rb"))?|(?P<decimal>\d+))\})",
        b"",
        Tells.SLIDE,
        Style.BRACES,
    ),
    Form(
        "a name that perf demangled",
        # Bounded, since a line can have any length and this is tried after each address.
        rb"[ \t]" + _NO_ADDRESS + rb"(?=[^\n(]{0,255}?(?:::|<))[^\n]{1,255}?"
        rb" \((?:\[[\w.]+\][\w.]*|/[^\n)]{1,255})\)",
        _LINE_END,
    ),
    Form(
        "ksymoops' name",
        rb" <(?:\[(?P<module>[\w-]+)\])?(?P<name>" + NAME + rb")"
        rb"\+(?P<offset>[0-9a-f]+)/[0-9a-f]+>",
        b"",
        Tells.SLIDE,
    ),
    Form(
        "a name with an offset in angle brackets",
        rb"(?P<gap>[ \t]{1,3})(?P<is>" + _LESS + rb"(?P<name>" + NAME + rb")"
        rb"\+(?:0x(?P<offset>" + _HEX + rb")|(?P<decimal>\d+))" + _MORE + rb")",
        b"",
        Tells.SLIDE,
        Style.ANGLES,
    ),
    Form(
        "a name in angle brackets",
        rb"(?P<gap>[ \t]{1,3})(?P<is>" + _LESS + _BARE + _MORE + rb")",
        b"",
        Tells.EXTENT,
        Style.ANGLES,
    ),
    Form("an offset in angle brackets", rb"[ \t]" + _LESS + rb"\+\d+" + _MORE),
    Form(
        "a name with a decimal offset",
        rb"(?P<gap>[ \t])(?P<is>(?P<name>" + NAME + rb")\+(?P<decimal>\d+))",
        rb"(?!\w| at (?:0x)?[0-9a-f]{8})",
        Tells.SLIDE,
        Style.DECIMAL,
    ),
    Form(
        "crash's symbol",
        rb"(?P<gap> \([A-Za-z]\) )(?P<is>(?P<name>" + NAME + rb")\+(?P<decimal>\d+))",
        _NO_WORD,
        Tells.SLIDE,
        Style.DECIMAL,
    ),
    Form(
        "crash's symbol, perf report's",
        rb"(?P<gap> \([A-Za-z]\) | [A-Za-z!] \[[kgH.]\] )(?P<is>" + _BARE + rb")"
        rb"(?:" + _MODULE + rb")?",
        rb"(?=[ \r\n]|\Z)",
        Tells.EXTENT,
        Style.PRINTED,
    ),
    Form(
        "gdb's function",
        rb"(?P<gap> in )(?P<is>(?P<name>" + NAME + rb"))",
        rb"(?= \()",
        Tells.EXTENT,
        Style.PRINTED,
    ),
    Form("perf's unknown", rb"(?P<gap> )(?P<is>\[unknown\])", style=Style.PRINTED),
    Form(
        "a line of kallsyms",
        rb" [A-Za-z?-] " + _NO_ADDRESS + rb"(?P<name>[^\s]+)(?:\t\[(?P<module>[^\]\s]+)\])?",
        _LINE_END,
        Tells.ANCHOR,
    ),
    Form(
        "a name in parentheses",
        rb"(?P<gap> \()(?P<is>" + _BARE + rb"(?:" + _MODULE + rb")?)\)",
        b"",
        Tells.EXTENT,
        Style.PRINTED,
    ),
    Form(
        "a name and its module",
        rb"(?P<gap>[ \t])(?P<is>" + _BARE + rb")(?:" + _MODULE + rb"| \[kernel\])",
        _LINE_END,
        Tells.EXTENT,
        Style.PRINTED,
    ),
    Form(
        "a name",
        rb"(?P<gap>[ \t])(?P<is>" + _BARE + rb")",
        rb"(?:(?= \()|" + _LINE_END + rb")",
        Tells.EXTENT,
        Style.PRINTED,
    ),
)
NONE: Final = Form("no name", b"", style=Style.WHOLE)


class Annotation(NamedTuple):
    """An annotation in its parts; a value that the text does not have is None.

    ``closed`` is the bracket or the like that closes the address, and ``tail`` the text after
    it. ``gap`` and ``after`` are the parts of ``tail`` before and after the part that ``form``
    replaces:

        the text     [<ffffffff81200a2e>] vfs_open+0x2e/0xf0 [xfs]
        the parts    closed ">]", gap " ", name "vfs_open", offset 0x2e, size 0xf0,
                     module "xfs", after ""
    """

    form: Form
    closed: bytes
    tail: bytes = b""
    gap: bytes = b""
    after: bytes = b""
    name: str = ""
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    build_id: str | None = None
    base: int | None = None


TWICE: Final = (b">{", b"> <", b"]  <", b"  0x", b">]  [<", b"&gt;]  [")
"""A text that has an address twice, alone and then with its name, has one of these."""
BEFORE: Final = b"\0"
"""The mark in a key of a name that stands before its address in the text."""
COLOUR: Final = re.compile(_COLOUR)
_CLOSED: Final = re.compile(_CLOSING)


def parse_annotation(rest: bytes) -> Annotation:
    """Parse an annotation that :func:`annotated` found, or a name marked by :data:`BEFORE`."""
    rest = rest.removeprefix(BEFORE)
    match = _CLOSED.match(rest)
    assert match is not None
    closed, tail = match[0], rest[match.end() :]

    # The last group is an empty one that shows by its number which form matched.
    said = _ANY_FORM.fullmatch(tail) if tail else None
    if said is None:
        return Annotation(NONE, closed, tail)

    number = int((said.lastgroup or "")[1:])
    groups = _GROUPS[number]
    begin, end = said.span(groups["is"]) if "is" in groups else (0, len(tail))

    words = {key: text_of(said[group]) for key, group in groups.items() if said[group]}
    decimal = words.get("decimal")
    return Annotation(
        FORMS[number],
        closed,
        tail,
        tail[:begin],
        tail[end:],
        words.get("name", ""),
        int(decimal) if decimal else _number(words, "offset"),
        _number(words, "size"),
        words.get("module"),
        words.get("build_id"),
        _number(words, "base"),
    )


def _numbered(number: int) -> bytes:
    """Return a form's pattern with its number in the names of its groups.

    An empty group at the end, ``f7`` for form 7, shows in ``lastgroup`` which form matched.
    """
    pattern = re.sub(rb"\(\?P<(\w+)>", rb"(?P<\g<1>_%d>" % number, FORMS[number].pattern)
    return pattern + rb"(?P<f%d>)" % number


_ANY_FORM: Final = re.compile(rb"|".join(map(_numbered, range(len(FORMS)))))
_GROUPS: Final = [
    {key: f"{key}_{number}" for key in re.findall(r"\(\?P<(\w+)>", form.pattern.decode())}
    for number, form in enumerate(FORMS)
]
"""For each form, the names of its groups in :data:`_ANY_FORM`, by their names in the form."""


def _number(said: dict[str, str], name: str) -> int | None:
    """Return a hexadecimal value of an annotation; None if it has none of that name."""
    return int(said[name], 16) if name in said else None


def text_of(data: bytes) -> str:
    """Return bytes of a text as a string; bytes that are not UTF-8 become surrogates."""
    return data.decode("utf-8", "surrogateescape")


def _without_groups(pattern: bytes) -> bytes:
    """Return a form's pattern with all groups made non-capturing."""
    return re.sub(rb"\(\?P<\w+>", rb"(?:", pattern)


_BLANKS: Final = (b" ", b"[ ", b"(?P<gap>[ ", b"(?P<gap> ", b"(?P<gap>(?:")
"""The first characters of the patterns of forms that begin with a blank, or ``=20`` for it.

A form with one of :data:`_OPTIONAL` can begin with a blank or without.
"""
_OPTIONAL: Final = b"(?P<gap> ?)"


def _annotation(long: bool) -> bytes:
    """Return the pattern of the text after an address: what closes it, and a form, if any.

    ``long`` is True to include the forms that look at all of a line. No form is tried if
    another address follows, as in a dump of memory, or the name of a register.
    """
    forms = [form for form in FORMS if long or form.title not in _LONG]
    patterns = [(f.pattern, _without_groups(f.pattern) + f.follow) for f in forms]
    behind = [whole for begin, whole in patterns if begin.startswith(_BLANKS)]
    beside = [
        whole
        for begin, whole in patterns
        if begin.startswith(_OPTIONAL) or not begin.startswith(_BLANKS)
    ]

    following = rb"(?![ \t]{1,2}(?:0[xX])?[0-9a-fA-F]{8}(?:[0-9a-fA-F]{8})?(?!\w)| \w++: )"
    return (
        _CLOSING
        + rb"(?:(?=[ \t:=])" + following + rb"(?:" + rb"|".join(behind) + rb")"
        + rb"|" + rb"|".join(beside) + rb")?"
    )  # fmt: skip


def _opens(behind: bytes) -> bytes:
    r"""Return a pattern that matches after the start of a word that an escape comes before.

    Usually no letter or digit stands right before a word. But one can be the end of a colour,
    or of a character escaped by JSON (``\u001b``), rsyslog (``#011``), /dev/kmsg (``\x09``) or
    quoted-printable (``=3D``). ``behind`` matches the part of the word before the position at
    which the pattern is tried: it looks back over that part for the escape.
    """
    ends = [rb"\[[\d;]{%d}[mK]" % size for size in range(17)]
    ends += [rb"\\[bfnrt]", rb"\\u[0-9a-fA-F]{4}", rb"#0[0-3][0-7]"]
    ends += [rb"\\x[0-9a-f]{2}", rb"=3D"]
    return rb"|".join(rb"(?<=" + end + behind + rb")" for end in ends)


LONG: Final = (b"(inlined)", b"::")
"""A text for which the forms that look at all of a line are needed has one of these."""
_LONG: Final = ("an inlined function", "a name that perf demangled")


def _address(digits: int, first: bytes) -> bytes:
    """Return the pattern of a kernel address, which can have 0x before it.

    It tests what is before the address last, by looking back, since most positions of a text
    fail at the first digits already.
    """
    rest = digits - len(re.sub(rb"\[[^\]]*\]", b"0", first))
    behind = rb".{%d}" % digits
    after = [rb"(?<![\w@]" + behind + rb")", rb"(?<=\b0[xX]" + behind + rb")"]
    after += [_opens(behind), _opens(rb"0[xX]" + behind)]
    ends = rb"(?!(?!" + _SUFFIX + rb")\w)"
    return first + rb"[0-9a-fA-F]{%d}" % rest + ends + rb"(?:" + rb"|".join(after) + rb")"


@cache
def addresses(digits: int, first: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a kernel address, without its annotation.

    An address has ``digits`` hexadecimal digits and may have 0x before it. ``first`` matches
    its first digits: one for each character or bracket expression in it.
    """
    return re.compile(_address(digits, first), re.DOTALL)


@cache
def annotated(digits: int, first: bytes, long: bool) -> re.Pattern[bytes]:
    """Return the pattern of :func:`addresses` with an annotation, if any, as group 1.

    ``long`` is True if one of :data:`LONG` is in the text.
    """
    annotation = rb"(?:(?![" + re.escape(BEHIND) + rb"])|" + _annotation(long) + rb")"
    pattern = rb"(" + _address(digits, first) + annotation + rb")"
    return re.compile(pattern, re.MULTILINE | re.DOTALL)


# The letter that ends a colour does not begin a name. The test that fails most often is first.
_BEGINS: Final = (
    rb"(?=[A-Za-z_.$])(?:(?<![\w.$@\\])(?<!::)(?<!\x1b\[)(?<!1[bB]\[)|" + _opens(rb"") + rb")"
)
FRAMES: Final = re.compile(_BEGINS + _SAID + rb"(?!\w)(?:" + _MODULE + rb")?")
"""Symbols with an offset, anywhere in a text.

In ``RIP: 0010:NAME`` the segment stands right before the name.
"""
NAME_END: Final = re.compile(_BEGINS + NAME + rb"$")
"""The name at the end of a text."""
DECIMAL_FRAMES: Final = re.compile(
    rb"(?:exception RIP: |[<{](?::[\w-]+:)?|^[ \t]+)(?P<name>" + NAME + rb")\+(?P<decimal>\d+)"
    rb"(?:/\d+)?(?=[\]>}]|[ \t]*\r?$)",
    re.MULTILINE,
)
"""Symbols with a decimal offset, as crash, gdb and bpftrace print them.

Elsewhere a name with a decimal number is a sum.
"""

_WORDS: Final = _without_groups(_SAID + rb"(?:" + _MODULE + rb")?")
_LAST: Final = rb"[^\n]{0,80}\n[^\n]{0,80}?"
_PAIRS: Final = tuple(
    (hint, re.compile(pattern.replace(b"NAME", _WORDS).replace(b"ADDRESS", rb"[0-9a-f]{8,16}")))
    for hint, pattern in (
        (  # arm, and arm64 until Linux 4.15 (arch/arm/kernel/process.c, __show_regs)
            b"PC is at ",
            rb"PC is at (NAME)" + _LAST + rb"LR is at (NAME)" + _LAST + rb"pc : \[<(ADDRESS)>\]"
            rb" +lr : \[<(ADDRESS)>\]",
        ),
        (  # arch/riscv/kernel/process.c, __show_regs
            b"epc : ",
            rb"epc : (NAME)" + _LAST + rb" ra : (NAME)" + _LAST + rb"epc : (ADDRESS)"
            rb" +ra : (ADDRESS)",
        ),
    )
)


PAIR_HINTS: Final = tuple(hint for hint, _ in _PAIRS)
"""A text with the lines that :func:`pairs` finds has one of these."""


def pairs(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the addresses whose names stand in separate lines before them.

    For each it yields its offset in the text, and the address with its name after it, as if it
    were an annotation:

        PC is at vfs_open+0x2e/0xf0
        LR is at do_open+0x10/0x80
        pc : [<c0200a2e>]    lr : [<c0201310>]

    yields b"c0200a2e vfs_open+0x2e/0xf0" and b"c0201310 do_open+0x10/0x80".
    """
    for hint, pattern in _PAIRS:
        for match in pattern.finditer(text) if hint in text else ():
            for name, address in ((1, 3), (2, 4)):
                yield match.start(address), match[address] + b" " + match[name]


LONGEST: Final = 1 << 11
"""Limit on the length of a frame: a name has KSYM_NAME_LEN (512) bytes, a module one too."""
_WITH_OFFSET: Final = re.compile(_WORDS)
_WITH_OFFSET_BEHIND: Final = re.compile(_BEGINS + _WORDS + rb"$")
OPENERS: Final = {
    b" <": b">",
    b" \\u003c": b"\\u003e",
    b" &lt;": b"&gt;",
    b" (": b")",
    b" at ": b"",
    b" = ": b"",
}
"""The text between a name and its address, and the text that then closes the address."""
OPENED: Final = {opener[-2:] for opener in OPENERS} | {b"3C", b"0x"}
"""The two bytes before an address that a name may stand before."""
IS_NAME: Final = re.compile(rb"[A-Za-z_.$][\w.$@]*")
"""The pattern of a name without ``::``."""
LONGEST_NAME: Final = 512
IS_TAIL: Final = re.compile(rb"/0x[0-9a-f]+(?: \[(?!kernel\])[\w-]+\])?")
"""The pattern of a size and a module, as they stand after a name with its offset."""
_FTRACE: Final = re.compile(rb"(?:(?<= )|(?<=<-))" + NAME + rb"$")
_ALONE: Final = {
    **dict.fromkeys((b" <", b" \\u003c", b" &lt;"), _FTRACE),
    b" (": re.compile(rb"(?:(?<=  )|(?<==> )|(?<=<-- ))" + NAME + rb"$"),  # trace-cmd
    # crash has "[STACK] NAME at ADDRESS", and with -s "NAME+62 at ADDRESS".
    b" at ": re.compile(rb"(?:(?<=\] )|(?<=\A ))" + NAME + rb"(?:\+\d+)?$"),
}
"""The patterns of a name without an offset before an address, by the opener after the name."""
_CONTEXT: Final = 20
"""The bytes before a name that are searched too: the length of the longest colour."""
USUAL_BEFORE: Final = re.compile(rb" (" + _WORDS + rb") <\Z")
"""The usual text before an address with its name before it, as ftrace prints it."""
_OPENER: Final = re.compile(rb" (?:<|\\u003[cC]|&lt;|\(|at |= )(?:0x)?$")


def name_before(text: bytes) -> tuple[bytes, bytes]:
    """Return the name before an address, and the text that must close the address.

    ``text`` is the text before the address. Both are b"" if it does not end with a name and
    one of :data:`OPENERS`. For ``... vfs_open+0x2e/0xf0 <`` they are b"vfs_open+0x2e/0xf0" and
    b">".
    """
    opener = _OPENER.search(text, max(0, len(text) - 9))
    if opener is None:
        return b"", b""

    end, word = opener.start(), opener[0].removesuffix(b"0x").lower()
    first = max(0, end - LONGEST)
    # The name begins after the last blank, but the blank before its module is part of it.
    begin = text.rfind(b" [", first, end) if text[end - 1 : end] == b"]" else end
    begin = max(text.rfind(b" ", first, begin) + 1, first)

    match = _WITH_OFFSET.fullmatch(text, begin, end)
    if match is None:
        head = text[max(0, begin - _CONTEXT) : end]
        match = _WITH_OFFSET_BEHIND.search(head)
        if match is None and word in _ALONE:
            match = _ALONE[word].search(head)

    return (match[0], OPENERS[word]) if match else (b"", b"")
