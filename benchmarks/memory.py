"""The peak memory of one snapshot, in a process of its own: ``python memory.py ROOT``.

Prints a JSON object, every member in bytes: ``image`` the image's size, ``resident`` how
far the process's resident memory rose above what it was with everything imported,
``traced`` the peak of what Python and numpy allocated. ``resident`` is null where the
kernel cannot reset its high-water mark (CONFIG_PROC_PAGE_MONITOR), ``traced`` with
``--resident`` after ROOT, which spares the second snapshot that it takes.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import tracemalloc
from pathlib import Path

import ksyms


def main() -> None:
    """Measure both, the resident peak first: tracemalloc keeps books of its own."""
    root = sys.argv[1]
    _import_everything()
    can_reset = _reset_peak()
    before = _status("VmRSS")
    image = len(ksyms.snapshot(root).image)
    resident = _status("VmHWM") - before if can_reset else None
    traced = None
    if "--resident" not in sys.argv:
        tracemalloc.start()
        ksyms.snapshot(root)
        traced = tracemalloc.get_traced_memory()[1]
    print(json.dumps({"image": image, "resident": resident, "traced": traced}))


def _import_everything() -> None:
    """Take a snapshot of three symbols, so that all that ksyms imports is there."""
    with tempfile.TemporaryDirectory() as directory:
        text = Path(directory, "kallsyms")
        text.write_text("".join(f"{n:016x} t f{n}\n" for n in range(1, 4)))
        ksyms.snapshot(kallsyms=text)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    match = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert match is not None
    return int(match[1]) * 1024


if __name__ == "__main__":
    main()
