"""A BPF program that does nothing, by the system call; for this machine and for the VM."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

BPF_SYSCALL = 321  # x86-64
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_SOCKET_FILTER = 1


def load_bpf_program() -> int:
    """Load a program that does nothing; gives its descriptor."""
    sysctl("bpf_jit_enable", 1, "net/core")
    sysctl("bpf_jit_kallsyms", 1, "net/core")
    # r0 = 0; exit
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    license_ = ctypes.create_string_buffer(b"GPL")
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "<IIQQIIQII16s",
            *(BPF_PROG_TYPE_SOCKET_FILTER, 2),
            *(ctypes.addressof(code), ctypes.addressof(license_), 0, 0, 0, 0, 0),
            b"ksyms_smoke",
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program: int = libc.syscall(BPF_SYSCALL, BPF_PROG_LOAD, attributes, len(attributes.raw) - 1)
    if program < 0:
        raise OSError(ctypes.get_errno(), "bpf(BPF_PROG_LOAD)")
    return program


def sysctl(name: str, value: int, where: str = "kernel") -> None:
    Path("/proc/sys", where, name).write_text(f"{value}")
