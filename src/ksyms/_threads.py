"""Threads that either start or are refused, even if memory runs out."""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
from _weakref import ref  # not from weakref, whose import takes a millisecond
from functools import cache, partial

from ._errors import ServeError
from ._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK: Final = 0.05  # seconds between tests for a thread that ended before it began


def begin(run: Callable[..., object], *arguments: object) -> _thread.LockType:
    """Start a thread that calls ``run``; the end of the process does not wait for it.

    threading.Thread.start() waits for the thread to report that it runs. A thread that has a
    stack but no memory for its first call never reports, and start() never returns (seen with
    CPython 3.11, and RLIMIT_AS a few KiB above what such a stack takes). This function also
    notices such a thread's end.

    Returns:
        A lock that is held until ``run`` has ended in any way.

    Raises:
        ServeError: EAGAIN: no thread can be started, or there is no memory for it.
    """
    if not _can_end():
        raise _refused()
    begun, ended = _thread.allocate_lock(), _thread.allocate_lock()
    begun.acquire()
    ended.acquire()

    def body() -> None:
        begun.release()
        try:
            run(*arguments)
        finally:
            ended.release()

    # Only the thread refers to this partial, until it ends; then ``alive`` is dead. A function
    # by itself would not do: CPython 3.11 keeps one that it had no memory to call (ceval.c,
    # _PyEval_Vector), but frees the partial that calls it.
    call = partial(body)
    alive = ref(call)
    try:
        _thread.start_new_thread(call, ())
    except (RuntimeError, MemoryError):  # "can't start new thread", whatever the reason
        raise _refused() from None
    del call
    while not begun.acquire(timeout=_LOOK):
        if alive() is None:
            if begun.acquire(blocking=False):
                break  # it began, and has ended since
            raise _refused()
    return ended


@cache
def _can_end() -> bool:
    """Return True if a thread can end: glibc then loads an unwinder, or aborts the process.

    Its message is "libgcc_s.so.1 must be installed for pthread_exit to work" (nptl/unwind.c),
    also if there is no memory to load it. So it is loaded here, before the first thread.
    """
    try:
        ctypes.CDLL("libgcc_s.so.1")
    except (OSError, MemoryError):
        return "CS_GNU_LIBC_VERSION" not in os.confstr_names  # musl needs none
    return True


def _refused() -> ServeError:
    return ServeError(
        "There is no thread to be had.",
        "Allow this user more processes (ulimit -u), or this process more memory (ulimit -v).",
        errno=errno.EAGAIN,
    )
