"""One word for one thing: docs/design.md, "Words"."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import ksyms


def test_no_two_classes_share_a_name() -> None:
    """A leading underscore makes no other name, for people read both as the same."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    package = Path(ksyms.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where = f"{path.relative_to(package)}:{node.lineno}"
                found[node.name.lstrip("_")].append(where)
    assert len(found) > 200
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
