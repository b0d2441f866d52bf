"""Sources that are a kernel's text files: those of /proc, saved ones, or one kallsyms text."""

from __future__ import annotations

import os
import re

from .._compressed import is_running
from .._typing import TYPE_CHECKING, Final
from .input import ANY, KALLSYMS, ROOT
from .kind import SourceKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._linker import Linker
    from .input import Input

_TAR: Final = slice(257, 262)  # POSIX.1, pax, "ustar Interchange Format"
_TEXT: Final = rb"(?:[0-9a-f]{8}(?:[0-9a-f]{8})?| {2}(?: {8})?\(null\)) \S \S+"
"""The start of the first line of a kallsyms or a System.map; Linux 4.15 printed (null)."""


def open_kernel_files(
    root: str = "/",
    kallsyms: str | None = None,
    progress: Callable[[int], None] | None = None,
    debug: tuple[str, ...] | None = (),
    btf: bool = False,
    *,
    data: bytes | None = None,
    files: dict[str, bytes] | None = None,
) -> Linker:
    """Return the source that reads a kernel's text files; it has the arguments of Linker."""
    from .._linker import Linker

    return Linker(root, kallsyms, progress, debug, btf, data, files)


class RunningKernel(SourceKind):
    """The running kernel, named by ``/`` or by any path of its kallsyms."""

    words = "the running kernel"

    def recognise(self, given: Input) -> bool:
        """Return True for ``--root /`` and ``--from /proc/kallsyms``."""
        if given.argument == ROOT:
            return os.path.realpath(given.path) == "/"
        return given.argument == ANY and is_running(given.path)

    def open(self, given: Input) -> Linker:
        """Return the source."""
        path = given.path if given.argument == ROOT else "/"
        return open_kernel_files(path, None, given.progress, given.debug, given.btf)


class SavedRoot(SourceKind):
    """Another machine's saved ``proc`` and ``sys``, in a directory or an archive."""

    words = "a machine's saved files"

    def recognise(self, given: Input) -> bool:
        """Return True for any input of ``--root``, and for a tar."""
        if given.argument == ROOT:
            return True
        return given.argument == ANY and given.plain[_TAR] == b"ustar"

    def open(self, given: Input) -> Linker:
        """Return the source.

        Raises:
            SourceError: the input is neither a directory nor an archive that can be read.
        """
        data = given.once if given.argument == ANY else None
        return open_kernel_files(
            given.path, None, given.progress, given.debug, given.btf, data=data
        )


class KallsymsText(SourceKind):
    """A saved /proc/kallsyms or a System.map by itself."""

    words = "a kallsyms text"

    def recognise(self, given: Input) -> bool:
        """Return True for any input of ``--kallsyms``, and for a file that starts like one."""
        if given.argument == KALLSYMS:
            return True
        return given.argument == ANY and re.match(_TEXT, given.plain) is not None

    def open(self, given: Input) -> Linker:
        """Return the source; BTF is read only with a text that ``--kallsyms`` names."""
        found = given.argument == ANY
        return open_kernel_files(
            "/",
            given.path,
            given.progress,
            given.debug,
            given.btf and not found,
            data=given.once if found else None,
        )
