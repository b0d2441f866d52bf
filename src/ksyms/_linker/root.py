"""The root, from which all files of a kernel are read: ``/``, a saved copy, or an archive."""

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
from .._errors import SourceError, os_error, reason, unreadable
from .._note.facts import NO_MODULES
from .._typing import TYPE_CHECKING, Final
from .fread import FreadReader

if TYPE_CHECKING:
    from .archive import Archive

_KALLSYMS: Final = "proc/kallsyms"
SMALL: Final = 8 << 20
"""The most bytes of most files; /proc/modules and /proc/iomem have a tenth of that."""
LARGE: Final = 64 << 20
"""The most bytes of a System.map and of BTF; those of a kernel have a tenth of that."""


class Root:
    """The files of a kernel, and the reasons why some could not be read.

    ``absent`` has, by name, the reason for each file that could not be read, in words. A saved
    copy is not trusted: symbolic links that lead out of it are not followed
    (:mod:`~.._beneath`), and only regular files are opened.

    Args:
        path: a directory, or a tar archive with one ``proc/kallsyms`` somewhere in it.
        kallsyms: the path of a kallsyms text alone; then ``path`` is not read, and all other
            files are absent.
        data: the contents of the text or the archive, if they have been read already. An
            archive that comes through a pipe is read here, once.
        files: the files that were made from a kernel image at ``path``, by name
            (:mod:`~.._images`).

    Raises:
        SourceError: ``path`` is neither a directory nor such an archive.
    """

    def __init__(
        self,
        path: str,
        kallsyms: str | None = None,
        data: bytes | None = None,
        files: dict[str, bytes] | None = None,
    ) -> None:
        self.path = path
        self.kallsyms = os.path.join(path, _KALLSYMS) if kallsyms is None else kallsyms
        self.alone = kallsyms is not None
        self.absent: dict[str, str] = {}
        self._archive: Archive | None = None
        self._kept: dict[str, bytes | None] = {}
        self.live = kallsyms is None and os.path.realpath(path) == "/"
        """True if the root is that of the running kernel."""
        self.prints = self.live or (self.alone and is_running(self.kallsyms))
        """True if the running kernel prints the text, also if only the text was given."""
        self.saved: int | None = None
        """The time at which ``ksyms collect`` ran, in seconds since 1970, if known."""
        self.linked = files is not None
        """True if the addresses are link addresses, as in a kernel image."""
        self._text: bytes | None = None
        """The contents of the text, if they have been read already."""

        if files is not None:
            self._archive = _image(files)
            return
        self._text = data
        if self.alone or os.path.isdir(path):
            return

        if data is None and os.path.exists(path) and is_stream(path):
            try:
                data = read_stream(path)
            except (OSError, ValueError) as error:
                raise unreadable_text(path, error) from None
        elif data is None and not os.path.isfile(path):
            raise SourceError(
                f"{path} is neither a directory nor an archive.",
                "Name the directory, or the archive, that holds proc/kallsyms and the rest.",
            )
        self._archive, self._text = _read_archive(path, data), None
        self.saved = self._archive.saved

    def open_kallsyms(self) -> io.BufferedIOBase:
        """Open the text of kallsyms, to be read to its end and closed.

        Raises:
            SourceError: there is no such file, or it cannot be opened.
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
            raise unreadable_text(self.kallsyms, error) from None

    def keep(self, names: Iterable[str]) -> None:
        """Read the files ``names`` ahead, each for the next call of :meth:`read`.

        This is for files that do not change.
        """
        self._kept.clear()
        self._kept.update((name, self.read(name)) for name in names)

    def read(self, name: str, most: int = SMALL) -> bytes | None:
        """Return the contents of the file ``name``, such as ``proc/iomem``.

        None if it cannot be read or has more than ``most`` bytes; then ``absent`` has the
        reason.
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
        """Return the reason why the archive, or the image, does not have the file ``name``."""
        if not self.linked:
            return "it is not in the archive"
        return NO_MODULES if name == "proc/modules" else "it is not in the image"

    def open(self, name: str) -> int:
        """Open the file ``name`` for reading; return its descriptor.

        Raises:
            OSError: there is no such file, it cannot be opened, or the root is no directory.
            ValueError: in a saved copy, it is not a regular file.
        """
        if self._archive is not None or self.alone:
            raise os_error(errno.ENOENT)
        if self.live:
            return os.open(self.name_of(name), os.O_RDONLY | os.O_CLOEXEC)
        return _beneath.open_regular(self.path, name)

    def text(self, name: str) -> str | None:
        """Return the contents of the file ``name`` as text, without white space around it."""
        data = self.read(name)
        return None if data is None else data.decode("utf-8", "replace").strip()

    def fact(self, name: str) -> str | None:
        """Return the contents of an optional file as text; do not record it in ``absent``."""
        known = name in self.absent
        text = self.text(name)
        if not known:
            self.absent.pop(name, None)
        return text

    def names(self, directory: str) -> list[str]:
        """Return the sorted names of the entries of ``directory``.

        Empty if it cannot be read; then ``absent`` has the reason.
        """
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
        """Return the inode number of ``name``.

        In sysfs a module that is loaded again has another one. None if there is no such file,
        or if the root is not that of the running kernel, since then nothing changes.
        """
        if not self.live:
            return None
        try:
            return os.stat(self.name_of(name)).st_ino
        except OSError:
            return None

    def missed(self, name: str, error: OSError | ValueError) -> None:
        """Record in ``absent`` that ``name`` could not be read, and the reason."""
        self.absent[name] = reason(error)

    def name_of(self, name: str) -> str:
        """Return the path of the file ``name``, as it is shown in errors too."""
        return os.path.join(self.path, name)


def unreadable_text(path: str, error: OSError | ValueError) -> SourceError:
    """Return the error for a kallsyms text that cannot be read."""
    remedy = "Mount /proc, or name a saved copy with --root or --kallsyms."
    return unreadable(path, error, remedy)


def _read_all(fd: int, most: int) -> bytes:
    """Return at most ``most`` + 1 bytes of an open file, and close it.

    The one byte more shows the caller that the file is too large.
    """
    with open(fd, "rb", buffering=0) as file:
        parts, left = list[bytes](), most + 1
        while left > 0 and (part := file.read(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _image(files: dict[str, bytes]) -> Archive:
    """Return an archive of the files of a kernel image."""
    from .archive import Archive

    return Archive.of(files)


def _read_archive(path: str, data: bytes | None) -> Archive:
    """Return the archive at ``path``; ``data`` has its bytes if they have been read."""
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
