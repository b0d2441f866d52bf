"""Threads that are begun or refused, also where there is no memory left."""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
from _weakref import ref  # which weakref, that takes a millisecond to import, has it from
from functools import cache, partial

from ._errors import ServeError
from ._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK: Final = 0.05  # seconds until it is looked whether a thread died before it began


def begin(run: Callable[..., object], *arguments: object) -> _thread.LockType:
    """Have a thread call ``run``; the process' end does not wait for it.

    threading.Thread.start() waits for the thread's first word. A thread that has a stack and
    no memory for its first call says none, and start() never returns (seen with CPython 3.11,
    and RLIMIT_AS a few KiB above what such a stack takes). Here its end is seen too.

    Returns:
        A lock that is held until ``run`` has ended, however it does.

    Raises:
        ServeError: EAGAIN: there is no thread to be had, or no memory for it.
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

    # The thread alone has this, until its end. A function that had no memory to be called is
    # not given back by CPython 3.11 (ceval.c, _PyEval_Vector); what calls it is.
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
    """Whether a thread can end: glibc then loads what unwinds it, or aborts the process.

    nptl/unwind.c: "libgcc_s.so.1 must be installed for pthread_exit to work", which it says
    too where there is no memory to load it. So it is loaded before.
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
