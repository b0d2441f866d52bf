"""The questions of ``ksyms lookup``: parse them, and find their answers in a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .._printable import printable
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .source import is_address

if TYPE_CHECKING:
    from .._symbols import Symbol, SymbolTable

# Patterns are compiled when they are first used: a lookup of one address needs none.
_NUMBER: Final = r"0[xX][0-9a-fA-F]+|[0-9]{1,20}"
# As in /proc/PID/maps and objdump, the end is the first address after the range.
_RANGE: Final = rf"(\w+)(?:-(\w+)|\+({_NUMBER}))"
_OFFSET: Final = rf"(?s)(.+)\+({_NUMBER})(?:/({_NUMBER}))?"
# MODULE:NAME, as for kprobe_events and bpftrace; the module vmlinux is the kernel itself.
_MODULE: Final = r"(?as)([\w*?.-]+):(.+)"
_WHOLE_MODULE: Final = r"(?a)\[([\w.-]+)(?:\s+([0-9a-f]{8,}))?\]"
KERNEL: Final = "vmlinux"
_WILD: Final = "*?["
_SIGNS: Final = f"+-:/<> \t{_WILD}"
"""A text without any of these characters, and which is not an address, is just a name."""
_PLAIN: Final = r"0[xX](?![0-9a-fA-F]{6}\Z)[0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}"
"""An address of at most 64 bits that cannot be a name: a text of eight characters can be."""
_DIGITS: Final = 8  # an address of so many characters can also be a name
_BLANKS: Final = " \t\r\n\v\f"
_SHOWN: Final = 120  # largest length of a text that a message quotes, in characters

Found = tuple["Symbol", int | None]
"""A symbol, and the offset within it that was asked for; None if none was."""


class Question(NamedTuple):
    """A question as it was asked, and its parts.

    Attributes:
        text: the question as it was asked.
        start: the address; with ``end``, the first address of the range.
        end: the first address after the range.
        name: the symbol's name, or the glob. If an address can also be a name, it is here too.
        pattern: the regular expression, which is searched for in the names of all symbols.
        module: a glob for the names of the symbols' modules.
        offset: bytes from the symbol's start. Symbols that are shorter are left out.
        wrong: the reason why the question has no meaning; "" if it has one.
        size: bytes. Symbols for which the kernel prints another size are left out.
        address: the address beside the name. If several symbols have the name, those are meant
            that have this address at ``offset``, if there are any.
        build_id: the module's build-id, in hexadecimal digits.
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


def parse_question(text: str) -> Question:
    """Return the question that ``text`` is, without the blanks around it.

    Examples, with the members that are set::

        0xffffffff81000000          start
        0xffffffff81000000+0x100    start, end
        schedule+0x12/0xc0          name, offset, size
        9p:v9fs_*                   module, name, pattern

    Raises:
        ValueError: a range is empty, or a regular expression is not valid; the text says
            which.
    """
    text = text.strip(_BLANKS)
    if is_address(text):
        return Question(text, int(text, 16), name=text if len(text) == _DIGITS else "")
    if not any(sign in text for sign in _SIGNS):
        return Question(text, name=text)
    if whole := re.fullmatch(_WHOLE_MODULE, text):
        return _parse_whole_module(text, *whole.groups())
    from .pasted import parse_frame

    what, address, module, build_id = parse_frame(text)
    if is_address(what):
        return Question(text, int(what, 16))
    asked = _parse_rest(text, what)
    if module is None and address is None:
        return asked
    return asked._replace(module=module or asked.module, address=address, build_id=build_id)


def parse_line(text: str) -> Question:
    """Return what :func:`parse_question` returns, but with an error's text in ``wrong``."""
    try:
        return parse_question(text)
    except ValueError as error:
        return Question(text, wrong=str(error))


def parse_addresses(texts: Iterable[str]) -> list[int | None]:
    """Return the address that each of ``texts`` is; None if it is none, or can be a name too.

    This is a fast way for many plain addresses: for these :func:`parse_question` returns a
    question with that address and nothing else.
    """
    plain = re.compile(_PLAIN).fullmatch
    return [int(text, 16) if plain(text) else None for text in texts]


def _parse_whole_module(text: str, module: str, build_id: str | None) -> Question:
    """Return the question of ``[MODULE]``, which asks for all symbols of a module.

    powerpc also prints an address in brackets. Eight digits can be either.
    """
    address = int(module, 16) if is_address(module) else None
    if address is not None and len(module) != _DIGITS:
        return Question(text, address)
    every = re.compile("")
    return Question(text, pattern=every, module=module, address=address, build_id=build_id)


def _parse_rest(text: str, what: str) -> Question:
    """Return the question of ``what``, the frame in ``text`` without the text around it."""
    bounds = re.fullmatch(_RANGE, what)
    if bounds and is_address(bounds[1]) and (bounds[2] is None or is_address(bounds[2])):
        return _parse_range(text, *bounds.groups())

    module, name, offset, size = None, what, None, None
    if part := re.fullmatch(_MODULE, what):
        module, name = part.groups()
    if len(name) > 1 and name[0] == name[-1] == "/":
        return Question(text, pattern=_parse_expression(name[1:-1]), module=module)
    if part := re.fullmatch(_OFFSET, name):
        name, offset = part[1], _parse_number(part[2])
        size = None if part[3] is None else _parse_number(part[3])
    pattern = _glob_to_pattern(name) if any(sign in name for sign in _WILD) else None
    return Question(text, name=name, pattern=pattern, module=module, offset=offset, size=size)


def _parse_range(text: str, first: str, last: str | None, length: str | None) -> Question:
    """Return the question of FIRST-LAST or FIRST+LENGTH.

    If FIRST has eight digits, FIRST+LENGTH can also be NAME+OFFSET: the question has both.

    Raises:
        ValueError: the range is empty.
    """
    start = int(first, 16)
    end = int(last, 16) if last is not None else start + _parse_number(length or "")
    if end <= start:
        raise ValueError(
            f"{shorten(text)} is an empty range: it ends where it begins, or before"
        )
    if last is None and len(first) == _DIGITS:
        return Question(text, start, end, name=first, offset=end - start)
    return Question(text, start, end)


def _parse_number(text: str) -> int:
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def _glob_to_pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression of a glob, which must match the whole name."""
    import fnmatch

    return re.compile(r"\A" + fnmatch.translate(text))


def _parse_expression(text: str) -> re.Pattern[str]:
    """Return the compiled regular expression ``text``.

    Raises:
        ValueError: it is not valid.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about syntax that will change
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shorten(f'/{text}/')} is no regular expression: {error}") from None


def shorten(text: str) -> str:
    """Return ``text`` for a message: printable, and cut after :data:`_SHOWN` characters."""
    return printable(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def find_answers(table: SymbolTable, asked: Question) -> Iterable[Found]:
    """Return the answers to a question: one at most for an address, else all."""
    # A text that is the whole name of a symbol asks for that symbol, whatever it looks like.
    if named := table.find(asked.text) if _can_be_name(asked) else []:
        return [(symbol, None) for symbol in named]
    if asked.start is not None and asked.end is None:
        return _answer_in(table.lookup(asked.start), asked.start)
    return _find_others(table, asked)


def _can_be_name(asked: Question) -> bool:
    """Return True if the question's text can be a symbol's name."""
    return (asked.start is None or bool(asked.name)) and not asked.wrong


def _answer_in(symbol: Symbol | None, address: int) -> list[Found]:
    return [] if symbol is None else [(symbol, address - symbol.address)]


def _find_others(table: SymbolTable, asked: Question) -> Iterator[Found]:
    """Yield the answers to a question that is neither a single address nor a plain name."""
    from .._symbols import search

    if not is_of_build(table, asked):
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

    meant = (symbol for symbol in found if fits_question(table, asked, symbol))
    if asked.address is None:
        yield from ((symbol, asked.offset) for symbol in meant)
        return
    several = list(meant)
    if not several and asked.pattern is not None:  # no module, but an address in brackets
        yield from _answer_in(table.lookup(asked.address), asked.address)
    there = [each for each in several if each.address + (asked.offset or 0) == asked.address]
    yield from ((symbol, asked.offset) for symbol in there or several)


def fits_question(table: SymbolTable, asked: Question, symbol: Symbol) -> bool:
    """Return True if a symbol with the right name is also of the module, and long enough."""
    if asked.module is not None and not is_of_module(symbol, asked.module):
        return False
    if asked.offset is None:
        return True
    if asked.size is None:
        return asked.offset < max(symbol.size, 1)
    from .._symbols.search import prints_size

    # The offset can equal the size: if the last instruction of a function is a call that never
    # returns, its return address is the function's end (sprint_backtrace).
    return asked.offset <= asked.size and prints_size(table, symbol, asked.size)


def is_of_module(symbol: Symbol, module: str) -> bool:
    """Return True if the name of the symbol's module matches the glob ``module``.

    ``-`` and ``_`` count as the same: where a module's name has ``_``, its file can have ``-``
    (scripts/Makefile.lib, name-fix).
    """
    import fnmatch

    own = symbol.module or KERNEL
    return fnmatch.fnmatchcase(own.replace("-", "_"), module.replace("-", "_"))


def is_of_build(table: SymbolTable, asked: Question) -> bool:
    """Return True unless the question has another build-id of the module than the table.

    The table's build-id may be shorter. Then it must be the start of the question's.
    """
    if asked.build_id is None or asked.module is None:
        return True
    name = asked.module.replace("-", "_")
    builds = [file["build_id"] for file in table.facts.get("files", ()) if file["name"] == name]
    return all(asked.build_id.startswith(build) for build in builds if build)
