"""The kernel's BPF programs, which kallsyms lists as ``[bpf]``, as bpf(2) describes them.

kallsyms has only the start of each function. The program's info (kernel/bpf/syscall.c,
bpf_prog_get_info_by_fd), which only a process with CAP_SYS_ADMIN gets, has the rest:

- the end: since Linux 5.18 (d00c6473b1ee) the kernel's own range is as long as the compiled
  code (kernel/bpf/core.c, bpf_prog_ksym_set_addr);
- the program that the function belongs to;
- the source line of each address.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._note.facts import ProgramFacts
from .._note.schema import has, schema_of
from .._typing import Final, NamedTuple, TypedDict
from .files import Region, Symbols
from .host import at_least
from .regions import Owner
from .root import Root

U64 = npt.NDArray[np.uint64]

NAME: Final = "bpf"
"""The name of the programs' linker file, and of the system call in ``absent``."""
SAVED: Final = "ksyms/bpf.json"
"""The file of an archive that holds what bpf(2) returned on its machine."""

# asm/unistd.h of each machine.
_SYSCALL: Final = {
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
# enum bpf_prog_type there; the names are those of bpftool.
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
_LINE_PLACE: Final = 3
_LINE_SHIFT: Final = 10  # BPF_LINE_INFO_LINE_NUM; the column is below
_DISPATCHER: Final = b"bpf_dispatcher_"
_TRAMPOLINE: Final = b"bpf_trampoline_"
_PROGRAM: Final = b"bpf_prog_"
_TRAMPOLINES_SIZED: Final = (6, 8)
_LARGEST: Final = 1 << 32  # jited_func_lens has 32 bits
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


class BpfFunction(NamedTuple):
    """A function of a BPF program.

    ``address`` and ``size`` (bytes) are those of its code. ``id``, ``type`` and ``name`` (at
    most 15 bytes) are the program's, as bpftool prints them; ``subprogram`` is the function's
    number in the program, 0 for the entry. ``tag`` is the function's own; its symbol's name
    contains it.

    ``lines`` has, by the name of a source file, offsets and lines in turn. Code is of a line
    from the line's offset up to the next offset of any file; line 0 stands for no line::

        {"xdp.c": [0, 12, 8, 13, 20, 0]}    bytes 0-7: line 12, 8-19: line 13, from 20: none
    """

    address: int
    size: int
    id: int
    type: str
    tag: str
    name: str
    subprogram: int
    lines: dict[str, list[int]]

    def facts(self) -> ProgramFacts:
        """Return the function as the note and an archive of ``ksyms collect`` store it."""
        return ProgramFacts(
            address=f"{self.address:#x}",
            size=self.size,
            id=self.id,
            type=self.type,
            tag=self.tag,
            name=self.name,
            subprogram=self.subprogram,
            lines=self.lines,
        )


class SavedPrograms(TypedDict):
    """The contents of :data:`SAVED` in an archive."""

    page_size: int
    programs: list[ProgramFacts]


class Programs(NamedTuple):
    """All functions that bpf(2) reported; ``page`` is the machine's page size in bytes."""

    page: int
    functions: tuple[BpfFunction, ...]


class BpfSymbols(NamedTuple):
    """The ``[bpf]`` symbols, and what bpf(2) says of them.

    ``functions`` are the programs' functions that have a symbol. ``images`` are the addresses
    of images, such as trampolines, whose size is unknown and at most one ``page`` (bytes).
    """

    symbols: Symbols
    functions: tuple[BpfFunction, ...] = ()
    images: tuple[int, ...] = ()
    page: int = 0


def read_programs(root: Root) -> Programs | None:
    """Return the running kernel's programs, or those that an archive has.

    None if they cannot be read; then ``root.absent`` has the reason.
    """
    if root.live:
        try:
            found = Programs(mmap.PAGESIZE, tuple(_running()))
        except OSError as error:
            root.missed(NAME, error)
            return None
        root.absent.pop(NAME, None)  # the reason that an earlier try failed
        return found
    data = root.read(SAVED)
    told = None if data is None else _unpacked(data)
    if data is not None and told is None:
        root.absent[SAVED] = "it is not what ksyms collect wrote"
    return told


def pack_programs(programs: Programs) -> bytes:
    """Return ``programs`` as the JSON that an archive stores."""
    import json

    listed = [function.facts() for function in programs.functions]
    return json.dumps({"page_size": programs.page, "programs": listed}).encode()


def told_of(symbols: Symbols, programs: Programs | None, release: str | None) -> BpfSymbols:
    """Return the ``[bpf]`` ``symbols``, with exact sizes where these are known.

    A symbol is a function of ``programs`` if it has the function's address, and its tag in the
    name. A dispatcher's size is a page, and so is a trampoline's before Linux 6.8. Since then
    (26ef208c209a, "bpf: Use arch_bpf_trampoline_size") a trampoline's is unknown, at most a
    page (kernel/bpf/trampoline.c, bpf_image_ksym_add).
    """
    if programs is None:
        return BpfSymbols(symbols)

    known = {function.address: function for function in programs.functions}
    sized = at_least(release, _TRAMPOLINES_SIZED) is not False
    whole = (_DISPATCHER,) if sized else (_DISPATCHER, _TRAMPOLINE)

    size = np.zeros(len(symbols.address), np.uint64)
    functions, images = [], []
    strings = symbols.strings.tobytes()
    for row, (at, address) in enumerate(zip(symbols.name.tolist(), symbols.address.tolist())):
        name = strings[at : strings.index(b"\0", at)]
        function = known.get(address)
        if function is not None and _is_of(name, function):
            size[row] = function.size
            functions.append(function)
        elif name.startswith(whole):
            size[row] = programs.page
        elif not name.startswith(_PROGRAM):
            images.append(address)

    symbols = symbols._replace(size=size, exact=size > 0)
    return BpfSymbols(symbols, tuple(functions), tuple(images), programs.page)


def reaching(
    regions: dict[int, tuple[Region, ...]], number: int, symbols: Symbols
) -> dict[int, tuple[Region, ...]]:
    """Return ``regions`` with those of file ``number`` extended to the ends of its symbols.

    Only ``symbols`` with an exact size count, and no region is extended into the next region of
    any file.
    """
    if not symbols.exact.any():
        return regions

    starts = sorted(region.start for owned in regions.values() for region in owned)
    begin = symbols.address[symbols.exact]
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], (begin + symbols.size[symbols.exact])[order]

    longer = []
    for region in regions.get(number, ()):
        inside = slice(*np.searchsorted(begin, (region.start, region.end)).tolist())
        last = int(end[inside].max(initial=0))
        above = bisect_right(starts, region.start)
        limit = starts[above] if above < len(starts) else last
        whole = region._replace(end=min(last, limit), inferred=last > limit)
        longer.append(whole if region.end < last else region)
    return {**regions, number: tuple(longer)}


def stops(told: BpfSymbols, owners: list[Owner]) -> tuple[int, ...]:
    """Return the ends of the images after which no symbol of ``owners`` follows within a page.

    An image's end is taken to be one page after its start.
    """
    if not told.images:
        return ()
    address = np.concatenate([owner.address for owner in owners])
    address.sort()
    begin = np.array(told.images, np.uint64)
    end = begin + np.uint64(told.page)
    bounds = (np.searchsorted(address, at, "right") for at in (begin, end))
    alone: list[int] = end[np.equal(*bounds)].tolist()
    return tuple(alone)


def _running() -> Iterator[BpfFunction]:
    """Yield the functions of the running kernel's programs.

    Raises:
        OSError: the kernel has no bpf(2), or this process lacks the privilege.
    """
    call = _Call()
    number = call.next_program(0)
    while number is not None:
        yield from call.functions(number)
        number = call.next_program(number)


class _LineRecords(NamedTuple):
    """The line records of a program, sorted by ``address`` (uint64).

    ``place`` (uint64) has the source line in its lower 32 bits, and in its upper 32 bits the
    offset into ``strings`` of the source file's name.
    """

    address: U64
    place: U64
    strings: bytes


class _Room:
    """The buffers that a program's info points to, for a number of functions and lines."""

    def __init__(self, functions: int, lines: int) -> None:
        self.functions, self.lines = functions, lines
        self.starts = (_U64 * functions)()
        self.sizes = (_U32 * functions)()
        self.tags = (ctypes.c_uint8 * (functions * _TAG))()
        self.records = (_U32 * (lines * _LINE_WORDS))()
        self.addresses = (_U64 * lines)()

    def info(self) -> _ProgInfo:
        """Return an info that asks the kernel to fill all the buffers."""
        # If the kernel leaves them out, those of another program must not remain.
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


class _Call:
    """Calls of bpf(2), with buffers for the answers that grow when an answer needs it.

    Raises:
        OSError: the number of the system call on this machine is unknown (ENOSYS).
    """

    def __init__(self) -> None:
        number = _SYSCALL.get(os.uname().machine)
        if number is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._number = number
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._attr = ctypes.create_string_buffer(16)
        self._room = _Room(16, 256)
        self._strings: dict[int, bytes] = {}

    def next_program(self, number: int) -> int | None:
        """Return the smallest program id above ``number``; None if there are no more."""
        try:
            self._ask(_PROG_GET_NEXT_ID, number)
        except FileNotFoundError:
            return None
        following: int = struct.unpack_from("=I", self._attr, 4)[0]
        return following

    def functions(self, number: int) -> list[BpfFunction]:
        """Return the functions of the program with id ``number``; none if it is gone."""
        try:
            fd = self._ask(_PROG_GET_FD_BY_ID, number)
        except FileNotFoundError:
            return []
        try:
            info = self._info_of(fd)
        finally:
            os.close(fd)

        room, count = self._room, info.nr_jited_ksyms
        tags = bytes(room.tags)
        # The symbol of the entry function has the tag of the whole program.
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
                lines=_by_source(start, size, lines) if lines else {},
            )
            for which, (start, size) in enumerate(zip(room.starts[:count], room.sizes[:count]))
            if start and size
        ]

    def _info_of(self, fd: int) -> _ProgInfo:
        """Return a program's info; the buffers that it points to are those of the room."""
        while True:
            info = self._room.info()
            self._tell(fd, info)
            functions = max(info.nr_jited_ksyms, self._room.functions)
            lines = max(info.nr_line_info, self._room.lines)
            if (functions, lines) == (self._room.functions, self._room.lines):
                return info
            self._room = _Room(functions, lines)

    def _lines(self, info: _ProgInfo) -> _LineRecords:
        """Return the program's line records, sorted by address."""
        count = min(info.nr_line_info, info.nr_jited_line_info)
        words = np.frombuffer(bytes(self._room.records), np.uint32, count * _LINE_WORDS)
        address = np.frombuffer(bytes(self._room.addresses), np.uint64, count)
        place = words[_LINE_SOURCE::_LINE_WORDS].astype(np.uint64) << np.uint64(32)
        place |= words[_LINE_PLACE::_LINE_WORDS] >> np.uint32(_LINE_SHIFT)

        if not (address[1:] >= address[:-1]).all():  # functions lie in any order
            # Stable, since of several records at one address the last counts.
            order = np.argsort(address, kind="stable")
            address, place = address[order], place[order]
        return _LineRecords(address, place, self._strings_of(info.btf_id))

    def _strings_of(self, number: int) -> bytes:
        """Return the string section of the BTF with id ``number``."""
        if number not in self._strings:
            info = _BtfInfo()
            fd = self._ask(_BTF_GET_FD_BY_ID, number)
            try:
                self._tell(fd, info)
                data = ctypes.create_string_buffer(info.btf_size)
                info = _BtfInfo(btf=ctypes.addressof(data), btf_size=info.btf_size)
                self._tell(fd, info)
            finally:
                os.close(fd)
            # The kernel has checked that the strings lie within (kernel/bpf/btf.c,
            # btf_parse_hdr).
            _, _, _, header, _, _, start, length = _BTF_HEADER.unpack_from(data)
            self._strings[number] = data.raw[header + start :][:length]
        return self._strings[number]

    def _tell(self, fd: int, info: ctypes.Structure) -> None:
        """Let the kernel fill in ``info`` for the object of the descriptor ``fd``."""
        place = ctypes.addressof(info)
        self._ask(_OBJ_GET_INFO_BY_FD, fd, ctypes.sizeof(info), place)

    def _ask(self, command: int, what: int, length: int = 0, place: int = 0) -> int:
        """Call bpf(2) with ``command``, and return its result.

        Args:
            command: one of enum bpf_cmd.
            what: an id, or a descriptor.
            length: the size in bytes of the info to fill in, if there is one.
            place: the address of that info.

        Raises:
            OSError: the call failed.
        """
        struct.pack_into("=IIQ", self._attr, 0, what, length, place)
        answer: int = self._syscall(self._number, command, self._attr, len(self._attr))
        if answer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return answer


def _string(strings: bytes, start: int) -> str:
    return strings[start : strings.find(b"\0", start)].decode("utf-8", "backslashreplace")


def _by_source(start: int, size: int, lines: _LineRecords) -> dict[str, list[int]]:
    """Return the ``lines`` of the ``size`` bytes of code at ``start``, as in BpfFunction.lines.

    Of several records at one address the last is kept, and of adjacent records with one line
    the first::

        records        kept
        0   xdp.c:11
        0   xdp.c:12   0   xdp.c:12
        4   xdp.c:12
        8   xdp.c:13   8   xdp.c:13
    """
    bounds = np.array((start, start + size), np.uint64)
    own = slice(*np.searchsorted(lines.address, bounds).tolist())
    address, place = lines.address[own], lines.place[own]

    last = np.ones(len(address), np.bool_)
    np.not_equal(address[1:], address[:-1], out=last[:-1])
    address, place = address[last], place[last]

    new = np.ones(len(address), np.bool_)
    np.not_equal(place[1:], place[:-1], out=new[1:])
    address, place = address[new], place[new]

    source = place >> np.uint64(32)
    pairs = np.column_stack((address - bounds[0], place & np.uint64((1 << 32) - 1)))
    found: dict[str, list[int]] = {}
    for each in dict.fromkeys(source.tolist()):
        name = _string(lines.strings, each)
        found.setdefault(name, []).extend(pairs[source == each].ravel().tolist())
    return found


def _unpacked(data: bytes) -> Programs | None:
    """Return the programs that :func:`pack_programs` stored; None if ``data`` is damaged."""
    import json

    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not has(facts, schema_of(SavedPrograms)):
        return None
    fields = BpfFunction._fields
    found = [
        BpfFunction(*(each[field] for field in fields))._replace(
            address=int(each["address"], 16)
        )
        for each in facts["programs"]
    ]
    sizes = [facts["page_size"], *(function.size for function in found)]
    if not all(0 < size < _LARGEST for size in sizes):
        return None
    return Programs(facts["page_size"], tuple(found))


def _is_of(name: bytes, function: BpfFunction) -> bool:
    """Return True if ``name`` is that of the symbol of ``function``.

    It is ``bpf_prog_TAG`` or ``bpf_prog_TAG_NAME`` (kernel/bpf/core.c, bpf_prog_ksym_set_name).
    """
    called = _PROGRAM + function.tag.encode()
    return name == called or name.startswith(called + b"_")
