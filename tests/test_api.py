"""The public names, and that they come without what is heavy."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

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
    modules = {"annotations", "TYPE_CHECKING", "Final"}
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
        "import sys, ksyms, ksyms._cli; heavy = {'numpy', 'logging', 'asyncio', 'tempfile'}"
        "; print(sorted(heavy & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


# -- errors that travel ---------------------------------------------------------------------

COPIES: list[Callable[[Any], Any]] = [
    *(lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in range(6)),
    copy.copy,
    copy.deepcopy,
]
ERRORS = [getattr(ksyms, name) for name in NAMES if name.endswith("Error")]


class OwnError(ksyms.DeviceError):
    """A program's own, with other arguments, and one that has no default."""

    def __init__(self, call: str, minor: int, *, device: str) -> None:
        super().__init__(f"{call} of {device} failed.", "Try again.", errno=errno.EAGAIN)
        self.minor = minor


@pytest.mark.parametrize("copied", COPIES, ids=[*map(str, range(6)), "copy", "deepcopy"])
def test_errors_survive_copies(copied: Callable[[Any], Any]) -> None:
    """With all that they say, where a path is no UTF-8 too, and what was noted on them."""
    assert pickle.HIGHEST_PROTOCOL == 5
    for kind in ERRORS:
        for number in (None, errno.EBUSY):
            error = kind("No \udcff is there.", "Name one.", errno=number)
            error.add_note("asked by a test")
            again = copied(error)
            assert type(again) is kind
            assert again is not error
            assert (again.what, again.remedy) == ("No \udcff is there.", "Name one.")
            assert str(again) == str(error) == "No \udcff is there. Name one."
            assert again.errno == (kind.errno if number is None else errno.EBUSY)
            assert again.__notes__ == ["asked by a test"]
    own = copied(OwnError("ioctl", 7, device="/dev/ksyms"))
    assert (type(own), own.what, own.remedy, own.errno, own.minor) == (
        *(OwnError, "ioctl of /dev/ksyms failed.", "Try again.", errno.EAGAIN, 7),
    )


def test_an_error_comes_out_of_a_pool_of_processes(tmp_path: Path) -> None:
    """And the pool still works: one that cannot be made again ends all of it."""
    (tmp_path / "words").write_text("cafe au lait\n")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with pytest.raises(ksyms.SourceError) as missing:
            pool.submit(ksyms.load, tmp_path / "missing").result(60)
        with pytest.raises(ksyms.ImageError) as words:
            pool.submit(ksyms.load, tmp_path / "words").result(60)
    assert missing.value.errno == errno.ENOENT
    assert missing.value.what == (
        f"{tmp_path}/missing cannot be opened: No such file or directory."
    )
    assert words.value.errno == errno.ENOEXEC
    assert words.value.remedy.startswith("Name a file ")


# -- what a type checker sees ---------------------------------------------------------------

RIGHT = """\
import numpy as np

import ksyms
from ksyms import Snapshot, Symbol, SymbolTable

snapshot: Snapshot = ksyms.snapshot(kallsyms="saved")
table: SymbolTable = ksyms.load(snapshot.image)
first: Symbol = table[0]
some: list[Symbol] = table[1:3]
total: int = first.address + some[0].size + sum(symbol.size for symbol in table)
places = table.locate(np.array([1, 2], np.uint64))
names: list[str] = [table[place].name for place in places if place < len(table)]
found = table.lookup(first.address)
if found is not None:
    print(found.name.upper(), found.module or "vmlinux", total, names)
try:
    with ksyms.open("/dev/ksyms") as handle:
        print(handle.table.find("schedule")[0].letter)
except ksyms.KsymsError as error:
    print(error.what, error.remedy, error.errno + 1)
"""
WRONG = """\
import ksyms
from ksyms import Smybol
table = ksyms.load("saved")
ksyms.laod("saved")
ksyms.__vresion__
table[0].adress
table[0:2][0].adress
[symbol.adress for symbol in table]
[symbol.adress for symbol in table.find("x")]
table.finnd("x")
table[0].name + table[0].size
table["x"]
ksyms.snapshot().imgae
ksyms.Symbol(nmae="x")
ksyms.open("x").tabel
ksyms.KsymsError("x", "y").wath
"""


def mypy(directory: Path, program: str) -> list[str]:
    """Return the output of mypy for a user's ``program``, with ksyms as it is installed."""
    (directory / "program.py").write_text(program)
    source = Path(ksyms.__file__).parents[1]  # where another is installed than is tested
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "program.py"]
    environment = {**os.environ, "PYTHONPATH": str(source), "MYPY_CACHE_DIR": "cache"}
    run = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True
    )
    assert run.stderr == ""
    return run.stdout.splitlines()


def test_mypy_takes_the_right_names_and_no_others(tmp_path: Path) -> None:
    assert mypy(tmp_path, RIGHT) == []
    said = [line for line in mypy(tmp_path, WRONG) if " error: " in line]
    wrong = {int(line.split(":")[1]) for line in said}
    assert wrong == {2, *range(4, WRONG.count("\n") + 1)}, said


# -- symbols --------------------------------------------------------------------------------


def test_the_repr_of_a_symbol_is_hexadecimal() -> None:
    """It has addresses and sizes in hexadecimal, and makes the symbol again."""
    fields = ("f.o'o", 0xFFFFFFFF81000010, 0x30, False, "mod", "[mod].text")
    symbol = ksyms.Symbol(*fields, "local", "function", "t")
    assert repr(symbol) == (
        'Symbol(name="f.o\'o", address=0xffffffff81000010, size=0x30, exact=False, '
        "module='mod', section='[mod].text', binding='local', kind='function', letter='t')"
    )
    assert eval(repr(symbol), {"Symbol": ksyms.Symbol}) == symbol
    assert pickle.loads(pickle.dumps(symbol)) == symbol
    nothing = symbol._replace(address=0, size=0, letter=None)
    assert "address=0x0, size=0x0, " in repr(nothing)
    assert str(nothing) == repr(nothing)
