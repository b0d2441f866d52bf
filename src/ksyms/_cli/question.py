"""What ``ksyms lookup`` is asked: an address, a range, a name, a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .._printable import printable
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .source import is_address

if TYPE_CHECKING:
    from .._symbols import Symbol, SymbolTable

# Compiled when they are first asked: an address by itself must not wait for it.
_NUMBER: Final = r"0[xX][0-9a-fA-F]+|[0-9]{1,20}"
# As /proc/PID/maps and objdump have it: the end is the first address after the range.
_RANGE: Final = rf"(\w+)(?:-(\w+)|\+({_NUMBER}))"
_OFFSET: Final = rf"(?s)(.+)\+({_NUMBER})(?:/({_NUMBER}))?"
# As kprobe_events and bpftrace have it, where vmlinux: is the kernel itself.
_MODULE: Final = r"(?as)([\w*?.-]+):(.+)"
_WHOLE_MODULE: Final = r"(?a)\[([\w.-]+)(?:\s+([0-9a-f]{8,}))?\]"
KERNEL: Final = "vmlinux"
_WILD: Final = "*?["
_SIGNS: Final = f"+-:/<> \t{_WILD}"
"""One of which is in whatever is more than a name."""
_PLAIN: Final = r"0[xX](?![0-9a-fA-F]{6}\Z)[0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}"
"""An address of 64 bits that no name is asked by."""
_DIGITS: Final = 8  # of an address that can be a name
_BLANKS: Final = " \t\r\n\v\f"
_SHOWN: Final = 120

Found = tuple["Symbol", int | None]
"""A symbol; and how far into it the address is that was asked for, if one was."""


class Question(NamedTuple):
    """``text`` as it was asked, and what it can mean.

    ``start`` is an address; with ``end``, it is the first of a range, and ``end`` the first
    after it. ``name`` is a symbol's, also where it could be the address, and ``pattern`` is
    for all whose name it is found in; of ``module`` only, which is a glob, and of its build of
    ``build_id``. With ``offset`` it is for what lies so many bytes behind where they begin, in
    those long enough; with ``size`` in those that the kernel gives that size. Of several, those
    for which that is ``address`` are meant if there are any. ``wrong`` says why it asks
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
    size: int | None = None
    address: int | None = None
    build_id: str | None = None


def question(text: str) -> Question:
    """What ``text`` asks, without the blanks around it.

    Raises:
        ValueError: a range is empty, or a regular expression is none, in words.
    """
    text = text.strip(_BLANKS)
    if is_address(text):
        return Question(text, int(text, 16), name=text if len(text) == _DIGITS else "")
    if not any(sign in text for sign in _SIGNS):
        return Question(text, name=text)
    if whole := re.fullmatch(_WHOLE_MODULE, text):
        return _whole(text, *whole.groups())
    from .pasted import pasted

    what, address, module, build_id = pasted(text)
    if is_address(what):
        return Question(text, int(what, 16))
    asked = _question(text, what)
    if module is None and address is None:
        return asked
    return asked._replace(module=module or asked.module, address=address, build_id=build_id)


def understood(text: str) -> Question:
    """The same, or what is wrong with it."""
    try:
        return question(text)
    except ValueError as error:
        return Question(text, wrong=str(error))


def addresses(texts: Iterable[str]) -> list[int | None]:
    """The address that each of ``texts`` is; None of what is none, or can be a name too.

    What :func:`question` makes of those that are is the same address and nothing else.
    """
    plain = re.compile(_PLAIN).fullmatch
    return [int(text, 16) if plain(text) else None for text in texts]


def _whole(text: str, module: str, build_id: str | None) -> Question:
    """All of a module; or an address, as powerpc has it in brackets; of eight, either."""
    address = int(module, 16) if is_address(module) else None
    if address is not None and len(module) != _DIGITS:
        return Question(text, address)
    every = re.compile("")
    return Question(text, pattern=every, module=module, address=address, build_id=build_id)


def _question(text: str, what: str) -> Question:
    """The question that ``what`` is, which was asked as ``text``."""
    bounds = re.fullmatch(_RANGE, what)
    if bounds and is_address(bounds[1]) and (bounds[2] is None or is_address(bounds[2])):
        return _range(text, *bounds.groups())
    module, name, offset, size = None, what, None, None
    if part := re.fullmatch(_MODULE, what):
        module, name = part.groups()
    if len(name) > 1 and name[0] == name[-1] == "/":
        return Question(text, pattern=_expression(name[1:-1]), module=module)
    if part := re.fullmatch(_OFFSET, name):
        name, offset = part[1], _number(part[2])
        size = None if part[3] is None else _number(part[3])
    pattern = _glob(name) if any(sign in name for sign in _WILD) else None
    return Question(text, name=name, pattern=pattern, module=module, offset=offset, size=size)


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
    return printable(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def answers(table: SymbolTable, asked: Question) -> Iterable[Found]:
    """What there is for a question: one symbol at most at an address, else all."""
    # Whatever it looks like: what is the whole of a symbol's name asks for that symbol.
    if named := table.find(asked.text) if _can_be_name(asked) else []:
        return [(symbol, None) for symbol in named]
    if asked.start is not None and asked.end is None:
        return _into(table.lookup(asked.start), asked.start)
    return _others(table, asked)


def _can_be_name(asked: Question) -> bool:
    return (asked.start is None or bool(asked.name)) and not asked.wrong


def _into(symbol: Symbol | None, address: int) -> list[Found]:
    return [] if symbol is None else [(symbol, address - symbol.address)]


def _others(table: SymbolTable, asked: Question) -> Iterator[Found]:
    """The answers to what is neither one address nor a name as it stands."""
    from .._symbols import search

    if not is_build(table, asked):
        return
    found: Iterable[Symbol]
    if asked.pattern is not None:
        found = search.matching(table, asked.pattern)
    else:
        found = table.find(asked.name) if asked.name not in ("", asked.text) else []
    if asked.start is not None and asked.end is not None and not found:
        for symbol in search.within(table, asked.start, asked.end):
            yield symbol, None
        return
    meant = (symbol for symbol in found if is_meant(table, asked, symbol))
    if asked.address is None:
        yield from ((symbol, asked.offset) for symbol in meant)
        return
    several = list(meant)
    if not several and asked.pattern is not None:  # an address in brackets and no module
        yield from _into(table.lookup(asked.address), asked.address)
    there = [each for each in several if each.address + (asked.offset or 0) == asked.address]
    yield from ((symbol, asked.offset) for symbol in there or several)


def is_meant(table: SymbolTable, asked: Question, symbol: Symbol) -> bool:
    """Whether a symbol of the name that was asked for is of that module, and long enough."""
    if asked.module is not None and not is_of(symbol, asked.module):
        return False
    if asked.offset is None:
        return True
    if asked.size is None:
        return asked.offset < max(symbol.size, 1)
    from .._symbols.search import prints_size

    # A call that never returns can be the last of a function (sprint_backtrace).
    return asked.offset <= asked.size and prints_size(table, symbol, asked.size)


def is_of(symbol: Symbol, module: str) -> bool:
    """Whether the symbol is of a module that the glob ``module`` is for.

    A module's file can have ``-`` where its name has ``_`` (scripts/Makefile.lib, name-fix).
    """
    import fnmatch

    own = symbol.module or KERNEL
    return fnmatch.fnmatchcase(own.replace("-", "_"), module.replace("-", "_"))


def is_build(table: SymbolTable, asked: Question) -> bool:
    """Whether the table's build-id of the module is none, or what was asked for begins so."""
    if asked.build_id is None or asked.module is None:
        return True
    name = asked.module.replace("-", "_")
    builds = [file["build_id"] for file in table.facts.get("files", ()) if file["name"] == name]
    return all(asked.build_id.startswith(build) for build in builds if build)
