"""Threads that either start or are refused with an error, even if memory runs out."""

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

_LOOK: Final = 0.05  # seconds between checks for a thread that ended before it called ``run``


def begin(run: Callable[..., object], *arguments: object) -> _thread.LockType:
    """Start a thread that calls ``run``; the process can end before the thread does.

    threading.Thread.start() waits until the thread reports that it runs. A thread that has a
    stack, but no memory for its first call, never reports, so that start() never returns. (This
    was observed with CPython 3.11 and an RLIMIT_AS of a few KiB more than such a stack takes.)
    This function notices that such a thread has ended.

    Returns:
        A lock that is held until ``run`` has returned or raised an error.

    Raises:
        ServeError: EAGAIN: no thread can be started, or it has no memory.
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

    # After ``del call`` only the thread refers to the partial. So the weak reference ``alive``
    # is dead once the thread has ended. ``body`` itself would not do: CPython 3.11 keeps a
    # function that it had no memory to call (ceval.c, _PyEval_Vector), but frees the partial.
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
                break  # it called ``run``, and has ended since
            raise _refused()
    return ended


@cache
def _can_end() -> bool:
    """Return True if a thread can end.

    When a thread ends, glibc loads the unwinder libgcc_s.so.1. If it cannot, even for lack of
    memory, it aborts the process with the message "libgcc_s.so.1 must be installed for
    pthread_exit to work" (nptl/unwind.c). So the unwinder is loaded here, before the first
    thread starts.
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
