"""Who is shown addresses: the kernel's rule as a table, and asked of threads of this machine.

The cells are those of docs/security.md, which tests/vm measures on two kernels; the callers'
rights are those that tests/callers.py starts them with.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ksyms._linker import Access, AccessRule, Root, read_access

SECURITY = Path(__file__).parents[1] / "docs/security.md"
RIGHTS = {
    "root": (True, True),
    "root without CAP_SYSLOG": (False, True),
    "nobody": (False, True),
    "nobody with CAP_SYSLOG": (True, True),
    "root of a user namespace that root made": (True, False),
    "root of a user namespace that nobody made": (True, False),
    "root of a pid namespace below": (True, True),
}
"""Whether each has CAP_SYSLOG, and is in the initial user namespace."""


def measured() -> list[tuple[int, int, str, bool]]:
    """kptr_restrict, perf_event_paranoid, the caller, and whether it was shown addresses."""
    lines = re.findall(r"^\| (.+) \|$", SECURITY.read_text(), re.M)
    rows = [line.split(" | ") for line in lines]
    [head] = [row[1:] for row in rows if row[0] == "caller"]
    settings = [tuple(map(int, cell.split(", "))) for cell in head]
    return [
        (restrict, paranoid, row[0], cell == "sees")
        for row in rows
        if row[0] in RIGHTS
        for (restrict, paranoid), cell in zip(settings, row[1:], strict=True)
    ]


def test_every_cell_that_was_measured() -> None:
    cells = measured()
    assert len(cells) == 9 * len(RIGHTS)
    for restrict, paranoid, caller, sees in cells:
        assert Access(restrict, paranoid, *RIGHTS[caller]).shows is sees, (
            restrict,
            paranoid,
            caller,
        )


@pytest.mark.parametrize(
    ("restrict", "paranoid", "capable", "initial", "shows"),
    [
        # kallsyms_show_value: "case 0: if (kallsyms_for_perf()) return true; fallthrough".
        (0, -1, False, True, True),
        (0, 0, False, False, True),
        (0, 4, False, True, False),
        (0, 4, True, True, True),
        # "default: return false"; a sysctl below 0 is refused by the kernel.
        (3, -1, True, True, False),
        # No perf events in this kernel: kallsyms_for_perf() is false.
        (0, None, False, True, False),
        (0, None, True, True, True),
        # The file cannot be read: nothing is shown.
        (None, 1, True, True, False),
    ],
)
def test_cells_that_no_machine_here_has(
    restrict: int | None, paranoid: int | None, capable: bool, initial: bool, shows: bool
) -> None:
    access = Access(restrict, paranoid, capable, initial)
    assert access.shows is shows


STATUS = "Name:\tx\nCapInh:\t0000000800000000\nCapEff:\t{:016x}\nCapBnd:\t000001ffffffffff\n"
SYSLOG = 1 << 34  # CAP_SYSLOG, include/uapi/linux/capability.h


@pytest.mark.parametrize(
    ("effective", "has"),
    [(SYSLOG, True), (SYSLOG - 1, False), (SYSLOG << 1, False), ((1 << 41) - 1, True)],
)
def test_the_capability_that_counts(tmp_path: Path, effective: int, has: bool) -> None:
    """The effective one of a saved machine, not what could be inherited or is bounded by."""
    for name, text in (
        ("proc/self/status", STATUS.format(effective)),
        ("proc/sys/kernel/kptr_restrict", "1\n"),
        ("proc/sys/kernel/perf_event_paranoid", "-1\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_access(Root(str(tmp_path))) == Access(1, -1, has, True)


def test_a_thread_is_asked_of_this_machine() -> None:
    """By its status and its user namespace: the rule is the one for this process itself."""
    own = os.getpid()
    status = Path("/proc/self/status").read_bytes()
    assert AccessRule().shows(own, status) is read_access(Root("/")).shows
    assert not AccessRule().shows(1 << 30, b"")  # no such thread
