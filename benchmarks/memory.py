"""Measure the peak memory of one snapshot, in its own process: ``python memory.py ROOT``.

It prints a JSON object, with every member in bytes:

- ``image``: the image's size
- ``resident``: by how much the process's resident memory rose at most, after all imports; null
  if the kernel cannot reset the high-water mark (CONFIG_PROC_PAGE_MONITOR)
- ``traced``: the peak of the memory that Python and numpy allocated. It is measured on a second
  snapshot; after ``ROOT --resident`` that is not taken, and the member is null
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
    """Measure both, the resident peak first, since tracemalloc needs memory itself."""
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
    """Take a snapshot of three symbols, after which ksyms has imported everything."""
    with tempfile.TemporaryDirectory() as directory:
        text = Path(directory, "kallsyms")
        text.write_text("".join(f"{n:016x} t f{n}\n" for n in range(1, 4)))
        ksyms.snapshot(kallsyms=text)


def _reset_peak() -> bool:
    """Reset the high-water mark of resident memory; return False if the kernel cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    match = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert match is not None
    return int(match[1]) * 1024


if __name__ == "__main__":
    main()
