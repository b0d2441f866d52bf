"""Arguments that are read without argparse say what argparse makes of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksyms._cli.arguments import parser_of
from ksyms._cli.main import COMMANDS
from ksyms._cli.plain import Plain

WORDS = [
    *("--from", "--json", "--nearest", "--root", "--kallsyms", "--kernel", "--module", "-o"),
    *("--output", "--layout", "--btf", "--portable", "--debug-dir", "--slide", "--boot"),
    *("--force", "--cuse", "--name", "--link", "--mode", "--device", "--verbose"),
    *(
        "linux",
        "freebsd",
        "amiga",
        "-",
        "--",
        "-h",
        "--fro",
        "--from=a",
        "-oa",
        "-1",
        "- a",
        "",
    ),
    *("a", "/", "schedule", "0xffffffff81000000", "81000000-0", "/[/", "m.ko@0x10", "m.ko"),
    *("", "0600", "0x1000"),
]


def plain(command: str, words: list[str]) -> dict[str, Any] | None:
    def wrong(_: str) -> NoReturn:
        raise AssertionError

    reader = Plain(command, wrong)
    import_module(f"ksyms._cli.{COMMANDS[command]}").add(reader)
    found = reader.read(words)
    return None if found is None else without_wrong(found)


def parsed(command: str, words: list[str]) -> dict[str, Any] | None:
    try:
        return without_wrong(parser_of([COMMANDS[command]], {}).parse_args([command, *words]))
    except SystemExit:
        return None


def without_wrong(options: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name != "wrong"}


@given(st.sampled_from(sorted(COMMANDS)), st.lists(st.sampled_from(WORDS), max_size=6))
def test_what_is_read_is_as_argparse_reads_it(command: str, words: list[str]) -> None:
    found = plain(command, words)
    assert found is None or found == parsed(command, words)


@pytest.mark.parametrize(
    "line",
    [
        "lookup --from a 0xffffffff81000000",
        "lookup schedule - --json --root a",
        "snapshot",
        "snapshot -o - --json --debug-dir a --debug-dir b --layout freebsd",
        "snapshot --kernel a --module m.ko@0x10 --module n.ko@.text=0x10,.data=0x20",
        "info",
        "info a --json",
        "map --json -o a b",
        "decode",
        "decode --from a a -",
        "diff a b --json",
        "collect --output a",
        "status a",
        "exec a b",
    ],
)
def test_plain_ones_are_read(line: str) -> None:
    command, *words = line.split()
    found = plain(command, words)
    assert found is not None
    assert found == parsed(command, words)


@pytest.mark.parametrize(
    "line",
    [
        "lookup",
        "lookup a --from",
        "lookup a --from b --kallsyms c",
        "lookup a --json b",
        "lookup --fro a b",
        "lookup /[/",
        "snapshot a",
        "snapshot --layout amiga",
        "diff a",
        "collect",
        "status",
        "info -h",
    ],
)
def test_mistakes_are_left_to_argparse(line: str) -> None:
    command, *words = line.split()
    assert plain(command, words) is None
