"""A program run with the device mapped at its open, as FreeBSD's driver does it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .._errors import ServeError, reason

_SOURCE = Path(__file__).with_name("preload.c")


def preloaded(environment: dict[str, str], device: str | None) -> dict[str, str]:
    """``environment`` with which a program's opens of ``device`` are mapped.

    Raises:
        ServeError: the few lines of C that do it cannot be built.
    """
    changed = dict(environment)
    changed["LD_PRELOAD"] = " ".join(filter(None, [library(), changed.get("LD_PRELOAD")]))
    if device is not None:
        changed["KSYMS_DEVICE"] = device
    return changed


def _is_ours(path: Path) -> bool:
    """Whether nobody else can have put it there, or can change it."""
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def library() -> str:
    """The path of the shared object, built where it is not in the cache yet.

    Raises:
        ServeError: there is no compiler, or it fails, or the cache cannot be written.
    """
    source = _SOURCE.read_bytes()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    directory = Path(home, "ksyms")
    path = directory / f"preload-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not directory.is_absolute() or " " in str(path) or ":" in str(path):
        raise ServeError(
            f"{directory} cannot be preloaded from: it is relative, or has a space or colon.",
            "Set XDG_CACHE_HOME to another directory of your own.",
        )
    if path.exists():
        if not (_is_ours(directory) and _is_ours(path)):
            raise ServeError(
                f"{path} can be written by others, so it is not loaded.",
                "Set XDG_CACHE_HOME to a directory of your own.",
                errno=errno.EPERM,
            )
        return str(path)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ServeError(
            "There is no C compiler to build what maps the device.",
            "Install gcc or clang; or have the program mmap() the device itself.",
            errno=errno.ENOENT,
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            built = Path(scratch, "preload.so")
            options = ["-shared", "-fPIC", "-O2", "-o", str(built), str(_SOURCE), "-ldl"]
            run = subprocess.run([compiler, *options], capture_output=True, text=True)
            if run.returncode:
                raise ServeError(
                    f"{compiler} cannot build what maps the device: "
                    f"{(run.stderr.strip().splitlines() or ['it says nothing'])[-1]}.",
                    "Install the C library's headers (libc6-dev).",
                )
            built.chmod(0o700)
            built.replace(path)
    except OSError as error:
        raise ServeError(
            f"{directory} cannot be written: {reason(error)}.",
            "Set XDG_CACHE_HOME to a directory of your own.",
            errno=error.errno,
        ) from None
    return str(path)
