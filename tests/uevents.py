"""Send and receive uevents of the kernel, without ksyms."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

PROTOCOL = 15  # NETLINK_KOBJECT_UEVENT of include/uapi/linux/netlink.h
NULL = Path("/sys/class/mem/null/uevent")
"""The file that makes events of the device null.

The device is in no network namespace. So its events go to the same sockets as those of modules.
"""


def broadcast(message: bytes) -> None:
    """Make the kernel send ``message`` to this network namespace as an event of its own.

    Root can ask for that by a request (NLM_F_REQUEST) of any type but those of control
    messages. The kernel adds SEQNUM after the message (lib/kobject_uevent.c, uevent_net_rcv).
    """
    header = struct.pack("=IHHII", 16 + len(message), 0x10, 1, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL) as kernel:
        kernel.sendto(header + message, (0, 0))


def hearing() -> socket.socket:
    """Return a socket that receives all uevents for this network namespace."""
    ears = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    ears.bind((0, 1))
    return ears


def heard(ears: socket.socket) -> list[bytes]:
    """Return the first string of each event that has come since the last call.

    For example ``b"add@/module/loop"``.
    """
    found = []
    while True:
        try:
            found.append(ears.recv(8192).partition(b"\0")[0])
        except BlockingIOError:
            return found
