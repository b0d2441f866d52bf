"""The names that Linux prints for symbols that clang's LTO gave a longer name.

To tell static functions of one name apart, LTO renames ``foo`` to ``foo.llvm.123``, and with
CFI to ``foo.HASH`` or ``foo$HASH`` (32 hexadecimal digits). ``foo.HASH.cfi_jt`` and
``foo.cfi_jt`` are entries of CFI's jump table, and ``foo.cfi`` is the function whose entry in
that table is ``foo``.

/proc/kallsyms lists these names. For ``%pS`` a kernel with CONFIG_LTO_CLANG shortens them by
``cleanup_symbol_name`` (kernel/kallsyms.c), also in modules. Its rule changed five times;
docs/format.md has the versions.
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
"""Limit on the bytes of a name that are examined; the kernel's limit is 512 (KSYM_NAME_LEN)."""
_ADDED: Final = rb"\.llvm\.|[.$][0-9a-f]{32}(?![^.])|\.cfi(?:_jt)?(?!.)"
_LTO: Final = rb"\.(?:llvm\.|cfi(?:_jt)?\0|[0-9a-f]{32}[.\0])|\$[0-9a-f]{32}[.\0]"
"""Suffixes that only clang's LTO adds, in strings that each end with a NUL."""
_DOT: Final = rb"\.(?=[lc0-9a-f][lf0-9a-f])"
"""The start of most of these suffixes and of few other names; a literal is quick to find."""
_RUST: Final = (b"_R", b"_ZN", b"anon.", b".Lanon.")
"""Prefixes of rustc's names, to which it adds ``.llvm.`` even in a kernel that gcc compiled."""
_PADDING: Final = b"__pfx_"
_JUMP_TABLE: Final = b".cfi_jt"

FUNCTION, JUMP_TABLE, BY_RULE, PERHAPS = range(4)
"""The reasons why a shorter word stands for a name, the best first (:func:`other_words`)."""


def is_lto(strings: bytes) -> bool:
    """Return True if ``strings``, names that each end with a NUL, are of an LTO kernel.

    That is a kernel with CONFIG_LTO_CLANG.
    """
    evidence = re.compile(_LTO)
    return any(
        not _is_rust(strings[strings.rfind(b"\0", 0, at) + 1 : match.end()])
        for at in chain(_find_dots(strings), _find_dollars(strings))
        if (match := evidence.match(strings, at))
    )


def _find_dots(strings: bytes) -> Iterator[int]:
    """Yield the offsets of dots at which :data:`_LTO` may match.

    numpy finds them in half the time, if it is imported already.
    """
    if "numpy" not in sys.modules:
        yield from (match.start() for match in re.finditer(_DOT, strings))
        return
    import numpy as np

    text = np.frombuffer(strings, np.uint8)
    dots = np.flatnonzero(text == ord("."))
    # The second character after the dot is the l of .llvm. or the f of .cfi; or a NUL or a dot
    # comes after 32 hexadecimal digits.
    second, last = (text.take(dots + behind, mode="clip") for behind in (2, 33))
    likely = (second == ord("l")) | (second == ord("f")) | (last == 0) | (last == ord("."))
    yield from dots[likely].tolist()


def _find_dollars(strings: bytes) -> Iterator[int]:
    """Yield the offsets of dollar signs."""
    at = strings.find(b"$")
    while at >= 0:
        yield at
        at = strings.find(b"$", at + 1)


def strip_suffixes(name: bytes) -> bytes:
    """Return ``name`` without the suffixes that only clang's LTO and CFI add.

    A name that would be empty then is returned whole.
    """
    match = re.search(_ADDED, name, re.DOTALL)
    return name[: match.start()] or name if match and not _is_rust(name) else name


_RELEASE: Final = re.compile(
    r"(\d{1,9})\.(\d{1,9})(?!\d)(?:\.(\d{1,9})(?!\d))?(.*)", re.ASCII | re.DOTALL
)


def rules_of(release: str | None) -> tuple[Rule, ...]:
    """Return the rules by which an LTO kernel of ``release`` (``uname -r``) may shorten names.

    There are several if the release does not decide: a distribution can call any 6.1.y
    ``6.1.0-18``, and Android's 5.15 differs from mainline's. For an unknown release all rules
    are returned.
    """
    parts = _RELEASE.match(release or "")
    if parts is None:
        return tuple({rule: None for _, rule in _HISTORY})
    major, minor, patch, rest = int(parts[1]), int(parts[2]), int(parts[3] or 0), parts[4]
    if rest.startswith("-rc") and (major, minor) in _AFTER_RC1:
        return rules_of(None)
    first = _rule_index((major, minor, patch))
    last = first if patch or not rest else _rule_index((major, minor, _ANY))
    found = [rule for _, rule in _HISTORY[first : last + 1]]
    if (major, minor) == (5, 15) and "android" in rest:
        found.append(_at_dot_or_dollar)
    return tuple(found)


def _rule_index(version: tuple[int, int, int]) -> int:
    """Return the index in :data:`_HISTORY` of the rule that a version has."""
    return sum(since <= version for since, _ in _HISTORY) - 1


def printed(name: bytes, by: tuple[Rule, ...]) -> bytes:
    """Return the word that an LTO kernel prints for ``name``.

    Return ``name`` if the possible rules do not agree.
    """
    found = {rule(name) for rule in by}
    return found.pop() if len(found) == 1 else name


def other_words(name: bytes, by: tuple[Rule, ...]) -> dict[bytes, int]:
    """Return the reason of each other word that a text of an LTO kernel can have for ``name``.

    The reasons are: :data:`FUNCTION`, LTO made the name by adding a suffix to the word;
    :data:`JUMP_TABLE`, the same, and the name is that of an entry of CFI's jump table;
    :data:`BY_RULE`, the only possible rule shortens the name to the word; :data:`PERHAPS`, one
    of several possible rules does.
    """
    found = dict.fromkeys((rule(name) for rule in by), BY_RULE if len(by) == 1 else PERHAPS)
    found[strip_suffixes(name)] = JUMP_TABLE if name.endswith(_JUMP_TABLE) else FUNCTION
    found.pop(name, None)
    return found


def _is_rust(name: bytes) -> bool:
    return name.removeprefix(_PADDING).startswith(_RUST)


# The rules. A name is kept whole if a rule would leave nothing of it.


def _whole(name: bytes) -> bytes:
    """Cut nothing.

    Since Linux kernel commit fb6a421fb615 ("kallsyms: Match symbols exactly with
    CONFIG_LTO_CLANG") (in v6.11).
    """
    return name


def _at_dollar_and_cfi(name: bytes) -> bytes:
    """Cut at the last ``$``, and cut ``.cfi``: in Android's 4.14 and 4.19."""
    return _at_dollar(name).removesuffix(b".cfi") or name


def _at_dollar(name: bytes) -> bytes:
    """Cut at the last ``$``.

    Since Linux kernel commit 8b8e6b5d3b01 ("kallsyms: strip ThinLTO hashes from static
    functions") (in v5.13), and in Android's 5.4 and 5.10.
    """
    return name[: at if (at := name.rfind(b"$")) > 0 else None]


def _at_dot_or_dollar(name: bytes) -> bytes:
    """Cut at the first dot, or else at the last ``$``.

    Since Linux kernel commit 6eb4bd92c1ce ("kallsyms: strip LTO suffixes from static
    functions") (in v5.16).
    """
    cut = _at_dot(name)
    return _at_dollar(name) if cut == name else cut


def _at_dot(name: bytes) -> bytes:
    """Cut at the first dot.

    Since Linux kernel commit dfb352ab1162 ("kallsyms: Drop CONFIG_CFI_CLANG workarounds") (in
    v6.1).
    """
    return name[: at if (at := name.find(b".")) > 0 else None]


def _at_llvm(name: bytes) -> bytes:
    """Cut at ``.llvm.``.

    Since Linux kernel commit 8cc32a9bbf29 ("kallsyms: strip LTO-only suffixes from promoted
    global functions") (in v6.5).
    """
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
"""Each rule, and the version that has it first; stable versions are included."""
_AFTER_RC1: Final = ((6, 5), (6, 11))
"""Versions in which a rule changed after the first release candidate."""
_ANY: Final = 1 << 16
"""A patch level above that of any release."""
