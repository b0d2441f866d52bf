"""The files of a tar archive, read once into memory, within limits, and never unpacked to disk.

Python's tarfile is not used: it reads headers of any length into memory, and its regular
expressions take a second for a pax header of 64 KB that matches them badly (CVE-2024-6232). So
the few fields that are needed are read here. The formats are described in POSIX.1-2017, pax,
"ustar Interchange Format" and "pax Header Block", and in GNU tar's manual, "Basic Tar Format",
for long names, numbers in base 256 and sparse files.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from .._compressed import most_of
from .._paths import LINKS
from .._typing import Final, NamedTuple

_KALLSYMS: Final = "proc/kallsyms"
COLLECTED: Final = 0o400
"""The mode of the members that ``ksyms collect`` stores.

It stores proc/kallsyms first, and the time at which it ran as the member's mtime.
"""
_BLOCK: Final = 512
_HEADER: Final = 1 << 20
"""The most bytes of the headers before one member: pax records and long names."""
_PATH: Final = 4096  # PATH_MAX: a file with a longer name could not be asked for
_STEPS: Final = 256
"""The most names in a path, including those of the symbolic links that it goes through."""
_MEMBER: Final = 512
"""Bytes that a member counts towards the limit, besides its name and its contents."""
_HEADER_WEIGHT: Final = 16
"""The factor by which the headers before a member count towards the limit.

They take longer to read than contents of the same size.
"""
_YEAR_10000: Final = 253_402_300_800  # seconds since 1970: the end of times in ISO 8601
_ZEROS: Final = bytes(_BLOCK)

_REGULAR: Final = b"0\x007"  # 7: contiguous files, which are read as regular ones
_HARD, _SYMBOLIC, _DIRECTORY = b"1", b"2", b"5"
_EMPTY: Final = b"123456"  # links, devices, directories and FIFOs have no contents
_SPARSE: Final = b"S"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX, _PAX_GLOBAL = b"xX", b"g"
_BEFORE_A_MEMBER: Final = _LONG_NAME + _LONG_LINK + _PAX + _PAX_GLOBAL
_KEYS: Final = (b"path", b"linkpath", b"size")
_SPARSE_KEYS: Final = b"GNU.sparse."


class _Link(NamedTuple):
    """A symbolic link."""

    target: str


_Entry = bytes | _Link


class Archive:
    """The files of a machine in a tar archive.

    Their names are relative to the directory in the archive that holds ``proc/kallsyms``. For
    example, if an archive has ``copy/proc/kallsyms``, its ``copy/proc/iomem`` is
    ``proc/iomem`` here.

    Args:
        pieces: the decompressed archive.
        size: the size of the compressed archive in bytes, from which
            :func:`~.._compressed.most_of` derives the limit for the contents.

    Raises:
        ValueError: it is not a tar archive, is cut short, is larger than a limit, or does not
            have exactly one ``proc/kallsyms``.
    """

    def __init__(self, pieces: Iterable[bytes], size: int) -> None:
        reader = _ArchiveReader(pieces, size)
        found = reader.entries()
        self.saved: int | None = reader.saved
        """The time at which ``ksyms collect`` saved it, in seconds since 1970.

        None if another program made the archive.
        """

        # The directories that hold a proc/kallsyms, each with a slash at its end.
        above = [n[: -len(_KALLSYMS)] for n in found if f"/{n}".endswith(f"/{_KALLSYMS}")]
        if len(above) != 1:
            raise ValueError(f"it has {len(above) or 'no'} {_KALLSYMS}, and it should have one")
        start = len(above[0])
        self._entries: dict[str, _Entry] = {
            n[start:]: e for n, e in found.items() if n.startswith(above[0])
        }
        self._names = sorted(self._entries)
        if self.read(_KALLSYMS) is None:
            raise ValueError(f"its {_KALLSYMS} is a link that leads to no file in it")

    @classmethod
    def of(cls, files: dict[str, bytes]) -> Archive:
        """Return an archive of just these ``files``, which are given by name."""
        made = cls.__new__(cls)
        made.saved, made._entries, made._names = None, dict(files), sorted(files)
        return made

    def read(self, name: str) -> bytes | None:
        """Return the contents of the file ``name``.

        None if there is no such file, or if a symbolic link on the path leads to no file.
        """
        found = self._entries.get(self._resolved(name) or "")
        return found if isinstance(found, bytes) else None

    def names(self, directory: str) -> list[str]:
        """Return the sorted names of the entries of ``directory``, if it exists."""
        resolved = self._resolved(directory)
        if resolved is None:
            return []
        inside, found = f"{resolved}/", dict[str, None]()
        for at in range(bisect_left(self._names, inside), len(self._names)):
            if not self._names[at].startswith(inside):
                break
            found[self._names[at][len(inside) :].partition("/")[0]] = None
        return sorted(found)

    def _resolved(self, name: str) -> str | None:
        """Return the path ``name`` with symbolic links resolved; it never leaves the archive.

        None if there are too many links or names in it. If ``a/b`` is a link to ``../c``::

            a/b/d  ->  c/d
        """
        left = _steps(name)
        path: list[str] = []
        links = 0
        for _ in range(_STEPS):
            if not left:
                return "/".join(path)
            step = left.pop()
            if step == "..":
                del path[-1:]
                continue
            path.append(step)
            entry = self._entries.get("/".join(path))
            if isinstance(entry, _Link):
                links += 1
                if links > LINKS:
                    return None
                path.pop()
                if entry.target.startswith("/"):
                    path.clear()
                left += _steps(entry.target)
        return None


def _steps(path: str) -> list[str]:
    """Return the names in ``path`` in reverse order: ``b`` and ``a`` for ``a/./b``."""
    return [step for step in reversed(path.split("/")) if step not in ("", ".")]


class _MemberHeaders(NamedTuple):
    """The facts about a member in the headers before its own: pax records, GNU long names."""

    records: dict[bytes, bytes]
    name: bytes | None = None
    link: bytes | None = None


class _ArchiveReader:
    """Reads an archive from start to end, once.

    ``saved`` is as in :class:`Archive`, and set by :meth:`entries`.
    """

    def __init__(self, pieces: Iterable[bytes], size: int) -> None:
        self.saved: int | None = None
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._limit = self._left = most_of(size)
        self._global: dict[bytes, bytes] = {}

    def entries(self) -> dict[str, _Entry]:
        """Return the files and symbolic links by name; of several with one name, the last.

        A hard link shares the bytes object of the earlier file that it names.
        """
        found: dict[str, _Entry] = {}
        first = True
        for header, before in self._members():
            name = _path(_name(header, before))
            entry = self._entry(header, before, found)
            if first and name == _KALLSYMS:
                self.saved = _saved(header)
            first = False

            if len(name) > _PATH or not name:
                continue
            found.pop(name, None)
            if entry is not None:
                self._keep(len(name))
                found[name] = entry
        return found

    def _members(self) -> Iterator[tuple[bytes, _MemberHeaders]]:
        """Yield each member's own header, and the facts from the headers before it.

        The caller must read the member's contents before it takes the next member.
        """
        before, room = _MemberHeaders(self._global), _HEADER
        while True:
            header = self._read(_BLOCK)
            if header == _ZEROS:
                for _ in self._pieces:  # to the end, where the compressed file has a checksum
                    pass
                return

            _check(header)
            self._keep(_MEMBER)
            kind, size = header[156:157], _number(header[124:136])
            if kind not in _BEFORE_A_MEMBER:
                yield header, before
                before, room = _MemberHeaders(self._global), _HEADER
                continue

            room -= _BLOCK + size
            if room < 0:
                raise ValueError(f"a member's headers have more than {_HEADER >> 20} MiB")
            self._keep(_HEADER_WEIGHT * size)

            text = self._contents(size)
            if kind == _LONG_NAME:
                before = before._replace(name=_text(text))
            elif kind == _LONG_LINK:
                before = before._replace(link=_text(text))
            elif kind == _PAX_GLOBAL:
                self._global = {**self._global, **_records(text)}
                before = before._replace(records={**self._global, **before.records})
            else:
                before = before._replace(records={**before.records, **_records(text)})

    def _entry(
        self, header: bytes, before: _MemberHeaders, found: dict[str, _Entry]
    ) -> _Entry | None:
        """Read a member; return None if it is neither a file nor a link.

        Args:
            header: the member's own header.
            before: the facts from the headers before it.
            found: the earlier members by name, one of which a hard link names.
        """
        kind = header[156:157]
        link = before.link or before.records.get(b"linkpath") or _text(header[157:257])
        if kind in _EMPTY:
            if kind == _HARD:
                return found.get(_path(link))
            return _linked(link) if kind == _SYMBOLIC else None

        size = _number(header[124:136])
        if b"size" in before.records:
            size = _decimal(before.records[b"size"])
        name = _name(header, before)
        sparse = kind == _SPARSE or _SPARSE_KEYS in before.records

        if kind == _SPARSE and header[482]:
            while self._read(_BLOCK)[504]:  # another block of the sparse map follows
                pass
        # In archives older than POSIX, a name that ends in a slash is a directory's.
        if sparse or kind not in _REGULAR or name.endswith(b"/"):
            self._skip(size)
            return None
        self._keep(size)
        return self._contents(size)

    def _keep(self, size: int) -> None:
        """Count ``size`` bytes towards the limit.

        Raises:
            ValueError: the limit is exceeded.
        """
        self._left -= size
        if self._left < 0:
            raise ValueError(f"it is larger than {self._limit >> 20} MiB unpacked")

    def _contents(self, size: int) -> bytes:
        """Return the next ``size`` bytes, and skip the rest of their last block."""
        data = self._read(size)
        self._read(-size % _BLOCK)
        return data

    def _skip(self, size: int) -> None:
        """Skip contents of ``size`` bytes, in whole blocks."""
        left = size + -size % _BLOCK
        while left:
            left -= len(self._read(min(left, 1 << 20)))

    def _read(self, size: int) -> bytes:
        """Return the next ``size`` bytes.

        Raises:
            ValueError: the archive has fewer.
        """
        found = io.BytesIO()  # getvalue() returns its bytes without another copy
        while size:
            if not len(self._piece):
                self._piece = memoryview(next(self._pieces, b""))
                if not len(self._piece):
                    raise ValueError("it ends before the archive in it does")
            part = self._piece[:size]
            found.write(part)
            self._piece = self._piece[len(part) :]
            size -= len(part)
        return found.getvalue()


def _check(header: bytes) -> None:
    """Check the checksum of a header.

    It is the sum of the header's bytes, with spaces in place of the checksum's own 8 bytes.
    Some old programs took the bytes as signed, so that sum is accepted too.

    Raises:
        ValueError: the checksum is neither of the two sums.
    """
    stored = _number(header[148:156])
    text = header[:148] + b" " * 8 + header[156:]
    total = sum(text)
    if stored != total and stored != total - 256 * sum(byte > 127 for byte in text):
        raise ValueError("a header of the archive in it is damaged")


def _number(field: bytes) -> int:
    """Parse a number of a header: octal digits, or base 256 for large numbers (GNU).

    ``0000644`` is 0o644. If the first byte is 0x80, the others are a big-endian number.

    Raises:
        ValueError: the field is not a number.
    """
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    text = field.partition(b"\0")[0].strip(b" ")
    if text.translate(None, b"01234567"):
        raise ValueError("a header of the archive in it has a field that is not a number")
    return int(text or b"0", 8)


def _decimal(text: bytes) -> int:
    """Parse a decimal number of at most 20 digits.

    Raises:
        ValueError: ``text`` is not such a number.
    """
    if not text.isdigit() or len(text) > 20:
        raise ValueError("a header of the archive in it has a field that is not a number")
    return int(text)


def _records(text: bytes) -> dict[bytes, bytes]:
    r"""Return the records of a pax header that are used here, by keyword.

    Each record is its own length in decimal, a space, a keyword, ``=``, the value and a
    newline, for example ``21 path=proc/modules\n``.

    Raises:
        ValueError: a record is damaged.
    """
    found = {}
    at = 0
    while at < len(text):
        digits = text[at : at + 8].partition(b" ")[0]
        end = at + _decimal(digits)
        key, equals, value = text[at + len(digits) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(text):
            raise ValueError("a pax header of the archive in it is damaged")

        if key.startswith(_SPARSE_KEYS):
            found[_SPARSE_KEYS] = b""
        elif key in _KEYS:
            found[key] = value[:-1]
        at = end
    return found


def _name(header: bytes, before: _MemberHeaders) -> bytes:
    """Return a member's name: GNU's long name, or else that of pax, or else the header's own.

    In a POSIX header the own name is its ``prefix`` field, a slash and its ``name`` field.
    """
    if name := before.name or before.records.get(b"path"):
        return name
    name, prefix = _text(header[:100]), _text(header[345:500])
    # GNU headers have times in place of the prefix, and another magic.
    return prefix + b"/" + name if header[257:263] == b"ustar\0" and prefix else name


def _text(field: bytes) -> bytes:
    """Return ``field`` up to its first NUL."""
    return field.partition(b"\0")[0]


def _saved(header: bytes) -> int | None:
    """Return the mtime in the first member's ``header``, if ``ksyms collect`` stored it."""
    try:
        mode, time = _number(header[100:108]), _number(header[136:148])
    except ValueError:  # before 1970
        return None
    return time if mode == COLLECTED and 0 < time < _YEAR_10000 else None


def _path(name: bytes) -> str:
    """Return a member's name as a normalized path, without slashes at its start."""
    return os.path.normpath(os.fsdecode(name)).lstrip("/") if name else ""


def _linked(target: bytes) -> _Link | None:
    """Return a symbolic link to ``target``; None if that is too long for a path."""
    return _Link(os.fsdecode(target)) if len(target) <= _PATH else None
