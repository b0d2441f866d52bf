"""A shared object that maps the device into a program when the program opens it.

FreeBSD's driver does so itself. The object is built from preload.c and loaded by LD_PRELOAD.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from .._errors import ServeError, reason
from .._paths import UntrustedError, descend, judge_file

_SOURCE: Final = Path(__file__).with_name("preload.c")
_OF_ROOT: Final = "/var/cache"
"""The directory of root's cache.

It does not depend on the environment, because ``sudo -E`` keeps the user's.
"""
_COMPILERS: Final = ("cc", "gcc", "clang")


def preloaded(environment: dict[str, str], device: str | None) -> dict[str, str]:
    """Return a copy of ``environment`` that makes a program map ``device`` when it opens it.

    If ``device`` is None, the program maps each device with the name ``ksyms``.

    Raises:
        ServeError: the shared object cannot be built.
    """
    changed = dict(environment)
    changed["LD_PRELOAD"] = " ".join(filter(None, [library(), changed.get("LD_PRELOAD")]))
    if device is not None:
        changed["KSYMS_DEVICE"] = device
    return changed


def library() -> str:
    """Return the path of the shared object; build it if it is not in the cache yet.

    The dynamic linker takes a path, and opens the file later. So no user but root and the
    caller may be able to change the file or a directory on the way. Else the file that is
    loaded could be another than the one that was checked.

    Raises:
        ServeError: there is no compiler, or it fails, or the cache cannot be written, or
            another user can write to it.
    """
    source = _SOURCE.read_bytes()
    root = os.geteuid() == 0
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    directory = os.path.join(_OF_ROOT if root else cache, "ksyms")
    path = f"{directory}/preload-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not directory.startswith("/") or " " in path or ":" in path:
        raise ServeError(
            f"{directory} cannot be preloaded from: it is relative, or has a space or colon.",
            "Set XDG_CACHE_HOME to another directory of your own.",
        )
    # A program that root starts can become another user, who must be able to read the file.
    mode = 0o755 if root else 0o700
    try:
        os.close(descend(directory, alone=True, make=mode))
        if not os.path.exists(path):
            _build(path, mode)
        judge_file(path)
    except UntrustedError as error:
        raise ServeError(
            f"{path} is not loaded: {error}.",
            f"Remove it, and see that no other user can change {_OF_ROOT}."
            if root
            else "Set XDG_CACHE_HOME to a directory that no other user can change.",
            errno=error.errno,
        ) from None
    except OSError as error:
        raise ServeError(
            f"{directory} cannot be written: {reason(error)}.",
            f"Make room in {_OF_ROOT}."
            if root
            else "Set XDG_CACHE_HOME to a directory of your own.",
            errno=error.errno,
        ) from None
    return path


def _build(path: str, mode: int) -> None:
    """Build the shared object ``path``, in a directory that no other user can change."""
    compiler = _compiler()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as scratch:
        built = f"{scratch}/preload.so"
        options = ["-shared", "-fPIC", "-O2", "-o", built, str(_SOURCE), "-ldl"]
        # Without CPATH, LIBRARY_PATH and COMPILER_PATH, which could add other users' files.
        environment = {
            "PATH": f"{os.path.dirname(compiler)}:{os.defpath}",
            "LC_ALL": "C",
            "TMPDIR": scratch,
        }
        run = subprocess.run(
            [compiler, *options], env=environment, capture_output=True, text=True
        )
        if run.returncode:
            raise ServeError(
                f"{compiler} cannot build the library that maps the device: "
                f"{(run.stderr.strip().splitlines() or ['it says nothing'])[-1]}.",
                "Install the C library's headers (libc6-dev).",
            )
        os.chmod(built, mode)
        os.replace(built, path)


def _compiler() -> str:
    """Return the path of the first compiler in PATH that no other user can change.

    Raises:
        ServeError: there is none.
    """
    refused = ""
    for name in _COMPILERS:
        for directory in os.get_exec_path():
            path = os.path.join(directory, name)
            try:
                judge_file(path)
            except UntrustedError as error:
                refused = refused or f": {error}"
            except OSError:
                continue
            else:
                if os.access(path, os.X_OK):
                    return path
    raise ServeError(
        f"There is no C compiler to build the library that maps the device{refused}.",
        "Install gcc or clang; or have the program mmap() the device itself.",
        errno=errno.ENOENT,
    )
