"""The map's page: one HTML file with its data in it, which makes no request.

Names come from a kernel's files and can contain anything. None of them is in the HTML: the data
is base64, and the script puts names on the page as text only. The policy in the page's head
allows no request, and no script or style except the page's own, by their hashes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from .._version import __version__
from .survey import Survey

_HERE: Final = Path(__file__).parent
_SCRIPT: Final = (
    *("data", "words", "tree", "describe", "colours", "canvas", "navigation", "treemap"),
    *("strip", "search", "start"),
)
"""The files of the page's script, in the order in which they are joined.

Together they are the body of one function. A function in them can use names of any file; a
statement outside of a function can use names of its own and of earlier files only.
"""
_FACTS: Final = ("release", "machine", "build_id", "boot_id", "time")
_EXACT_NUMBERS: Final = 1 << 53
"""JavaScript's integers are exact below this."""


def render(found: Survey) -> bytes:
    """Return the page that shows ``found``, as UTF-8."""
    data = json.dumps(_page_data(found), separators=(",", ":")).encode()
    packed = base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()
    script = _read("d3-hierarchy.min.js") + read_script()
    style = _read("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "STYLE": style,
        "SCRIPT": script,
        "LICENSE": _read("d3-hierarchy.LICENSE"),
        "DATA": packed,
    }
    text = _read("page.html")
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    return text.encode()


def read_script() -> str:
    """Return the page's own script, joined from its files."""
    parts = "\n".join(_read(f"script/{name}.js") for name in _SCRIPT)
    return f'\n(async () => {{\n"use strict";\n\n{parts}}})();\n'


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return the hash of ``text`` for a Content Security Policy (CSP 3, "hash-source")."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page_data(found: Survey) -> dict[str, Any]:
    """Return the data that the script reads: sections as rows, and their symbols as columns.

    Symbols are in the order of the sections. Addresses of sections are hexadecimal strings,
    since JavaScript's integers are exact below 2**53 only. The address of a symbol is an offset
    into its section. Sizes are in bytes.
    """
    sized = [symbol for section in found.sections for symbol in section.symbols]
    symbols = [row.symbol for row in sized]
    groups = sorted({row.group for row in sized})
    number = {group: index for index, group in enumerate(groups)}
    listed = [f["name"] for f in found.facts.get("files", ()) if f["kind"] == "listed"]
    return {
        "label": found.label,
        "ksyms": __version__,
        "facts": {name: found.facts.get(name) for name in _FACTS},
        "digits": found.bits // 4,
        "slide": None if found.slide is None else str(found.slide),
        "elsewhere": found.elsewhere,
        "listed": listed,
        "sections": [
            {
                "name": section.name,
                "module": section.module,
                "kind": section.kind,
                "address": f"{section.address:#x}",
                "size": section.size,
                "exact": section.exact,
                "unnamed": section.unnamed,
                "symbols": len(section.symbols),
            }
            for section in found.sections
        ],
        "groups": groups,
        "names": [symbol.name for symbol in symbols],
        "offsets": [
            row.symbol.address - section.address
            for section in found.sections
            for row in section.symbols
        ],
        "sizes": [
            symbol.size if symbol.size < _EXACT_NUMBERS else str(symbol.size)
            for symbol in symbols
        ],
        "own": [row.own for row in sized],
        "exact": "".join("01"[symbol.exact] for symbol in symbols),
        "letters": "".join(symbol.letter or "?" for symbol in symbols),
        "group": [number[row.group] for row in sized],
    }
