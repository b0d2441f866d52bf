"""The directory that a kernel's files are read from: ``/``, or a saved copy of them."""

from __future__ import annotations

import os

from .._errors import SourceError, reason


class Root:
    """A root directory, and a memory of what it did not have.

    ``path`` is the directory; ``kallsyms`` a kallsyms text given by itself, in which case
    there is no directory and everything else is absent. ``absent`` maps the name of each
    file that was asked for and could not be read to the reason, in words.
    """

    def __init__(self, path: str, kallsyms: str | None = None) -> None:
        self.path = path
        self.kallsyms = os.path.join(path, "proc/kallsyms") if kallsyms is None else kallsyms
        self.alone = kallsyms is not None
        self.absent: dict[str, str] = {}
        if not self.alone and not os.path.isdir(path):
            raise SourceError(
                f"{path} is not a directory.",
                "Name the directory that holds proc/kallsyms and its companions.",
            )

    @property
    def live(self) -> bool:
        """Whether this is the running kernel."""
        return not self.alone and os.path.realpath(self.path) == "/"

    def read(self, name: str) -> bytes | None:
        """The bytes of ``name``, such as ``proc/iomem``; None, and a reason kept, where not."""
        if self.alone:
            self.absent[name] = "only a kallsyms text was given"
            return None
        try:
            fd = os.open(os.path.join(self.path, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read_all(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self.absent[name] = reason(error)
            return None

    def text(self, name: str) -> str | None:
        """:meth:`read` as text, without the white space around it."""
        data = self.read(name)
        return None if data is None else data.decode("utf-8", "replace").strip()

    def names(self, directory: str) -> list[str]:
        """What lies in ``directory``, sorted; nothing, and a reason kept, where not."""
        if self.alone:
            return []
        try:
            return sorted(os.listdir(os.path.join(self.path, directory)))
        except OSError as error:
            self.absent[directory] = reason(error)
            return []


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)
