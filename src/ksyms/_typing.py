"""Names of ``typing`` for what a lookup imports: typing takes as long as Python's start.

For mypy these are typing's own. At run time most are None, since no annotation is evaluated.
But :class:`NamedTuple` makes a :func:`collections.namedtuple`, and a :class:`TypedDict` keeps
its annotations, from which ``_note`` makes a schema.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""mypy assumes that a variable of this name is True."""

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
        """Return the function unchanged; of several, the last definition is used."""
        return function

    class _Fields(type):
        """A metaclass that makes a named tuple of a class whose annotations are its fields."""

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
        """:class:`typing.NamedTuple` for files with annotations from ``__future__``."""

    class TypedDict(dict):
        """:class:`typing.TypedDict`, whose classes make dicts and have annotations."""
