"""Schemas of JSON objects: the members that an object has, and their types.

A schema is made of the annotations of a TypedDict. For example::

    class Range(TypedDict):                 {
        section: str                            "section": str,
        start: Address                          "start": _is_address,
        lines: NotRequired[list[Count]]         "lines?": [_is_count],
                                            }

A member with ``?`` may be missing. ``*`` stands for every member that an object has: it is the
schema of a ``dict[str, ...]``. A list has one schema for all its items.
"""

from __future__ import annotations

import sys
from functools import cache

from .._typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Rule = type | tuple[type, ...] | Callable[[object], bool]
    Schema = Rule | dict[str, Any] | list[Any]

Address = str
"""``0x`` and lower-case hexadecimal digits, at most 64 bits: JSON numbers would lose bits."""
Count = int
"""An unsigned number of at most 64 bits."""
RefCount = int
"""A module's reference count, an int of the kernel; negative while the module is unloaded."""

_DIGITS: Final = frozenset("0123456789abcdef")


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    digits = value[2:]
    return value[:2] == "0x" and 0 < len(digits) <= 16 and _DIGITS.issuperset(digits)


def _is_address_or_none(value: object) -> bool:
    return value is None or _is_address(value)


def is_count(value: object) -> bool:
    """Return True if ``value`` is a :data:`Count`."""
    # Not isinstance: JSON's true is an int to Python.
    return type(value) is int and 0 <= value < 1 << 64


def _is_refcount_or_none(value: object) -> bool:
    return value is None or (type(value) is int and -1 << 31 <= value < 1 << 31)


_RULES: Final[dict[str, Rule]] = {
    "str": str,
    "str | None": (str, type(None)),
    "bool": bool,
    "int": int,
    "Address": _is_address,
    "Address | None": _is_address_or_none,
    "Count": is_count,
    "RefCount | None": _is_refcount_or_none,
}
"""The rule for each annotation that is not a TypedDict, a list or a dict."""


@cache
def schema_of(objects: type) -> dict[str, Any]:
    """Return the schema of a TypedDict; ``__future__`` makes its annotations strings."""
    schema = {}
    for cls in reversed(objects.__mro__):
        for member, annotation in getattr(cls, "__annotations__", {}).items():
            inner = annotation.removeprefix("NotRequired[")
            optional = inner != annotation
            names = vars(sys.modules[cls.__module__])
            key = f"{member}?" if optional else member
            schema[key] = _schema(inner[:-1] if optional else inner, names)
    return schema


def _schema(annotation: str, names: dict[str, Any]) -> Schema:
    """Return the schema of an annotation; ``names`` has the TypedDicts that it can name."""
    if annotation in _RULES:
        return _RULES[annotation]
    if annotation.startswith("list["):
        return [_schema(annotation[len("list[") : -1], names)]
    if annotation.startswith("dict[str, "):
        return {"*": _schema(annotation[len("dict[str, ") : -1], names)}
    return schema_of(names[annotation])


def has(value: object, schema: Schema) -> bool:
    """Return True if ``value`` has all members of ``schema``, each of its type."""
    return mismatch(value, schema, "it") is None


def _obeys(value: object, rule: Rule) -> bool:
    """Return True if ``value`` is of the rule's type, or its function returns True for it."""
    if isinstance(rule, (type, tuple)):
        return isinstance(value, rule)
    return rule(value)


def mismatch(value: object, schema: Schema, name: str) -> str | None:
    """Return a sentence on the first difference between ``value`` and ``schema``.

    For example, it is ``size is missing, or of another type``. None if there is no difference.
    Members that the schema does not have are ignored. ``name`` is the name of ``value``.
    """
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        parts = [
            (value.get(key, ...), kind, key)  # ... is of no type that a schema has
            for member, kind in schema.items()
            for key in (value if member == "*" else [member.rstrip("?")])
            if key in value or not member.endswith("?")
        ]
    elif isinstance(schema, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        parts = [(item, schema[0], name) for item in value]
    else:
        return None if _obeys(value, schema) else f"{name} is missing, or of another type"
    return next(filter(None, (mismatch(*part) for part in parts)), None)
