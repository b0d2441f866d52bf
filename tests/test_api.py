"""The public names, and that they come without what is heavy."""

from __future__ import annotations

import subprocess
import sys

import ksyms

NAMES = [
    "DecodeError",
    "DeviceError",
    "Handle",
    "HiddenError",
    "ImageError",
    "KallsymsError",
    "KsymsError",
    "LayoutError",
    "MovedError",
    "NoteError",
    "OutputError",
    "ServeError",
    "Snapshot",
    "SourceError",
    "Symbol",
    "SymbolTable",
    "__version__",
    "load",
    "open",
    "snapshot",
]


def test_exported_names() -> None:
    assert ksyms.__all__ == NAMES
    public = {name for name in dir(ksyms) if not name.startswith("_")}
    modules = {"annotations", "TYPE_CHECKING", "Any", "Final"}
    assert {name for name in NAMES if not name.startswith("_")} >= public - modules


def test_every_name_resolves() -> None:
    for name in NAMES:
        assert getattr(ksyms, name) is not None


def test_symbol_fields() -> None:
    assert ksyms.Symbol._fields == (
        "name",
        "address",
        "size",
        "exact",
        "module",
        "section",
        "binding",
        "kind",
        "letter",
    )


def test_errors_are_one_tree_with_errnos() -> None:
    errors = [getattr(ksyms, name) for name in NAMES if name.endswith("Error")]
    assert all(issubclass(error, ksyms.KsymsError) for error in errors)
    assert all(error.errno > 0 for error in errors)


def test_import_is_light() -> None:
    code = (
        "import sys, ksyms, ksyms._cli; heavy = {'numpy', 'rich', 'asyncio', 'tempfile'}"
        "; print(sorted(heavy & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr
