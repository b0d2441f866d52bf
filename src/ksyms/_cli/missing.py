"""Messages that say why a question has no answer, with suggestions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._symbols import Symbol, SymbolTable
from .._symbols.similar import similar
from .._typing import NamedTuple
from .question import KERNEL, Question, is_of_build, is_of_module, shorten

_LISTED = 8
"""Largest number of sizes, or of modules, that one sentence lists."""
_WILD = "*?"


class Missing(NamedTuple):
    """The message that a question has no answer.

    ``sentence`` is for people. ``why`` is the reason for programs; it is empty if the table
    just has no such name, address or match. If no symbol has the name that was asked for,
    ``name`` is this name, and ``similar`` has names that resemble it.
    """

    sentence: str
    why: str = ""
    name: str | None = None
    similar: Sequence[str] = ()


def explain_missing(table: SymbolTable, asked: Question, hints: bool) -> Missing:
    """Return why ``asked`` has no answer.

    If ``hints`` is True, search for names that are similar to one that no symbol has.
    """
    label = f"In {table.label}"
    if asked.wrong:
        return Missing(f"{asked.wrong}.")
    if asked.start is not None:
        where = "in" if asked.end is not None else "at"
        return Missing(f"{label} no symbol is {where} {shorten(asked.text)}.")

    why = _explain_module(table, asked)
    if not why and asked.pattern is not None:
        return Missing(f"{label} no symbol matches {shorten(asked.text)}.{_limits(table)}")

    called = table.find(asked.name) if not why else []
    if not why and not called:
        near = similar(table, asked.name) if hints else []
        said = f"{label} no symbol is called {shorten(asked.name)}."
        return Missing(f"{said}{_limits(table)}{_suggest(near)}", "", asked.name, near)
    why = why or _explain_unfit(table, asked, called)
    return Missing(f"{label} {why}.", why)


def _explain_module(table: SymbolTable, asked: Question) -> str:
    """Return what is wrong with the module that was asked for; "" if nothing is."""
    module = asked.module
    if module is None or any(sign in module for sign in _WILD):
        return ""
    name = module.replace("-", "_")
    if name != KERNEL and name not in _modules(table):
        near = [each for each in sorted(_modules(table)) if _near(each, name)]
        hint = f", but {near[0]} is" if near else ""
        return f"no module is called {shorten(module)}{hint}"
    if not is_of_build(table, asked):
        return f"{name} is another build than {asked.build_id}"
    return ""


def _near(one: str, other: str) -> bool:
    """Return True if ``one``, in lower case, is ``other`` with at most one typo."""
    from .._symbols.similar import one_slip

    return one_slip(one.lower().encode(), other.lower().encode("utf-8", "replace"))


def _modules(table: SymbolTable) -> set[str]:
    """Return the names of the table's modules, and of groups that are listed like them."""
    files = table.facts.get("files", ())
    listed = {file["name"] for file in files if file["kind"] != "kernel"}
    sections = [name for name, _, _ in table.sections if name[:1] == "[" and "]" in name]
    return listed | {name[1 : name.index("]")] for name in sections}


def _explain_unfit(table: SymbolTable, asked: Question, called: list[Symbol]) -> str:
    """Return why none of ``called``, the symbols with the name that was asked for, fits.

    The reason is one of these:

    - they are of other modules than the one that was asked for
    - the offset is larger than the size that was asked for
    - they have other sizes
    - the offset is past their ends; then say which symbols are there
    """
    name = shorten(asked.name)
    ours = called
    if asked.module is not None:
        ours = [symbol for symbol in called if is_of_module(symbol, asked.module)]
    if not ours:
        there = dict.fromkeys(symbol.module or KERNEL for symbol in called)
        return f"{name} is not of {shorten(asked.module or KERNEL)}, but of {_join(there)}"

    sizes = _join(dict.fromkeys(f"{symbol.size:#x}" for symbol in ours))
    offset = asked.offset or 0
    if asked.size is not None and offset > asked.size:
        return f"{shorten(asked.text)} is past its own end"
    if asked.size is not None:
        return f"no {name} has {asked.size:#x} bytes, but {sizes}"

    why = f"{name}+{offset:#x} is past the end of {name}, which has {sizes} bytes"
    places = [
        (symbol.address + offset, table.lookup(symbol.address + offset)) for symbol in ours
    ]
    behind = [f"{s.name}+{at - s.address:#x}/{s.size:#x}" for at, s in places if s is not None]
    return f"{why}; there lies {_join(dict.fromkeys(behind))}" if behind else why


def _join(words: Iterable[str], last: str = "and") -> str:
    """Return ``words`` as a list in a sentence: "a, b and c", or "a, b, ... and 4 more"."""
    several = list(words)
    more = len(several) - _LISTED
    if more > 0:
        return f"{', '.join(several[:_LISTED])} and {more} more"
    return f" {last} ".join(filter(None, [", ".join(several[:-1]), several[-1]]))


def _limits(table: SymbolTable) -> str:
    """Return the sentence that the kernel lists no data; "" if it lists all, or is unknown."""
    if table.facts.get("lists") != "functions":
        return ""
    return " This kernel lists functions only: it was built without CONFIG_KALLSYMS_ALL."


def _suggest(near: list[str]) -> str:
    return f" Did you mean {_join(near, 'or')}?" if near else ""
