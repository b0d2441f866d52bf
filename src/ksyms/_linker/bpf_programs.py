"""The kernel's BPF programs, as bpf(2) or an archive describes them.

kallsyms has only the start of each function. The rest is in the program's info
(kernel/bpf/syscall.c, bpf_prog_get_info_by_fd), which the kernel gives only to a process with
CAP_SYS_ADMIN:

- the end: since Linux kernel commit d00c6473b1ee ("bpf: Use prog->jited_len in
  bpf_prog_ksym_set_addr()") (in v5.18) the range that the kernel names by the function is as
  long as the compiled code;
- the program that the function belongs to;
- the source line of each address.
"""

from __future__ import annotations

import mmap

from .._note.facts import ProgramFacts
from .._note.schema import has, schema_of
from .._typing import Final, NamedTuple, TypedDict
from .root import Root

NAME: Final = "bpf"
"""The name of the programs' linker file, and of the system call in ``absent``."""
SAVED: Final = "ksyms/bpf.json"
"""The file of an archive with the BPF programs of its machine."""
_LARGEST: Final = 1 << 32  # jited_func_lens has 32 bits


class BpfFunction(NamedTuple):
    """A function of a BPF program.

    ``address`` and ``size`` (bytes) are those of its code. ``id``, ``type`` and ``name`` (at
    most 15 bytes) are those of the program, as bpftool prints them. ``subprogram`` is the
    number of the function in the program, 0 for the entry function. ``tag`` is that of the
    function, and is part of its symbol's name.

    ``lines`` has, by the name of a source file, code offsets and line numbers in turn. A line
    has the code from its offset up to the next offset of any file; line 0 stands for no line::

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


class BpfPrograms(NamedTuple):
    """The functions of all BPF programs; ``page`` is the machine's page size in bytes."""

    page: int
    functions: tuple[BpfFunction, ...]


def read_programs(root: Root) -> BpfPrograms | None:
    """Return the running kernel's programs, or those that an archive has.

    None if they cannot be read; then ``root.absent`` has the reason.
    """
    if root.live:
        from .bpf_syscall import running_functions

        try:
            found = BpfPrograms(mmap.PAGESIZE, tuple(running_functions()))
        except OSError as error:
            root.missed(NAME, error)
            return None
        root.absent.pop(NAME, None)  # an earlier try may have failed
        return found
    data = root.read(SAVED)
    programs = None if data is None else _parse_saved(data)
    if data is not None and programs is None:
        root.absent[SAVED] = "it is not what ksyms collect wrote"
    return programs


def pack_programs(programs: BpfPrograms) -> bytes:
    """Return ``programs`` as the JSON that an archive stores."""
    import json

    listed = [function.facts() for function in programs.functions]
    return json.dumps({"page_size": programs.page, "programs": listed}).encode()


def _parse_saved(data: bytes) -> BpfPrograms | None:
    """Return the programs that :func:`pack_programs` stored; None if ``data`` is damaged."""
    import json

    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not has(facts, schema_of(SavedPrograms)):
        return None
    fields = BpfFunction._fields
    functions = [
        BpfFunction(*(saved[field] for field in fields))._replace(
            address=int(saved["address"], 16)
        )
        for saved in facts["programs"]
    ]
    sizes = [facts["page_size"], *(function.size for function in functions)]
    if not all(0 < size < _LARGEST for size in sizes):
        return None
    return BpfPrograms(facts["page_size"], tuple(functions))
