"""What ``typing`` has, for files that a lookup imports: typing takes as long as Python itself.

For mypy these are typing's own. When a program runs all are None, for nothing looks at an
annotation; but :class:`NamedTuple` makes a :func:`collections.namedtuple`.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""mypy takes what has this name for true."""

__all__ = ["TYPE_CHECKING", "Any", "BinaryIO", "Final", "Literal", "NamedTuple", "overload"]

if TYPE_CHECKING:
    from typing import Any, BinaryIO, Final, Literal, NamedTuple, overload
else:
    from collections import namedtuple

    Any = BinaryIO = Final = Literal = None

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
