"""The archive of a machine's files, from which another machine can take a snapshot."""

from __future__ import annotations

import io
import tarfile
import time

from .._compressed import LARGEST
from .._errors import MovedError
from .._typing import Final
from .archive import COLLECTED
from .btf import DIRECTORY
from .generation import TRIES
from .linker import Linker
from .root import LARGE, Root

_FILES: Final = (
    "proc/kallsyms",
    "proc/modules",
    "proc/iomem",
    "proc/version",
    "proc/cmdline",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/kptr_restrict",
    "proc/sys/kernel/perf_event_paranoid",
    "proc/sys/kernel/random/boot_id",
    "sys/kernel/notes",
    "sys/kernel/cpu_byteorder",
)
_MOST: Final = {"proc/kallsyms": LARGEST}
"""The most bytes of a file, by name, if that is not :data:`~.root.LARGE`."""
_MODULE_FILES: Final = ("coresize", "initstate", "refcnt", "taint", "srcversion", "version")
_MODULE_DIRECTORIES: Final = ("sections", "notes")


def collect(linker: Linker) -> bytes:
    """Return the files that a snapshot of ``linker`` needs, of one moment, as a gzipped tar.

    Raises:
        MovedError: the files changed during each of :data:`TRIES` tries.
        KsymsError: no snapshot could be taken of these files.
    """
    moved: list[str] = []
    for _ in range(TRIES):
        reading = linker.read()  # raises if addresses are hidden or the text is cut short
        before = linker.generation()
        files = _contents(linker.root, linker.btf)
        if reading.programs is not None:
            from .bpf_programs import (  # imports numpy, so only after the text
                SAVED,
                pack_programs,
            )

            files[SAVED] = pack_programs(reading.programs)
        moved = before.moved(linker.generation()) or linker.moved(reading)
        if not moved:
            return _archive(files, linker.root)
    raise MovedError(
        f"The kernel's files moved during each of {TRIES} tries, at last: {', '.join(moved)}.",
        "Try again when no modules are being loaded or unloaded.",
    )


def _contents(root: Root, btf: bool) -> dict[str, bytes]:
    """Return the contents of the files by name, without those that cannot be read."""
    names = list(_FILES)
    if btf:
        names += [f"{DIRECTORY}/{name}" for name in root.names(DIRECTORY)]
    for module in root.names("sys/module"):
        for directory in _MODULE_DIRECTORIES:
            inside = f"sys/module/{module}/{directory}"
            names += [f"{inside}/{name}" for name in root.names(inside)]
        names += [f"sys/module/{module}/{name}" for name in _MODULE_FILES]
    contents = ((name, root.read(name, _MOST.get(name, LARGE))) for name in names)
    return {name: data for name, data in contents if data is not None}


def _archive(files: dict[str, bytes], root: Root) -> bytes:
    """Return ``files`` as a gzipped tar, whose members have the time of saving as mtime."""
    saved = int(time.time()) if root.live else root.saved or 0  # 0 if the time is not known
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), COLLECTED, saved
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
