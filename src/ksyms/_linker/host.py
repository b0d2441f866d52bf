"""The facts about a kernel and its machine, and the rule for who may see its addresses."""

from __future__ import annotations

import os
import re

from .._elf import Format, Note, build_id, elf_format, parse_notes
from .._elf.constants import (
    ELFCLASS32,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    MACHINES,
    machine_name,
)
from .._errors import HiddenError, lacks_room
from .._proc_file import ProcFile
from .._typing import Final, NamedTuple
from .machines import NO_MACHINE, Machine, machine_of
from .modules import parse_number
from .root import Root

CAP_SYSLOG: Final = 34  # include/uapi/linux/capability.h
INITIAL_USER_NS: Final = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h
# The target of the link /proc/PID/ns/user, which takes half the time of a stat() to read.
_INITIAL_USER_LINK: Final = f"user:[{INITIAL_USER_NS}]"

STEADY: Final = (
    "proc/version",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/random/boot_id",
    "sys/kernel/cpu_byteorder",
    "sys/kernel/notes",
)
"""The files that :func:`read_host` reads; they do not change during a boot."""
_CAPABILITIES: Final = re.compile(rb"\nCapEff:\t([0-9a-f]+)")
_BIG: Final = frozenset({"s390x", "ppc", "ppc64", "sparc64"})


class Host(NamedTuple):
    """The facts about a kernel and its machine; None stands for a fact that is not known.

    - ``release``: as printed by ``uname -r``
    - ``version``: the whole of /proc/version
    - ``machine``: as printed by ``uname -m``
    - ``bits``: the number of bits of an address
    - ``byteorder``: ``little`` or ``big``; ``little`` if it is not known
    - ``notes``: every note of /sys/kernel/notes, in order
    - ``number``: the machine's number in ELF headers, if it does not follow from ``machine``:
      from a kernel's ELF file, or from a text for which several names are possible
    - ``running``: True if the facts are those of the running kernel
    - ``saved``: the time at which they were saved, in seconds since 1970, if known
    """

    release: str | None
    version: str | None
    machine: str | None
    boot_id: str | None
    bits: int
    byteorder: str
    notes: tuple[Note, ...]
    number: int | None = None
    running: bool = False
    saved: int | None = None

    @property
    def build_id(self) -> bytes | None:
        """The kernel's GNU build-id.

        It can be any of the notes: in Linux 6.1 Xen's notes are before it, in 6.12 it is last.
        """
        return build_id(self.notes)

    @property
    def e_machine(self) -> int:
        """The machine's number in an ELF header; EM_NONE (0) if it is not known."""
        return MACHINES.get(self.machine or "", 0) if self.number is None else self.number

    @classmethod
    def of_notes(cls, e_machine: int, notes: tuple[Note, ...]) -> Host:
        """Return the facts that a kernel's ELF file gives: its machine and its notes.

        The file is 64-bit and little-endian.
        """
        machine = machine_name(e_machine, ELFCLASS64, ELFDATA2LSB)
        return cls(None, None, machine, None, 64, "little", notes, e_machine)

    @property
    def format(self) -> Format:
        """The ELF structures of the machine."""
        return _format(self.bits, self.byteorder)


def at_least(release: str | None, version: tuple[int, int]) -> bool | None:
    """Return True if ``release`` is of Linux ``version`` or later, False if of an earlier one.

    None if ``release`` is not known or has no version. The answer is not certain: distributions
    backport later code to earlier versions.
    """
    match = re.match(r"(\d{1,9})\.(\d{1,9})(?!\d)", release or "", re.ASCII)
    return None if match is None else (int(match[1]), int(match[2])) >= version


def read_host(root: Root, digits: int, landmarks: dict[str, int]) -> Host:
    """Read the facts from the files of ``root``.

    Args:
        root: the kernel's files.
        digits: the number of digits of an address in kallsyms, 8 or 16.
        landmarks: addresses of the kernel's own symbols by name.
    """
    version = root.text("proc/version")
    release = root.text("proc/sys/kernel/osrelease")
    if release is None and version is not None:
        match = re.match(r"Linux version (\S+)", version)
        release = match[1] if match else None

    bits = digits * 4
    machine, number = _machine(root, bits, landmarks)

    order = root.text("sys/kernel/cpu_byteorder")
    if order not in ("little", "big"):
        order = "big" if machine in _BIG else "little"
    return Host(
        release=release,
        version=version,
        machine=machine,
        boot_id=root.text("proc/sys/kernel/random/boot_id"),
        bits=bits,
        byteorder=order,
        notes=_notes(root, bits, order),
        number=number,
        running=root.prints,
        saved=root.saved,
    )


def _machine(root: Root, bits: int, landmarks: dict[str, int]) -> Machine:
    """Return the machine by the files of ``root``, or else by the text's landmarks.

    If neither gives it and the kernel is the running one, this process's ``uname -m`` does. It
    is used only if its word size is that of the text.
    """
    if name := root.text("proc/sys/kernel/arch"):  # since Linux 6.1
        return Machine(name, None)

    found = machine_of(bits, landmarks)
    if root.live and found == NO_MACHINE:
        here = os.uname().machine
        wide = here.endswith("64") or here in ("s390x", "ppc64le")
        return Machine(here, None) if wide == (bits == 64) else found
    return found


def _notes(root: Root, bits: int, order: str) -> tuple[Note, ...]:
    """Return the notes in /sys/kernel/notes; none if they are damaged."""
    data = root.read("sys/kernel/notes")
    try:
        return tuple(parse_notes(data or b"", _format(bits, order)))
    except ValueError as error:
        root.absent["sys/kernel/notes"] = str(error)
        return ()


def _format(bits: int, order: str) -> Format:
    """Return the ELF structures for a number of bits and a byte order."""
    return elf_format(
        ELFCLASS64 if bits == 64 else ELFCLASS32,
        ELFDATA2LSB if order == "little" else ELFDATA2MSB,
    )


class Access(NamedTuple):
    """The settings and privileges that decide if the kernel shows a process its addresses.

    The rule is that of kernel/ksyms_common.c, kallsyms_show_value:

    - kptr_restrict 0: shown if perf_event_paranoid is at most 1, or with CAP_SYSLOG
    - kptr_restrict 1: shown with CAP_SYSLOG
    - kptr_restrict 2: not shown
    """

    kptr_restrict: int | None
    perf_event_paranoid: int | None
    cap_syslog: bool
    initial_user_namespace: bool

    @property
    def shows(self) -> bool:
        """True if the addresses are shown."""
        capable = self.cap_syslog and self.initial_user_namespace
        if self.kptr_restrict is None or self.kptr_restrict >= 2:
            return False
        perf = self.perf_event_paranoid is not None and self.perf_event_paranoid <= 1
        return capable or (self.kptr_restrict == 0 and perf)

    def why_not(self) -> tuple[str, str]:
        """Return the reason why the addresses are hidden, and a remedy, one sentence each."""
        if self.kptr_restrict is not None and self.kptr_restrict >= 2:
            return (
                f"kernel.kptr_restrict is {self.kptr_restrict}, so the kernel shows every "
                "address in /proc/kallsyms as zero to everyone.",
                "As root: sysctl kernel.kptr_restrict=1, then try again.",
            )
        if self.cap_syslog and not self.initial_user_namespace:
            return (
                "CAP_SYSLOG counts in the initial user namespace only, and this process is "
                "in another, so the kernel shows it every address as zero.",
                "Run this as root outside of the container or user namespace.",
            )
        if not self.cap_syslog:
            return (
                "The kernel shows every address in /proc/kallsyms as zero to a process "
                "without CAP_SYSLOG.",
                "Run this as root, or with CAP_SYSLOG.",
            )
        return (
            "The kernel shows every address in /proc/kallsyms as zero, and not because of "
            "kptr_restrict or CAP_SYSLOG.",
            "Look for lockdown in confidentiality mode or a security module that forbids it.",
        )


def read_access(root: Root) -> Access:
    """Return the settings and this process's privileges, from the files of ``root``."""
    # A kernel without user namespaces has only the initial one.
    inode = root.inode("proc/self/ns/user") or INITIAL_USER_NS
    return Access(
        kptr_restrict=_number(root.text("proc/sys/kernel/kptr_restrict")),
        perf_event_paranoid=_number(root.text("proc/sys/kernel/perf_event_paranoid")),
        cap_syslog=_has_syslog(root.read("proc/self/status") or b""),
        initial_user_namespace=inode == INITIAL_USER_NS,
    )


class AccessRule:
    """The rule of :class:`Access` for other threads of this machine.

    The files of the settings stay open, since they are read each time the device is opened.
    """

    def __init__(self) -> None:
        self._kptr_restrict = ProcFile("/proc/sys/kernel/kptr_restrict")
        self._paranoid = ProcFile("/proc/sys/kernel/perf_event_paranoid")
        self._namespaces = os.path.exists("/proc/self/ns/user")

    def shows(self, task: int, status: bytes) -> bool:
        """Return True if the kernel shows its addresses to the thread ``task``.

        The answer is False if a file cannot be read or parsed: the thread may have ended.

        Args:
            task: the thread's id.
            status: the text of its /proc/PID/status.

        Raises:
            OSError: there was no descriptor or no memory left to read a file.
        """
        try:
            restrict = int(self._kptr_restrict.value())
            paranoid = _number(_value(self._paranoid))
            access = Access(
                kptr_restrict=restrict,
                perf_event_paranoid=paranoid,
                cap_syslog=_has_syslog(status),
                initial_user_namespace=not self._namespaces
                or os.readlink(f"/proc/{task}/ns/user") == _INITIAL_USER_LINK,
            )
        except OSError as error:
            if lacks_room(error):
                raise
            return False
        except ValueError:
            return False
        return access.shows


def _value(file: ProcFile) -> str | None:
    """Return the text of a setting; None if the kernel does not have it."""
    try:
        return file.value().decode().strip()
    except OSError as error:
        if lacks_room(error):
            raise
        return None  # a kernel without perf events


def _has_syslog(status: bytes) -> bool:
    """Return True if CAP_SYSLOG is among the effective capabilities in ``status``."""
    match = _CAPABILITIES.search(status)
    return match is not None and bool(int(match[1], 16) >> CAP_SYSLOG & 1)


def hidden(root: Root) -> HiddenError:
    """Return the error for a text in which every address is zero."""
    if root.prints:
        return HiddenError(*read_access(Root("/")).why_not())
    return HiddenError(
        f"Every address in {root.kallsyms} is zero: it was saved where the kernel hid them.",
        "Save it again as root, with kernel.kptr_restrict below 2.",
    )


def _number(text: str | None) -> int | None:
    """Return the number that ``text`` is; None if it is none."""
    try:
        return None if text is None else parse_number(text)
    except ValueError:
        return None
