"""A small share of the fuzzers, and that they find what there is (docs/fuzzing.md)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ksyms
from command import TEXT
from form import FORMS
from fuzz import files, images, protocol, shared, texts

FUZZ = Path(__file__).parent / "fuzz"
SEED = "20"


def run(program: Path, save: Path, *arguments: str) -> tuple[int, str]:
    """The command's exit status, and what it said on stdout."""
    options = ["--save", str(save), "--seed", SEED, *arguments]
    done = subprocess.run(
        [sys.executable, str(program), *options], stdout=subprocess.PIPE, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("texts", ("texts.py", "--count", "2000")),
        ("files", ("files.py", "--count", "2000")),
        ("images", ("images.py", "--count", "500")),
        ("protocol", ("protocol.py", "--count", "120")),
        ("mounted", ("protocol.py", "--mounted", "--count", "100")),
    ],
)
def test_a_share(name: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    status, said = run(FUZZ / arguments[0], tmp_path, *arguments[1:])
    *faults, row = said.splitlines()
    assert faults == []
    assert f"| {name} | {SEED} | {int(arguments[-1]):,} |" in row
    assert status == 0


# -- what the runs find ---------------------------------------------------------------------


class Planted(shared.Target):
    """Faults of each kind, in the place of ksyms."""

    name = "planted"

    def make(self, number: int) -> shared.Case:
        return shared.Case({"file": b"%d" % number})

    def check(self, case: shared.Case) -> None:
        number = int(case.files["file"])
        if number == 30:
            raise shared.Fault("a fault", "in words")
        if number == 40:
            ksyms.load("/nowhere")
        if number == 50:
            bytes(2 * shared.MEMORY)
        if number == 60:
            while True:
                pass
        if number == 170:
            os.kill(os.getpid(), 9)
        if number == 180:
            time.sleep(1000)


KINDS = {
    "a fault": 30,
    "SourceError in _sources/input.py": 40,
    "MemoryError in ": 50,
    "StuckError in ": 60,
    "the process ended": 170,
    "hang: it waits for what never comes": 180,
}


def test_each_kind_of_fault_is_found_and_kept(tmp_path: Path) -> None:
    """An error, too much memory, too much time, a death, an endless wait; and it goes on."""
    for count in ("100", "300"):
        status, said = run(Path(__file__), tmp_path, "--count", count)
    assert status == 1
    assert "| planted | 20 | 300 |" in said
    *faults, _ = said.splitlines()
    assert len(faults) == len(KINDS)
    for kind, number in KINDS.items():
        assert any(kind in fault and f"case {number}" in fault for fault in faults), said
        place = tmp_path / f"planted-{SEED}-{number}"
        assert (place / "file").read_text() == str(number)
        assert (place / "FAULT").read_text().startswith(kind)


def test_a_case_is_the_same_each_time() -> None:
    for kind in (texts.Texts, files.Files, images.Images, protocol.Protocol):
        for number in range(40):
            assert kind(1).make(number).files == kind(1).make(number).files
        assert kind(1).make(7).files != kind(2).make(7).files


# -- what the checks find -------------------------------------------------------------------


def test_a_wrong_name_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of symbols that are elsewhere by a few bytes."""

    def elsewhere(machine: str) -> ksyms.SymbolTable:
        path = tmp_path / machine
        lines = (FORMS / f"{machine}.kallsyms").read_text().splitlines(True)
        shift = [f"{int(line.split()[0], 16) + 8:0{len(line.split()[0])}x}" for line in lines]
        moved = [new + line[len(new) :] for new, line in zip(shift, lines)]
        path.write_text("".join(moved))
        return ksyms.load(path)

    monkeypatch.setattr(texts, "table", elsewhere)
    fuzzer, found = texts.Texts(1), set()
    fuzzer.begin(tmp_path)
    for number in range(1, 25):
        if fuzzer.make(number).facts["kind"] == "given":
            error = shared.attempt(fuzzer, number)
            found |= set(shared.kinds_of(error)) if error else set()
    assert found == {"wrong name"}


@pytest.mark.parametrize(
    ("text", "out"),
    [
        (b"a ffffffff81000012 = b", b"a ffffffff81000012 alpha+0x2/0x30 = "),
        (b"a ffffffff81000012\nb", b"a ffffffff81000012 alpha+0x2/0x30 b"),
        (b"a ffffffff81000012 b", b"a ffffffff81000012 alpha+0x2/0x30\x00 b"),
        (b"no address", b"no address alpha+0x2/0x30"),
    ],
)
def test_a_byte_that_is_lost_or_added_is_found(text: bytes, out: bytes) -> None:
    texts.check_bytes(text, text)
    with pytest.raises(shared.Fault, match="bytes"):
        texts.check_bytes(text, out)


def test_an_image_that_is_read_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of an image that nobody changed, held against tables that lie elsewhere."""
    fuzzer, shape = images.Images(1), images.SHAPES[0]
    fuzzer.begin(tmp_path)
    data, places = images.made(shape)
    case = shared.Case({"file": data}, {"kind": "tables", "number": 1, "shape": shape})
    fuzzer.check(case)
    monkeypatch.setattr(images, "made", lambda _: (data, {**places, "names": 1}))
    with pytest.raises(shared.Fault, match="symbol from nowhere, tables"):
        fuzzer.check(case)


def test_a_symbol_that_is_in_no_file_is_found(tmp_path: Path) -> None:
    path, fuzzer = tmp_path / "file", files.Files(1)
    fuzzer.begin(tmp_path)
    case = shared.Case({"file": TEXT.encode()}, {"kind": "kallsyms", "number": 1})
    fuzzer.check(case)
    path.write_text(TEXT.replace("alpha", "alphb"))
    truth = files.truth_of_text(TEXT.encode())
    with pytest.raises(shared.Fault, match="alphb"):
        fuzzer.examine(ksyms.load(path), truth, fuzzer.random(1))


if __name__ == "__main__":
    shared.CPU_SECONDS, shared.BLOCKED_SECONDS = 1, 3
    sys.exit(shared.program(Planted))
