"""The BPF programs of the running kernel and their source lines, by bpf(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

import numpy as np

from .._typing import TYPE_CHECKING, Final, NamedTuple
from .bpf_programs import BpfFunction
from .syscall import system_call

if TYPE_CHECKING:
    from .._arrays import U64

# asm/unistd.h of each machine.
_BPF: Final = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64": 361,
    "ppc64le": 361,
    "s390x": 351,
}
# enum bpf_cmd, include/uapi/linux/bpf.h.
_PROG_GET_NEXT_ID: Final = 11
_PROG_GET_FD_BY_ID: Final = 13
_OBJ_GET_INFO_BY_FD: Final = 15
_BTF_GET_FD_BY_ID: Final = 19
# enum bpf_prog_type of the same file; the names are those of bpftool.
_TYPES: Final = (
    *("unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp"),
    *("perf_event", "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops"),
    *("sk_skb", "cgroup_device", "sk_msg", "raw_tracepoint", "cgroup_sock_addr"),
    *("lwt_seg6local", "lirc_mode2", "sk_reuseport", "flow_dissector", "cgroup_sysctl"),
    *("raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm"),
    *("sk_lookup", "syscall", "netfilter"),
)
_BTF_HEADER: Final = struct.Struct("=HBBIIIII")  # struct btf_header, include/uapi/linux/btf.h
_TAG: Final = 8  # BPF_TAG_SIZE, bytes
# struct bpf_line_info is words of 32 bits: instruction, source, text, line and column.
_LINE_WORDS: Final = 4
_LINE_SOURCE: Final = 1
_LINE_NUMBER: Final = 3
_LINE_SHIFT: Final = 10  # BPF_LINE_INFO_LINE_NUM; the column is below
_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64


class _ProgInfo(ctypes.Structure):
    """struct bpf_prog_info up to prog_tags, its last field in Linux 5.0."""

    _fields_ = (
        *(("type", _U32), ("id", _U32), ("tag", ctypes.c_uint8 * _TAG)),
        *(("jited_prog_len", _U32), ("xlated_prog_len", _U32)),
        *(("jited_prog_insns", _U64), ("xlated_prog_insns", _U64), ("load_time", _U64)),
        *(("created_by_uid", _U32), ("nr_map_ids", _U32), ("map_ids", _U64)),
        *(("name", ctypes.c_char * 16), ("ifindex", _U32), ("gpl_compatible", _U32)),
        *(("netns_dev", _U64), ("netns_ino", _U64)),
        *(("nr_jited_ksyms", _U32), ("nr_jited_func_lens", _U32)),
        *(("jited_ksyms", _U64), ("jited_func_lens", _U64)),
        *(("btf_id", _U32), ("func_info_rec_size", _U32), ("func_info", _U64)),
        *(("nr_func_info", _U32), ("nr_line_info", _U32)),
        *(("line_info", _U64), ("jited_line_info", _U64)),
        *(("nr_jited_line_info", _U32), ("line_info_rec_size", _U32)),
        *(("jited_line_info_rec_size", _U32), ("nr_prog_tags", _U32), ("prog_tags", _U64)),
    )


class _BtfInfo(ctypes.Structure):
    """struct bpf_btf_info up to id."""

    _fields_ = (("btf", _U64), ("btf_size", _U32), ("id", _U32))


def running_functions() -> Iterator[BpfFunction]:
    """Yield the functions of the running kernel's programs.

    Raises:
        OSError: the kernel has no bpf(2), or this process lacks the privilege.
    """
    call = BpfSyscall()
    number = call.next_program(0)
    while number is not None:
        yield from call.functions(number)
        number = call.next_program(number)


class _LineRecords(NamedTuple):
    """The line records of a program, sorted by ``address`` (uint64).

    ``source_line`` (uint64) has the number of the source line in its lower 32 bits. Its upper
    32 bits are the offset of the source file's name in ``strings``.
    """

    address: U64
    source_line: U64
    strings: bytes


class _InfoBuffers:
    """The buffers into which the kernel writes a program's functions and line records.

    ``starts``, ``sizes`` and ``tags`` have room for ``functions`` functions, ``records`` and
    ``addresses`` for ``lines`` records.
    """

    def __init__(self, functions: int, lines: int) -> None:
        self.functions, self.lines = functions, lines
        self.starts = (_U64 * functions)()
        self.sizes = (_U32 * functions)()
        self.tags = (ctypes.c_uint8 * (functions * _TAG))()
        self.records = (_U32 * (lines * _LINE_WORDS))()
        self.addresses = (_U64 * lines)()

    def info(self) -> _ProgInfo:
        """Return an info that points to all the buffers, for the kernel to fill them."""
        # The kernel can leave the starts out. Then those of an earlier program must not remain.
        ctypes.memset(self.starts, 0, ctypes.sizeof(self.starts))
        return _ProgInfo(
            nr_jited_ksyms=self.functions,
            nr_jited_func_lens=self.functions,
            jited_ksyms=ctypes.addressof(self.starts),
            jited_func_lens=ctypes.addressof(self.sizes),
            nr_line_info=self.lines,
            line_info=ctypes.addressof(self.records),
            line_info_rec_size=_LINE_WORDS * ctypes.sizeof(_U32),
            nr_jited_line_info=self.lines,
            jited_line_info=ctypes.addressof(self.addresses),
            jited_line_info_rec_size=ctypes.sizeof(_U64),
            nr_prog_tags=self.functions,
            prog_tags=ctypes.addressof(self.tags),
        )


class BpfSyscall:
    """Calls of bpf(2), with buffers for the results that grow when a result needs more room.

    Raises:
        OSError: the number of the system call on this machine is unknown (ENOSYS).
    """

    def __init__(self) -> None:
        self._bpf = system_call(_BPF)
        self._attr = ctypes.create_string_buffer(16)
        self._buffers = _InfoBuffers(16, 256)
        self._strings: dict[int, bytes] = {}

    def next_program(self, number: int) -> int | None:
        """Return the smallest program id above ``number``; None if there are no more."""
        try:
            self._call(_PROG_GET_NEXT_ID, number)
        except FileNotFoundError:
            return None
        following: int = struct.unpack_from("=I", self._attr, 4)[0]
        return following

    def functions(self, number: int) -> list[BpfFunction]:
        """Return the functions of the program with the id ``number``; none if it is gone."""
        try:
            fd = self._call(_PROG_GET_FD_BY_ID, number)
        except FileNotFoundError:
            return []
        try:
            info = self._info_of(fd)
        finally:
            os.close(fd)

        buffers, count = self._buffers, info.nr_jited_ksyms
        tags = bytes(buffers.tags)
        # In the name of the entry function's symbol is the tag of the whole program.
        tags = bytes(info.tag) + tags[_TAG:]

        kind = _TYPES[info.type] if info.type < len(_TYPES) else f"{info.type}"
        name = info.name.decode("utf-8", "backslashreplace")
        lines = self._lines(info) if info.btf_id else None
        return [
            BpfFunction(
                address=start,
                size=size,
                id=number,
                type=kind,
                tag=tags[which * _TAG :][:_TAG].hex(),
                name=name,
                subprogram=which,
                lines=_lines_by_source(start, size, lines) if lines else {},
            )
            for which, (start, size) in enumerate(
                zip(buffers.starts[:count], buffers.sizes[:count])
            )
            if start and size
        ]

    def _info_of(self, fd: int) -> _ProgInfo:
        """Return the info of the program with the descriptor ``fd``, and fill the buffers.

        If the program has more functions or lines than there is room for, the call is repeated
        with larger buffers.
        """
        while True:
            info = self._buffers.info()
            self._fill_info(fd, info)
            functions = max(info.nr_jited_ksyms, self._buffers.functions)
            lines = max(info.nr_line_info, self._buffers.lines)
            if (functions, lines) == (self._buffers.functions, self._buffers.lines):
                return info
            self._buffers = _InfoBuffers(functions, lines)

    def _lines(self, info: _ProgInfo) -> _LineRecords:
        """Return the line records in the buffers, sorted by address.

        ``info`` is the info of the program that they are of.
        """
        count = min(info.nr_line_info, info.nr_jited_line_info)
        words = np.frombuffer(bytes(self._buffers.records), np.uint32, count * _LINE_WORDS)
        address = np.frombuffer(bytes(self._buffers.addresses), np.uint64, count)
        source_line = words[_LINE_SOURCE::_LINE_WORDS].astype(np.uint64) << np.uint64(32)
        source_line |= words[_LINE_NUMBER::_LINE_WORDS] >> np.uint32(_LINE_SHIFT)

        if not (address[1:] >= address[:-1]).all():
            # The functions of a program lie in any order. The sort is stable, so that the last
            # of several records at one address stays the last.
            order = np.argsort(address, kind="stable")
            address, source_line = address[order], source_line[order]
        return _LineRecords(address, source_line, self._strings_of(info.btf_id))

    def _strings_of(self, number: int) -> bytes:
        """Return the string section of the BTF with the id ``number``."""
        if number not in self._strings:
            info = _BtfInfo()
            fd = self._call(_BTF_GET_FD_BY_ID, number)
            try:
                self._fill_info(fd, info)
                data = ctypes.create_string_buffer(info.btf_size)
                info = _BtfInfo(btf=ctypes.addressof(data), btf_size=info.btf_size)
                self._fill_info(fd, info)
            finally:
                os.close(fd)
            # The kernel has checked that the strings are within the BTF (kernel/bpf/btf.c,
            # btf_parse_hdr).
            _, _, _, header, _, _, start, length = _BTF_HEADER.unpack_from(data)
            self._strings[number] = data.raw[header + start :][:length]
        return self._strings[number]

    def _fill_info(self, fd: int, info: ctypes.Structure) -> None:
        """Let the kernel fill in ``info`` for the object with the descriptor ``fd``."""
        pointer = ctypes.addressof(info)
        self._call(_OBJ_GET_INFO_BY_FD, fd, ctypes.sizeof(info), pointer)

    def _call(self, command: int, what: int, length: int = 0, pointer: int = 0) -> int:
        """Call bpf(2) with ``command``, and return its result.

        Args:
            command: one of enum bpf_cmd.
            what: an id, or a descriptor.
            length: the size in bytes of the info that the kernel fills in, 0 if there is none.
            pointer: the address of that info, 0 if there is none.

        Raises:
            OSError: the call failed.
        """
        struct.pack_into("=IIQ", self._attr, 0, what, length, pointer)
        return self._bpf(command, self._attr, len(self._attr))


def _string(strings: bytes, start: int) -> str:
    """Return the string at the offset ``start``."""
    return strings[start : strings.find(b"\0", start)].decode("utf-8", "backslashreplace")


def _lines_by_source(start: int, size: int, lines: _LineRecords) -> dict[str, list[int]]:
    """Return the lines of a function, as :class:`BpfFunction` has them.

    Of several records at one address the last is kept, and of adjacent records with the same
    line the first::

        records        kept
        0   xdp.c:11
        0   xdp.c:12   0   xdp.c:12
        4   xdp.c:12
        8   xdp.c:13   8   xdp.c:13

    Args:
        start: the address of the function's code.
        size: the size of the code in bytes.
        lines: the line records of the program.
    """
    bounds = np.array((start, start + size), np.uint64)
    own = slice(*np.searchsorted(lines.address, bounds).tolist())
    address, source_line = lines.address[own], lines.source_line[own]

    last = np.ones(len(address), np.bool_)
    np.not_equal(address[1:], address[:-1], out=last[:-1])
    address, source_line = address[last], source_line[last]

    new = np.ones(len(address), np.bool_)
    np.not_equal(source_line[1:], source_line[:-1], out=new[1:])
    address, source_line = address[new], source_line[new]

    source = source_line >> np.uint64(32)
    pairs = np.column_stack((address - bounds[0], source_line & np.uint64((1 << 32) - 1)))
    found: dict[str, list[int]] = {}
    for name_offset in dict.fromkeys(source.tolist()):
        name = _string(lines.strings, name_offset)
        found.setdefault(name, []).extend(pairs[source == name_offset].ravel().tolist())
    return found
