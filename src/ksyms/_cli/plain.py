"""Arguments that need no argparse: whole options, each value a word of its own, words together.

argparse takes as long to import, and to be told of a command's arguments, as Python takes to
start. So a command tells a :class:`Plain` first, in the same words; and whatever that does not
read for certain, as help, an abbreviation or a mistake, argparse does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

from .._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn


class _Argument(NamedTuple):
    """What a command has told of an argument.

    ``kind`` is what an option does (argparse's ``action``), or how many words an argument takes
    that is none (``nargs``; "" is one).
    """

    place: str
    kind: str
    default: object
    make: Callable[[str], Any]
    choices: Sequence[str] | None
    required: bool
    group: _Group | None


class _Group:
    """Arguments of which one at most may be given."""

    def __init__(self, plain: Plain, required: bool) -> None:
        self.plain = plain
        self.required = required

    def add_argument(self, *names: str, **told: Any) -> None:
        """As argparse's."""
        self.plain.add_argument(*names, group=self, **told)


class Plain:
    """What a command tells of its arguments, as it would argparse.

    Args:
        command: its name.
        wrong: called with what is wrong with arguments that argparse would read.
    """

    def __init__(self, command: str, wrong: Callable[[str], NoReturn]) -> None:
        self.error = wrong
        self._command = command
        self._options: dict[str, _Argument] = {}
        self._words: list[_Argument] = []
        self._groups: list[_Group] = []
        self._set: dict[str, object] = {}
        self._known = True  # false where an argument is told that argparse alone can read

    def add_parser(self, name: str, **_: str) -> Plain:
        """As argparse's; of a file's commands only the one that was asked for matters."""
        return self if name == self._command else Plain(name, self.error)

    def add_mutually_exclusive_group(self, required: bool = False) -> _Group:
        """As argparse's."""
        self._groups.append(_Group(self, required))
        return self._groups[-1]

    def set_defaults(self, **values: object) -> None:
        """As argparse's."""
        self._set |= values

    def add_argument(
        self,
        *names: str,
        dest: str | None = None,
        action: str = "store",
        nargs: str | None = None,
        default: object = None,
        type: Callable[[str], Any] = str,  # noqa: A002 # argparse's name
        choices: Sequence[str] | None = None,
        required: bool = False,
        group: _Group | None = None,
        metavar: str = "",
        help: str = "",  # noqa: A002 # the same
    ) -> None:
        """As argparse's."""
        option = names[0].startswith("-")
        long = next((name for name in names if name.startswith("--")), names[0])
        place = dest or long.lstrip("-").replace("-", "_")
        kind = nargs or (action if option else "")
        if action == "store_true":
            default = False
        told = _Argument(place, kind, default, type, choices, required, group)
        # argparse makes something of a default that is text.
        self._known &= not isinstance(default, str) or type is str
        if option:
            self._known &= kind in ("store", "store_true", "append")
            self._options |= dict.fromkeys(names, told)
        else:
            self._words.append(told)

    def read(self, texts: Sequence[str]) -> SimpleNamespace | None:
        """The arguments ``texts``, as argparse gives them; None where that is to read them."""
        every = [*self._options.values(), *self._words]
        found: dict[str, Any] = {each.place: each.default for each in every}
        given: set[str] = set()
        words: list[str] = []
        rest = iter(texts)
        together = True
        try:
            for text in rest:
                if option := self._options.get(text):
                    together = not words
                    found[option.place] = _value(option, found[option.place], rest)
                    given.add(option.place)
                elif _is_word(text) and together:
                    words.append(text)
                else:
                    return None
            given |= self._spread(words, found)
        except Exception:  # whatever it is of a value, argparse says it
            return None
        if not self._known or any(each.required and each.place not in given for each in every):
            return None
        for group in self._groups:
            number = sum(each.place in given for each in every if each.group is group)
            if number > 1 or (group.required and not number):
                return None
        return SimpleNamespace(**self._set, **found)

    def _spread(self, words: list[str], found: dict[str, Any]) -> set[str]:
        """Give each argument that is no option its words; which have some.

        Raises:
            ValueError: they are not as many as it takes.
        """
        if len(self._words) == 1 and self._words[0].kind in ("+", "*"):
            only = self._words[0]
            if not words and (only.kind == "+" or only.default is not None):
                raise ValueError
            found[only.place] = [_made(only, word) for word in words]
            return {only.place} if words else set()
        if len(self._words) == 1 and self._words[0].kind == "?" and not words:
            return set()
        for each, word in zip(self._words, words, strict=True):
            if each.kind not in ("", "?"):
                raise ValueError
            found[each.place] = _made(each, word)
        return {each.place for each in self._words}


def _value(option: _Argument, before: Any, rest: Iterator[str]) -> object:
    """What an option is now; ``rest`` begins with its value.

    Raises:
        ValueError: it has none.
    """
    if option.kind == "store_true":
        return True
    text = next(rest, "-?")
    if not _is_word(text):
        raise ValueError
    value = _made(option, text)
    return [*before, value] if option.kind == "append" else value


def _is_word(text: str) -> bool:
    return not text.startswith("-") or text == "-"


def _made(argument: _Argument, text: str) -> Any:
    value = argument.make(text)
    if argument.choices is not None and value not in argument.choices:
        raise ValueError
    return value
