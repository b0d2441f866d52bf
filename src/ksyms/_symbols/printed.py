r"""What Linux prints for a symbol that clang's LTO gave a longer name.

To tell static functions of one name apart, LTO makes ``foo.llvm.123`` of ``foo``, and with CFI
``foo.HASH`` or ``foo$HASH`` (32 hexadecimal digits); ``foo.HASH.cfi_jt`` and ``foo.cfi_jt`` are
entries of CFI's jump table, and ``foo.cfi`` is the function of which ``foo`` is the entry.
/proc/kallsyms has these names. What ``%pS`` prints was cut by ``cleanup_symbol_name``
(kernel/kallsyms.c) where CONFIG_LTO_CLANG is set, in modules too, in a way that changed five
times; docs/format.md has the versions.
"""

from __future__ import annotations

import re
import sys
from itertools import chain

from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rule = Callable[[bytes], bytes]

LONGEST: Final = 1 << 10
"""Bytes that are looked at of a name; the kernel's have less than 512 (KSYM_NAME_LEN)."""
_ADDED: Final = rb"\.llvm\.|[.$][0-9a-f]{32}(?![^.])|\.cfi(?:_jt)?(?!.)"
_LTO: Final = rb"\.(?:llvm\.|cfi(?:_jt)?\0|[0-9a-f]{32}[.\0])|\$[0-9a-f]{32}[.\0]"
"""What no other compiler's names have, in strings that NUL ends."""
_DOT: Final = rb"\.(?=[lc0-9a-f][lf0-9a-f])"
"""What most of it begins with, and few other names have: by a literal, for that is quick."""
_RUST: Final = (b"_R", b"_ZN", b"anon.", b".Lanon.")
"""How names begin that rustc makes; it adds ``.llvm.`` in a kernel that gcc compiled, too."""
_PADDING: Final = b"__pfx_"
_JUMP_TABLE: Final = b".cfi_jt"

FUNCTION, JUMP_TABLE, BY_RULE, PERHAPS = range(4)
"""Why a name has a shorter one, the best reason first: see :func:`words`."""


def is_lto(strings: bytes) -> bool:
    """Whether names, each ended by NUL, are of a kernel with CONFIG_LTO_CLANG."""
    evidence = re.compile(_LTO)
    return any(
        not _is_rust(strings[strings.rfind(b"\0", 0, at) + 1 : match.end()])
        for at in chain(_dots(strings), _dollars(strings))
        if (match := evidence.match(strings, at))
    )


def _dots(strings: bytes) -> Iterator[int]:
    """Where a dot is that :data:`_LTO` can match; by numpy, if it is here, in half the time."""
    if "numpy" not in sys.modules:
        yield from (match.start() for match in re.finditer(_DOT, strings))
        return
    import numpy as np

    text = np.frombuffer(strings, np.uint8)
    dots = np.flatnonzero(text == ord("."))
    second, last = (text.take(dots + behind, mode="clip") for behind in (2, 33))
    likely = (second == ord("l")) | (second == ord("f")) | (last == 0) | (last == ord("."))
    yield from dots[likely].tolist()


def _dollars(strings: bytes) -> Iterator[int]:
    at = strings.find(b"$")
    while at >= 0:
        yield at
        at = strings.find(b"$", at + 1)


def short(name: bytes) -> bytes:
    """``name`` without what only clang's LTO and CFI add; itself where they added nothing."""
    match = re.search(_ADDED, name, re.DOTALL)
    return name[: match.start()] or name if match and not _is_rust(name) else name


_RELEASE: Final = re.compile(
    r"(\d{1,9})\.(\d{1,9})(?!\d)(?:\.(\d{1,9})(?!\d))?(.*)", re.ASCII | re.DOTALL
)


def rules(release: str | None) -> tuple[Rule, ...]:
    """How an LTO kernel of that ``release`` (``uname -r``) cuts a name when it prints it.

    Several where the release does not tell: distributions have ``6.1.0-18`` for all 6.1.y,
    and Android's 5.15 is not mainline's. All where it is unknown.
    """
    parts = _RELEASE.match(release or "")
    if parts is None:
        return tuple({rule: None for _, rule in _HISTORY})
    major, minor, patch, rest = int(parts[1]), int(parts[2]), int(parts[3] or 0), parts[4]
    if rest.startswith("-rc") and (major, minor) in _AFTER_RC1:
        return rules(None)
    first = _at((major, minor, patch))
    last = first if patch or not rest else _at((major, minor, _ANY))
    found = [rule for _, rule in _HISTORY[first : last + 1]]
    if (major, minor) == (5, 15) and "android" in rest:
        found.append(_at_dot_or_dollar)
    return tuple(found)


def _at(version: tuple[int, int, int]) -> int:
    """The place in the history of the rule that a version has."""
    return sum(since <= version for since, _ in _HISTORY) - 1


def printed(name: bytes, by: tuple[Rule, ...]) -> bytes:
    """What an LTO kernel prints for ``name``; that itself where its rules ``by`` differ."""
    found = {rule(name) for rule in by}
    return found.pop() if len(found) == 1 else name


def words(name: bytes, by: tuple[Rule, ...]) -> dict[bytes, int]:
    """Every other word that a text of an LTO kernel can have for ``name``, and why.

    :data:`FUNCTION` where LTO made the name of it, :data:`JUMP_TABLE` where that is an entry of
    CFI's jump table; :data:`BY_RULE` where the kernel's one rule prints it, and
    :data:`PERHAPS` where one of several does.
    """
    found = dict.fromkeys((rule(name) for rule in by), BY_RULE if len(by) == 1 else PERHAPS)
    found[short(name)] = JUMP_TABLE if name.endswith(_JUMP_TABLE) else FUNCTION
    found.pop(name, None)
    return found


def _is_rust(name: bytes) -> bool:
    return name.removeprefix(_PADDING).startswith(_RUST)


# The commits' subjects begin with "kallsyms: ". A name of which nothing would be left stays
# whole: it is all that a reader has of the symbol.


def _whole(name: bytes) -> bytes:
    """Since fb6a421fb615, "Match symbols exactly with CONFIG_LTO_CLANG"."""
    return name


def _at_dollar_and_cfi(name: bytes) -> bytes:
    """Android's 4.14 and 4.19."""
    return _at_dollar(name).removesuffix(b".cfi") or name


def _at_dollar(name: bytes) -> bytes:
    """Since 8b8e6b5d3b01, "strip ThinLTO hashes from static functions"."""
    return name[: at if (at := name.rfind(b"$")) > 0 else None]


def _at_dot_or_dollar(name: bytes) -> bytes:
    """Since 6eb4bd92c1ce, "strip LTO suffixes from static functions"."""
    cut = _at_dot(name)
    return _at_dollar(name) if cut == name else cut


def _at_dot(name: bytes) -> bytes:
    """Since dfb352ab1162, "Drop CONFIG_CFI_CLANG workarounds"."""
    return name[: at if (at := name.find(b".")) > 0 else None]


def _at_llvm(name: bytes) -> bytes:
    """Since 8cc32a9bbf29, "strip LTO-only suffixes from promoted global functions"."""
    return name[: at if (at := name.find(b".llvm.")) > 0 else None]


_HISTORY: Final = (
    ((0, 0, 0), _at_dollar_and_cfi),
    ((5, 0, 0), _at_dollar),
    ((5, 16, 0), _at_dot_or_dollar),
    ((6, 1, 0), _at_dot),
    ((6, 1, 42), _at_llvm),
    ((6, 2, 0), _at_dot),
    ((6, 4, 7), _at_llvm),
    ((6, 10, 7), _whole),
)
"""Since which version, stable ones included, a name is cut in which way."""
_AFTER_RC1: Final = ((6, 5), (6, 11))
"""Versions whose first release candidates are from before a change, and the last are not."""
_ANY: Final = 1 << 16
