"""Files that are whole, or not there at all."""

from __future__ import annotations

import os
import stat

from ._errors import OutputError, reason


def write_whole(path: str, data: memoryview) -> None:
    """Write ``data`` to ``path``; a half-written file never has that name.

    A new file can be read by its owner only: kernel addresses are secrets. A device or a
    pipe is written to as it is.

    Raises:
        OutputError: the place cannot be written to, or is full; nothing is left there.
    """
    try:
        _write(path, data)
    except OSError as error:
        raise OutputError(
            f"{path!r} cannot be written: {reason(error)}.",
            "Name a file in a directory that exists, may be written to and has room "
            f"for {len(data)} bytes.",
            errno=error.errno,
        ) from None


def _write(path: str, data: memoryview) -> None:
    """Replace the regular file that ``path`` leads to, or write into a device or a pipe."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not os.path.basename(path):
            raise  # no name, or one that can only be a directory's
        mode = stat.S_IFREG
    if stat.S_ISREG(mode):
        _replace(os.path.realpath(path), data)
        return
    with open(path, "wb") as device:
        device.write(data)


def _replace(target: str, data: memoryview) -> None:
    scratch = os.path.join(os.path.dirname(target), f".ksyms.{os.urandom(8).hex()}")
    # As tempfile does, whose import lasts as long as the writing.
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise
