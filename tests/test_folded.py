"""``ksyms decode --no-offset``: stacks for a flame graph, in which frames are names alone."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from command import ksyms, refused
from conftest import Kernel

FORMS = {
    "0x, annotated": ("0x{}_[k]", "{}_[k]"),
    "raw": ("{}", "{}"),
    "0x": ("0x{}", "{}"),
    "stackcollapse-perf.pl --addrs": ("[[kernel.kallsyms] <{}>]", "[[kernel.kallsyms] <{}>]"),
    "and --kernel": ("[[kernel.kallsyms] <{}>]_[k]", "[[kernel.kallsyms] <{}>]_[k]"),
    "named": ("{} some_name+0x12", "{}"),
    "bpftrace's perf mode": ("{} some_name+371", "{}"),
    "unknown": ("{} [unknown]", "{}"),
}
"""What tools fold into a frame of an address, and what is to become of it."""


@pytest.fixture(scope="module")
def kernel(saved: dict[str, Kernel]) -> Kernel:
    return saved["6.12.117+deb12-amd64-few"]


@pytest.mark.parametrize("form", FORMS)
def test_names_take_the_place_of_addresses(form: str, kernel: Kernel) -> None:
    """Whatever offset each has: the same function is the same text, and merges."""
    places = {name: address for address, _, name, _ in kernel.lines}
    before, after = FORMS[form]
    called = [("vfs_write", 4), ("do_filp_open", 0xC4), ("v9fs_file_open", 0x41)]
    text, expected = "", ""
    for more in (0, 1, 2):
        frames = [(n, before.format(f"{places[n] + at + more:016x}")) for n, at in called]
        text += f"a b;main;{';'.join(f for _, f in frames)};end {more + 40}\n"
        expected += f"a b;main;{';'.join(after.format(n) for n, _ in frames)};end {more + 40}\n"
    run = ksyms("decode", "--from", kernel.elf, "--slide=0", "--no-offset", input=text)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == expected


def test_the_last_frame_keeps_its_count(kernel: Kernel) -> None:
    places = {name: address for address, _, name, _ in kernel.lines}
    text = f"a;{places['vfs_write'] + 4:016x} 42\nb;0xffff8f1e4a2b6c00 1\n"
    run = ksyms("decode", "--from", kernel.elf, "--slide=0", "--no-offset", input=text)
    assert run.stdout == "a;vfs_write 42\nb;0xffff8f1e4a2b6c00 1\n"


def test_a_name_is_one_frame(tmp_path: Path) -> None:
    """Whatever it is called: what is between frames, and before the count, is escaped in it."""
    names = ["a;b;c", ";", "a;b 12", "f.constprop.0;x"]
    lines = [f"{0xFFFFFFFF81000000 + 16 * n:x} T {name}\n" for n, name in enumerate(names)]
    path = tmp_path / "kallsyms"
    path.write_text("".join(lines) + "ffffffff81100000 T _end\n")
    text = "".join(f"main;{line.split()[0]};{line.split()[0]}_[k] 7\n" for line in lines)
    run = ksyms("decode", "--from", path, "--slide=0", "--no-offset", input=text)
    told = [line.removesuffix(" 7").split(";") for line in run.stdout.splitlines()]
    shown = [name.replace(";", r"\x3b").replace(" ", r"\x20") for name in names]
    assert told == [["main", name, f"{name}_[k]"] for name in shown]


def test_it_is_no_record(kernel: Kernel) -> None:
    run = ksyms("decode", "--from", kernel.elf, "--no-offset", "--json", input="")
    assert run.returncode == 2
    assert "not allowed with" in run.stderr


def test_what_perf_samples_here(live: Kernel, tmp_path: Path) -> None:
    """A profile of this machine, folded by its addresses, has the names that perf gives."""
    path = tmp_path / "perf.data"
    record = ["perf", "record", "-q", "-g", "-e", "cpu-clock", "-o", str(path), "--"]
    work = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=3000", "status=none"]
    subprocess.run([*record, *work], check=True, capture_output=True)
    told = subprocess.check_output(["perf", "script", "-i", str(path)], text=True)
    frame = re.compile(r"\s+(ffff[0-9a-f]{12}) ([^+\s]+)\S* \(\[kernel\.kallsyms\]\)")
    stacks = [
        [match.groups() for line in sample.splitlines() if (match := frame.fullmatch(line))]
        for sample in told.split("\n\n")
    ]
    stacks = [stack[::-1] for stack in stacks if stack]
    assert stacks
    text = "".join(f"dd;{';'.join('0x' + a + '_[k]' for a, _ in s)} 1\n" for s in stacks)
    run = ksyms("decode", "--from", live.elf, "--slide=0", "--no-offset", input=text)
    assert run.returncode == 0, run.stderr
    others: dict[str, set[str]] = {}
    names: dict[int, set[str]] = {}
    for address, _, name, _ in live.lines:
        names.setdefault(address, set()).add(name)
    for called in names.values():
        for name in called:
            others.setdefault(name, set()).update(called)
    for stack, line in zip(stacks, run.stdout.splitlines(), strict=True):
        found = line.removeprefix("dd;").removesuffix(" 1").split(";")
        for (_, name), there in zip(stack, found, strict=True):
            assert there.removesuffix("_[k]") in others.get(name, {name}), (stack, line)
    assert len(Counter(run.stdout.splitlines())) < len(stacks)


def test_what_is_of_another_build_is_refused_too(kernel: Kernel) -> None:
    [place] = {line[0] for line in kernel.lines if line[2] == "vfs_write"}
    text = "".join(f"[<{place + n:016x}>] kfree+{n:#x}/0x999\n" for n in range(20))
    refused(ksyms("decode", "--from", kernel.elf, "--no-offset", input=text), "another build")
