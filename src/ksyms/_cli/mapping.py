"""``ksyms map``: print what takes how much of the address space, and write a page of it."""

from __future__ import annotations

from .._printable import word
from .._typing import TYPE_CHECKING, Any, Final
from . import render
from .arguments import add_verbose
from .source import add_source, load_named

if TYPE_CHECKING:
    import argparse

    from .._map import Section, Survey

_LARGEST: Final = 10
"""Largest number of rows of a table that is printed for people."""

_EXAMPLES: Final = """\
examples:
  ksyms map                               what is largest in the running kernel
  ksyms map kernel.elf -o map.html        the same, and a page to explore in a browser
  ksyms map --root saved -o map.html      of another machine
  ksyms map --json kernel.elf             every section, module and gap for a program"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "map",
        help="show what takes how much of the kernel's address space",
        description="Say which sections, modules and symbols are largest and what lies "
        "between them; with -o, write a page that shows all of them to scale. The page is "
        "one file and needs no network.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write the page, - for stdout"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("file", metavar="FILE", nargs="?", help="a file with symbols")
    add_source(source)
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Write the page if ``--output`` asks for it, and print what is largest; return True."""
    from .._map import render as page_of
    from .._map import survey

    found = survey(load_named(options))
    written = None
    if options.output is not None:
        page = page_of(found)
        if not render.write(options.output, memoryview(page)):
            return True
        written = len(page)
    facts = {"file": options.output, "bytes": written, **record(found)}
    render.show(facts, options.json, _print, indent=2)
    return True


def record(found: Survey) -> dict[str, Any]:
    """Return a record of all sections, modules and gaps, and of the largest symbols.

    In each list the largest comes first.
    """
    sized = [symbol for section in found.sections for symbol in section.symbols]
    sized.sort(key=lambda row: -row.own)
    return {
        "release": found.facts.get("release"),
        "build_id": found.facts.get("build_id"),
        "size": sum(section.size for section in found.sections),
        "unnamed": sum(section.unnamed for section in found.sections),
        "symbols": found.symbols,
        "in_no_section": found.elsewhere,
        "slide": None if found.slide is None else f"{found.slide:#x}",
        "sections": [_section(s) for s in sorted(found.sections, key=lambda s: -s.size)],
        "modules": [m._asdict() for m in sorted(found.modules, key=lambda m: -m.size)],
        "largest_symbols": [
            {**render.symbol_record(row.symbol), "own": row.own} for row in sized[:_LARGEST]
        ],
        "gaps": [
            {**gap._asdict(), "address": f"{gap.address:#x}"}
            for gap in sorted(found.gaps, key=lambda gap: -gap.size)
        ],
    }


def _section(section: Section) -> dict[str, Any]:
    facts = section._asdict()
    return {**facts, "address": f"{section.address:#x}", "symbols": len(section.symbols)}


def _print(facts: dict[str, Any]) -> None:
    if facts["bytes"] is not None:
        symbols, release = facts["symbols"], facts["release"] or "an unknown release"
        render.line(f"{facts['file']}: {symbols} symbols, {facts['bytes']} bytes, of {release}")

    whole = facts["size"]
    render.line(f"{facts['symbols']} symbols in {whole} bytes, {facts['unnamed']} without one")
    _table(
        "sections",
        [
            [
                word(s["name"]),
                *_size(s, whole),
                _address(s),
                f"{s['symbols']} symbols",
                _without(s),
            ]
            for s in facts["sections"]
        ],
    )

    _table(
        "modules",
        [
            [word(m["name"]), *_size(m, whole), f"{m['symbols']} symbols"]
            for m in facts["modules"]
        ],
    )

    _table(
        "symbols",
        [
            [
                word(s["name"]),
                *_size({**s, "size": s["own"]}, whole),
                _address(s),
                word(s["section"]),
            ]
            for s in facts["largest_symbols"]
        ],
    )

    _table(
        "gaps",
        [
            [_address(gap), str(gap["size"]), f"{word(gap['before'])} to {word(gap['after'])}"]
            for gap in facts["gaps"]
        ],
    )


def _table(title: str, rows: list[list[str]]) -> None:
    more = f", the largest {_LARGEST} of {len(rows)}" if len(rows) > _LARGEST else ""
    styles = ["name", render.NUMBER, "dim", "address", "dim", "dim"]
    render.part(title + more, rows[:_LARGEST], styles)


def _size(row: dict[str, Any], whole: int) -> list[str]:
    """Return the cells of a size: the bytes, with ~ before an inferred size, and the share.

    The share is of ``whole`` bytes, in percent.
    """
    mark = "" if row.get("exact", True) else "~"
    return [f"{mark}{row['size']}", f"{row['size'] / whole:.1%}"]


def _without(section: dict[str, Any]) -> str:
    """Return the cell that tells how many bytes of a section are in no symbol."""
    return f"{section['unnamed']} bytes without" if section["unnamed"] else ""


def _address(row: dict[str, Any]) -> str:
    return f"{int(row['address'], 16):016x}"
