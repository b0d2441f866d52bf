"""Makes uevents, and hears them, without ksyms."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

PROTOCOL = 15  # NETLINK_KOBJECT_UEVENT of include/uapi/linux/netlink.h
NULL = Path("/sys/class/mem/null/uevent")
"""Of a device that is in no network namespace, so whoever is told of modules is told of it."""


def broadcast(message: bytes) -> None:
    """Have the kernel send ``message`` to this network namespace as if it were its own.

    lib/kobject_uevent.c, uevent_net_rcv: root asks for it by a request (NLM_F_REQUEST) of any
    type that is no control message's; SEQNUM is put behind it.
    """
    header = struct.pack("=IHHII", 16 + len(message), 0x10, 1, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL) as kernel:
        kernel.sendto(header + message, (0, 0))


def hearing() -> socket.socket:
    """A socket that hears all that the kernel tells this network namespace."""
    ears = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    ears.bind((0, 1))
    return ears


def heard(ears: socket.socket) -> list[bytes]:
    """The first words of what has come since the last time."""
    found = []
    while True:
        try:
            found.append(ears.recv(8192).partition(b"\0")[0])
        except BlockingIOError:
            return found
