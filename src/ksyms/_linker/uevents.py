"""Modules that come and go, as the kernel tells of it while they do.

A module that came sends ``add@/module/NAME`` once it is Live (kernel/module/main.c,
do_init_module; before Linux 5.11 from sysfs.c, mod_sysfs_setup), and one that goes
``remove@/module/NAME`` before its symbols are taken out of kallsyms (free_module). One whose
init fails sends neither since 5.11: the text itself tells (:func:`~.members.came`).
"""

from __future__ import annotations

import _socket  # the module socket takes longer to import than the kernel's part of all this
import ctypes
import errno
import fcntl
import os
import struct

from .._typing import Final
from .host import INITIAL_USER_NS

_KOBJECT_UEVENT: Final = 15  # NETLINK_KOBJECT_UEVENT, include/uapi/linux/netlink.h
_FROM_KERNEL: Final = 1  # the group that the kernel sends to
_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER, include/uapi/asm-generic/socket.h
_GET_USERNS: Final = 0xB701  # NS_GET_USERNS, include/uapi/linux/nsfs.h
_BEGINS: Final = (b"add@/module/", b"remove@/module/")
_ENOUGH: Final = 512
"""Bytes of a message that are read: a module's name has 56 at most."""
_MOST: Final = 4096
"""Messages that are taken in one go, more than there is room for."""
_UNTOLD: Final = "a module"

# include/uapi/linux/bpf_common.h: BPF_LD | BPF_B | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD: Final = 0x30
_EQUAL: Final = 0x15
_RETURN: Final = 0x06


class ModuleEvents:
    """The events of modules, from when this was made until it is closed.

    ``seen`` counts them by what came or went, in words. Where the kernel had to drop some that
    counts too, for then any module can have.

    Raises:
        OSError: the kernel, or what this process may do, does not allow it.
        ValueError: no events come here.
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
            self._socket.bind((0, _FROM_KERNEL))  # from here on, all that comes is filtered
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def drain(self) -> dict[str, int]:
        """Take in what has come since the last time; gives :attr:`seen`."""
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
            # Who has CAP_NET_ADMIN may send to the group too, and has a port (netlink_sendmsg).
            if port == 0:
                name = message.partition(b"\0")[0].rpartition(b"/")[2]
                self._count(f"module {name.decode('utf-8', 'surrogateescape')}")
        self._count(_UNTOLD)  # whoever sends so many; a socket is never read for ever
        return self.seen

    def _count(self, what: str) -> None:
        # A new one: generations have the old.
        self.seen = {**self.seen, what: self.seen.get(what, 0) + 1}


def _is_told() -> bool:
    """Whether this thread's network namespace is told of modules.

    Since Linux 4.18 those are that the initial user namespace owns (lib/kobject_uevent.c,
    uevent_net_init). A kernel without namespaces of either kind has the initial ones.
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
    """A classic BPF program that lets messages pass which start with one of ``beginnings``.

    Whoever makes network namespaces makes events, and would fill the socket with them. A load
    from behind the end of a message ends the program, and the message does not pass.
    """
    program = b""
    for beginning in beginnings:
        left = 2 * len(beginning) + 1
        for at, byte in enumerate(beginning):
            left -= 2
            program += _INSTRUCTION.pack(_LOAD, 0, 0, at)
            program += _INSTRUCTION.pack(_EQUAL, 0, left, byte)  # else on to the next one
        program += _INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFFFFFF)
    return program + _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def _attach(socket: _socket.socket, program: bytes) -> None:
    """Have ``socket`` take what ``program`` lets pass (struct sock_fprog)."""
    code = ctypes.create_string_buffer(program, len(program))
    length = len(program) // _INSTRUCTION.size
    socket.setsockopt(
        _socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", length, ctypes.addressof(code))
    )
