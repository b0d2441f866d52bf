"""ksyms decode of the texts that are written by hand, held against frames.py's bisection."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from command import ksyms as run
from frames import Symbols, frames
from test_frames import TEXTS

SLIDES = {
    "kasan": 0,
    "syzkaller": 0,
    "arm64": 0,
    "riscv": 0,
    "arm32": 0,
    "ppc64": 0,
    "s390": 0,
    "kernel-4.4": 0,
    "kernel-5.4": 0x1C400000,
    "crash": 0,
    "tracepoints": 0,
    "ftrace": 0x1C400000,
    "journal": 0x1C400000,
}
"""What was added to the kallsyms' addresses in the boot of each text."""
MODULES = {"ftrace": 0x682000}
"""As much for the module, where another boot's text says it: flashq_queue_rq's two places."""
KALLSYMS = {
    "syzkaller": "kasan",
    **dict.fromkeys(("crash", "tracepoints", "ftrace", "journal"), "kernel-5.4"),
}
"""Whose kallsyms a text has that has none of its own."""
UNCHANGED = {"kasan"}
"""Texts whose every address has its name already, or is none of the kernel's."""
INSERTED = re.compile(
    r"(?<!\w)(?:0x)?(?P<address>[0-9a-f]{16}|[0-9a-f]{8})\W{0,2} "
    r"\(?(?P<name>[\w.$]+\+0x[0-9a-f]+)/(?P<size>0x[0-9a-f]+)(?P<module> \[\w+\])?"
)


def expected(name: str) -> str:
    """What decode must put out, as it was written by hand."""
    return (TEXTS / f"{name}{'.txt' if name in UNCHANGED else '.decoded'}").read_text()


def kallsyms(name: str) -> Path:
    return TEXTS / f"{KALLSYMS.get(name, name)}.kallsyms"


def slide(name: str, module: object) -> int:
    return MODULES.get(name, 0) if module else SLIDES[name]


def decode(name: str, *options: str) -> str:
    done = run("decode", "--from", kallsyms(name), *options, TEXTS / f"{name}.txt")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SLIDES)
def test_decoded_as_by_hand(name: str) -> None:
    """Byte for byte what was written by hand."""
    assert decode(name) == expected(name)


@pytest.mark.parametrize("name", SLIDES)
def test_what_was_written_by_hand_is_so(name: str) -> None:
    """Each name beside an address there is kallsyms', with the size that it has there."""
    symbols = Symbols(kallsyms(name).read_text())
    found = [*INSERTED.finditer(expected(name))]
    assert found or name in UNCHANGED
    for match in found:
        address = int(match["address"], 16) - slide(name, match["module"])
        assert match["name"] + (match["module"] or "") in (symbols.names(address) or ())
        begin = address - int(match["name"].partition("+")[2], 16)
        assert symbols.end(begin) in (None, begin + int(match["size"], 16)), match[0]


@pytest.mark.parametrize("name", SLIDES)
def test_records(name: str) -> None:
    """Every frame has a record; one that says what it is says what kallsyms does."""
    symbols = Symbols(kallsyms(name).read_text())
    records = records_of(name)
    text = (TEXTS / f"{name}.txt").read_text()
    places = {n for n, line in enumerate(text.splitlines(), 1) if "Kernel Offset: " in line}
    by_line = defaultdict(list)
    for record in records:
        by_line[record["line"]].append(record)
    assert [r["line"] for r in records] == sorted(r["line"] for r in records)
    for frame in frames(text, symbols):
        if frame.line in places:
            continue  # it says where the kernel lies
        digits = frame.text.removeprefix("0x")
        assert any(digits in record["text"] for record in by_line[frame.line]), frame
    for record in records:
        if record["symbol"] is not None:
            place = int(record["file_address"], 16)
            module = f" [{record['module']}]" if record["module"] else ""
            said = f"{record['symbol']}+{record['offset']:#x}{module}"
            assert said in (symbols.names(place) or ()), record
            if record["address"] is not None:
                assert int(record["address"], 16) == place + slide(name, module)
        else:
            assert record["why"], record


def records_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in decode(name, "--json").splitlines()]


def short(record: dict[str, Any]) -> tuple[Any, ...]:
    return (record["line"], record["symbol"], record["offset"], record["module"])


def test_records_of_another_boot() -> None:
    """Line by line what the oops of 5.4 is: of the module's raw addresses nothing is known."""
    records = records_of("kernel-5.4")
    elsewhere = "modules lie elsewhere in that boot, and the text does not say where"
    assert [short(r) for r in records if r["symbol"]] == [
        (8, "flashq_map_data", 0x1D3, "flashq"),
        (13, "init_task", 0, None),
        (14, "def_blk_aops", 0, None),
        (20, "flashq_queue_rq", 0xC1, "flashq"),
        (21, "ktime_get", 0x3E, None),
        (22, "blk_mq_dispatch_rq_list", 0x93, None),
        (24, "__blk_mq_run_hw_queue", 0x6F, None),
        (25, "__blk_mq_delay_run_hw_queue", 0x11A, None),
        (26, "blk_mq_sched_insert_requests", 0x74, None),
        (27, "blk_mq_flush_plug_list", 0x1C4, None),
        (28, "blk_flush_plug_list", 0xD6, None),
        (29, "blk_finish_plug", 0x26, None),
        (30, "__x64_sys_io_submit", 0xD5, None),
        (31, "io_schedule", 0x16, None),
        (32, "do_syscall_64", 0x57, None),
        (33, "entry_SYSCALL_64_after_hwframe", 0x3C, None),
    ]
    assert {r["address"]: r["why"] for r in records if r["line"] in (15, 23)} == {
        "0xffffffffc0a7b120": elsewhere,  # R13
        "0xffff9b3d38e05510": "it lies in no symbol",  # R14
        "0xffffffffc0a9412f": elsewhere,
    }
    # The last line says where the kernel lies, and has no frames.
    texts = [r["text"] for r in records if r["line"] in (40, 15)]
    assert texts == ["ffffffffc0a7b120", "ffff9b3d38e05510"]


def test_modules_of_the_report() -> None:
    """The modules that are named on stderr are those linked in, not what was unloaded."""
    done = run("decode", "--from", TEXTS / "kernel-5.4.kallsyms", TEXTS / "kernel-5.4.txt")
    listed = "dm_multipath flashq input_leds joydev nls_iso8859_1 serio_raw"
    assert f"(linked in: {listed})." in done.stderr


def test_given_boot_beats_the_names_of_another(tmp_path: Path) -> None:
    """Names that fit megabytes further on are put right where the boot is given."""
    text = tmp_path / "perf.txt"
    # 0x1c00000 bytes, a multiple of two megabytes, lie between that and far+0x10.
    text.write_text(
        " ffffffff81113a20 far+0x10 (dso)\n ffffffff81113a30 ktime_get+0x20 (dso)\n"
    )
    symbols = tmp_path / "kallsyms"
    lines = (TEXTS / "kernel-5.4.kallsyms").read_text().splitlines(keepends=True)
    symbols.write_text(
        "".join([*lines, "ffffffff82d13a10 d far\n", "ffffffff82d13b10 d end\n"])
    )
    done = run("decode", "--from", symbols, "--slide", "0", text)
    assert done.stdout == text.read_text().replace("far+0x10", "ktime_get+0x10")


def test_json_stays_json() -> None:
    """Names in JSON lines are within their strings."""
    lines = decode("journal").splitlines()
    assert [[*json.loads(line)] for line in lines] == [
        [*json.loads(line)] for line in (TEXTS / "journal.txt").read_text().splitlines()
    ]
    kernel = json.loads(lines[-1])["dmesg"]
    assert kernel[0]["msg"] == " ? 0xffffffff9d8a1263 blk_mq_dispatch_rq_list+0x93/0x5c0"


def test_instructions_are_no_addresses() -> None:
    """Those of 32 bits look like addresses of 32 bits, and registers hold some."""
    code = "Code: e1a0c00d c0512e38 e24cb004 (c0512e38) \n"
    text = f"r10: c0e04d48\n{code}r9 : c0512e38\n" * 2
    done = run("decode", "--from", kallsyms("arm32"), "--slide", "0", input=text)
    named = text.replace("r10: c0e04d48", "r10: c0e04d48 init_task+0x0/0xcb8")
    assert done.stdout == named.replace(
        "r9 : c0512e38", "r9 : c0512e38 platform_drv_probe+0x50/0xb0"
    )


def test_decimal_numbers_are_no_addresses() -> None:
    """A name behind one would leave no JSON, and nothing says that it is an address."""
    text = f'{{"ip": {0xC0512E38}, "ip64": {0xFFFFFFFF81000010}, "hex": "0xc0512e38"}}\n'
    done = run("decode", "--from", kallsyms("arm32"), "--slide", "0", input=text)
    assert done.stdout == text.replace("2e38", "2e38 platform_drv_probe+0x50/0xb0")


@pytest.mark.parametrize("name", SLIDES)
def test_decoded_again_stays(name: str, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.write_text(expected(name))
    done = run("decode", "--from", kallsyms(name), again)
    assert done.stdout == expected(name)
