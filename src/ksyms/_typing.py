"""What ``typing`` has, for files that a lookup imports: typing takes as long as Python itself.

For mypy these are typing's own. When a program runs most are None, for nothing looks at an
annotation; but :class:`NamedTuple` makes a :func:`collections.namedtuple`, and a
:class:`TypedDict` keeps its annotations, of which ``_note`` makes a schema.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""mypy takes what has this name for true."""

__all__ = [
    "TYPE_CHECKING",
    "Any",
    "BinaryIO",
    "Final",
    "Literal",
    "NamedTuple",
    "NotRequired",
    "TypedDict",
    "overload",
]

if TYPE_CHECKING:
    from typing import (
        Any,
        BinaryIO,
        Final,
        Literal,
        NamedTuple,
        NotRequired,
        TypedDict,
        overload,
    )
else:
    from collections import namedtuple

    Any = BinaryIO = Final = Literal = NotRequired = None

    def overload(function):
        """The function as it is; the one that is written last is the one that runs."""
        return function

    class _Fields(type):
        """Makes a named tuple of a class whose annotations are its fields."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.get("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in ("__module__", "__dict__", "__weakref__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """As :class:`typing.NamedTuple`, of a file with annotations from ``__future__``."""

    class TypedDict(dict):
        """As :class:`typing.TypedDict`: its classes make dicts and have annotations."""
