"""System calls that the C library has no function for, called by their numbers."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

from .._errors import os_error


def system_call(numbers: dict[str, int]) -> Callable[..., int]:
    """Return a system call as a function that returns its result, or raises an OSError.

    Args:
        numbers: the number of the call by ``uname -m`` (asm/unistd.h of each machine).

    Raises:
        OSError: its number on this machine is not known (ENOSYS).
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
