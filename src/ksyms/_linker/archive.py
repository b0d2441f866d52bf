"""A tar archive as a tree of files that is read once, within limits, and never unpacked.

tarfile reads headers of any length into memory, and takes a second for a pax header of 64 KB
that matches its expressions badly (CVE-2024-6232), so the few fields that are needed are read
here: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar's manual,
"Basic Tar Format", for long names, numbers of 256 and sparse files.
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
"""The mode of what ``ksyms collect`` stores, proc/kallsyms first, with the time of doing so."""
_BLOCK: Final = 512
_HEADER: Final = 1 << 20
"""Bytes that what is told of one member may have: its headers, its long names."""
_PATH: Final = 4096  # PATH_MAX: what has a longer name is no file that could be asked for
_STEPS: Final = 256
"""Names that a path may have with those of the links on it."""
_MEMBER: Final = 512
"""Bytes that a member counts for besides its name and its contents."""
_TOLD: Final = 16
"""Times its size that what is told before a member counts for: that takes longest to read."""
_YEAR_10000: Final = 253_402_300_800  # seconds since 1970: no time in ISO 8601 from here on
_ZEROS: Final = bytes(_BLOCK)

_REGULAR: Final = b"0\x007"  # 7: contiguous files, which nobody has
_HARD, _SYMBOLIC, _DIRECTORY = b"1", b"2", b"5"
_EMPTY: Final = b"123456"  # links, devices, directories and FIFOs have no contents
_SPARSE: Final = b"S"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX, _PAX_GLOBAL = b"xX", b"g"
_TELLING: Final = _LONG_NAME + _LONG_LINK + _PAX + _PAX_GLOBAL
_KEYS: Final = (b"path", b"linkpath", b"size")
_SPARSE_KEYS: Final = b"GNU.sparse."


class _Link(NamedTuple):
    """A symbolic link."""

    target: str


_Entry = bytes | _Link


class Archive:
    """The files of a machine in a tar archive, by their names below what holds proc/kallsyms.

    Args:
        pieces: the archive, unpacked.
        size: how many bytes it has as it lies; :func:`~.._compressed.most_of` says how
            much may be kept of it.

    Raises:
        ValueError: it is none, is cut short, is larger than a limit, or has not one
            ``proc/kallsyms``.
    """

    def __init__(self, pieces: Iterable[bytes], size: int) -> None:
        reader = _Reader(pieces, size)
        found = reader.entries()
        self.saved: int | None = reader.saved
        """When ``ksyms collect`` saved it, in seconds since 1970; None if somebody else did."""
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
        """The archive that has these ``files``, by their names, and no more."""
        made = cls.__new__(cls)
        made.saved, made._entries, made._names = None, dict(files), sorted(files)
        return made

    def read(self, name: str) -> bytes | None:
        """What is in the file ``name``; None where there is none, or links lead nowhere."""
        found = self._entries.get(self._resolved(name) or "")
        return found if isinstance(found, bytes) else None

    def names(self, directory: str) -> list[str]:
        """What lies in ``directory``, sorted; nothing where there is none."""
        place = self._resolved(directory)
        if place is None:
            return []
        inside, found = f"{place}/", dict[str, None]()
        for at in range(bisect_left(self._names, inside), len(self._names)):
            if not self._names[at].startswith(inside):
                break
            found[self._names[at][len(inside) :].partition("/")[0]] = None
        return sorted(found)

    def _resolved(self, name: str) -> str | None:
        """``name`` without symbolic links, which never lead out of the archive."""
        left = _steps(name)
        place: list[str] = []
        links = 0
        for _ in range(_STEPS):
            if not left:
                return "/".join(place)
            step = left.pop()
            if step == "..":
                del place[-1:]
                continue
            place.append(step)
            entry = self._entries.get("/".join(place))
            if isinstance(entry, _Link):
                links += 1
                if links > LINKS:
                    return None
                place.pop()
                if entry.target.startswith("/"):
                    place.clear()
                left += _steps(entry.target)
        return None


def _steps(path: str) -> list[str]:
    """The names in ``path``, the first one last."""
    return [step for step in reversed(path.split("/")) if step not in ("", ".")]


class _Told(NamedTuple):
    """What headers before a member's own tell of it: pax's records, GNU's long names."""

    records: dict[bytes, bytes]
    name: bytes | None = None
    link: bytes | None = None


class _Reader:
    """Reads an archive front to back."""

    def __init__(self, pieces: Iterable[bytes], size: int) -> None:
        self.saved: int | None = None
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._limit = self._left = most_of(size)
        self._global: dict[bytes, bytes] = {}

    def entries(self) -> dict[str, _Entry]:
        """Each file and symbolic link by its name; of several of one name the last.

        A hard link is the file that came before it, not a copy of it.
        """
        found: dict[str, _Entry] = {}
        first = True
        for header, told in self._members():
            name = _path(_name(header, told))
            entry = self._entry(header, told, found)
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

    def _members(self) -> Iterator[tuple[bytes, _Told]]:
        """Each member's own header, and what the ones before it told; contents come next."""
        told, room = _Told(self._global), _HEADER
        while True:
            header = self._read(_BLOCK)
            if header == _ZEROS:
                for _ in self._pieces:  # to the checksum of what it is packed in
                    pass
                return
            _check(header)
            self._keep(_MEMBER)
            kind, size = header[156:157], _number(header[124:136])
            if kind not in _TELLING:
                yield header, told
                told, room = _Told(self._global), _HEADER
                continue
            room -= _BLOCK + size
            if room < 0:
                raise ValueError(f"a member's headers have more than {_HEADER >> 20} MiB")
            self._keep(_TOLD * size)
            text = self._contents(size)
            if kind == _LONG_NAME:
                told = told._replace(name=_text(text))
            elif kind == _LONG_LINK:
                told = told._replace(link=_text(text))
            elif kind == _PAX_GLOBAL:
                self._global = {**self._global, **_records(text)}
                told = told._replace(records={**self._global, **told.records})
            else:
                told = told._replace(records={**told.records, **_records(text)})

    def _entry(self, header: bytes, told: _Told, found: dict[str, _Entry]) -> _Entry | None:
        """The member that ``header`` is of; None where it is neither a file nor a link."""
        kind = header[156:157]
        link = told.link or told.records.get(b"linkpath") or _text(header[157:257])
        if kind in _EMPTY:
            if kind == _HARD:
                return found.get(_path(link))
            return _linked(link) if kind == _SYMBOLIC else None
        size = _number(header[124:136])
        if b"size" in told.records:
            size = _decimal(told.records[b"size"])
        name = _name(header, told)
        sparse = kind == _SPARSE or _SPARSE_KEYS in told.records
        if kind == _SPARSE and header[482]:
            while self._read(_BLOCK)[504]:  # more of its map
                pass
        # What ends in a slash is a directory, in archives older than POSIX.
        if sparse or kind not in _REGULAR or name.endswith(b"/"):
            self._skip(size)
            return None
        self._keep(size)
        return self._contents(size)

    def _keep(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"it is larger than {self._limit >> 20} MiB unpacked")

    def _contents(self, size: int) -> bytes:
        data = self._read(size)
        self._read(-size % _BLOCK)
        return data

    def _skip(self, size: int) -> None:
        left = size + -size % _BLOCK
        while left:
            left -= len(self._read(min(left, 1 << 20)))

    def _read(self, size: int) -> bytes:
        """So many bytes.

        Raises:
            ValueError: there are fewer.
        """
        found = io.BytesIO()  # whose bytes are not copied once more in the end
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
    """Refuse what is no header: its checksum is of its bytes, eight of them as spaces.

    Some old programs added them up as signed.
    """
    told = _number(header[148:156])
    text = header[:148] + b" " * 8 + header[156:]
    total = sum(text)
    if told not in (total, total - 256 * sum(byte > 127 for byte in text)):
        raise ValueError("a header of the archive in it is damaged")


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or where it is too large 256 a byte (GNU)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    text = field.partition(b"\0")[0].strip(b" ")
    if text.translate(None, b"01234567"):
        raise ValueError("a number in a header of the archive in it is none")
    return int(text or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise ValueError("a number in a header of the archive in it is none")
    return int(text)


def _records(text: bytes) -> dict[bytes, bytes]:
    """What is asked of a pax header: length, space, keyword, equals sign, value, line end."""
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


def _name(header: bytes, told: _Told) -> bytes:
    """A member's name: GNU's, pax's, or its own, before which POSIX has some more of it."""
    if name := told.name or told.records.get(b"path"):
        return name
    name, prefix = _text(header[:100]), _text(header[345:500])
    # GNU has times there, and another magic.
    return prefix + b"/" + name if header[257:263] == b"ustar\0" and prefix else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _saved(header: bytes) -> int | None:
    """When ``ksyms collect`` stored its first member, which ``header`` is of."""
    try:
        mode, time = _number(header[100:108]), _number(header[136:148])
    except ValueError:  # before 1970
        return None
    return time if mode == COLLECTED and 0 < time < _YEAR_10000 else None


def _path(name: bytes) -> str:
    return os.path.normpath(os.fsdecode(name)).lstrip("/") if name else ""


def _linked(target: bytes) -> _Link | None:
    return _Link(os.fsdecode(target)) if len(target) <= _PATH else None
