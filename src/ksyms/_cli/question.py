"""What ``ksyms lookup`` is asked: an address, a range, a name, a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .source import is_address

if TYPE_CHECKING:
    from .._symbols import Symbol, SymbolTable

# Compiled when they are first asked: an address by itself must not wait for it.
_NUMBER: Final = r"0[xX][0-9a-fA-F]+|[0-9]{1,20}"
# As /proc/PID/maps and objdump have it: the end is the first address after the range.
_RANGE: Final = rf"(\w+)(?:-(\w+)|\+({_NUMBER}))"
_OFFSET: Final = rf"(?s)(.+)\+({_NUMBER})"
# As kprobe_events and bpftrace have it, where vmlinux: is the kernel itself.
_MODULE: Final = r"(?as)([\w*?.-]+):(.+)"
_WHOLE_MODULE: Final = r"(?a)\[([\w.-]+)\]"
_KERNEL: Final = "vmlinux"
_WILD: Final = "*?["
_SIGNS: Final = f"+-:/{_WILD}"
"""One of which is in whatever is more than a name."""
_DIGITS: Final = 8  # of an address that can be a name
_SHOWN: Final = 120

Found = tuple["Symbol", int | None]
"""A symbol; and how far into it the address is that was asked for, if one was."""


class Question(NamedTuple):
    """``text`` as it was asked, and what it can mean.

    ``start`` is an address; with ``end``, it is the first of a range, and ``end`` the first
    after it. ``name`` is a symbol's, also where it could be the address, and ``pattern`` is
    for all whose name it is found in; of ``module`` only, which is a glob. With ``offset``
    it is for what lies so many bytes behind where they begin. ``wrong`` says why it asks
    nothing.
    """

    text: str
    start: int | None = None
    end: int | None = None
    name: str = ""
    pattern: re.Pattern[str] | None = None
    module: str | None = None
    offset: int | None = None
    wrong: str = ""


def question(text: str) -> Question:
    """What ``text`` asks.

    Raises:
        ValueError: a range is empty, or a regular expression is none, in words.
    """
    if is_address(text):
        return Question(text, int(text, 16), name=text if len(text) == _DIGITS else "")
    if not any(sign in text for sign in _SIGNS):
        return Question(text, name=text)
    bounds = re.fullmatch(_RANGE, text)
    if bounds and is_address(bounds[1]) and (bounds[2] is None or is_address(bounds[2])):
        return _range(text, *bounds.groups())
    if whole := re.fullmatch(_WHOLE_MODULE, text):
        return Question(text, pattern=re.compile(""), module=whole[1])
    module, name, offset = None, text, None
    if part := re.fullmatch(_MODULE, text):
        module, name = part.groups()
    if len(name) > 1 and name[0] == name[-1] == "/":
        return Question(text, pattern=_expression(name[1:-1]), module=module)
    if part := re.fullmatch(_OFFSET, name):
        name, offset = part[1], _number(part[2])
    pattern = _glob(name) if any(sign in name for sign in _WILD) else None
    return Question(text, name=name, pattern=pattern, module=module, offset=offset)


def _range(text: str, first: str, last: str | None, length: str | None) -> Question:
    start = int(first, 16)
    end = int(last, 16) if last is not None else start + _number(length or "")
    if end <= start:
        raise ValueError(f"{shown(text)} is an empty range: it ends where it begins, or before")
    if last is None and len(first) == _DIGITS:
        return Question(text, start, end, name=first, offset=end - start)
    return Question(text, start, end)


def _number(text: str) -> int:
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def _glob(text: str) -> re.Pattern[str]:
    import fnmatch

    return re.compile(r"\A" + fnmatch.translate(text))


def _expression(text: str) -> re.Pattern[str]:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what another Python will understand otherwise
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shown(f'/{text}/')} is no regular expression: {error}") from None


def shown(text: str) -> str:
    """``text`` as a message has it: not longer than a line, and nothing a terminal obeys."""
    part = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return part if part.isprintable() else repr(part)


def answers(
    table: SymbolTable, asked: Sequence[Question]
) -> Iterator[tuple[Question, Iterable[Found]]]:
    """Each question with what there is for it: one symbol at most at an address, else all."""
    for each in asked:
        # Whatever it looks like: what is the whole of a symbol's name asks for that symbol.
        if named := table.find(each.text) if _can_be_name(each) else []:
            yield each, [(symbol, None) for symbol in named]
        elif each.start is not None and each.end is None:
            yield each, _into(table.lookup(each.start), each.start)
        else:
            yield each, _others(table, each)


def _can_be_name(asked: Question) -> bool:
    return (asked.start is None or bool(asked.name)) and not asked.wrong


def _into(symbol: Symbol | None, address: int) -> list[Found]:
    return [] if symbol is None else [(symbol, address - symbol.address)]


def _others(table: SymbolTable, asked: Question) -> Iterator[Found]:
    """The answers to what is neither one address nor a name as it stands."""
    from .._symbols import search

    new = asked.name not in ("", asked.text) and asked.pattern is None
    called = table.find(asked.name) if new else []
    if asked.start is not None and asked.end is not None and not called:
        for symbol in search.within(table, asked.start, asked.end):
            yield symbol, None
        return
    found: Iterable[Symbol] = called
    if asked.pattern is not None:
        found = search.matching(table, asked.pattern)
    for symbol in found:
        if asked.module is not None and not _of_module(symbol, asked.module):
            continue
        if asked.offset is None:
            yield symbol, None
        elif asked.offset < max(symbol.size, 1):
            yield symbol, asked.offset
        else:
            address = symbol.address + asked.offset
            yield from _into(table.lookup(address), address)


def _of_module(symbol: Symbol, module: str) -> bool:
    import fnmatch

    return fnmatch.fnmatchcase(symbol.module or _KERNEL, module)
