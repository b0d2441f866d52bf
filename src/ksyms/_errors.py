"""The one tree of errors.

::

    KsymsError                  errno
    ├── HiddenError             EPERM    the kernel shows this process no addresses
    ├── SourceError             as read  a file that symbols come from cannot be read
    ├── KallsymsError           EINVAL   text that is not whole, well-formed kallsyms
    ├── MovedError              ENXIO    the symbols moved during every try
    ├── LayoutError             EOVERFLOW  more than the layout can say
    ├── ImageError              ENOEXEC  a file that is not an ELF image ksyms can read
    │   └── NoteError           ENOEXEC  a ``.note.ksyms`` of another version, or not whole
    ├── DecodeError             EINVAL   a text that is of another kernel than the file
    ├── OutputError             as written  the image cannot be written where it was asked to
    ├── DeviceError             as the driver's  a call on the device is refused
    └── ServeError              the system's  the device cannot be served, or is not
"""

from __future__ import annotations

import errno as _errno
import os

from ._printable import printable


class KsymsError(Exception):
    """What every ksyms call raises when it cannot do what it was asked.

    ``errno`` is what the driver's call would return; ``what`` is one sentence on
    what is wrong, ``remedy`` one on what to do about it. Both are for people: of names in
    them what a terminal would obey is escaped (:func:`~ksyms._printable.printable`). Bytes of
    a path that are no UTF-8 stay, as :func:`os.fsdecode` has them.
    """

    errno: int = _errno.EIO

    def __init__(self, what: str, remedy: str, *, errno: int | None = None) -> None:
        self.what = printable(what, stray=False)
        self.remedy = printable(remedy, stray=False)
        super().__init__(f"{self.what} {self.remedy}")
        if errno is not None:
            self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        """How pickle and copy make it again, with all its attributes and notes."""
        return _made, (type(self), self.args), self.__dict__


def _made(kind: type[KsymsError], args: tuple[object, ...]) -> KsymsError:
    """An error of ``kind`` with ``args``; what ``__init__`` sets is in its attributes."""
    return kind.__new__(kind, *args)


class HiddenError(KsymsError):
    """The kernel shows this process no addresses (kptr_restrict, CAP_SYSLOG)."""

    errno = _errno.EPERM


class SourceError(KsymsError):
    """A file that symbols come from is missing or cannot be read."""

    errno = _errno.ENOENT


class KallsymsError(KsymsError):
    """Text that is not kallsyms, or is not whole."""

    errno = _errno.EINVAL


class MovedError(KsymsError):
    """The kernel's symbols moved during every try (the driver's ENXIO)."""

    errno = _errno.ENXIO


class LayoutError(KsymsError):
    """The linker files hold more than the layout's fields can say."""

    errno = _errno.EOVERFLOW


class ImageError(KsymsError):
    """A file that is not an ELF image, or one with a field that is wrong."""

    errno = _errno.ENOEXEC


class NoteError(ImageError):
    """A ``.note.ksyms`` of a version this ksyms does not know, or not whole."""


class DecodeError(KsymsError):
    """A text that is of another kernel than the file it is to be decoded with."""

    errno = _errno.EINVAL


class OutputError(KsymsError):
    """The image cannot be written where it was asked to."""

    errno = _errno.EIO


class DeviceError(KsymsError):
    """A call on the device is refused; ``errno`` is what the driver's call returns."""


class ServeError(KsymsError):
    """The device cannot be served where it was asked to, or is not served there."""


def lacks_room(error: OSError) -> bool:
    """Whether it is this process, or the machine, that has no room for another open file."""
    return error.errno in (_errno.EMFILE, _errno.ENFILE, _errno.ENOMEM)


def reason(error: OSError | ValueError) -> str:
    """The system's own words for ``error``, without its path or number.

    A ValueError, Python's for a NUL in a path, has words of its own.
    """
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)
