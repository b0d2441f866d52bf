"""The device: its open handles, and the answer to each call."""

from .device import Device, Event, OpenImage, Policy, Process
from .requests import (
    KIOCGADDR,
    KIOCGSIZE,
    KIOCGSYMBOL,
    KIOCGVALUE,
    asks_caller,
    requests,
)

__all__ = [
    "KIOCGADDR",
    "KIOCGSIZE",
    "KIOCGSYMBOL",
    "KIOCGVALUE",
    "Device",
    "Event",
    "OpenImage",
    "Policy",
    "Process",
    "asks_caller",
    "requests",
]
