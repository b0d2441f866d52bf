"""The device: who has it open, and what each call answers."""

from .device import Caller, Device, Event, Image, Pages, Policy, Process
from .requests import (
    KIOCGADDR,
    KIOCGSIZE,
    KIOCGSYMBOL,
    KIOCGVALUE,
    Request,
    asks_caller,
    requests,
)

__all__ = [
    "KIOCGADDR",
    "KIOCGSIZE",
    "KIOCGSYMBOL",
    "KIOCGVALUE",
    "Caller",
    "Device",
    "Event",
    "Image",
    "Pages",
    "Policy",
    "Process",
    "Request",
    "asks_caller",
    "requests",
]
