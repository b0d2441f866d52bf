"""Load BPF programs by the system call, on this machine or in a virtual one."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import close
from pathlib import Path
from typing import NamedTuple

BPF_SYSCALL = 321  # x86-64
BPF_PROG_LOAD = 5
BPF_PROG_GET_NEXT_ID = 11
BPF_OBJ_GET_INFO_BY_FD = 15
BPF_BTF_LOAD = 18
BPF_PROG_TYPE_SOCKET_FILTER = 1

RETURN = [(0xB7, 0, 0, 0), (0x95, 0, 0, 0)]
"""``return 0``: instructions are code, registers, offset and immediate value."""


own: set[int] = set()
"""The ids of all programs that this process has loaded, also of those that are gone."""


def name() -> str:
    """Return the name of this process's programs; other tests on this kernel have another."""
    return f"ksyms_{os.getpid()}"


def load_bpf_program(called: str = "") -> int:
    """Load a program that does nothing; return its descriptor.

    Its name is ``called``, or :func:`name` if that is empty.
    """
    return _load(RETURN, (called or name()).encode())


def id_of(program: int) -> int:
    """Return the id of a program by its descriptor."""
    info = Path(f"/proc/self/fdinfo/{program}").read_text()
    [number] = re.findall(r"^prog_id:\t(\d+)$", info, re.M)
    return int(number)


def ids() -> list[int]:
    """Return the ids of all programs that are loaded."""
    found: list[int] = []
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(BPF_SYSCALL, BPF_PROG_GET_NEXT_ID, attributes, 12) < 0:
            return found  # ENOENT: there is none above it
        _, number, _ = struct.unpack("<III", attributes.raw)
        found.append(number)


class Function(NamedTuple):
    """A function of a program: each instruction with the text and number of its source line."""

    name: str
    code: list[tuple[tuple[int, int, int, int], str, int]]


@contextmanager
def loaded(functions: Sequence[Function], name: bytes = b"ksyms_lines") -> Iterator[int]:
    """Load a program of ``functions`` with BTF and line info; the first one is its entry.

    Yield the descriptor of the program, and unload it at the end.
    """
    strings = bytearray(b"\0")
    places: dict[str, int] = {}

    def string(text: str) -> int:
        if text not in places:
            places[text] = len(strings)
            strings.extend(text.encode() + b"\0")
        return places[text]

    # Documentation/bpf/btf.rst. The types are: 1 an int, 2 a pointer, then for each function
    # a FUNC_PROTO and a FUNC.
    types = struct.pack("<IIII", string("int"), 1 << 24, 4, 1 << 24 | 32)
    types += struct.pack("<III", 0, 2 << 24, 0)  # void *

    infos, lines = b"", b""
    code: list[tuple[int, int, int, int]] = []
    for number, function in enumerate(functions):
        pointer = 2 if number == 0 else 1
        types += struct.pack("<III", 0, 13 << 24 | 1, 1)
        types += struct.pack("<II", string("arg"), pointer)
        linkage = 1 if number == 0 else 0  # BTF_FUNC_GLOBAL, BTF_FUNC_STATIC
        types += struct.pack("<III", string(function.name), 12 << 24 | linkage, 3 + 2 * number)
        infos += struct.pack("<II", len(code), 4 + 2 * number)
        before = None
        for instruction, source, line in function.code:
            if (source, line) != before:
                place = string(source), string(f"line {line}"), line << 10 | 5
                lines += struct.pack("<IIII", len(code), *place)
            before = source, line
            code.append(instruction)

    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    btf = _load_btf(header + types + bytes(strings))
    try:
        program = _load(code, name, btf, infos, lines)
    finally:
        close(btf)
    try:
        yield program
    finally:
        close(program)


def _load_btf(blob: bytes) -> int:
    data = ctypes.create_string_buffer(blob, len(blob))
    return _bpf(
        BPF_BTF_LOAD, struct.pack("<QQIII4x", ctypes.addressof(data), 0, len(blob), 0, 0)
    )


def _load(
    code: Sequence[tuple[int, int, int, int]],
    name: bytes,
    btf: int = 0,
    infos: bytes = b"",
    lines: bytes = b"",
) -> int:
    for setting in ("bpf_jit_enable", "bpf_jit_kallsyms"):
        value = Path("/proc/sys/net/core", setting).read_text().strip()
        assert value != "0", f"net.core.{setting} is 0: kallsyms lists no programs"
    packed = b"".join(struct.pack("<BBhi", *instruction) for instruction in code)
    buffers = [
        ctypes.create_string_buffer(data, len(data) or 1)
        for data in (packed, b"GPL\0", infos, lines)
    ]
    insns, license_, func_info, line_info = map(ctypes.addressof, buffers)
    attributes = struct.pack(
        "<IIQQIIQII16sII",
        *(BPF_PROG_TYPE_SOCKET_FILTER, len(code)),
        *(insns, license_),
        *(0, 0, 0, 0, 0),
        name,
        *(0, 0),
    )
    if btf:
        attributes += struct.pack(
            "<IIQIIQI4x", btf, 8, func_info, len(infos) // 8, 16, line_info, len(lines) // 16
        )
    program = _bpf(BPF_PROG_LOAD, attributes)
    own.add(id_of(program))
    return program


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    answer: int = libc.syscall(BPF_SYSCALL, command, buffer, len(attributes))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return answer


def native_code(program: int) -> bytes:
    """Return the machine code of all functions of a program, one after the other."""
    code = ctypes.create_string_buffer(1 << 16)
    info = ctypes.create_string_buffer(40)  # struct bpf_prog_info up to xlated_prog_insns
    struct.pack_into("<I4xQ", info, 16, len(code), ctypes.addressof(code))
    _bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", program, 40, ctypes.addressof(info)))
    (length,) = struct.unpack_from("<I", info, 16)
    return code.raw[:length]


def sysctl(name: str, value: int) -> None:
    """Set a sysctl of the kernel; only in a virtual machine, which nobody else uses."""
    Path("/proc/sys/kernel", name).write_text(f"{value}")
