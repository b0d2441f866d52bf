"""``.note.ksyms``: its members beside docs/format.md's, and notes that are damaged."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import ksyms
from command import TEXT, write_root
from ksyms._note import read
from ksyms._note.facts import NoteFacts
from ksyms._note.schema import schema_of

FORMAT = Path(__file__).parent.parent / "docs/format.md"


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> ksyms.Snapshot:
    directory = tmp_path_factory.mktemp("note")
    write_root(directory, TEXT)
    (directory / "proc/modules").write_text("mod 4096 1 - Live 0xffffffffc0000000 (O)\n")
    return ksyms.snapshot(directory)


@pytest.fixture
def facts(taken: ksyms.Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(taken.facts))
    return found


def documented(page: str) -> set[str]:
    """The members in format.md's tables: ``addresses._text``, ``files[].id`` and so on."""
    first, _, rest = page.partition("## `.note.ksyms`")[2].partition("Each of `files`:")
    each = rest.partition("\n\n`link_time` is")[0]
    found = set()
    for prefix, table in (("", first), ("files[].", each)):
        for cell, text in re.findall(r"^\| (`[^|]*) \| ([^|]*\|[^|]*)", table, re.M):
            words = re.findall(r"`([^`]+)`", cell)
            parent = words[0].rpartition(".")[0]
            found |= {prefix + words[0]}
            found |= {f"{prefix}{parent}.{word}" for word in words[1:]}
            if words[0] in ("addresses", "link_time", "sizes"):
                inner = re.findall(r"`(\w+)`(?=,|:)", text.partition("|")[2])
                found |= {f"{words[0]}.{word}" for word in inner}
    return found


def members(schema: dict[str, Any], prefix: str = "") -> set[str]:
    """The same of a schema."""
    found = set()
    for key, inner in schema.items():
        if key == "*":
            continue
        name = prefix + key.rstrip("?")
        found.add(name)
        if isinstance(inner, list) and isinstance(inner[0], dict):
            found |= members(inner[0], f"{name}[].")
        elif isinstance(inner, dict):
            found |= members(inner, f"{name}.")
    return found


def test_the_page_has_every_member() -> None:
    assert members(schema_of(NoteFacts)) == documented(FORMAT.read_text())


def put(facts: dict[str, Any], path: str, value: object) -> None:
    """Set the member at ``path``, or delete it if ``value`` is ``...``."""
    *parents, last = path.split(".")
    for parent in parents:
        facts = facts[int(parent)] if isinstance(facts, list) else facts[parent]
    if value is ...:
        del facts[last]
    else:
        facts[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((name, ...) for name in ("ksyms", "time", "release", "machine", "build_id", "files")),
        *(
            ("addresses._text", value)
            for value in ("", "0x", "0xg", "0X1", "10", 16, "0x" + "1" * 17)
        ),
        ("addresses", []),
        ("link_time.source", 3),
        ("saved", 3),
        ("lists", None),
        ("absent", {"proc/iomem": None}),
        ("sizes.exact", True),
        ("sizes.exact", -1),
        ("sizes.exact", 1 << 64),
        ("sizes.exact", 1.5),
        ("files", {}),
        ("files", [[]]),
        ("files.0.id", "1"),
        ("files.0.names", None),
        ("files.0.ranges.0.start", None),
        ("files.0.ranges.0.end", ...),
        ("files.0.ranges.0.end", "0x0"),
        ("files.0.ranges.0.end_inferred", "yes"),
        ("files.1.module.refcount", 1 << 31),
        ("files.1.module.dependants", [3]),
        ("files.1.module.taint", ...),
        ("files.1.programs", [{}]),
    ],
    ids=str,
)
def test_a_damaged_note_is_refused(facts: dict[str, Any], path: str, value: object) -> None:
    read(json.dumps(facts).encode(), "it")
    put(facts, path, value)
    with pytest.raises(ksyms.NoteError, match="cannot be read"):
        read(json.dumps(facts).encode(), "it")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((f"files.0.{name}", ...) for name in ("names", "unplaced", "debug")),
        *((f"files.0.ranges.0.{name}", ...) for name in ("end_inferred", "source")),
        *((f"files.1.module.{name}", ...) for name in ("size", "address", "state", "version")),
        ("files.1.module.refcount", -1),
        ("files.1.module.refcount", None),
        ("lists", ...),
        ("saved", ...),
        ("addresses._text", None),
        ("a_later_member", [1, {}]),
        ("files.0.a_later_member", None),
    ],
    ids=str,
)
def test_an_older_or_later_note_is_read(
    facts: dict[str, Any], path: str, value: object
) -> None:
    put(facts, path, value)
    assert read(json.dumps(facts).encode(), "it") == copy.deepcopy(facts)


def test_a_snapshot_knows_its_counts(taken: ksyms.Snapshot, tmp_path: Path) -> None:
    assert taken.symbols == len(TEXT.splitlines())
    assert taken.facts == ksyms.load(taken.image).facts
    write_root(tmp_path, TEXT)
    driver = ksyms.snapshot(tmp_path, layout="freebsd")
    driver.write(tmp_path / "driver.elf")
    with (tmp_path / "driver.elf").open("rb") as file:
        symtab = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(symtab, SymbolTableSection)
        assert driver.symbols == symtab.num_symbols() - 1
    assert driver.facts is None
