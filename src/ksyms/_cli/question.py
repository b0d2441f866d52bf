"""The questions of ``ksyms lookup``: an address, a range, a name, a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .._printable import printable
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .source import is_address

if TYPE_CHECKING:
    from .._symbols import Symbol, SymbolTable

# Compiled when first used: a lookup of one address must not wait for it.
_NUMBER: Final = r"0[xX][0-9a-fA-F]+|[0-9]{1,20}"
# The form of /proc/PID/maps and objdump: the end is the first address after the range.
_RANGE: Final = rf"(\w+)(?:-(\w+)|\+({_NUMBER}))"
_OFFSET: Final = rf"(?s)(.+)\+({_NUMBER})(?:/({_NUMBER}))?"
# The form of kprobe_events and bpftrace; vmlinux: is the kernel itself.
_MODULE: Final = r"(?as)([\w*?.-]+):(.+)"
_WHOLE_MODULE: Final = r"(?a)\[([\w.-]+)(?:\s+([0-9a-f]{8,}))?\]"
KERNEL: Final = "vmlinux"
_WILD: Final = "*?["
_SIGNS: Final = f"+-:/<> \t{_WILD}"
"""Characters of which one is in every text that is more than a name."""
_PLAIN: Final = r"0[xX](?![0-9a-fA-F]{6}\Z)[0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}"
"""An address of 64 bits or less that cannot be a name."""
_DIGITS: Final = 8  # an address of this many digits can be a name
_BLANKS: Final = " \t\r\n\v\f"
_SHOWN: Final = 120

Found = tuple["Symbol", int | None]
"""A symbol, and the offset in it of the address that was looked up, if there is one."""


class Question(NamedTuple):
    """A question as it was asked, and its parts.

    Attributes:
        text: the question itself.
        start: an address; with ``end``, the first address of a range.
        end: the first address after the range.
        name: a symbol's name or a glob; also a name that could be the address.
        pattern: found in the names of all symbols that are asked for.
        module: a glob for the modules of the symbols.
        offset: in bytes from the symbol's start; symbols that are shorter are left out.
        wrong: says why the question has no meaning, "" if it has one.
        size: in bytes; symbols for which the kernel prints another size are left out.
        address: the address beside a name. Of several symbols, those whose start plus
            ``offset`` it is are meant, if there are any.
        build_id: the module's, in hexadecimal digits.
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
    """Parse ``text``, without the blanks around it.

    Examples::

        0xffffffff81000000          start
        0xffffffff81000000+0x100    start, end
        schedule+0x12/0xc0          name, offset, size
        9p:v9fs_*                   module, name, pattern

    Raises:
        ValueError: a range is empty, or a regular expression is not valid; it says which.
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
    """Parse ``text`` as :func:`parse_question` does, but return an error in ``wrong``."""
    try:
        return parse_question(text)
    except ValueError as error:
        return Question(text, wrong=str(error))


def parse_addresses(texts: Iterable[str]) -> list[int | None]:
    """Return the address that each of ``texts`` is; None for others and for possible names.

    :func:`parse_question` of such a text has that address and nothing else.
    """
    plain = re.compile(_PLAIN).fullmatch
    return [int(text, 16) if plain(text) else None for text in texts]


def _parse_whole_module(text: str, module: str, build_id: str | None) -> Question:
    """Parse ``[MODULE]``: all of a module, or an address, which powerpc prints in brackets.

    Eight digits can be either.
    """
    address = int(module, 16) if is_address(module) else None
    if address is not None and len(module) != _DIGITS:
        return Question(text, address)
    every = re.compile("")
    return Question(text, pattern=every, module=module, address=address, build_id=build_id)


def _parse_rest(text: str, what: str) -> Question:
    """Parse ``what``, which was asked as ``text``."""
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
    """Parse FIRST-LAST or FIRST+LENGTH.

    If FIRST has eight digits, the latter can be NAME+OFFSET too.
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
    import fnmatch

    return re.compile(r"\A" + fnmatch.translate(text))


def _parse_expression(text: str) -> re.Pattern[str]:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about syntax that will change
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shorten(f'/{text}/')} is no regular expression: {error}") from None


def shorten(text: str) -> str:
    """Return ``text`` for a message: cut to a line's length, and printable."""
    return printable(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def find_answers(table: SymbolTable, asked: Question) -> Iterable[Found]:
    """Return the answers to a question: for an address one at most, else all."""
    # A text that is a symbol's whole name asks for that symbol, even if it looks otherwise.
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
    """Yield the answers to any question but a single address and a plain name."""
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
    if not several and asked.pattern is not None:  # the brackets had an address
        yield from _answer_in(table.lookup(asked.address), asked.address)
    there = [each for each in several if each.address + (asked.offset or 0) == asked.address]
    yield from ((symbol, asked.offset) for symbol in there or several)


def fits_question(table: SymbolTable, asked: Question, symbol: Symbol) -> bool:
    """Return True if a symbol that has the name is also of the module, and long enough."""
    if asked.module is not None and not is_of_module(symbol, asked.module):
        return False
    if asked.offset is None:
        return True
    if asked.size is None:
        return asked.offset < max(symbol.size, 1)
    from .._symbols.search import prints_size

    # The offset can equal the size: the return address of a function's last call, if that
    # never returns (sprint_backtrace).
    return asked.offset <= asked.size and prints_size(table, symbol, asked.size)


def is_of_module(symbol: Symbol, module: str) -> bool:
    """Return True if the symbol's module matches the glob ``module``.

    A module's file can have ``-`` where its name has ``_`` (scripts/Makefile.lib, name-fix).
    """
    import fnmatch

    own = symbol.module or KERNEL
    return fnmatch.fnmatchcase(own.replace("-", "_"), module.replace("-", "_"))


def is_of_build(table: SymbolTable, asked: Question) -> bool:
    """Return True unless the question's build-id contradicts the table's for the module.

    The table's may be shorter: then it must be the start of the question's.
    """
    if asked.build_id is None or asked.module is None:
        return True
    name = asked.module.replace("-", "_")
    builds = [file["build_id"] for file in table.facts.get("files", ()) if file["name"] == name]
    return all(asked.build_id.startswith(build) for build in builds if build)
