"""Start a process with a pid that another process had before."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

CLONE3 = 435  # asm-generic/unistd.h, and x86's own table


def start_as(number: int, command: Sequence[str | Path], stdout: int = -1) -> None:
    """Start ``command`` as a process with the pid ``number``, which must be free.

    ``stdout`` is a descriptor for its output; -1 for this process's stdout. The pid is set by
    set_tid of clone3(2) (Linux 5.5), which takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.

    Raises:
        OSError: EEXIST, if another process has the pid.
    """
    wanted = ctypes.c_int(number)
    # struct clone_args up to set_tid_size: flags, pidfd, child_tid, parent_tid, exit_signal,
    # stack, stack_size, tls, set_tid, set_tid_size.
    words = (0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1)
    arguments = ctypes.create_string_buffer(struct.pack("=10Q", *words))
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.syscall(CLONE3, arguments, 80)
    if child < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if child == 0:
        try:
            if stdout >= 0:
                os.dup2(stdout, 1)
            os.execvp(command[0], [os.fspath(word) for word in command])
        finally:
            os._exit(127)
