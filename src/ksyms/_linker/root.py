"""What a kernel's files are read from: ``/``, a saved copy of it, or an archive of one."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable

from .._compressed import (
    LARGEST,
    compression,
    contents,
    is_running,
    is_stream,
    read_stream,
    unpacked,
)
from .._errors import SourceError, reason
from .._typing import TYPE_CHECKING, Final
from .bulk import BulkReader

if TYPE_CHECKING:
    import tarfile

_KALLSYMS: Final = "proc/kallsyms"
COLLECTED: Final = 0o400
"""The mode of what ``ksyms collect`` stores, proc/kallsyms first, with the time of doing so."""


class Root:
    """A root of files, and a memory of what it did not have.

    ``path`` is a directory, or a tar archive that has ``proc/kallsyms`` somewhere in it;
    ``kallsyms`` is a kallsyms text given by itself, in which case there is no root and
    everything else is absent. ``absent`` maps the name of each file that was asked for and
    could not be read to the reason, in words. ``data`` is what the text or the archive has,
    where it has been read already; else what comes through a pipe is read here, once.

    Raises:
        SourceError: ``path`` is neither a directory nor such an archive.
    """

    def __init__(
        self, path: str, kallsyms: str | None = None, data: bytes | None = None
    ) -> None:
        self.path = path
        self.kallsyms = os.path.join(path, _KALLSYMS) if kallsyms is None else kallsyms
        self.alone = kallsyms is not None
        self.absent: dict[str, str] = {}
        self._archive: dict[str, bytes] | None = None
        self._kept: dict[str, bytes | None] = {}
        self.live = kallsyms is None and os.path.realpath(path) == "/"
        """Whether this is the running kernel."""
        self.prints = self.live or (self.alone and is_running(self.kallsyms))
        """Whether the running kernel prints the text."""
        self.saved: int | None = None
        """When ``ksyms collect`` saved the files, in seconds since 1970; None if not known."""
        self._text = data
        """A text that cannot be read again."""
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
        self._archive, self.saved = _unpacked(path, data)

    def open_kallsyms(self) -> io.BufferedIOBase:
        """The text of kallsyms, to be read to its end and closed.

        Raises:
            SourceError: there is none, or it cannot be opened.
        """
        if self._archive is not None:
            return io.BytesIO(self._archive[_KALLSYMS])
        try:
            if self._text is not None:
                return io.BytesIO(self._text)
            if self.alone and _is_packed(self.kallsyms):
                return io.BytesIO(contents(self.kallsyms))
            return BulkReader(self.kallsyms)
        except (OSError, ValueError) as error:
            raise unreadable(self.kallsyms, error) from None

    def keep(self, names: Iterable[str]) -> None:
        """Read what will be asked for, each once, and does not change, while there is time."""
        self._kept.clear()
        self._kept.update((name, self.read(name)) for name in names)

    def read(self, name: str) -> bytes | None:
        """The bytes of ``name``, such as ``proc/iomem``; None, and a reason kept, where not."""
        if name in self._kept:
            return self._kept.pop(name)
        if self.alone:
            self.absent[name] = "only a kallsyms text was given"
            return None
        if self._archive is not None:
            data = self._archive.get(name)
            if data is None:
                self.absent[name] = "it is not in the archive"
            return data
        try:
            fd = os.open(self.name_of(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read_all(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self.missed(name, error)
            return None

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
            inside = f"{directory}/"
            below = (n[len(inside) :] for n in self._archive if n.startswith(inside))
            return sorted({name.split("/")[0] for name in below})
        try:
            return sorted(os.listdir(self.name_of(directory)))
        except OSError as error:
            self.missed(directory, error)
            return []

    def inode(self, name: str) -> int | None:
        """The inode number of ``name``, another for each instance of it in sysfs."""
        try:
            return os.stat(self.name_of(name)).st_ino
        except OSError:
            return None

    def missed(self, name: str, error: OSError) -> None:
        """Remember that ``name`` could not be had, and why."""
        self.absent[name] = reason(error)

    def name_of(self, name: str) -> str:
        """Where ``name`` lies, and what errors call it."""
        return os.path.join(self.path, name)


def _is_packed(path: str) -> bool:
    if not os.path.isfile(path):
        return False  # a pipe's bytes can be read once
    with open(path, "rb") as file:
        return compression(file.read(6)) is not None


def unreadable(path: str, error: OSError | ValueError) -> SourceError:
    """The error for a text of symbols that cannot be read."""
    return SourceError(
        f"{path} cannot be read: {reason(error)}.",
        "Mount /proc, or name a saved copy with --root or --kallsyms.",
        errno=getattr(error, "errno", None),
    )


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _opened(path: str, data: bytes | None) -> tarfile.TarFile:
    import tarfile

    if data is not None:
        plain = unpacked(data) if compression(data[:6]) == "zstd" else data
        return tarfile.open(fileobj=io.BytesIO(plain))
    with open(path, "rb") as file:
        packed = compression(file.read(6))
    if packed == "zstd":  # which tarfile knows from Python 3.14 on
        return tarfile.open(fileobj=io.BytesIO(contents(path)))
    return tarfile.open(path)


def _unpacked(path: str, data: bytes | None) -> tuple[dict[str, bytes], int | None]:
    """The files of an archive, by their names below what holds ``proc/kallsyms``.

    ``data`` is what the archive at ``path`` has, where it has been read. Gives too when they
    were saved, in seconds since 1970; None where ``ksyms collect`` did not write the archive.
    """
    import lzma
    import tarfile

    files: dict[str, bytes] = {}
    left, saved = LARGEST, None
    try:
        with _opened(path, data) as archive:
            for member in archive:
                left -= member.size
                if not files and (member.name, member.mode) == (_KALLSYMS, COLLECTED):
                    saved = int(member.mtime) or None
                if left < 0:
                    raise tarfile.TarError(f"it is larger than {LARGEST >> 20} MiB unpacked")
                content = archive.extractfile(member)
                if content is not None:
                    files[os.path.normpath(member.name)] = content.read()
            # To the end of what it is compressed in, where the checksum is.
            while archive.fileobj is not None and archive.fileobj.read(1 << 16):
                pass
    except (
        *(tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError),
    ) as error:
        why = str(error).splitlines()[0].rstrip(":.")
        raise SourceError(
            f"{path} is no archive that can be read: {why}.",
            "Name an archive that ksyms collect wrote, or copy it again.",
        ) from None
    above = [n[: -len(_KALLSYMS)] for n in files if f"/{n}".endswith(f"/{_KALLSYMS}")]
    if len(above) != 1:
        raise SourceError(
            f"{path} has {len(above) or 'no'} {_KALLSYMS}, and it should have one.",
            "Name an archive that ksyms collect wrote.",
        )
    kept = {n[len(above[0]) :]: data for n, data in files.items() if n.startswith(above[0])}
    return kept, saved
