"""Names of ``typing`` for the modules that a lookup imports, without the import of typing.

That import takes as long as Python's start. For mypy the names are those of typing. At run time
most of them are None, since annotations are not evaluated. But :class:`NamedTuple` makes a
:func:`collections.namedtuple`, and a :class:`TypedDict` keeps its annotations, from which
``_note`` makes a schema.
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
        """Return ``function`` unchanged: of several definitions, the last one is used."""
        return function

    class _Fields(type):
        """A metaclass that makes a named tuple, whose fields are a class's annotations."""

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
        """A :class:`typing.NamedTuple` for files with annotations from ``__future__``."""

    class TypedDict(dict):
        """A :class:`typing.TypedDict`: its subclasses make dicts, and keep annotations."""
