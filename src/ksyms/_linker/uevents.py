"""The kernel's events of modules that are loaded and unloaded, from a netlink socket.

The kernel sends ``add@/module/NAME`` once a module is Live (kernel/module/main.c,
do_init_module; before Linux 5.11 in sysfs.c, mod_sysfs_setup). It sends ``remove@/module/NAME``
before a module's symbols are removed from kallsyms (free_module). Since 5.11 it sends neither
for a module whose init fails; then the text of kallsyms has the only evidence
(:func:`~.reading.find_newcomers`).
"""

from __future__ import annotations

import _socket  # the module socket takes longer to import than the kernel to send the events
import ctypes
import errno
import fcntl
import os
import struct

from .._typing import Final
from .host import INITIAL_USER_NS

_KOBJECT_UEVENT: Final = 15  # NETLINK_KOBJECT_UEVENT, include/uapi/linux/netlink.h
_FROM_KERNEL: Final = 1  # the multicast group to which the kernel sends
_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER, include/uapi/asm-generic/socket.h
_GET_USERNS: Final = 0xB701  # NS_GET_USERNS, include/uapi/linux/nsfs.h
_BEGINS: Final = (b"add@/module/", b"remove@/module/")
_ENOUGH: Final = 512
"""The number of bytes of a message that are read; a module's name has at most 56."""
_MOST: Final = 4096
"""The most messages that one call reads, which is more than the socket's buffer holds."""
_UNTOLD: Final = "a module"
"""The words for events that the kernel had to drop."""

# include/uapi/linux/bpf_common.h: BPF_LD | BPF_B | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD: Final = 0x30
_EQUAL: Final = 0x15
_RETURN: Final = 0x06


class ModuleEvents:
    """The events of modules, from construction until :meth:`close`.

    ``seen`` has the number of events so far by what came or went, in words, such as
    ``{"module dummy": 1}``. Events that the kernel had to drop count as one of "a module".

    Raises:
        OSError: the kernel has no such socket, or this process lacks the privilege.
        ValueError: the kernel sends no events to this process's network namespace.
    """

    def __init__(self) -> None:
        if not _is_told():
            raise ValueError("the network namespace is not the initial user namespace's")
        self.seen: dict[str, int] = {}
        self._socket = _socket.socket(
            _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_NONBLOCK, _KOBJECT_UEVENT
        )
        try:
            _attach(self._socket, starting(*_BEGINS))
            self._socket.bind((0, _FROM_KERNEL))  # after the filter, so that all are filtered
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def drain(self) -> dict[str, int]:
        """Read the new events; return the numbers of events so far, as in ``seen``."""
        for _ in range(_MOST):
            try:
                message, (port, _group) = self._socket.recvfrom(_ENOUGH)
            except BlockingIOError:
                return self.seen
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._count(_UNTOLD)
                continue
            # The kernel's port is 0. A process with CAP_NET_ADMIN can send to the group
            # too, but from another port (netlink_sendmsg).
            if port == 0:
                name = message.partition(b"\0")[0].rpartition(b"/")[2]
                self._count(f"module {name.decode('utf-8', 'surrogateescape')}")
        self._count(_UNTOLD)  # somebody floods the socket: stop, as if events were lost
        return self.seen

    def _count(self, what: str) -> None:
        """Count one event of ``what``."""
        # A new dict, since generations keep the old one.
        self.seen = {**self.seen, what: self.seen.get(what, 0) + 1}


def _is_told() -> bool:
    """Return True if the kernel sends events of modules to this thread's network namespace.

    Since Linux kernel commit a3498436b3a0 ("netns: restrict uevents") (in v4.18) it sends them
    only to network namespaces that the initial user namespace owns (lib/kobject_uevent.c,
    uevent_net_init). A kernel without user or network namespaces has only the initial ones.
    """
    user, net = "/proc/thread-self/ns/user", "/proc/thread-self/ns/net"
    if not (os.path.exists(user) and os.path.exists(net)):
        return True
    namespace = os.open(net, os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(namespace, _GET_USERNS)
    finally:
        os.close(namespace)
    try:
        return os.fstat(owner).st_ino == INITIAL_USER_NS
    finally:
        os.close(owner)


def starting(*beginnings: bytes) -> bytes:
    """Return a classic BPF program that accepts messages with one of the ``beginnings``.

    Without a filter, other events fill the socket: for example, each new network namespace
    causes some. If a message is too short, a load past its end ends the program, and the
    message is dropped. For the beginnings ``add`` and ``rem`` the program is::

        load byte 0; if it is not "a" go to rem
        load byte 1; if it is not "d" go to rem
        load byte 2; if it is not "d" go to rem
        accept the message
        rem: load byte 0; if it is not "r" go to end
        ...
        end: drop the message
    """
    program = b""
    for beginning in beginnings:
        # The number of instructions from here to the next beginning.
        left = 2 * len(beginning) + 1
        for at, byte in enumerate(beginning):
            left -= 2
            program += _INSTRUCTION.pack(_LOAD, 0, 0, at)
            program += _INSTRUCTION.pack(_EQUAL, 0, left, byte)  # if not, jump over them
        program += _INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFFFFFF)
    return program + _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def _attach(socket: _socket.socket, program: bytes) -> None:
    """Attach ``program`` as the filter of ``socket`` (struct sock_fprog)."""
    code = ctypes.create_string_buffer(program, len(program))
    length = len(program) // _INSTRUCTION.size
    socket.setsockopt(
        _socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", length, ctypes.addressof(code))
    )
