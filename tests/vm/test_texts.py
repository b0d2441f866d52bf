"""Texts of two stock Debian kernels, and the names in them against that boot's kallsyms.

texts.py makes them in one boot of each kernel, and a panic in another; module/ has the
module that falls over for it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guests import HERE, KERNELS, build_modules, in_guest, lab

from command import COMMAND, ksyms
from frames import NAMED, Frame, Symbols, frames

pytestmark = pytest.mark.vm

LANDMARKS = {
    "pointers": r"texts: 0000000000001000 is 0x1000\n",
    "oops": r"BUG: kernel NULL pointer dereference[^§]* texts_fall\+0x\S+ \[ksyms_texts\]",
    "oops-json": r'"msg": " texts_fall\+0x\S+ \[ksyms_texts\]"',
    "bug": r"kernel BUG at \S*/fall\.c:\d+![^§]*RIP: 0010:texts_bug\+0x\S+ \[ksyms_texts\]",
    "warning": r"WARNING: CPU: [^§]* texts_warn\+0x[^§]*Workqueue: events texts_work \[ksyms",
    "sysrq-t": r"Show State[^§]* texts_wait\+0x\S+ \[ksyms_texts\]",
    "sysrq-l": r"NMI backtrace for cpu 1[^§]*RIP: 0010:texts_spin\+0x\S+ \[ksyms_texts\]",
    "sysrq-w": r"state:D [^§]* texts_wait\+0x\S+ \[ksyms_texts\]",
    "stack": r"\n\[<0>\] texts_wait\+0x\S+ \[ksyms_texts\]\n",
    "ftrace-function": r": texts_print <-texts_outer\n",
    "ftrace-function-addr": r": texts_print\+0x[04]/0x\S+ \[ksyms_texts\] <f{8}[0-9a-f]{8}> <-",
    "ftrace-stack": r"<stack trace>\n( => .*\n)* => texts_print\n => texts_outer\n",
    "ftrace-stack-addr": r"\n => texts_outer <f{8}[0-9a-f]{8}>\n",
    "ftrace-trigger": r"<stack trace>\n => (.*\n => )+\w+\n",
    "stack_trace": r"Depth    Size   Location [^§]* texts_outer\+0x\S+ \[ksyms_texts\]\n",
    "perf-script": r"\n\t[0-9a-f]{16} texts_spin\+0x[0-9a-f]+ \(",
    "perf-script-addresses": r": cpu-clock: *\n(\t *[0-9a-f]+ *\n)+",
    "perf-script-unknown": r"\n\tf{8}[0-9a-f]{8} \[unknown\] \(\[kernel\.kallsyms\]\)\n",
}
"""A pattern that each text has; § is in none of them."""

BESIDE = {
    "pointers": r": (?P<address>\S+) is (?P<name>\S+\+\S+)(?P<module> \[\w+\])?",
    "ftrace-function-addr": r"(?P<name>[\w.]+\+\S+)(?P<module> \[\w+\])? <(?P<address>\w+)>",
    "ftrace-stack-addr": r"(?P<name>\b[A-Za-z_][\w.]*)(?P<module>) <(?P<address>\w+)>",
    "perf-script": r"\t(?P<address>f{4}\w{12}) (?P<name>[\w.]+\+0x\w+)(?P<module>) \(",
}
"""Texts in which the kernel or perf has a name beside the address."""


@pytest.fixture(scope="module", params=KERNELS)
def package(request: pytest.FixtureRequest) -> str:
    return KERNELS[request.param]


@pytest.fixture(scope="module")
def module(package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """module/, built for the kernel."""
    directory = tmp_path_factory.mktemp("module")
    build_modules(package, directory)
    return directory / "ksyms_texts.ko"


@pytest.fixture(scope="module")
def results(package: str, module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What texts.py left, after a boot of the kernel."""
    directory = tmp_path_factory.mktemp("texts")
    command = in_guest(str(HERE / "texts.py"), str(module), str(directory))
    run = lab(package, directory, command)
    assert run.returncode == 0, run.stdout + run.stderr
    return directory


@pytest.fixture(scope="module")
def panic(package: str, module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What another boot left: its ``console``, ``kallsyms`` and ``modules``."""
    directory = tmp_path_factory.mktemp("panic")
    command = in_guest(str(HERE / "texts.py"), str(module), str(directory), "panic")
    run = lab(package, directory, command, KSYMS_LAB_KEEP=str(directory))
    assert run.returncode == 125, run.stdout + run.stderr  # the VM ended without a status
    return directory


@pytest.fixture(scope="module")
def symbols(results: Path) -> Symbols:
    return Symbols.of(results)


def text_of(results: Path, name: str) -> str:
    return (results / "texts" / name).read_text()


def test_nothing_else_was_left(results: Path) -> None:
    assert {path.name for path in (results / "texts").iterdir()} == LANDMARKS.keys()


@pytest.mark.parametrize("name", LANDMARKS)
def test_landmark(results: Path, name: str) -> None:
    assert re.search(LANDMARKS[name], text_of(results, name)), text_of(results, name)


@pytest.mark.parametrize("name", LANDMARKS)
def test_every_name_is_of_that_boot(results: Path, symbols: Symbols, name: str) -> None:
    """Each ``name+0x12/0x34 [module]`` is a symbol of kallsyms with that name, module and
    size, and nothing says that the address is nobody's."""
    assert_known(list(named(text_of(results, name), symbols)))


def named(text: str, symbols: Symbols) -> Iterator[Frame]:
    return (frame for frame in frames(text, symbols) if NAMED.fullmatch(frame.text))


def assert_known(found: list[Frame]) -> None:
    assert [frame for frame in found if not frame.addresses or frame.names == frozenset()] == []


@pytest.mark.parametrize("name", BESIDE)
def test_the_name_beside_the_address(results: Path, symbols: Symbols, name: str) -> None:
    """The kernel's name for an address, and perf's, are ones that the bisection finds."""
    wrong, told = [], 0
    for match in re.finditer(BESIDE[name], text_of(results, name)):
        found = symbols.names(int(match["address"], 16))
        if found is None:
            continue
        told += 1
        said = match["name"].partition("/")[0] + (match["module"] or "")
        if said not in alike(said, found):
            wrong.append((match[0], found))
    assert wrong == []
    assert told >= (450 if name == "pointers" else 20)


def alike(said: str, found: frozenset[str]) -> set[str]:
    """Names as far as a text has them: without module or offset where it leaves them out."""
    names = {name if "[" in said else name.partition(" ")[0] for name in found}
    return names if "+" in said else {name.partition("+")[0] for name in names}


def test_what_the_kernel_has_no_name_for(results: Path, symbols: Symbols) -> None:
    """Where %pS prints the number, the bisection has no name; and the other way round."""
    wrong = []
    for match in re.finditer(r": ([0-9a-f]+) is (\S+)", text_of(results, "pointers")):
        found = symbols.names(int(match[1], 16))
        if found is not None and bool(found) == match[2].startswith("0x"):
            wrong.append(match[0])
    assert wrong == []


@pytest.mark.parametrize("name", ["ftrace-function", "ftrace-stack", "ftrace-trigger"])
def test_names_alone(results: Path, symbols: Symbols, name: str) -> None:
    """ftrace prints names without an offset; only its own trampolines it has none for."""
    text = text_of(results, name)
    words = set(re.findall(r"(?:=> |\d: |<-)([\w.]+)(?= <-|\n)", text))
    unknown = {word for word in words if word not in symbols.named}
    assert all(word.startswith("0x") or word == "ftrace_trampoline" for word in unknown), (
        unknown
    )
    assert len(words) >= 10


def test_one_profile_three_times(results: Path) -> None:
    """With names, without, and with unknown ones: the same addresses in the same order."""
    lists = [
        re.findall(
            r"^\t +(f{4}[0-9a-f]{12})\b|^\t(f{4}[0-9a-f]{12})\b", text_of(results, n), re.M
        )
        for n in ("perf-script", "perf-script-addresses", "perf-script-unknown")
    ]
    assert lists[0] == lists[1] == lists[2]
    assert len(lists[0]) >= 100


def test_json_has_the_same_words(results: Path) -> None:
    messages = json.loads(text_of(results, "oops-json"))["dmesg"]
    lines = [
        re.sub(r"^\[ *[\d.]+\] ", "", line) for line in text_of(results, "oops").splitlines()
    ]
    assert [message["msg"] for message in messages] == lines


def test_duplicates_are_told_apart_by_size(results: Path, symbols: Symbols) -> None:
    """Two files of the module have a step(), and each text means one of them."""
    meant = set()
    for name in ("oops", "warning"):
        steps = [f for f in named(text_of(results, name), symbols) if f.text.startswith("step")]
        assert steps
        [addresses] = {frame.addresses for frame in steps}
        meant.add(addresses)
    assert [len(addresses) for addresses in meant] == [1, 1]


def test_panic(panic: Path) -> None:
    """The console of another boot: what it says of its slide is what kallsyms has."""
    text = (panic / "console").read_text()
    assert re.search(r"texts_fall\+0x\S+ \[ksyms_texts\][^§]*Kernel panic - not syncing", text)
    symbols = Symbols.of(panic)
    slide = re.search(r"Kernel Offset: 0x([0-9a-f]+) from 0x([0-9a-f]+)", text)
    assert slide
    assert int(slide[1], 16) == symbols.named["_text"][0][0] - int(slide[2], 16)
    found = list(named(text, symbols))
    assert len(found) >= 10
    assert_known(found)


def decoded(*arguments: Path | str) -> list[dict[str, Any]]:
    run = ksyms("decode", "--json", *arguments)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def is_right(record: dict[str, Any], symbols: Symbols) -> bool | None:
    """Whether a frame has a name that the boot's kallsyms has for it; None for no name.

    The kernel passes over the compiler's ``.LC0``, and kallsyms lists them.
    """
    if record["symbol"] is None:
        assert record["why"], record
        return None
    if record["symbol"].startswith(".L"):
        return True
    if record["address"] is None:
        said: str = record["said"]
        return said == f"{record['symbol']}+{record['offset']:#x}"
    found = symbols.names(int(record["address"], 16))
    words = f"{record['symbol']}+{record['offset']:#x}"
    return found is None or words in {name.partition(" ")[0] for name in found}


def assert_right(records: list[dict[str, Any]], symbols: Symbols) -> list[dict[str, Any]]:
    """Those that have an address and no name, though the boot's kallsyms has one."""
    assert [r for r in records if is_right(r, symbols) is False] == []
    missing = [r for r in records if r["address"] and r["symbol"] is None]
    return [r for r in missing if symbols.names(int(r["address"], 16))]


@pytest.mark.parametrize("name", LANDMARKS)
def test_decoded_after_its_boot(results: Path, symbols: Symbols, name: str) -> None:
    """Here, where that kernel never ran, from the one file that it left."""
    records = decoded("--from", results / "kernel.elf", results / "texts" / name)
    missing = assert_right(records, symbols)
    assert len(missing) <= len(records) // 50, missing
    frames_ = list(named(text_of(results, name), symbols))
    assert len(records) >= len(frames_) * 0.9


def test_decoded_in_that_boot(results: Path) -> None:
    """What the guest wrote is what is written here, byte for byte."""
    texts = sorted((results / "texts").iterdir())
    command: list[str | Path] = [COMMAND, "decode", "--from", results / "kernel.elf", *texts]
    run = subprocess.run(command, capture_output=True, check=True)
    assert (results / "decoded").read_bytes() == run.stdout
    assert run.stdout != b"".join(path.read_bytes() for path in texts)


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("boot", [False, True])
def test_decoded_with_another_boots_symbols(
    results: Path, panic: Path, symbols: Symbols, name: str, boot: bool
) -> None:
    """By the slide that names beside addresses tell; modules, where they tell of them too."""
    options: list[str | Path] = ["--boot", results / "kernel.elf"] if boot else []
    text = results / "texts" / name
    records = decoded("--from", panic / "kallsyms", *options, text)
    there = (panic / "kallsyms").read_text()
    missing = [
        record
        for record in assert_right(records, symbols)
        if any(
            was_loaded(words, there)
            for words in symbols.names(int(record["address"], 16)) or ()
        )
    ]
    assert len(missing) <= len(records) // 10 or not boot, missing


def was_loaded(words: str, kallsyms: str) -> bool:
    """Whether a frame's module, if it is one's, was loaded in the boot of a kallsyms."""
    module = re.search(r"\[(.+)\]$", words)
    return not module or f"\t[{module[1]}]" in kallsyms


def test_decoded_panic(results: Path, panic: Path) -> None:
    """The console of the other boot, with the first one's file."""
    symbols = Symbols.of(panic)
    records = decoded("--from", results / "kernel.elf", panic / "console")
    assert_right(records, symbols)
    assert sum(r["symbol"] is not None for r in records) >= 10
