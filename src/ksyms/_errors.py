"""The tree of errors.

::

    KsymsError                  errno
    ├── HiddenError             EPERM    the kernel shows this process no addresses
    ├── SourceError             as read  a file with symbols cannot be read
    ├── KallsymsError           EINVAL   text that is not whole, well-formed kallsyms
    ├── MovedError              ENXIO    the symbols moved during every try
    ├── LayoutError             EOVERFLOW  more than the layout can express
    ├── ImageError              ENOEXEC  a file that is not an ELF image ksyms can read
    │   └── NoteError           ENOEXEC  a ``.note.ksyms`` of another version, or not whole
    ├── DecodeError             EINVAL   a text that is of another kernel than the file
    ├── OutputError             as written  the image cannot be written to the given path
    ├── DeviceError             as the driver's  a call on the device is refused
    └── ServeError              the system's  the device cannot be served, or is not
"""

from __future__ import annotations

import errno as _errno
import os

from ._printable import printable


class KsymsError(Exception):
    """The error that every ksyms call raises when it cannot do its work.

    ``errno`` is what the driver's call would return. ``what`` is one sentence on what is wrong,
    ``remedy`` is one on what to do about it. Both are for people: characters that a terminal
    would obey are escaped (:func:`~ksyms._printable.printable`). Bytes of a path that are not
    UTF-8 are kept as :func:`os.fsdecode` converts them.
    """

    errno: int = _errno.EIO

    def __init__(self, what: str, remedy: str, *, errno: int | None = None) -> None:
        self.what = printable(what, stray=False)
        self.remedy = printable(remedy, stray=False)
        super().__init__(f"{self.what} {self.remedy}")
        if errno is not None:
            self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        """Return what pickle and copy need to make the error again, with all attributes."""
        return _made, (type(self), self.args), self.__dict__


def _made(kind: type[KsymsError], args: tuple[object, ...]) -> KsymsError:
    """Return an error of ``kind`` with ``args``; pickle sets its attributes afterwards.

    ``__init__`` is not called, since its arguments are not ``args``.
    """
    return kind.__new__(kind, *args)


class HiddenError(KsymsError):
    """The kernel shows this process no addresses (kptr_restrict, CAP_SYSLOG)."""

    errno = _errno.EPERM


class SourceError(KsymsError):
    """A file with symbols is missing or cannot be read."""

    errno = _errno.ENOENT


class KallsymsError(KsymsError):
    """Text that is not kallsyms, or is not whole."""

    errno = _errno.EINVAL


class MovedError(KsymsError):
    """The kernel's symbols moved during every try (the driver's ENXIO)."""

    errno = _errno.ENXIO


class LayoutError(KsymsError):
    """The linker files hold more than the layout's fields can express."""

    errno = _errno.EOVERFLOW


class ImageError(KsymsError):
    """A file that is not an ELF image, or has a field that is wrong."""

    errno = _errno.ENOEXEC


class NoteError(ImageError):
    """A ``.note.ksyms`` of a version that this ksyms does not know, or one not whole."""


class DecodeError(KsymsError):
    """A text that is of another kernel than the file with which it is decoded."""

    errno = _errno.EINVAL


class OutputError(KsymsError):
    """The image cannot be written to the given path."""

    errno = _errno.EIO


class DeviceError(KsymsError):
    """A call on the device is refused; ``errno`` is what the driver's call returns."""


class ServeError(KsymsError):
    """The device cannot be served at the given path, or is not served there."""


def unreadable(path: str, error: OSError | ValueError, remedy: str) -> SourceError:
    """Return the error for a file with symbols that cannot be read, with the system's errno."""
    return SourceError(
        f"{path} cannot be read: {reason(error)}.",
        remedy,
        errno=getattr(error, "errno", None),
    )


def os_error(number: int) -> OSError:
    """Return an OSError with the errno ``number`` and the system's words for it."""
    return OSError(number, os.strerror(number))


def lacks_room(error: OSError) -> bool:
    """Return True if this process or the machine can have no more open files."""
    return error.errno in (_errno.EMFILE, _errno.ENFILE, _errno.ENOMEM)


def reason(error: OSError | ValueError) -> str:
    """Return the system's words for ``error``, without its path and number.

    For a ValueError, which Python raises for a NUL in a path, they are its message.
    """
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)
