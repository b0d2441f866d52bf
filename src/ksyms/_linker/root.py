"""What a kernel's files are read from: ``/``, a saved copy of it, or an archive of one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable

from .. import _beneath
from .._compressed import (
    contents,
    is_packed,
    is_running,
    is_stream,
    open_stream,
    pieces_of,
    read_stream,
)
from .._errors import SourceError, reason
from .._note.facts import NO_MODULES
from .._typing import TYPE_CHECKING, Final
from .fread import FreadReader

if TYPE_CHECKING:
    from .archive import Archive

_KALLSYMS: Final = "proc/kallsyms"
SMALL: Final = 8 << 20
"""Bytes that a file of a root may have; /proc/modules and /proc/iomem have a tenth."""
LARGE: Final = 64 << 20
"""The same of a System.map and of BTF; the kernel's own has a tenth of that too."""


class Root:
    """A root of files, and a memory of what it did not have.

    ``path`` is a directory, or a tar archive that has ``proc/kallsyms`` somewhere in it;
    ``kallsyms`` is a kallsyms text given by itself, in which case there is no root and
    everything else is absent. ``absent`` maps the name of each file that was asked for and
    could not be read to the reason, in words. ``data`` is what the text or the archive has,
    where it has been read already; else what comes through a pipe is read here, once. Or it is
    the files that a kernel's image at ``path`` stands for, by their names (:mod:`~.._images`).

    A saved copy is somebody else's: no link in it leads out of it (:mod:`~.._beneath`), and
    only regular files are opened.

    Raises:
        SourceError: ``path`` is neither a directory nor such an archive.
    """

    def __init__(
        self,
        path: str,
        kallsyms: str | None = None,
        data: bytes | dict[str, bytes] | None = None,
    ) -> None:
        self.path = path
        self.kallsyms = os.path.join(path, _KALLSYMS) if kallsyms is None else kallsyms
        self.alone = kallsyms is not None
        self.absent: dict[str, str] = {}
        self._archive: Archive | None = None
        self._kept: dict[str, bytes | None] = {}
        self.live = kallsyms is None and os.path.realpath(path) == "/"
        """Whether this is the running kernel."""
        self.prints = self.live or (self.alone and is_running(self.kallsyms))
        """Whether the running kernel prints the text."""
        self.saved: int | None = None
        """When ``ksyms collect`` saved the files, in seconds since 1970; None if not known."""
        self.linked = isinstance(data, dict)
        """Whether its addresses are those that the kernel was linked for."""
        self._text: bytes | None = None
        """A text that cannot be read again."""
        if isinstance(data, dict):
            self._archive = _image(data)
            return
        self._text = data
        if self.alone or os.path.isdir(path):
            return
        if data is None and os.path.exists(path) and is_stream(path):
            try:
                data = read_stream(path)
            except (OSError, ValueError) as error:
                raise unreadable(path, error) from None
        elif data is None and not os.path.isfile(path):
            raise SourceError(
                f"{path} is neither a directory nor an archive.",
                "Name the directory, or the archive, that holds proc/kallsyms and the rest.",
            )
        self._archive, self._text = _read_archive(path, data), None
        self.saved = self._archive.saved

    def open_kallsyms(self) -> io.BufferedIOBase:
        """The text of kallsyms, to be read to its end and closed.

        Raises:
            SourceError: there is none, or it cannot be opened.
        """
        if self._archive is not None:
            return io.BytesIO(self._archive.read(_KALLSYMS) or b"")
        try:
            if self._text is not None:
                return io.BytesIO(self._text)
            if not self.alone:
                return FreadReader(self.open(_KALLSYMS))
            if is_packed(self.kallsyms):
                return io.BytesIO(contents(self.kallsyms))
            return FreadReader(open_stream(self.kallsyms))
        except (OSError, ValueError) as error:
            raise unreadable(self.kallsyms, error) from None

    def keep(self, names: Iterable[str]) -> None:
        """Read what will be asked for, each once, and does not change, while there is time."""
        self._kept.clear()
        self._kept.update((name, self.read(name)) for name in names)

    def read(self, name: str, most: int = SMALL) -> bytes | None:
        """The bytes of ``name``, such as ``proc/iomem``; None, and a reason kept, where not.

        One of more than ``most`` bytes is not read.
        """
        if name in self._kept:
            return self._kept.pop(name)
        if self.alone:
            self.absent[name] = "only a kallsyms text was given"
            return None
        try:
            archive = self._archive
            data = archive.read(name) if archive else _read_all(self.open(name), most)
            if data is None:
                self.absent[name] = self._why(name)
            elif len(data) > most:
                raise ValueError(f"it is larger than {most >> 20} MiB")
        except (OSError, ValueError) as error:
            self.missed(name, error)
            return None
        return data

    def _why(self, name: str) -> str:
        """Return why ``name`` is not among the files that were read once."""
        if not self.linked:
            return "it is not in the archive"
        return NO_MODULES if name == "proc/modules" else "it is not in the image"

    def open(self, name: str) -> int:
        """Open the file ``name`` of a directory to be read; gives its descriptor.

        Raises:
            OSError: there is none, or it cannot be opened.
            ValueError: it is no regular file of a saved copy.
        """
        if self._archive is not None or self.alone:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if self.live:
            return os.open(self.name_of(name), os.O_RDONLY | os.O_CLOEXEC)
        return _beneath.open_regular(self.path, name)

    def text(self, name: str) -> str | None:
        """:meth:`read` as text, without the white space around it."""
        data = self.read(name)
        return None if data is None else data.decode("utf-8", "replace").strip()

    def fact(self, name: str) -> str | None:
        """:meth:`text` of a file that not everything has: that it is absent is no news."""
        known = name in self.absent
        text = self.text(name)
        if not known:
            self.absent.pop(name, None)
        return text

    def names(self, directory: str) -> list[str]:
        """What lies in ``directory``, sorted; nothing, and a reason kept, where not."""
        if self.alone:
            return []
        if self._archive is not None:
            return self._archive.names(directory)
        try:
            if self.live:
                return sorted(os.listdir(self.name_of(directory)))
            return sorted(_beneath.names_in(self.path, directory))
        except (OSError, ValueError) as error:
            self.missed(directory, error)
            return []

    def inode(self, name: str) -> int | None:
        """The inode number of ``name``, another for each instance of it in sysfs.

        None of what nobody changes.
        """
        if not self.live:
            return None
        try:
            return os.stat(self.name_of(name)).st_ino
        except OSError:
            return None

    def missed(self, name: str, error: OSError | ValueError) -> None:
        """Remember that ``name`` could not be had, and why."""
        self.absent[name] = reason(error)

    def name_of(self, name: str) -> str:
        """Where ``name`` lies, and what errors call it."""
        return os.path.join(self.path, name)


def unreadable(path: str, error: OSError | ValueError) -> SourceError:
    """The error for a text of symbols that cannot be read."""
    return SourceError(
        f"{path} cannot be read: {reason(error)}.",
        "Mount /proc, or name a saved copy with --root or --kallsyms.",
        errno=getattr(error, "errno", None),
    )


def _read_all(fd: int, most: int) -> bytes:
    """What is in an open file, which is closed, and one byte more than ``most`` at most."""
    with open(fd, "rb", buffering=0) as file:
        parts, left = list[bytes](), most + 1
        while left > 0 and (part := file.read(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _image(files: dict[str, bytes]) -> Archive:
    from .archive import Archive

    return Archive.of(files)


def _read_archive(path: str, data: bytes | None) -> Archive:
    """The archive at ``path``, of which ``data`` is what it has, where it has been read."""
    from .archive import Archive

    try:
        with io.BytesIO(data) if data is not None else open(path, "rb") as file:
            size = len(data) if data is not None else os.fstat(file.fileno()).st_size
            return Archive(pieces_of(file), size)
    except (OSError, ValueError) as error:
        why = reason(error)
        raise SourceError(
            f"{path} is no archive that can be read: {why}.",
            "Name an archive that ksyms collect wrote, or copy it again.",
        ) from None
