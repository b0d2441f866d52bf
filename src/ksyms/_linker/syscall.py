"""System calls for which the C library has no function, called by their numbers."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

from .._errors import os_error


def system_call(numbers: dict[str, int]) -> Callable[..., int]:
    """Return a system call as a function, which returns its result or raises an OSError.

    Args:
        numbers: the call's number on each machine, by ``uname -m`` (asm/unistd.h).

    Raises:
        OSError: the number on this machine is not known (ENOSYS).
    """
    number = numbers.get(os.uname().machine)
    if number is None:
        raise os_error(errno.ENOSYS)
    syscall = ctypes.CDLL(None, use_errno=True).syscall

    def call(*arguments: object) -> int:
        result: int = syscall(number, *arguments)
        if result < 0:
            raise os_error(ctypes.get_errno())
        return result

    return call
