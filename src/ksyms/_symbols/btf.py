"""C prototypes from BTF, the type information that the kernel carries.

Source: Documentation/bpf/btf.rst and include/uapi/linux/btf.h, of Linux 6.18. If the kernel's
own reader (kernel/bpf/btf.c) refuses a BTF for a defect, this module refuses it too, unless no
prototype depends on it.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Callable
from typing import Final

from .._elf import Buffer
from .._errors import ImageError

_HEADER: Final = "HBBIIIII"  # struct btf_header
_MAGIC: Final = 0xEB9F
_VERSION: Final = 1

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT = range(9, 17)
_DECL_TAG, _TYPE_TAG, _ENUM64 = range(17, 20)

_WORDS: Final[dict[int, tuple[int, int]]] = {
    **dict.fromkeys((_PTR, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT), (3, 0)),
    **dict.fromkeys((_FUNC, _FLOAT, _TYPE_TAG), (3, 0)),
    **dict.fromkeys((_INT, _VAR, _DECL_TAG), (4, 0)),
    _ARRAY: (6, 0),
    **dict.fromkeys((_STRUCT, _UNION, _DATASEC, _ENUM64), (3, 3)),
    **dict.fromkeys((_ENUM, _FUNC_PROTO), (3, 2)),
}
"""The length of each kind in 32-bit words: of its fixed part, and of each ``vlen`` member."""

_QUALIFIERS: Final = {_VOLATILE: "volatile", _CONST: "const", _RESTRICT: "restrict"}
_PLAIN: Final = {_INT: "", _FLOAT: "", _TYPEDEF: "", _STRUCT: "struct ", _UNION: "union "} | {
    _ENUM: "enum ",
    _ENUM64: "enum ",
}
_BODIES: Final = (_STRUCT, _UNION, _ENUM, _ENUM64)
"""Kinds that have a body in C, so that they need no name."""
_KERNEL_TAGS: Final = ("user", "rcu", "percpu")
"""Type tags that the kernel writes like ``__user`` (include/linux/compiler_types.h)."""
# An identifier, or a type such as "long unsigned int". No other names are accepted, since names
# go to terminals unescaped.
_NAME: Final = re.compile(rb"[A-Za-z_.$][\w.$]*(?: [\w.$]+)*", re.ASCII)
_TAG: Final = re.compile(rb"[ !#-\[\]-~]+")
_LONGEST: Final = 512
"""Limit on a name's length in bytes (KSYM_NAME_LEN, include/linux/kallsyms.h)."""
_DEEPEST: Final = 64
"""Limit on the depth of types within types; the kernel allows 32 (MAX_RESOLVE_DEPTH)."""
_MOST: Final = 4096
"""Limit on the number of types in one prototype, so that a cycle of types ends."""


class Btf:
    """The types of one BTF, parsed when a function is first looked up.

    Args:
        data: the bytes of the section.
        wrong: returns the error for a defect that is described in words.
        base: the kernel's BTF, which the BTF of a module extends; None for the kernel's own.
    """

    def __init__(
        self, data: Buffer, wrong: Callable[[str], ImageError], base: Btf | None = None
    ) -> None:
        self._data = data
        self._wrong = wrong
        self._base = base
        self._functions: dict[bytes, list[int]] | None = None
        self._words = array("I")
        self._starts = array("I")
        self._strings = b""
        self._first = 1  # type 0 is void
        self._first_string = 0

    @property
    def whole(self) -> bool:
        """True if the BTF is the kernel's, or is a module's and the kernel's is given.

        A module's types and strings continue the kernel's, so its strings do not start with an
        empty one (tools/lib/bpf/btf.c, btf_new_empty).
        """
        if self._base is not None:
            return True
        try:
            return bytes(self._find_parts()[1][:1]) == b"\0"
        except ImageError:
            return False

    def prototypes(self, name: str) -> list[str]:
        """Return the different prototypes of the functions called ``name`` in this BTF.

        There are several if static functions share the name. BTF does not say which prototype
        belongs to which function.

        Raises:
            ImageError: a field of the BTF is wrong.
        """
        numbers = self._read().get(name.encode("utf-8", "surrogateescape"), ())
        return list(dict.fromkeys(self._function(number, name) for number in numbers))

    def _read(self) -> dict[bytes, list[int]]:
        """Return the type numbers of the functions by name.

        The types are parsed at the first call, in one pass.
        """
        if self._functions is not None:
            return self._functions
        if self._base is not None:
            self._base._read()
            self._first = self._base._first + len(self._base._starts)
            self._first_string = self._base._first_string + len(self._base._strings)
        self._words, self._strings = self._read_parts()

        # Find the first word of each type. ``fixed`` and ``each`` have the words of a kind: of
        # its fixed part, and of each member.
        words, starts = self._words, array("I")
        found: dict[int, list[int]] = {}
        fixed = [_WORDS.get(kind, (0, 0))[0] for kind in range(32)]
        each = [_WORDS.get(kind, (0, 0))[1] for kind in range(32)]
        at, end, add = 0, len(words), starts.append
        while at + 2 < end:
            info = words[at + 1]
            kind = info >> 24 & 31
            if kind == _FUNC:
                found.setdefault(words[at], []).append(self._first + len(starts))
            elif not fixed[kind]:
                raise self._wrong(f"its BTF has a type of kind {kind}, which is not known")
            add(at)
            at += fixed[kind] + each[kind] * (info & 0xFFFF)
        if at != end:
            raise self._wrong("the last type of its BTF is cut short")

        functions: dict[bytes, list[int]] = {}
        for offset, numbers in found.items():
            functions.setdefault(self._string_bytes(offset), []).extend(numbers)
        self._starts, self._functions = starts, functions
        return functions

    def _find_parts(self) -> tuple[memoryview, memoryview, str]:
        """Return the bytes of the types, those of the strings, and struct's byte order."""
        data = memoryview(self._data)
        order = "<" if bytes(data[:2]) == _MAGIC.to_bytes(2, "little") else ">"
        if len(data) < struct.calcsize(order + _HEADER):
            raise self._wrong("the header of its BTF is cut short")
        magic, version, flags, length, *parts = struct.unpack_from(order + _HEADER, data)
        types_at, types_size, strings_at, strings_size = parts
        if (magic, version, flags) != (_MAGIC, _VERSION, 0):
            raise self._wrong(
                f"its BTF has magic {magic:#x}, version {version} and flags {flags}"
            )
        types, strings = length + types_at, length + strings_at
        if types_size % 4 or max(types + types_size, strings + strings_size) > len(data):
            raise self._wrong("the parts of its BTF reach past its end")
        return data[types : types + types_size], data[strings : strings + strings_size], order

    def _read_parts(self) -> tuple[array[int], bytes]:
        """Return the types as 32-bit words, and the strings, each with a NUL after it."""
        types, strings, order = self._find_parts()
        text = bytes(strings)
        # The kernel's strings start with an empty one; a module can have no strings.
        if not text.endswith(b"\0") and (text or self._base is None):
            raise self._wrong("the last string of its BTF has no end")
        if self._base is None and not text.startswith(b"\0"):
            raise self._wrong("its BTF continues another one that is missing")
        words = array("I", bytes(types))
        if (order == "<") != (sys.byteorder == "little"):
            words.byteswap()
        return words, text

    def _string_bytes(self, offset: int) -> bytes:
        """Return the string at ``offset``, which may be in the base.

        Raises:
            ImageError: there is none, or it is too long.
        """
        at = offset - self._first_string
        if at < 0 and self._base is not None:
            return self._base._string_bytes(offset)
        end = self._strings.find(b"\0", at, at + _LONGEST + 1)
        if end < 0:
            raise self._wrong(f"a name of its BTF is at {offset}, and no name is there")
        return self._strings[at:end]

    def _string(self, offset: int, form: re.Pattern[bytes] = _NAME) -> str:
        """Return the string at ``offset``; "" stands for no name.

        Raises:
            ImageError: it does not match ``form``.
        """
        text = self._string_bytes(offset)
        if text and not form.fullmatch(text):
            raise self._wrong(f"a name of its BTF is {text!r}")
        return text.decode()

    def _type(self, number: int) -> tuple[Btf, int, int, int, int]:
        """Look up a type by its number.

        Returns:
            The :class:`Btf` that has it; the index of its first word there; its kind; one word
            with its ``kind_flag`` (bit 31) and its ``vlen`` (bits 0 to 15); its third word,
            which is its size or the number of the type that it refers to.
        """
        owner: Btf = self
        while number < owner._first and owner._base is not None:
            owner = owner._base
        index = number - owner._first
        if not 0 <= index < len(owner._starts):
            raise self._wrong(f"its BTF has no type {number}")
        at = owner._starts[index]
        info = owner._words[at + 1]
        return owner, at, info >> 24 & 31, info & 0x8000FFFF, owner._words[at + 2]

    def _function(self, number: int, name: str) -> str:
        """Return the prototype of the function ``name``, which is type ``number``."""
        *_, proto = self._type(number)
        if self._type(proto)[2] != _FUNC_PROTO:
            raise self._wrong(f"type {proto} of its BTF is a function's type, but no prototype")
        return _Writer(self._type, self._string, self._wrong).declare(proto, name)


class _Writer:
    """A writer of one C declaration, which counts its types so that a cycle ends."""

    def __init__(
        self,
        type_of: Callable[[int], tuple[Btf, int, int, int, int]],
        string: Callable[..., str],
        wrong: Callable[[str], ImageError],
    ) -> None:
        self._type = type_of
        self._string = string
        self._wrong = wrong
        self._left = _MOST
        self._depth = 0

    def declare(self, number: int, inner: str) -> str:
        """Return the declaration of ``inner`` as a variable or function of type ``number``.

        C writes a type around the name that it declares. So the loop follows the types, each of
        which refers to the next, and ``inner`` grows at both ends. For example, ``p`` is a
        pointer to an array of three int::

            PTR      *p
            ARRAY    (*p)[3]
            INT      int (*p)[3]
        """
        self._depth += 1
        words: list[str] = []  # qualifiers of the next type
        pointed = False  # True if inner starts with a *, which binds less than [] and ()
        while number:
            self._count_type()
            owner, at, kind, size, target = self._type(number)
            if kind in _QUALIFIERS:
                words.append(_QUALIFIERS[kind])
            elif kind == _TYPE_TAG:
                words.append(self._tag(owner._words[at], size))
            elif kind == _PTR:
                star = "*" + "".join(f"{word} " for word in words)
                inner, words, pointed = star + inner if inner else star.rstrip(), [], True
            elif kind in (_ARRAY, _FUNC_PROTO):
                inner = f"({inner})" if pointed else inner
                pointed = False
                if kind == _ARRAY:
                    count = owner._words[at + 5]
                    inner += f"[{count or ''}]"
                    target = owner._words[at + 3]
                else:
                    inner += f"({self._parameters(owner, at, size & 0xFFFF)})"
                    words = []
            else:
                break
            number = target
        self._depth -= 1

        # Write the innermost type: qualifiers before its name, type tags after it.
        base = "void" if not number else self._type_name(owner._words[at], kind, size)
        before = [word for word in words if not word.startswith("__")]
        after = [word for word in words if word.startswith("__")]
        return " ".join([*before, base, *after, *([inner] if inner else [])])

    def _parameters(self, owner: Btf, at: int, count: int) -> str:
        """Return the ``count`` parameters in C of the function type that starts at ``at``."""
        parts = []
        first = at + 3
        for word in range(first, first + 2 * count, 2):
            name, number = owner._words[word], owner._words[word + 1]
            self._count_type()
            if number:
                parts.append(self.declare(number, self._string(name)))
            elif word == first + 2 * count - 2 and not name:  # a variable argument list
                parts.append("...")
            else:
                raise self._wrong("a parameter in its BTF is of type void")
        return ", ".join(parts) or "void"

    def _type_name(self, name: int, kind: int, size: int) -> str:
        """Return the name of a type as in C: ``struct file`` or ``int``."""
        if kind == _FWD:
            prefix = "union " if size >> 31 else "struct "
        elif kind in _PLAIN:
            prefix = _PLAIN[kind]
        else:
            raise self._wrong(f"a type of kind {kind} in its BTF is used as a parameter's")
        text = self._string(name)
        if not text and kind not in _BODIES:
            raise self._wrong(f"a type of kind {kind} in its BTF has no name")
        return prefix + (text or "{...}")

    def _tag(self, name: int, size: int) -> str:
        """Return a type tag in C: a word such as ``__user``, or an attribute."""
        text = self._string(name, _TAG)
        if size >> 31:  # kind_flag: any attribute, since Linux 6.14
            return f"__attribute__(({text}))"
        if text in _KERNEL_TAGS:
            return f"__{text}"
        return f'__attribute__((btf_type_tag("{text}")))'

    def _count_type(self) -> None:
        """Count one more type of the declaration.

        Raises:
            ImageError: there are too many, or too many within each other.
        """
        self._left -= 1
        if self._left < 0 or self._depth > _DEEPEST:
            raise self._wrong("a type in its BTF has no end")
